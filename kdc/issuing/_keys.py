"""305 and 307: a fresh key for a pair, and an epoch in which a receiver can be reached."""

from __future__ import annotations

import attrs

from kdc.errors import Refusal
from kdc.issuing.decisions import Audit, Now, Others, Output
from kdc.issuing.realm import Epoch
from kdc.issuing.session import Session
from kdc.protocol.crypto import KEY_BYTES, EpochSecret, SessionKey, ticket_key
from kdc.protocol.messages import KeyReplies, KeyReply, KeyRequest, Receive, Receiving
from kdc.protocol.tickets import TICKET_ID_BYTES, TICKET_NONCE_BYTES, TicketCipher
from kdc.store import Status

__all__ = ["begin_epoch", "issue"]


def issue(session: Session, request: KeyRequest, now: Now) -> Output:
    realm = session.realm
    if request.peer == session.name or not realm.permits(session.name, request.peer):
        return session.refuse(Refusal.NOT_ALLOWED, request.nonce, request.peer)
    epoch = realm.epoch_of(request.peer)
    if epoch is not None and epoch.connection.expired(now.unix_seconds):
        ended = realm.drop(request.peer, realm.connections_of(request.peer), "expired")
        refused = session.refuse(Refusal.NOT_RECEIVING, request.nonce, request.peer)
        return attrs.evolve(refused, others=ended)
    if epoch is None:
        record = realm.find(request.peer)
        known = record is not None and record.status is Status.ACTIVE
        why = Refusal.NOT_RECEIVING if known else Refusal.UNKNOWN_PRINCIPAL
        return session.refuse(why, request.nonce, request.peer)
    # Asked for at once: each call is one to the system.
    fresh = realm.random(KEY_BYTES + TICKET_ID_BYTES + TICKET_NONCE_BYTES)
    session_key = SessionKey(fresh[:KEY_BYTES])
    ticket = epoch.tickets.seal_new(
        session_key,
        session.name,
        request.ephemeral,
        fresh[KEY_BYTES:-TICKET_NONCE_BYTES],
        now.milliseconds - epoch.began_milliseconds + 1000 * realm.lifetime_seconds,
        fresh[-TICKET_NONCE_BYTES:],
    )
    reply = epoch.replies.fields(session_key, realm.lifetime_seconds, ticket)
    session.tell("issued", request.peer)
    return Output(session.seal_fields(KeyReply, reply, request.nonce, request.peer))


def begin_epoch(session: Session, request: Receive, now: Now) -> Output:
    realm = session.realm
    epoch_id, secret = realm.random(16), EpochSecret(realm.random(32))
    key = ticket_key(session.reply_key, secret, realm.name, session.name, epoch_id)
    address = request.address or session.reachable_address
    epoch = Epoch(
        epoch_id,
        address,
        request.port,
        now.milliseconds,
        TicketCipher(key, realm.name, session.name, epoch_id),
        KeyReplies(epoch_id, request.receiver_key, address, request.port),
        session,
    )
    older = realm.begin_epoch(session.name, epoch)
    if older is not None and older.connection is session:
        session.tell("epoch-ended", "renewed")
    session.tell("epoch-begun", f"{epoch.address} {epoch.port}")
    reply = Receiving(epoch_id, secret, realm.lifetime_seconds)
    others: Others = ()
    if older is not None and older.connection is not session:
        realm.audit(Audit("superseded", session.name, older.connection.address))
        others = ((older.connection, older.connection.superseded(older.epoch_id)),)
    return Output(session.seal(reply, request.nonce), others=others)
