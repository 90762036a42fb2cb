"""One client's connection: where it is, who it is, and how it is answered."""

from __future__ import annotations

import enum
from collections.abc import Callable

from kdc.errors import Refusal
from kdc.issuing.decisions import Audit, Output, Write
from kdc.issuing.realm import Realm
from kdc.limits import address_prefix
from kdc.protocol.codec import ADDRESS, frame
from kdc.protocol.crypto import (
    ZERO_NONCE,
    ChannelBinding,
    ReplyCipher,
    ReplyKey,
    VerifyKey,
    reply_cipher,
)
from kdc.protocol.messages import (
    EpochEnded,
    Refused,
    SealedMessage,
    associated_data,
    encode,
    encode_fields,
)
from kdc.store import Change, Record, Result, Status

__all__ = ["Session", "State"]

_CLOSING = frozenset(
    (Refusal.MALFORMED, Refusal.VERSION, Refusal.NOT_AUTHENTIC, Refusal.INVITATION)
)


class State(enum.Enum):
    """Where a connection can be.  SPENT answers nothing any more."""

    NEW = enum.auto()
    AUTHENTIC = enum.auto()
    WRITING = enum.auto()  # a change is on its way to the store: no frame is taken until it is back
    SPENT = enum.auto()

    __hash__ = object.__hash__  # there is one of each: enum's own hashes the name, in Python


class Session:
    """One client's connection, from its first frame to its last."""

    def __init__(self, realm: Realm, address: str, binding: ChannelBinding) -> None:
        self.realm = realm
        self.address = address
        self.prefix = address_prefix(address)
        self.reachable_address = _canonical(address)
        self.binding = binding
        self.state = State.NEW
        self.name = ""
        self.verify_key = VerifyKey(b"")
        self.reply_key = ReplyKey(b"")
        self.expiry_time = 0
        self._cipher: ReplyCipher | None = None

    @property
    def holds_epoch(self) -> bool:
        epoch = self.realm.epoch_of(self.name)
        return epoch is not None and epoch.connection is self

    def authentic(self, record: Record) -> None:
        """The client is whom ``record`` is of, and is so for as long as it is connected."""
        self.state = State.AUTHENTIC
        self.name = record.name
        self.verify_key = VerifyKey(record.verify_key)
        self.reply_key = ReplyKey(record.reply_key)
        self.expiry_time = record.expiry_time
        self._cipher = reply_cipher(self.reply_key, self.binding)
        self.realm.join(self.name, self)

    def outdated_by(self, record: Record) -> bool:
        """Whether this client would not be accepted any more with its record like this.

        Not while its own change is on the way: that decides for itself when it is back.
        """
        return self.state is not State.WRITING and (
            record.status is not Status.ACTIVE
            or record.verify_key != self.verify_key
            or record.expiry_time != self.expiry_time
        )

    def expired(self, unix_seconds: int) -> bool:
        """Whether this client's time is over: what it begins from now on is refused."""
        return self.expiry_time != 0 and unix_seconds > self.expiry_time

    def spend(self) -> None:
        """Answer nothing from now on."""
        self.state = State.SPENT

    def superseded(self, epoch_id: bytes) -> Output:
        """Tell this client that its epoch ended because another began."""
        return Output(self.seal(EpochEnded(epoch_id), ZERO_NONCE))

    def closed(self) -> None:
        """The connection is gone, and the epoch that was tied to it."""
        self.spend()
        if self.name:
            self.realm.leave(self.name, self)

    def write(self, change: Change, decide: Callable[[Result | None], Output]) -> Output:
        """Take nothing more until the store has answered, then do what ``decide`` says."""
        before, self.state = self.state, State.WRITING

        def then(result: Result | None) -> Output:
            if self.state is State.WRITING:  # or it was ended meanwhile, and stays so
                self.state = before
            return decide(result)

        return Output(write=Write(change, then))

    def seal(self, message: SealedMessage, nonce: bytes) -> bytes:
        return self.seal_fields(type(message), encode_fields(message), nonce)

    def seal_fields(
        self, message_type: type[SealedMessage], fields: bytes, nonce: bytes, peer: str = ""
    ) -> bytes:
        """Return the frame of a message with these fields; ``peer``: whom a 306 is about."""
        if self._cipher is None:
            raise RuntimeError("nothing is sealed before a valid 311")
        associated = associated_data(message_type, self.realm.name, self.name, nonce, peer)
        sealed = self._cipher.seal(fields, associated)
        return frame(message_type.TYPE.to_bytes(2, "big") + nonce + sealed)

    def refuse(self, refusal: Refusal, nonce: bytes, detail: str, retry_after: int = 0) -> Output:
        unproven = self._cipher is None
        line = f"{refusal.name} {detail}"
        self.tell("refused", line, unproven=unproven)
        message = Refused(refusal, min(retry_after, 0xFFFF))
        data = frame(encode(message)) if unproven else self.seal(message, nonce)
        closing = refusal in _CLOSING
        if closing:
            self.spend()
        return Output(data, close=closing)

    def tell(self, event: str, detail: str = "", *, unproven: bool = False) -> None:
        """Note in the activity log what this client has caused."""
        self.realm.audit(Audit(event, self.name, self.address, detail, unproven))


def _canonical(address: str) -> str:
    """The address as others may use it: nothing if it means something on one host only."""
    try:
        ADDRESS.check(address)
    except ValueError:
        return ""
    return address
