"""A whole realm without I/O: what the tests of the core have in common.

Everything is deterministic.  Nothing here is a fake of what is tested: `Realm`
joins a real `Issuer`, a real store and real clients, and carries the bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import settings
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import Refusal, RemoteProtocolError
from kdc.issuing.current import always_current
from kdc.issuing.decisions import Audit, Enrolment, Now, Output
from kdc.issuing.decisions import Connection as Connected
from kdc.issuing.issuer import Issuer
from kdc.issuing.realm import Realm as IssuingRealm
from kdc.issuing.session import Session
from kdc.limits import Limits
from kdc.protocol.codec import FrameBuffer
from kdc.protocol.crypto import ChannelBinding, Digest, LongTermKeys, long_term_keys
from kdc.protocol.handshake import Accepted, Epoch, Epochs, Presentation
from kdc.protocol.kdc_exchange import Answer, Exchange, Grant, Sent
from kdc.protocol.messages import KeyReply, Receiving, Refused
from kdc.protocol.noise import Responder, _SymmetricState
from kdc.protocol.records import Event, RecordStream
from kdc.store import Change, Create, Record, Result, Status
from kdc.store.memory import MemoryStore

__all__ = [
    "LOW_ORDER",
    "PROPERTY",
    "Connection",
    "CoreTestCase",
    "Realm",
    "Receiver",
    "SeededRandom",
    "bodies",
    "every_flipped_bit",
    "everyone",
    "forged_second",
    "keys_of",
    "opened",
    "presentation_of",
]

# The rest, such as no deadline, is in the profile that all tests have (`tests.support.time_limit`).
PROPERTY = settings(max_examples=60)

# Points of small order, as X25519 takes them: with any of them the result is all zero.
LOW_ORDER = [
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
]


class SeededRandom:
    """Bytes that depend on the seed alone; remembers them, so that leaks can be searched for."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self.given: list[bytes] = []

    def __call__(self, length: int) -> bytes:
        name = f"{self._seed} {len(self.given)}".encode()
        self.given.append(hashlib.shake_256(name).digest(length))
        return self.given[-1]


def bodies(data: bytes, limit: int = 2048) -> list[bytes]:
    """Return the frames of ``data``, without their lengths; it must consist of whole ones."""
    frames = FrameBuffer(limit)
    frames.feed(data)
    found = list(iter(frames.next, None))
    if len(frames):
        raise ValueError(f"{len(frames)} bytes behind the last whole frame")
    return found


def every_flipped_bit(data: bytes) -> list[bytes]:
    """Return ``data`` with one bit flipped, for each bit of it."""
    flipped = []
    for at in range(8 * len(data)):
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        flipped.append(bytes(changed))
    return flipped


def everyone(name: str) -> bool:
    """The policy of a receiver that takes anything from anybody."""
    return True


def keys_of(name: str, secret: str = "first", realm: str = "LOCAL") -> LongTermKeys:
    """The keys of a principal; another ``secret`` gives it others."""
    digest = hashlib.sha256(f"{realm} {name} {secret}".encode()).digest()
    return long_term_keys(Digest(digest), realm, name)


class CoreTestCase(SynchronousTestCase):
    def assert_refused(
        self, refusal: Refusal, act: Callable[..., object], *args: object, **named: object
    ) -> RemoteProtocolError:
        """``act`` refuses what the other side sent, for exactly this reason."""
        error = self.assertRaises(RemoteProtocolError, act, *args, **named)
        self.assertIs(error.refusal, refusal, error)
        return error


@attrs.define(eq=False)
class Connection:
    """One client's connection to the KDC: both ends of it, and what came back unread."""

    realm: Realm
    keys: LongTermKeys
    binding: ChannelBinding
    session: Session
    exchange: Exchange
    open: bool = True
    inbox: list[bytes] = attrs.field(factory=list)

    def submit(self, data: bytes) -> None:
        """Give frames to the KDC; what they cause is done everywhere."""
        for body in bodies(data):
            self.realm.perform(
                self.session, self.realm.issuer.receive(self.session, body, self.realm.now)
            )

    def answer(self) -> Answer:
        """What the client makes of the oldest frame that it has not read."""
        return self.exchange.take(self.inbox.pop(0))

    def ask(self, sent: Sent) -> Answer:
        self.submit(sent.data)
        return self.answer()

    def refusal(self, sent: Sent) -> Refusal | None:
        """Why the KDC refuses this, or None."""
        message = self.ask(sent).message
        return message.code if isinstance(message, Refused) else None

    def lose(self) -> None:
        """The connection breaks."""
        self.open = False
        self.session.closed()

    def grant(self, peer: str) -> Grant:
        sent, grant = self.exchange.request_key(peer)
        message = self.ask(sent).message
        if not isinstance(message, KeyReply):
            raise ValueError(f"no key for {peer}: {message}")
        return grant(message, self.realm.now.milliseconds)


class Realm:
    """A KDC with its store and its clock, and everybody's connections to it."""

    def __init__(
        self,
        *,
        enrolment: Enrolment = Enrolment.OPEN,
        limits: Limits | None = None,
        permits: Callable[[str, str], bool] = lambda client, receiver: True,
        store: MemoryStore | None = None,
        current: Callable[[Now], bool] = always_current,
    ) -> None:
        self.now = Now(5_000, 1_700_000_000)
        self.random = SeededRandom("KDC")
        self.client_random = SeededRandom("clients")
        self.audit: list[Audit] = []
        self.store = MemoryStore() if store is None else store
        self.store_available = True
        self.connections: dict[Connected, Connection] = {}
        realm = IssuingRealm(
            self.store.realm,
            find=self.store.get,
            audit=self.audit.append,
            random=self.random,
            enrolment=enrolment,
            limits=limits,
            permits=permits,
        )
        self.issuer = Issuer(realm, current)
        self.store.watch(self._record_changed)

    def connect(self, keys: LongTermKeys, address: str = "192.0.2.1") -> Connection:
        binding = ChannelBinding(self.client_random(32))
        session = self.issuer.connect(address, binding)
        exchange = Exchange(keys, binding, self.client_random)
        connection = Connection(self, keys, binding, session, exchange)
        self.connections[session] = connection
        return connection

    def add(self, keys: LongTermKeys) -> Record:
        """Put an active principal into the store, as a registration would have."""
        record = Record(
            keys.name, Status.ACTIVE, verify_key=keys.verify_key, reply_key=keys.reply_key
        )
        return self._put(record)

    def invite(self, name: str, code: bytes, end_time: int) -> Record:
        return self._put(
            Record(name, Status.INVITED, invitation=code, invitation_end_time=end_time)
        )

    def login(self, keys: LongTermKeys, address: str = "192.0.2.1") -> Connection:
        """An authenticated connection of a principal, which is added if it is new."""
        if self.store.get(keys.name) is None:
            self.add(keys)
        connection = self.connect(keys, address)
        if (refusal := connection.refusal(connection.exchange.authenticate())) is not None:
            raise ValueError(f"{keys.name} is refused: {refusal.name}")
        return connection

    def receiver(self, name: str = "bob") -> Receiver:
        """A principal that can be reached."""
        receiver = Receiver(self.login(keys_of(name)))
        receiver.begin()
        return receiver

    def channel(self, sender: str, receiver: Receiver) -> tuple[RecordStream, RecordStream]:
        """Both ends of a channel, of which nothing has been used yet."""
        connection = self.login(keys_of(sender))
        presentation = connection.grant(receiver.connection.keys.name).presentation()
        accepted = receiver.accept(presentation.present())
        return presentation.finish(*bodies(accepted.answer)), accepted.stream

    def advance(self, seconds: float) -> None:
        self.now = Now(
            self.now.milliseconds + int(1000 * seconds), self.now.unix_seconds + int(seconds)
        )

    def apply(self, change: Change) -> Result | None:
        """What the store makes of a change, or None if it cannot write."""
        return self.store.apply([change])[0] if self.store_available else None

    def perform(self, session: Connected, output: Output) -> None:
        """Do what the KDC decided, in the order in which it must be done."""
        connection = self.connections[session]
        if output.write is not None:
            result = self.apply(output.write.change)
            self.perform(session, output.write.then(result))
        connection.inbox += bodies(output.data)
        for other, its_output in output.others:
            self.perform(other, its_output)
        if output.close and connection.open:
            connection.lose()

    def events(self) -> list[str]:
        return [line.event for line in self.audit]

    def _record_changed(self, record: Record) -> None:
        for session, output in self.issuer.record_changed(record):
            self.perform(session, output)

    def _put(self, record: Record) -> Record:
        result = self.store.apply([Create(record, self.client_random(16))])[0]
        if result.record is None:
            raise ValueError(f"cannot add {record.name}: {result}")
        return result.record


@attrs.define(eq=False)
class Receiver:
    """A principal that can be reached, with a clock that agrees with nobody's."""

    connection: Connection
    epochs: Epochs = attrs.field(factory=Epochs)
    random: SeededRandom = attrs.field(factory=lambda: SeededRandom("receiver"))

    def now(self, later: float = 0) -> int:
        return 777_000_000 + self.connection.realm.now.milliseconds + int(1000 * later)

    def begin(self, *, max_used: int | None = None) -> Epoch:
        """Ask the KDC for an epoch, and make it the current one."""
        static = X25519PrivateKey.from_private_bytes(self.random(32))
        public = static.public_key().public_bytes_raw()
        keys = self.connection.keys
        sent_milliseconds = self.now()
        reply = self.connection.ask(self.connection.exchange.receive_under(public, "", 60000))
        if not isinstance(reply.message, Receiving):
            raise ValueError(f"no epoch: {reply}")
        epoch = Epoch(
            realm=keys.realm,
            receiver=keys.name,
            reply_key=keys.reply_key,
            static=static,
            reply=reply.message,
            sent_milliseconds=sent_milliseconds,
            max_used=max_used,
        )
        self.epochs.begin(epoch, self.now())
        return epoch

    def accept(
        self, present: bytes, *, later: float = 0, allow: Callable[[str], bool] = everyone
    ) -> Accepted:
        """Take a 309 frame, ``later`` seconds from now."""
        (body,) = bodies(present, 512)
        return self.epochs.accept(
            body, now_milliseconds=self.now(later), allow=allow, random=self.random
        )


def opened(stream: RecordStream, *records: bytes) -> list[Event]:
    """What a stream makes of these records."""
    stream.feed(b"".join(records))
    return list(iter(stream.next_event, None))


def ephemeral_of(grant: Grant) -> X25519PrivateKey:
    """The sender's half of a grant that has not been presented yet."""
    if grant._ephemeral is None:
        raise ValueError("presented already")
    return grant._ephemeral


def presentation_of(grant: Grant, **changed: object) -> Presentation:
    """A presentation in which the sender deviates from what it was granted."""
    honest = {
        "realm": grant.realm,
        "sender": grant.sender,
        "receiver": grant.receiver,
        "reply": grant.reply,
        "ephemeral": grant._ephemeral,
        "until_milliseconds": 0,
    }
    return Presentation(**{**honest, **changed})  # type: ignore[arg-type]


def forged_second(prologue: bytes, psk: bytes, receiver_public: bytes, first: bytes) -> bytes:
    """The best answer to m1 by one who has all but the receiver's private key.

    He follows every step, with a key of his own in the one place where he must.
    """
    own = X25519PrivateKey.from_private_bytes(SeededRandom("impostor")(32))
    impostor = Responder(prologue, psk, own)
    impostor._state = state = _SymmetricState(prologue, receiver_public, psk)
    impostor._peer_ephemeral = first[:32]
    state.mix_ephemeral(first[:32])
    state.mix_dh(own, first[:32])
    state.mix_hash(first[32:])  # he cannot open it, but he sees it
    return impostor.write_second(X25519PrivateKey.from_private_bytes(bytes(31) + b"\1"))
