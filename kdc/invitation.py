"""Invitations as people pass them on: one word that says which KDC, for whom, and the code.

    kdc-invite:1:REALM:NAME:HOST:PORT:FINGERPRINT:CODE

The code is a secret until it has been used, so an invitation is read from a
file or a prompt, never from a command line.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

import attrs

from kdc.errors import ConfigurationError
from kdc.principal import check_name, check_realm
from kdc.secret import read_private

__all__ = ["Invitation", "read_code"]

_PREFIX = "kdc-invite"
_VERSION = "1"
_DIGITS = re.compile("[0-9a-f]{64}")


@attrs.frozen
class Invitation:
    """For one name, once.  ``fingerprint`` as the KDC prints it; ``host`` may be IPv6."""

    realm: str = attrs.field(converter=check_realm)
    name: str = attrs.field(converter=check_name)
    host: str
    port: int
    fingerprint: str
    code: bytes = attrs.field(repr=False)

    def __str__(self) -> str:
        code = base64.urlsafe_b64encode(self.code).decode().rstrip("=")
        host = self.host.replace(":", "_")  # a host name has no underscore
        digits = self.fingerprint.removeprefix("sha256:")
        return f"{_PREFIX}:{_VERSION}:{self.realm}:{self.name}:{host}:{self.port}:{digits}:{code}"

    @classmethod
    def parse(cls, text: str) -> Invitation:
        """Raises `ConfigurationError`, which does not quote it."""
        try:
            prefix, version, realm, name, host, port, digits, code = text.strip().split(":")
            if (prefix, version) != (_PREFIX, _VERSION) or not _DIGITS.fullmatch(digits):
                raise ValueError
            raw = base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True)
            if not 16 <= len(raw) <= 32 or not 1 <= int(port) <= 65535:
                raise ValueError
            return cls(realm, name, host.replace("_", ":"), int(port), f"sha256:{digits}", raw)
        except (ValueError, binascii.Error):
            raise ConfigurationError(
                "that is not an invitation",
                hint="it is one word that begins with kdc-invite:1: and was made by"
                " kdc admin invite",
            ) from None


def read_code(path: Path) -> bytes:
    """Return the code of the invitation in a file."""
    return Invitation.parse(read_private(path).decode("ascii", "replace")).code
