"""One question over a channel, one answer."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.client.client import RealmClient
from kdc.errors import TooLarge

__all__ = ["Asking", "ask_resident"]


@implementer(IHalfCloseableProtocol)
class Asking(Protocol):
    """Sends ``question`` and an end; ``answer`` fires with all that comes back.

    It fails if that is longer than ``limit`` or not whole.
    """

    def __init__(self, question: bytes, limit: int) -> None:
        self.answer: Deferred[bytes] = Deferred(lambda _: self._transport.abortConnection())
        self._question = question
        self._limit = limit
        self._received = bytearray()

    @property
    def _transport(self) -> Any:
        return cast(Any, self.transport)

    def connectionMade(self) -> None:
        self._transport.write(self._question)
        self._transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > self._limit:
            self._settle(TooLarge(f"the answer is longer than {self._limit} bytes"))
            self._transport.abortConnection()

    def readConnectionLost(self) -> None:
        self._transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The peer has the whole question."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        done = reason.check(ConnectionDone)
        self._settle(bytes(self._received) if done else reason)

    def _settle(self, result: bytes | Failure | Exception) -> None:
        if self.answer.called:
            return
        if isinstance(result, bytes):
            self.answer.callback(result)
        else:
            self.answer.errback(result)


async def ask_resident(
    client: RealmClient, name: str, service: str, question: bytes, limit: int
) -> bytes:
    """Return what a receiver in the KDC's process answers, ``limit`` bytes at most.

    Raises `KDCError`.
    """
    asking = Asking(question, limit)
    endpoint = ChannelClientEndpoint(client, name, service, resident=True)
    await endpoint.connect(Factory.forProtocol(lambda: asking))
    return await asking.answer
