"""What the client commands do, free of how they were started.

Each takes the reactor and settings; what it has to say goes to ``say``; what
goes wrong is raised as a `KDCError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.endpoints import HostnameEndpoint

from kdc.client._first_contact import identities_of, pin_of
from kdc.client.addresses import Place, nodes_of, shown_places
from kdc.client.client import KDCClient, RealmClient
from kdc.client.identity import ClientTLS, Identity
from kdc.client.secret import Secret
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
    "NOT_REGISTERED",
    "change_secret",
    "check_new",
    "client_for",
    "enter",
    "join",
    "make_client",
    "pin_of",
    "register",
    "renew",
    "whoami",
]


# So long a receiver looks for a new secret where the old one was.
NEW_SECRET_SECONDS = 10.0
# After a refusal of these kinds the name surely has not got the keys that were offered.
NOT_REGISTERED = frozenset(
    (ErrorKind.INVITATION_NEEDED, ErrorKind.INVITATION_SPENT, ErrorKind.NAME_TAKEN)
)
_CODE_BYTES = 16


def make_client(reactor: Any, settings: ClientSettings, *, prompt: str = "") -> RealmClient:
    """Find out who the KDC is and read our secret.  Blocking; before the reactor runs."""
    return client_for(reactor, settings, prompt=prompt, ask=True)


def client_for(
    reactor: Any, settings: ClientSettings, *, prompt: str = "", ask: bool = False
) -> RealmClient:
    """The same for a reactor that may be running already; blocking, in any thread.

    Without ``ask`` nobody is asked about a KDC that was never met: the terminal
    is another program's, and only its main thread could be interrupted at it.
    """
    identities = identities_of(settings, ask=ask)
    secret = settings.secret.secret(settings.realm, settings.name, prompt)
    nodes = [
        (node, place[0], identity)
        for place, identity in zip(settings.places, identities, strict=True)
        for node in nodes_of(place)
    ]
    if len(nodes) == 1:
        return _client_of(reactor, settings, secret, *nodes[0])
    from kdc.client.nodes import CONNECT_SECONDS, Nodes  # which few need

    return Nodes(
        attrs.evolve(
            _client_of(reactor, settings, secret, *node, seconds=CONNECT_SECONDS),
            connect_seconds=CONNECT_SECONDS,
            patience_seconds=0.0,
        )
        for node in nodes
    )


def _client_of(
    reactor: Any,
    settings: ClientSettings,
    secret: Secret,
    place: Place,
    name: str,
    identity: Identity,
    *,
    seconds: float = 30,
) -> KDCClient:
    """For the one KDC at ``place``, whose certificate is for ``name``."""
    return KDCClient(
        reactor=reactor,
        endpoint=HostnameEndpoint(reactor, *place, timeout=seconds),
        tls=ClientTLS(identity, name),
        keys=secret.keys,
        where=shown_places([place]),
        reach=settings.reach,
        relay=settings.relay,
        weakness=secret.weakness,
    )


async def enter(
    client: RealmClient,
    settings: ClientSettings,
    port: int,
    tell: Callable[[str], None] = say,
) -> None:
    """Make sure that the KDC knows us: register if our name is new there.

    An unknown name and a wrong passphrase are answered alike.  So the KDC is asked whether
    the name is taken, and if it is not, or does not tell, a person has to repeat the
    passphrase before it becomes the one that counts.
    """
    try:
        await client.link()
    except AuthenticationRefused:
        if settings.secret.asks:
            await _check_free(client)
            _confirm(client, settings)
        await _register(client, port)
        tell(f"registered {settings.name} with the KDC at {client.where}")


async def _check_free(client: RealmClient) -> None:
    """Raises `AuthenticationRefused` if the KDC says that the name has an owner.

    Asked by a registration with an invitation that nobody has made: it cannot succeed, and
    where names are free for who comes first, a name that is taken is refused as that.
    """
    try:
        await client.register("", 0, client.random(_CODE_BYTES))
    except NameTaken as error:
        raise _taken(client.keys.name, error) from None
    except AuthenticationRefused:
        pass  # free; or there are invitations only, and then the KDC does not tell


def _confirm(client: RealmClient, settings: ClientSettings) -> None:
    name = settings.name
    if not has_terminal():  # it was typed before we became a daemon
        raise AuthenticationRefused(
            f"wrong passphrase, or {name} is not registered yet",
            hint="a daemon cannot ask: register first",
            kind=ErrorKind.NOT_REGISTERED,
            facts={"name": name},
        )
    say(f"The KDC does not know {name} by this passphrase.")
    check_new(client.weakness)
    if not settings.secret.repeated(client.keys, f"To register {name} as new, repeat it: "):
        raise AuthenticationRefused(
            "wrong passphrase, or the two that were typed differ; nothing was registered",
            hint="try again",
        )


def check_new(weakness: str) -> None:
    """Raises `ConfigurationError` if there is one: the passphrase is no good as a new one."""
    if weakness:
        raise ConfigurationError(
            weakness,
            hint="a sentence is easier to remember, and harder to guess",
            kind=ErrorKind.PASSPHRASE_SHORT,
        )


async def _register(client: RealmClient, port: int, invitation: bytes = b"") -> None:
    """Take the name.  Of the refusals, those of a kind in `NOT_REGISTERED` are final."""
    check_new(client.weakness)
    name = client.keys.name
    try:
        await client.register("", port, invitation)
    except NameTaken as error:
        raise _spent(name, error) if invitation else _taken(name, error) from None
    except AuthenticationRefused as error:
        if invitation and error.kind is ErrorKind.INVITATION_NEEDED:
            raise _spent(name, error) from None
        raise AuthenticationRefused(
            f"the KDC does not know {name} by this passphrase or key: {error}",
            hint=error.hint,
            kind=error.kind,
        ) from None


def _spent(name: str, error: AuthenticationRefused) -> AuthenticationRefused:
    """Only where names are free for who comes first does the KDC tell which of them it is."""
    why = (
        f"{name} is registered already, with another key or passphrase"
        if isinstance(error, NameTaken)
        else "it was used, its time is over, or a newer one has taken its place"
    )
    return AuthenticationRefused(
        f"the KDC does not take this invitation for {name} (any more): {why}",
        hint="if you have used it yourself, go on with the key or passphrase of then;"
        " otherwise ask the operator for a new one",
        kind=ErrorKind.INVITATION_SPENT,
        facts={"name": name},
    )


def _taken(name: str, error: NameTaken) -> AuthenticationRefused:
    return AuthenticationRefused(
        f"{name} is registered; that is not the passphrase or key of {name}",
        hint=error.hint,
        kind=ErrorKind.NAME_TAKEN,
        facts={"name": name},
    )


async def register(client: RealmClient, port: int, invitation: bytes) -> int:
    """Register, and nothing else."""
    await _register(client, port, invitation)
    client.close()
    say(f"registered {client.keys.name} with the KDC at {client.where}")
    return 0


async def join(
    client: RealmClient, port: int, invitation: bytes, remember: Callable[[], None]
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


async def change_secret(client: RealmClient, new: LongTermKeys) -> int:
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


async def renew(client: RealmClient, new: LongTermKeys) -> int:
    """Give our name the keys ``new``, or find that it has them already.

    So it is if a renewal was cut short behind the KDC's decision.
    """
    try:
        link = await client.login()
    except AuthenticationRefused:
        client.keys = new
        (await client.login()).close()
        return 0
    try:
        await link.change(new)
    finally:
        link.close()
    return 0


async def whoami(client: RealmClient) -> dict[str, Any]:
    """What the KDC takes us for; the connection stays open."""
    link = await client.link()
    keys = client.keys
    return {
        "name": keys.name,
        "realm": keys.realm,
        "kdc": link.where,
        "fingerprint": link.fingerprint,
        "generation": link.generation,
    }
