"""The types of preauthentication data that this KDC knows (RFC 4120 7.5.2, RFC 6113, MS-SFU)."""

from __future__ import annotations

import enum

__all__ = ["PadataType"]


class PadataType(enum.IntEnum):
    TGS_REQ = 1
    ENC_TIMESTAMP = 2
    ETYPE_INFO2 = 19
    FOR_USER = 129
    S4U_X509_USER = 130
    FX_COOKIE = 133
    FX_FAST = 136
    FX_ERROR = 137
    ENCRYPTED_CHALLENGE = 138
    REQ_ENC_PA_REP = 149
