"""From an error or a signal to an exit status, for commands and for twistd."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogBeginner
from twisted.python.failure import Failure

from kdc.errors import KDCError
from kdc.net.clock import use_monotonic_timers
from kdc.terminal import complain as complain
from kdc.terminal import say as say

__all__ = ["Defect", "complain", "run_to_end", "say", "show_warnings"]


class Defect(Exception):
    """An error that nobody foresaw, which is its cause, came out of what was run."""


def show_warnings(program: str) -> None:
    """Let what is logged as a warning or worse be seen: twistd has a log of its own, we do not."""

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.warn:
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
            say(f"{program}: {text.strip()}")

    globalLogBeginner.beginLoggingTo([cast(ILogObserver, observe)], redirectStandardIO=False)


def run_to_end(
    program: str,
    reactor: Any,
    work: Callable[[], Coroutine[Any, Any, int]],
    *,
    serves: bool = False,
    complain: Callable[[str, KDCError], int] = complain,
) -> int:
    """Run the reactor until ``work`` is done; return the exit status.

    Errors that are nobody's defect become one or two lines, by ``complain``.  SIGINT and SIGTERM
    cancel the work, so that it leaves nothing half done, and give 130 and 143 -
    or 0 for a server (``serves``), whose proper end that is.  What nobody
    foresaw is raised as `Defect`, once the reactor has stopped.  Timers follow the
    monotonic clock: a program that sets some before this has to see to that.
    """
    use_monotonic_timers(reactor)
    status: list[int] = []
    caught: list[int] = []
    defects: list[BaseException] = []

    def finish(result: int | Failure) -> None:
        if caught and not serves:
            status.append(128 + caught[0])
        elif isinstance(result, int):
            status.append(result)
        elif result.check(KDCError):
            status.append(complain(program, result.value))  # type: ignore[arg-type]
        elif isinstance(result.value, SystemExit):  # interrupted at a question
            status.append(int(result.value.code or 0))
        else:
            defects.append(cast(BaseException, result.value))
        reactor.stop()

    def begin() -> None:
        def cancel() -> None:
            running.cancel()

        # Before the work begins, which may say at once that it is ready to be interrupted.
        _catch(caught, lambda: reactor.callFromThread(cancel))
        running = Deferred.fromCoroutine(work())
        _ = running.addErrback(_cancelled).addBoth(finish)

    reactor.callWhenRunning(begin)
    reactor.run()
    if defects:
        raise Defect from defects[0]
    return status[0] if status else 128 + signal.SIGTERM


def _catch(caught: list[int], then: Callable[[], None]) -> None:
    """Note the first SIGINT or SIGTERM in ``caught``, and call ``then``."""

    def interrupt(number: int, _: Any) -> None:
        if not caught:
            caught.append(number)
            then()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def _cancelled(failure: Failure) -> int | Failure:
    return 0 if failure.check(CancelledError) else failure
