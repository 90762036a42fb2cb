"""The command lines: what is typed becomes settings here, and nowhere below."""
