"""301: who may take a name, with which proof, and that it is durable before it is said."""

from __future__ import annotations

import attrs

from kdc.errors import Refusal
from kdc.issuing._registration import NO_CODE
from kdc.issuing.decisions import Audit, Enrolment
from kdc.issuing.session import State
from kdc.protocol.codec import frame
from kdc.protocol.crypto import ReplyKey, invitation_proof
from kdc.protocol.kdc_exchange import Sent
from kdc.protocol.messages import Authenticated, Refused, Register, Registered, decode, encode
from kdc.store import Delete, Purge, Record, Replace, Status
from kdc.store.memory import MemoryStore
from tests.support.core import Connection, CoreTestCase, Realm, bodies, every_flipped_bit, keys_of

ALICE = keys_of("alice")
CODE = b"an invitation code"
LATER = 1_700_000_060


def request_of(sent: Sent) -> Register:
    (body,) = bodies(sent.data)
    return decode(Register, body)


def sent(request: Register) -> Sent:
    return Sent(request.nonce, frame(encode(request)))


class RegistrationCase(CoreTestCase):
    enrolment = Enrolment.OPEN

    def setUp(self) -> None:
        self.realm = Realm(enrolment=self.enrolment)

    def stranger(self, name: str = "alice", secret: str = "first") -> Connection:
        return self.realm.connect(keys_of(name, secret))

    def changes_nothing(self, connection: Connection, what: Sent, refusal: Refusal) -> None:
        """The KDC refuses, and its store is as it was."""
        before = list(self.realm.store)
        connection.submit(what.data)
        self.assertIs(decode(Refused, connection.inbox.pop()).code, refusal)
        self.assertEqual(list(self.realm.store), before)


class OpenTests(RegistrationCase):
    def test_registered(self) -> None:
        """The name is taken, with its keys and address, and can be used on the same connection."""
        alice = self.stranger()
        answer = alice.ask(alice.exchange.register("192.0.2.44", 60000))
        self.assertEqual(
            self.realm.store.get("alice"),
            Record(
                "alice",
                Status.ACTIVE,
                "192.0.2.44",
                60000,
                ALICE.verify_key,
                ALICE.reply_key,
                changed_time=1_700_000_000,
                generation=1,
            ),
        )
        self.assertEqual(answer.message, Registered(answer.nonce or b"", 1))
        self.assertEqual(alice.ask(alice.exchange.authenticate()).message, Authenticated(1))
        self.assertEqual(self.realm.events(), ["registered", "authenticated"])

    def test_address_as_seen(self) -> None:
        """Who gives no address is recorded at the one the KDC sees."""
        alice = self.stranger()
        alice.ask(alice.exchange.register("", 60000))
        record = self.realm.store.get("alice")
        self.assertEqual(record.address if record else None, "192.0.2.1")

    def test_not_before_it_is_durable(self) -> None:
        """302 goes out after the store has written, never before."""
        alice = self.stranger()
        (body,) = bodies(alice.exchange.register("", 1).data)
        output = self.realm.issuer.receive(alice.session, body, self.realm.now)
        self.assertEqual(output.data, b"")
        self.assertTrue(alice.session.state is State.WRITING)
        self.assertEqual(self.realm.audit, [])
        if output.write is None:
            self.fail("nothing to write")
        after = output.write.then(self.realm.apply(output.write.change))
        self.assertTrue(after.data)
        self.assertFalse(alice.session.state is State.WRITING)

    def test_store_unavailable(self) -> None:
        """A store that cannot write: try again later, and nothing has changed."""
        self.realm.store_available = False
        alice = self.stranger()
        answer = alice.ask(alice.exchange.register("", 1))
        self.assertEqual(answer.message, Refused(Refusal.INTERNAL, 5))
        self.assertEqual(len(self.realm.store), 0)
        self.assertTrue(alice.open)
        self.assertEqual(self.realm.audit[-1].event, "refused")
        self.realm.store_available = True
        self.assertIsNone(alice.refusal(alice.exchange.register("", 1)))

    def test_taken(self) -> None:
        """A name belongs to who has it: nobody else can register it again."""
        self.realm.add(ALICE)
        stranger = self.stranger(secret="second")
        self.changes_nothing(stranger, stranger.exchange.register("", 1), Refusal.NAME_TAKEN)
        self.assertTrue(stranger.open)

    def test_again_by_its_owner(self) -> None:
        """Who lost the answer may ask again: it is told what is so, and nothing changes."""
        record = self.realm.add(ALICE)
        alice = self.stranger()
        answer = alice.ask(alice.exchange.register("192.0.2.9", 2)).message
        self.assertEqual(getattr(answer, "generation", None), record.generation)
        self.assertEqual(self.realm.store.get("alice"), record)

    def test_half_the_keys(self) -> None:
        """The right signing key with another reply key is not the owner's registration."""
        self.realm.add(ALICE)
        other = attrs.evolve(keys_of("alice", "first"), reply_key=ReplyKey(bytes(32)))
        stranger = self.realm.connect(other)
        self.changes_nothing(stranger, stranger.exchange.register("", 1), Refusal.NAME_TAKEN)

    def test_another_signing_key(self) -> None:
        """Nor is the right reply key with a signing key of somebody else."""
        self.realm.add(ALICE)
        other = attrs.evolve(keys_of("alice", "second"), reply_key=ALICE.reply_key)
        stranger = self.realm.connect(other)
        self.changes_nothing(stranger, stranger.exchange.register("", 1), Refusal.NAME_TAKEN)

    def test_again_while_disabled(self) -> None:
        """A disabled principal is not told that all is well, with its own keys."""
        record = self.realm.add(ALICE)
        disabled = attrs.evolve(record, status=Status.DISABLED)
        self.realm.apply(Replace(disabled, record.generation))
        alice = self.stranger()
        self.changes_nothing(alice, alice.exchange.register("", 1), Refusal.NAME_TAKEN)

    def test_twice_at_once_by_its_owner(self) -> None:
        """Two programs of one new principal that start together are both registered."""
        one, two = self.stranger(), self.stranger()
        outputs = [
            self.realm.issuer.receive(
                c.session, bodies(c.exchange.register("", 1).data)[0], self.realm.now
            )
            for c in (one, two)
        ]
        for connection, output in zip((one, two), outputs, strict=True):
            self.realm.perform(connection.session, output)
            self.assertIsInstance(connection.answer().message, Registered)

    def test_taken_meanwhile(self) -> None:
        """Of two that register one name at the same time, one gets it; the other is told."""
        one, two = self.stranger(), self.stranger(secret="second")
        outputs = [
            self.realm.issuer.receive(
                c.session, bodies(c.exchange.register("", 1).data)[0], self.realm.now
            )
            for c in (one, two)
        ]
        for connection, output in zip((one, two), outputs, strict=True):
            self.realm.perform(connection.session, output)
        self.assertIsInstance(one.answer().message, Registered)
        self.assertEqual(two.answer().message, Refused(Refusal.NAME_TAKEN, 0))
        record = self.realm.store.get("alice")
        self.assertEqual(record.verify_key if record else None, ALICE.verify_key)

    def test_tombstone(self) -> None:
        """A deleted name stays reserved, until the operator frees it."""
        record = self.realm.add(ALICE)
        deleted = self.realm.apply(Delete("alice", record.generation))
        again = self.stranger(secret="second")
        self.changes_nothing(again, again.exchange.register("", 1), Refusal.NAME_TAKEN)
        generation = deleted.record.generation if deleted and deleted.record else 0
        self.realm.apply(Purge("alice", generation))
        self.assertIsNone(again.refusal(again.exchange.register("", 1)))
        new = self.realm.store.get("alice")
        self.assertGreater(new.generation if new else 0, generation)

    def test_another_connections_binding(self) -> None:
        """Protocol section 14: 301 signed over another connection's cb is refused."""
        to_impostor, relay = self.stranger(), self.stranger()
        copied = to_impostor.exchange.register("", 1)
        self.changes_nothing(relay, copied, Refusal.NOT_AUTHENTIC)
        self.assertFalse(relay.open)

    def test_key_of_somebody_else(self) -> None:
        """Nobody registers a key that he does not hold."""
        mallory = self.stranger("mallory")
        request = request_of(mallory.exchange.register("", 1))
        stolen = attrs.evolve(request, verify_key=ALICE.verify_key)
        self.changes_nothing(mallory, sent(stolen), Refusal.NOT_AUTHENTIC)

    def test_every_bit(self) -> None:
        """No bit of a 301 can be changed: the store never sees it."""
        alice = self.stranger()
        (body,) = bodies(alice.exchange.register("192.0.2.44", 1).data)
        for changed in every_flipped_bit(body):
            session = self.realm.issuer.connect("192.0.2.1", alice.binding)
            output = self.realm.issuer.receive(session, changed, self.realm.now)
            self.assertIsNone(output.write)
            self.assertTrue(output.close)
            code = decode(Refused, bodies(output.data)[0]).code
            self.assertIn(code, (Refusal.MALFORMED, Refusal.NOT_AUTHENTIC, Refusal.INVITATION))
            self.realm.advance(12)

    def test_rate(self) -> None:
        """Five a minute from one address, of any names, good or bad."""
        for number in range(5):
            stranger = self.stranger(f"name{number}")
            self.assertIsNone(stranger.refusal(stranger.exchange.register("", 1)))
        late = self.stranger("late")
        answer = late.ask(late.exchange.register("", 1))
        self.assertEqual(answer.message, Refused(Refusal.RATE, 12))
        elsewhere = self.realm.connect(keys_of("late"), "192.0.2.2")
        self.assertIsNone(elsewhere.refusal(elsewhere.exchange.register("", 1)))

    def test_invited_name_in_an_open_realm(self) -> None:
        """A name that waits for whom it was promised to is not free, even where others are."""
        self.realm.invite("alice", CODE, LATER)
        stranger = self.stranger()
        self.changes_nothing(stranger, stranger.exchange.register("", 1), Refusal.INVITATION)
        owner = self.stranger()
        self.assertIsNone(owner.refusal(owner.exchange.register("", 1, CODE)))

    def test_whether_a_name_is_taken(self) -> None:
        """A code that nobody has made asks for that: it registers nothing, and tells it."""
        self.realm.add(ALICE)
        stranger = self.stranger(secret="second")
        self.changes_nothing(stranger, stranger.exchange.register("", 1, CODE), Refusal.NAME_TAKEN)
        owner = self.stranger()
        self.assertIsNone(owner.refusal(owner.exchange.register("", 1, CODE)))
        self.assertEqual(len(self.realm.store), 1)

    def test_invitation_for_a_free_name(self) -> None:
        """Who brings a code expects to be checked: nothing to check it against is a refusal."""
        owner = self.stranger()
        self.changes_nothing(owner, owner.exchange.register("", 1, CODE), Refusal.INVITATION)


class InvitationTests(RegistrationCase):
    """Protocol section 14: invite for another name, second use, expired, copied."""

    enrolment = Enrolment.INVITE

    def setUp(self) -> None:
        super().setUp()
        self.realm.invite("alice", CODE, LATER)

    def refuses(self, what: Sent, connection: Connection) -> None:
        self.changes_nothing(connection, what, Refusal.INVITATION)
        self.assertFalse(connection.open)

    def test_invited(self) -> None:
        """Who has the code gets the name; the code is used up in the same write."""
        alice = self.stranger()
        self.assertIsNone(alice.refusal(alice.exchange.register("", 1, CODE)))
        record = self.realm.store.get("alice")
        if record is None:
            self.fail("not registered")
        self.assertIs(record.status, Status.ACTIVE)
        self.assertEqual((record.invitation, record.invitation_end_time), (b"", 0))
        self.assertEqual(record.verify_key, ALICE.verify_key)

    def test_without(self) -> None:
        """Without an invitation nobody registers, whether the name exists or not."""
        self.realm.add(keys_of("carol"))
        for name in ("alice", "carol", "dave"):
            stranger = self.stranger(name)
            self.refuses(stranger.exchange.register("", 1), stranger)
            self.realm.advance(12)

    def test_wrong_code(self) -> None:
        """A guess is refused, and ends the connection."""
        for code in (b"another code....", CODE + b"x", CODE[:-1]):
            alice = self.stranger()
            self.refuses(alice.exchange.register("", 1, code), alice)

    def test_other_name(self) -> None:
        """Alice's code opens no other name: not a free, an invited or a used one."""
        self.realm.invite("carol", b"carol's own code", LATER)
        self.realm.add(keys_of("dave"))
        for name in ("bob", "carol", "dave"):
            mallory = self.stranger(name)
            self.refuses(mallory.exchange.register("", 1, CODE), mallory)

    def test_second_use(self) -> None:
        """A code is good once, and not for a second key of its owner either."""
        alice = self.stranger()
        self.assertIsNone(alice.refusal(alice.exchange.register("", 1, CODE)))
        for secret in ("first", "second"):
            again = self.stranger(secret=secret)
            self.refuses(again.exchange.register("", 1, CODE), again)

    def test_used_at_the_same_time(self) -> None:
        """Of two that use one code at once, one gets the name."""
        one, two = self.stranger(), self.stranger(secret="second")
        outputs = [
            self.realm.issuer.receive(
                c.session, bodies(c.exchange.register("", 1, CODE).data)[0], self.realm.now
            )
            for c in (one, two)
        ]
        for connection, output in zip((one, two), outputs, strict=True):
            self.realm.perform(connection.session, output)
        self.assertIsInstance(one.answer().message, Registered)
        self.assertEqual(two.answer().message, Refused(Refusal.NAME_TAKEN, 0))
        record = self.realm.store.get("alice")
        self.assertEqual(record.verify_key if record else None, ALICE.verify_key)

    def test_expired(self) -> None:
        """A code is good until its end time, and not a second longer."""
        alice = self.stranger()
        self.realm.advance(61)
        self.refuses(alice.exchange.register("", 1, CODE), alice)
        self.realm.advance(-1)
        alice = self.stranger()
        self.assertIsNone(alice.refusal(alice.exchange.register("", 1, CODE)))

    def test_the_log_says_why(self) -> None:
        """The client is told one thing; the operator, which it was."""
        self.realm.add(keys_of("carol"))
        for name, code, why in (
            ("alice", b"another code....", "not the code of its invitation"),
            ("alice", b"", "no code"),
            ("carol", CODE, "no invitation is open"),
            ("dave", b"", "no code"),
        ):
            stranger = self.stranger(name)
            self.refuses(stranger.exchange.register("", 1, code), stranger)
            self.assertEqual(self.realm.audit[-1].detail, f"INVITATION {name}: {why}")
            self.realm.advance(12)
        self.realm.advance(61)
        alice = self.stranger()
        self.refuses(alice.exchange.register("", 1, CODE), alice)
        self.assertEqual(self.realm.audit[-1].detail, "INVITATION alice: the invitation has ended")

    def test_copied_to_another_connection(self) -> None:
        """A proof that was overheard on one connection is of no use on another."""
        alice, mallory = self.stranger(), self.stranger()
        self.refuses(alice.exchange.register("", 1, CODE), mallory)

    def test_copied_to_other_keys(self) -> None:
        """Nor for other keys, even on the same connection."""
        thief = keys_of("alice", "thief")
        for verify_key, reply_key, signer in (
            (thief.verify_key, ALICE.reply_key, thief),
            (ALICE.verify_key, thief.reply_key, ALICE),
        ):
            alice = self.stranger()
            overheard = request_of(alice.exchange.register("", 1, CODE))
            forged = attrs.evolve(overheard, verify_key=verify_key, reply_key=reply_key)
            signature = signer.sign(*forged.signed("LOCAL", alice.binding))
            self.refuses(sent(attrs.evolve(forged, signature=signature)), alice)
            self.realm.advance(12)

    def test_empty_code(self) -> None:
        """An invitation without a code, should one get into the store, lets nobody in."""
        record = self.realm.store.get("alice")
        if record is None:
            self.fail("no invitation")
        self.realm.apply(Replace(attrs.evolve(record, invitation=b""), record.generation))
        mallory = self.stranger()
        draft = request_of(mallory.exchange.register("", 1))
        proof = invitation_proof(b"", *draft.invited("LOCAL", mallory.binding))
        self.refuses(sent(attrs.evolve(draft, invitation=proof)), mallory)

    def test_proof_without_a_record(self) -> None:
        """The value that stands in for a missing code is public, and opens nothing."""
        mallory = self.stranger("bob")
        draft = request_of(mallory.exchange.register("", 1))
        proof = invitation_proof(NO_CODE, *draft.invited("LOCAL", mallory.binding))
        self.refuses(sent(attrs.evolve(draft, invitation=proof)), mallory)

    def test_signature_too(self) -> None:
        """With the code, but not with the key it registers: refused."""
        alice = self.stranger()
        request = request_of(alice.exchange.register("", 1, CODE))
        forged = attrs.evolve(request, signature=bytes(64))
        self.changes_nothing(alice, sent(forged), Refusal.NOT_AUTHENTIC)

    def test_store_unavailable(self) -> None:
        """A code is not used up by a registration that could not be written."""
        self.realm.store_available = False
        alice = self.stranger()
        self.assertIs(alice.refusal(alice.exchange.register("", 1, CODE)), Refusal.INTERNAL)
        self.realm.store_available = True
        self.assertIsNone(alice.refusal(alice.exchange.register("", 1, CODE)))


class ClosedTests(RegistrationCase):
    enrolment = Enrolment.CLOSED

    def test_nobody(self) -> None:
        """In a closed realm nobody registers, invited or not; who is there stays there."""
        self.realm.invite("alice", CODE, LATER)
        for code, name in ((b"", "dave"), (CODE, "alice"), (CODE, "dave")):
            stranger = self.stranger(name)
            self.changes_nothing(
                stranger, stranger.exchange.register("", 1, code), Refusal.INVITATION
            )
        self.realm.login(keys_of("carol"))


class RefusalAuditTests(RegistrationCase):
    def test_lines(self) -> None:
        """A refused registration is told of, and marked as anybody's doing."""
        self.realm.add(ALICE)
        stranger = self.stranger(secret="second")
        stranger.refusal(stranger.exchange.register("", 1))
        self.assertEqual(
            self.realm.audit,
            [Audit("refused", "", "192.0.2.1", "NAME_TAKEN alice", unproven=True)],
        )

    def test_realm_of_the_store(self) -> None:
        """A registration signed for another realm is refused here."""
        self.realm = Realm(store=MemoryStore("OTHER"))
        stranger = self.realm.connect(keys_of("alice", realm="LOCAL"))
        self.assertIs(stranger.refusal(stranger.exchange.register("", 1)), Refusal.NOT_AUTHENTIC)
