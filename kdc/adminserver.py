"""The local socket through which ``kdc admin`` reaches the running KDC.

One request a connection, a line of JSON; the answer is lines of JSON, the last
of which has "status".  Only the user that runs the KDC, and root, may connect:
the socket is 0600, and the kernel says who is at the other end.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from kdc.administration import Answer, Request
from kdc.background import background
from kdc.errors import ExitStatus, KDCError

__all__ = ["MAX_REQUEST", "AdminFactory", "SocketPath", "failed"]

MAX_REQUEST = 65_536
_LINES_AT_ONCE = 500
_SECONDS = 10
_LONGEST_PATH = 100  # of a unix socket's 108


class SocketPath:
    """Where the socket of a store is, as ``bind`` and ``connect`` can take it.

    A path too long for the system is reached through its directory's
    descriptor; ``close`` gives that up.
    """

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(f"{store.name}.admin")
        self._fd: int | None = None

    @property
    def usable(self) -> str:
        if len(os.fsencode(self.path)) <= _LONGEST_PATH:
            return str(self.path)
        if self._fd is None:
            self._fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self.path.name}"

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def failed(error: KDCError) -> Answer:
    """The last line of an answer that is an error."""
    return {"status": int(error.exit_status), "error": str(error), "hint": error.hint}


class _AdminProtocol(LineOnlyReceiver, TimeoutMixin):
    log = Logger()
    delimiter = b"\n"
    MAX_LENGTH = MAX_REQUEST

    def __init__(self, factory: AdminFactory) -> None:
        self.factory = factory
        self._gone = False
        self._asked = False

    def connectionMade(self) -> None:
        self._within(_SECONDS)
        uid = _peer_uid(cast(Any, self.transport).getHandle())
        if uid not in (0, os.geteuid()):
            self.log.error("admin: refused user {uid}", uid=uid)
            cast(Any, self.transport).abortConnection()

    def lineReceived(self, line: bytes) -> None:
        self._within(None)
        if not self._asked:
            self._asked = True
            background(self._answer(line), "an operator's command")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._within(None)
        self._gone = True

    async def _answer(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError("not an object")
            answers = await self.factory.perform(request)
            while not self._gone:
                some = await self.factory.run(_take, answers)
                if not some:
                    break
                for answer in some:
                    self._write(answer)
            self._write({"status": int(ExitStatus.DONE)})
        except KDCError as error:
            self._write(failed(error))
        except (ValueError, RecursionError) as error:
            self._write(failed(KDCError(f"not a request: {error}")))
        cast(Any, self.transport).loseConnection()

    def _write(self, answer: Answer) -> None:
        if not self._gone:
            cast(Any, self.transport).write(json.dumps(answer).encode() + b"\n")

    def _within(self, seconds: float | None) -> None:
        self.setTimeout(seconds)  # type: ignore[no-untyped-call]


def _take(answers: Iterator[Answer]) -> list[Answer]:
    return list(itertools.islice(answers, _LINES_AT_ONCE))


def _peer_uid(connected: socket.socket) -> int:
    """Who is at the other end, as the kernel says (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("3i")
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", raw)
    return int(uid)


class AdminFactory(Factory["_AdminProtocol"]):
    """``perform`` begins a request in the store's thread; ``run`` runs the rest of it there."""

    noisy = False

    def __init__(
        self,
        perform: Callable[[Request], Deferred[Iterator[Answer]]],
        run: Callable[..., Deferred[Any]],
    ) -> None:
        self.perform = perform
        self.run = run

    def buildProtocol(self, addr: Any) -> _AdminProtocol:
        return _AdminProtocol(self)
