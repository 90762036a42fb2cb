"""The published encodings: every file in tests/vectors means what it says.

The vectors are made by tests/vectors/make_vectors.py, a second implementation of the
formats that shares no line with the package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kdc.errors import ConfigurationError, Refusal
from kdc.protocol.codec import frame
from kdc.protocol.crypto import (
    ChannelBinding,
    Digest,
    EpochSecret,
    ReplyKey,
    SessionKey,
    TicketKey,
    digest_of_passphrase,
    long_term_keys,
    reply_cipher,
    ticket_key,
)
from kdc.protocol.handshake import Epoch, Epochs, Presentation
from kdc.protocol.invitation import Invitation
from kdc.protocol.kdc_exchange import Exchange, Grant, Sent
from kdc.protocol.messages import (
    Authenticated,
    Changed,
    EpochEnded,
    KeyReply,
    Receiving,
    Refused,
    Registered,
    SealedMessage,
    associated_data,
    decode,
    decode_fields,
    decode_request,
    encode,
    encode_fields,
    split_sealed,
    type_of,
)
from kdc.protocol.names import normal_passphrase
from kdc.protocol.noise import CipherState
from kdc.protocol.records import Data, End, RecordStream
from kdc.protocol.tickets import Ticket, TicketCipher
from kdc.transfer._framing import ItemReader
from kdc.transfer.messages import Item, Offer, Omitted
from tests.support.core import CoreTestCase, bodies, everyone, opened
from tests.vectors import make_vectors

DIRECTORY = Path(make_vectors.__file__).parent
SEALED: dict[int, type[SealedMessage]] = {
    cls.TYPE: cls for cls in (Changed, KeyReply, Receiving, Authenticated, EpochEnded, Refused)
}


@attrs.frozen
class Vector:
    """One file: what it is about, what is to be made of it, and its bytes."""

    name: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def read(cls, path: Path) -> Vector:
        head, _, hexadecimal = path.read_text().partition("\n\n")
        lines = [line.partition(": ") for line in head.splitlines()]
        headers = {name.rstrip(":"): value for name, _, value in lines}
        return cls(path.name, headers, bytes.fromhex(hexadecimal))

    def raw(self, header: str) -> bytes:
        return bytes.fromhex(self.headers[header])

    def number(self, header: str) -> int:
        return int(self.headers[header])

    @property
    def good(self) -> bool:
        return self.headers["expect"] == "ok"


def read(kind: str) -> list[Vector]:
    found = [Vector.read(path) for path in sorted(DIRECTORY.glob("*.txt"))]
    return [vector for vector in found if vector.headers["kind"] == kind]


class FilesTests(CoreTestCase):
    def test_unchanged(self) -> None:
        """The committed files are what the script makes: the formats have not moved."""
        made = make_vectors.vectors()
        self.assertEqual({p.name for p in DIRECTORY.glob("*.txt")}, set(made))
        for name, text in made.items():
            self.assertEqual((DIRECTORY / name).read_text(), text, name)

    def test_all_are_read(self) -> None:
        """Every file is one of the kinds that are tested here."""
        kinds = (
            "request",
            "plain-reply",
            "sealed-reply",
            "key",
            "ticket",
            "present",
            "records",
            "application",
            "sending",
            "invitation",
        )
        self.assertEqual(sum(len(read(k)) for k in kinds), len(list(DIRECTORY.glob("*.txt"))))
        self.assertTrue(all(len(read(kind)) > 1 for kind in kinds))


class InvitationTests(CoreTestCase):
    def test_read(self) -> None:
        """A word says what it says, and is written so again; the old form is only read."""
        for vector in read("invitation"):
            word = vector.body.decode()
            if not vector.good:
                self.assertRaises(ConfigurationError, Invitation.parse, word)
                continue
            invitation = Invitation.parse(word)
            said = (invitation.realm, invitation.name, invitation.host, invitation.port)
            self.assertEqual(said[:3], tuple(vector.headers[h] for h in ("realm", "name", "host")))
            self.assertEqual(said[3], vector.number("port"))
            self.assertEqual(invitation.fingerprint, f"sha256:{vector.headers['pin']}")
            self.assertEqual(invitation.code, vector.raw("code"))
            if word.startswith("kdc2-"):
                self.assertEqual(str(invitation), word)


class VectorCase(CoreTestCase):
    def refused(self, vector: Vector, act: Callable[[], object]) -> None:
        """The file's fault is found, and for its own reason."""
        error = self.assert_refused(Refusal[vector.headers["expect"]], act)
        self.assertIn(vector.headers["because"], error.detail, vector.name)
        self.assertNotEqual(vector.headers["because"], "", vector.name)


class RequestTests(VectorCase):
    def test_decoded(self) -> None:
        """Good requests decode and encode to the same bytes; the others are malformed."""
        for vector in read("request"):
            if vector.good:
                self.assertEqual(encode(decode_request(vector.body)), vector.body, vector.name)
            else:
                self.refused(vector, lambda body=vector.body: decode_request(body))  # type: ignore[misc]

    def test_made(self) -> None:
        """A client makes exactly these bytes: names, keys, proofs and signatures."""
        for vector in read("request"):
            if vector.good:
                sent = self.client_makes(vector)
                self.assertEqual(bodies(sent.data), [vector.body], vector.name)

    def client_makes(self, vector: Vector) -> Sent:
        keys, new = (
            long_term_keys(Digest(vector.raw(header)), "LOCAL", "alice")
            for header in ("digest", "new-digest")
        )
        given = [vector.raw("nonce")]
        ephemeral = make_vectors.EPHEMERAL.private_bytes_raw()
        if "305" in vector.name:
            given.insert(0, ephemeral)
        exchange = Exchange(
            keys, ChannelBinding(vector.raw("binding")), lambda length: given.pop(0)
        )
        made = {
            "301-register": lambda: exchange.register("192.0.2.7", 60000, vector.raw("code")),
            "303-change": lambda: exchange.change(new, "192.0.2.7", 60000),
            "303-delete": exchange.delete,
            "305-key-request": lambda: exchange.request_key("bob")[0],
            "307-receive": lambda: exchange.receive_under(
                make_vectors.public(make_vectors.STATIC), "", 60000
            ),
            "311-authenticate": exchange.authenticate,
        }
        return made[vector.name.removeprefix("request-").removesuffix(".txt")]()


class ReplyTests(VectorCase):
    def test_plain(self) -> None:
        """302, and a refusal before 312."""
        registered, refused = read("plain-reply")
        self.assertEqual(encode(decode(Registered, registered.body)), registered.body)
        self.assertEqual(decode(Registered, registered.body).generation, 7)
        self.assertEqual(decode(Refused, refused.body), Refused(Refusal.NOT_AUTHENTIC, 0))
        self.assertEqual(encode(Refused(Refusal.NOT_AUTHENTIC, 0)), refused.body)

    def test_sealed(self) -> None:
        """Sealed frames open to their fields, and are sealed to the same bytes."""
        for vector in read("sealed-reply"):
            message_type = SEALED[type_of(vector.body)]
            number, nonce, ciphertext = split_sealed(vector.body)
            self.assertEqual((number, nonce), (message_type.TYPE, vector.raw("nonce")))
            associated = associated_data(
                message_type, "LOCAL", "alice", nonce, vector.headers["peer"]
            )
            ciphers = []
            for _ in range(2):
                cipher = reply_cipher(
                    ReplyKey(vector.raw("reply-key")), ChannelBinding(vector.raw("binding"))
                )
                cipher._count = vector.number("count")
                ciphers.append(cipher)
            fields = ciphers[0].open(ciphertext, associated)
            self.assertEqual(fields, vector.raw("fields"), vector.name)
            message = decode_fields(message_type, fields)
            self.assertEqual(encode_fields(message), fields)
            self.assertEqual(ciphers[1].seal(fields, associated), ciphertext, vector.name)


class KeyTests(VectorCase):
    def test_derived(self) -> None:
        """Argon2id, HKDF and Ed25519 give these keys."""
        for vector in read("key"):
            self.assertEqual(self.derived(vector), vector.body, vector.name)

    def derived(self, vector: Vector) -> bytes:
        realm, name = vector.headers["realm"], vector.headers["name"]
        derive = vector.headers["derive"]
        if derive == "digest":
            passphrase = normal_passphrase(vector.headers["passphrase"])
            return digest_of_passphrase(passphrase, realm, name)
        if derive == "ticket":
            key, secret = ReplyKey(vector.raw("reply-key")), EpochSecret(vector.raw("secret"))
            return ticket_key(key, secret, realm, name, vector.raw("epoch-id"))
        keys = long_term_keys(Digest(vector.raw("digest")), realm, name)
        return {"verify": keys.verify_key, "reply": keys.reply_key}[derive]


class TicketTests(VectorCase):
    def test_opened(self) -> None:
        """One ticket opens, and is sealed to the same bytes; the others are refused."""
        for vector in read("ticket"):
            cipher = TicketCipher(
                TicketKey(vector.raw("key")), "LOCAL", "bob", vector.raw("epoch-id")
            )
            if not vector.good:
                self.refused(vector, lambda c=cipher, v=vector: c.open(v.body))  # type: ignore[misc]
                continue
            ticket = cipher.open(vector.body)
            self.assertEqual(ticket.sender, "alice")
            self.assertEqual(ticket.end_milliseconds, 301_234)
            self.assertEqual(cipher.seal(ticket, vector.body[:12]), vector.body)
            self.assertEqual(
                ticket,
                Ticket(
                    SessionKey(make_vectors.KS),
                    "alice",
                    make_vectors.public(make_vectors.EPHEMERAL),
                    make_vectors.TID,
                    301_234,
                ),
            )


class PresentTests(VectorCase):
    def epochs(self, vector: Vector) -> Epochs:
        epoch = Epoch(
            realm="LOCAL",
            receiver="bob",
            reply_key=ReplyKey(vector.raw("reply-key")),
            static=X25519PrivateKey.from_private_bytes(vector.raw("static")),
            reply=Receiving(vector.raw("epoch-id"), vector.raw("secret"), 300),
            sent_milliseconds=1_000_000,
        )
        epochs = Epochs()
        epochs.begin(epoch, 1_000_010)
        return epochs

    def test_accepted(self) -> None:
        """One 309 is answered, with exactly this answer and these keys; the others are refused."""
        for vector in read("present"):
            epochs = self.epochs(vector)

            def accept(vector: Vector = vector, epochs: Epochs = epochs) -> None:
                accepted = epochs.accept(
                    vector.body,
                    now_milliseconds=1_301_234,
                    allow=everyone,
                    random=lambda length: vector.raw("answer-ephemeral"),
                )
                self.assertEqual(accepted.answer, frame(vector.raw("answer")))
                self.assertEqual(accepted.stream._receiving._key, vector.raw("key-there"))
                self.assertEqual(accepted.stream._sending._key, vector.raw("key-back"))

            if vector.good:
                accept()
            else:
                self.refused(vector, accept)

    def reply(self, vector: Vector, ticket: bytes) -> KeyReply:
        return KeyReply(
            vector.raw("session-key"),
            vector.raw("epoch-id"),
            X25519PrivateKey.from_private_bytes(vector.raw("static"))
            .public_key()
            .public_bytes_raw(),
            300,
            "",
            1,
            ticket,
        )

    def test_made(self) -> None:
        """A sender makes exactly this 309, and has the same keys after the answer."""
        (vector,) = (vector for vector in read("present") if vector.good)
        presentation = Presentation(
            realm="LOCAL",
            sender="alice",
            receiver="bob",
            reply=self.reply(vector, vector.body[21:-48]),
            ephemeral=X25519PrivateKey.from_private_bytes(vector.raw("ephemeral")),
            until_milliseconds=0,
        )
        self.assertEqual(presentation.present(), frame(vector.body))
        stream = presentation.finish(vector.raw("answer"))
        self.assertEqual(stream._sending._key, vector.raw("key-there"))
        self.assertEqual(stream._receiving._key, vector.raw("key-back"))


class ApplicationTests(PresentTests):
    """Section 5.1."""

    def test_accepted(self) -> None:
        """One proof is taken, and gives this key; the others are refused and use nothing up."""
        (good,) = (vector for vector in read("application") if vector.good)
        for vector in read("application"):
            epochs = self.epochs(vector)

            def take(vector: Vector, epochs: Epochs = epochs) -> bytes:
                length = int.from_bytes(vector.body[16:18], "big")
                sender, keys = epochs.open_ticket(
                    vector.body[:16],
                    vector.body[18 : 18 + length],
                    vector.body[18 + length :],
                    now_milliseconds=1_301_234,
                    allow=everyone,
                )
                self.assertEqual(sender, "alice")
                return keys.derive(vector.raw("label").decode())

            if not vector.good:
                self.refused(vector, lambda v=vector, t=take: t(v))  # type: ignore[misc]
            self.assertEqual(take(good), good.raw("key"))

    def test_made(self) -> None:
        """A sender makes exactly this proof and key."""
        (vector,) = (vector for vector in read("application") if vector.good)
        ephemeral = X25519PrivateKey.from_private_bytes(vector.raw("ephemeral"))
        reply = self.reply(vector, vector.body[18:-32])
        keys = Grant("LOCAL", "alice", "bob", reply, ephemeral, 0).application_keys()
        self.assertEqual(keys.proof, vector.body[-32:])
        self.assertEqual(keys.derive(vector.raw("label").decode()), vector.raw("key"))


class RecordTests(VectorCase):
    def stream(self, vector: Vector, *, sender: bool = False) -> RecordStream:
        there, back = (CipherState(vector.raw(key)) for key in ("key-there", "key-back"))
        there._count = vector.number("count")
        return RecordStream(there, back) if sender else RecordStream(back, there)

    def test_opened(self) -> None:
        """Good streams open to their data and end; the others are refused."""
        for vector in read("records"):
            stream = self.stream(vector)
            if vector.good:
                *data, end = opened(stream, vector.body)
                self.assertTrue(all(isinstance(event, Data) for event in data))
                total = sum(len(event.data) for event in data if isinstance(event, Data))
                self.assertEqual(end, End(total, len(data)), vector.name)
            else:
                self.refused(vector, lambda s=stream, v=vector: opened(s, v.body))  # type: ignore[misc]

    def test_made(self) -> None:
        """A sender makes exactly these records, across the change of keys too."""
        for name, pieces in (
            ("records.txt", (b"", b"hello")),
            ("records-rekeyed.txt", (b"a", b"b")),
        ):
            vector = Vector.read(DIRECTORY / name)
            stream = self.stream(vector, sender=True)
            made = [record for piece in pieces for record in stream.send_data(piece)]
            self.assertEqual(b"".join([*made, stream.send_end()]), vector.body)


class SendingTests(VectorCase):
    def test_read(self) -> None:
        """Streams of kdc.send leave what they should, or are malformed for their own reason."""
        for vector in read("sending"):
            if not vector.good:
                self.refused(vector, lambda body=vector.body: self.there(body))  # type: ignore[misc]
                continue
            names = " ".join(name.replace(" ", "_") for name in self.there(vector.body))
            self.assertEqual(names, vector.headers["there"], vector.name)

    def there(self, body: bytes) -> list[str]:
        """What is there at the end; each message is also the one that we would write."""
        reader = ItemReader()
        there: list[str] = []
        for event in [*reader.feed(body), *reader.end()]:
            if isinstance(event, Item):
                there.append(event.name)
            elif isinstance(event, Omitted) and event.name in there:
                there.remove(event.name)
            if isinstance(event, Item | Omitted | Offer):
                self.assertIn(event.encode(), body)
        return there
