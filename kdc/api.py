"""The library: connect to principals, listen as one, or take only the key.

>>> alice = await Client.open(
...     reactor,
...     name="alice",
...     key_file="alice.key",
...     address="192.0.2.88",
...     port=88,
...     kdc_fingerprint=fingerprint,
... )
>>> await alice.ask("bob", b"Hello, Bob!")
b'Hello, Bob!'
>>> await alice.close()

In all examples ``bob`` is a `Client` that listens, with Twisted's ``Echo``.
Programs that are whole are in docs/api.md.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.listening import Listening
from kdc.channel.query import Asking
from kdc.channel.services import DEFAULT_SERVICE, Service
from kdc.client.client import RealmClient
from kdc.client.membership import client_for, enter
from kdc.client.settings import ClientSettings, client_settings
from kdc.client.typed import advertised
from kdc.errors import ConfigurationError
from kdc.net import clock
from kdc.net.background import background
from kdc.net.exit_status import run_to_end, show_warnings
from kdc.net.log import Logger
from kdc.net.reactor import Reactor
from kdc.net.threads import in_thread
from kdc.net.waiting import Waiters
from kdc.protocol.application import ApplicationKeys
from kdc.protocol.names import fold_name

__all__ = [
    "ANYBODY",
    "Anybody",
    "Client",
    "ListeningPrincipal",
    "OpenedTicket",
    "Reactor",
    "SharedKey",
    "run",
]

_MAX_ANSWER = 1 << 24
_LISTEN = "tcp:0:interface=127.0.0.1"


class Anybody(enum.Enum):
    """What to say where names are asked for and every principal of the realm is meant."""

    ANYBODY = enum.auto()


ANYBODY = Anybody.ANYBODY


@attrs.frozen
class SharedKey:
    """Keys for one use of the caller's own, shared with ``peer``, and what carries them there.

    Send ``epoch_id`` (16 bytes), ``ticket`` (at most 256) and ``proof`` (32) to
    the peer by any way; both ends then `derive` the same keys.  The peer takes
    them once, within ``lifetime_seconds``.  Neither the KDC nor who learns the
    session key has these keys; who gets the peer's epoch key, which lives in the
    memory of its receiver, has them (docs/protocol.md section 5.1).
    """

    peer: str
    epoch_id: bytes
    ticket: bytes = attrs.field(repr=False)
    proof: bytes = attrs.field(repr=False)
    lifetime_seconds: int
    _keys: ApplicationKeys = attrs.field(repr=False)

    def derive(self, label: str) -> bytes:
        """Return 32 bytes for the use that ``label`` names; other labels give other keys.

        >>> key = await alice.session_key("bob")
        >>> len(key.derive("backup mac"))
        32
        >>> key.derive("backup mac") == key.derive("backup encryption")
        False

        Raises nothing.
        """
        return self._keys.derive(label)


@attrs.frozen
class OpenedTicket:
    """Who sent a ticket, and the keys that came with it.

    That ``sender`` made them for us is proved; that it is there now is not.
    """

    sender: str
    _keys: ApplicationKeys = attrs.field(repr=False)

    def derive(self, label: str) -> bytes:
        """Return the 32 bytes that `SharedKey.derive` gives the sender for the same ``label``.

        Raises nothing.
        """
        return self._keys.derive(label)


class Client:
    """One principal.  Made by `open`; all that it raises is a `kdc.errors.KDCError`.

    Several clients of one name may send at the same time, but only one can
    listen: the KDC sends everybody to who listened last.  Capitals in names of
    principals and services become small letters, and what can be nobody's name
    is a `ConfigurationError`.
    """

    _log = Logger()

    def __init__(self, client: RealmClient, settings: ClientSettings) -> None:
        self._client = client
        self._settings = settings
        self._listening: Listening | None = None
        self._serving = Waiters()

    @classmethod
    async def open(
        cls,
        reactor: Reactor,
        *,
        name: str | None = None,
        address: str | Sequence[str] | None = None,
        port: int | str | None = None,
        realm: str | None = None,
        key_file: str | Path | None = None,
        passphrase_file: str | Path | None = None,
        kdc_fingerprint: str | None = None,
        kdc_ca: str | Path | None = None,
        known_kdcs: str | Path | None = None,
        reach: str | None = None,
        config: str | Path | None = None,
    ) -> Client:
        """Connect to the KDC and authenticate; register if the name is new there.

        What is None comes from the configuration file ``config``, by default the
        user's own, as for the commands.

        ``reactor`` runs already, or will; timers and connections are on it.
        ``name`` is ours in ``realm``; the KDC is at the host ``address`` and TCP ``port``, or at
        ``HOST:PORT``; several addresses are those of a realm's several KDCs, of which any is asked.
        ``key_file`` or ``passphrase_file`` holds our secret: nobody is asked for one.
        ``kdc_fingerprint`` (``sha256:`` and 64 hexadecimal digits, or several of these with
        commas between), ``kdc_ca`` (a file of certificates, or ``system``) or a line in the
        file ``known_kdcs`` says which KDC is the right one.  ``reach`` is ``auto``, ``direct``
        or ``relay``: by which ways peers are reached, and we by them; ``relay=NAME`` or
        ``auto=NAME`` if the relay is not called relay.

        Raises `ConfigurationError` if something is missing or not usable as given,
        `LocalIOError` if a file cannot be read, `KDCUnreachable` if no KDC answers,
        `UnknownIdentity` if nothing says that it is the right one, `WrongIdentity` if
        it is another one, `AuthenticationRefused` if it does not accept our secret and
        registers nobody by it, and `TooBusy` if it has been asked too often.
        """
        settings = client_settings(
            {
                "name": name,
                "address": address,
                "port": port,
                "realm": realm,
                "key-file": key_file,
                "passphrase-file": passphrase_file,
                "kdc-fingerprint": kdc_fingerprint,
                "kdc-ca": None if kdc_ca is None else str(kdc_ca),
                "known-kdcs": known_kdcs,
                "reach": reach,
                "config": config,
            }
        )
        if settings.secret.asks:
            raise ConfigurationError(
                f"no secret for {settings.name}", hint="give key_file or passphrase_file"
            )
        # Reads files, derives keys (0.2 s for a passphrase): not for this thread.
        client = await in_thread(reactor)(client_for, reactor, settings)
        await enter(client, settings, 0, tell=lambda line: cls._log.info("{line}", line=line))
        return cls(client, settings)

    @property
    def name(self) -> str:
        """Our name, without the realm.  Raises nothing."""
        return self._settings.name

    async def connect(
        self, peer: str, factory: IProtocolFactory, service: str = DEFAULT_SERVICE
    ) -> IProtocol:
        """Open a channel to a ``service`` of ``peer``; return the ``factory``'s protocol.

        The peer has proved by then who it is.  The protocol's transport has its
        name as ``principal``; a stream that is cut ends in `IntegrityError`, never
        in ``ConnectionDone``.

        Raises `ConfigurationError` for what is no name, `KDCUnreachable` if there is no
        KDC to ask, `PeerUnavailable` if the peer is unknown (`UnknownPeer`), does not
        listen (`NotReceiving`), cannot be reached or does not answer us,
        `RefusedByPolicy` if the KDC does not allow it or the peer does not offer us that
        service, `TooBusy` if the KDC has been asked too often, and `RemoteProtocolError` if
        what answers is not the peer, or was changed on its way.
        """
        return await self.endpoint(peer, service).connect(factory)

    async def ask(
        self,
        peer: str,
        question: bytes = b"",
        service: str = DEFAULT_SERVICE,
        *,
        limit: int = _MAX_ANSWER,
    ) -> bytes:
        """Send ``question`` and an end; return all that ``peer`` answers up to its own end.

        >>> await alice.ask("bob", b"one")
        b'one'

        Raises what `connect` raises for ``peer`` and ``service``, `TooLarge` if the answer
        has more than ``limit`` bytes, and `IntegrityError` if it is not whole.
        """
        asking = Asking(question, limit)
        await self.connect(peer, Factory.forProtocol(lambda: asking), service)
        return await asking.answer

    def endpoint(self, peer: str, service: str = DEFAULT_SERVICE) -> IStreamClientEndpoint:
        """Return a ``service`` of ``peer`` as a Twisted endpoint to connect to.

        Its ``connect`` fails with what `connect` raises.  Raises `ConfigurationError` for
        what is no name.
        """
        endpoint: IStreamClientEndpoint = ChannelClientEndpoint(
            self._client, _name(peer), _service(service)
        )
        return endpoint

    async def listen(
        self,
        factory: IProtocolFactory,
        *,
        service: str = DEFAULT_SERVICE,
        listen: str = _LISTEN,
        allow: Collection[str] | None = None,
        advertise: str = "",
    ) -> ListeningPrincipal:
        """Be reachable; return when the KDC knows it.

        The ``factory`` makes a protocol for each channel to ``service``.  ``listen`` is
        a Twisted endpoint string, by default a free TCP port of the loopback interface;
        ``allow`` the names that may use the service, everybody if None; ``advertise`` the
        address that peers are told, empty for the one the KDC sees.  A second call offers
        another service, at the port of the first one.

        >>> port = await alice.listen(Factory.forProtocol(Echo), service="echo", allow=["bob"])
        >>> await bob.ask("alice", b"two", "echo")
        b'two'
        >>> await port.stopListening()

        Raises `ConfigurationError` for what is no name or no endpoint and for a service
        that is offered already, `LocalIOError` if the port is taken, `WrongIdentity` if the
        KDC is another one now and `AuthenticationRefused` if it accepts our secret no more.
        Whatever else the KDC or the network does is tried again, for as long as it takes.
        """
        advertise = advertised(advertise)
        offered, service = Service(factory, _rule(allow)), _service(service)
        listening = self._listening
        if listening is None:
            self._listening = listening = Listening(
                self._client,
                {service: offered},
                listen,
                advertise=advertise,
                ending=lambda line: self._log.warn("{name}: {line}", name=self.name, line=line),
            )
            running = Deferred.fromCoroutine(_keep(listening))
            _ = running.addErrback(self._not_listening, listening)
        elif service in listening.services:
            raise ConfigurationError(f"{self.name} offers {service or 'its default service'} twice")
        else:
            listening.services[service] = offered
        await listening.reachable()
        return ListeningPrincipal(self, listening, service)

    async def serve(
        self,
        factory: IProtocolFactory,
        *,
        service: str = DEFAULT_SERVICE,
        listen: str = _LISTEN,
        allow: Collection[str] | None = None,
        advertise: str = "",
    ) -> None:
        """As `listen`; return when this client is closed.

        ``factory``, ``service``, ``listen``, ``allow`` and ``advertise`` are those of `listen`.

        Raises what `listen` raises, also later, and `Superseded` when somebody else listens
        under our name: then we cannot be reached any more for good.
        """
        await self.listen(factory, service=service, listen=listen, allow=allow, advertise=advertise)
        await self._serving.wait()

    async def session_key(self, peer: str) -> SharedKey:
        """Ask for keys to share with ``peer``, without opening a channel; good for one use.

        Raises `ConfigurationError` for what is no name, `KDCUnreachable` if there is no KDC
        to ask, `UnknownPeer` if it knows nobody of that name, `NotReceiving` if the peer
        does not listen, `RefusedByPolicy` if the KDC does not allow it, and `TooBusy` if it
        has been asked too often.
        """
        peer = _name(peer)
        grant = await self._client.grant(peer)
        keys, reply = grant.application_keys(), grant.reply
        return SharedKey(
            peer, reply.epoch_id, reply.ticket, keys.proof, reply.lifetime_seconds, keys
        )

    def open_ticket(
        self,
        epoch_id: bytes,
        ticket: bytes,
        proof: bytes,
        *,
        allow: Collection[str] | Anybody,
    ) -> OpenedTicket:
        """Open the ticket that a peer's `session_key` gave it; each opens once.

        ``epoch_id``, ``ticket`` and ``proof`` are what the peer has sent, ``allow`` the
        names it may be from, or `ANYBODY`: then look at whose it is.

        >>> key = await alice.session_key("bob")
        >>> opened = bob.open_ticket(key.epoch_id, key.ticket, key.proof, allow=["alice"])
        >>> opened.sender
        'alice'
        >>> opened.derive("backup mac") == key.derive("backup mac")
        True

        Raises `ConfigurationError` if this client does not listen or ``allow`` is missing, and
        `RemoteProtocolError` for a ticket that is not for us or not from one of these,
        was used before, has expired, or whose proof is not its sender's: none of
        these uses it up.
        """
        if allow is None:  # where a setting is missing, say: that must not mean everybody
            raise ConfigurationError("allow is missing: the names it may be from, or ANYBODY")
        sender, keys = self._required_listening.epochs.open_ticket(
            epoch_id,
            ticket,
            proof,
            now_milliseconds=clock.milliseconds(),
            allow=_rule(allow),
        )
        return OpenedTicket(sender, keys)

    async def close(self) -> None:
        """Stop listening and leave the KDC; open channels go on.  Raises nothing."""
        if self._listening is not None:
            listening, self._listening = self._listening, None
            await listening.close()
        self._client.close()
        self._serving.release()

    async def _withdraw(self, listening: Listening, service: str) -> None:
        """Offer ``service`` no more; with the last one, stop listening."""
        listening.services.pop(service, None)
        if not listening.services:
            if self._listening is listening:
                self._listening = None
            await listening.close()

    @property
    def _required_listening(self) -> Listening:
        if self._listening is None:
            raise ConfigurationError(
                f"{self.name} does not listen, so no ticket can be for it",
                hint="listen() comes first",
            )
        return self._listening

    def _not_listening(self, failure: Failure, listening: Listening) -> None:
        if self._listening is listening:
            self._listening = None
        self._log.error("{name} cannot be reached: {error}", name=self.name, error=failure.value)
        background(listening.close(), "giving up a port")
        listening.failed(cast(Exception, failure.value))
        self._serving.fail(failure)


@implementer(IListeningPort)
class ListeningPrincipal:
    """One service of a listening client, which `Client.listen` makes."""

    def __init__(self, client: Client, listening: Listening, service: str) -> None:
        self._client = client
        self._listening = listening
        self._service = service

    def startListening(self) -> None:
        """Do nothing: it listens already.  Raises nothing."""

    def stopListening(self) -> Deferred[None]:
        """Offer the service no more; with the last one, give up the port and leave the KDC.

        Fires when that is done.  Channels that are open go on.  Raises nothing.
        """
        return Deferred.fromCoroutine(self._client._withdraw(self._listening, self._service))

    def getHost(self) -> IAddress:
        """Return where the port is bound.  Raises nothing."""
        return self._listening.address


def run(main: Callable[[Reactor], Coroutine[Deferred[object], object, object]]) -> None:
    """Run ``main``, which is given the reactor, to its end, and end the process.

    An error of ours is one or two lines on standard error and an exit status as
    of the commands; SIGINT and SIGTERM cancel ``main``.  Raises ``SystemExit``.
    """
    from twisted.internet import reactor

    async def work() -> int:
        await main(cast(Reactor, reactor))
        return 0

    program = Path(sys.argv[0]).name or "python"
    show_warnings(program)
    raise SystemExit(run_to_end(program, reactor, work))


async def _keep(listening: Listening) -> None:
    await listening.bind()
    await listening.run()


def _rule(allow: Collection[str] | Anybody | None) -> Callable[[str], bool]:
    if allow is None or isinstance(allow, Anybody):
        return lambda name: True
    if isinstance(allow, str):  # a collection of its letters, to Python
        raise ConfigurationError("allow is a list of names, not one text")
    names = frozenset(map(_name, allow))
    return lambda name: name in names


def _name(given: str) -> str:
    """The principal that is meant, capitals or not; raises `ConfigurationError`."""
    try:
        return fold_name(given)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _service(given: str) -> str:
    return _name(given) if given else DEFAULT_SERVICE
