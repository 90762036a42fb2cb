"""Make the test vectors in tests/vectors from fixed inputs.

    python tests/vectors/make_vectors.py

writes the vectors that are not there yet.  One that is there is never changed:
if it would come out otherwise, that is an error, because it means that what is
on the wire has changed, and other implementations would not understand it.

Nothing here imports the package.  The formats are put together a second time,
from docs/protocol.md, so that the vectors check the code and not only pin it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

VECTORS = Path(__file__).parent

REALM, PASSPHRASE = b"LOCAL", "correct horse battery staple"


def made(label: str, length: int) -> bytes:
    """Fixed bytes that look random, told apart by their label."""
    return hashlib.shake_256(f"kdp/1 vectors: {label}".encode()).digest(length)


def u(value: int, length: int) -> bytes:
    return value.to_bytes(length, "big")


def text(value: bytes) -> bytes:
    return u(len(value), 1) + value


def enc(*fields: bytes) -> bytes:
    return b"".join(u(len(field), 4) + field for field in fields)


def hkdf(salt: bytes, key_material: bytes, info: bytes) -> bytes:
    extracted = hmac.digest(salt, key_material, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")


def noise_hkdf(chaining_key: bytes, key_material: bytes) -> list[bytes]:
    extracted = hmac.digest(chaining_key, key_material, "sha256")
    outputs = [b""]
    for number in (1, 2, 3):
        outputs.append(hmac.digest(extracted, outputs[-1] + u(number, 1), "sha256"))
    return outputs[1:]


def seal(key: bytes, nonce: bytes, associated: bytes, plain: bytes) -> bytes:
    return AESGCM(key).encrypt(nonce, plain, associated)


def signing_key(digest: bytes, name: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hkdf(digest, enc(REALM, name), b"kdp/1 sign"))


def public(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def x25519(label: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(made(label, 32))


def dh(private: X25519PrivateKey, peer: bytes) -> bytes:
    return private.exchange(X25519PublicKey.from_public_bytes(peer))


def vector(comment: str, body: bytes, /, **headers: str | int | bytes) -> str:
    """A vector file: headers, an empty line, and what they are about in hexadecimal."""
    lines = [f"comment: {comment}"]
    for name, value in headers.items():
        shown = value.hex() if isinstance(value, bytes) else value
        lines.append(f"{name.replace('_', '-')}: {shown}")
    return "\n".join([*lines, "", *textwrap.wrap(body.hex(), 64), ""])


# Fixed inputs, and what the two principals derive from them.

SALT = hashlib.sha256(enc(b"kdp/1 salt", REALM, b"alice")).digest()
A_DIGEST = Argon2id(salt=SALT, length=32, iterations=3, lanes=1, memory_cost=65_536).derive(
    PASSPHRASE.encode()
)
B_DIGEST = made("key file of bob", 32)
A_SIGN, B_SIGN = signing_key(A_DIGEST, b"alice"), signing_key(B_DIGEST, b"bob")
A_REPLY = hkdf(A_DIGEST, enc(REALM, b"alice"), b"kdp/1 reply")
B_REPLY = hkdf(B_DIGEST, enc(REALM, b"bob"), b"kdp/1 reply")
NEW_DIGEST = made("new key file of alice", 32)
NEW_SIGN = signing_key(NEW_DIGEST, b"alice")
NEW_REPLY = hkdf(NEW_DIGEST, enc(REALM, b"alice"), b"kdp/1 reply")
CB, NONCE, CODE = made("cb", 32), made("nonce", 16), made("code", 20)
R_A = hkdf(CB, A_REPLY, b"kdp/1 replies")
EID, E, KS = made("epoch id", 16), made("epoch secret", 32), made("session key", 32)
STATIC, EPHEMERAL, ANSWER = x25519("static"), x25519("ephemeral"), x25519("answer")
TK = hkdf(B_REPLY, E, enc(b"kdp/1 ticket key", REALM, b"bob", EID))
TICKET_AD = enc(b"kdp/1 ticket", REALM, b"bob", EID)
TICKET_NONCE, TID, END = made("ticket nonce", 12), made("ticket id", 16), 301_234
TICKET_FIELDS = KS + text(b"alice") + public(EPHEMERAL) + TID + u(END, 8)
TICKET = TICKET_NONCE + seal(TK, TICKET_NONCE, TICKET_AD, TICKET_FIELDS)
ADDRESS, PORT = b"192.0.2.7", 60_000


def requests() -> dict[str, str]:
    registered = enc(
        *(b"kdp/1 register", REALM, CB, b"alice", ADDRESS, u(PORT, 2)),
        *(public(A_SIGN), A_REPLY, NONCE),
    )
    proof = hmac.digest(
        CODE, enc(b"kdp/1 invite", REALM, CB, b"alice", public(A_SIGN), A_REPLY, NONCE), "sha256"
    )
    changed = enc(
        *(b"kdp/1 change", REALM, CB, b"alice", b"\1", ADDRESS, u(PORT, 2)),
        *(public(NEW_SIGN), NEW_REPLY, NONCE),
    )
    deleted = enc(
        *(b"kdp/1 change", REALM, CB, b"alice", b"\2", b"", u(0, 2), b"", b"", NONCE),
    )
    fields = {
        "301-register": text(b"alice")
        + text(ADDRESS)
        + u(PORT, 2)
        + public(A_SIGN)
        + A_REPLY
        + NONCE
        + text(proof)
        + A_SIGN.sign(registered),
        "303-change": b"\1"
        + text(ADDRESS)
        + u(PORT, 2)
        + text(public(NEW_SIGN))
        + text(NEW_REPLY)
        + NONCE
        + A_SIGN.sign(changed)
        + text(NEW_SIGN.sign(changed)),
        "303-delete": b"\2\0\0\0\0\0" + NONCE + A_SIGN.sign(deleted) + b"\0",
        "305-key-request": text(b"bob") + public(EPHEMERAL) + NONCE,
        "307-receive": text(b"") + u(PORT, 2) + public(STATIC) + NONCE,
        "311-authenticate": text(b"alice")
        + NONCE
        + A_SIGN.sign(enc(b"kdp/1 auth", REALM, CB, b"alice", NONCE)),
    }
    return {
        f"request-{name}": vector(
            f"a request of alice's, {name}",
            u(int(name[:3]), 2) + body,
            kind="request",
            expect="ok",
            digest=A_DIGEST,
            new_digest=NEW_DIGEST,
            binding=CB,
            nonce=NONCE,
            code=CODE,
        )
        for name, body in fields.items()
    }


REPLIES = {
    "304-changed": (u(8, 8), b""),
    "306-key-reply": (
        KS + EID + public(STATIC) + u(300, 4) + text(ADDRESS) + u(PORT, 2) + u(len(TICKET), 2)
        + TICKET,
        b"bob",
    ),
    "308-receiving": (EID + E + u(300, 4), b""),
    "312-authenticated": (u(7, 8), b""),
    "313-superseded": (EID, b""),
    "399-refused": (b"\x09" + u(17, 2), b""),
}  # fmt: skip


def replies() -> dict[str, str]:
    found = {
        "reply-302-registered": vector(
            "the answer to 301, not sealed",
            u(302, 2) + NONCE + u(7, 8),
            kind="plain-reply",
            expect="ok",
        ),
        "reply-399-refused-plain": vector(
            "a refusal before 312, not sealed",
            u(399, 2) + b"\x03" + u(0, 2),
            kind="plain-reply",
            expect="ok",
        ),
    }
    for count, (name, (fields, peer)) in enumerate(REPLIES.items()):
        number = name[:3].encode()
        nonce = bytes(16) if number == b"313" else NONCE
        label, owner = b"kdp/1 " + number, (REALM, b"alice")
        associated = enc(label, *owner, *([peer] if peer else []), nonce)
        if number == b"313":
            associated = enc(label, *owner)
        found[f"reply-{name}"] = vector(
            f"frame {count} of what the KDC seals for alice on one connection",
            u(int(number), 2) + nonce + seal(R_A, u(count, 12), associated, fields),
            kind="sealed-reply",
            expect="ok",
            reply_key=A_REPLY,
            binding=CB,
            count=count,
            nonce=nonce,
            peer=peer.decode(),
            fields=fields,
        )
    return found


def keys() -> dict[str, str]:
    owner = {"kind": "key", "expect": "ok", "realm": REALM.decode(), "name": "alice"}
    return {
        "key-digest-of-passphrase": vector(
            "D_X of a passphrase", A_DIGEST, **owner, derive="digest", passphrase=PASSPHRASE
        ),
        "key-verify": vector("vk_X", public(A_SIGN), **owner, derive="verify", digest=A_DIGEST),
        "key-reply": vector("K_X", A_REPLY, **owner, derive="reply", digest=A_DIGEST),
        "key-ticket": vector(
            "TK",
            TK,
            kind="key",
            expect="ok",
            derive="ticket",
            realm=REALM.decode(),
            name="bob",
            reply_key=B_REPLY,
            secret=E,
            epoch_id=EID,
        ),
    }


def tickets() -> dict[str, str]:
    def sealed(fields: bytes, key: bytes = TK, associated: bytes = TICKET_AD) -> bytes:
        return TICKET_NONCE + seal(key, TICKET_NONCE, associated, fields)

    old = enc(b"kdp/1 ticket", REALM, b"bob", made("older epoch id", 16))
    carols = enc(b"kdp/1 ticket", REALM, b"carol", EID)
    no_name = KS + text(b"") + public(EPHEMERAL) + TID + u(END, 8)
    cases = {
        "ticket": ("ok", "", "a ticket of alice's for bob", TICKET),
        "ticket-not-sealed": ("NOT_AUTHENTIC", "does not open", "in clear", bytes(28) + KS),
        "ticket-flipped": (
            *("NOT_AUTHENTIC", "does not open", "its last bit is another"),
            TICKET[:-1] + u(TICKET[-1] ^ 1, 1),
        ),
        "ticket-cut": ("NOT_AUTHENTIC", "does not open", "its last byte is missing", TICKET[:-1]),
        "ticket-of-another-receiver": (
            *("NOT_AUTHENTIC", "does not open", "sealed for carol under bob's key"),
            sealed(TICKET_FIELDS, associated=carols),
        ),
        "ticket-of-an-older-epoch": (
            *("NOT_AUTHENTIC", "does not open", "sealed for an epoch before"),
            sealed(TICKET_FIELDS, associated=old),
        ),
        "ticket-under-the-reply-key": (
            *("NOT_AUTHENTIC", "does not open", "sealed without the epoch's secret"),
            sealed(TICKET_FIELDS, key=B_REPLY),
        ),
        "ticket-with-a-trailing-byte": (
            *("MALFORMED", "fields end at", "one byte too many, truly sealed"),
            sealed(TICKET_FIELDS + b"\0"),
        ),
        "ticket-without-a-name": (
            *("MALFORMED", "not a principal's name", "truly sealed, for nobody"),
            sealed(no_name),
        ),
    }
    return {
        name: vector(
            comment,
            body,
            kind="ticket",
            expect=expect,
            because=because,
            key=TK,
            epoch_id=EID,
            fields=TICKET_FIELDS,
        )
        for name, (expect, because, comment, body) in cases.items()
    }


def handshake(
    prologue: bytes, psk: bytes, ephemeral: X25519PrivateKey
) -> tuple[bytes, bytes, bytes, bytes]:
    """Noise_NKpsk0 with empty payloads: m1, m2, and the keys there and back."""
    state = chaining_key = b"Noise_NKpsk0_25519_AESGCM_SHA256"

    def mix(data: bytes) -> None:
        nonlocal state
        state = hashlib.sha256(state + data).digest()

    def mix_key(key_material: bytes) -> bytes:
        nonlocal chaining_key
        chaining_key, key, _ = noise_hkdf(chaining_key, key_material)
        return key

    mix(prologue)
    mix(public(STATIC))
    chaining_key, mixed, _ = noise_hkdf(chaining_key, psk)
    mix(mixed)
    messages = []
    for own, peer in ((ephemeral, STATIC), (ANSWER, ephemeral)):
        mix(public(own))
        mix_key(public(own))
        tag = seal(mix_key(dh(own, public(peer))), bytes(12), state, b"")
        mix(tag)
        messages.append(public(own) + tag)
    there, back, _ = noise_hkdf(chaining_key, b"")
    return messages[0], messages[1], there, back


def prologue(ticket: bytes = TICKET, sender: bytes = b"alice", receiver: bytes = b"bob") -> bytes:
    return enc(b"kdp/1 309", REALM, b"\1", sender, receiver, EID, ticket)


M1, M2, THERE, BACK = handshake(prologue(), KS, EPHEMERAL)


def presents() -> dict[str, str]:
    def present(
        m1: bytes = M1,
        *,
        version: int = 1,
        epoch_id: bytes = EID,
        ticket: bytes = TICKET,
        tail: bytes = b"",
    ) -> bytes:
        return u(309, 2) + u(version, 1) + epoch_id + u(len(ticket), 2) + ticket + m1 + tail

    other_ephemeral = handshake(prologue(), KS, x25519("thief"))[0]
    other_key = handshake(prologue(), made("guess", 32), EPHEMERAL)[0]
    other_name = handshake(prologue(sender=b"mallory"), KS, EPHEMERAL)[0]
    fields = TICKET_FIELDS.replace(text(b"alice"), text(b"bob"))
    from_bob = TICKET_NONCE + seal(TK, TICKET_NONCE, TICKET_AD, fields)
    cases = {
        "present": ("ok", "", present()),
        "present-version-2": ("VERSION", "version 02", present(version=2)),
        "present-of-an-unknown-epoch": (
            *("NOT_AUTHENTIC", "not one of ours"),
            present(epoch_id=bytes(16)),
        ),
        "present-with-a-trailing-byte": ("MALFORMED", "fields end at", present(tail=b"\0")),
        "present-cut": ("MALFORMED", "fields end at", present(M1[:-1])),
        "present-without-a-ticket": ("MALFORMED", "0 bytes", present(ticket=b"")),
        "present-with-a-long-ticket": ("MALFORMED", "257 bytes", present(ticket=bytes(257))),
        "present-with-another-ephemeral": (
            *("NOT_AUTHENTIC", "the ephemeral key is not the one"),
            present(other_ephemeral),
        ),
        "present-without-the-session-key": ("NOT_AUTHENTIC", "record 0", present(other_key)),
        "present-with-another-name": ("NOT_AUTHENTIC", "record 0", present(other_name)),
        "present-from-the-receiver": (
            *("NOT_ALLOWED", "bob is not allowed"),
            present(handshake(prologue(from_bob, b"bob"), KS, EPHEMERAL)[0], ticket=from_bob),
        ),
    }
    return {
        name: vector(
            "what alice sends to bob first" if expect == "ok" else name.replace("-", " "),
            body,
            kind="present",
            expect=expect,
            because=because,
            reply_key=B_REPLY,
            secret=E,
            epoch_id=EID,
            static=STATIC.private_bytes_raw(),
            ephemeral=EPHEMERAL.private_bytes_raw(),
            session_key=KS,
            answer_ephemeral=ANSWER.private_bytes_raw(),
            answer=M2,
            key_there=THERE,
            key_back=BACK,
        )
        for name, (expect, because, body) in cases.items()
    }


def applications() -> dict[str, str]:
    """Tickets for an application: epoch, ticket, proof; what it gives is a key for a label."""

    def root(
        private: X25519PrivateKey = EPHEMERAL, key: bytes = KS, sender: bytes = b"alice"
    ) -> bytes:
        names = (b"LOCAL", sender, b"bob", EID, TICKET)
        shared = dh(private, public(STATIC))
        return hkdf(shared, key, enc(b"kdp/1 application root", *names))

    def proof(root: bytes) -> bytes:
        return hkdf(bytes(32), root, enc(b"kdp/1 application proof"))

    good, label = root(), "B\u00e4nder"
    low_order = bytes(32)
    fields = TICKET_FIELDS.replace(public(EPHEMERAL), low_order)
    no_point = TICKET_NONCE + seal(TK, TICKET_NONCE, TICKET_AD, fields)
    wrong = "the proof with the ticket of alice"
    cases = {
        "application": ("ok", "", EID, TICKET, proof(good)),
        "application-without-a-proof": ("NOT_AUTHENTIC", wrong, EID, TICKET, b""),
        "application-with-the-key-as-proof": ("NOT_AUTHENTIC", wrong, EID, TICKET, KS),
        "application-with-another-ephemeral": (
            *("NOT_AUTHENTIC", wrong),
            *(EID, TICKET, proof(root(x25519("thief")))),
        ),
        "application-with-another-session-key": (
            *("NOT_AUTHENTIC", wrong),
            *(EID, TICKET, proof(root(key=made("guess", 32)))),
        ),
        "application-with-another-name": (
            *("NOT_AUTHENTIC", wrong),
            *(EID, TICKET, proof(root(sender=b"mallory"))),
        ),
        "application-of-an-unknown-epoch": (
            *("NOT_AUTHENTIC", "not one of ours"),
            *(bytes(16), TICKET, proof(good)),
        ),
        "application-of-low-order": (
            *("MALFORMED", "a public key of low order"),
            *(EID, no_point, proof(good)),
        ),
    }
    return {
        name: vector(
            "what alice hands to bob for an application" if expect == "ok" else name,
            epoch_id + u(len(ticket), 2) + ticket + given,
            kind="application",
            expect=expect,
            because=because,
            reply_key=B_REPLY,
            secret=E,
            epoch_id=EID,
            static=STATIC.private_bytes_raw(),
            ephemeral=EPHEMERAL.private_bytes_raw(),
            session_key=KS,
            label=label.encode(),
            key=hkdf(bytes(32), good, enc(b"kdp/1 application", label.encode())),
        )
        for name, (expect, because, epoch_id, ticket, given) in cases.items()
    }


def records() -> dict[str, str]:
    def rekeyed(key: bytes) -> bytes:
        return seal(key, bytes(4) + b"\xff" * 8, b"", bytes(32))[:32]

    def sealed(*plain: bytes, start: int = 0, key: bytes = THERE) -> bytes:
        stream = b""
        for count, body in enumerate(plain, start):
            if count == 65_536:
                key = rekeyed(key)
            record = seal(key, u(count, 12), b"", body)
            stream += u(len(record), 2) + record
        return stream

    def end(total: int, count: int) -> bytes:
        return b"\1" + u(total, 8) + u(count, 8)

    def numbers(stream: bytes) -> bytes:
        first = 2 + int.from_bytes(stream[:2], "big")
        return stream[first:] + stream[:first]

    wrong = "does not count what was received"
    cases = {
        "records": ("ok", "", 0, sealed(b"\0", b"\0hello", end(5, 2))),
        "records-rekeyed": ("ok", "", 65_535, sealed(b"\0a", b"\0b", end(2, 2), start=65_535)),
        "records-65536-under-the-old-key": (
            *("NOT_AUTHENTIC", "record 65536 does not open", 65_535),
            sealed(b"\0a", start=65_535) + _record(THERE, 65_536, b"\0b"),
        ),
        "records-swapped": (
            *("NOT_AUTHENTIC", "record 0 does not open", 0),
            numbers(sealed(b"\0a", b"\0b")),
        ),
        "records-repeated": (
            *("NOT_AUTHENTIC", "record 1 does not open", 0),
            sealed(b"\0a") * 2,
        ),
        "records-reflected": (
            *("NOT_AUTHENTIC", "record 0 does not open", 0),
            sealed(b"\0a", key=BACK),
        ),
        "records-end-too-early": ("NOT_AUTHENTIC", wrong, 0, sealed(b"\0a", end(2, 2))),
        "records-end-with-another-length": ("NOT_AUTHENTIC", wrong, 0, sealed(b"\0a", end(2, 1))),
        "records-data-after-the-end": (
            *("MALFORMED", "data after the end", 0),
            sealed(end(0, 0), b"\0a"),
        ),
        "records-two-ends": ("MALFORMED", "a second end", 0, sealed(end(0, 0), end(0, 0))),
        "records-end-with-a-trailing-byte": (
            *("MALFORMED", "fields end at", 0),
            sealed(end(0, 0) + b"\0"),
        ),
        "records-of-type-3": ("MALFORMED", "a record of type 3", 0, sealed(b"\3")),
        "records-answer-to-no-end": (
            *("MALFORMED", "answers no end", 0),
            sealed(b"\2\0" + u(0, 16)),
        ),
        "records-answer-with-status-4": (
            *("MALFORMED", "4 is not a valid AckStatus", 0),
            sealed(b"\2\4" + u(0, 16)),
        ),
        "records-shorter-than-a-tag": ("MALFORMED", "a frame of 16 bytes", 0, u(16, 2)),
    }
    return {
        name: vector(
            "records of alice's to bob",
            body,
            kind="records",
            expect=expect,
            because=because,
            key_there=THERE,
            key_back=BACK,
            count=count,
        )
        for name, (expect, because, count, body) in cases.items()
    }


def _record(key: bytes, count: int, body: bytes) -> bytes:
    record = seal(key, u(count, 12), b"", body)
    return u(len(record), 2) + record


def said(**fields: object) -> bytes:
    """A message of section 6.4."""
    body = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return u(len(body), 2) + body


def sendings() -> dict[str, str]:
    """Streams of the service kdc.send, and what is there at their end."""

    def offer(*names: str, items: int, size: int) -> bytes:
        return said(names=names, more=0, items=items, size=size, text=False)

    def item(name: str, content: bytes = b"", kind: str = "file", **more: object) -> bytes:
        size = len(content)
        head = {"kind": kind, "name": name, "size": size, "executable": False, "from": 0, **more}
        return said(**head) + content

    def omitted(name: str, why: str, *, again: bool = False, **more: object) -> bytes:
        return said(kind="omitted", name=name, why=why, again=again, **more)

    one, two = b"as it was", b"as it is"
    start = offer("d", items=3, size=9) + item("d", kind="directory")
    changed = start + item("d/a", one) + omitted("d/a", "changed", again=True)
    odd = "Screenshot 10.32.07\u202fAM.png"
    details: dict[str, Any] = {"mode": 0o644, "modified": -1, "sparse": True}
    streams: dict[str, tuple[bytes, str]] = {
        "changed": (changed + item("d/a", two) + omitted("d/b", "gone"), "d d/a"),
        "changed-again": (changed + item("d/a", two) + omitted("d/a", "changed"), "d"),
        "details": (start + item("d/a", one, **details), "d d/a"),
        "odd-name": (offer(odd, items=1, size=0) + item(odd), odd.replace(" ", "_")),
        "longest-name": (offer("x" * 255, items=1, size=0) + item("x" * 255), "x" * 255),
    }
    wrong: dict[str, tuple[bytes, str]] = {
        "name-too-long": (offer("x" * 256, items=1, size=0), "256 bytes"),
        "name-with-an-override": (offer("a\u202eb", items=1, size=0), "U+202E"),
        "not-again": (changed, "come again does not"),
        "omitted-for-no-reason": (start + omitted("d/a", "lost"), "not a valid Why"),
        "omitted-with-more": (start + omitted("d/a", "gone", size=0), "nothing else"),
        "nothing-left": (offer("a", items=1, size=0) + omitted("a", "gone"), "nothing was sent"),
        "setuid": (start + item("d/a", one, mode=0o4755), "more of a mode"),
        "sparse-false": (start + item("d/a", one, sparse=False), "only if it is so"),
        "time-not-whole": (start + item("d/a", one, modified=0.5), "not a time"),
    }
    good = {
        f"sending-{name}": vector(
            f"a stream: {name.replace('-', ' ')}", body, kind="sending", expect="ok", there=there
        )
        for name, (body, there) in streams.items()
    }
    bad = {
        f"sending-{name}": vector(
            f"a stream: {name.replace('-', ' ')}",
            body,
            kind="sending",
            expect="MALFORMED",
            because=because,
        )
        for name, (body, because) in wrong.items()
    }
    return {**good, **bad}


def faults() -> dict[str, str]:
    """Requests that are not the one encoding of anything."""
    tail = public(EPHEMERAL) + NONCE
    key_request, receive = u(305, 2), u(307, 2)
    good = key_request + text(b"bob") + tail

    def at(address: bytes) -> bytes:
        return receive + text(address) + u(PORT, 2) + tail

    name, address = "not a principal's name", "not a canonical IP address"
    cases = {
        "empty": ("a message of 0 bytes", b""),
        "of-one-byte": ("a message of 1 bytes", b"\1"),
        "over-the-limit": ("a message of 2049 bytes", key_request + bytes(2047)),
        "unknown-number": ("no request has the number 300", u(300, 2) + tail),
        "that-is-a-reply": ("no request has the number 306", u(306, 2) + tail),
        "name-with-a-capital": (name, key_request + text(b"Bob") + tail),
        "name-empty": (name, key_request + text(b"") + tail),
        "name-too-long": (name, key_request + text(b"b" * 65) + tail),
        "name-not-ascii": ("'ascii' codec", key_request + text("b\u00f6b".encode()) + tail),
        "name-with-a-new-line": (name, key_request + text(b"bob\n") + tail),
        "name-with-a-dot-first": (name, key_request + text(b".bob") + tail),
        "name-longer-than-the-message": ("ends within a field", key_request + b"\xff" + tail),
        "one-byte-short": ("fields end at", good[:-1]),
        "one-byte-long": ("fields end at", good + b"\0"),
        "address-that-is-a-host-name": ("does not appear to be", at(b"localhost")),
        "address-with-a-scope": (address, at(b"fe80::1%eth0")),
        "address-with-capitals": (address, at(b"2001:DB8::1")),
        "address-with-zeros": (address, at(b"2001:db8:0:0::1")),
        "address-ipv4-in-ipv6": (address, at(b"::ffff:c000:207")),
        "change-without-its-keys": (
            *("new keys and signature belong",),
            u(303, 2) + b"\1\0\0\0\0\0" + NONCE + bytes(64) + b"\0",
        ),
        "change-with-op-3": (
            *("3 is not from 1 to 2",),
            u(303, 2) + b"\3\0\0\0\0\0" + NONCE + bytes(64) + b"\0",
        ),
    }
    return {
        f"request-{name}": vector(
            f"request {name.replace('-', ' ')}",
            body,
            kind="request",
            expect="MALFORMED",
            because=because,
        )
        for name, (because, body) in cases.items()
    }


def invitations() -> dict[str, str]:
    """Words as they are handed over; the bytes are those of the word."""

    def word(realm: bytes, host: bytes, port: int = 12345, check: bytes = b"") -> str:
        content = made("pin", 32) + u(port, 2) + text(realm) + text(b"bob") + host + text(CODE[:16])
        check = check or hashlib.sha256(b"kdc2" + content).digest()[:3]
        return "kdc2-" + base64.urlsafe_b64encode(content + check).decode().rstrip("=")

    ipv4, ipv6 = b"\0\xc0\0\2\x0a", b"\xff\x20\1\x0d\xb8" + bytes(11) + b"\1"
    code = base64.urlsafe_b64encode(CODE[:16]).decode().rstrip("=")
    old = f"kdc-invite:1:LOCAL:bob:192.0.2.10:12345:{made('pin', 32).hex()}:{code}"
    good = {
        "ipv4": (word(b"", ipv4), "LOCAL", "192.0.2.10"),
        "ipv6": (word(b"", ipv6), "LOCAL", "2001:db8::1"),
        "name": (word(b"R", text(b"kdc.example")), "R", "kdc.example"),
        "old": (old, "LOCAL", "192.0.2.10"),
    }
    bad = {
        "cut": word(b"", ipv4)[:60],
        "port-0": word(b"", ipv4, 0),
        "another-check": word(b"", ipv4, check=b"abc"),
        "realm-spelt-out": word(b"LOCAL", ipv4),
        "address-spelt-out": word(b"", text(b"192.0.2.10")),
        "longer": word(b"", ipv4) + "AAAA",
    }
    found = {
        f"invitation-{name}": vector(
            "an invitation for bob",
            written.encode(),
            kind="invitation",
            expect="ok",
            realm=realm,
            name="bob",
            host=host,
            port=12345,
            pin=made("pin", 32),
            code=CODE[:16],
        )
        for name, (written, realm, host) in good.items()
    }
    return found | {
        f"invitation-{name}": vector(name, written.encode(), kind="invitation", expect="refused")
        for name, written in bad.items()
    }


def vectors() -> dict[str, str]:
    """Every vector's file name and text."""
    wire = (requests, replies, keys, tickets, presents, applications, records, faults)
    sources = (*wire, sendings, invitations)
    return {f"{name}.txt": body for source in sources for name, body in source().items()}


def main() -> int:
    differing = []
    for name, body in vectors().items():
        path = VECTORS / name
        if not path.exists():
            path.write_text(body)
        elif path.read_text() != body:
            differing.append(name)
    if differing:
        print("these came out otherwise, and were left as they are:", file=sys.stderr)
        print(*sorted(differing), sep="\n", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
