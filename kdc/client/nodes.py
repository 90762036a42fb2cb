"""Several KDCs of one realm, as if they were one.

What is asked goes to one of them, and to the next at once if that refuses or fails; a
question that can be asked twice without harm goes *besides* to the next when the one
before has been silent for a second.  Who has answered is asked first from then on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from kdc.client.client import KDCClient
from kdc.client.link import KDCLink, _Dropped
from kdc.errors import (
    AuthenticationRefused,
    KDCError,
    KDCUnreachable,
    NameTaken,
    NotReceiving,
    RemoteProtocolError,
    TooBusy,
    UnknownPeer,
    WrongIdentity,
)
from kdc.net import retry
from kdc.net.waiting import Deadline, Waiters
from kdc.protocol.crypto import LongTermKeys
from kdc.protocol.kdc_exchange import Grant
from kdc.protocol.relay import Reach

__all__ = ["CONNECT_SECONDS", "SILENCE_SECONDS", "Nodes"]

CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 1.0
# So long KDCs that all are too busy for a connection are tried again.
_PATIENCE_SECONDS = 10.0
# After these the next is asked.  If nobody answers, what says most is told, and that comes
# first here: a KDC that has taken our proof before one that has not, and that before none.
_NEXT = (
    NotReceiving,
    UnknownPeer,
    TooBusy,
    AuthenticationRefused,
    WrongIdentity,
    RemoteProtocolError,
    _Dropped,
    KDCUnreachable,
)
# A new principal may not have arrived everywhere; but who is refused twice has a wrong secret.
_MOST_REFUSALS = 2

T = TypeVar("T")


class Nodes:
    """One principal's dealings with several KDCs of its realm; a `RealmClient`.

    ``shuffle`` orders them once.  Everything raises `KDCError`.
    """

    def __init__(
        self,
        nodes: Iterable[KDCClient],
        shuffle: Callable[[list[KDCClient]], None] | None = None,
    ) -> None:
        self._order = sorted(nodes, key=lambda node: node.where)
        self._sorted = tuple(self._order)
        (shuffle or retry.chance.shuffle)(self._order)

    @property
    def nodes(self) -> Sequence[KDCClient]:
        """Each KDC, in an order that is the same for everybody."""
        return self._sorted

    @property
    def reactor(self) -> Any:
        return self._sorted[0].reactor

    @property
    def keys(self) -> LongTermKeys:
        return self._sorted[0].keys

    @keys.setter
    def keys(self, keys: LongTermKeys) -> None:
        for node in self._sorted:
            node.keys = keys

    @property
    def random(self) -> Callable[[int], bytes]:
        return self._sorted[0].random

    @property
    def reach(self) -> Reach:
        return self._sorted[0].reach

    @property
    def relay(self) -> str:
        return self._sorted[0].relay

    @property
    def weakness(self) -> str:
        return self._sorted[0].weakness

    @property
    def where(self) -> str:
        """The KDC that is asked first: the one that answered last."""
        return self._order[0].where

    async def link(self) -> KDCLink:
        """Return a connection on which we are authenticated, to whichever KDC is there."""
        return (await self._first(lambda node: node.link()))[1]

    async def grant(self, peer: str) -> Grant:
        """Return a fresh session key for one channel to ``peer``."""
        return (await self.grant_from(peer))[1]

    async def grant_from(self, peer: str) -> tuple[KDCClient, Grant]:
        """The same, and which KDC gave it: only there that epoch of the peer is known."""
        return await self._first(lambda node: node.grant(peer))

    async def login(self) -> KDCLink:
        """Return a new connection on which we are authenticated."""
        return await self._in_turn(lambda node: node.login())

    async def register(self, address: str, port: int, invitation: bytes = b"") -> int:
        """Take our name; returns once a KDC has it on disk.

        Asked of one at a time, the next only when there will be no answer: whoever has made
        it and could not say so is no harm, since the keys are the same.
        """
        return await self._in_turn(lambda node: node.register(address, port, invitation))

    def close(self) -> None:
        for node in self._sorted:
            node.close()

    async def _in_turn(self, ask: Callable[[KDCClient], Awaitable[T]]) -> T:
        """Ask one after the other."""
        return (await self._first(ask, silence_seconds=None))[1]

    async def _first(
        self,
        ask: Callable[[KDCClient], Awaitable[T]],
        silence_seconds: float | None = SILENCE_SECONDS,
    ) -> tuple[KDCClient, T]:
        """The first good answer, and whose it is."""
        deadline = self.reactor.seconds() + _PATIENCE_SECONDS
        attempt = 0
        while True:
            asked = _Round(self.reactor, self._order, ask, silence_seconds)
            try:
                node, answer = await asked.run()
            except _Dropped:
                pause = retry.backoff(attempt)
                attempt += 1
                if self.reactor.seconds() + pause > deadline:
                    raise
                await deferLater(self.reactor, pause)
            except KDCError:
                self._stick_to(asked.told_by)
                raise
            else:
                self._stick_to(node)
                return node, answer

    def _stick_to(self, node: KDCClient | None) -> None:
        if node is None:
            return
        self._order.remove(node)
        self._order.insert(0, node)


class _Round:
    """Each KDC is asked once, until one answers."""

    def __init__(
        self,
        reactor: Any,
        nodes: Iterable[KDCClient],
        ask: Callable[[KDCClient], Awaitable[Any]],
        silence_seconds: float | None,
    ) -> None:
        self._left = list(nodes)
        self._ask = ask
        self._silence_seconds = silence_seconds
        self._silent = Deadline(reactor)
        self._asked: list[Deferred[Any]] = []
        self._answers: list[tuple[KDCClient, Any]] = []
        self._errors: list[tuple[KDCClient, KDCError]] = []
        self._refusals = 0
        self._failed: Exception | None = None
        self.told_by: KDCClient | None = None  # whose error it is, if it ends in one
        self._ended = False
        self._more = Waiters()

    async def run(self) -> tuple[KDCClient, Any]:
        """Raises `KDCError`: the one that is final, or the one that says most."""
        try:
            self._next()
            while not self._over:
                await self._more.wait()
        finally:
            self._ended = True
            self._silent.end()
            for each in list(self._asked):
                each.cancel()
        if self._answers:
            return self._answers[0]
        if self._failed is not None:
            raise self._failed
        self.told_by, error = min(self._errors, key=lambda each: _rank(each[1]))
        raise _among(error, [other for _, other in self._errors])

    @property
    def _over(self) -> bool:
        return bool(self._answers) or self._failed is not None or not (self._left or self._asked)

    def _next(self) -> None:
        """Ask one more, besides those that have been asked."""
        if not self._left or self._over or self._ended:
            return
        node = self._left.pop(0)
        if self._silence_seconds is not None and self._left:
            self._silent.within(self._silence_seconds, self._next)
        asking: Deferred[Any] = Deferred.fromCoroutine(_awaited(self._ask(node)))
        if not asking.called:
            self._asked.append(asking)
        _ = asking.addCallbacks(
            self._answered, self._refused, callbackArgs=(node, asking), errbackArgs=(node, asking)
        )

    def _answered(self, answer: Any, node: KDCClient, asking: Deferred[Any]) -> None:
        self._done(asking)
        self._answers.append((node, answer))
        self._more.release()

    def _refused(self, failure: Failure, node: KDCClient, asking: Deferred[Any]) -> None:
        self._done(asking)
        if self._ended:
            return
        error = cast(KDCError, failure.value)
        self._refusals += isinstance(error, AuthenticationRefused)
        if self._is_final(error):
            self._failed, self.told_by = error, node
        else:
            self._errors.append((node, error))
            self._next()
        self._more.release()

    def _done(self, asking: Deferred[Any]) -> None:
        if asking in self._asked:
            self._asked.remove(asking)

    def _is_final(self, error: Exception) -> bool:
        if isinstance(error, AuthenticationRefused):
            # Only to a proof is there another answer elsewhere, if a KDC has not heard of us.
            own = isinstance(error, NameTaken) or error.kind is not None
            return own or self._refusals >= _MOST_REFUSALS
        return not isinstance(error, _NEXT)


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _rank(error: KDCError) -> int:
    return next(rank for rank, kind in enumerate(_NEXT) if isinstance(error, kind))


def _among(error: KDCError, errors: Sequence[KDCError]) -> KDCError:
    """What says most of ``errors``; where nobody answers, what all of them do instead."""
    if not isinstance(error, KDCUnreachable):
        return error
    texts = dict.fromkeys(map(str, sorted(errors, key=_rank)))
    return type(error)("; ".join(texts), hint=error.hint, kind=error.kind)
