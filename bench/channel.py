"""The two ends of a channel, memory to memory: ``python -m bench.channel SETTINGS``, and a load."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure
from zope.interface import implementer

from bench.load import Settings, client_of
from bench.population import able, name_of
from bench.processes import cpu_of
from bench.stream import BLOCK
from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.listening import Listening
from kdc.channel.services import DEFAULT_SERVICE, Service
from kdc.channel.transport import IStreamProtocol
from kdc.protocol.records import AckStatus

__all__ = ["RECEIVER", "SENDER", "transfer"]

RECEIVER, SENDER = 0, 1  # of those who are able


@implementer(IStreamProtocol)
class _Drain(Protocol):
    """Takes all, and confirms it."""

    def dataReceived(self, data: bytes) -> None:
        pass  # counted by the channel: its end and the acknowledgement bear the sum

    async def endReceived(self) -> AckStatus:
        return AckStatus.STORED

    def acknowledged(self, status: AckStatus) -> None:
        pass

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]

    def writeConnectionLost(self) -> None:
        pass


@implementer(IStreamProtocol, IPushProducer)
class _Source(Protocol):
    """Writes so many bytes; ``done`` fires when the other end has confirmed all of them."""

    def __init__(self, count: int) -> None:
        self.done: Deferred[None] = Deferred()
        self._left = count
        self._paused = False
        self._writing = False

    def connectionMade(self) -> None:
        cast(Any, self.transport).registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._left = 0

    def resumeProducing(self) -> None:
        self._paused = False
        if self._writing:
            return
        transport = cast(Any, self.transport)
        self._writing = True
        while self._left and not self._paused:
            piece = BLOCK if self._left >= len(BLOCK) else BLOCK[: self._left]
            self._left -= len(piece)
            transport.write(piece)
        self._writing = False
        if not self._left and not self._paused:
            self._paused = True
            transport.unregisterProducer()
            transport.loseWriteConnection()

    async def endReceived(self) -> AckStatus:
        return AckStatus.STORED

    def acknowledged(self, status: AckStatus) -> None:
        assert status is AckStatus.STORED
        self.done.callback(None)
        self.transport.loseConnection()  # type: ignore[union-attr]

    def readConnectionLost(self) -> None:
        pass

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.errback(reason)


async def transfer(reactor: Any, settings: Settings) -> dict[str, float]:
    """``bytes`` to the receiver that has ``receiver_pid``; both ends' CPU."""
    numbers = able(settings["principals"])
    client = client_of(reactor, settings, numbers[SENDER])
    source = _Source(settings["bytes"])
    endpoint = ChannelClientEndpoint(client, name_of(numbers[RECEIVER]), DEFAULT_SERVICE)
    await client.link()
    pid = settings["receiver_pid"]
    far, near, begun = cpu_of(pid), time.process_time(), time.monotonic()
    await endpoint.connect(Factory.forProtocol(lambda: source))
    await source.done
    return {
        "s": time.monotonic() - begun,
        "sender CPU s": time.process_time() - near,
        "receiver CPU s": cpu_of(pid) - far,
    }


async def serve(reactor: Any, settings: Settings) -> None:
    """Be reachable until killed."""
    client = client_of(reactor, settings, able(settings["principals"])[RECEIVER])
    listening = Listening(
        client,
        {DEFAULT_SERVICE: Service(Factory.forProtocol(_Drain))},
        f"tcp:{settings['listen']}:interface=127.0.0.1",
    )
    await listening.bind()
    await listening.run()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(serve(reactor, json.loads(sys.argv[1]))))
