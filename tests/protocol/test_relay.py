"""What is said to and by a relay: one way only to say it, and nothing is read too far."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import RemoteProtocolError
from kdc.protocol.codec import FrameBuffer
from kdc.protocol.handshake import MAX_PRESENT
from kdc.protocol.relay import (
    FIRST_BYTES,
    MAX_MESSAGE,
    Call,
    Claim,
    Claimed,
    Dialled,
    Message,
    Presented,
    Release,
    Token,
    Verify,
    decode,
    dial_back,
    encode,
    first_of,
    show_token,
)
from tests.support.core import Realm, keys_of

EPOCH, NONCE, TOKEN = bytes(range(16)), bytes(range(16, 32)), bytes(range(32))
MESSAGES: tuple[Message, ...] = (
    Claim(EPOCH),
    Release(EPOCH),
    Verify(60000, NONCE),
    Claimed(EPOCH, 2),
    Call(EPOCH, TOKEN, "192.0.2.1", 40000),
    Call(EPOCH, TOKEN, "", 0),
    Call(EPOCH, TOKEN, "2001:db8::1", 65535),
    Dialled(NONCE, 1),
)


def body(message: Message) -> bytes:
    frames = FrameBuffer(MAX_MESSAGE)
    frames.feed(encode(message))
    found = frames.next()
    assert found is not None and not len(frames)
    return found


class MessageTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """Each message is understood as what it was."""
        for message in MESSAGES:
            self.assertEqual(decode(body(message)), message)

    def test_largest(self) -> None:
        """The largest there can be fits into a frame."""
        longest = Call(EPOCH, TOKEN, "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", 65535)
        self.assertEqual(decode(body(longest)), longest)

    def test_everything_else_is_refused(self) -> None:
        """One byte short or long, nothing, an unknown type, a value that there is not."""
        for message in MESSAGES:
            whole = body(message)
            for wrong in (whole[:-1], whole + b"\0", whole[:1], bytes([0]) + whole[1:]):
                self.assertRaises(RemoteProtocolError, decode, wrong)
        for wrong in (b"", b"\x07", body(Verify(1, NONCE)).replace(b"\0\1", b"\0\0", 1)):
            self.assertRaises(RemoteProtocolError, decode, wrong)
        self.assertRaises(RemoteProtocolError, decode, body(Claimed(EPOCH, 2))[:-1] + b"\3")
        self.assertRaises(RemoteProtocolError, decode, body(Dialled(NONCE, 1))[:-1] + b"\2")

    def test_no_token_is_shown(self) -> None:
        """What lets one in is in no repr."""
        for secret in (MESSAGES[4], Token(TOKEN)):
            self.assertNotIn(repr(TOKEN)[2:-1], repr(secret))

    @given(st.binary(max_size=MAX_MESSAGE))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever is said is a message in its one form, or refused."""
        try:
            message = decode(data)
        except RemoteProtocolError:
            return
        self.assertEqual(body(message), data)


class FirstTests(SynchronousTestCase):
    """What a connection begins with."""

    def setUp(self) -> None:
        realm = Realm()
        bob = realm.receiver("bob")
        grant = realm.login(keys_of("alice")).grant("bob")
        self.epoch_id = bob.epochs.ids[0]
        self.present = grant.presentation().present()

    def test_a_sender(self) -> None:
        """A real 309 is known as soon as its epoch has come, not before, and however it comes."""
        known = 2 + 2 + 1 + 16
        for size in range(len(self.present) + 1):
            expected = None if size < known else Presented(self.epoch_id)
            self.assertEqual(first_of(self.present[:size]), expected)
        self.assertLess(known, FIRST_BYTES)

    def test_a_receiver(self) -> None:
        """A token is known when it is whole."""
        shown = show_token(TOKEN)
        for size in range(len(shown)):
            self.assertIsNone(first_of(shown[:size]))
        self.assertEqual(first_of(shown), Token(TOKEN))
        self.assertLess(len(shown), FIRST_BYTES)

    def test_a_receiver_says_nothing_more(self) -> None:
        """It speaks only after the sender: what says more is no receiver."""
        self.assertRaises(RemoteProtocolError, first_of, show_token(TOKEN) + b"\0")

    def test_refused_at_once(self) -> None:
        """What can be neither is refused with its first wrong byte."""
        for whole in (self.present[:21], show_token(TOKEN)[:8]):
            for at in range(2, 5):
                for bit in range(8):
                    wrong = bytearray(whole[: at + 1])
                    wrong[at] ^= 1 << bit
                    if bytes(wrong[2 : at + 1]) not in (b"\x01\x35"[:at], b"\x01\x4b"[:at]):
                        self.assertRaises(RemoteProtocolError, first_of, bytes(wrong))

    def test_lengths(self) -> None:
        """A length that no receiver would take is refused with the type."""
        for length in (0, 69, MAX_PRESENT + 1, 0xFFFF):
            wrong = length.to_bytes(2, "big") + self.present[2:21]
            self.assertRaises(RemoteProtocolError, first_of, wrong)
        for length in (34, 36):
            wrong = length.to_bytes(2, "big") + show_token(TOKEN)[2:]
            self.assertRaises(RemoteProtocolError, first_of, wrong)

    def test_dialling_back_is_no_sender(self) -> None:
        """What shows that a way is open opens nothing: a relay does not take it for a sender."""
        self.assertRaises(RemoteProtocolError, first_of, dial_back(NONCE))
        realm = Realm()
        bob = realm.receiver("bob")
        self.assertRaises(
            RemoteProtocolError,
            bob.epochs.accept,
            dial_back(bob.epochs.ids[0])[2:],
            now_milliseconds=bob.now(),
            allow=lambda name: True,
            random=bytes,
        )

    @given(st.binary(max_size=2 * FIRST_BYTES), st.integers(0, 2 * FIRST_BYTES))
    def test_any_bytes(self, data: bytes, some: int) -> None:
        """More bytes never make another thing of it."""
        try:
            early = first_of(data[:some])
        except RemoteProtocolError:
            self.assertRaises(RemoteProtocolError, first_of, data)
            return
        if isinstance(early, Presented):
            self.assertEqual(first_of(data), early)


class EpochsTests(SynchronousTestCase):
    def test_ids(self) -> None:
        """The living epochs are named, the current one first, until they are forgotten."""
        realm = Realm()
        bob = realm.receiver("bob")
        epochs = bob.epochs
        (first,) = epochs.ids
        self.assertTrue(epochs.knows(first))
        self.assertFalse(epochs.knows(bytes(16)))
        current = epochs.current
        assert current is not None
        epochs.retire(bob.now())
        self.assertEqual(epochs.ids, [first])
        epochs.forget(bob.now() + 1000 * current.lifetime_seconds + 1)
        self.assertEqual(epochs.ids, [])
