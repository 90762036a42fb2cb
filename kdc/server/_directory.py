"""The KDC's directory: who is registered and who receives, for whoever may know.

The protocol has no message for that, and needs none: the directory is a
receiver like any other, with a key of its own, that happens to live in the
KDC's process.  It tells a client of those only whom the client may ask keys
for, and of each only what such a key would have told, the name apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.channel.transport import ChannelTransport
from kdc.errors import ErrorKind, KDCError
from kdc.issuing.realm import Realm
from kdc.net import clock
from kdc.net.background import background
from kdc.net.log import Logger
from kdc.net.waiting import Deadline
from kdc.protocol.directory import (
    DIRECTORY,
    MAX_PRESENCES,
    SERVICE,
    STANDING,
    Presence,
    Standing,
    end_line,
    lines_of,
    standing_line,
    wait_line,
)
from kdc.server._residents import QuestionPort, Resident
from kdc.store import Status, Store

__all__ = ["Directory", "DirectorySettings"]

ANSWER_SECONDS = 60.0
# What a question is charged to its principal, in 305s: about what it costs us.
_CHANNEL_CHARGE = 5
_NAMES_PER_CHARGE = 50
Run = Callable[..., "Deferred[Any]"]


@attrs.frozen
class DirectorySettings:
    """Where it listens (a Twisted endpoint string), its name, and its key file, made if missing.

    ``names_at_once`` are told before others have their turn, ``max_named`` in all;
    ``max_open`` may ask at the same time, all together.
    """

    listen: str
    key_file: Path
    name: str = DIRECTORY
    names_at_once: int = 500
    max_open: int = 256
    max_named: int = MAX_PRESENCES


class Directory:
    """``read`` runs a call in a thread where the store may be listed; ``fingerprint`` is ours."""

    log = Logger()

    def __init__(
        self,
        settings: DirectorySettings,
        reactor: Any,
        *,
        realm: Realm,
        store: Store,
        read: Run,
        fingerprint: Callable[[], str],
        say: Callable[[str], None],
        unix_time: Callable[[], float],
    ) -> None:
        self.realm = realm
        self.store = store
        self.read = read
        self.timers = reactor
        self.settings = settings
        self._reactor = reactor
        self._fingerprint = fingerprint
        self._say = say
        self._unix_time = unix_time
        self._asking: set[_Answering] = set()  # whatever it is that they ask

    def open(self, host: str, port: int) -> None:
        """Be registered, and take the port; the KDC's own is at ``host`` and ``port``.

        Blocking.  Raises `KDCError`.
        """
        resident = Resident(
            self.settings.name,
            self.settings.key_file,
            "directory",
            "free the name, or give the directory another one",
            ErrorKind.NAME_OF_DIRECTORY_TAKEN,
        )
        self._client = resident.client(
            self._reactor,
            self.realm,
            self.store,
            self._fingerprint,
            (host, port),
            int(self._unix_time()),
        )
        self._port = QuestionPort(
            self._client,
            self.settings.listen,
            {
                SERVICE: _Answers(self, self._asking, _Answering),
                STANDING: _Answers(self, self._asking, _Standing),
            },
            self._asking,
            most_open=self.settings.max_open,
            what="the directory",
            log=self.log,
            say=self._say,
        )

    def start(self) -> None:
        """Be reachable from now on."""
        self._port.start()

    async def stop(self) -> None:
        """Leave the KDC, and break off the answers that are being given."""
        await self._port.stop()

    def charge(self, client: str, tokens: float) -> int:
        """Count work for ``client`` together with all its other; the seconds until it is repaid."""
        owed = self.realm.work_rate.charge(client, tokens, clock.milliseconds())
        return math.ceil(owed / 1000)

    def question(self, client: str) -> int:
        """Count a question of ``client``: 0, or after how many seconds it may be asked."""
        wait = self.charge(client, 0)
        if not wait:
            self.charge(client, len(self.store) / _NAMES_PER_CHARGE)
        return wait

    def presence(self, client: str, name: str) -> Presence | None:
        """What ``client`` may know of ``name``, who is registered; None: not even that."""
        if name == self.settings.name:
            return None  # who is asked need not say that it is there
        if name != client and not self.realm.permits(client, name):
            return None
        epoch = self.realm.epoch_of(name)
        return Presence(name) if epoch is None else Presence(name, True, epoch.address, epoch.port)

    def standing(self, client: str) -> Standing:
        """When ``client`` ends."""
        record = self.store.get(client)
        now = int(self._unix_time())
        if record is None:  # deleted and purged while it asked
            return Standing(now)
        return Standing(now, record.expiry_time, record.renewal_seconds)


class _Answers(Factory["_Answering"]):
    """Takes questions of one kind, and counts who asks them ``among`` all."""

    noisy = False

    def __init__(
        self, directory: Directory, among: set[_Answering], answering: type[_Answering]
    ) -> None:
        self._directory = directory
        self._among = among
        self._answering = answering

    def buildProtocol(self, addr: Any) -> _Answering:
        # Whether it is accepted or not, and whatever is asked then.
        self._directory.charge(addr.name, _CHANNEL_CHARGE)
        return self._answering(self._directory, self._among, addr.name)


@implementer(IHalfCloseableProtocol, IPushProducer)
class _Answering(Protocol):
    """One client's question, which is empty, and the answer."""

    def __init__(self, directory: Directory, among: set[_Answering], client: str) -> None:
        self.client = client
        self._directory = directory
        self._among = among
        self._gone = False
        self._reads: Deferred[None] | None = None  # waited for while the client does not read
        self._late = Deadline(directory.timers)

    @property
    def _channel(self) -> ChannelTransport:
        return cast(ChannelTransport, self.transport)

    def connectionMade(self) -> None:
        self._among.add(self)
        self._late.within(ANSWER_SECONDS, self.drop)

    def dataReceived(self, data: bytes) -> None:
        self.drop()

    def readConnectionLost(self) -> None:
        background(self._answer(), "a question to the directory")

    def writeConnectionLost(self) -> None:
        """The client has it all."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        self._among.discard(self)
        self._late.cancel()
        self.resumeProducing()

    def pauseProducing(self) -> None:
        if self._reads is None and not self._gone:
            self._reads = Deferred()

    def resumeProducing(self) -> None:
        reads, self._reads = self._reads, None
        if reads is not None:
            reads.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone, and `connectionLost` will tell."""

    def drop(self) -> None:
        self._channel.abortConnection()

    async def _answer(self) -> None:
        self._channel.registerProducer(self, True)
        try:
            await self._tell()
        except KDCError as error:  # the store is damaged
            log = self._directory.log
            log.error("no answer to {name}: {error}", name=self.client, error=error)
            self.drop()
        self._channel.unregisterProducer()
        self._channel.loseConnection()

    async def _tell(self) -> None:
        wait = self._directory.question(self.client)
        if wait:
            self._channel.write(wait_line(wait))
        else:
            await self._tell_all()

    async def _tell_all(self) -> None:
        """Names come from the store in a thread; what is told of them is decided here."""
        left = self._directory.settings.max_named
        names = await self._directory.read(_active, self._directory.store)
        most = self._directory.settings.names_at_once
        while not self._gone and (some := await self._directory.read(_next, names, most)):
            found = [self._directory.presence(self.client, name) for name in some]
            presences = [presence for presence in found if presence is not None]
            self._channel.write(lines_of(presences[:left]))
            left -= len(presences)
            if left < 0:
                break
            if self._reads is not None:
                await self._reads
        self._channel.write(end_line(more=left < 0))


class _Standing(_Answering):
    """One client's question of when it ends; nobody is told when another does.

    Its channel has been charged for, and there is nothing to look through.
    """

    async def _tell(self) -> None:
        self._channel.write(standing_line(self._directory.standing(self.client)))


def _active(store: Store) -> Iterator[str]:
    return (record.name for record in store if record.status is Status.ACTIVE)


def _next(names: Iterator[str], most: int) -> list[str]:
    return list(itertools.islice(names, most))
