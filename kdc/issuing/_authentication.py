"""311: whose connection this is."""

from __future__ import annotations

import attrs

from kdc.errors import Refusal
from kdc.issuing.decisions import Now, Output
from kdc.issuing.session import Session
from kdc.protocol.crypto import VerifyKey, verified
from kdc.protocol.messages import Authenticate, Authenticated
from kdc.store import Status

__all__ = ["authenticate"]

# Verified against when there is no such principal, so that an unknown name costs
# what a wrong key costs; what it says is never believed (RFC 8032, 7.1, test 1).
NOBODY = VerifyKey(
    bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
)

_RETRY_SECONDS = 60  # when some of too many connections may have gone
# A client waits so long for an answer: one that would get none before that is told so.
_PATIENCE_SECONDS = 10


def authenticate(session: Session, request: Authenticate, now: Now) -> Output:
    realm = session.realm
    # One 311 a connection, whatever becomes of it.
    session.spend()
    wait = realm.guesses.wait(request.name, session.prefix, now)
    if wait:
        return session.refuse(Refusal.RATE, request.nonce, request.name, wait)
    record = realm.find(request.name)
    keyed = record is not None and record.status is Status.ACTIVE
    key = VerifyKey(record.verify_key) if record is not None and keyed else NOBODY
    genuine = verified(key, request.signature, *request.signed(realm.name, session.binding))
    if record is None or not keyed or not genuine:
        realm.guesses.failed(request.name, session.prefix, now)
        return session.refuse(Refusal.NOT_AUTHENTIC, request.nonce, request.name)
    realm.guesses.succeeded(request.name, session.prefix)
    if record.expired(now.unix_seconds):  # told to nobody but its owner
        refused = session.refuse(Refusal.NOT_ALLOWED, request.nonce, f"{request.name}: expired")
        return attrs.evolve(refused, close=True)
    if len(realm.connections_of(record.name)) >= realm.connections_per_principal:
        return _too_many(session, request, "connections_per_principal", _RETRY_SECONDS)
    owed_seconds = realm.work_rate.owed(record.name, now.milliseconds) // 1000
    if owed_seconds > _PATIENCE_SECONDS:
        return _too_many(session, request, "keys_per_second", owed_seconds - _PATIENCE_SECONDS)
    session.authentic(record)
    session.tell("authenticated")
    return Output(session.seal(Authenticated(record.generation), request.nonce))


def _too_many(session: Session, request: Authenticate, limit: str, retry_after: int) -> Output:
    """The proof is good, but this principal causes too much already."""
    session.realm.turned_away[limit] += 1
    output = session.refuse(Refusal.RATE, request.nonce, request.name, retry_after)
    return attrs.evolve(output, close=True)
