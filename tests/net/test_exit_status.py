"""From an error or a signal to an exit status."""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kdc import terminal
from kdc.errors import PeerUnavailable
from kdc.net.exit_status import Defect, run_to_end


class OneTurnReactor:
    """Runs what it is given, in order, until it is stopped or has nothing left."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []
        self._stopped = False

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    callFromThread = callWhenRunning

    def run(self) -> None:
        while self._calls and not self._stopped:
            self._calls.pop(0)()

    def stop(self) -> None:
        self._stopped = True


class RunToEndTests(SynchronousTestCase):
    """`run_to_end`."""

    def setUp(self) -> None:
        self.said: list[str] = []
        self.patch(terminal, "say", self.said.append)
        for number in (signal.SIGINT, signal.SIGTERM):
            # Where nothing catches it, it must not end the tests.
            self.addCleanup(signal.signal, number, signal.signal(number, lambda *_: None))
        self.cleaned = False

    def run_work(self, work: Callable[[], Any], **how: Any) -> int:
        return run_to_end("kdcclient", OneTurnReactor(), work, **how)

    def test_timers(self) -> None:
        """Nobody who sets the clock makes a deadline longer."""

        async def work() -> int:
            return 0

        reactor: Any = OneTurnReactor()
        run_to_end("kdcclient", reactor, work)
        self.assertIs(reactor.seconds, time.monotonic)

    async def interrupted(self, number: int) -> int:
        """Work that gets a signal in its first moment, and has something to tidy up."""
        signal.raise_signal(number)
        try:
            await Deferred()
        finally:
            self.cleaned = True
        return 0

    def test_interrupted_at_once(self) -> None:
        """A signal as soon as the work begins cancels it, and it still tidies up."""
        for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            self.cleaned = False
            self.assertEqual(self.run_work(functools.partial(self.interrupted, number)), status)
            self.assertTrue(self.cleaned)

    def test_a_server(self) -> None:
        """For a server a signal is the proper end."""
        status = self.run_work(lambda: self.interrupted(signal.SIGTERM), serves=True)
        self.assertEqual((status, self.cleaned), (0, True))

    def test_defect(self) -> None:
        """What nobody foresaw is not lost: it is raised once the reactor has stopped."""
        fault = IndexError("nobody thought of it")

        async def work() -> int:
            raise fault

        error = self.assertRaises(Defect, self.run_work, work)
        self.assertIs(error.__cause__, fault)

    def test_error(self) -> None:
        """An error is said in two lines, and gives its status."""

        async def work() -> int:
            raise PeerUnavailable("bob is not there", hint="start it")

        self.assertEqual(self.run_work(work), 5)
        self.assertEqual(self.said, ["kdcclient: bob is not there\n  start it"])

    def test_status(self) -> None:
        """What the work returns is the status."""

        async def work() -> int:
            return 7

        self.assertEqual(self.run_work(work), 7)
