"""One connection to a peer, or none: what fails, and what is given up in the middle."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kdc.channel import _ways
from kdc.channel._ways import DIRECT_SECONDS, Ways
from kdc.protocol.relay import Reach

PLACE, RELAY = ("192.0.2.1", 60000), ("192.0.2.77", 60600)


class Made:
    """A protocol that is connected."""

    def __init__(self) -> None:
        self.transport = self
        self.aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class _Ordered(dict[Any, Any]):
    """What is dialled; ``late`` is what was while ``first`` went on."""

    def __init__(self, first: Deferred[Any]) -> None:
        super().__init__()
        self.first = first
        self.late: list[Any] = []

    def __setitem__(self, place: Any, dialled: Any) -> None:
        if not self.first.called:
            self.late.append(place)
        super().__setitem__(place, dialled)


class WaysTests(SynchronousTestCase):
    """Each connection is a Deferred that the test fires; so is the answer where the relay is."""

    def setUp(self) -> None:
        self.dialled: dict[Any, Deferred[Any]] = {}
        self.reactor = Clock()
        self.asked: Deferred[Any] = Deferred()
        self.patch(_ways, "place_of_relay", self._place_of_relay)
        self.begin(Reach.AUTO)

    async def _place_of_relay(self, client: object, relay: str) -> Any:
        return await self.asked

    def begin(self, reach: Reach) -> None:
        ways = Ways(cast(Any, self), "bob", reach, "relay", dial=self._dial)
        self.connecting = Deferred.fromCoroutine(ways.connect(cast(Any, None), PLACE))

    def _dial(self, reactor: object, host: str, port: int, factory: object) -> Deferred[Any]:
        place = host, port
        self.dialled[place] = Deferred()
        return self.dialled[place]

    def test_what_nobody_expects(self) -> None:
        """It is raised where somebody waits, at once, whether or not there may be another way."""
        for reach in (Reach.DIRECT, Reach.RELAY):
            self.dialled[PLACE].errback(ZeroDivisionError("a defect"))
            self.failureResultOf(self.connecting, ZeroDivisionError)
            self.begin(reach)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertNotIn(RELAY, self.dialled)

    def test_given_up_before_the_relay(self) -> None:
        """What goes to the relay goes nowhere else: the first attempt has ended by then."""
        first = self.dialled[PLACE]
        self.reactor.advance(DIRECT_SECONDS)
        self.dialled = _Ordered(first)
        self.asked.callback(RELAY)
        self.assertEqual(self.dialled.late, [])
        self.assertIn(RELAY, self.dialled)

    def test_cancelled(self) -> None:
        """Whenever that is, nothing goes on."""
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.assertTrue(self.dialled[PLACE].called)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cancelled_when_it_had_come_about(self) -> None:
        """The connection came while the relay was looked for: nobody is left to have it."""
        self.reactor.advance(DIRECT_SECONDS)
        made = Made()
        self.dialled[PLACE].callback(made)
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.assertTrue(made.aborted)

    def test_refused(self) -> None:
        """What a network does leads to the relay."""
        self.dialled[PLACE].errback(ConnectionRefusedError())
        self.asked.callback(RELAY)
        made = Made()
        self.dialled[RELAY].callback(made)
        self.assertIs(self.successResultOf(self.connecting), made)
