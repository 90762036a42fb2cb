"""301 and 303: who may take a name, give it other keys, or give it up."""

from __future__ import annotations

import hashlib

import attrs

from kdc.errors import Refusal
from kdc.issuing.decisions import Audit, Enrolment, Now, Output
from kdc.issuing.session import Session
from kdc.protocol.codec import enc, frame
from kdc.protocol.crypto import VerifyKey, invitation_proof, same, verified
from kdc.protocol.messages import (
    DELETE_PRINCIPAL,
    Changed,
    ChangeKeys,
    Register,
    Registered,
    encode,
)
from kdc.store import Change, Create, Delete, Outcome, Record, Replace, Result, Status

__all__ = ["change", "register"]

NO_CODE = hashlib.sha256(b"kdp/1 no invitation").digest()
_RETRY_SECONDS = 5


def register(session: Session, request: Register, now: Now) -> Output:
    realm = session.realm
    wait = realm.registration_rate.take(session.prefix, now.milliseconds)
    if wait:
        return session.refuse(Refusal.RATE, request.nonce, request.name, wait)
    record = realm.find(request.name)
    why_not = _why_not(session, request, record, now)
    if why_not:
        return session.refuse(Refusal.INVITATION, request.nonce, f"{request.name}: {why_not}")
    signed = request.signed(realm.name, session.binding)
    if not verified(VerifyKey(request.verify_key), request.signature, *signed):
        return session.refuse(Refusal.NOT_AUTHENTIC, request.nonce, request.name)
    if record is not None and not _invited(record):
        return _already_registered(session, request, record)
    new = Record(
        name=request.name,
        status=Status.ACTIVE,
        address=request.address or session.reachable_address,
        port=request.port,
        verify_key=request.verify_key,
        reply_key=request.reply_key,
        changed_time=now.unix_seconds,
        # What the operator has said of a name that was invited anew.
        expiry_time=0 if record is None else record.expiry_time,
        renewal_seconds=0 if record is None else record.renewal_seconds,
    )
    if record is None:
        token = hashlib.sha256(enc(b"kdp/1 token", session.binding, request.nonce)).digest()[:16]
        wanted: Change = Create(new, token)
    else:  # uses up the invitation in the same write
        wanted = Replace(new, record.generation)
    return session.write(wanted, lambda result: _registered(session, request, result))


def _invited(record: Record) -> bool:
    # With an empty code anybody could compute the proof.
    return record.status is Status.INVITED and record.invitation != b""


def _why_not(session: Session, request: Register, record: Record | None, now: Now) -> str:
    """Why this name may not be registered here by this request; nothing if it may."""
    realm = session.realm
    invited = record is not None and _invited(record)
    code = record.invitation if record is not None and invited else NO_CODE
    expected = invitation_proof(code, *request.invited(realm.name, session.binding))
    proved = same(expected, request.invitation)
    if realm.enrolment is Enrolment.CLOSED:
        return "enrolment is closed"
    if record is not None and invited:
        if not proved:
            return "not the code of its invitation" if request.invitation else "no code"
        return "" if now.unix_seconds <= record.invitation_end_time else "the invitation has ended"
    if realm.enrolment is not Enrolment.OPEN:
        return "no invitation is open" if request.invitation else "no code"
    # Who is registered is no secret where anybody may try: it is answered behind this.
    return "" if record is not None or not request.invitation else "a code for a free name"


def _registered(session: Session, request: Register, result: Result | None) -> Output:
    if result is None:
        return _unavailable(session, request.nonce, request.name)
    if result.outcome is not Outcome.DONE or result.record is None:
        return _already_registered(session, request, result.record)
    session.realm.audit(Audit("registered", request.name, session.address))
    return Output(frame(encode(Registered(request.nonce, result.record.generation))))


def _already_registered(session: Session, request: Register, record: Record | None) -> Output:
    """The name is taken - which is no news to its owner, whose first 302 was lost."""
    own = (
        record is not None
        and record.status is Status.ACTIVE
        and same(record.verify_key, request.verify_key)
        and same(record.reply_key, request.reply_key)
    )
    if record is None or not own:
        return session.refuse(Refusal.NAME_TAKEN, request.nonce, request.name)
    return Output(frame(encode(Registered(request.nonce, record.generation))))


def change(session: Session, request: ChangeKeys, now: Now) -> Output:
    realm = session.realm
    record = realm.find(session.name)
    signed = request.signed(realm.name, session.binding, session.name)
    delete = request.op == DELETE_PRINCIPAL
    if (
        record is None
        or record.status is not Status.ACTIVE
        or not verified(VerifyKey(record.verify_key), request.old_signature, *signed)
        or not (
            delete or verified(VerifyKey(request.new_verify_key), request.new_signature, *signed)
        )
    ):
        return session.refuse(Refusal.NOT_AUTHENTIC, request.nonce, "change")
    if delete:
        wanted: Change = Delete(session.name, record.generation, now.unix_seconds)
    else:
        new = attrs.evolve(
            record,
            address=request.address or record.address,
            port=request.port or record.port,
            verify_key=request.new_verify_key,
            reply_key=request.new_reply_key,
            changed_time=now.unix_seconds,
            expiry_time=(
                now.unix_seconds + record.renewal_seconds
                if record.renewal_seconds
                else record.expiry_time
            ),
        )
        wanted = Replace(new, record.generation)
    return session.write(wanted, lambda result: _changed(session, request, result))


def _changed(session: Session, request: ChangeKeys, result: Result | None) -> Output:
    if result is None:
        return _unchanged(session, _unavailable(session, request.nonce, "change"))
    if result.outcome is not Outcome.DONE or result.record is None:
        refused = session.refuse(Refusal.INTERNAL, request.nonce, "changed meanwhile")
        return _unchanged(session, refused)
    event = "deleted" if request.op == DELETE_PRINCIPAL else "changed"
    session.tell(event)
    reply = session.seal(Changed(result.record.generation), request.nonce)
    realm = session.realm
    every = realm.drop(session.name, realm.connections_of(session.name), event)
    others = tuple((other, output) for other, output in every if other is not session)
    # This connection too was opened with the old key.
    return Output(reply, close=True, others=others)


def _unchanged(session: Session, refused: Output) -> Output:
    """Go on after a change that was not made, unless somebody else's was.

    `Realm.record_changed` has passed this connection over while it was waiting:
    otherwise one who keeps asking for changes would outlive being disabled.
    """
    record = session.realm.find(session.name)
    if record is not None and not session.outdated_by(record):
        return refused
    session.realm.drop(session.name, [session], "record changed")
    return attrs.evolve(refused, close=True)


def _unavailable(session: Session, nonce: bytes, detail: str) -> Output:
    detail = f"{detail}: the store cannot write"
    return session.refuse(Refusal.INTERNAL, nonce, detail, _RETRY_SECONDS)
