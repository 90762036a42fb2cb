"""The KDC's decisions on one connection: who is who, who gets a key, who can be reached."""

from __future__ import annotations

import attrs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from kdc.errors import Refusal, malformed
from kdc.issuing import _authentication as authentication
from kdc.issuing._guesses import Guesses
from kdc.issuing.decisions import Audit, Enrolment, Output
from kdc.issuing.issuer import EXCHANGES
from kdc.issuing.realm import everybody
from kdc.issuing.session import State
from kdc.limits import Limits, Rate, TokenBuckets
from kdc.protocol.codec import enc, frame
from kdc.protocol.crypto import verified
from kdc.protocol.messages import (
    Authenticate,
    Authenticated,
    KeyRequest,
    Refused,
    decode,
    encode,
)
from kdc.store import Delete, Replace, Status
from tests.support.core import (
    PROPERTY,
    Connection,
    CoreTestCase,
    Realm,
    Receiver,
    bodies,
    every_flipped_bit,
    keys_of,
)
from tests.support.samples import REQUESTS, SAMPLES

ALICE = keys_of("alice")


def plain_refusal(output: Output) -> Refused:
    """The 399 in clear that is all of this output."""
    (body,) = bodies(output.data)
    return decode(Refused, body)


class IssuerCase(CoreTestCase):
    def setUp(self) -> None:
        self.realm = Realm()

    def receive(self, connection: Connection, body: bytes) -> Output:
        """What a frame causes, without anything of it being done."""
        return self.realm.issuer.receive(connection.session, body, self.realm.now)

    def signed_311(self, connection: Connection) -> bytes:
        (body,) = bodies(connection.exchange.authenticate().data)
        return body

    def bob(self) -> Receiver:
        return self.realm.receiver("bob")


class StateTests(IssuerCase):
    """Protocol section 14: any request before 311; second 311; every state and message."""

    def in_state(self, state: State) -> Connection:
        if state is State.NEW:
            if self.realm.store.get("alice") is None:
                self.realm.add(ALICE)
            return self.realm.connect(ALICE)
        connection = self.realm.login(ALICE)
        connection.session.state = state
        return connection

    def test_everything_else_is_refused(self) -> None:
        """Each message that is not allowed in a state is malformed, and ends the connection."""
        for state in State:
            for message in SAMPLES:
                if (state, type(message)) in EXCHANGES:
                    continue
                connection = self.in_state(state)
                output = self.receive(connection, encode(message))
                self.assertTrue(output.close, (state, message))
                self.assertIsNone(output.write)
                self.assertIs(connection.session.state, State.SPENT)
                if state is State.NEW:
                    self.assertEqual(plain_refusal(output), Refused(Refusal.MALFORMED, 0))

    def test_the_table(self) -> None:
        """The allowed requests, and no other."""
        self.assertEqual(
            sorted((state.name, message.TYPE) for state, message in EXCHANGES),
            [
                ("AUTHENTIC", 303),
                ("AUTHENTIC", 305),
                ("AUTHENTIC", 307),
                ("NEW", 301),
                ("NEW", 311),
            ],
        )

    def test_allowed_ones_work(self) -> None:
        """The allowed ones are answered."""
        self.bob()
        new = self.realm.connect(keys_of("dave"))
        self.assertIsNone(new.refusal(new.exchange.register("", 1)))
        self.assertIsNone(new.refusal(new.exchange.authenticate()))
        self.assertIsNone(new.refusal(new.exchange.request_key("bob")[0]))
        self.assertIsNone(new.refusal(new.exchange.receive_under(bytes(32), "", 1)))
        self.assertIsNone(new.refusal(new.exchange.change(keys_of("dave", "second"), "", 1)))

    def test_nothing_before_311(self) -> None:
        """No request of an unknown client has any effect, and nothing sealed comes back."""
        for message in REQUESTS[2:]:
            connection = self.in_state(State.NEW)
            output = self.receive(connection, encode(message))
            self.assertEqual(output, Output(frame(encode(Refused(Refusal.MALFORMED, 0))), True))
        self.assertEqual(self.realm.issuer.realm.receiving, [])

    def test_second_311(self) -> None:
        """One 311 a connection, whether the first was right or wrong."""
        connection = self.in_state(State.AUTHENTIC)
        self.assertTrue(self.receive(connection, self.signed_311(connection)).close)
        for wrong in (keys_of("alice", "guess"), keys_of("nobody")):
            connection = self.realm.connect(wrong)
            self.receive(connection, self.signed_311(connection))
            again = self.receive(connection, self.signed_311(connection))
            self.assertEqual(plain_refusal(again).code, Refusal.MALFORMED)
            self.assertTrue(again.close)

    def test_broken_frames(self) -> None:
        """What is not even a frame is refused, and ends the connection."""
        for state in (State.NEW, State.AUTHENTIC):
            connection = self.in_state(state)
            output = self.realm.issuer.broken_frame(
                connection.session, malformed("a frame of 9999 bytes")
            )
            self.assertTrue(output.close)
            self.assertTrue(output.data)
            self.assertIs(connection.session.state, State.SPENT)

    @PROPERTY
    @given(st.sampled_from(SAMPLES), st.binary(max_size=250), st.booleans(), st.booleans())
    def test_any_bytes(self, like: object, data: bytes, typed: bool, authentic: bool) -> None:
        """Any bytes are answered or refused; never a traceback, never an answer too large."""
        body = getattr(like, "TYPE", 0).to_bytes(2, "big") + data if typed else data
        connection = self.in_state(State.AUTHENTIC if authentic else State.NEW)
        output = self.receive(connection, body)
        self.assertTrue(output.data)
        self.assertLess(len(output.data), 2050)
        self.assertIsNone(output.write)

    def test_every_bit(self) -> None:
        """No bit of a 311 can be changed."""
        self.realm.add(ALICE)
        probe = self.realm.connect(ALICE)
        body = self.signed_311(probe)
        for changed in every_flipped_bit(body):
            session = self.realm.issuer.connect("192.0.2.1", probe.binding)
            output = self.realm.issuer.receive(session, changed, self.realm.now)
            self.assertIn(plain_refusal(output).code, (Refusal.MALFORMED, Refusal.NOT_AUTHENTIC))
            self.assertIs(session.state, State.SPENT)
            self.realm.advance(6)  # so that no limit hides what is refused


class AuthenticationTests(IssuerCase):
    def test_accepted(self) -> None:
        """Who holds the key is told so, and with which generation of its record."""
        record = self.realm.add(ALICE)
        connection = self.realm.connect(ALICE)
        answer = connection.ask(connection.exchange.authenticate())
        self.assertEqual(answer.message, Authenticated(record.generation))
        self.assertEqual(connection.session.name, "alice")

    def test_another_connections_binding(self) -> None:
        """Protocol section 14: 311 signed over another connection's cb is refused.

        The relay: alice authenticates to an impostor, who passes her 311 on over his own link.
        """
        self.realm.add(ALICE)
        to_impostor, relay = self.realm.connect(ALICE), self.realm.connect(ALICE)
        output = self.receive(relay, self.signed_311(to_impostor))
        self.assertEqual(plain_refusal(output).code, Refusal.NOT_AUTHENTIC)
        self.assertTrue(output.close)
        self.assertIs(relay.session.state, State.SPENT)

    def test_wrong_key_and_unknown_name_look_alike(self) -> None:
        """Nobody learns whether a name exists: same bytes, same work (section 14)."""
        for name, status in (("known", Status.ACTIVE), ("off", Status.DISABLED)):
            record = self.realm.add(keys_of(name))
            changed = attrs.evolve(record, status=status)
            self.realm.apply(Replace(changed, record.generation))
        gone = self.realm.add(keys_of("gone"))
        self.realm.apply(Delete("gone", gone.generation))
        self.realm.invite("invited", b"c" * 16, 2**40)
        seen, work = set(), []
        count: list[int] = []
        real = verified

        def counting(*arguments: bytes) -> bool:
            count.append(1)
            return real(*arguments)  # type: ignore[arg-type]

        self.patch(authentication, "verified", counting)
        for name in ("known", "unknown", "off", "gone", "invited"):
            connection = self.realm.connect(keys_of(name, "guess"))
            count.clear()
            seen.add(self.receive(connection, self.signed_311(connection)))
            work.append(len(count))
            self.assertEqual(self.realm.audit[-1].detail, f"NOT_AUTHENTIC {name}")
        expected = Output(frame(encode(Refused(Refusal.NOT_AUTHENTIC, 0))), close=True)
        self.assertEqual(seen, {expected})
        self.assertEqual(work, [1] * 5)

    def test_right_key_of_one_who_may_not(self) -> None:
        """A disabled or deleted principal is refused with its right key too."""
        for name, status in (("off", Status.DISABLED), ("gone", Status.DELETED)):
            record = self.realm.add(keys_of(name))
            self.realm.apply(Replace(attrs.evolve(record, status=status), record.generation))
            connection = self.realm.connect(keys_of(name))
            refusal = connection.refusal(connection.exchange.authenticate())
            self.assertIs(refusal, Refusal.NOT_AUTHENTIC)

    def test_the_dummy_key_opens_nothing(self) -> None:
        """Unknown names are checked against a key whose secret everybody knows: in vain."""
        secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
        dummy = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
        self.assertEqual(dummy.public_key().public_bytes_raw(), authentication.NOBODY)
        record = self.realm.add(keys_of("off"))
        self.realm.apply(Replace(attrs.evolve(record, status=Status.DISABLED), record.generation))
        self.realm.invite("invited", b"c" * 16, 2**40)
        for name in ("nobody", "off", "invited"):
            connection = self.realm.connect(keys_of(name))
            draft = Authenticate(name, bytes(16), bytes(64))
            signature = dummy.sign(enc(*draft.signed("LOCAL", connection.binding)))
            output = self.receive(connection, encode(attrs.evolve(draft, signature=signature)))
            self.assertEqual(plain_refusal(output).code, Refusal.NOT_AUTHENTIC)

    def test_another_realm(self) -> None:
        """A proof for one realm is none for another, with the same keys and connection."""
        record = self.realm.add(ALICE)
        connection = self.realm.connect(ALICE)
        draft = Authenticate("alice", bytes(16), bytes(64))
        signature = ALICE.sign(*draft.signed("OTHER", connection.binding))
        output = self.receive(connection, encode(attrs.evolve(draft, signature=signature)))
        self.assertEqual(plain_refusal(output).code, Refusal.NOT_AUTHENTIC)
        self.assertEqual(self.realm.store.get("alice"), record)

    def test_nothing_sealed_before_a_valid_311(self) -> None:
        """No byte under R_X for who has proved nothing: no oracle for guesses (section 14)."""
        self.realm.add(ALICE)
        connection = self.realm.connect(keys_of("alice", "guess"))
        output = self.receive(connection, self.signed_311(connection))
        self.assertEqual(output.data, frame(encode(Refused(Refusal.NOT_AUTHENTIC, 0))))
        self.assertIsNone(connection.session._cipher)
        message = Authenticated(1)
        self.assertRaises(RuntimeError, connection.session.seal, message, bytes(16))


class RateTests(IssuerCase):
    """Protocol section 10 and 14: a flood on a name does not lock its owner out."""

    def guess(self, address: str, name: str = "alice") -> Refused:
        connection = self.realm.connect(keys_of(name, "guess"), address)
        return plain_refusal(self.receive(connection, self.signed_311(connection)))

    def test_guesses_from_one_address(self) -> None:
        """Ten wrong passphrases a minute, then the right one waits as well."""
        self.realm.add(ALICE)
        for _ in range(10):
            self.assertEqual(self.guess("192.0.2.66"), Refused(Refusal.NOT_AUTHENTIC, 0))
        self.assertEqual(self.guess("192.0.2.66"), Refused(Refusal.RATE, 6))
        right = self.realm.connect(ALICE, "192.0.2.66")
        self.assertIs(right.refusal(right.exchange.authenticate()), Refusal.RATE)
        self.realm.advance(6)
        self.assertEqual(self.guess("192.0.2.66").code, Refusal.NOT_AUTHENTIC)

    def test_one_household(self) -> None:
        """Addresses of one IPv6 /64 count as one."""
        codes = [self.guess(f"2001:db8::{n:x}").code for n in range(1, 12)]
        self.assertEqual(codes[-2:], [Refusal.NOT_AUTHENTIC, Refusal.RATE])

    def test_other_names_and_addresses(self) -> None:
        """The limit is the name's at that address: neither the name's alone nor the address's."""
        for _ in range(11):
            self.guess("192.0.2.66")
        self.assertEqual(self.guess("192.0.2.66", "carol").code, Refusal.NOT_AUTHENTIC)
        self.assertEqual(self.guess("192.0.2.67").code, Refusal.NOT_AUTHENTIC)

    def flood(self) -> None:
        for number in range(70):
            self.guess(f"198.51.100.{number}")

    def test_guesses_from_everywhere(self) -> None:
        """Sixty a minute for one name from strange addresses, however many there are."""
        codes = [self.guess(f"198.51.100.{n}").code for n in range(61)]
        self.assertEqual(codes, [Refusal.NOT_AUTHENTIC] * 60 + [Refusal.RATE])

    def test_owner_is_not_locked_out(self) -> None:
        """From where she has been before, alice comes in through any flood on her name."""
        self.realm.login(ALICE, "192.0.2.10")
        self.flood()
        self.assertEqual(self.guess("203.0.113.9").code, Refusal.RATE)
        self.realm.login(ALICE, "192.0.2.10")
        stranger = self.realm.connect(ALICE, "203.0.113.9")
        self.assertIs(stranger.refusal(stranger.exchange.authenticate()), Refusal.RATE)

    def test_owners_own_mistakes(self) -> None:
        """Her own typing errors do not use up what protects her name elsewhere."""
        self.realm.login(ALICE, "192.0.2.10")
        for _ in range(9):
            self.guess("192.0.2.10")
        codes = [self.guess(f"198.51.100.{n}").code for n in range(60)]
        self.assertEqual(codes, [Refusal.NOT_AUTHENTIC] * 60)

    def test_guesses_where_she_has_been(self) -> None:
        """Ten bad proofs from her own address do not keep her out; sixty a minute do."""
        self.realm.login(ALICE, "192.0.2.10").lose()
        for _ in range(59):
            self.assertEqual(self.guess("192.0.2.10").code, Refusal.NOT_AUTHENTIC)
        self.realm.login(ALICE, "192.0.2.10").lose()
        codes = [self.guess("192.0.2.10").code for _ in range(2)]
        self.assertEqual(codes, [Refusal.NOT_AUTHENTIC, Refusal.RATE])
        late = self.realm.connect(ALICE, "192.0.2.10")
        self.assertIs(late.refusal(late.exchange.authenticate()), Refusal.RATE)
        self.realm.advance(1)
        self.realm.login(ALICE, "192.0.2.10")

    def test_success_costs_nothing(self) -> None:
        """Who always proves himself is never limited."""
        for _ in range(100):
            connection = self.realm.login(ALICE)
            self.assertIs(connection.session.state, State.AUTHENTIC)
            connection.lose()
        self.assertEqual(self.realm.events(), ["authenticated"] * 100)

    def test_one_311_even_if_limited(self) -> None:
        """A limited connection gets no second try either."""
        for _ in range(10):
            self.guess("192.0.2.66")
        connection = self.realm.connect(ALICE, "192.0.2.66")
        self.receive(connection, self.signed_311(connection))
        self.assertIs(connection.session.state, State.SPENT)

    def test_known_addresses_are_bounded(self) -> None:
        """What is remembered of good addresses is bounded; the latest are kept."""
        self.realm.issuer.realm.guesses = Guesses(Limits(), max_known=5)
        for number in (0, 1, 2, 3, 4, 0, 5, 6, 7):
            self.realm.login(ALICE, f"192.0.2.{number}").lose()
        self.assertEqual(
            [prefix for _, prefix in self.realm.issuer.realm.guesses._known],
            [f"192.0.2.{number}" for number in (4, 0, 5, 6, 7)],
        )

    def test_new_limits_lock_nobody_out(self) -> None:
        """Limits read again in the middle of a flood: the owner is still known where she was."""
        self.realm.login(ALICE, "192.0.2.10")
        self.realm.issuer.realm.govern(
            Enrolment.OPEN, 60, Limits(failures_per_minute_per_name=20), everybody
        )
        codes = [self.guess(f"198.51.100.{n}").code for n in range(21)]
        self.assertEqual(codes, [Refusal.NOT_AUTHENTIC] * 20 + [Refusal.RATE])
        self.realm.login(ALICE, "192.0.2.10")

    def test_longest_wait(self) -> None:
        """However long there is to wait, the answer has room for it."""
        output = self.realm.connect(ALICE).session.refuse(Refusal.RATE, bytes(16), "", 10**9)
        self.assertEqual(plain_refusal(output), Refused(Refusal.RATE, 0xFFFF))

    def test_keys(self) -> None:
        """So many requests at once and so many a second, on all connections of a principal.

        What is beyond that is answered, and then nothing is read for so long.
        """
        self.realm = Realm(limits=Limits(keys_per_second=2, keys_burst=4))
        one, two = self.realm.login(ALICE), self.realm.login(ALICE)
        self.realm.advance(60)
        self.assertEqual([self.rest(each) for each in (one, two) * 3], [0] * 4 + [500, 1000])
        self.assertEqual(self.rest(self.realm.login(keys_of("carol"))), 1000)
        self.realm.advance(1)
        self.assertEqual(self.rest(one), 500)
        self.realm.advance(60)
        self.assertEqual([self.rest(one) for _ in range(5)], [0] * 4 + [500])

    def rest(self, connection: Connection, peer: str = "bob") -> int:
        """For how long nothing is read after a request for a key."""
        (body,) = bodies(connection.exchange.request_key(peer)[0].data)
        return self.receive(connection, body).rest_milliseconds

    def test_other_work(self) -> None:
        """What costs the KDC more is charged as more; a new connection wipes out no debt."""
        self.realm = Realm(limits=Limits(keys_per_second=1, keys_burst=100))
        alice = self.realm.login(ALICE)
        for sent, charge in (
            (alice.exchange.request_key("bob")[0], 1),
            (alice.exchange.receive_under(bytes(32), "", 1), 4),
            (alice.exchange.change(keys_of("alice", "x"), "", 0), 20),
        ):
            self.realm.issuer.realm.work_rate = buckets = TokenBuckets(Rate(1, 1, 100))
            self.receive(alice, bodies(sent.data)[0])
            self.assertEqual(
                buckets.charge("alice", 100, self.realm.now.milliseconds), charge * 1000
            )
        buckets.charge("alice", -15, self.realm.now.milliseconds)
        again = self.realm.connect(ALICE)
        output = self.receive(again, self.signed_311(again))
        self.assertEqual(output.rest_milliseconds, 10_000)

    def test_too_much_to_wait_for(self) -> None:
        """Whose answers would come too late is told so, and when to come again; others get in."""
        self.realm = Realm(limits=Limits(keys_per_second=1, keys_burst=1))
        self.realm.login(ALICE).lose()
        self.realm.issuer.realm.work_rate.charge("alice", 30, self.realm.now.milliseconds)
        late = self.realm.connect(ALICE)
        output = self.receive(late, self.signed_311(late))
        self.assertEqual((plain_refusal(output), output.close), (Refused(Refusal.RATE, 24), True))
        self.assertIs(late.session.state, State.SPENT)
        wrong = self.realm.connect(keys_of("alice", "wrong"))
        self.assertIs(wrong.refusal(wrong.exchange.authenticate()), Refusal.NOT_AUTHENTIC)
        self.realm.login(keys_of("carol"))
        self.realm.advance(24)
        self.realm.login(ALICE)

    def test_connections_of_one(self) -> None:
        """So many for one principal; who is too many is told, with the right key only."""
        self.realm = Realm(limits=Limits(connections_per_principal=3))
        mine = [self.realm.login(ALICE) for _ in range(3)]
        late = self.realm.connect(ALICE)
        output = self.receive(late, self.signed_311(late))
        self.assertEqual((plain_refusal(output), output.close), (Refused(Refusal.RATE, 60), True))
        counted = {"connections_per_principal": 1, "keys_per_second": 0}
        self.assertEqual(self.realm.issuer.realm.turned_away, counted)
        wrong = self.realm.connect(keys_of("alice", "wrong"))
        self.assertIs(wrong.refusal(wrong.exchange.authenticate()), Refusal.NOT_AUTHENTIC)
        self.realm.login(keys_of("carol"))
        mine[0].lose()
        self.realm.login(ALICE)
        self.assertEqual(self.realm.issuer.realm.turned_away, counted)


class AuditTests(IssuerCase):
    def test_a_line_for_each_event(self) -> None:
        """What happened, to whom, from where: in the order it happened."""
        bob = self.realm.connect(keys_of("bob"), "192.0.2.2")
        bob.ask(bob.exchange.register("", 60000))
        bob.ask(bob.exchange.authenticate())
        receiver = Receiver(bob)
        receiver.begin()
        alice = self.realm.login(ALICE, "192.0.2.1")
        alice.grant("bob")
        alice.refusal(alice.exchange.request_key("nobody")[0])
        bob.lose()
        self.assertEqual(
            self.realm.audit,
            [
                Audit("registered", "bob", "192.0.2.2"),
                Audit("authenticated", "bob", "192.0.2.2"),
                Audit("epoch-begun", "bob", "192.0.2.2", "192.0.2.2 60000"),
                Audit("authenticated", "alice", "192.0.2.1"),
                Audit("issued", "alice", "192.0.2.1", "bob"),
                Audit("refused", "alice", "192.0.2.1", "UNKNOWN_PRINCIPAL nobody"),
                Audit("epoch-ended", "bob", "192.0.2.2", "disconnected"),
            ],
        )

    def test_superseded(self) -> None:
        """A second receiver under one name shows, with the first one's address."""
        self.bob()
        second = self.realm.login(keys_of("bob"), "203.0.113.7")
        second.ask(second.exchange.receive_under(bytes(32), "", 7))
        self.assertEqual(
            self.realm.audit[-2:],
            [
                Audit("epoch-begun", "bob", "203.0.113.7", "203.0.113.7 7"),
                Audit("superseded", "bob", "192.0.2.1"),
            ],
        )

    def test_unproven(self) -> None:
        """Lines that anybody can cause are marked, so that a flood of them can be limited."""
        wrong = self.realm.connect(keys_of("alice", "guess"))
        wrong.refusal(wrong.exchange.authenticate())
        self.receive(self.realm.connect(ALICE), b"nonsense")
        alice = self.realm.login(ALICE)
        alice.refusal(alice.exchange.request_key("nobody")[0])
        self.assertEqual(
            [(line.event, line.unproven) for line in self.realm.audit],
            [("refused", True), ("refused", True), ("authenticated", False), ("refused", False)],
        )

    def test_one_line_each(self) -> None:
        """Nothing a client sends can break a line or forge another one."""
        bad = KeyRequest("bob", bytes(32), bytes(16))
        body = encode(bad).replace(b"\3bob", b"\7b\nob\r\n\x1b")
        self.receive(self.realm.login(ALICE), body)
        self.receive(self.realm.connect(ALICE), (307).to_bytes(2, "big") + b"\4a\nb\0" + bytes(50))
        for line in self.realm.audit:
            self.assertTrue(line.detail.isprintable(), line)
