"""What AS and TGS replies have in common (RFC 4120 section 5.4.2)."""

from __future__ import annotations

import attrs

from kdc.kerberos.messages import (
    CHECKSUM,
    PVNO,
    Checksum,
    EncKDCRepPart,
    EncryptedData,
    EncTicketPart,
    KDCRep,
    LastReq,
    PAData,
    PrincipalName,
    Ticket,
)
from kdc.kerberos.padata import PadataType
from kdc.kerberos.profile import Key
from kdc.kerberos.realm import Realm
from kdc.kerberos.request import Request

__all__ = ["Outcome", "encrypted_padata", "part_of"]

USAGE_REQUEST_CHECKSUM = 56


@attrs.frozen
class Outcome:
    """A reply without its seal: FAST may still change the key and the padata."""

    message_type: int
    client_realm: str
    client: PrincipalName
    ticket: Ticket
    part: EncKDCRepPart
    key: Key
    usage: int
    kvno: int | None = None
    padata: tuple[PAData, ...] = ()

    def sealed(self, realm: Realm, encoded_part: bytes) -> KDCRep:
        cipher = self.key.seal(self.usage, encoded_part, realm.random(16))
        part = EncryptedData(self.key.etype, self.kvno, cipher)
        return KDCRep(
            PVNO,
            self.message_type,
            self.padata or None,
            self.client_realm,
            self.client,
            self.ticket,
            part,
        )


def part_of(
    request: Request,
    ticket: EncTicketPart,
    realm: Realm,
    server: PrincipalName,
    key_expiration: int | None = None,
) -> EncKDCRepPart:
    """What tells the client what is in the ticket; without padata, which the last key is for."""
    return EncKDCRepPart(
        key=ticket.key,
        last_requests=(LastReq(0, int(request.now)),),
        nonce=request.body.nonce,
        key_expiration=key_expiration,
        flags=ticket.flags,
        auth_time=ticket.auth_time,
        start_time=ticket.start_time,
        end_time=ticket.end_time,
        renew_till=ticket.renew_till,
        realm=realm.name,
        server=server,
        addresses=ticket.addresses,
        padata=None,
    )


def encrypted_padata(realm: Realm, request: Request, key: Key) -> tuple[PAData, ...] | None:
    """RFC 6806 section 11: the request as it arrived, if the client asks for that."""
    if request.padata_of(PadataType.REQ_ENC_PA_REP) is None:
        return None
    checksum = Checksum(
        key.profile.checksum_type, key.checksum(USAGE_REQUEST_CHECKSUM, request.whole)
    )
    proof = PAData(PadataType.REQ_ENC_PA_REP, CHECKSUM.encode(checksum))
    if realm.policy.advertise_fast:
        return (proof, PAData(PadataType.FX_FAST, b""))
    return (proof,)
