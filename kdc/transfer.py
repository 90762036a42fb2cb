"""Sending files over a channel, and storing them at the other end.

An application on top of the channel: it knows nothing of tickets or keys.  The
sender's acknowledgement means that the receiver has everything on its disk,
under its final name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.background import background
from kdc.channel import ChannelTransport, IStreamProtocol
from kdc.deposit import Arrival, Deposit, Sealed, Stored
from kdc.errors import (
    IntegrityError,
    KDCError,
    LocalIOError,
    PeerUnavailable,
    RefusedByPolicy,
    RemoteProtocolError,
)
from kdc.items import Item, ItemReader, Kind
from kdc.partial import local_error
from kdc.records import AckStatus

__all__ = ["SERVICE", "Delivery", "Inbox", "SendProtocol", "Source", "send_factory"]

SERVICE = "kdc.send"
CHUNK_BYTES = 1 << 20
ACK_SECONDS = 600.0
_HIGH_WATER = 4 << 20
T = TypeVar("T")
Run = Callable[..., "Deferred[Any]"]


@attrs.frozen
class Source:
    """Something to send: where its bytes come from, and what the receiver is told of it."""

    item: Item
    open: Callable[[], BinaryIO]

    @classmethod
    def of_file(cls, path: Path) -> Source:
        """Raises `LocalIOError` if ``path`` cannot be read."""
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size if path.is_file() else None
            item = Item(Kind.FILE, path.name, size)
        except OSError as error:
            raise local_error(path, error) from None
        except ValueError as error:
            raise LocalIOError(f"{path}: {error}", hint="send it under another name") from None
        return cls(item, lambda: path.open("rb"))


@attrs.frozen
class Delivery:
    """What the receiver has confirmed."""

    receiver: str
    total_bytes: int


@implementer(IStreamProtocol, IPushProducer)
class SendProtocol(Protocol):
    """Sends ``sources`` one after the other; ``done`` fires with the receiver's acknowledgement.

    ``run`` runs a call in a worker thread; ``progress`` is told how many bytes
    have been handed to the channel so far.
    """

    def __init__(
        self, sources: Sequence[Source], *, run: Run, timers: Any, progress: Callable[[int], None]
    ) -> None:
        self.done: Deferred[Delivery] = Deferred()
        self._sources = sources
        self._run = run
        self._timers = timers
        self._progress = progress
        self._sent = 0
        self._resumed: Deferred[None] | None = None
        self._failed: KDCError | None = None
        self._stopped = False
        self._late: Any = None

    @property
    def _channel(self) -> ChannelTransport:
        return cast(ChannelTransport, self.transport)

    def connectionMade(self) -> None:
        self._channel.registerProducer(self, True)
        background(self._send(), "sending")

    def dataReceived(self, data: bytes) -> None:
        """The receiver speaks only to say, before the end, that it will not store this."""
        try:
            status = AckStatus(data[0])
        except ValueError:
            self._fail(IntegrityError(f"the receiver answers with {data[:1].hex()}"))
        else:
            self._fail(self._refusal(status))

    async def endReceived(self) -> AckStatus:
        return AckStatus.STORED

    def readConnectionLost(self) -> None:
        """Nothing was expected from the receiver."""

    def writeConnectionLost(self) -> None:
        """`acknowledged` tells more."""

    def acknowledged(self, status: AckStatus) -> None:
        self._cancel()
        peer = self._channel.principal
        if status is AckStatus.STORED:
            if not self.done.called:
                self.done.callback(Delivery(peer, self._sent))
            self._channel.loseConnection()
            return
        self._fail(self._refusal(status))

    def _refusal(self, status: AckStatus) -> KDCError:
        peer = self._channel.principal
        if status is AckStatus.NOT_ALLOWED:
            return RefusedByPolicy(f"{peer} did not accept it", hint="its own log says why")
        if status is AckStatus.TOO_LARGE:
            return RefusedByPolicy(f"{peer} does not accept so much")
        return RefusedByPolicy(f"{peer} could not store it", hint="its own log says why")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._cancel()
        self.stopProducing()
        if self.done.called:
            return
        if self._failed is not None:
            self.done.errback(self._failed)
        elif reason.check(ConnectionDone, IntegrityError):
            peer = self._channel.principal
            self.done.errback(
                IntegrityError(
                    f"the connection to {peer} was cut before it confirmed what it got",
                    hint="it has stored all of it or nothing; ask, or send it again",
                )
            )
        else:
            self.done.errback(reason)

    def pauseProducing(self) -> None:
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        self._stopped = True
        self.resumeProducing()

    async def _send(self) -> None:
        try:
            if any(source.item.size is None for source in self._sources[:-1]):
                raise LocalIOError(
                    "only the last of several things may be one whose size is not known",
                    hint="send pipes one by one",
                )
            for source in self._sources:
                if self._stopped:
                    break
                await self._send_one(source)
        except KDCError as error:
            self._fail(error)
            return
        if self._stopped:
            return
        self._channel.unregisterProducer()
        self._channel.loseWriteConnection()
        self._late = self._timers.callLater(ACK_SECONDS, self._unconfirmed)

    async def _send_one(self, source: Source) -> None:
        path = source.item.name
        try:
            file = await self._run(source.open)
        except OSError as error:
            raise local_error(Path(path), error) from None
        try:
            with file:
                self._channel.write(source.item.encode())
                await self._send_content(file, source.item)
        except OSError as error:
            raise local_error(Path(path), error) from None

    async def _send_content(self, file: BinaryIO, item: Item) -> None:
        left = item.size
        while left is None or left:
            data = await self._run(
                file.read, CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)
            )
            if self._stopped:
                return
            if not data:
                break
            if left is not None:
                left -= len(data)
            self._channel.write(data)
            self._sent += len(data)
            self._progress(self._sent)
            if self._resumed is not None:
                await self._resumed
        if left:
            raise LocalIOError(
                f"{item.name} became shorter while it was sent", hint="send it again"
            )

    def _unconfirmed(self) -> None:
        self._late = None
        self._fail(
            PeerUnavailable(
                "everything was sent, but the receiver did not confirm it in time",
                hint="it may have been stored or not; ask, or send it again",
            )
        )

    def _fail(self, error: KDCError) -> None:
        if self._failed is None:
            self._failed = error
        self._channel.abortConnection()

    def _cancel(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def send_factory(
    sources: Sequence[Source],
    *,
    run: Run,
    timers: Any,
    progress: Callable[[int], None] = lambda sent: None,
) -> Factory[SendProtocol]:
    """A factory of one `SendProtocol`."""
    factory = Factory.forProtocol(
        lambda: SendProtocol(sources, run=run, timers=timers, progress=progress)
    )
    factory.noisy = False
    return factory


@attrs.define
class Inbox(Factory["_ReceiveProtocol"]):
    """Where received things go: ``output`` or ``directory``, see `Deposit`.

    ``received`` is told of each item when it is durable under its name,
    ``failed`` of a stream of which nothing was kept, and why.
    """

    noisy = False

    run: Run
    output: Path | None = None
    directory: Path | None = None
    records: Path | None = None
    received: Callable[[str, Stored], None] = lambda sender, stored: None
    failed: Callable[[str, KDCError], None] = lambda sender, error: None

    def buildProtocol(self, addr: Any) -> _ReceiveProtocol:
        deposit = Deposit(output=self.output, directory=self.directory, records=self.records)
        return _ReceiveProtocol(self, deposit, addr.name)


@implementer(IStreamProtocol)
class _ReceiveProtocol(Protocol):
    """Hands one stream to a `Deposit` in a worker thread, and says what became of it."""

    def __init__(self, inbox: Inbox, deposit: Deposit, sender: str) -> None:
        self._inbox = inbox
        self._deposit = deposit
        self._sender = sender
        self._reader = ItemReader()
        self._batch: list[Arrival] = []
        self._batch_bytes = 0
        self._paused = False
        self._working = False
        self._idle: Deferred[None] | None = None
        self._failed: KDCError | None = None
        self._ended = False

    @property
    def _channel(self) -> ChannelTransport:
        return cast(ChannelTransport, self.transport)

    def connectionMade(self) -> None:
        if self._inbox.records is not None:
            self._channel.capture(lambda raw: self._batch.append(Sealed(raw)))

    def dataReceived(self, data: bytes) -> None:
        if self._failed is not None:
            return
        try:
            self._batch.extend(self._reader.feed(data))
        except RemoteProtocolError as error:
            self._refuse(error)
            return
        self._batch_bytes += len(data)
        if self._batch_bytes > _HIGH_WATER and not self._paused:
            self._paused = True
            self._channel.pauseProducing()
        self._start()

    async def endReceived(self) -> AckStatus:
        """Show all that came under its final name, or nothing."""
        self._ended = True
        try:
            self._batch.extend(self._reader.end())
        except RemoteProtocolError as error:
            self._refuse(error)
        await self._drained()
        if self._failed is None:
            try:
                stored = await self._inbox.run(self._deposit.show)
            except KDCError as error:
                self._refuse(error)
            else:
                for each in stored:
                    self._inbox.received(self._sender, each)
                return AckStatus.STORED
        await self._discard()
        return _status_of(self._failed)

    def acknowledged(self, status: AckStatus) -> None:
        """Our direction carries nothing that matters."""

    def readConnectionLost(self) -> None:
        """All is said: end our direction, too."""
        self._channel.loseConnection()

    def writeConnectionLost(self) -> None:
        """`acknowledged` says more."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._ended:
            return  # endReceived finishes what it began
        self._ended = True
        if self._failed is None:
            error = reason.value
            self._failed = error if isinstance(error, KDCError) else IntegrityError("cut short")
        background(self._discard(), "cleaning up after a cut stream")

    def _start(self) -> None:
        if not self._working:
            self._working = True
            background(self._work(), "storing")

    async def _work(self) -> None:
        while self._batch:
            batch, self._batch = self._batch, []
            self._batch_bytes = 0
            if self._failed is None:
                try:
                    await self._inbox.run(self._deposit.take, batch)
                except KDCError as error:
                    self._refuse(error)
            if self._paused:
                self._paused = False
                self._channel.resumeProducing()
        self._working = False
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)

    async def _drained(self) -> None:
        self._start()
        if self._working:
            self._idle = Deferred()
            await self._idle

    async def _discard(self) -> None:
        await self._drained()
        await self._inbox.run(self._deposit.discard)
        self._inbox.failed(self._sender, self._failed or IntegrityError("cut short"))

    def _refuse(self, error: KDCError) -> None:
        """Tell the sender at once: it need not send the rest for nothing."""
        if self._failed is None:
            self._failed = error
            self._channel.write(bytes([_status_of(error)]))


def _status_of(error: KDCError | None) -> AckStatus:
    refused = isinstance(error, RemoteProtocolError | RefusedByPolicy)
    return AckStatus.NOT_ALLOWED if refused else AckStatus.STORAGE_FAILED
