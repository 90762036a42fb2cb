"""What twistd does not do for a command of ours: an exit status, and words that people see."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger, LoggingFile, LogLevel
from twisted.python import usage

from kdc.commands.hints import complain
from kdc.errors import ExitStatus, KDCError
from kdc.net.background import background
from kdc.terminal import say as say

__all__ = ["Shell", "Work", "WorkService", "ends_twistd", "leave_twistd", "say_in_log"]


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


def say_in_log(program: str) -> None:
    """Have what is said from now on stand in twistd's log as said by ``program``.

    twistd has put its log in the place of standard error already, and takes all that
    comes there for errors.
    """
    if isinstance(sys.stderr, LoggingFile):
        sys.stderr = LoggingFile(Logger(program), LogLevel.info, sys.stderr.encoding)


@contextlib.contextmanager
def ends_twistd(program: str, shell: Shell | None = None) -> Iterator[None]:
    """Turn an error while twistd starts into its lines and its exit status.

    ``shell``: who waits for word of the service, once twistd has begun to start it.
    """
    try:
        yield
        return
    except usage.UsageError as error:
        say(f"{program}: {error}\n  see twistd {program} --help")
        status = int(ExitStatus.USAGE)
    except KDCError as error:
        status = complain(program, error)
        if shell is not None:
            shell.refused(functools.partial(complain, program, error), status)
    raise SystemExit(status)


class Shell:
    """Whoever has started twistd, and waits for word whether the service runs.

    To be made before twistd becomes a daemon.  A daemon has no terminal any more; its parent
    still has, but says ``An error has occurred: b'...'`` with the first hundred bytes of it.
    """

    def __init__(self, twistd: Any) -> None:
        self._twistd = twistd
        self._stderr = -1
        if not twistd["nodaemon"]:
            with contextlib.suppress(OSError):
                self._stderr = os.dup(2)
                vars(sys)["__stderr__"] = _Parent(sys.__stderr__)

    def started(self) -> None:
        """Nothing more is to be said there: who reads it may wait for its end."""
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1

    def refused(self, complain: Callable[[], object], status: int) -> None:
        """Have ``complain`` say there, too, what has gone to the log, and give the status.

        What twistd itself does for errors that may show a traceback is done here: the
        pid file would name a process that is gone, and the parent waits for word.
        """
        if self._twistd["pidfile"]:
            with contextlib.suppress(OSError):
                os.unlink(self._twistd["pidfile"])
        if self._stderr >= 0:
            with os.fdopen(self._stderr, "w") as there, contextlib.redirect_stderr(there):
                complain()
            self._stderr = -1
        pipe = self._twistd.get("statusPipe")
        if pipe is not None:
            os.write(pipe, f"1 {_SAID}{status}.".encode())
            os.close(pipe)


_SAID = "said already, with status "


class _Parent:
    """Standard error of twistd's parent process: what the daemon has said is not said again."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        found = re.search(f"{_SAID}([0-9]+)", text)
        if found is not None:
            os._exit(int(found[1]))  # as twistd is about to do, with another status
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


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
        say_in_log(self._program)
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
