"""Messages: decode is the inverse of encode, and nothing else decodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
from hypothesis import given
from hypothesis import strategies as st

from kdc.errors import Refusal, RemoteProtocolError
from kdc.protocol.codec import MAX_FRAME
from kdc.protocol.crypto import ZERO_NONCE, ChannelBinding, SessionKey
from kdc.protocol.messages import (
    Authenticate,
    ChangeKeys,
    EpochEnded,
    KeyReplies,
    KeyReply,
    KeyRequest,
    Message,
    Receive,
    Receiving,
    Refused,
    Register,
    associated_data,
    decode,
    decode_fields,
    decode_request,
    encode,
    encode_fields,
    split_sealed,
    type_of,
)
from tests.support.core import PROPERTY, CoreTestCase
from tests.support.samples import REPLIES, REQUESTS, SAMPLES, SEALED, messages


class RoundTripTests(CoreTestCase):
    def test_samples(self) -> None:
        """Each message type survives encoding, under its own number."""
        for message in SAMPLES:
            self.assertEqual(decode(type(message), encode(message)), message)
            self.assertEqual(type_of(encode(message)), message.TYPE)
        self.assertEqual(
            {message.TYPE for message in SAMPLES},
            {301, 302, 303, 304, 305, 306, 307, 308, 311, 312, 313, 399},
        )

    @PROPERTY
    @given(messages)
    def test_any_message(self, message: Message) -> None:
        """Decoding is the inverse of encoding, for any message, within a frame."""
        body = encode(message)
        self.assertLessEqual(len(body), MAX_FRAME)
        self.assertEqual(decode(type(message), body), message)
        self.assertEqual(decode_fields(type(message), encode_fields(message)), message)
        if isinstance(message, KeyReply):
            same = KeyReplies(message.epoch_id, message.receiver_key, message.address, message.port)
            key = SessionKey(message.session_key)
            fields = same.fields(key, message.lifetime_seconds, message.ticket)
            self.assertEqual(fields, encode_fields(message))
        if message.TYPE in {request.TYPE for request in REQUESTS}:
            self.assertEqual(decode_request(body), message)

    @PROPERTY
    @given(st.sampled_from(REQUESTS), st.binary(max_size=300), st.booleans())
    def test_any_bytes(self, like: Message, data: bytes, typed: bool) -> None:
        """Any bytes are the one encoding of a request, or malformed."""
        body = like.TYPE.to_bytes(2, "big") + data if typed else data
        try:
            self.assertEqual(encode(decode_request(body)), body)
        except RemoteProtocolError as error:
            self.assertIs(error.refusal, Refusal.MALFORMED)

    @PROPERTY
    @given(st.sampled_from(SAMPLES), st.data())
    def test_any_damage(self, message: Message, data: st.DataObject) -> None:
        """A damaged message is another message's one encoding, or malformed; never a traceback."""
        body = bytearray(encode_fields(message))
        for at in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
            body[at] = data.draw(st.integers(0, 255))
        try:
            found = decode_fields(type(message), bytes(body))
        except RemoteProtocolError as error:
            self.assertIs(error.refusal, Refusal.MALFORMED)
        else:
            self.assertEqual(encode_fields(found), bytes(body))


class StrictnessTests(CoreTestCase):
    """Protocol section 14: names and frames not canonical, over the limit, empty, short, long."""

    def test_every_cut(self) -> None:
        """No message is valid with any number of bytes missing at its end."""
        for message in SAMPLES:
            body = encode(message)
            for at in range(len(body)):
                self.assert_refused(Refusal.MALFORMED, decode, type(message), body[:at])

    def test_every_tail(self) -> None:
        """No message is valid with a byte behind it."""
        for message, tail in itertools.product(SAMPLES, (b"\0", b"\xff", b"\r\n")):
            self.assert_refused(Refusal.MALFORMED, decode, type(message), encode(message) + tail)

    def test_no_other_type(self) -> None:
        """A message is never taken for another type, whatever its length."""
        for message, other in itertools.product(SAMPLES, SAMPLES):
            if type(message) is not type(other):
                self.assert_refused(Refusal.MALFORMED, decode, type(other), encode(message))

    def test_replies_are_no_requests(self) -> None:
        """What the KDC says is nothing that can be said to it."""
        for reply in REPLIES:
            self.assert_refused(Refusal.MALFORMED, decode_request, encode(reply))

    def test_unknown_numbers(self) -> None:
        """Numbers that no request has are refused, the origin's 309 and 310 too."""
        for number in (0, 1, 300, 309, 310, 314, 398, 400, 0xFFFF):
            self.assert_refused(
                Refusal.MALFORMED, decode_request, number.to_bytes(2, "big") + bytes(50)
            )

    def test_empty_and_oversized(self) -> None:
        """No byte, one byte, or more than a frame may have."""
        for body in (b"", b"\1", encode(REQUESTS[0]) + bytes(MAX_FRAME)):
            self.assert_refused(Refusal.MALFORMED, decode_request, body)
        self.assertEqual(type_of(b"\1\x2d" + bytes(MAX_FRAME - 2)), 301)
        self.assert_refused(Refusal.MALFORMED, type_of, b"\1\x2d" + bytes(MAX_FRAME - 1))

    def test_names(self) -> None:
        """There is one form of a name on the wire; whoever sends another is refused."""
        for name in (b"", b"Bob", b"b\xc3\xb6b", b".bob", b"bob\0", b"bob ", b"a" * 65, b"\xff"):
            tail = encode_fields(KeyRequest("bob", bytes(32), bytes(16)))[4:]
            body = (305).to_bytes(2, "big") + bytes([len(name)]) + name + tail
            self.assert_refused(Refusal.MALFORMED, decode_request, body)

    def test_addresses(self) -> None:
        """An address that is not the one spelling of it is refused."""
        for address in (b"localhost", b"192.0.2.01", b"2001:DB8::1", b"fe80::1%eth0", b"\xff"):
            tail = encode_fields(Receive("", 1, bytes(32), bytes(16)))[1:]
            body = (307).to_bytes(2, "big") + bytes([len(address)]) + address + tail
            self.assert_refused(Refusal.MALFORMED, decode_request, body)

    def test_lifetime(self) -> None:
        """A key's lifetime is 10 seconds to an hour; a client uses nothing outside of that."""
        samples: list[Any] = [SEALED[2], SEALED[3]]
        for sample in samples:
            for seconds in (10, 3600):
                attrs.evolve(sample, lifetime_seconds=seconds)
            for seconds in (0, 9, 3601, 2**32 - 1):
                self.assertRaises(ValueError, attrs.evolve, sample, lifetime_seconds=seconds)

    def test_ticket_size(self) -> None:
        """A ticket has 1 to 256 bytes."""
        sample: Any = SEALED[3]
        for length, allowed in ((0, False), (1, True), (256, True), (257, False)):
            fields = encode_fields(attrs.evolve(sample, ticket=b"x"))
            data = fields[:-3] + length.to_bytes(2, "big") + bytes(length)
            if allowed:
                self.assertEqual(len(decode_fields(KeyReply, data).ticket), length)
            else:
                self.assert_refused(Refusal.MALFORMED, decode_fields, KeyReply, data)

    def test_refusal_codes(self) -> None:
        """The refusals are a closed set: 1 to 10."""
        for code in range(256):
            data = bytes([code, 0, 0])
            if 1 <= code <= 10:
                self.assertEqual(decode_fields(Refused, data).code, code)
            else:
                self.assert_refused(Refusal.MALFORMED, decode_fields, Refused, data)

    def test_two_forms_of_303(self) -> None:
        """New keys and their signature belong to a change of keys, and to nothing else."""
        keys, signature = bytes(32), bytes(64)
        for op, verify, reply, new in itertools.product(
            (0, 1, 2, 3), (b"", keys), (b"", keys), (b"", signature)
        ):
            given_keys = (bool(verify), bool(reply), bool(new))
            if (op, given_keys) in ((1, (True,) * 3), (2, (False,) * 3)):
                ChangeKeys(op, "", 0, verify, reply, bytes(16), signature, new)
            else:
                self.assertRaises(
                    ValueError, ChangeKeys, op, "", 0, verify, reply, bytes(16), signature, new
                )
        # The same from the wire, where no constructor protects us.
        body = encode(ChangeKeys(1, "", 0, keys, keys, bytes(16), signature, signature))
        self.assert_refused(Refusal.MALFORMED, decode_request, body[:2] + b"\2" + body[3:])


class SealedTests(CoreTestCase):
    def test_split(self) -> None:
        """A sealed frame is type, nonce, ciphertext; shorter than that is refused."""
        body = (306).to_bytes(2, "big") + b"n" * 16 + b"sealed"
        self.assertEqual(split_sealed(body), (306, b"n" * 16, b"sealed"))
        for at in range(18):
            self.assert_refused(Refusal.MALFORMED, split_sealed, body[:at])

    def test_bound_to_everything(self) -> None:
        """Kind of message, realm, who asked, for whom and when: with any changed, no seal opens."""
        nonces = (b"1" * 16, b"2" * 16)
        found = [
            associated_data(type(message), realm, name, nonce, peer)
            for message in SEALED
            if not isinstance(message, EpochEnded)
            for realm, name, nonce in itertools.product(("R", "S"), ("a", "b"), nonces)
            for peer in (("a", "b") if isinstance(message, KeyReply) else ("",))
        ]
        found += [
            associated_data(EpochEnded, realm, name, ZERO_NONCE)
            for realm, name in itertools.product(("R", "S"), ("a", "b"))
        ]
        self.assertEqual(len(set(found)), len(found))

    def test_layout(self) -> None:
        """The associated data of protocol section 4, spelled out."""
        nonce = b"n" * 16
        self.assertEqual(
            associated_data(KeyReply, "R", "a", nonce, "b"),
            b"\0\0\0\x09kdp/1 306\0\0\0\1R\0\0\0\1a\0\0\0\1b\0\0\0\x10" + nonce,
        )
        self.assertEqual(
            associated_data(Receiving, "R", "a", nonce),
            b"\0\0\0\x09kdp/1 308\0\0\0\1R\0\0\0\1a\0\0\0\x10" + nonce,
        )
        self.assertEqual(
            associated_data(EpochEnded, "R", "a", ZERO_NONCE),
            b"\0\0\0\x09kdp/1 313\0\0\0\1R\0\0\0\1a",
        )


Proof: TypeAlias = Callable[[Any, str, ChannelBinding], tuple[bytes, ...]]


class SignedFieldsTests(CoreTestCase):
    binding = ChannelBinding(b"c" * 32)
    other_binding = ChannelBinding(b"d" * 32)

    def covers_all(self, message: Message, proof: Proof, *, except_for: tuple[str, ...]) -> None:
        """The proof changes with the realm, the connection, and each field but the given ones."""
        before = proof(message, "R", self.binding)
        self.assertNotEqual(before, proof(message, "S", self.binding))
        self.assertNotEqual(before, proof(message, "R", self.other_binding))
        for field in attrs.fields(type(message)):
            if field.name not in except_for:
                changed = _with_other(message, field.name)
                self.assertNotEqual(before, proof(changed, "R", self.binding), field.name)

    def test_registration(self) -> None:
        """Who registers signs all he sends; the invitation too is for these keys only."""
        unsigned = ("invitation", "signature")
        self.covers_all(REQUESTS[0], lambda m, r, cb: m.signed(r, cb), except_for=unsigned)
        self.covers_all(
            REQUESTS[0],
            lambda m, r, cb: m.invited(r, cb),
            except_for=("address", "port", *unsigned),
        )

    def test_authentication(self) -> None:
        """Name and nonce are signed."""
        self.covers_all(REQUESTS[1], lambda m, r, cb: m.signed(r, cb), except_for=("signature",))

    def test_change(self) -> None:
        """New keys and address are signed, and whose they are, and that it is a change."""
        signatures = ("old_signature", "new_signature")
        self.covers_all(
            REQUESTS[2], lambda m, r, cb: m.signed(r, cb, "a"), except_for=("op", *signatures)
        )
        change = ChangeKeys(2, "", 0, b"", b"", bytes(16), bytes(64), b"")
        signed = change.signed("R", self.binding, "a")
        self.assertEqual(signed[4], b"\2")
        self.assertNotEqual(signed, change.signed("R", self.binding, "b"))

    def test_labels_differ(self) -> None:
        """A proof for one purpose is never one for another."""
        register = Register("a", "", 0, bytes(32), bytes(32), bytes(16), b"", bytes(64))
        change = ChangeKeys(2, "", 0, b"", b"", bytes(16), bytes(64), b"")
        labels = [
            register.signed("R", self.binding)[0],
            register.invited("R", self.binding)[0],
            Authenticate("a", bytes(16), bytes(64)).signed("R", self.binding)[0],
            change.signed("R", self.binding, "a")[0],
        ]
        self.assertEqual(
            labels, [b"kdp/1 register", b"kdp/1 invite", b"kdp/1 auth", b"kdp/1 change"]
        )


def _with_other(message: Any, field: str) -> Any:
    """The same message with another value in this field."""
    value = getattr(message, field)
    other: object = "192.0.2.99" if field == "address" else "mallory"
    if isinstance(value, int):
        other = value + 1
    elif isinstance(value, bytes):
        other = value[:-1] + bytes([value[-1] ^ 1])
    return attrs.evolve(message, **{field: other})


class SecrecyTests(CoreTestCase):
    def test_secret_fields_are_not_shown(self) -> None:
        """K_X, Ks, E, tickets and invitation proofs are in no repr."""
        for message, names in (
            (REQUESTS[0], ("reply_key", "invitation")),
            (REQUESTS[2], ("new_reply_key",)),
            (SEALED[2], ("secret",)),
            (SEALED[3], ("session_key", "ticket")),
        ):
            for name in names:
                self.assertNotIn(f"{name}=", repr(message))
                self.assertNotIn(repr(getattr(message, name)), repr(message))
