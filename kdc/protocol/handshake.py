"""How a sender presents itself to a receiver, and what the receiver checks.

docs/protocol.md section 5.  `Presentation` is the sender's half.  The
receiver's is `Epoch`, one per key set the KDC gave it, and `Epochs`, which
knows the one that counts and the one on its way out.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kdc.errors import PeerUnavailable, Refusal, RemoteProtocolError, malformed
from kdc.protocol.application import ApplicationKeys, application_keys
from kdc.protocol.codec import Layout, enc, fixed, frame, uint, variable
from kdc.protocol.crypto import EpochSecret, ReplyKey, same, ticket_key
from kdc.protocol.messages import MAX_TICKET, KeyReply, Receiving
from kdc.protocol.noise import Initiator, Responder
from kdc.protocol.records import RecordStream
from kdc.protocol.tickets import Ticket, TicketCipher, UsedTickets

__all__ = [
    "MAX_PRESENT",
    "SECOND_BYTES",
    "Accepted",
    "Epoch",
    "Epochs",
    "HeldEpochs",
    "Presentation",
]

VERSION = 1
MAX_PRESENT = 512
SECOND_BYTES = 48
_PRESENT_TYPE = (309).to_bytes(2, "big")
_MOST_USED = 3 / 4
_DAY_MILLISECONDS = 24 * 3600 * 1000


@attrs.frozen
class _Present:
    """309: version, epoch, ticket and Noise's first message."""

    version: int = uint(1).field()
    epoch_id: bytes = fixed(16).field()
    ticket: bytes = variable(1, MAX_TICKET, length_bytes=2).field(secret=True)
    first: bytes = fixed(48).field()


_PRESENT = Layout(_Present)


def _prologue(realm: str, sender: str, receiver: str, epoch_id: bytes, ticket: bytes) -> bytes:
    """What both ends must agree on for message 1 to verify."""
    return enc(
        b"kdp/1 309",
        realm.encode(),
        bytes([VERSION]),
        sender.encode(),
        receiver.encode(),
        epoch_id,
        ticket,
    )


class Presentation:
    """The sender's half: one session key, one ticket, one use."""

    def __init__(
        self,
        *,
        realm: str,
        sender: str,
        receiver: str,
        reply: KeyReply,
        ephemeral: X25519PrivateKey,
        until_milliseconds: int,
    ) -> None:
        prologue = _prologue(realm, sender, receiver, reply.epoch_id, reply.ticket)
        self._noise = Initiator(prologue, reply.session_key, reply.receiver_key, ephemeral)
        self._epoch_id = reply.epoch_id
        self._ticket = reply.ticket
        self._until = until_milliseconds

    def require_in_time(self, now_milliseconds: int) -> None:
        """Raise `PeerUnavailable` when L seconds have passed since the key was asked for.

        To be called just before `present`: connecting takes its time, and a
        receiver that has forgotten its epoch could only drop us in silence.
        """
        if now_milliseconds > self._until:
            raise PeerUnavailable(
                "the session key had expired before the receiver could be reached",
                hint="try again: each try has a key of its own",
            )

    def present(self) -> bytes:
        """Return the 309 frame.  Nothing else may be sent before `finish`.

        Raises `RemoteProtocolError` if the receiver's key is of low order.
        """
        first = self._noise.write_first()
        present = _Present(VERSION, self._epoch_id, self._ticket, first)
        return frame(_PRESENT_TYPE + _PRESENT.join(present))

    def finish(self, second: bytes) -> RecordStream:
        """Check the receiver's answer; raises `RemoteProtocolError` if it is not its own."""
        if self._noise.read_second(second):
            raise malformed("handshake message 2 carries a payload")
        return RecordStream(*self._noise.split())


@attrs.frozen
class Accepted:
    """A sender whose first message was good; present only once a record of his has opened."""

    sender: str
    answer: bytes = attrs.field(repr=False)
    stream: RecordStream = attrs.field(repr=False)


class Epoch:
    """One key set of a receiver: opens tickets, and each of them once.

    ``sent_milliseconds`` is the receiver's own clock at the moment it sent the
    request that this epoch answers, so that it is never laxer than the KDC.
    """

    def __init__(
        self,
        *,
        realm: str,
        receiver: str,
        reply_key: ReplyKey,
        static: X25519PrivateKey,
        reply: Receiving,
        sent_milliseconds: int,
        max_used: int | None = None,
    ) -> None:
        key = ticket_key(reply_key, EpochSecret(reply.secret), realm, receiver, reply.epoch_id)
        self.epoch_id = reply.epoch_id
        self.lifetime_seconds = reply.lifetime_seconds
        self._realm = realm
        self._receiver = receiver
        self._static = static
        self._tickets = TicketCipher(key, realm, receiver, reply.epoch_id)
        self._began = sent_milliseconds
        self._used = UsedTickets() if max_used is None else UsedTickets(max_used)

    def due(self, now_milliseconds: int) -> bool:
        """Whether it is time to ask the KDC for the next epoch."""
        old = now_milliseconds - self._began >= _DAY_MILLISECONDS
        return old or self._used.filled >= _MOST_USED

    def accept(
        self,
        present: _Present,
        *,
        now_milliseconds: int,
        allow: Callable[[str], bool],
        random: Callable[[int], bytes],
    ) -> Accepted:
        """Steps 3 to 9 of the receiver, in that order; each failure ends it in silence.

        Raises `RemoteProtocolError`, whose detail is for our own log.
        """
        ticket = self._fresh(present.ticket, now_milliseconds)
        if not same(present.first[:32], ticket.ephemeral):
            raise _refused(f"the ephemeral key is not the one {ticket.sender} asked for")
        self._welcome(ticket.sender, allow)
        prologue = _prologue(
            self._realm, ticket.sender, self._receiver, self.epoch_id, present.ticket
        )
        noise = Responder(prologue, ticket.session_key, self._static)
        noise.read_first(present.first)  # of 48 bytes: there is no payload in it
        # Only now: garbage behind a copied ticket must use nothing up.
        self._use(ticket, now_milliseconds)
        answer = noise.write_second(X25519PrivateKey.from_private_bytes(random(32)))
        return Accepted(ticket.sender, frame(answer), RecordStream(*noise.split()))

    def open_ticket(
        self,
        sealed: bytes,
        proof: bytes,
        *,
        now_milliseconds: int,
        allow: Callable[[str], bool],
    ) -> tuple[str, ApplicationKeys]:
        """Return the sender and the keys of a ticket that is for an application (section 5.1).

        Steps 3 to 5 and 7, then the proof, and only then does the ticket count:
        garbage behind a copied ticket, or the ticket of a 309, uses nothing up.
        """
        ticket = self._fresh(sealed, now_milliseconds)
        self._welcome(ticket.sender, allow)
        keys = application_keys(
            self._static,
            ticket.ephemeral,
            ticket.session_key,
            realm=self._realm,
            sender=ticket.sender,
            receiver=self._receiver,
            epoch_id=self.epoch_id,
            ticket=sealed,
        )
        if not same(proof, keys.proof):
            raise _refused(f"the proof with the ticket of {ticket.sender} is not the sender's")
        self._use(ticket, now_milliseconds)
        return ticket.sender, keys

    def _welcome(self, sender: str, allow: Callable[[str], bool]) -> None:
        """Step 7."""
        if sender == self._receiver or not allow(sender):
            raise RemoteProtocolError(Refusal.NOT_ALLOWED, f"{sender} is not allowed here")

    def _use(self, ticket: Ticket, now_milliseconds: int) -> None:
        """Step 9: this ticket is not taken again."""
        if self._used.full(now_milliseconds - self._began):
            raise RemoteProtocolError(Refusal.RATE, "too many tickets in use")
        self._used.add(ticket)

    def _fresh(self, sealed: bytes, now_milliseconds: int) -> Ticket:
        """Steps 3 to 5."""
        ticket = self._tickets.open(sealed)
        if now_milliseconds - self._began > ticket.end_milliseconds:
            raise _refused(f"the ticket of {ticket.sender} has expired")
        if ticket.ticket_id in self._used:
            raise _refused(f"the ticket of {ticket.sender} was used before (replay)")
        return ticket


def _refused(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Refusal.NOT_AUTHENTIC, detail)


class HeldEpochs:
    """All the epochs that a receiver has: opens what comes under any of them.

    Which these are, and for how long, its two kinds say: `Epochs` and `EpochSets`.
    """

    def _living(self) -> list[Epoch]:
        raise NotImplementedError

    def _forget(self, now_milliseconds: int) -> None:
        raise NotImplementedError

    def due(self, now_milliseconds: int) -> bool:
        """Whether it is time to ask a KDC for the next epoch."""
        raise NotImplementedError

    @property
    def ids(self) -> list[bytes]:
        """Which epochs a sender may present himself to, the current one first."""
        return [epoch.epoch_id for epoch in self._living()]

    def knows(self, epoch_id: bytes) -> bool:
        return epoch_id in self.ids

    def accept(
        self,
        body: bytes,
        *,
        now_milliseconds: int,
        allow: Callable[[str], bool],
        random: Callable[[int], bytes],
    ) -> Accepted:
        """Take a 309 frame's body: the receiver's steps 1 to 9."""
        if body[:2] != _PRESENT_TYPE:
            raise malformed("not a 309")
        if body[2:3] != bytes([VERSION]):
            raise RemoteProtocolError(Refusal.VERSION, f"version {body[2:3].hex()} of 309")
        present = _PRESENT.split(body[2:])
        self._forget(now_milliseconds)
        epoch = self._find(present.epoch_id)
        return epoch.accept(present, now_milliseconds=now_milliseconds, allow=allow, random=random)

    def open_ticket(
        self,
        epoch_id: bytes,
        sealed: bytes,
        proof: bytes,
        *,
        now_milliseconds: int,
        allow: Callable[[str], bool],
    ) -> tuple[str, ApplicationKeys]:
        """Take what came by another way than a 309: who sent it, and the application's keys.

        Raises `RemoteProtocolError` for whatever is not for us, not in time, used
        before, not allowed or not proved.
        """
        self._forget(now_milliseconds)
        epoch = self._find(epoch_id)
        return epoch.open_ticket(sealed, proof, now_milliseconds=now_milliseconds, allow=allow)

    def _find(self, epoch_id: bytes) -> Epoch:
        for epoch in self._living():
            if epoch.epoch_id == epoch_id:
                return epoch
        raise _refused("the epoch is not one of ours")


class Epochs(HeldEpochs):
    """Those of one KDC: the current one, and older ones until their tickets have ended."""

    def __init__(self) -> None:
        self._current: Epoch | None = None
        self._retired: list[tuple[Epoch, int]] = []

    @property
    def current(self) -> Epoch | None:
        return self._current

    def due(self, now_milliseconds: int) -> bool:
        return self._current is not None and self._current.due(now_milliseconds)

    def begin(self, epoch: Epoch, now_milliseconds: int) -> None:
        """Make ``epoch`` the current one; the one before lives L seconds more."""
        self.retire(now_milliseconds)
        self._current = epoch

    def retire(self, now_milliseconds: int) -> None:
        """The KDC issues no more tickets for the current epoch; those out there live on."""
        self._forget(now_milliseconds)
        if self._current is not None:
            until = now_milliseconds + 1000 * self._current.lifetime_seconds
            self._retired.append((self._current, until))
            self._current = None

    def clear(self) -> None:
        """Forget every key at once: somebody else receives under our name."""
        self._current = None
        self._retired.clear()

    def _living(self) -> list[Epoch]:
        current = [] if self._current is None else [self._current]
        return current + [epoch for epoch, _ in self._retired]

    def forget(self, now_milliseconds: int) -> int | None:
        """Forget the keys whose time has passed; return in how many milliseconds the next are due.

        None if there are none.  Everything here does so by itself, but who is
        visited by nobody would keep his old keys.
        """
        self._forget(now_milliseconds)
        # At its very last millisecond an epoch is still good.
        return min((until + 1 - now_milliseconds for _, until in self._retired), default=None)

    def _forget(self, now_milliseconds: int) -> None:
        self._retired = [(e, until) for e, until in self._retired if now_milliseconds <= until]
