"""303: new keys or the end of a name, and what must stop working afterwards."""

from __future__ import annotations

import attrs

from kdc.errors import Refusal
from kdc.issuing.decisions import Audit, Output
from kdc.issuing.session import State
from kdc.protocol.codec import frame
from kdc.protocol.crypto import LongTermKeys
from kdc.protocol.kdc_exchange import Sent
from kdc.protocol.messages import (
    Changed,
    ChangeKeys,
    Refused,
    decode,
    encode,
)
from kdc.store import Delete, Record, Replace, Status
from tests.support.core import (
    Connection,
    CoreTestCase,
    Realm,
    Receiver,
    bodies,
    every_flipped_bit,
    keys_of,
)

OLD, NEW = keys_of("alice"), keys_of("alice", "second")


def request_of(sent: Sent) -> ChangeKeys:
    (body,) = bodies(sent.data)
    return decode(ChangeKeys, body)


class ChangeCase(CoreTestCase):
    def setUp(self) -> None:
        self.realm = Realm()
        self.alice = self.realm.login(OLD)

    def record(self) -> Record:
        record = self.realm.store.get("alice")
        if record is None:
            self.fail("no record")
        return record

    def refuses(self, request: ChangeKeys, connection: Connection | None = None) -> None:
        """303 is not authentic: nothing is written, and the connection ends."""
        connection = self.alice if connection is None else connection
        before = self.record()
        connection.exchange._pending[request.nonce] = request
        connection.submit(frame(encode(request)))
        answer = connection.answer()
        self.assertEqual(answer.message, Refused(Refusal.NOT_AUTHENTIC, 0))
        self.assertEqual(self.record(), before)
        self.assertFalse(connection.open)

    def accepted(self, keys: LongTermKeys) -> bool:
        """Whether these keys open a new connection."""
        connection = self.realm.connect(keys)
        return connection.refusal(connection.exchange.authenticate()) is None


class NewKeysTests(ChangeCase):
    def test_changed(self) -> None:
        """After 304 the new keys are the only ones; the generation has grown."""
        before = self.record().generation
        answer = self.alice.ask(self.alice.exchange.change(NEW, "192.0.2.77", 61000))
        record = self.record()
        self.assertEqual(answer.message, Changed(record.generation))
        self.assertGreater(record.generation, before)
        self.assertEqual((record.verify_key, record.reply_key), (NEW.verify_key, NEW.reply_key))
        self.assertEqual((record.address, record.port), ("192.0.2.77", 61000))
        self.assertEqual(record.changed_time, 1_700_000_000)
        self.assertTrue(self.accepted(NEW))

    def test_old_key(self) -> None:
        """Protocol section 14: after 303 the old key is worth nothing."""
        self.alice.ask(self.alice.exchange.change(NEW, "", 0))
        self.assertFalse(self.accepted(OLD))

    def test_address_is_kept(self) -> None:
        """Who changes only the passphrase stays where he was."""
        record = self.record()
        moved = attrs.evolve(record, address="192.0.2.9", port=9)
        self.realm.apply(Replace(moved, record.generation))
        self.alice.ask(self.alice.exchange.change(NEW, "", 0))
        self.assertEqual((self.record().address, self.record().port), ("192.0.2.9", 9))

    def test_not_before_it_is_durable(self) -> None:
        """304 goes out after the store has written; until then the old state holds."""
        (body,) = bodies(self.alice.exchange.change(NEW, "", 0).data)
        output = self.realm.issuer.receive(self.alice.session, body, self.realm.now)
        self.assertEqual((output.data, output.close, output.others), (b"", False, ()))
        self.assertTrue(self.alice.session.state is State.WRITING)
        self.assertEqual(self.record().verify_key, OLD.verify_key)

    def test_store_unavailable(self) -> None:
        """A store that cannot write: try again later, nothing has changed, nothing ends."""
        bob = Receiver(self.alice)
        bob.begin()
        self.realm.store_available = False
        for sent in (self.alice.exchange.change(NEW, "", 0), self.alice.exchange.delete()):
            answer = self.alice.ask(sent)
            self.assertEqual(answer.message, Refused(Refusal.INTERNAL, 5))
            self.assertFalse(self.alice.session.state is State.WRITING)
        self.assertEqual(self.record().verify_key, OLD.verify_key)
        self.assertEqual(self.realm.issuer.realm.receiving, ["alice"])
        self.assertTrue(self.accepted(OLD))
        self.realm.store_available = True
        self.assertIsNone(self.alice.refusal(self.alice.exchange.change(NEW, "", 0)))


class SignatureTests(ChangeCase):
    """Protocol section 14: 303 with only one good signature, or replayed; over another cb."""

    def genuine(self, connection: Connection | None = None) -> ChangeKeys:
        exchange = (self.alice if connection is None else connection).exchange
        return request_of(exchange.change(NEW, "", 0))

    def test_only_the_old_one(self) -> None:
        """Nobody registers a key that he does not hold."""
        for wrong in (bytes(64), self.genuine().old_signature):
            self.alice = self.realm.login(OLD)
            self.refuses(attrs.evolve(self.genuine(), new_signature=wrong))

    def test_only_the_new_one(self) -> None:
        """Who took over an authenticated connection cannot take the name over."""
        for wrong in (bytes(64), self.genuine().new_signature):
            self.alice = self.realm.login(OLD)
            self.refuses(attrs.evolve(self.genuine(), old_signature=wrong))

    def test_exchanged(self) -> None:
        """Each signature is for its own place."""
        good = self.genuine()
        self.refuses(
            attrs.evolve(good, old_signature=good.new_signature, new_signature=good.old_signature)
        )

    def test_of_another_connection(self) -> None:
        """Both signatures good, but made for another connection of alice's own."""
        other = self.realm.login(OLD)
        self.refuses(self.genuine(self.alice), other)

    def test_replayed(self) -> None:
        """An old 303 sent again, when its old key is the current one again, changes nothing."""
        old = self.genuine()
        self.alice.ask(self.alice.exchange.change(NEW, "", 0))
        back = self.realm.login(NEW)
        back.ask(back.exchange.change(OLD, "", 0))
        self.refuses(old, self.realm.login(OLD))

    def test_of_somebody_else(self) -> None:
        """Mallory's own two keys change nothing of alice's, and hers nothing of his."""
        mallory = self.realm.login(keys_of("mallory"))
        request = request_of(mallory.exchange.change(keys_of("mallory", "second"), "", 0))
        self.refuses(request)
        before = self.realm.store.get("mallory")
        stolen = request_of(self.realm.login(OLD).exchange.change(NEW, "", 0))
        mallory.exchange._pending[stolen.nonce] = stolen
        mallory.submit(frame(encode(stolen)))
        self.assertEqual(mallory.answer().message, Refused(Refusal.NOT_AUTHENTIC, 0))
        self.assertEqual(self.realm.store.get("mallory"), before)

    def test_deletion_needs_one_too(self) -> None:
        """A name is not deleted by who merely has its connection."""
        request = request_of(self.alice.exchange.delete())
        self.refuses(attrs.evolve(request, old_signature=bytes(64)))

    def test_change_is_no_deletion(self) -> None:
        """The signature under a change of keys deletes nothing."""
        good = self.genuine()
        self.refuses(ChangeKeys(2, "", 0, b"", b"", good.nonce, good.old_signature, b""))

    def test_every_bit(self) -> None:
        """No bit of a 303 can be changed: the store never sees it."""
        (body,) = bodies(self.alice.exchange.change(NEW, "192.0.2.9", 1).data)
        for changed in every_flipped_bit(body):
            output = self.realm.issuer.receive(self.alice.session, changed, self.realm.now)
            self.assertTrue(output.close)
            self.assertIsNone(output.write)
            self.alice.session.state = State.AUTHENTIC


class AfterwardsTests(ChangeCase):
    """Protocol section 14: after 303 or deletion: other connections of X, old epoch's tickets."""

    def both(self) -> list[tuple[Receiver, Connection, Sent]]:
        """A receiver, another connection of it, and what ends its old keys: 303, or deletion."""
        cases = []
        for name, delete in (("bob", False), ("carol", True)):
            receiver = self.realm.receiver(name)
            other = self.realm.login(keys_of(name))
            exchange = other.exchange
            sent = exchange.delete() if delete else exchange.change(keys_of(name, "new"), "", 0)
            cases.append((receiver, other, sent))
        return cases

    def test_connections_end(self) -> None:
        """All open connections of the name end, this one after its answer."""
        for receiver, other, sent in self.both():
            answer = other.ask(sent)
            self.assertIsInstance(answer.message, Changed)
            for connection in (other, receiver.connection):
                self.assertFalse(connection.open)
                self.assertIs(connection.session.state, State.SPENT)
        self.assertTrue(self.alice.open)

    def test_ended_connections_are_dead(self) -> None:
        """Whatever is still under way on them is refused."""
        for receiver, other, sent in self.both():
            other.ask(sent)
            for connection in (other, receiver.connection):
                (body,) = bodies(connection.exchange.request_key("alice")[0].data)
                output = self.realm.issuer.receive(connection.session, body, self.realm.now)
                self.assertTrue(output.close)
                self.assertNotIn(b"\x01\x32", output.data[2:4])

    def test_epoch_ends(self) -> None:
        """No keys are issued for the old epoch any more."""
        for receiver, other, sent in self.both():
            name = receiver.connection.keys.name
            self.alice.grant(name)
            other.ask(sent)
            self.assertNotIn(name, self.realm.issuer.realm.receiving)
            request = self.alice.exchange.request_key(name)[0]
            expected = Refusal.NOT_RECEIVING if name == "bob" else Refusal.UNKNOWN_PRINCIPAL
            self.assertIs(self.alice.refusal(request), expected)

    def test_old_tickets(self) -> None:
        """A ticket of the old epoch is not taken in the one begun under the new keys."""
        _, other, sent = self.both()[0]
        present = self.alice.grant("bob").presentation().present()
        other.ask(sent)
        renewed = Receiver(self.realm.login(keys_of("bob", "new")))
        renewed.begin()
        self.assert_refused(Refusal.NOT_AUTHENTIC, renewed.accept, present)
        grant = self.alice.grant("bob")
        self.assertEqual(renewed.accept(grant.presentation().present()).sender, "alice")


class DeletionTests(ChangeCase):
    def delete(self) -> Record:
        answer = self.alice.ask(self.alice.exchange.delete())
        self.assertEqual(answer.message, Changed(self.record().generation))
        return self.record()

    def test_tombstone(self) -> None:
        """Keys and address are gone; the name, the time and the generation stay."""
        before = self.record().generation
        record = self.delete()
        self.assertEqual(
            record,
            Record("alice", Status.DELETED, changed_time=1_700_000_000, generation=before + 1),
        )

    def test_name_is_dead(self) -> None:
        """It authenticates nobody, is registered by nobody, and nobody gets a key for it."""
        self.delete()
        self.assertFalse(self.accepted(OLD))
        stranger = self.realm.connect(NEW)
        self.assertIs(stranger.refusal(stranger.exchange.register("", 1)), Refusal.NAME_TAKEN)
        carol = self.realm.login(keys_of("carol"))
        self.assertIs(
            carol.refusal(carol.exchange.request_key("alice")[0]), Refusal.UNKNOWN_PRINCIPAL
        )

    def test_gone_meanwhile(self) -> None:
        """A 303 for a record that is no more is refused, before anybody has told of its end."""
        sent = self.alice.exchange.change(NEW, "", 0)
        self.realm.store._records.clear()
        self.assertIs(self.alice.refusal(sent), Refusal.NOT_AUTHENTIC)

    def test_disabled_meanwhile(self) -> None:
        """So is one for a record that is disabled, its keys being the same."""
        off = attrs.evolve(self.record(), status=Status.DISABLED)
        self.realm.store._records["alice"] = off
        self.assertIs(
            self.alice.refusal(self.alice.exchange.change(NEW, "", 0)), Refusal.NOT_AUTHENTIC
        )


class OperatorTests(ChangeCase):
    """What the operator changes in the store holds at once, for open connections too."""

    def replace(self, **changes: object) -> None:
        record = self.record()
        changed: Record = attrs.evolve(record, **changes)  # type: ignore[arg-type]
        self.realm.apply(Replace(changed, record.generation))

    def test_disabled(self) -> None:
        """A principal that is disabled is disconnected, and its epoch is over."""
        Receiver(self.alice).begin()
        other = self.realm.login(OLD)
        self.replace(status=Status.DISABLED)
        self.assertFalse(self.alice.open or other.open)
        self.assertEqual(self.realm.issuer.realm.receiving, [])
        self.assertIn(
            Audit("epoch-ended", "alice", "192.0.2.1", "record changed"), self.realm.audit
        )

    def test_at_once(self) -> None:
        """Not a single frame is taken any more, even if the connection takes time to close."""
        disabled = attrs.evolve(self.record(), status=Status.DISABLED)
        others = self.realm.issuer.record_changed(disabled)
        self.assertEqual(others, ((self.alice.session, Output(close=True)),))
        (body,) = bodies(self.alice.exchange.receive_under(bytes(32), "", 1).data)
        self.assertTrue(self.realm.issuer.receive(self.alice.session, body, self.realm.now).close)
        self.assertEqual(self.realm.issuer.realm.receiving, [])

    def test_deleted_or_rekeyed(self) -> None:
        """So is one that is deleted, or given other keys."""
        self.replace(verify_key=NEW.verify_key, reply_key=NEW.reply_key)
        self.assertFalse(self.alice.open)
        again = self.realm.login(NEW)
        self.realm.apply(Delete("alice", self.record().generation))
        self.assertFalse(again.open)

    def test_other_changes(self) -> None:
        """A new address disturbs nobody."""
        self.replace(address="192.0.2.99")
        self.assertTrue(self.alice.open)
        self.assertIsNone(self.alice.refusal(self.alice.exchange.receive_under(bytes(32), "", 1)))

    def waiting(self) -> Output:
        """Alice's 303, on its way to the store."""
        Receiver(self.alice).begin()
        (body,) = bodies(self.alice.exchange.change(NEW, "", 0).data)
        return self.realm.issuer.receive(self.alice.session, body, self.realm.now)

    def test_disabled_while_it_changes_its_keys(self) -> None:
        """Who asks for a change at that very moment does not slip through."""
        output = self.waiting()
        self.replace(status=Status.DISABLED)
        self.assertTrue(self.alice.open)
        self.realm.perform(self.alice.session, output)
        self.assertEqual(self.alice.answer().message, Refused(Refusal.INTERNAL, 0))
        self.assertFalse(self.alice.open)
        self.assertIs(self.alice.session.state, State.SPENT)
        self.assertEqual(self.realm.issuer.realm.receiving, [])
        self.assertIs(self.record().status, Status.DISABLED)

    def test_gone_while_it_changes_its_keys(self) -> None:
        """A connection that has ended takes nothing more when the store has answered."""
        output = self.waiting()
        self.alice.lose()
        self.realm.perform(self.alice.session, output)
        self.assertEqual(self.record().verify_key, NEW.verify_key)
        self.assertIs(self.alice.session.state, State.SPENT)

    def test_disabled_while_the_store_fails(self) -> None:
        """Nor if its change then cannot be written."""
        output = self.waiting()
        self.replace(status=Status.DISABLED)
        self.realm.store_available = False
        self.realm.perform(self.alice.session, output)
        self.assertEqual(self.alice.answer().message, Refused(Refusal.INTERNAL, 5))
        self.assertFalse(self.alice.open)
        self.assertEqual(self.realm.issuer.realm.receiving, [])

    def test_moved_while_it_changes_its_keys(self) -> None:
        """A change that merely comes too late is refused, and can be tried again."""
        output = self.waiting()
        self.replace(address="192.0.2.99")
        self.realm.perform(self.alice.session, output)
        self.assertEqual(self.alice.answer().message, Refused(Refusal.INTERNAL, 0))
        self.assertEqual(self.record().verify_key, OLD.verify_key)
        self.assertIsNone(self.alice.refusal(self.alice.exchange.change(NEW, "", 0)))

    def test_two_changes_at_once(self) -> None:
        """Of two 303s from two connections one counts; the other's connection is over."""
        other = self.realm.login(OLD)
        third = keys_of("alice", "third")
        (body,) = bodies(other.exchange.change(third, "", 0).data)
        mine = self.waiting()
        theirs = self.realm.issuer.receive(other.session, body, self.realm.now)
        self.realm.perform(self.alice.session, mine)
        self.assertFalse(other.open)
        self.realm.perform(other.session, theirs)
        self.assertEqual(self.record().verify_key, NEW.verify_key)
        self.assertFalse(self.accepted(third))


class AuditTests(ChangeCase):
    def test_lines(self) -> None:
        """A change and a deletion are told of, with the epochs they ended."""
        Receiver(self.alice).begin()
        self.alice.ask(self.alice.exchange.change(NEW, "", 0))
        again = self.realm.login(NEW)
        again.ask(again.exchange.delete())
        self.assertEqual(
            self.realm.events(),
            ["authenticated", "epoch-begun", "changed", "epoch-ended", "authenticated", "deleted"],
        )
        self.assertEqual(self.realm.audit[2], Audit("changed", "alice", "192.0.2.1"))

    def test_refused(self) -> None:
        """A refused change shows under the name it was tried for."""
        request = request_of(self.alice.exchange.delete())
        self.refuses(attrs.evolve(request, old_signature=bytes(64)))
        self.assertEqual(
            self.realm.audit[-1], Audit("refused", "alice", "192.0.2.1", "NOT_AUTHENTIC change")
        )
