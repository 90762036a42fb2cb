"""What twistd does not do for a command of ours: an exit status, no pid file."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python import usage

from kdc.commands.hints import complain
from kdc.errors import ExitStatus, KDCError
from kdc.net.background import background
from kdc.terminal import say as say

__all__ = ["Work", "WorkService", "ends_twistd", "leave_twistd"]


def leave_twistd(reactor: Any, status: int) -> None:
    """Stop the reactor and end the process with ``status``, which twistd itself never does."""

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)

    if status:
        atexit.register(leave)
    # Also what goes wrong before the reactor runs has to end it; it may be stopping already.
    with contextlib.suppress(ReactorNotRunning):
        reactor.callWhenRunning(reactor.stop)


@contextlib.contextmanager
def ends_twistd(program: str, twistd: Any = None) -> Iterator[None]:
    """Turn an error while twistd starts into its lines and its exit status.

    ``twistd``: its own options, once it has begun to start the service.
    """
    try:
        yield
        return
    except usage.UsageError as error:
        say(f"{program}: {error}\n  see twistd {program} --help")
        status, why = int(ExitStatus.USAGE), str(error)
    except KDCError as error:
        status, why = complain(program, error), str(error)
    if twistd is not None:
        _withdraw(twistd, why)
    raise SystemExit(status)


def _withdraw(twistd: Any, why: str) -> None:
    """What twistd does itself for errors that may show a traceback.

    The pid file would name a process that is gone; and whoever started a daemon
    waits for word from it, for ever if none comes.
    """
    if twistd["pidfile"]:
        with contextlib.suppress(OSError):
            os.unlink(twistd["pidfile"])
    pipe = twistd.get("statusPipe")
    if pipe is not None:
        os.write(pipe, f"1 {why}".encode("ascii", "backslashreplace")[:100])
        os.close(pipe)


class Work(Protocol):
    """What runs until it is closed, or cannot go on."""

    async def run(self) -> int: ...

    async def close(self) -> None: ...


class WorkService(Service):
    """``work`` as a service of twistd; it ends the process when it cannot go on."""

    def __init__(self, program: str, work: Work, reactor: Any) -> None:
        self._program = program
        self._work = work
        self._reactor = reactor

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        background(self._run(), self._program)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._work.close())

    async def _run(self) -> None:
        try:
            status = await self._work.run()
        except KDCError as error:
            status = complain(self._program, error)
        except SystemExit as leaving:  # interrupted at a question
            status = int(leaving.code or 0)
        if self.running:
            leave_twistd(self._reactor, status)
