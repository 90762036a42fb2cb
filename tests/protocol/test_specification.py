"""The code against docs/protocol.md: its own bytes, written a second time from that page alone.

Nothing of the protocol's code makes or reads a byte here.  Where a test fails,
either the page or the code has changed without the other.
"""

from __future__ import annotations

import hashlib
import hmac
import random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from twisted.trial.unittest import SynchronousTestCase

from kdc.issuing.decisions import Enrolment, Now, Output
from kdc.issuing.issuer import Issuer
from kdc.issuing.realm import Realm
from kdc.issuing.session import Session
from kdc.protocol.crypto import (
    ChannelBinding,
    Digest,
    ReplyKey,
    digest_of_passphrase,
    long_term_keys,
)
from kdc.protocol.handshake import Accepted, Epoch, Epochs
from kdc.protocol.messages import Receiving
from kdc.protocol.records import AckStatus, Data, End, Event
from kdc.store import Create, Record, Status
from kdc.store.memory import MemoryStore

REALM = b"LOCAL"
LIFETIME_SECONDS = 300
ADDRESS = "192.0.2.1"


def u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def enc(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def short(field: bytes) -> bytes:
    """A field behind its u8 length."""
    return bytes([len(field)]) + field


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def hkdf(salt: bytes, key_material: bytes, info: bytes, length: int = 32) -> bytes:
    """RFC 5869."""
    key = mac(salt, key_material)
    out = block = b""
    for number in range(1, length // 32 + 1):
        block = mac(key, block + info + bytes([number]))
        out += block
    return out


class Client:
    """A principal that was written by somebody who has only the page."""

    def __init__(self, issuer: Issuer, store: MemoryStore, name: bytes, seed: int) -> None:
        self.random = random.Random(seed)
        self.issuer, self.store, self.name = issuer, store, name
        self.take_keys(self.random.randbytes(32))
        self.connect()

    def take_keys(self, digest: bytes) -> None:
        owner = enc(REALM, self.name)
        seed = hkdf(digest, owner, b"kdp/1 sign")
        self.signing_key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verify_key = self.signing_key.public_key().public_bytes_raw()
        self.reply_key = hkdf(digest, owner, b"kdp/1 reply")

    def connect(self) -> None:
        self.binding = self.random.randbytes(32)
        self.session: Session = self.issuer.connect(ADDRESS, ChannelBinding(self.binding))
        self.replies = AESGCM(hkdf(self.binding, self.reply_key, b"kdp/1 replies"))
        self.opened = 0

    def say(self, body: bytes, milliseconds: int = 0) -> tuple[bytes, Output]:
        """Return the body of the answer, and all that the message caused."""
        now = Now(milliseconds, 1_000)
        output = self.issuer.receive(self.session, body, now)
        if output.write is not None:
            result = self.store.apply([output.write.change])[0]
            output = output.write.then(result)
        length, answer = int.from_bytes(output.data[:2], "big"), output.data[2:]
        if length != len(answer):
            raise ValueError("not one frame")
        return answer, output

    def opens(self, answer: bytes, number: int, nonce: bytes, *about: bytes) -> bytes:
        """Return the fields of a sealed answer, if it is what it must be."""
        if answer[:18] != u16(number) + nonce:
            raise ValueError(f"not a {number} with this N")
        associated = enc(f"kdp/1 {number}".encode(), REALM, *about, nonce)
        fields = self.replies.decrypt(self.opened.to_bytes(12, "big"), answer[18:], associated)
        self.opened += 1
        return fields

    def register(self, code: bytes = b"") -> tuple[bytes, bytes]:
        """Return 301's answer and its N1."""
        nonce = self.random.randbytes(16)
        keys = (self.verify_key, self.reply_key, nonce)
        signed = enc(b"kdp/1 register", REALM, self.binding, self.name, b"", u16(7), *keys)
        invited = enc(b"kdp/1 invite", REALM, self.binding, self.name, *keys)
        body = u16(301) + short(self.name) + short(b"") + u16(7) + b"".join(keys)
        body += short(mac(code, invited) if code else b"") + self.signing_key.sign(signed)
        return self.say(body)[0], nonce

    def authenticate(self) -> bytes:
        """Return the fields of 312."""
        nonce = self.random.randbytes(16)
        signed = enc(b"kdp/1 auth", REALM, self.binding, self.name, nonce)
        body = u16(311) + short(self.name) + nonce + self.signing_key.sign(signed)
        return self.opens(self.say(body)[0], 312, nonce, self.name)


class Direction:
    """Section 6.1: one key, one counter."""

    def __init__(self, key: bytes) -> None:
        self._key, self._count = key, 0

    def _next(self) -> tuple[AESGCM, bytes]:
        if self._count and self._count % 65_536 == 0:
            last = bytes(4) + bytes([255]) * 8
            self._key = AESGCM(self._key).encrypt(last, bytes(32), b"")[:32]
        nonce = bytes(4) + u64(self._count)
        self._count += 1
        return AESGCM(self._key), nonce

    def seal(self, plaintext: bytes) -> bytes:
        cipher, nonce = self._next()
        sealed = cipher.encrypt(nonce, plaintext, b"")
        return u16(len(sealed)) + sealed

    def open(self, record: bytes) -> bytes:
        cipher, nonce = self._next()
        if record[:2] != u16(len(record) - 2):
            raise ValueError("not one record")
        return cipher.decrypt(nonce, record[2:], b"")


class Noise:
    """Section 5: the sender's side of NKpsk0, both payloads empty."""

    def __init__(self, prologue: bytes, psk: bytes, static: bytes, ephemeral: bytes) -> None:
        self._hash = self._chain = b"Noise_NKpsk0_25519_AESGCM_SHA256"
        self._private = X25519PrivateKey.from_private_bytes(ephemeral)
        self._public = self._private.public_key().public_bytes_raw()
        self._mix_hash(prologue)
        self._mix_hash(static)
        out = hkdf(self._chain, psk, b"", 96)
        self._chain, self._key = out[:32], out[64:]
        self._mix_hash(out[32:64])
        self._mix_public(self._public)
        self._mix_key(self._private.exchange(X25519PublicKey.from_public_bytes(static)))

    def first(self) -> bytes:
        tag = AESGCM(self._key).encrypt(bytes(12), b"", self._hash)
        self._mix_hash(tag)
        return self._public + tag

    def second(self, message: bytes) -> tuple[Direction, Direction]:
        """Return (sending, receiving)."""
        public, tag = message[:32], message[32:]
        self._mix_public(public)
        self._mix_key(self._private.exchange(X25519PublicKey.from_public_bytes(public)))
        AESGCM(self._key).decrypt(bytes(12), tag, self._hash)
        out = hkdf(self._chain, b"", b"", 64)
        return Direction(out[:32]), Direction(out[32:])

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix_key(self, key_material: bytes) -> None:
        out = hkdf(self._chain, key_material, b"", 64)
        self._chain, self._key = out[:32], out[32:]

    def _mix_public(self, public: bytes) -> None:
        self._mix_hash(public)
        self._mix_key(public)


class SpecificationTests(SynchronousTestCase):
    """Somebody who has only read the page can talk to the code."""

    def setUp(self) -> None:
        self.random = random.Random(1)
        self.store = MemoryStore(REALM.decode())
        realm = Realm(
            REALM.decode(),
            find=self.store.get,
            audit=lambda audit: None,
            random=self.random.randbytes,
            enrolment=Enrolment.OPEN,
            lifetime_seconds=LIFETIME_SECONDS,
        )
        self.issuer = Issuer(realm)

    def client(self, name: bytes, seed: int) -> Client:
        """Return a client that is registered and authenticated."""
        client = Client(self.issuer, self.store, name, seed)
        answer, nonce = client.register()
        self.assertEqual(answer, u16(302) + nonce + answer[18:])
        self.assertEqual(len(answer), 26)
        self.assertEqual(client.authenticate(), answer[18:])  # the generation, both times
        return client

    def receive(self, bob: Client) -> tuple[X25519PrivateKey, bytes, bytes]:
        """Begin an epoch; return G_B's private half, eid and E."""
        static = X25519PrivateKey.from_private_bytes(bob.random.randbytes(32))
        nonce = bob.random.randbytes(16)
        public = static.public_key().public_bytes_raw()
        body = u16(307) + short(b"") + u16(60_000) + public + nonce
        fields = bob.opens(bob.say(body, 5_000)[0], 308, nonce, bob.name)
        self.assertEqual(fields[48:], LIFETIME_SECONDS.to_bytes(4, "big"))
        return static, fields[:16], fields[16:48]

    def request(self, alice: Client, peer: bytes, ephemeral: bytes) -> tuple[bytes, bytes]:
        """Ask for a key three seconds later; return 305's answer and its N1."""
        public = X25519PrivateKey.from_private_bytes(ephemeral).public_key().public_bytes_raw()
        nonce = alice.random.randbytes(16)
        return alice.say(u16(305) + short(peer) + public + nonce, 8_000)[0], nonce

    def channel(self) -> tuple[Accepted, Direction, Direction]:
        """Go all the way to m2; return the receiver's end, and the sender's two directions."""
        alice, bob = self.client(b"alice", 2), self.client(b"bob", 3)
        static, epoch_id, secret = self.receive(bob)
        ephemeral = alice.random.randbytes(32)
        answer, nonce = self.request(alice, b"bob", ephemeral)
        fields = alice.opens(answer, 306, nonce, b"alice", b"bob")
        session_key, ticket = fields[:32], fields[-122:]
        public = static.public_key().public_bytes_raw()
        self.assertEqual(
            fields,
            session_key
            + epoch_id
            + public
            + LIFETIME_SECONDS.to_bytes(4, "big")
            + short(ADDRESS.encode())
            + u16(60_000)
            + u16(122)
            + ticket,
        )
        self.check_ticket(bob, epoch_id, secret, ticket, session_key, ephemeral)
        prologue = enc(b"kdp/1 309", REALM, b"\1", b"alice", b"bob", epoch_id, ticket)
        noise = Noise(prologue, session_key, public, ephemeral)
        present = u16(309) + b"\1" + epoch_id + u16(len(ticket)) + ticket + noise.first()
        self.assertEqual(len(present), 186 + len(b"alice"))
        epochs = Epochs()
        epochs.begin(
            Epoch(
                realm=REALM.decode(),
                receiver="bob",
                reply_key=ReplyKey(bob.reply_key),
                static=static,
                reply=Receiving(epoch_id, secret, LIFETIME_SECONDS),
                sent_milliseconds=100,
            ),
            200,
        )
        accepted = epochs.accept(
            present, now_milliseconds=300, allow=lambda name: True, random=self.random.randbytes
        )
        self.assertEqual(accepted.sender, "alice")
        self.assertEqual(accepted.answer[:2], u16(48))
        return accepted, *noise.second(accepted.answer[2:])

    def check_ticket(
        self,
        bob: Client,
        epoch_id: bytes,
        secret: bytes,
        ticket: bytes,
        session_key: bytes,
        ephemeral: bytes,
    ) -> None:
        label = enc(b"kdp/1 ticket key", REALM, b"bob", epoch_id)
        cipher = AESGCM(hkdf(bob.reply_key, secret, label))
        associated = enc(b"kdp/1 ticket", REALM, b"bob", epoch_id)
        content = cipher.decrypt(ticket[:12], ticket[12:], associated)
        public = X25519PrivateKey.from_private_bytes(ephemeral).public_key().public_bytes_raw()
        end = u64(3_000 + 1000 * LIFETIME_SECONDS)
        self.assertEqual(content, session_key + short(b"alice") + public + content[-24:-8] + end)

    def fed(self, accepted: Accepted, record: bytes) -> list[Event]:
        accepted.stream.feed(record)
        return list(iter(accepted.stream.next_event, None))

    def test_passphrase(self) -> None:
        """D_X is Argon2id with the constants of section 2, salted with the names."""
        salt = hashlib.sha256(enc(b"kdp/1 salt", REALM, b"alice")).digest()
        argon = Argon2id(salt=salt, length=32, iterations=3, lanes=1, memory_cost=65_536)
        self.assertEqual(
            digest_of_passphrase(b"sesame", REALM.decode(), "alice"), argon.derive(b"sesame")
        )

    def test_long_term_keys(self) -> None:
        """vk_X and K_X come from the digest and the names as section 2 says."""
        digest = bytes(range(32))
        client = Client(self.issuer, self.store, b"alice", 2)
        client.take_keys(digest)
        keys = long_term_keys(Digest(digest), REALM.decode(), "alice")
        self.assertEqual(keys.verify_key, client.verify_key)
        self.assertEqual(keys.reply_key, client.reply_key)

    def test_stream(self) -> None:
        """From 301 to the acknowledgement, past a change of the channel's key."""
        accepted, sending, receiving = self.channel()
        self.assertEqual(self.fed(accepted, b""), [])
        self.assertEqual(self.fed(accepted, sending.seal(b"\0")), [Data(b"")])
        self.assertEqual(receiving.open(accepted.stream.send_data(b"\0")[0]), b"\0\0")
        count = 65_540
        for _ in range(count):
            self.assertEqual(self.fed(accepted, sending.seal(b"\0x")), [Data(b"x")])
        end = u64(count) + u64(count + 1)
        self.assertEqual(self.fed(accepted, sending.seal(b"\1" + end)), [End(count, count + 1)])
        self.assertEqual(receiving.open(accepted.stream.send_ack(AckStatus.STORED)), b"\2\0" + end)

    def test_change(self) -> None:
        """303 is signed by both keys; after 304 the connection closes and the epoch is over."""
        alice, bob = self.client(b"alice", 2), self.client(b"bob", 3)
        self.receive(bob)
        old_key = bob.signing_key
        bob.take_keys(bob.random.randbytes(32))
        nonce = bob.random.randbytes(16)
        keys = (bob.verify_key, bob.reply_key, nonce)
        signed = enc(b"kdp/1 change", REALM, bob.binding, b"bob", b"\1", b"", u16(0), *keys)
        body = u16(303) + b"\1" + short(b"") + u16(0) + short(keys[0]) + short(keys[1]) + nonce
        body += old_key.sign(signed) + short(bob.signing_key.sign(signed))
        answer, output = bob.say(body)
        self.assertEqual(len(bob.opens(answer, 304, nonce, b"bob")), 8)
        self.assertTrue(output.close)
        answer, nonce = self.request(alice, b"bob", bytes(range(32)))
        self.assertEqual(alice.opens(answer, 399, nonce, b"alice"), b"\7\0\0")
        bob.connect()
        bob.authenticate()

    def test_deletion(self) -> None:
        """303 with op 2 carries one signature and no keys."""
        bob = self.client(b"bob", 3)
        nonce = bob.random.randbytes(16)
        signed = enc(
            b"kdp/1 change", REALM, bob.binding, b"bob", b"\2", b"", u16(0), b"", b"", nonce
        )
        body = u16(303) + b"\2" + short(b"") + u16(0) + short(b"") + short(b"") + nonce
        answer, output = bob.say(body + bob.signing_key.sign(signed) + short(b""))
        self.assertEqual(len(bob.opens(answer, 304, nonce, b"bob")), 8)
        self.assertTrue(output.close)

    def test_superseded(self) -> None:
        """313 bears zeros and the epoch that ended, under the older connection's key."""
        bob = self.client(b"bob", 3)
        _, epoch_id, _ = self.receive(bob)
        older, opened, replies = bob.session, bob.opened, bob.replies
        bob.connect()
        bob.authenticate()
        body = u16(307) + short(b"") + u16(60_000) + bytes(32) + bytes(16)
        ((session, output),) = bob.say(body)[1].others
        self.assertIs(session, older)
        frame = output.data
        self.assertEqual(frame[:20], u16(len(frame) - 2) + u16(313) + bytes(16))
        nonce, associated = opened.to_bytes(12, "big"), enc(b"kdp/1 313", REALM, b"bob")
        self.assertEqual(replies.decrypt(nonce, frame[20:], associated), epoch_id)

    def test_invitation(self) -> None:
        """An invited name is registered with the HMAC of section 4, and not without."""
        code = self.random.randbytes(32)
        eve = Record(name="eve", status=Status.INVITED, invitation=code, invitation_end_time=1_000)
        self.store.apply([Create(eve, bytes(16))])
        client = Client(self.issuer, self.store, b"eve", 4)
        self.assertEqual(client.register()[0], u16(399) + b"\5\0\0")
        client.connect()
        answer, nonce = client.register(code)
        self.assertEqual(answer[:18], u16(302) + nonce)

    def test_refused_in_clear(self) -> None:
        """Before 312 a refusal is five bytes; what follows a failed 311 is malformed."""
        client = Client(self.issuer, self.store, b"nobody", 5)
        body = u16(311) + short(b"nobody") + bytes(16) + bytes(64)
        answer, output = client.say(body)
        self.assertEqual((answer, output.close), (u16(399) + b"\3\0\0", True))
        answer, output = client.say(body)
        self.assertEqual((answer, output.close), (u16(399) + b"\1\0\0", True))

    def test_one_311(self) -> None:
        """A 311 that only came too early is the last of its connection, too."""
        client = Client(self.issuer, self.store, b"nobody", 5)
        body = u16(311) + short(b"nobody") + bytes(16) + bytes(64)
        answer, output = client.say(body)
        while answer[2:3] == b"\3":  # until the failures of this name and address are too many
            client.connect()
            answer, output = client.say(body)
        self.assertEqual((answer[:3], output.close), (u16(399) + b"\x09", False))
        answer, output = client.say(body)
        self.assertEqual((answer, output.close), (u16(399) + b"\1\0\0", True))
