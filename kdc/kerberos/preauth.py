"""Preauthentication: who asks shows that he has the key, before anything is sealed under it.

Only what is named here counts.  Padata of any other type, known or not, proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kdc.kerberos.der import DERError
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.keys import Entry
from kdc.kerberos.messages import (
    ENCRYPTED_DATA,
    ETYPE_INFO2,
    METHOD_DATA,
    PA_ENC_TIMESTAMP,
    EncryptedData,
    ETypeInfo2Entry,
    PAData,
    PAEncTimestamp,
)
from kdc.kerberos.padata import PadataType
from kdc.kerberos.profile import IntegrityFailure, Key, combined
from kdc.kerberos.realm import Realm

if TYPE_CHECKING:
    from kdc.kerberos.request import Request

__all__ = [
    "check_skew",
    "etype_info",
    "proven_key",
    "reply_key",
    "required",
]

USAGE_TIMESTAMP = 1
USAGE_CHALLENGE_CLIENT = 54
USAGE_CHALLENGE_KDC = 55


def proven_key(realm: Realm, request: Request, client: Entry) -> Key | None:
    """Return the long-term key that the client has shown to have; None if it has not tried.

    Raises `KerberosError` 24 if what it showed is not good, 37 if it is of another time.
    """
    wanted = PadataType.ENCRYPTED_CHALLENGE if request.armour else PadataType.ENC_TIMESTAMP
    # Inside of FAST an encrypted timestamp would do as well, as MIT has it.
    for kind in (wanted, PadataType.ENC_TIMESTAMP):
        content = request.padata_of(kind)
        if content is not None:
            return _checked(realm, request, client, kind, content)
    return None


def _checked(realm: Realm, request: Request, client: Entry, kind: int, content: bytes) -> Key:
    try:
        sealed = ENCRYPTED_DATA.decode(content)
        key = client.key(sealed.etype)
        if key is None:
            raise IntegrityFailure("no key of that type")
        opener, usage = key, USAGE_TIMESTAMP
        if kind == PadataType.ENCRYPTED_CHALLENGE and request.armour:
            opener, usage = challenge_key(request.armour.key, key), USAGE_CHALLENGE_CLIENT
        stamp = PA_ENC_TIMESTAMP.decode(opener.open(usage, sealed.cipher))
    except (IntegrityFailure, DERError):
        text = f"{client.principal} did not prove to have the right key"
        raise KerberosError(
            Code.PREAUTH_FAILED, text, METHOD_DATA.encode(hints(realm, request, client))
        ) from None
    check_skew(realm, stamp.moment, request.now)
    return key


def challenge_key(armour: Key, key: Key) -> Key:
    """RFC 6113 section 5.4.6."""
    return combined(armour, key, b"clientchallengearmor", b"challengelongterm")


def challenge_answer(realm: Realm, armour: Key, key: Key, now: float) -> PAData:
    """What shows the client that the KDC has the key too."""
    sealer = combined(armour, key, b"kdcchallengearmor", b"challengelongterm")
    stamp = PA_ENC_TIMESTAMP.encode(PAEncTimestamp(int(now), int(now % 1 * 1_000_000)))
    cipher = sealer.seal(USAGE_CHALLENGE_KDC, stamp, realm.random(16))
    content = ENCRYPTED_DATA.encode(EncryptedData(sealer.etype, None, cipher))
    return PAData(PadataType.ENCRYPTED_CHALLENGE, content)


def check_skew(realm: Realm, moment: int, now: float) -> None:
    """Raises `KerberosError` 37 that says whose clock is how far off."""
    ahead = moment - now
    if abs(ahead) <= realm.policy.skew_seconds:
        return
    side = "ahead of" if ahead > 0 else "behind"
    text = f"the client's clock is {_amount(abs(ahead))} {side} the KDC's"
    raise KerberosError(Code.SKEW, f"{text} ({_amount(realm.policy.skew_seconds)} are allowed)")


def _amount(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def reply_key(realm: Realm, client: Entry, wanted: Iterable[int]) -> Key:
    """Return the client's key of the first type that it wants and has."""
    for etype in wanted:
        if etype in realm.policy.etypes and (key := client.key(etype)) is not None:
            return key
    text = f"{client.principal} has no key of a type that the client offers"
    raise KerberosError(Code.NO_ETYPE, text)


def required(realm: Realm, request: Request, client: Entry) -> KerberosError:
    """The error 25 that says what would be taken."""
    advice = realm.policy.password_advice
    text = f"{client.principal} has to preauthenticate" + (f"; {advice}" if advice else "")
    return KerberosError(
        Code.PREAUTH_REQUIRED, text, METHOD_DATA.encode(hints(realm, request, client))
    )


def hints(realm: Realm, request: Request, client: Entry) -> tuple[PAData, ...]:
    """What the client can use (5.2.7.5): salts and parameters for its types, and what counts."""
    kind = PadataType.ENCRYPTED_CHALLENGE if request.armour else PadataType.ENC_TIMESTAMP
    types = [e for e in request.body.etypes if e in realm.policy.etypes]
    entries = [etype_info(client, etype) for etype in types if etype in client.current.etypes]
    found = [PAData(PadataType.ETYPE_INFO2, ETYPE_INFO2.encode(tuple(entries)))]
    if request.cookie:
        # RFC 6113 section 5.2
        found.append(PAData(PadataType.FX_COOKIE, request.cookie))
    return (PAData(PadataType.FX_FAST, b""), *found, PAData(kind, b""))


def etype_info(client: Entry, etype: int) -> ETypeInfo2Entry:
    return ETypeInfo2Entry(etype, client.current.salt, None)
