"""The client's half: it believes only what its own KDC sealed for this very request."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kdc.errors import Refusal, RemoteProtocolError
from kdc.protocol.codec import frame
from kdc.protocol.crypto import ZERO_NONCE, ReplyCipher, reply_cipher
from kdc.protocol.kdc_exchange import Sent
from kdc.protocol.messages import (
    Authenticated,
    EpochEnded,
    KeyReply,
    Message,
    Receiving,
    Refused,
    Registered,
    SealedMessage,
    associated_data,
    encode,
    encode_fields,
)
from tests.support.core import (
    PROPERTY,
    Connection,
    CoreTestCase,
    Realm,
    bodies,
    every_flipped_bit,
    keys_of,
)
from tests.support.samples import REPLIES, REQUESTS, SAMPLES, SEALED


class ExchangeCase(CoreTestCase):
    def setUp(self) -> None:
        self.realm = Realm()
        self.realm.receiver("bob")
        self.realm.receiver("carol")
        self.alice = self.realm.login(keys_of("alice"))

    def cipher(self, connection: Connection, frames: int) -> ReplyCipher:
        """Seals what the KDC could seal next on a connection, ``frames`` having gone before."""
        cipher = reply_cipher(connection.keys.reply_key, connection.binding)
        cipher._count = frames
        return cipher

    def sealed(
        self,
        message: SealedMessage,
        nonce: bytes,
        *,
        peer: str = "",
        like: type[SealedMessage] | None = None,
    ) -> bytes:
        """A body as the KDC would seal it as its second on alice's connection."""
        associated = associated_data(like or type(message), "LOCAL", "alice", nonce, peer)
        ciphertext = self.cipher(self.alice, 1).seal(encode_fields(message), associated)
        return (like or type(message)).TYPE.to_bytes(2, "big") + nonce + ciphertext

    def requested(self, peer: str = "bob") -> Sent:
        sent, _ = self.alice.exchange.request_key(peer)
        return sent

    def reply_to(self, sent: Sent) -> bytes:
        """What the KDC answers."""
        self.alice.submit(sent.data)
        return self.alice.inbox.pop(0)

    def refuses(self, body: bytes, refusal: Refusal = Refusal.NOT_AUTHENTIC) -> None:
        self.assert_refused(refusal, self.alice.exchange.take, body)


class AnswerTests(ExchangeCase):
    def test_each_request_its_answer(self) -> None:
        """The answer tells which request it is for."""
        for sent, message_type in (
            (self.requested(), KeyReply),
            (self.alice.exchange.receive_under(bytes(31) + b"\1", "", 1), Receiving),
        ):
            answer = self.alice.ask(sent)
            self.assertIsInstance(answer.message, message_type)
            self.assertEqual(answer.nonce, sent.nonce)

    def test_many_under_way(self) -> None:
        """Requests can be sent without waiting; each gets its own answer."""
        sent = [self.requested(peer) for peer in ("bob", "carol") * 10]
        self.alice.submit(b"".join(s.data for s in sent))
        answers = [self.alice.answer() for _ in sent]
        self.assertEqual([a.nonce for a in answers], [s.nonce for s in sent])
        self.assertEqual(self.alice.inbox, [])

    def test_requests_behind_311(self) -> None:
        """A client may ask before it has been told who it is."""
        dave = self.realm.connect(keys_of("dave"))
        self.realm.add(dave.keys)
        sent = dave.exchange.authenticate(), dave.exchange.request_key("bob")[0]
        dave.submit(b"".join(s.data for s in sent))
        self.assertIsInstance(dave.answer().message, Authenticated)
        self.assertIsInstance(dave.answer().message, KeyReply)

    def test_nonces_and_ephemerals_are_new(self) -> None:
        """No two requests share a nonce or an ephemeral key."""
        sent = [self.requested() for _ in range(20)]
        self.assertEqual(len({s.nonce for s in sent}), 20)
        self.assertEqual(len({s.data[8:40] for s in sent}), 20)

    def test_refusals_are_answers(self) -> None:
        """A sealed refusal belongs to one request; the others go on."""
        unknown, good = self.requested("nobody"), self.requested("bob")
        self.alice.submit(unknown.data + good.data)
        refused = self.alice.answer()
        self.assertEqual(refused.nonce, unknown.nonce)
        self.assertEqual(refused.message, Refused(Refusal.UNKNOWN_PRINCIPAL, 0))
        self.assertIsInstance(self.alice.answer().message, KeyReply)


class SealTests(ExchangeCase):
    """Protocol section 14: sealed reply with another N, for another request, type, connection."""

    def test_not_sealed(self) -> None:
        """306 and 308 in clear, from an impostor with the right certificate, are not believed."""
        for message in SEALED:
            sent = self.requested()
            body = (message.TYPE).to_bytes(2, "big")
            for fields in (
                encode_fields(message),
                sent.nonce + encode_fields(message),
                sent.nonce + encode_fields(message) + bytes(16),
            ):
                self.assertRaises(RemoteProtocolError, self.alice.exchange.take, body + fields)

    def test_before_authentication_too(self) -> None:
        """Neither are they before 312: only 302 and 399 are ever plain."""
        dave = self.realm.connect(keys_of("dave"))
        for message in SEALED:
            sent = dave.exchange.authenticate()
            if not isinstance(message, Refused):
                for body in (encode(message), encode(message)[:2] + sent.nonce + bytes(40)):
                    self.assertRaises(RemoteProtocolError, dave.exchange.take, body)

    def test_every_bit(self) -> None:
        """No bit of a sealed frame can be changed: type, nonce, ciphertext."""
        sent = self.requested()
        reply = self.reply_to(sent)
        pending = dict(self.alice.exchange._pending)
        for changed in every_flipped_bit(reply):
            self.assertRaises(RemoteProtocolError, self.alice.exchange.take, changed)
            self.alice.exchange._pending = dict(pending)
            self.alice.exchange._cipher._count = 1
        self.assertIsInstance(self.alice.exchange.take(reply).message, KeyReply)

    def test_every_cut(self) -> None:
        """A sealed frame is whole or nothing."""
        reply = self.reply_to(self.requested())
        pending = dict(self.alice.exchange._pending)
        for at in range(len(reply)):
            self.assertRaises(RemoteProtocolError, self.alice.exchange.take, reply[:at])
            self.alice.exchange._pending = dict(pending)
            self.alice.exchange._cipher._count = 1

    def test_another_nonce(self) -> None:
        """The KDC's answer to one request, under the nonce of another, is refused."""
        one, two = self.requested(), self.requested()
        reply = self.reply_to(one)
        self.refuses(reply[:2] + two.nonce + reply[18:])

    def test_key_for_another_peer(self) -> None:
        """306 for carol as the answer to the request for bob is refused."""
        sent = self.requested("bob")
        self.refuses(self.sealed(SEALED[3], sent.nonce, peer="carol"))
        sent = self.requested("bob")
        self.alice.exchange._cipher._count = 1
        answer = self.alice.exchange.take(self.sealed(SEALED[3], sent.nonce, peer="bob"))
        self.assertEqual(answer.message, SEALED[3])

    def test_another_type(self) -> None:
        """308 as 306, or any other reply type, is refused, sealed as itself or as another."""
        for message, like in itertools.product(SEALED, SEALED):
            if isinstance(like, KeyReply | Refused) and type(like) is type(message):
                continue
            sent = self.requested("bob")
            self.alice.exchange._cipher._count = 1
            peer = "bob" if isinstance(like, KeyReply) else ""
            body = self.sealed(message, sent.nonce, peer=peer, like=type(like))
            self.assertRaises(RemoteProtocolError, self.alice.exchange.take, body)
        body = self.sealed(SEALED[3], self.requested("bob").nonce, peer="bob")
        relabelled = (308).to_bytes(2, "big") + body[2:]
        self.refuses(relabelled, Refusal.MALFORMED)

    def test_of_another_connection(self) -> None:
        """A reply sealed on another of alice's connections is of no use on this one."""
        other = self.realm.login(keys_of("alice"))
        sent = self.requested()
        other.submit(sent.data)
        self.refuses(other.inbox.pop())

    def test_out_of_order(self) -> None:
        """The KDC's frames open in the order it sealed them, each once."""
        one, two = self.requested(), self.requested()
        self.alice.submit(one.data + two.data)
        self.refuses(self.alice.inbox[1])

    def test_repeated(self) -> None:
        """A reply that was used answers nothing any more."""
        reply = self.reply_to(self.requested())
        self.alice.exchange.take(reply)
        self.refuses(reply, Refusal.MALFORMED)

    def test_unasked(self) -> None:
        """Nobody is answered who has not asked."""
        self.refuses(self.sealed(SEALED[3], bytes(16), peer="bob"), Refusal.MALFORMED)
        self.refuses(self.sealed(Refused(Refusal.RATE, 1), b"x" * 16), Refusal.MALFORMED)

    def test_lifetime_out_of_range(self) -> None:
        """Even a KDC with the right key cannot make a client use an absurd lifetime."""
        sent = self.requested("bob")
        fields = encode_fields(SEALED[3])
        associated = associated_data(KeyReply, "LOCAL", "alice", sent.nonce, "bob")
        bad = fields[:80] + (3601).to_bytes(4, "big") + fields[84:]
        ciphertext = self.cipher(self.alice, 1).seal(bad, associated)
        self.refuses((306).to_bytes(2, "big") + sent.nonce + ciphertext, Refusal.MALFORMED)

    @PROPERTY
    @given(st.sampled_from(SAMPLES), st.binary(max_size=80), st.booleans())
    def test_any_bytes(self, like: Message, data: bytes, typed: bool) -> None:
        """Any bytes are refused, and never with another error."""
        body = like.TYPE.to_bytes(2, "big") + data if typed else data
        self.assertRaises(RemoteProtocolError, self.alice.exchange.take, body)


class PlainTests(ExchangeCase):
    def test_refusal_before_authentication(self) -> None:
        """Before 312 a plain 399 is believed; it answers what was sent first."""
        dave = self.realm.connect(keys_of("dave"))
        sent = dave.exchange.authenticate()
        dave.exchange.request_key("bob")
        answer = dave.exchange.take(encode(Refused(Refusal.NOT_AUTHENTIC, 0)))
        self.assertEqual(answer.nonce, sent.nonce)

    def test_two_refusals_before_authentication(self) -> None:
        """Two plain 399s answer two requests, the first one first; a third answers nothing."""
        dave = self.realm.connect(keys_of("dave"))
        sent = [dave.exchange.register("", 0), dave.exchange.authenticate()]
        body = encode(Refused(Refusal.RATE, 9))
        answered = [dave.exchange.take(body).nonce for _ in sent]
        self.assertEqual(answered, [each.nonce for each in sent])
        self.assert_refused(Refusal.MALFORMED, dave.exchange.take, body)

    def test_sealed_refusal_of_what_was_not_understood(self) -> None:
        """A sealed 399 with zeros for N ends the connection, and says what it was."""
        body = self.sealed(Refused(Refusal.MALFORMED, 0), ZERO_NONCE)
        error = self.assert_refused(Refusal.MALFORMED, self.alice.exchange.take, body)
        self.assertIn("did not understand", error.detail)

    def test_refusal_after_authentication(self) -> None:
        """After 312 only a sealed 399 is: an impostor cannot say that bob is not there."""
        self.requested()
        body = encode(Refused(Refusal.UNKNOWN_PRINCIPAL, 0))
        self.refuses(body, Refusal.MALFORMED)
        sent = self.requested()
        self.refuses(body[:2] + sent.nonce + body[2:])

    def test_refusal_of_nothing(self) -> None:
        """A refusal of what was never asked is an error, not an answer."""
        dave = self.realm.connect(keys_of("dave"))
        body = encode(Refused(Refusal.RATE, 9))
        self.assert_refused(Refusal.MALFORMED, dave.exchange.take, body)

    def test_registered(self) -> None:
        """302 answers a registration of this connection, by its nonce, once."""
        dave = self.realm.connect(keys_of("dave"))
        sent = dave.exchange.register("192.0.2.4", 60000)
        self.assert_refused(Refusal.MALFORMED, dave.exchange.take, encode(Registered(bytes(16), 1)))
        good = encode(Registered(sent.nonce, 1))
        self.assertEqual(dave.exchange.take(good).message, Registered(sent.nonce, 1))
        self.assert_refused(Refusal.MALFORMED, dave.exchange.take, good)

    def test_registered_is_no_authentication(self) -> None:
        """302 does not answer 311."""
        dave = self.realm.connect(keys_of("dave"))
        sent = dave.exchange.authenticate()
        body = encode(Registered(sent.nonce, 1))
        self.assert_refused(Refusal.MALFORMED, dave.exchange.take, body)

    def test_nothing_plain_after_authentication(self) -> None:
        """After 312 nothing plain is taken, whatever it is and whatever is under way."""
        for message in REPLIES:
            sent = self.requested()
            self.assertRaises(RemoteProtocolError, self.alice.exchange.take, encode(message))
            named = message.TYPE.to_bytes(2, "big") + sent.nonce + encode_fields(message)
            self.assertRaises(RemoteProtocolError, self.alice.exchange.take, named)

    def test_registered_after_authentication(self) -> None:
        """Not even 302, to a registration that is under way."""
        sent = self.alice.exchange.register("", 1)
        self.assertRaises(
            RemoteProtocolError, self.alice.exchange.take, encode(Registered(sent.nonce, 1))
        )

    def test_requests_are_no_replies(self) -> None:
        """Nothing that a client says is taken by a client."""
        for message in REQUESTS:
            self.assertRaises(RemoteProtocolError, self.alice.exchange.take, encode(message))


class SupersededTests(ExchangeCase):
    def test_comes_by_itself(self) -> None:
        """313 answers nothing, and is believed because it is sealed."""
        body = self.sealed(EpochEnded(b"e" * 16), ZERO_NONCE)
        answer = self.alice.exchange.take(body)
        self.assertIsNone(answer.nonce)
        self.assertEqual(answer.message, EpochEnded(b"e" * 16))

    def test_not_sealed(self) -> None:
        """Nobody else can make a receiver stop."""
        body = (313).to_bytes(2, "big") + ZERO_NONCE
        self.refuses(body + b"e" * 16)
        self.refuses(body + bytes(32))
        self.refuses(encode(EpochEnded(b"e" * 16)), Refusal.MALFORMED)

    def test_answers_nothing(self) -> None:
        """It does not pass for the answer to a request."""
        sent = self.requested()
        self.refuses(self.sealed(EpochEnded(b"e" * 16), sent.nonce), Refusal.MALFORMED)


class RequestTests(ExchangeCase):
    def test_frames(self) -> None:
        """Each request is one frame, and its secrets are not shown."""
        exchange = self.alice.exchange
        new = keys_of("alice", "second")
        for sent in (
            exchange.authenticate(),
            exchange.register("192.0.2.1", 1, b"c" * 16),
            exchange.change(new, "", 0),
            exchange.delete(),
            exchange.receive_under(bytes(32), "", 1),
            self.requested(),
        ):
            (body,) = bodies(sent.data)
            self.assertEqual(frame(body), sent.data)
            self.assertEqual(repr(sent), f"Sent(nonce={sent.nonce!r})")
