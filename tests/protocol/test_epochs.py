"""A receiver's epochs: how long a ticket is good, how often, and what is forgotten when."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kdc.errors import LocalProtocolError, PeerUnavailable, Refusal
from kdc.protocol.application import ApplicationKeys
from kdc.protocol.kdc_exchange import Grant
from tests.protocol.test_handshake import HandshakeCase, with_ticket
from tests.support.core import LOW_ORDER, every_flipped_bit, everyone, presentation_of


class ExpiryTests(HandshakeCase):
    """Protocol section 14: ticket after x, wall clock moved either way, after sleep."""

    def test_until_its_end(self) -> None:
        """A ticket is good for its lifetime by the receiver's clock, and not a moment longer."""
        self.assertEqual(
            self.bob.accept(self.grant().presentation().present(), later=300).sender, "alice"
        )
        self.refuses(self.grant().presentation().present(), later=300.001, because="has expired")

    def test_issued_late_in_the_epoch(self) -> None:
        """The lifetime counts from the issue, not from the epoch's beginning."""
        self.realm.advance(5000)
        grant = self.grant()
        self.assertEqual(self.bob.accept(grant.presentation().present(), later=299).sender, "alice")
        self.refuses(self.grant().presentation().present(), later=301, because="has expired")

    def test_presented_in_time(self) -> None:
        """A sender presents a key within L seconds of asking for it, by its own clock."""
        asked, grant = self.realm.now.milliseconds, self.grant()
        presentation = grant.presentation()
        end = asked + 1000 * grant.reply.lifetime_seconds
        presentation.require_in_time(end)
        error = self.assertRaises(PeerUnavailable, presentation.require_in_time, end + 1)
        self.assertIn("had expired", str(error))

    def test_clocks_on_the_wall_do_not_matter(self) -> None:
        """Ten years apart, or set back meanwhile: only the time that has passed counts."""
        self.realm.now = attrs.evolve(self.realm.now, unix_seconds=0)
        grant = self.grant()
        self.realm.now = attrs.evolve(self.realm.now, unix_seconds=4_000_000_000)
        self.assertEqual(self.bob.accept(grant.presentation().present()).sender, "alice")

    def test_counts_from_the_request(self) -> None:
        """The receiver counts from sending 307, so a slow answer makes it stricter, not laxer."""
        epoch = self.bob.epochs.current
        if epoch is None:
            self.fail("no epoch")
        epoch._began -= 2000  # the answer took two seconds
        self.refuses(self.grant().presentation().present(), later=298.5, because="has expired")
        self.assertEqual(
            self.bob.accept(self.grant().presentation().present(), later=297.5).sender, "alice"
        )


class EpochsTests(HandshakeCase):
    def test_rollover(self) -> None:
        """After a new epoch began, tickets of the one before are good until their end."""
        presents = [self.grant().presentation().present() for _ in range(3)]
        self.bob.begin()
        self.assertEqual(self.bob.accept(presents[0]).sender, "alice")
        self.assertEqual(self.bob.accept(presents[1], later=300).sender, "alice")
        self.assertEqual(
            self.bob.accept(self.grant().presentation().present(), later=299).sender, "alice"
        )
        self.refuses(presents[2], later=300.001, because="the epoch is not one of ours")

    def test_old_epoch_remembers_its_tickets(self) -> None:
        """A ticket used before the change is not good again after it."""
        present = self.grant().presentation().present()
        self.bob.accept(present)
        self.bob.begin()
        self.refuses(present, because="replay")

    def test_keys_are_forgotten(self) -> None:
        """When the old epoch's time has passed, its keys and tickets take no memory any more."""
        for _ in range(5):
            self.bob.begin()
            self.realm.advance(301)
        self.bob.begin()
        self.assertEqual(len(self.bob.epochs._retired), 1)

    def test_connection_lost(self) -> None:
        """Without its KDC a receiver still takes the senders that have a ticket."""
        first, second = (self.grant().presentation().present() for _ in range(2))
        self.bob.epochs.retire(self.bob.now())
        self.assertIsNone(self.bob.epochs.current)
        self.assertEqual(self.bob.accept(first, later=299).sender, "alice")
        self.refuses(second, later=301, because="epoch")

    def test_retiring_nothing(self) -> None:
        """A second loss changes nothing."""
        self.bob.epochs.retire(self.bob.now())
        self.bob.epochs.retire(self.bob.now(200))
        self.refuses(self.grant().presentation().present(), later=301, because="epoch")

    def test_superseded(self) -> None:
        """After 313 every key is gone at once: not even senders under way are taken."""
        presents = [self.grant().presentation().present()]
        self.bob.begin()
        presents.append(self.grant().presentation().present())
        self.bob.epochs.clear()
        for present in presents:
            self.refuses(present, because="the epoch is not one of ours")

    def test_unknown_epoch(self) -> None:
        """An epoch id of nobody's."""
        reply = attrs.evolve(self.grant().reply, epoch_id=bytes(16))
        present = presentation_of(self.grant(), reply=reply).present()
        self.refuses(present, because="the epoch is not one of ours")

    def test_full(self) -> None:
        """When no more tickets can be remembered none is taken; the next epoch takes them."""
        self.bob.begin(max_used=4)
        epoch = self.bob.epochs.current
        if epoch is None:
            self.fail("no epoch")
        for taken in range(4):
            self.assertEqual(epoch.due(self.bob.now()), taken >= 3)
            self.bob.accept(self.grant().presentation().present())
        late = self.grant().presentation().present()
        self.refuses(late, Refusal.RATE)
        self.bob.begin()
        self.refuses(late, Refusal.RATE)
        self.assertEqual(self.bob.accept(self.grant().presentation().present()).sender, "alice")

    def test_full_of_ended_tickets(self) -> None:
        """Tickets that have ended make room by themselves."""
        self.bob.begin(max_used=2)
        for _ in range(2):
            self.bob.accept(self.grant().presentation().present())
        self.realm.advance(301)
        self.assertEqual(self.bob.accept(self.grant().presentation().present()).sender, "alice")

    def test_due_once_a_day(self) -> None:
        """An epoch is renewed after a day, however little it was used."""
        epoch = self.bob.begin()
        self.assertFalse(epoch.due(self.bob.now(24 * 3600 - 1)))
        self.assertTrue(epoch.due(self.bob.now(24 * 3600)))

    def test_refusals_use_nothing_up(self) -> None:
        """A thousand refused 309s leave all the room for tickets there was."""
        self.bob.begin(max_used=1)
        present = self.grant().presentation().present()
        for _, bad in itertools.product(range(100), (bytes(48), present[-48:-16] + bytes(16))):
            self.refuses(present[:-48] + bad)
        self.assertEqual(self.bob.accept(present).sender, "alice")


class OpenTicketTests(HandshakeCase):
    """Tickets that are for an application instead of a channel: section 5.1."""

    def opened(
        self,
        grant: Grant,
        proof: bytes | None = None,
        *,
        later: float = 0,
        allow: Callable[[str], bool] = everyone,
    ) -> ApplicationKeys:
        """Hand over what ``grant`` is for; the proof is its own if none is given."""
        if proof is None:
            proof = attrs.evolve(grant).application_keys().proof
        sender, keys = self.bob.epochs.open_ticket(
            grant.reply.epoch_id,
            grant.reply.ticket,
            proof,
            now_milliseconds=self.bob.now(later),
            allow=allow,
        )
        self.assertEqual(sender, "alice")
        return keys

    def test_the_same_keys(self) -> None:
        """Both ends derive the same, under each label another key, for each grant another."""
        one, two = self.grant(), self.grant()
        ours, theirs = attrs.evolve(one).application_keys(), self.opened(one)
        self.assertEqual(ours.derive("a"), theirs.derive("a"))
        other = self.opened(two)
        self.assertEqual(
            len({keys.derive(label) for keys in (theirs, other) for label in ("a", "b")}), 4
        )

    def test_for_one_use(self) -> None:
        """A grant is for one channel or for one application, never both."""
        for first, second in itertools.product(
            (Grant.presentation, Grant.application_keys), repeat=2
        ):
            grant = self.grant()
            first(grant)
            self.assertRaises(LocalProtocolError, second, grant)

    def test_once_either_way(self) -> None:
        """At the receiver, too, a ticket is good once: for a channel, or for an application."""
        one, two = self.grant(), self.grant()
        self.opened(one)
        self.refuses(attrs.evolve(one).presentation().present(), because="replay")
        self.assert_refused(Refusal.NOT_AUTHENTIC, self.opened, one)
        self.bob.accept(attrs.evolve(two).presentation().present())
        self.assert_refused(Refusal.NOT_AUTHENTIC, self.opened, two)

    def test_a_copied_ticket_uses_nothing_up(self) -> None:
        """Whoever copies the ticket of a 309 has no proof, and the true 309 still opens."""
        grant = self.grant()
        present = attrs.evolve(grant).presentation().present()
        for proof in (b"", bytes(32), grant.reply.session_key, present[-48:-16]):
            self.assert_refused(Refusal.NOT_AUTHENTIC, self.opened, grant, proof)
        self.assertEqual(self.bob.accept(present).sender, "alice")

    def test_the_session_key_is_not_enough(self) -> None:
        """Who knows Ks and the ticket, but not e_A's private half, has neither proof nor key."""
        grant = self.grant()
        stolen = attrs.evolve(grant, ephemeral=X25519PrivateKey.from_private_bytes(b"\7" * 32))
        forged = stolen.application_keys()
        self.assert_refused(Refusal.NOT_AUTHENTIC, self.opened, grant, forged.proof)
        self.assertNotEqual(forged.derive("a"), self.opened(grant).derive("a"))

    def test_who_is_not_allowed(self) -> None:
        """The receiver's own policy is asked before the proof is looked at, and nothing is used."""
        grant = self.grant()
        asked: list[str] = []

        def nobody(name: str) -> bool:
            asked.append(name)
            return False

        self.assert_refused(Refusal.NOT_ALLOWED, self.opened, grant, bytes(32), allow=nobody)
        self.assertEqual(asked, ["alice"])
        self.opened(grant)

    def test_of_low_order(self) -> None:
        """A receiver's key of low order, from a KDC that lies, gives no keys that all can know."""
        for point in LOW_ORDER:
            grant = self.grant()
            grant.reply = attrs.evolve(grant.reply, receiver_key=point)
            self.assert_refused(Refusal.MALFORMED, grant.application_keys)

    def test_the_same_rules(self) -> None:
        """Expired, of an epoch that is over, changed: refused here as well."""
        grant = self.grant()
        self.assert_refused(Refusal.NOT_AUTHENTIC, self.opened, grant, later=300.001)
        for ticket in every_flipped_bit(grant.reply.ticket)[::5]:
            changed = with_ticket(attrs.evolve(grant), ticket)
            self.assert_refused(Refusal.NOT_AUTHENTIC, self.opened, changed)
        self.bob.begin()
        self.opened(grant, later=299)
        error = self.assert_refused(Refusal.NOT_AUTHENTIC, self.opened, grant, later=301)
        self.assertIn("the epoch is not one of ours", error.detail)

    def test_full(self) -> None:
        """It takes the same room."""
        self.bob.begin(max_used=1)
        self.opened(self.grant())
        self.assert_refused(Refusal.RATE, self.opened, self.grant())
