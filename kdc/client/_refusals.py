"""What a refusal of the KDC means for the person who asked."""

from __future__ import annotations

from kdc.errors import (
    AuthenticationRefused,
    ErrorKind,
    KDCError,
    KDCUnreachable,
    NameTaken,
    NotReceiving,
    Refusal,
    RefusedByPolicy,
    TooBusy,
    UnknownPeer,
)
from kdc.protocol.messages import Refused

__all__ = ["error_of", "error_of_proof"]

_REFUSALS: dict[Refusal, tuple[type[KDCError], str, str]] = {
    Refusal.VERSION: (KDCUnreachable, "the KDC speaks another version", "update this program"),
    Refusal.NOT_AUTHENTIC: (
        AuthenticationRefused,
        "wrong passphrase or key, or there is no such principal",
        "check the name, the secret and the realm",
    ),
    Refusal.NAME_TAKEN: (
        NameTaken,
        "the name is registered already, with another secret",
        "give the passphrase it was registered with, or choose another name",
    ),
    Refusal.INVITATION: (
        AuthenticationRefused,
        "this KDC does not register new names without a valid invitation",
        "ask its operator for one",
    ),
    Refusal.UNKNOWN_PRINCIPAL: (
        UnknownPeer,
        "the KDC knows nobody of that name",
        "check the spelling; the peer has to register first",
    ),
    Refusal.NOT_RECEIVING: (
        NotReceiving,
        "the peer is registered, but not receiving now",
        "start its receiver first",
    ),
    Refusal.NOT_ALLOWED: (
        RefusedByPolicy,
        "the KDC does not allow this",
        "nobody may ask for a key to himself; otherwise it is the realm's policy",
    ),
    Refusal.INTERNAL: (
        KDCUnreachable,
        "the KDC could not do it now; nothing was changed",
        "try again later; its log says why",
    ),
}

_KINDS = {Refusal.INVITATION: ErrorKind.INVITATION_NEEDED}


def error_of_proof(refused: Refused, what: str) -> KDCError:
    """The same of the answer to our proof that we are who we say."""
    if refused.code is Refusal.NOT_ALLOWED:  # our proof was good
        return RefusedByPolicy(
            f"{what}: our time at this KDC is over",
            hint="only its operator can renew it now",
            kind=ErrorKind.PRINCIPAL_EXPIRED,
        )
    return error_of(refused, what)


def error_of(refused: Refused, what: str) -> KDCError:
    """Return what to raise for ``refused``, which was the answer to ``what``."""
    if refused.code is Refusal.RATE:
        seconds = max(1, refused.retry_after)
        return TooBusy(
            f"{what}: the KDC limits how often this may be asked",
            retry_after=seconds,
            hint=f"try again in {seconds} s",
        )
    error, text, hint = _REFUSALS.get(
        refused.code, (KDCUnreachable, "the KDC did not understand", "update this program")
    )
    return error(f"{what}: {text}", hint=hint, kind=_KINDS.get(refused.code))
