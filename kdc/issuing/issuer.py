"""What the KDC decides: who is who, who gets a key, who may register or change.

docs/protocol.md section 4.1, in its order.  No I/O: a `Session` takes one frame
and returns what it causes, which may include a change to the store that has to
be durable before the answer goes out.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from typing import TypeAlias

import attrs

from kdc.errors import Refusal, RemoteProtocolError
from kdc.limits import Limits, TokenBuckets, address_prefix
from kdc.protocol.codec import ADDRESS, enc, frame
from kdc.protocol.crypto import (
    KEY_BYTES,
    ZERO_NONCE,
    ChannelBinding,
    EpochSecret,
    ReplyCipher,
    ReplyKey,
    SessionKey,
    VerifyKey,
    invitation_proof,
    reply_cipher,
    same,
    ticket_key,
    verified,
)
from kdc.protocol.messages import (
    DELETE_PRINCIPAL,
    Authenticate,
    Authenticated,
    Change,
    Changed,
    KeyReply,
    KeyRequest,
    Receive,
    Receiving,
    Refused,
    Register,
    Registered,
    Request,
    SealedMessage,
    Superseded,
    associated_data,
    decode_request,
    encode,
    encode_fields,
)
from kdc.protocol.tickets import TICKET_ID_BYTES, TICKET_NONCE_BYTES, Ticket, TicketCipher
from kdc.store import Change as StoreChange
from kdc.store import Create, Delete, Outcome, Record, Replace, Result, Status

__all__ = [
    "NOTHING",
    "Audit",
    "Enrolment",
    "Issuer",
    "Now",
    "Output",
    "Permit",
    "Session",
    "Write",
    "everybody",
]


class Enrolment(enum.Enum):
    """Who may register a new name."""

    OPEN = "open"
    INVITE = "invite"
    CLOSED = "closed"


@attrs.frozen
class Now:
    """The time of a decision: a clock that only goes forward, and the one on the wall."""

    milliseconds: int
    unix_seconds: int


class State(enum.Enum):
    """Where a connection can be.  SPENT answers nothing any more."""

    NEW = enum.auto()
    AUTHENTIC = enum.auto()
    SPENT = enum.auto()


# Every request that is allowed, and nothing else.
ALLOWED: dict[State, tuple[type[Request], ...]] = {
    State.NEW: (Register, Authenticate),
    State.AUTHENTIC: (Change, KeyRequest, Receive),
    State.SPENT: (),
}

_CLOSING = frozenset(
    (Refusal.MALFORMED, Refusal.VERSION, Refusal.NOT_AUTHENTIC, Refusal.INVITATION)
)
_MAX_KNOWN_ADDRESSES = 65_536
# Verified against when there is no such principal, so that an unknown name costs
# what a wrong key costs; what it says is never believed (RFC 8032, 7.1, test 1).
_NOBODY = VerifyKey(
    bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
)
_NO_CODE = hashlib.sha256(b"kdp/1 no invitation").digest()


@attrs.frozen
class Audit:
    """One line of the activity log; never a secret.

    ``unproven``: its cause is somebody who has proved nothing, so such lines
    must be limited by whoever writes them.
    """

    event: str
    principal: str
    address: str
    detail: str = ""
    unproven: bool = False


@attrs.frozen
class Write:
    """A change that must be durable before ``then`` decides what to answer.

    ``then`` is given the store's result, or None if the store cannot write now.
    """

    change: StoreChange
    then: Callable[[Result | None, Now], Output]


@attrs.frozen
class Output:
    """What one frame causes, in this order: a write, bytes, the end, things elsewhere."""

    data: bytes = b""
    close: bool = False
    write: Write | None = None
    others: tuple[tuple[Session, Output], ...] = ()


Others: TypeAlias = tuple[tuple["Session", Output], ...]
Permit: TypeAlias = Callable[[str, str], bool]
NOTHING = Output()
_CLOSE = Output(close=True)


@attrs.frozen
class _Epoch:
    """A receiver that can be reached.  In memory only."""

    epoch_id: bytes
    receiver_key: bytes
    address: str
    port: int
    began_milliseconds: int
    tickets: TicketCipher
    session: Session


def everybody(client: str, receiver: str) -> bool:
    """Permit every client a key to every receiver."""
    return True


class Issuer:
    """One realm's KDC: what all its connections share.

    ``find`` is the store's ``get``; ``permits(client, receiver)`` is the realm's
    policy on keys, see `kdc.issuing.permits`; ``random`` gives that many random bytes.
    """

    def __init__(
        self,
        *,
        realm: str,
        find: Callable[[str], Record | None],
        audit: Callable[[Audit], None],
        random: Callable[[int], bytes],
        enrolment: Enrolment,
        lifetime_seconds: int = 300,
        limits: Limits | None = None,
        permits: Permit = everybody,
    ) -> None:
        self.realm = realm
        self.find = find
        self.audit = audit
        self.random = random
        limits = Limits() if limits is None else limits
        self.failures = _Failures(limits)
        self.govern(enrolment, lifetime_seconds, limits, permits)
        self._epochs: dict[str, _Epoch] = {}
        self._sessions: dict[str, set[Session]] = {}

    def govern(
        self, enrolment: Enrolment, lifetime_seconds: int, limits: Limits, permits: Permit
    ) -> None:
        """Decide by these from now on; what the buckets have counted is forgotten.

        Where each principal has been before is not: else a flood on a name would
        lock its owner out after all.
        """
        self.enrolment = enrolment
        self.lifetime_seconds = lifetime_seconds
        self.permits = permits
        self.key_rate = TokenBuckets(limits.keys)
        self.registration_rate = TokenBuckets(limits.registrations)
        self.failures.limit(limits)

    @property
    def receiving(self) -> list[str]:
        """The names that can be reached now."""
        return sorted(self._epochs)

    def connect(self, address: str, binding: ChannelBinding) -> Session:
        """Begin with a client at ``address`` on the TLS connection of ``binding``."""
        return Session(self, address, binding)

    def epoch_of(self, name: str) -> _Epoch | None:
        return self._epochs.get(name)

    def record_changed(self, record: Record) -> Others:
        """Whatever relied on an older form of this record ends.

        Called for every change of the store, whoever made it.  A connection
        that is waiting for its own change answers for itself.
        """
        outdated = [
            session
            for session in self._sessions.get(record.name, ())
            if not session.writing and session.outdated_by(record)
        ]
        return self.drop(record.name, outdated, "record changed")

    def drop(self, name: str, sessions: list[Session], why: str) -> Others:
        epoch = self._epochs.get(name)
        if epoch is not None and epoch.session in sessions:
            self.end_epoch(name, why)
        for session in sessions:
            session.spend()
        return tuple((session, _CLOSE) for session in sessions)

    def begin_epoch(self, name: str, epoch: _Epoch) -> _Epoch | None:
        """Make ``epoch`` the one of ``name``; return the one it replaces."""
        older = self._epochs.get(name)
        self._epochs[name] = epoch
        return older

    def end_epoch(self, name: str, why: str) -> None:
        epoch = self._epochs.pop(name)
        self.audit(Audit("epoch-ended", name, epoch.session.address, why))

    def join(self, name: str, session: Session) -> None:
        self._sessions.setdefault(name, set()).add(session)

    def leave(self, name: str, session: Session) -> None:
        sessions = self._sessions[name]
        sessions.discard(session)
        if not sessions:
            del self._sessions[name]
        epoch = self._epochs.get(name)
        if epoch is not None and epoch.session is session:
            self.end_epoch(name, "disconnected")

    def sessions_of(self, name: str) -> list[Session]:
        return list(self._sessions.get(name, ()))


class _Failures:
    """How often proofs failed, so that guessing on line is slow and nobody is locked out."""

    def __init__(self, limits: Limits) -> None:
        self._known: dict[tuple[str, str], None] = {}
        self.limit(limits)

    def limit(self, limits: Limits) -> None:
        self._here = TokenBuckets(limits.failures)
        self._anywhere = TokenBuckets(limits.failures_of_name)

    def wait(self, name: str, prefix: str, now: Now) -> int:
        """Return 0 if ``name`` may try from there now, else the seconds to wait."""
        wait = self._here.wait((name, prefix), now.milliseconds)
        if not wait and (name, prefix) not in self._known:
            wait = self._anywhere.wait(name, now.milliseconds)
        return wait

    def failed(self, name: str, prefix: str, now: Now) -> None:
        self._here.take((name, prefix), now.milliseconds)
        if (name, prefix) not in self._known:
            self._anywhere.take(name, now.milliseconds)

    def succeeded(self, name: str, prefix: str) -> None:
        self._known.pop((name, prefix), None)
        self._known[name, prefix] = None
        if len(self._known) > _MAX_KNOWN_ADDRESSES:
            del self._known[next(iter(self._known))]


class Session:
    """One client's connection, from its first frame to its last."""

    def __init__(self, issuer: Issuer, address: str, binding: ChannelBinding) -> None:
        self.address = address
        self.state = State.NEW
        self.name = ""
        self.verify_key = VerifyKey(b"")
        self.writing = False
        self._issuer = issuer
        self._realm = issuer.realm
        self._prefix = address_prefix(address)
        self._reachable = _canonical(address)
        self._binding = binding
        self._reply_key = ReplyKey(b"")
        self._cipher: ReplyCipher | None = None

    @property
    def holds_epoch(self) -> bool:
        epoch = self._issuer.epoch_of(self.name)
        return epoch is not None and epoch.session is self

    def receive(self, body: bytes, now: Now) -> Output:
        """Take one frame.  While `writing`, nothing may be given to it."""
        try:
            request = decode_request(body)
            if not isinstance(request, ALLOWED[self.state]):
                raise RemoteProtocolError(
                    Refusal.MALFORMED, f"{request.TYPE} in state {self.state.name}"
                )
        except RemoteProtocolError as error:
            return self._refuse(error.refusal, ZERO_NONCE, error.detail)
        if isinstance(request, KeyRequest):
            return self._issue(request, now)
        if isinstance(request, Receive):
            return self._begin_epoch(request, now)
        if isinstance(request, Authenticate):
            return self._authenticate(request, now)
        if isinstance(request, Register):
            return self._register(request, now)
        return self._change(request, now)

    def outdated_by(self, record: Record) -> bool:
        """Whether this client would not be accepted any more with its record like this."""
        return record.status is not Status.ACTIVE or record.verify_key != self.verify_key

    def broken_frame(self, detail: str) -> Output:
        """What arrived is not even a frame: say so and close."""
        return self._refuse(Refusal.MALFORMED, ZERO_NONCE, detail)

    def spend(self) -> None:
        """Answer nothing from now on."""
        self.state = State.SPENT

    def closed(self) -> None:
        """The connection is gone, and the epoch that was tied to it."""
        self.spend()
        if self.name:
            self._issuer.leave(self.name, self)

    # 311

    def _authenticate(self, request: Authenticate, now: Now) -> Output:
        issuer = self._issuer
        # One 311 a connection, whatever becomes of it.
        self.state = State.SPENT
        wait = issuer.failures.wait(request.name, self._prefix, now)
        if wait:
            return self._refuse(Refusal.RATE, request.nonce, request.name, wait)
        record = issuer.find(request.name)
        keyed = record is not None and record.status is Status.ACTIVE
        key = VerifyKey(record.verify_key) if record is not None and keyed else _NOBODY
        genuine = verified(key, request.signature, *request.signed(self._realm, self._binding))
        if record is None or not keyed or not genuine:
            issuer.failures.failed(request.name, self._prefix, now)
            return self._refuse(Refusal.NOT_AUTHENTIC, request.nonce, request.name)
        issuer.failures.succeeded(request.name, self._prefix)
        self.state = State.AUTHENTIC
        self.name = record.name
        self.verify_key = key
        self._reply_key = ReplyKey(record.reply_key)
        self._cipher = reply_cipher(self._reply_key, self._binding)
        issuer.join(self.name, self)
        issuer.audit(Audit("authenticated", self.name, self.address))
        return Output(self._seal(Authenticated(record.generation), request.nonce))

    # 305

    def _issue(self, request: KeyRequest, now: Now) -> Output:
        issuer = self._issuer
        wait = issuer.key_rate.take(self.name, now.milliseconds)
        if wait:
            return self._refuse(Refusal.RATE, request.nonce, request.peer, wait)
        if request.peer == self.name or not issuer.permits(self.name, request.peer):
            return self._refuse(Refusal.NOT_ALLOWED, request.nonce, request.peer)
        epoch = issuer.epoch_of(request.peer)
        if epoch is None:
            record = issuer.find(request.peer)
            known = record is not None and record.status is Status.ACTIVE
            why = Refusal.NOT_RECEIVING if known else Refusal.UNKNOWN_PRINCIPAL
            return self._refuse(why, request.nonce, request.peer)
        # Asked for at once: each call is one to the system.
        fresh = issuer.random(KEY_BYTES + TICKET_ID_BYTES + TICKET_NONCE_BYTES)
        session_key = SessionKey(fresh[:KEY_BYTES])
        ticket = Ticket(
            session_key,
            self.name,
            request.ephemeral,
            fresh[KEY_BYTES:-TICKET_NONCE_BYTES],
            now.milliseconds - epoch.began_milliseconds + 1000 * issuer.lifetime_seconds,
        )
        reply = KeyReply(
            session_key,
            epoch.epoch_id,
            epoch.receiver_key,
            issuer.lifetime_seconds,
            epoch.address,
            epoch.port,
            epoch.tickets.seal(ticket, fresh[-TICKET_NONCE_BYTES:]),
        )
        issuer.audit(Audit("issued", self.name, self.address, request.peer))
        return Output(self._seal(reply, request.nonce, request.peer))

    # 307

    def _begin_epoch(self, request: Receive, now: Now) -> Output:
        issuer = self._issuer
        epoch_id, secret = issuer.random(16), EpochSecret(issuer.random(32))
        key = ticket_key(self._reply_key, secret, self._realm, self.name, epoch_id)
        epoch = _Epoch(
            epoch_id,
            request.receiver_key,
            request.address or self._reachable,
            request.port,
            now.milliseconds,
            TicketCipher(key, self._realm, self.name, epoch_id),
            self,
        )
        older = issuer.begin_epoch(self.name, epoch)
        if older is not None and older.session is self:
            issuer.audit(Audit("epoch-ended", self.name, self.address, "renewed"))
        issuer.audit(Audit("epoch-begun", self.name, self.address, f"{epoch.address} {epoch.port}"))
        reply = Receiving(epoch_id, secret, issuer.lifetime_seconds)
        others: Others = ()
        if older is not None and older.session is not self:
            issuer.audit(Audit("superseded", self.name, older.session.address))
            others = ((older.session, older.session.superseded(older.epoch_id)),)
        return Output(self._seal(reply, request.nonce), others=others)

    def superseded(self, epoch_id: bytes) -> Output:
        """Tell this client that its epoch ended because another began."""
        return Output(self._seal(Superseded(epoch_id), ZERO_NONCE))

    # 301

    def _register(self, request: Register, now: Now) -> Output:
        issuer = self._issuer
        wait = issuer.registration_rate.take(self._prefix, now.milliseconds)
        if wait:
            return self._refuse(Refusal.RATE, request.nonce, request.name, wait)
        record = issuer.find(request.name)
        if not self._may_register(request, record, now):
            return self._refuse(Refusal.INVITATION, request.nonce, request.name)
        signed = request.signed(self._realm, self._binding)
        if not verified(VerifyKey(request.verify_key), request.signature, *signed):
            return self._refuse(Refusal.NOT_AUTHENTIC, request.nonce, request.name)
        if record is not None and not request.invitation:
            return self._already_registered(request, record)
        new = Record(
            name=request.name,
            status=Status.ACTIVE,
            address=request.address or self._reachable,
            port=request.port,
            verify_key=request.verify_key,
            reply_key=request.reply_key,
            changed_time=now.unix_seconds,
        )
        if record is None:
            token = hashlib.sha256(enc(b"kdp/1 token", self._binding, request.nonce)).digest()[:16]
            change: StoreChange = Create(new, token)
        else:  # uses up the invitation in the same write
            change = Replace(new, record.generation)
        self.writing = True
        return Output(write=Write(change, lambda result, _: self._registered(request, result)))

    def _may_register(self, request: Register, record: Record | None, now: Now) -> bool:
        enrolment = self._issuer.enrolment
        # With an empty code anybody could compute the proof.
        invited = (
            record is not None and record.status is Status.INVITED and record.invitation != b""
        )
        code = record.invitation if record is not None and invited else _NO_CODE
        expected = invitation_proof(code, *request.invited(self._realm, self._binding))
        proved = same(expected, request.invitation)
        if enrolment is Enrolment.CLOSED:
            return False
        if record is not None and invited:
            return proved and now.unix_seconds <= record.invitation_end_time
        return enrolment is Enrolment.OPEN and not request.invitation

    def _registered(self, request: Register, result: Result | None) -> Output:
        self.writing = False
        if result is None:
            return self._unavailable(request.nonce, request.name)
        if result.outcome is not Outcome.DONE or result.record is None:
            return self._already_registered(request, result.record)
        self._issuer.audit(Audit("registered", request.name, self.address))
        reply = Registered(request.nonce, result.record.generation)
        return Output(frame(encode(reply)))

    def _already_registered(self, request: Register, record: Record | None) -> Output:
        """The name is taken - which is no news to its owner, whose first 302 was lost."""
        own = (
            record is not None
            and record.status is Status.ACTIVE
            and same(record.verify_key, request.verify_key)
            and same(record.reply_key, request.reply_key)
        )
        if record is None or not own:
            return self._refuse(Refusal.NAME_TAKEN, request.nonce, request.name)
        return Output(frame(encode(Registered(request.nonce, record.generation))))

    # 303

    def _change(self, request: Change, now: Now) -> Output:
        record = self._issuer.find(self.name)
        signed = request.signed(self._realm, self._binding, self.name)
        delete = request.op == DELETE_PRINCIPAL
        if (
            record is None
            or record.status is not Status.ACTIVE
            or not verified(VerifyKey(record.verify_key), request.old_signature, *signed)
            or not (
                delete
                or verified(VerifyKey(request.new_verify_key), request.new_signature, *signed)
            )
        ):
            return self._refuse(Refusal.NOT_AUTHENTIC, request.nonce, "change")
        if delete:
            change: StoreChange = Delete(self.name, record.generation, now.unix_seconds)
        else:
            new = attrs.evolve(
                record,
                address=request.address or record.address,
                port=request.port or record.port,
                verify_key=request.new_verify_key,
                reply_key=request.new_reply_key,
                changed_time=now.unix_seconds,
            )
            change = Replace(new, record.generation)
        self.writing = True
        return Output(write=Write(change, lambda result, _: self._changed(request, result)))

    def _changed(self, request: Change, result: Result | None) -> Output:
        self.writing = False
        if result is None:
            return self._unchanged(self._unavailable(request.nonce, "change"))
        if result.outcome is not Outcome.DONE or result.record is None:
            refused = self._refuse(Refusal.INTERNAL, request.nonce, "changed meanwhile")
            return self._unchanged(refused)
        event = "deleted" if request.op == DELETE_PRINCIPAL else "changed"
        self._issuer.audit(Audit(event, self.name, self.address))
        reply = self._seal(Changed(result.record.generation), request.nonce)
        every = self._issuer.drop(self.name, self._issuer.sessions_of(self.name), event)
        others = tuple((session, output) for session, output in every if session is not self)
        # This connection too was opened with the old key.
        return Output(reply, close=True, others=others)

    def _unchanged(self, refused: Output) -> Output:
        """Go on after a change that was not made, unless somebody else's was.

        `Issuer.record_changed` has passed this connection over while it was waiting:
        otherwise one who keeps asking for changes would outlive being disabled.
        """
        record = self._issuer.find(self.name)
        if record is not None and not self.outdated_by(record):
            return refused
        self._issuer.drop(self.name, [self], "record changed")
        return attrs.evolve(refused, close=True)

    # replies

    def _seal(self, message: SealedMessage, nonce: bytes, peer: str = "") -> bytes:
        if self._cipher is None:
            raise RuntimeError("nothing is sealed before a valid 311")
        associated = associated_data(type(message), self._realm, self.name, nonce, peer)
        sealed = self._cipher.seal(encode_fields(message), associated)
        return frame(message.TYPE.to_bytes(2, "big") + nonce + sealed)

    def _unavailable(self, nonce: bytes, detail: str) -> Output:
        return self._refuse(Refusal.INTERNAL, nonce, f"{detail}: the store cannot write", 5)

    def _refuse(self, refusal: Refusal, nonce: bytes, detail: str, retry_after: int = 0) -> Output:
        self._issuer.audit(
            Audit(
                "refused",
                self.name,
                self.address,
                f"{refusal.name} {detail}",
                unproven=self._cipher is None,
            )
        )
        message = Refused(refusal, min(retry_after, 0xFFFF))
        closing = refusal in _CLOSING
        data = frame(encode(message)) if self._cipher is None else self._seal(message, nonce)
        if closing:
            self.spend()
        return Output(data, close=closing)


def _canonical(address: str) -> str:
    """The address as others may use it: nothing if it means something on one host only."""
    try:
        ADDRESS.check(address)
    except ValueError:
        return ""
    return address
