"""The messages between client and KDC, one frozen class each.

Numbers, fields and what a signature or seal covers: docs/protocol.md section 4.
An instance that exists is valid; decoding anything else raises
`RemoteProtocolError` with MALFORMED.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar, TypeAlias, TypeVar

import attrs

from kdc.errors import Refusal, malformed
from kdc.protocol.codec import (
    ADDRESS,
    MAX_FRAME,
    NAME,
    Layout,
    enc,
    fixed,
    optional,
    uint,
    variable,
)
from kdc.protocol.crypto import KEY_BYTES, NONCE_BYTES, ChannelBinding, SessionKey

__all__ = [
    "CHANGE_KEYS",
    "DELETE_PRINCIPAL",
    "LIFETIME_SECONDS",
    "MAX_TICKET",
    "Authenticate",
    "Authenticated",
    "ChangeKeys",
    "Changed",
    "EpochEnded",
    "KeyReplies",
    "KeyReply",
    "KeyRequest",
    "Message",
    "Receive",
    "Receiving",
    "Refused",
    "Register",
    "Registered",
    "Request",
    "SealedMessage",
    "associated_data",
    "decode",
    "decode_fields",
    "decode_request",
    "encode",
    "encode_fields",
    "split_sealed",
    "type_of",
]

LIFETIME_SECONDS = range(10, 3601)
MAX_TICKET = 256
CHANGE_KEYS = 1
DELETE_PRINCIPAL = 2
_TYPE_BYTES = 2

_KEY = fixed(32)
_NONCE = fixed(NONCE_BYTES)
_BEFORE_NONCE = enc(bytes(NONCE_BYTES))[:-NONCE_BYTES]  # what `enc` has before each of them
_SIGNATURE = fixed(64)
_PORT = uint(2)
_GENERATION = uint(8)
_LIFETIME_BYTES = 4
_TICKET_LENGTH_BYTES = 2
_LIFETIME = uint(_LIFETIME_BYTES, LIFETIME_SECONDS.start, LIFETIME_SECONDS.stop - 1)


@attrs.frozen
class Register:
    """301: take the name, with these public and shared keys."""

    TYPE: ClassVar = 301

    name: str = NAME.field()
    address: str = ADDRESS.field()
    port: int = _PORT.field()
    verify_key: bytes = _KEY.field()
    reply_key: bytes = _KEY.field(secret=True)
    nonce: bytes = _NONCE.field()
    invitation: bytes = optional(32).field(secret=True)
    signature: bytes = _SIGNATURE.field()

    def signed(self, realm: str, binding: ChannelBinding) -> tuple[bytes, ...]:
        return (
            b"kdp/1 register",
            realm.encode(),
            binding,
            self.name.encode(),
            self.address.encode(),
            self.port.to_bytes(2, "big"),
            self.verify_key,
            self.reply_key,
            self.nonce,
        )

    def invited(self, realm: str, binding: ChannelBinding) -> tuple[bytes, ...]:
        """What the HMAC under the invitation code covers."""
        return (
            b"kdp/1 invite",
            realm.encode(),
            binding,
            self.name.encode(),
            self.verify_key,
            self.reply_key,
            self.nonce,
        )


@attrs.frozen
class Registered:
    """302: the name is taken, durably."""

    TYPE: ClassVar = 302

    nonce: bytes = _NONCE.field()
    generation: int = _GENERATION.field()


@attrs.frozen
class ChangeKeys:
    """303: new keys for this name, or (op 2) delete it."""

    TYPE: ClassVar = 303

    op: int = uint(1, CHANGE_KEYS, DELETE_PRINCIPAL).field()
    address: str = ADDRESS.field()
    port: int = _PORT.field()
    new_verify_key: bytes = optional(32).field()
    new_reply_key: bytes = optional(32).field(secret=True)
    nonce: bytes = _NONCE.field()
    old_signature: bytes = _SIGNATURE.field()
    new_signature: bytes = optional(64).field()

    def __attrs_post_init__(self) -> None:
        new = [bool(f) for f in (self.new_verify_key, self.new_reply_key, self.new_signature)]
        if new != [self.op == CHANGE_KEYS] * 3:
            raise ValueError("new keys and signature belong to a change, and to it alone")

    def signed(self, realm: str, binding: ChannelBinding, name: str) -> tuple[bytes, ...]:
        return (
            b"kdp/1 change",
            realm.encode(),
            binding,
            name.encode(),
            self.op.to_bytes(1, "big"),
            self.address.encode(),
            self.port.to_bytes(2, "big"),
            self.new_verify_key,
            self.new_reply_key,
            self.nonce,
        )


@attrs.frozen
class Changed:
    """304: the change is durable."""

    TYPE: ClassVar = 304

    generation: int = _GENERATION.field()


@attrs.frozen
class KeyRequest:
    """305: a session key for me and ``peer``; my ephemeral will be this one."""

    TYPE: ClassVar = 305

    peer: str = NAME.field()
    ephemeral: bytes = _KEY.field()
    nonce: bytes = _NONCE.field()


@attrs.frozen
class KeyReply:
    """306: session key, where and how the peer is reached, and the ticket for it."""

    TYPE: ClassVar = 306

    session_key: bytes = _KEY.field(secret=True)
    epoch_id: bytes = fixed(16).field()
    receiver_key: bytes = _KEY.field()
    lifetime_seconds: int = _LIFETIME.field()
    address: str = ADDRESS.field()
    port: int = _PORT.field()
    ticket: bytes = variable(1, MAX_TICKET, length_bytes=_TICKET_LENGTH_BYTES).field(secret=True)


@attrs.frozen
class Receive:
    """307: begin an epoch in which I can be reached here, under this epoch key."""

    TYPE: ClassVar = 307

    address: str = ADDRESS.field()  # empty: the one the KDC sees
    port: int = _PORT.field()
    receiver_key: bytes = _KEY.field()
    nonce: bytes = _NONCE.field()


@attrs.frozen
class Receiving:
    """308: the epoch has begun."""

    TYPE: ClassVar = 308

    epoch_id: bytes = fixed(16).field()
    secret: bytes = _KEY.field(secret=True)
    lifetime_seconds: int = _LIFETIME.field()


@attrs.frozen
class Authenticate:
    """311: I am this principal, on this connection."""

    TYPE: ClassVar = 311

    name: str = NAME.field()
    nonce: bytes = _NONCE.field()
    signature: bytes = _SIGNATURE.field()

    def signed(self, realm: str, binding: ChannelBinding) -> tuple[bytes, ...]:
        return (b"kdp/1 auth", realm.encode(), binding, self.name.encode(), self.nonce)


@attrs.frozen
class Authenticated:
    """312: so you are."""

    TYPE: ClassVar = 312

    generation: int = _GENERATION.field()


@attrs.frozen
class EpochEnded:
    """313: your epoch ended because this name began another elsewhere."""

    TYPE: ClassVar = 313

    epoch_id: bytes = fixed(16).field()


@attrs.frozen
class Refused:
    """399: no, and why; ``retry_after`` in seconds, 0 where it would not help."""

    TYPE: ClassVar = 399

    code: Refusal = uint(1, min(Refusal), max(Refusal)).field(converter=Refusal)
    retry_after: int = uint(2).field()


Request: TypeAlias = Register | ChangeKeys | KeyRequest | Receive | Authenticate
SealedMessage: TypeAlias = Authenticated | Changed | KeyReply | Receiving | EpochEnded | Refused
Message: TypeAlias = Request | SealedMessage | Registered
M = TypeVar("M")


_REQUESTS: dict[int, type[Any]] = {
    cls.TYPE: cls for cls in (Register, ChangeKeys, KeyRequest, Receive, Authenticate)
}
_REPLIES: tuple[type[Any], ...] = (
    Registered,
    Authenticated,
    Changed,
    KeyReply,
    Receiving,
    EpochEnded,
    Refused,
)
_LAYOUTS: dict[type[Any], Layout[Any]] = {
    cls: Layout(cls) for cls in (*_REQUESTS.values(), *_REPLIES)
}


def encode_fields(message: Message) -> bytes:
    """Return the fields alone, without the type: what a reply's seal covers."""
    return _LAYOUTS[type(message)].join(message)


class KeyReplies:
    """The fields of all 306 that lead to one epoch: what they have in common is encoded once."""

    def __init__(self, epoch_id: bytes, receiver_key: bytes, address: str, port: int) -> None:
        lifetime = LIFETIME_SECONDS.start
        example = KeyReply(bytes(KEY_BYTES), epoch_id, receiver_key, lifetime, address, port, b"?")
        fields = encode_fields(example)
        lifetime_at = KEY_BYTES + len(epoch_id) + len(receiver_key)
        self._epoch = fields[KEY_BYTES:lifetime_at]
        self._where = fields[lifetime_at + _LIFETIME_BYTES : -1 - _TICKET_LENGTH_BYTES]

    def fields(self, session_key: SessionKey, lifetime_seconds: int, ticket: bytes) -> bytes:
        """As `encode_fields` of that `KeyReply`, of values which the KDC has made itself."""
        return b"".join(
            (
                session_key,
                self._epoch,
                lifetime_seconds.to_bytes(_LIFETIME_BYTES, "big"),
                self._where,
                len(ticket).to_bytes(_TICKET_LENGTH_BYTES, "big"),
                ticket,
            )
        )


def encode(message: Message) -> bytes:
    """Return a plain message: type, then fields."""
    return message.TYPE.to_bytes(_TYPE_BYTES, "big") + encode_fields(message)


def decode_fields(message_type: type[M], data: bytes) -> M:
    """Return the message whose fields are exactly ``data``."""
    message: M = _LAYOUTS[message_type].split(data)
    return message


def type_of(body: bytes) -> int:
    if not _TYPE_BYTES <= len(body) <= MAX_FRAME:
        raise malformed(f"a message of {len(body)} bytes")
    return int.from_bytes(body[:_TYPE_BYTES], "big")


def decode(message_type: type[M], body: bytes) -> M:
    """Return the plain message in ``body``, which must be of that type."""
    number = type_of(body)
    if number != message_type.TYPE:  # type: ignore[attr-defined]
        raise malformed(f"message {number} where {message_type.__name__} was expected")
    return decode_fields(message_type, body[_TYPE_BYTES:])


def decode_request(body: bytes) -> Request:
    """Return the request in ``body``, whichever it is."""
    number = type_of(body)
    message_type = _REQUESTS.get(number)
    if message_type is None:
        raise malformed(f"no request has the number {number}")
    request: Request = decode_fields(message_type, body[_TYPE_BYTES:])
    return request


def split_sealed(body: bytes) -> tuple[int, bytes, bytes]:
    """Return (type, N, ciphertext) of a sealed frame."""
    start = _TYPE_BYTES + NONCE_BYTES
    if len(body) < start:
        raise malformed(f"a sealed frame of {len(body)} bytes")
    return type_of(body), body[_TYPE_BYTES:start], body[start:]


def associated_data(
    message_type: type[SealedMessage], realm: str, name: str, nonce: bytes, peer: str = ""
) -> bytes:
    """What a sealed reply is bound to: its kind, the realm, who asked, for whom, and when."""
    bound = _bound_to(message_type.TYPE, realm, name)
    if message_type is EpochEnded:
        return bound
    if message_type is KeyReply:
        bound += _about(peer)
    return bound + _BEFORE_NONCE + nonce


@functools.lru_cache(maxsize=4096)  # the same for all who ask for one
def _about(peer: str) -> bytes:
    return enc(peer.encode())


@functools.lru_cache(maxsize=4096)  # the same for each reply of a kind to one principal
def _bound_to(number: int, realm: str, name: str) -> bytes:
    return enc(f"kdp/1 {number}".encode(), realm.encode(), name.encode())
