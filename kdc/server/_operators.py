"""The running KDC's end of the local socket of ``kdc admin``; see `kdc.admin.wire`.

Only the user that runs the KDC, and root, may connect: the socket is 0600, and
the kernel says who is at the other end.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.admin.principals import READING, AdminAnswer, Context, Request, administer
from kdc.admin.wire import MAX_REQUEST, answer_line, end_line, peer_uid
from kdc.errors import ConfigurationError, KDCError
from kdc.issuing.decisions import Audit
from kdc.net.background import background
from kdc.net.log import Logger
from kdc.server._connections import KDCFactory
from kdc.server._facts import Glance
from kdc.server._last_seen import LastSeen
from kdc.server.audit_log import AuditLog
from kdc.server.certificate import ServerTLS
from kdc.store import Store

__all__ = ["AdminFactory", "More", "Operators", "lines_of"]

# Returns some more lines of an answer, and none at its end.
More: TypeAlias = Callable[[], Deferred[bytes]]

_ANSWERS_AT_ONCE = 500
_ASK_SECONDS = 10
_READ_SECONDS = 60


def lines_of(answers: Iterator[AdminAnswer]) -> bytes:
    """Return the lines of some more ``answers``; nothing if there are none."""
    return b"".join(map(answer_line, itertools.islice(answers, _ANSWERS_AT_ONCE)))


def _uid_of(transport: Any) -> int:
    return peer_uid(transport.getHandle())


@implementer(IPushProducer)
class _AdminProtocol(LineOnlyReceiver, TimeoutMixin):
    """One request and its answer."""

    log = Logger()
    delimiter = b"\n"
    MAX_LENGTH = MAX_REQUEST

    def __init__(self, factory: AdminFactory) -> None:
        self.factory = factory
        self._uid = -1
        self._listens = False
        self._gone = False
        self._reads: Deferred[None] | None = None  # waited for while the operator does not read

    def connectionMade(self) -> None:
        self._uid = self.factory.uid_of(self.transport)
        if self._uid not in (0, os.geteuid()):
            self.log.error("admin: refused user {uid}", uid=self._uid)
            cast(Any, self.transport).abortConnection()
            return
        self.factory.connections.add(self)
        self._listens = True
        self._within(_ASK_SECONDS)

    def lineReceived(self, line: bytes) -> None:
        if self._listens:
            self._listens = False
            self._within(None)
            background(self._answer(line), "an operator's command")

    def lineLengthExceeded(self, line: bytes) -> None:
        if self._listens:
            self._listens = False
            cast(Any, self.transport).write(end_line(ConfigurationError("the request is too long")))
        cast(Any, self.transport).loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        self._within(None)
        self.factory.connections.discard(self)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        """The operator does not read: make no more lines, and do not wait for ever."""
        if self._reads is None and not self._gone:
            self._reads = Deferred()
            self._within(_READ_SECONDS)

    def resumeProducing(self) -> None:
        reads, self._reads = self._reads, None
        if reads is not None:
            self._within(None)
            reads.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone, and `connectionLost` will tell."""

    def drop(self) -> None:
        cast(Any, self.transport).abortConnection()

    timeoutConnection = drop

    async def _answer(self, line: bytes) -> None:
        transport = cast(Any, self.transport)
        transport.registerProducer(self, True)
        try:
            more = self.factory.begin(_request(line), self._uid)
            while not self._gone and (lines := await more()):
                transport.write(lines)
                if self._reads is not None:
                    await self._reads
            transport.write(end_line())
        except KDCError as error:
            transport.write(end_line(error))
        finally:
            transport.unregisterProducer()
            transport.loseConnection()

    def _within(self, seconds: float | None) -> None:
        self.setTimeout(seconds)  # type: ignore[no-untyped-call]


def _request(line: bytes) -> Request:
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"not a request: {error}") from None
    return request


class AdminFactory(Factory["_AdminProtocol"]):
    """``begin`` begins to answer what a user asks; it and what it returns may raise `KDCError`."""

    noisy = False

    def __init__(
        self,
        begin: Callable[[Request, int], More],
        uid_of: Callable[[Any], int] = _uid_of,
    ) -> None:
        self.begin = begin
        self.uid_of = uid_of
        self.connections: set[_AdminProtocol] = set()

    def buildProtocol(self, addr: Any) -> _AdminProtocol:
        return _AdminProtocol(self)

    def close_all(self) -> None:
        """End every connection: the KDC stops."""
        for protocol in list(self.connections):
            protocol.drop()


@attrs.frozen(kw_only=True)
class Operators:
    """Begins what an operator asks for; the rest happens in a thread, some answers at a time.

    ``where`` tells the host and port that clients come to; ``in_reactor`` has a
    call made in the reactor's thread; ``read`` and ``write`` make one in the thread
    for what only reads the store, and in that of its writer.  ``glance`` is all there is
    to see at once.
    """

    _store: Store
    _audit: AuditLog
    _factory: KDCFactory
    _last_seen: LastSeen
    _tls: ServerTLS
    _renew_tls: Callable[[], ServerTLS]
    _where: Callable[[], tuple[str, int]]
    _in_reactor: Callable[..., None]
    _read: Callable[..., Deferred[bytes]]
    _write: Callable[..., Deferred[bytes]]
    _glance: Glance

    def begin(self, request: Request, uid: int) -> More:
        """What user ``uid`` asks for; raises `KDCError`, as may what is returned."""
        if request.get("command") == "top":
            # Little, of what belongs to this thread, and nothing of the disk.
            glance = iter((answer_line(self._glance.answer()),))
            return lambda: succeed(next(glance, b""))
        run = self._read if str(request.get("command")) in READING else self._write
        answers = administer(self._store, request, self._context(uid))
        return lambda: run(lines_of, answers)

    def _context(self, uid: int) -> Context:
        """What a command works with, in its thread.

        It must never wait for the reactor, which waits for the thread when it stops.
        """

        def audit(event: str, name: str, detail: str) -> None:
            line = Audit(event, name, "local", f"{detail} by uid {uid}".strip())
            self._in_reactor(self._audit.add, line)

        host, port = self._where()
        return Context(
            now=int(time.time()),
            random=os.urandom,
            audit=audit,
            where=lambda: (host, port, self._tls.fingerprint),
            rotate_tls=self._renewed,
            online=self._factory.issuer.realm.is_receiving,
            last_seen=self._last_seen.of,
            more_stats={
                "connections": len(self._factory),
                "receiving": self._factory.issuer.realm.epochs,
                "fingerprint": self._tls.fingerprint,
                "address": host,
                "port": port,
                "log": str(self._audit.path or ""),
            },
        )

    def _renewed(self) -> str:
        self._tls.replace_by(self._renew_tls())
        return self._tls.fingerprint
