"""What a relay, its receivers and their senders say to each other, docs/protocol.md section 6.6.

A relay joins two TCP connections and never learns what passes.  Three things
are said besides: over the link, which is an ordinary channel from the receiver,
the messages below; on the relay's port, a receiver that was called shows its
token; and on a receiver's port, the relay shows that the way to it is open.

A sender says nothing of its own: its 309 begins with the epoch, in clear, and
that is what the relay goes by.  Pure: no I/O.
"""

from __future__ import annotations

import enum
from typing import ClassVar, TypeAlias

import attrs

from kdc.errors import malformed
from kdc.protocol.codec import ADDRESS, Layout, fixed, frame, uint

__all__ = [
    "FIRST_BYTES",
    "MAX_MESSAGE",
    "RELAY",
    "SERVICE",
    "TOKEN_BYTES",
    "Call",
    "Claim",
    "Claimed",
    "Dialled",
    "First",
    "Message",
    "Presented",
    "Reach",
    "Release",
    "Token",
    "Verdict",
    "Verify",
    "decode",
    "dial_back",
    "encode",
    "first_of",
    "show_token",
]

SERVICE = "kdc.relay"
# The name by which everybody finds the realm's relay.
RELAY = "relay"
TOKEN_BYTES = 32
MAX_MESSAGE = 128
# So much is read of a connection before it is known what becomes of it.
FIRST_BYTES = 64

_EPOCH = fixed(16)


class Reach(enum.Enum):
    """Which ways to somebody are tried: both, where there are both, or one of them only."""

    AUTO = "auto"
    DIRECT = "direct"
    RELAY = "relay"


class Verdict:
    """What becomes of a claim."""

    YES = 0
    NOT_YOURS = 1
    TOO_MANY = 2


@attrs.frozen
class Claim:
    """1: whoever presents himself to this epoch wants me."""

    TYPE: ClassVar = 1

    epoch_id: bytes = _EPOCH.field()


@attrs.frozen
class Release:
    """2: this epoch is no more."""

    TYPE: ClassVar = 2

    epoch_id: bytes = _EPOCH.field()


@attrs.frozen
class Verify:
    """3: connect once to the address that you see me at, this port, and show ``nonce`` there."""

    TYPE: ClassVar = 3

    port: int = uint(2, 1).field()
    nonce: bytes = _EPOCH.field()


@attrs.frozen
class Claimed:
    """4: the answer to a claim, a `Verdict`."""

    TYPE: ClassVar = 4

    epoch_id: bytes = _EPOCH.field()
    verdict: int = uint(1, 0, 2).field()


@attrs.frozen
class Call:
    """5: somebody at this address presents himself to this epoch; come with this token."""

    TYPE: ClassVar = 5

    epoch_id: bytes = _EPOCH.field()
    token: bytes = fixed(TOKEN_BYTES).field(secret=True)
    address: str = ADDRESS.field()
    port: int = uint(2).field()


@attrs.frozen
class Dialled:
    """6: so I have, or that could not be done.  Whether it was you, you know."""

    TYPE: ClassVar = 6

    nonce: bytes = _EPOCH.field()
    connected: int = uint(1, 0, 1).field()


Message: TypeAlias = Claim | Release | Verify | Claimed | Call | Dialled
_LAYOUTS: dict[int, tuple[type[Message], Layout[Message]]] = {
    cls.TYPE: (cls, Layout(cls)) for cls in (Claim, Release, Verify, Claimed, Call, Dialled)
}


def encode(message: Message) -> bytes:
    """Return a message as it goes over the link: its length, its type, its fields."""
    return frame(bytes([message.TYPE]) + _LAYOUTS[message.TYPE][1].join(message))


def decode(body: bytes) -> Message:
    """Return the message in a frame's body; raises `RemoteProtocolError`."""
    _, layout = _LAYOUTS.get(body[0] if body else 0, (None, None))
    if layout is None:
        raise malformed(f"no message of a relay begins like this: {body[:1].hex()!r}")
    return layout.split(body[1:])


# What a connection begins with.  The numbers are those of kdp/1 and one that it does not have.

_VERSION = 1
_PRESENT = (309).to_bytes(2, "big") + bytes([_VERSION])
_TOKEN = (331).to_bytes(2, "big") + bytes([_VERSION])
_HEAD = 2 + len(_PRESENT)
# From the smallest 309 there can be to the largest that a receiver reads (section 5).
_PRESENT_LENGTHS = range(len(_PRESENT) + 16 + 2 + 1 + 48, 512 + 1)
_TOKEN_LENGTHS = range(len(_TOKEN) + TOKEN_BYTES, len(_TOKEN) + TOKEN_BYTES + 1)


@attrs.frozen
class Presented:
    """A sender: what it goes on with is the receiver's business."""

    epoch_id: bytes


@attrs.frozen
class Token:
    """A receiver that was called."""

    token: bytes = attrs.field(repr=False)


First: TypeAlias = Presented | Token


def first_of(data: bytes) -> First | None:
    """What a connection is, of which ``data`` has come; None: that cannot be said yet.

    Raises `RemoteProtocolError` as soon as it can be nothing of this.
    """
    for start, lengths, size in (
        (_PRESENT, _PRESENT_LENGTHS, 16),
        (_TOKEN, _TOKEN_LENGTHS, TOKEN_BYTES),
    ):
        if data[2:_HEAD] != start[: max(len(data) - 2, 0)]:
            continue
        if len(data) >= 2 and int.from_bytes(data[:2], "big") not in lengths:
            continue
        if len(data) < _HEAD + size:
            return None
        found = data[_HEAD : _HEAD + size]
        if start is _PRESENT:
            return Presented(found)
        if len(data) > _HEAD + size:
            raise malformed("a receiver that speaks before it was spoken to")
        return Token(found)
    raise malformed(f"neither a sender nor a receiver begins like this: {data[:_HEAD].hex()!r}")


def show_token(token: bytes) -> bytes:
    """What a receiver that was called begins with, and all that it says to the relay."""
    return frame(_TOKEN + token)


def dial_back(nonce: bytes) -> bytes:
    """What a relay sends to a receiver's port to show that it is reached there.

    It is the beginning of a 309 and nothing more, which every receiver refuses;
    the one that has asked for it knows it by the nonce.
    """
    return frame(_PRESENT + nonce)
