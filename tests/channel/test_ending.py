"""The table of a channel's ending, walked: every state with every step."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from kdc.channel._ending import (
    LINGERS,
    LOST,
    TRANSITIONS,
    UNREAD,
    WRITABLE,
    Ending,
    Step,
    after,
)
from kdc.errors import LocalProtocolError

PAIRS = list(itertools.product(Ending, Step))


class EndingTests(SynchronousTestCase):
    def test_every_state_with_every_step(self) -> None:
        """What is in no row of the table is a fault of ours, not a new state."""
        for state, step in PAIRS:
            expected = TRANSITIONS.get((state, step))
            if expected is None:
                self.assertRaises(LocalProtocolError, after, state, step)
            else:
                self.assertIs(after(state, step), expected)

    def test_one_end(self) -> None:
        """An end is sent once, after it was wished for, and confirmed once, after it was sent."""
        unasked = {Ending.OPEN}
        for state in Ending:
            sends = (state, Step.END_SENT) in TRANSITIONS
            self.assertEqual(sends, state in WRITABLE - unasked, state)
            confirmed = (state, Step.END_CONFIRMED) in TRANSITIONS
            waiting = state not in WRITABLE | LINGERS | {Ending.CONFIRMED}
            self.assertEqual(confirmed, waiting, state)

    def test_nothing_is_taken_back(self) -> None:
        """No step makes an end unsent, an application return, or lost data be read."""
        for (state, step), then in TRANSITIONS.items():
            where = (state, step)
            self.assertLessEqual(state not in WRITABLE, then not in WRITABLE, where)
            self.assertLessEqual(state in UNREAD, then in UNREAD, where)
            self.assertLessEqual(state in LOST, then in LOST, where)
            self.assertLessEqual(state in LINGERS, then in LINGERS, where)

    def test_wishes(self) -> None:
        """An application may end and leave at any time; who has left has left."""
        for state in Ending:
            self.assertIn(after(state, Step.LEAVE), UNREAD, state)
            self.assertEqual(after(state, Step.END) in UNREAD, state in UNREAD, state)
            self.assertIsNot(after(state, Step.END), Ending.OPEN)

    def test_lost(self) -> None:
        """Data counts as lost only after the application has left, and then always."""
        for state in Ending:
            self.assertEqual((state, Step.DATA_NOT_READ) in TRANSITIONS, state in UNREAD, state)
            if state in UNREAD:
                self.assertIn(after(state, Step.DATA_NOT_READ), LOST)

    def test_all_reached(self) -> None:
        """There is a way from OPEN to each state, and from each one on to an end for good."""
        ways: dict[Ending, set[Ending]] = {state: {state} for state in Ending}
        for _ in Ending:
            for (state, _step), then in TRANSITIONS.items():
                ways[state] |= ways[then]
        self.assertEqual(ways[Ending.OPEN], set(Ending))
        for state in Ending:
            self.assertIn(Ending.LINGERING_UNREAD, ways[state])
