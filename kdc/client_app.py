"""What the client commands do, free of how they were started.

Each takes the reactor and settings; what it has to say goes to ``say``; what
goes wrong is raised as a `KDCError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.threads import deferToThreadPool

from kdc.channel import DEFAULT_SERVICE, Service
from kdc.client import KDCClient
from kdc.client_options import ClientSettings, identity_of
from kdc.clock import use_monotonic_timers
from kdc.deposit import Stored
from kdc.endpoints import ChannelClientEndpoint
from kdc.errors import (
    AuthenticationRefused,
    KDCError,
    NameTaken,
    NotReceiving,
    PeerUnavailable,
    RefusedByPolicy,
    TooBusy,
)
from kdc.items import Kind
from kdc.listening import Listening
from kdc.progress import Progress
from kdc.running import complain, say
from kdc.secret import SecretSource, has_terminal
from kdc.tls import ClientTLS
from kdc.transfer import SERVICE, Inbox, SendProtocol, Source, send_factory

__all__ = [
    "ReceiveSettings",
    "Receiver",
    "SendSettings",
    "change_secret",
    "client_for",
    "enter",
    "join",
    "make_client",
    "register",
    "send",
    "who",
    "whoami",
]


@attrs.frozen
class SendSettings:
    """What to send, and to whom."""

    client: ClientSettings
    receiver: str
    files: tuple[Path, ...]


@attrs.frozen
class ReceiveSettings:
    """Where to listen, and where things go.  ``allow``: these senders only, if any is named."""

    client: ClientSettings
    listen: str
    output: Path | None = None
    inbox: Path | None = None
    records: Path | None = None
    once: bool = False
    allow: frozenset[str] = frozenset()
    advertise: str = ""


def make_client(reactor: Any, settings: ClientSettings, *, prompt: str = "") -> KDCClient:
    """Find out who the KDC is and read our secret.  Blocking; before the reactor runs."""
    use_monotonic_timers(reactor)
    return client_for(reactor, settings, prompt=prompt)


def client_for(reactor: Any, settings: ClientSettings, *, prompt: str = "") -> KDCClient:
    """The same for a reactor that may be running already; blocking, in any thread."""
    identity = identity_of(settings)
    return KDCClient(
        reactor=reactor,
        endpoint=HostnameEndpoint(reactor, settings.host, settings.port),
        tls=ClientTLS(identity, settings.host),
        keys=settings.secret.keys(settings.realm, settings.name, prompt),
        where=settings.where,
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
            hint=f"a daemon cannot ask: register first with kdcclient register -n {settings.name}",
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
        ) from None
    except AuthenticationRefused as error:
        raise AuthenticationRefused(
            f"the KDC does not know {name} by this passphrase or key: {error}", hint=error.hint
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


async def change_secret(client: KDCClient, new: Any) -> int:
    """Give our name the keys ``new``."""
    link = await client.login()
    try:
        await link.change(new)
    finally:
        link.close()
    say(f"{client.keys.name}: the KDC has the new secret; restart receivers that use the old one")
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


async def who(client: KDCClient, names: Sequence[str]) -> dict[str, str]:
    """Which of ``names`` can be reached now.

    The KDC is asked for a key to each, which is thrown away: it tells this to
    whoever may have one, and keeps no list for others.
    """
    found = {}
    try:
        for name in names:
            found[name] = await _state_of(client, name)
    finally:
        client.close()
    return found


async def _state_of(client: KDCClient, name: str) -> str:
    try:
        await client.grant(name)
    except NotReceiving:
        return "registered"
    except PeerUnavailable:
        return "unknown"
    except RefusedByPolicy as error:
        if isinstance(error, TooBusy):
            raise
        return "not allowed"
    return "receiving"


async def send(client: KDCClient, settings: SendSettings) -> int:
    """Send the files, and return once the receiver has confirmed them."""
    sources = [Source.of_file(path) for path in settings.files]
    await enter(client, settings.client, 0)
    total = sum(source.item.size or 0 for source in sources)
    progress = Progress(f"to {settings.receiver}:", total)
    factory = send_factory(
        sources, run=in_thread(client.reactor), timers=client.reactor, progress=progress.update
    )
    try:
        endpoint = ChannelClientEndpoint(client, settings.receiver, SERVICE)
        sending = cast(SendProtocol, await endpoint.connect(factory))
        delivery = await sending.done
    finally:
        progress.close()
        client.close()
    names = ", ".join(source.item.name for source in sources)
    say(f"sent {names} ({delivery.total_bytes} bytes) to {delivery.receiver}, who has it on disk")
    return 0


def in_thread(reactor: Any) -> Callable[..., Deferred[Any]]:
    return lambda call, *args: deferToThreadPool(reactor, reactor.getThreadPool(), call, *args)


class Receiver:
    """Receives until it is stopped, or has received once."""

    def __init__(self, client: KDCClient, settings: ReceiveSettings) -> None:
        self._client = client
        self._settings = settings
        self._done: Deferred[None] = Deferred()
        inbox = Inbox(
            run=in_thread(client.reactor),
            output=settings.output,
            directory=settings.inbox,
            records=settings.records,
            received=self._received,
            failed=self._failed,
        )
        service = Service(inbox, self._allowed)
        self._listening = Listening(
            client,
            {DEFAULT_SERVICE: service, SERVICE: service},
            settings.listen,
            advertise=settings.advertise,
            status=self._status,
        )

    async def run(self) -> int:
        """Listen, register if we are new, and receive.  Raises `KDCError`."""
        # The port first: an occupied one is known before anything else happens.
        await self._listening.bind()
        try:
            await enter(self._client, self._settings.client, self._listening.port_number)
            await self._receive()
        finally:
            await self.close()
        return 0

    async def close(self) -> None:
        """Take no more senders."""
        await self._listening.close()
        self._client.close()

    async def _receive(self) -> None:
        receiving = Deferred.fromCoroutine(self._listening.run())
        if not self._settings.once:
            await receiving
            return
        ended: Deferred[None] = receiving.addErrback(self._give_up)
        await self._done
        self._listening.leave()
        await ended
        # The sender is still to read that its file was stored.
        await self._listening.when_idle()

    def _give_up(self, failure: Any) -> None:
        if not self._done.called:
            self._done.errback(failure)

    def _allowed(self, sender: str) -> bool:
        return not self._settings.allow or sender in self._settings.allow

    def _status(self, line: str) -> None:
        say(f"{self._client.keys.name}: {line}")

    def _received(self, sender: str, stored: Stored) -> None:
        what = "text" if stored.item.kind is Kind.TEXT else stored.item.name
        self._status(f"received {what} from {sender}: {stored.size} bytes in {stored.path}")
        if self._settings.once and not self._done.called:
            self._done.callback(None)

    def _failed(self, sender: str, error: KDCError) -> None:
        what = f"nothing was kept of what {sender} sent"
        if self._settings.once and not self._done.called:
            self._status(what)  # why is said by whoever ends us
            self._done.errback(error)
        else:
            complain(f"{self._client.keys.name}: {what}", error)
