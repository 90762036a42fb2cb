"""What the KDC decides: who is who, who gets a key, who may register or change.

docs/protocol.md section 4.1, in its order.  No I/O: a frame goes in, and what it
causes comes out, which may include a change to the store that has to be durable
before the answer goes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from kdc.errors import Refusal, RemoteProtocolError
from kdc.issuing._authentication import authenticate
from kdc.issuing._keys import begin_epoch, issue
from kdc.issuing._registration import change, register
from kdc.issuing.current import always_current
from kdc.issuing.decisions import Now, Others, Output
from kdc.issuing.realm import Realm
from kdc.issuing.session import Session, State
from kdc.protocol.crypto import ZERO_NONCE, ChannelBinding
from kdc.protocol.messages import (
    Authenticate,
    ChangeKeys,
    KeyRequest,
    Receive,
    Register,
    Request,
    decode_request,
)
from kdc.store import Record

__all__ = ["EXCHANGES", "Issuer"]

# Every request that is allowed, and nothing else: (where a connection is, what came).
EXCHANGES: dict[tuple[State, type[Request]], Callable[[Session, Any, Now], Output]] = {
    (State.NEW, Register): register,
    (State.NEW, Authenticate): authenticate,
    (State.AUTHENTIC, ChangeKeys): change,
    (State.AUTHENTIC, KeyRequest): issue,
    (State.AUTHENTIC, Receive): begin_epoch,
}

# What a request is charged to its principal, in 305s: about what it costs us.  With 311 comes
# a TLS handshake.
CHARGES: dict[type[Request], int] = {Authenticate: 5, KeyRequest: 1, Receive: 4, ChangeKeys: 20}

_SOON_SECONDS = 1  # until another machine answers, or this one has caught up


def _expired(session: Session, request: Request) -> Output:
    """The client's time has ended since it came; what it began ends with its connections."""
    refused = session.refuse(Refusal.NOT_ALLOWED, request.nonce, "expired")
    realm = session.realm
    every = realm.drop(session.name, realm.connections_of(session.name), "expired")
    others = tuple((other, output) for other, output in every if other is not session)
    return attrs.evolve(refused, close=True, others=others)


class Issuer:
    """One realm's KDC, for all its connections.

    ``current`` tells whether what the realm finds is new enough to decide by; see
    `kdc.issuing.current`.
    """

    def __init__(self, realm: Realm, current: Callable[[Now], bool] = always_current) -> None:
        self.realm = realm
        self._current = current

    def connect(self, address: str, binding: ChannelBinding) -> Session:
        """Begin with a client at ``address`` on the TLS connection of ``binding``."""
        return Session(self.realm, address, binding)

    def receive(self, session: Session, body: bytes, now: Now) -> Output:
        """Take one frame of a connection; none while it is `State.WRITING`."""
        try:
            request = decode_request(body)
            exchange = EXCHANGES.get((session.state, type(request)))
            if exchange is None:
                raise RemoteProtocolError(
                    Refusal.MALFORMED, f"{request.TYPE} in state {session.state.name}"
                )
        except RemoteProtocolError as error:
            return self.broken_frame(session, error)
        # Before any decision: whoever was disabled may be active in what we know.
        if not self._current(now):
            return session.refuse(Refusal.INTERNAL, request.nonce, "not confirmed", _SOON_SECONDS)
        if session.expired(now.unix_seconds):
            return _expired(session, request)
        output = exchange(session, request, now)
        if not session.name:
            return output
        # Whoever asks for more than its share waits, on each of its connections: an
        # answer that says so would cost us what the request does.
        charge = CHARGES[type(request)]
        rest = self.realm.work_rate.charge(session.name, charge, now.milliseconds)
        return attrs.evolve(output, rest_milliseconds=rest) if rest else output

    def broken_frame(self, session: Session, error: RemoteProtocolError) -> Output:
        """What arrived is no request, or not even a frame: say so and close."""
        return session.refuse(error.refusal, ZERO_NONCE, error.detail)

    def record_changed(self, record: Record) -> Others:
        """Tell the realm of a change of the store, whoever made it."""
        return self.realm.record_changed(record)
