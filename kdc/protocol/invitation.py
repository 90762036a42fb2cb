"""Invitations as people pass them on: one word that says which KDC, for whom, and the code.

docs/protocol.md section 4.3 has its bytes.  The code is a secret until it has been
used, so an invitation is read from a file or a prompt, never from a command line.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re

import attrs

from kdc.errors import ConfigurationError, ErrorKind
from kdc.hostile_text import shown
from kdc.protocol.names import check_name, check_realm

__all__ = ["IncompleteInvitation", "Invitation", "is_incomplete"]

_PREFIX = "kdc2-"
_SEVERAL_PREFIX = "kdc3-"  # with the addresses of several KDCs of one realm
_MOST_OTHERS = 15
_OLD_PREFIX = "kdc-invite:1:"
_USUAL_REALM = "LOCAL"  # which costs no letters
_CHECK_BYTES = 3
_OLD_CODE_LETTERS = 22  # of 16 bytes, which every code of that form has had
# The lengths of host names that none has: what follows is an address.
_IPV4, _IPV6 = 0, 255
_FINGERPRINT = re.compile("sha256:[0-9a-f]{64}")
# A name or an address.  Host names have no underscore: it can stand for the colons of IPv6.
_HOST = re.compile("[A-Za-z0-9.:-]{1,253}")
_PORT = re.compile("[1-9][0-9]{0,4}")


class IncompleteInvitation(ConfigurationError):
    """What there is of it is right; its end is missing."""


class _CutShort(Exception):
    """There is less than there should be."""


def _check_host(_: object, __: object, host: str) -> None:
    if not _HOST.fullmatch(host):
        raise ValueError(f"not a host name or address: {shown(host)}")


def _check_port(_: object, __: object, port: int) -> None:
    if not 1 <= port <= 65535:
        raise ValueError(f"not a port: {port}")


def _check_others(_: object, __: object, others: tuple[tuple[str, int], ...]) -> None:
    if len(others) > _MOST_OTHERS:
        raise ValueError(f"a realm has at most {_MOST_OTHERS + 1} addresses of KDCs")
    for host, port in others:
        _check_host(None, None, host)
        _check_port(None, None, port)


def _check_fingerprint(_: object, __: object, fingerprint: str) -> None:
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError(f"not a fingerprint: {shown(fingerprint)}")


@attrs.frozen
class Invitation:
    """For one name, once.  ``fingerprint`` as the KDC prints it; ``host`` may be IPv6.

    ``others``: where more KDCs of the same realm are.
    Raises `ValueError` for parts that are not what they should be.
    """

    realm: str = attrs.field(converter=check_realm)
    name: str = attrs.field(converter=check_name)
    host: str = attrs.field(validator=_check_host)
    port: int = attrs.field(validator=_check_port)
    fingerprint: str = attrs.field(validator=_check_fingerprint)
    code: bytes = attrs.field(repr=False)
    others: tuple[tuple[str, int], ...] = attrs.field(default=(), validator=_check_others)

    def __str__(self) -> str:
        prefix = _SEVERAL_PREFIX if self.others else _PREFIX
        others = [port.to_bytes(2, "big") + _packed(host) for host, port in self.others]
        content = b"".join(
            (
                bytes.fromhex(self.fingerprint.removeprefix("sha256:")),
                self.port.to_bytes(2, "big"),
                _counted(b"" if self.realm == _USUAL_REALM else self.realm.encode()),
                _counted(self.name.encode()),
                _packed(self.host),
                *((bytes([len(others)]), *others) if others else ()),
                _counted(self.code),
            )
        )
        checked = content + _check(prefix, content)
        return prefix + base64.urlsafe_b64encode(checked).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Invitation:
        """Blanks and line breaks in it count for nothing: who copies one from a window has them.

        Raises `ConfigurationError`, `IncompleteInvitation` if that is all that is wrong with
        it; neither quotes it.
        """
        word = "".join(text.split())
        try:
            invitation = cls._read(word)
        except _CutShort:
            invitation, complete = None, False
        else:
            complete = True
        if invitation is not None:
            return invitation
        if not complete:
            raise IncompleteInvitation(
                "that is not all of the invitation: its end is missing",
                hint="copy it from its first letter to its last",
            )
        raise ConfigurationError(
            "that is not an invitation",
            hint=f"it is one word that begins with {_PREFIX}",
            kind=ErrorKind.NOT_AN_INVITATION,
        )

    @classmethod
    def _read(cls, word: str) -> Invitation | None:
        """None if it is none; the error goes no further: what it quotes may be the code."""
        try:
            if word.startswith(_OLD_PREFIX):
                return cls._of_old(word.removeprefix(_OLD_PREFIX))
            prefix = word[: len(_PREFIX)]
            if prefix not in (_PREFIX, _SEVERAL_PREFIX):
                return None
            invitation = cls._of_content(prefix, _Content(_bytes_of(word.removeprefix(prefix))))
        except (ValueError, binascii.Error):
            return None
        return invitation if str(invitation) == word else None  # one spelling, check included

    @classmethod
    def _of_content(cls, prefix: str, content: _Content) -> Invitation:
        fingerprint, port = content.take(32).hex(), int.from_bytes(content.take(2), "big")
        realm = content.counted().decode("ascii") or _USUAL_REALM
        name, host = content.counted().decode("ascii"), content.host()
        others = content.places() if prefix == _SEVERAL_PREFIX else ()
        code = content.counted()
        content.take(_CHECK_BYTES)  # has to be there; `_read` compares it with all the rest
        return cls(realm, name, host, port, f"sha256:{fingerprint}", _code(code), others)

    @classmethod
    def _of_old(cls, word: str) -> Invitation:
        """As they were printed up to version 0.2: REALM:NAME:HOST:PORT:FINGERPRINT:CODE."""
        parts = word.split(":")
        if len(parts) < 6 or (len(parts) == 6 and len(parts[5]) < _OLD_CODE_LETTERS):
            raise _CutShort
        realm, name, host, port, digits, code = parts
        if not _PORT.fullmatch(port):
            raise ValueError("not a port")
        raw = _code(_bytes_of(code))
        return cls(realm, name, host.replace("_", ":"), int(port), f"sha256:{digits}", raw)


def is_incomplete(text: str) -> bool:
    """Whether more of an invitation has to come."""
    try:
        Invitation.parse(text)
    except IncompleteInvitation:
        return True
    except ConfigurationError:
        return False
    return False


class _Content:
    """The bytes of an invitation, taken one after the other; raises `_CutShort` at their end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def left(self) -> bytes:
        return self._content[self._at :]

    def take(self, length: int) -> bytes:
        if len(self.left) < length:
            raise _CutShort
        self._at += length
        return self._content[self._at - length : self._at]

    def counted(self) -> bytes:
        return self.take(self.take(1)[0])

    def host(self) -> str:
        length = self.take(1)[0]
        if length == _IPV4:
            return str(ipaddress.IPv4Address(self.take(4)))
        if length == _IPV6:
            return str(ipaddress.IPv6Address(self.take(16)))
        return self.take(length).decode("ascii")

    def places(self) -> tuple[tuple[str, int], ...]:
        count = self.take(1)[0]
        if not 1 <= count <= _MOST_OTHERS:
            raise ValueError("no number of addresses")
        ports_first = ((int.from_bytes(self.take(2), "big"), self.host()) for _ in range(count))
        return tuple((host, port) for port, host in ports_first)


def _counted(field: bytes) -> bytes:
    return bytes([len(field)]) + field


def _packed(host: str) -> bytes:
    """An address in few bytes, if these give back what was written; else its letters."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _counted(host.encode())
    if str(address) != host:
        return _counted(host.encode())
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed


def _check(prefix: str, content: bytes) -> bytes:
    """To notice a slip of the fingers, and nothing else: what is in it is authentic by its way."""
    return hashlib.sha256(prefix[:-1].encode() + content).digest()[:_CHECK_BYTES]


def _code(raw: bytes) -> bytes:
    if not 16 <= len(raw) <= 32:
        raise ValueError("not a code")
    return raw


def _bytes_of(letters: str) -> bytes:
    """As many as the letters have; what is left of the last one is dropped."""
    if len(letters) % 4 == 1:
        letters = letters[:-1] if re.fullmatch("[A-Za-z0-9_-]", letters[-1]) else "!"
    return base64.b64decode(letters + "=" * (-len(letters) % 4), altchars=b"-_", validate=True)
