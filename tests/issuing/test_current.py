"""A KDC that may have missed a change of the store decides nothing."""

from __future__ import annotations

import attrs

from kdc.errors import Refusal
from kdc.issuing.current import confirmed_within
from kdc.issuing.decisions import Now
from kdc.protocol.messages import Registered
from kdc.store import Replace, Status
from kdc.store.memory import MemoryStore
from tests.support.core import Connection, CoreTestCase, Realm, keys_of

SECONDS = 10
ALICE, BOB, CAROL = keys_of("alice"), keys_of("bob"), keys_of("carol")


class Confirmed(MemoryStore):
    """A store that others can change, too; a test says when it was confirmed."""

    confirmed_milliseconds: int | None = 0  # type: ignore[assignment]


class CurrentTests(CoreTestCase):
    def setUp(self) -> None:
        self.store = Confirmed()
        self.realm = Realm(store=self.store, current=confirmed_within(self.store, 1000 * SECONDS))
        self.confirm()

    def confirm(self) -> None:
        self.store.confirmed_milliseconds = self.realm.now.milliseconds

    def every_request(self) -> list[Refusal | None]:
        """How each kind of request is refused just now: 301, 311, 307, 305, 303."""
        alice, carol = self.alice, self.realm.connect(CAROL)
        bob = self.bob
        return [
            carol.refusal(carol.exchange.register("", 1, b"")),
            carol.refusal(carol.exchange.authenticate()),
            bob.refusal(bob.exchange.receive_under(bytes(range(32)), "", 1)),
            alice.refusal(alice.exchange.request_key("bob")[0]),
            alice.refusal(alice.exchange.change(keys_of("alice", "second"), "", 1)),
        ]

    @property
    def bob(self) -> Connection:
        return self.receiver.connection

    def start(self) -> None:
        self.alice = self.realm.login(ALICE)
        self.receiver = self.realm.receiver("bob")

    def test_nothing_is_decided_on_what_is_old(self) -> None:
        """Each request gets INTERNAL, soon again; connections and epochs stay as they are."""
        self.start()
        before = list(self.store)
        self.realm.advance(SECONDS + 0.001)
        self.assertEqual(self.every_request(), [Refusal.INTERNAL] * 5)
        self.assertEqual(list(self.store), before)
        self.assertTrue(self.alice.open and self.bob.open)
        self.assertEqual(self.realm.issuer.realm.receiving, ["bob"])
        refused = [line for line in self.realm.audit if line.event == "refused"]
        self.assertEqual({line.detail for line in refused}, {"INTERNAL not confirmed"})
        # Confirmed again, everything goes on where it was.
        self.confirm()
        self.assertEqual(self.every_request(), [None] * 5)

    def test_a_bound_is_reached_when_it_is_passed(self) -> None:
        """What was confirmed exactly so long ago is still good."""
        self.start()
        self.realm.advance(SECONDS)
        self.assertIsNone(self.alice.refusal(self.alice.exchange.request_key("bob")[0]))

    def test_a_name_is_registered_only_when_confirmed(self) -> None:
        """A newcomer hears "later", and then the same request is taken."""
        self.realm.advance(SECONDS + 1)
        carol = self.realm.connect(CAROL)
        self.assertIs(carol.refusal(carol.exchange.register("", 1, b"")), Refusal.INTERNAL)
        self.assertIsNone(self.store.get("carol"))
        self.confirm()
        self.assertIsInstance(carol.ask(carol.exchange.register("", 1, b"")).message, Registered)

    def test_who_was_disabled_elsewhere_gets_no_key(self) -> None:
        """A node that is cut off knows nothing of it, and gives no key after the bound."""
        self.start()
        self.realm.advance(SECONDS + 1)
        self.assertIs(
            self.alice.refusal(self.alice.exchange.request_key("bob")[0]), Refusal.INTERNAL
        )
        # Back: what had been missed comes first, then the confirmation.
        now = self.store.get("alice")
        assert now is not None
        self.store.apply([Replace(attrs.evolve(now, status=Status.DISABLED), now.generation)])
        self.confirm()
        self.assertFalse(self.alice.open)

    def test_a_store_of_one_is_always_current(self) -> None:
        """Where nobody else can change it there is nothing to wait for."""
        current = confirmed_within(MemoryStore(), 1)
        self.assertTrue(current(Now(10**9, 0)))
