"""The KDC as the console commands run it: in the foreground, or in the background until stopped."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kdc.admin.wire import ask, connect, peer_process
from kdc.commands.hints import complain
from kdc.errors import ErrorKind, KDCError, LocalIOError, local_error
from kdc.files.opening import open_regular
from kdc.terminal import say

__all__ = ["serve", "start_in_background", "stop"]

_READY = b"ready"
_STOP_SECONDS = 120.0


def serve(
    argv: Sequence[str],
    tell: Callable[[str], None] = say,
    started: Callable[[], None] = lambda: None,
    port_in_use: Callable[[], Sequence[str]] | None = None,
) -> int:
    """Run the KDC of these words until a signal ends it; ``started`` is called when it answers.

    What it has to say of itself goes to ``tell``, what goes wrong to stderr.  If somebody else
    has its port, ``port_in_use`` gives the words to go by instead.
    """
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    from kdc.commands.tap import Options, service_of
    from kdc.net.clock import use_monotonic_timers
    from kdc.net.exit_status import run_to_end, show_warnings
    from kdc.net.threads import take_short_turns
    from kdc.server.service import KDCService

    def open_ports(argv: Sequence[str]) -> KDCService:
        options = Options()
        options.parseOptions(argv)
        service = service_of(KDCService, options, reactor, failed.errback, tell)
        service.privilegedStartService()
        return service

    use_monotonic_timers(reactor)
    take_short_turns()
    failed: Deferred[NoReturn] = Deferred()
    show_warnings("kdc")
    try:
        service = open_ports(argv)
    except KDCError as error:
        if error.kind is not ErrorKind.KDC_PORT_IN_USE or port_in_use is None:
            raise
        service = open_ports(port_in_use())
    return run_to_end(
        "kdc",
        reactor,
        lambda: _serving(service, failed, started),
        serves=True,
        complain=complain,
    )


async def _serving(service: Any, failed: Any, started: Callable[[], None]) -> int:
    """Run a service until a signal cancels this, or it cannot go on."""
    try:
        service.startService()
        started()
        await failed
    finally:
        await service.stopService()
    return 0


def start_in_background(run: Callable[[Callable[[], None]], int], log: Path) -> int:
    """Let a process of its own ``run``; return 0 when it has called what it is given.

    If it ends before that, return the status that it ended with; it has said why.
    Afterwards what it says goes to ``log``.  To be called before there is a reactor.
    The new process leaves this by `SystemExit`, or by the error that it met.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _leave_terminal()
        raise SystemExit(run(lambda: _ready(writing, log)))
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        if file.read() == _READY:
            return 0
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        say(f"kdc: it was ended by signal {-code} before it was ready")
        return 128 - code
    return code or 1


def _leave_terminal() -> None:
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)


def _ready(parent: int, log: Path) -> None:
    """Tell whoever has started us; from now on there is nobody to tell anything but the log."""
    try:
        fd = open_regular(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except OSError as error:
        raise local_error(log, error) from None
    for stream in (1, 2):
        os.dup2(fd, stream)
    os.close(fd)
    try:
        os.write(parent, _READY)
    except BrokenPipeError:  # whoever has asked for us has been interrupted, and is gone
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        os.close(parent)


def stop(store: Path) -> bool:
    """Ask the KDC that has ``store`` to end, and wait until it has; false if none runs.

    Raises `LocalIOError`.
    """
    connected = connect(store)
    if connected is None:
        return False
    number = peer_process(connected)
    try:
        process = os.pidfd_open(number)
    except OSError as error:
        connected.close()
        raise local_error(Path(f"/proc/{number}"), error) from None
    try:
        # Who answers has not ended meanwhile: so the number is still that process's own.
        for _ in ask(connected, {"command": "stats"}):
            pass
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], _STOP_SECONDS)[0]:
            raise LocalIOError(
                f"the KDC, process {number}, has not ended in {_STOP_SECONDS:.0f} s",
                hint="its log may say what it waits for",
            )
    except ProcessLookupError:
        pass  # it was ending already
    finally:
        os.close(process)
    return True
