"""When a sender tries again."""

from __future__ import annotations

import io
import itertools
import math
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import KDCError, NotReceiving, TooBusy
from kdc.transfer.progress import Progress
from kdc.transfer.sender import Delivery, Interrupted
from kdc.transfer.sending import SendSettings, _Sending


class Enough(KDCError):
    """What no sender tries again after."""


class Scripted(_Sending):
    """Tries that end as the test says, and when they were made."""

    def __init__(self, clock: Clock, outcomes: list[KDCError], **settings: Any) -> None:
        super().__init__(
            client=SimpleNamespace(reactor=clock),
            settings=SendSettings(None, ("bob",), (), **settings),  # type: ignore[arg-type]
            surveyed=SimpleNamespace(once=False, things=()),  # type: ignore[arg-type]
            receiver="bob",
            got_on=lambda *_: None,
            progress=Progress("f", None, io.StringIO()),
            pace=None,
        )
        self.clock = clock
        self.outcomes = outcomes
        self.tried: list[float] = []
        self.said: list[str] = []

    async def _try(self) -> Delivery:
        self.tried.append(self.clock.seconds())
        raise self.outcomes.pop(0)

    def _say(self, line: str) -> None:
        self.said.append(line)


class PauseTests(SynchronousTestCase):
    def tries(self, *outcomes: KDCError, **settings: Any) -> list[float]:
        """When it is tried, and a last time."""
        clock = Clock()
        sending = Scripted(clock, [*outcomes, Enough("enough")], **settings)
        running = Deferred.fromCoroutine(sending.run())
        clock.pump([0.25] * 1000)
        self.failureResultOf(running, Enough)
        return sending.tried

    def test_as_long_as_the_kdc_asks_for(self) -> None:
        """Who waits for a receiver, or goes on after a cut, does not ask before he was told to."""
        busy = TooBusy("later", retry_after=40)
        for first, settings in (
            (NotReceiving("not yet"), {"wait": True}),
            (Interrupted("cut"), {"retry": True}),
        ):
            _, second, third = self.tries(first, busy, **settings)
            self.assertGreaterEqual(third - second, 40)

    def test_not_at_once(self) -> None:
        """Between two tries there is a pause, which grows."""
        away = [NotReceiving("not yet") for _ in range(6)]
        tried = self.tries(*away, wait=True)
        pauses = [after - before for before, after in itertools.pairwise(tried)]
        self.assertGreater(min(pauses), 0)
        self.assertGreater(max(pauses[3:]), max(pauses[:1]))

    def test_patience(self) -> None:
        """A receiver without room is tried for a minute; under --wait for ever, or so long."""
        for settings, seconds in (
            ({"retry": True}, 60.0),
            ({}, 10.0),
            ({"wait": True}, math.inf),
            ({"wait": True, "wait_seconds": 5.0}, 5.0),
        ):
            chosen = SendSettings(None, ("bob",), (), **settings)  # type: ignore[arg-type]
            self.assertEqual(chosen.patience_seconds, seconds)

    def test_held_up(self) -> None:
        """Why it takes so long is said once, and not at once."""
        clock = Clock()
        sending = Scripted(clock, [])
        for _ in range(8):
            sending._held_up.tell(TooBusy("too often", retry_after=1))
            clock.advance(0.9)
        self.assertEqual(sending.said, ["bob: too often; it may be busy: trying on"])

    def test_no_patience_asked_for(self) -> None:
        """Without either the first refusal is the last."""
        sending = Scripted(Clock(), [TooBusy("later", retry_after=40)])
        self.failureResultOf(Deferred.fromCoroutine(sending.run()), TooBusy)
