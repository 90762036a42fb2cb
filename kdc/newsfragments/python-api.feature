`kdc.api.Client` opens channels, offers services and asks for session keys from Python, also inside `asyncio.run`.
