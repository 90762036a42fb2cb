"""The checksum HMAC-MD5 of RFC 4757 section 4, which MS-SFU wants in PA-FOR-USER.

It proves nothing here that the authenticator's checksum over the whole request has not
proved already; a client that cannot send it could not ask.  Nothing else is under MD5.
"""

from __future__ import annotations

import hashlib
import hmac

__all__ = ["hmac_md5_checksum"]


def hmac_md5_checksum(key: bytes, usage: int, covered: bytes) -> bytes:
    signing = hmac.digest(key, b"signaturekey\0", "md5")
    inner = hashlib.md5(usage.to_bytes(4, "little") + covered, usedforsecurity=False).digest()
    return hmac.digest(signing, inner, "md5")
