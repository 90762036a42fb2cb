"""The client's half of the exchange with the KDC, on one connection.

docs/protocol.md section 4.2.  Requests are matched to replies by their nonce;
a reply that does not open as the answer to its own request ends the
connection, and nothing of it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kdc.errors import LocalProtocolError, Refusal, RemoteProtocolError, malformed
from kdc.protocol.application import ApplicationKeys, application_keys
from kdc.protocol.codec import frame
from kdc.protocol.crypto import (
    NONCE_BYTES,
    ZERO_NONCE,
    ChannelBinding,
    InvalidTag,
    LongTermKeys,
    SessionKey,
    invitation_proof,
    reply_cipher,
)
from kdc.protocol.handshake import Presentation
from kdc.protocol.messages import (
    CHANGE_KEYS,
    DELETE_PRINCIPAL,
    Authenticate,
    Authenticated,
    Changed,
    ChangeKeys,
    EpochEnded,
    KeyReply,
    KeyRequest,
    Receive,
    Receiving,
    Refused,
    Register,
    Registered,
    Request,
    SealedMessage,
    associated_data,
    decode,
    decode_fields,
    encode,
    split_sealed,
    type_of,
)

__all__ = ["Answer", "Exchange", "Grant", "Reply", "Sent"]

Reply: TypeAlias = SealedMessage | Registered

_ANSWERS: dict[type[Request], type[SealedMessage]] = {
    Authenticate: Authenticated,
    ChangeKeys: Changed,
    KeyRequest: KeyReply,
    Receive: Receiving,
}
_UNSIGNED = bytes(64)


@attrs.frozen
class Sent:
    """A request on its way: what to write, and the nonce its answer will bear."""

    nonce: bytes
    data: bytes = attrs.field(repr=False)


@attrs.frozen
class Answer:
    """What arrived, and the request it answers; ``nonce`` is None for a 313."""

    nonce: bytes | None
    message: Reply


@attrs.define
class Grant:
    """A session key, fresh, for one channel to one peer, or for one application."""

    realm: str
    sender: str
    receiver: str
    reply: KeyReply = attrs.field(repr=False)
    _ephemeral: X25519PrivateKey | None = attrs.field(repr=False)
    # By our own clock that counts sleep, just before the 305 was sent.
    _asked_milliseconds: int = attrs.field(repr=False)

    @property
    def _until(self) -> int:
        return self._asked_milliseconds + 1000 * self.reply.lifetime_seconds

    def is_good(self, now_milliseconds: int) -> bool:
        """Whether nothing has been sent under this key, and its time is not over."""
        return self._ephemeral is not None and now_milliseconds <= self._until

    def presentation(self) -> Presentation:
        """Begin the channel this key is for; there is no second one under it."""
        ephemeral = self._used_up()
        return Presentation(
            realm=self.realm,
            sender=self.sender,
            receiver=self.receiver,
            reply=self.reply,
            ephemeral=ephemeral,
            until_milliseconds=self._until,
        )

    def application_keys(self) -> ApplicationKeys:
        """Derive the keys of an application (section 5.1), in the place of a channel.

        Raises `RemoteProtocolError` if the receiver's key is of low order.
        """
        reply = self.reply
        return application_keys(
            self._used_up(),
            reply.receiver_key,
            SessionKey(reply.session_key),
            realm=self.realm,
            sender=self.sender,
            receiver=self.receiver,
            epoch_id=reply.epoch_id,
            ticket=reply.ticket,
        )

    def _used_up(self) -> X25519PrivateKey:
        ephemeral, self._ephemeral = self._ephemeral, None
        if ephemeral is None:
            raise LocalProtocolError("a session key is for one channel or one application")
        return ephemeral


class Exchange:
    """One connection to the KDC, after its identity has been checked.

    ``binding`` is the TLS exporter value of this very connection; every proof
    is tied to it, so that no other connection can use it.
    """

    def __init__(
        self, keys: LongTermKeys, binding: ChannelBinding, random: Callable[[int], bytes]
    ) -> None:
        self._keys = keys
        self._binding = binding
        self._random = random
        self._cipher = reply_cipher(keys.reply_key, binding)
        self._pending: dict[bytes, Request] = {}
        self._authenticated = False

    def authenticate(self) -> Sent:
        name, nonce = self._keys.name, self._nonce()
        draft = Authenticate(name, nonce, _UNSIGNED)
        signature = self._keys.sign(*draft.signed(self._keys.realm, self._binding))
        return self._send(attrs.evolve(draft, signature=signature))

    def register(self, address: str, port: int, invitation_code: bytes = b"") -> Sent:
        keys = self._keys
        draft = Register(
            keys.name,
            address,
            port,
            keys.verify_key,
            keys.reply_key,
            self._nonce(),
            b"",
            _UNSIGNED,
        )
        proof = b""
        if invitation_code:
            proof = invitation_proof(invitation_code, *draft.invited(keys.realm, self._binding))
        signature = keys.sign(*draft.signed(keys.realm, self._binding))
        return self._send(attrs.evolve(draft, invitation=proof, signature=signature))

    def change(self, new_keys: LongTermKeys, address: str, port: int) -> Sent:
        """Replace our keys; both the old and the new one sign."""
        draft = ChangeKeys(
            CHANGE_KEYS,
            address,
            port,
            new_keys.verify_key,
            new_keys.reply_key,
            self._nonce(),
            _UNSIGNED,
            _UNSIGNED,
        )
        signed = draft.signed(self._keys.realm, self._binding, self._keys.name)
        return self._send(
            attrs.evolve(
                draft,
                old_signature=self._keys.sign(*signed),
                new_signature=new_keys.sign(*signed),
            )
        )

    def delete(self) -> Sent:
        """Give our name up; it stays reserved until the operator frees it."""
        draft = ChangeKeys(DELETE_PRINCIPAL, "", 0, b"", b"", self._nonce(), _UNSIGNED, b"")
        signed = draft.signed(self._keys.realm, self._binding, self._keys.name)
        return self._send(attrs.evolve(draft, old_signature=self._keys.sign(*signed)))

    def request_key(self, peer: str) -> tuple[Sent, Callable[[KeyReply, int], Grant]]:
        """Ask for a session key; the second result makes the reply usable.

        It takes the reply, and the milliseconds at which it was asked for.
        """
        ephemeral = X25519PrivateKey.from_private_bytes(self._random(32))
        public = ephemeral.public_key().public_bytes_raw()
        sent = self._send(KeyRequest(peer, public, self._nonce()))
        keys = self._keys
        return sent, lambda reply, asked: Grant(
            keys.realm, keys.name, peer, reply, ephemeral, asked
        )

    def receive_under(self, receiver_key: bytes, address: str, port: int) -> Sent:
        """Begin an epoch under this public key, at this address (empty: as the KDC sees us)."""
        return self._send(Receive(address, port, receiver_key, self._nonce()))

    def take(self, body: bytes) -> Answer:
        """Return what the frame ``body`` answers; raises `RemoteProtocolError`."""
        number = type_of(body)
        if number == Registered.TYPE and not self._authenticated:
            return self._registered(decode(Registered, body))
        if number == Refused.TYPE and not self._authenticated:
            return Answer(self._oldest(), decode(Refused, body))
        return self._sealed(body)

    def _registered(self, message: Registered) -> Answer:
        if not isinstance(self._pending.pop(message.nonce, None), Register):
            raise malformed("302 answers no request of ours")
        return Answer(message.nonce, message)

    def _oldest(self) -> bytes:
        """Before 312 only 301 or 311 is answered, and what was sent first is answered first."""
        if not self._pending:
            raise malformed("399 answers no request of ours")
        nonce = next(iter(self._pending))
        del self._pending[nonce]
        return nonce

    def _sealed(self, body: bytes) -> Answer:
        number, nonce, ciphertext = split_sealed(body)
        if number == EpochEnded.TYPE and nonce == ZERO_NONCE:
            return Answer(None, self._open(EpochEnded, nonce, ciphertext))
        request = self._pending.pop(nonce, None)
        if request is None and number == Refused.TYPE and nonce == ZERO_NONCE:
            refused = self._open(Refused, nonce, ciphertext)
            raise malformed(f"the KDC did not understand us: {refused}")
        if request is None:
            raise malformed(f"{number} answers no request of ours")
        if number == Refused.TYPE:
            return Answer(nonce, self._open(Refused, nonce, ciphertext))
        expected = _ANSWERS.get(type(request))
        if expected is None or number != expected.TYPE:
            raise malformed(f"{number} does not answer {type(request).__name__}")
        peer = request.peer if isinstance(request, KeyRequest) else ""
        answer = Answer(nonce, self._open(expected, nonce, ciphertext, peer))
        self._authenticated = True
        return answer

    def _open(
        self, message_type: type[SealedMessage], nonce: bytes, ciphertext: bytes, peer: str = ""
    ) -> SealedMessage:
        keys = self._keys
        associated = associated_data(message_type, keys.realm, keys.name, nonce, peer)
        try:
            fields = self._cipher.open(ciphertext, associated)
        except InvalidTag:
            raise RemoteProtocolError(
                Refusal.NOT_AUTHENTIC, f"{message_type.TYPE} is not sealed by our KDC"
            ) from None
        message: SealedMessage = decode_fields(message_type, fields)
        return message

    def _nonce(self) -> bytes:
        return self._random(NONCE_BYTES)

    def _send(self, request: Request) -> Sent:
        self._pending[request.nonce] = request
        return Sent(request.nonce, frame(encode(request)))
