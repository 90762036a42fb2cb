"""A command of the user's that is run for each thing that was received, one after the other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from kdc.net.waiting import Deadline, Waiters
from kdc.terminal import harmless, shown

__all__ = ["Hook"]

MOST_SECONDS = 600.0
_MAX_WAITING = 10_000
_MAX_OUTPUT = 2000


class _Running(ProcessProtocol):
    """One run; ``ended`` fires with its exit status and the end of what it said."""

    def __init__(self) -> None:
        self.ended: Deferred[tuple[int, str]] = Deferred()
        self._output = b""

    def outReceived(self, data: bytes) -> None:
        self._output = (self._output + data)[-_MAX_OUTPUT:]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        status = 0
        if not reason.check(ProcessDone):
            status = getattr(reason.value, "exitCode", None) or 1
        self.ended.callback((status, self._output.decode(errors="replace")))


class Hook:
    """Runs ``argv``, without a shell, whatever the names of the received things are.

    The values go in as environment variables; there is nothing else but PATH.
    Failures are told to ``tell`` and change nothing.
    """

    def __init__(self, reactor: Any, argv: Sequence[str], tell: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._argv = list(argv)
        self._tell = tell
        self._waiting: deque[Mapping[str, str]] = deque()
        self._running: _Running | None = None
        self._idle = Waiters()

    def run(self, values: Mapping[str, str]) -> None:
        """Run it for ``values`` when those before are done."""
        if len(self._waiting) >= _MAX_WAITING:
            self._tell("too many hooks are waiting; one was not run")
            return
        self._waiting.append(values)
        self._next()

    async def when_idle(self) -> None:
        """Return when nothing is left to run."""
        if self._running is not None:
            await self._idle.wait()

    def _next(self) -> None:
        if self._running is not None:
            return
        if not self._waiting:
            self._idle.release()
            return
        values = self._waiting.popleft()
        running = self._running = _Running()
        environment = {"PATH": os.environ.get("PATH", os.defpath), **values}
        try:
            process = self._reactor.spawnProcess(
                running, self._argv[0], self._argv, environment, path=values.get("KDC_DIRECTORY")
            )
            process.closeStdin()
        except (OSError, ValueError) as error:
            self._finish((1, str(error)))
            return
        late = Deadline(self._reactor)
        late.within(MOST_SECONDS, lambda: _kill(process))

        def ended(result: tuple[int, str]) -> None:
            late.cancel()
            self._finish(result)

        _ = running.ended.addCallback(ended)

    def _finish(self, result: tuple[int, str]) -> None:
        status, output = result
        said = harmless(" | ".join(output.strip().splitlines()[-3:]))
        if status:
            self._tell(f"the hook {shown(self._argv[0], 4096)} failed with status {status}: {said}")
        self._running = None
        self._next()


def _kill(process: Any) -> None:
    try:
        process.signalProcess("KILL")
    except ProcessExitedAlready:
        return
