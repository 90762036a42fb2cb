"""What the client commands do, free of how they were started.

Each takes the reactor and settings; what it has to say goes to ``say``; what
goes wrong is raised as a `KDCError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint

from kdc.client._first_contact import identity_of
from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS
from kdc.client.secret import SecretSource
from kdc.client.settings import ClientSettings
from kdc.errors import (
    AuthenticationRefused,
    ConfigurationError,
    ErrorKind,
    NameTaken,
)
from kdc.net.exit_status import say
from kdc.protocol.crypto import LongTermKeys
from kdc.terminal import has_terminal

__all__ = [
    "NEW_SECRET_SECONDS",
    "change_secret",
    "client_for",
    "enter",
    "join",
    "make_client",
    "register",
    "whoami",
]


# So long a receiver looks for a new secret where the old one was.
NEW_SECRET_SECONDS = 10.0


def make_client(reactor: Any, settings: ClientSettings, *, prompt: str = "") -> KDCClient:
    """Find out who the KDC is and read our secret.  Blocking; before the reactor runs."""
    return client_for(reactor, settings, prompt=prompt, ask=True)


def client_for(
    reactor: Any, settings: ClientSettings, *, prompt: str = "", ask: bool = False
) -> KDCClient:
    """The same for a reactor that may be running already; blocking, in any thread.

    Without ``ask`` nobody is asked about a KDC that was never met: the terminal
    is another program's, and only its main thread could be interrupted at it.
    """
    identity = identity_of(settings, ask=ask)
    return KDCClient(
        reactor=reactor,
        endpoint=HostnameEndpoint(reactor, settings.host, settings.port),
        tls=ClientTLS(identity, settings.host),
        keys=settings.secret.keys(settings.realm, settings.name, prompt),
        where=settings.where,
        reach=settings.reach,
        relay=settings.relay,
    )


async def enter(
    client: KDCClient,
    settings: ClientSettings,
    port: int,
    tell: Callable[[str], None] = say,
) -> None:
    """Make sure that the KDC knows us: register if our name is new there.

    An unknown name and a wrong passphrase are answered alike, so a person is
    asked to repeat the passphrase before it becomes the one that counts.
    """
    try:
        await client.link()
    except AuthenticationRefused:
        if settings.secret.asks:
            _confirm(client, settings)
        await _register(client, port)
        tell(f"registered {settings.name} with the KDC at {client.where}")


def _confirm(client: KDCClient, settings: ClientSettings) -> None:
    if not has_terminal():  # it was typed before we became a daemon
        raise AuthenticationRefused(
            f"wrong passphrase, or {settings.name} is not registered yet",
            hint="a daemon cannot ask: register first",
            kind=ErrorKind.NOT_REGISTERED,
            facts={"name": settings.name},
        )
    say(f"The KDC does not know {settings.name} by this passphrase.")
    again = SecretSource().keys(
        settings.realm, settings.name, f"To register {settings.name} as new, repeat it: "
    )
    if again.verify_key != client.keys.verify_key:
        raise AuthenticationRefused(
            "wrong passphrase, or the two that were typed differ; nothing was registered",
            hint="try again",
        )


async def _register(client: KDCClient, port: int, invitation: bytes = b"") -> None:
    name = client.keys.name
    try:
        await client.register("", port, invitation)
    except NameTaken as error:
        raise AuthenticationRefused(
            f"wrong passphrase or key for {name}: the KDC has it under another one",
            hint=error.hint,
            kind=error.kind,
        ) from None
    except AuthenticationRefused as error:
        raise AuthenticationRefused(
            f"the KDC does not know {name} by this passphrase or key: {error}",
            hint=error.hint,
            kind=error.kind,
        ) from None


async def register(client: KDCClient, port: int, invitation: bytes) -> int:
    """Register, and nothing else."""
    await _register(client, port, invitation)
    client.close()
    say(f"registered {client.keys.name} with the KDC at {client.where}")
    return 0


async def join(
    client: KDCClient, port: int, invitation: bytes, remember: Callable[[], None]
) -> int:
    """Take our name with an invitation, and ``remember`` that we have it.

    A name that is ours already is good too: the first try may have been cut short.
    """
    try:
        try:
            await client.link()
        except AuthenticationRefused:
            await _register(client, port, invitation)
        remember()
    finally:
        client.close()
    return 0


async def change_secret(client: KDCClient, new: LongTermKeys) -> int:
    """Give our name the keys ``new``."""
    name = client.keys.name
    if new.verify_key == client.keys.verify_key:
        raise ConfigurationError("the new secret is the old one; nothing was changed")
    try:
        link = await client.login()
    except AuthenticationRefused:
        raise AuthenticationRefused(
            f"the KDC does not accept the old passphrase or key of {name}; nothing was changed",
            hint="check the name, the old secret and the realm",
        ) from None
    try:
        await link.change(new)
    finally:
        link.close()
    say(
        f"{name}: the KDC has the new secret; a running receiver goes on if the new one is in the"
        f" file that it reads within {NEW_SECRET_SECONDS:.0f} s, any other has to be restarted"
    )
    return 0


async def whoami(client: KDCClient) -> dict[str, Any]:
    """What the KDC takes us for."""
    link = await client.link()
    client.close()
    keys = client.keys
    return {
        "name": keys.name,
        "realm": keys.realm,
        "kdc": client.where,
        "fingerprint": link.fingerprint,
        "generation": link.generation,
    }
