"""Who looks each day when its time at the KDC ends, and what it says of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kdc.channel.standing import EndWatch, warning
from kdc.client.client import KDCClient
from kdc.protocol.directory import Standing

DAY = 86400
NOW = 1_800_000_000  # 2027-01-15T08:00Z


class WarningTests(SynchronousTestCase):
    def test_when(self) -> None:
        """Within 14 days, by the clock of the KDC; not for who has no end, or whom nobody tells."""
        for end, said in (
            (None, False),
            (0, False),
            (NOW + 90 * DAY, False),
            (NOW + 14 * DAY, False),
            (NOW + 14 * DAY - 1, True),
            (NOW + 1, True),
            (NOW - 1, True),
        ):
            found = None if end is None else Standing(NOW, end)
            self.assertEqual(bool(warning(found)), said, end)

    def test_what(self) -> None:
        """How long that is, when, and what can be done about it."""
        self.assertEqual(
            warning(Standing(NOW, NOW + 9 * DAY + 5)),
            "our time at the KDC ends in 9 days, 2027-01-24T08:00Z:"
            " only the KDC's operator can move that",
        )
        for seconds, said in (
            (DAY, "in 1 day,"),
            (DAY - 1, "in 23 hours,"),
            (3600, "in 1 hour,"),
            (61, "in 1 minute,"),
            (2, "in 2 seconds,"),
            (-5, "in 0 seconds,"),
        ):
            line = warning(Standing(NOW, NOW + seconds, 90 * DAY))
            self.assertIn(said, line)
            self.assertTrue(line.endswith(": a new key moves that"), line)

    def test_no_date(self) -> None:
        """An end that no calendar has is still told."""
        self.assertIn(str(1 << 62), warning(Standing((1 << 62) - 5, 1 << 62)))


@attrs.define
class _Client:
    reactor: Clock


class EndWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[str] = []
        self.looked: list[float] = []
        self.answer: Callable[[], Deferred[Standing | None]] = lambda: succeed(
            Standing(NOW, NOW + 5)
        )

    async def look(self, client: Any) -> Standing | None:
        self.assertIs(client.reactor, self.clock)
        self.looked.append(self.clock.seconds())
        return await self.answer()

    def watch(self, chance: float) -> EndWatch:
        client = cast(KDCClient, _Client(self.clock))
        return EndWatch(client, self.told.append, look=self.look, chance=lambda: chance)

    def test_each_day(self) -> None:
        """Soon after it has begun and then once a day, not all at the same moment."""
        for chance, times in ((0.0, [300, 78060, 155820]), (0.5, [450, 86850, 173250])):
            self.looked, self.clock = [], Clock()
            watch = self.watch(chance)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            watch.begin()
            watch.begin()  # the KDC was away meanwhile
            self.clock.pump([0.0] + [30.0] * ((2 * DAY + 600) // 30))
            self.assertEqual(self.looked, times)
            watch.end()
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.told), 6)

    def test_ends(self) -> None:
        """A question that is on its way is given up with it, and nobody is told any more."""
        given_up: list[Any] = []
        self.answer = lambda: Deferred(given_up.append)
        watch = self.watch(0.0)
        watch.begin()
        self.clock.advance(300)
        self.assertEqual(len(self.looked), 1)
        watch.end()
        watch.begin()
        self.assertEqual((len(given_up), self.clock.getDelayedCalls()), (1, []))
        self.assertEqual(self.told, [])

    def test_nobody_tells(self) -> None:
        """Then nothing is said, and it is looked again the next day."""
        self.answer = lambda: succeed(None)
        watch = self.watch(0.0)
        watch.begin()
        self.clock.pump([300.0, DAY])
        self.assertEqual((len(self.looked), self.told), (2, []))
        watch.end()

    def test_defect(self) -> None:
        """An error that nobody foresaw is in the log, and the next day comes all the same."""
        self.answer = lambda: fail(ZeroDivisionError())
        watch = self.watch(0.0)
        watch.begin()
        self.clock.pump([300.0, DAY])
        self.assertEqual(len(self.looked), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        watch.end()
