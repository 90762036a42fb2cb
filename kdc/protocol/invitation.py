"""Invitations as people pass them on: one word that says which KDC, for whom, and the code.

    kdc-invite:1:REALM:NAME:HOST:PORT:FINGERPRINT:CODE

The code is a secret until it has been used, so an invitation is read from a
file or a prompt, never from a command line.
"""

from __future__ import annotations

import base64
import binascii
import re

import attrs

from kdc.errors import ConfigurationError, ErrorKind
from kdc.hostile_text import shown
from kdc.protocol.names import check_name, check_realm

__all__ = ["Invitation"]

_PREFIX = "kdc-invite"
_VERSION = "1"
_FINGERPRINT = re.compile("sha256:[0-9a-f]{64}")
# A name or an address.  Host names have no underscore: it can stand for the colons of IPv6.
_HOST = re.compile("[A-Za-z0-9.:-]{1,253}")
_PORT = re.compile("[1-9][0-9]{0,4}")


def _check_host(_: object, __: object, host: str) -> None:
    if not _HOST.fullmatch(host):
        raise ValueError(f"not a host name or address: {shown(host)}")


def _check_fingerprint(_: object, __: object, fingerprint: str) -> None:
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError(f"not a fingerprint: {shown(fingerprint)}")


@attrs.frozen
class Invitation:
    """For one name, once.  ``fingerprint`` as the KDC prints it; ``host`` may be IPv6.

    Raises `ValueError` for parts that are not what they should be.
    """

    realm: str = attrs.field(converter=check_realm)
    name: str = attrs.field(converter=check_name)
    host: str = attrs.field(validator=_check_host)
    port: int
    fingerprint: str = attrs.field(validator=_check_fingerprint)
    code: bytes = attrs.field(repr=False)

    def __str__(self) -> str:
        code = base64.urlsafe_b64encode(self.code).decode().rstrip("=")
        host = self.host.replace(":", "_")
        digits = self.fingerprint.removeprefix("sha256:")
        return f"{_PREFIX}:{_VERSION}:{self.realm}:{self.name}:{host}:{self.port}:{digits}:{code}"

    @classmethod
    def parse(cls, text: str) -> Invitation:
        """Raises `ConfigurationError`, which does not quote it."""
        invitation = cls._read(text)
        if invitation is None:
            raise ConfigurationError(
                "that is not an invitation",
                hint="it is one word that begins with kdc-invite:1:",
                kind=ErrorKind.NOT_AN_INVITATION,
            )
        return invitation

    @classmethod
    def _read(cls, text: str) -> Invitation | None:
        """None if it is none; the error goes no further: what it quotes may be the code."""
        try:
            prefix, version, realm, name, host, port, digits, code = text.strip().split(":")
            if (prefix, version) != (_PREFIX, _VERSION) or not _PORT.fullmatch(port):
                return None
            raw = base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True)
            if not 16 <= len(raw) <= 32 or int(port) > 65535:
                return None
            return cls(realm, name, host.replace("_", ":"), int(port), f"sha256:{digits}", raw)
        except (ValueError, binascii.Error):
            return None
