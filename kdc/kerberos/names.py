"""Principals: ``HTTP/web.example.org@EXAMPLE.ORG`` and the names of messages (RFC 4120 6.2)."""

from __future__ import annotations

import enum
import re

import attrs

from kdc.kerberos.messages import PrincipalName

__all__ = ["NameType", "Principal", "check_realm", "parsed"]

_MOST_COMPONENTS = 16
_MOST_BYTES = 1024
_ESCAPED = {"\n": "\\n", "\t": "\\t", "\b": "\\b", "/": "\\/", "@": "\\@", "\\": "\\\\"}
_MEANT = {"n": "\n", "t": "\t", "b": "\b"}
_PIECE = re.compile(r"\\(.)|([/@])|([^\\/@]+)", re.DOTALL)


class NameType(enum.IntEnum):
    UNKNOWN = 0
    PRINCIPAL = 1
    SERVICE = 2
    SERVICE_ON_HOST = 3
    ENTERPRISE = 10
    WELL_KNOWN = 11


@attrs.frozen
class Principal:
    """Who: the components of a name, and its realm.  ``str`` is how it is typed."""

    components: tuple[str, ...]
    realm: str

    def __attrs_post_init__(self) -> None:
        if not 0 < len(self.components) <= _MOST_COMPONENTS or not self.realm:
            raise ValueError(f"a principal has a realm and 1 to {_MOST_COMPONENTS} components")
        if len("".join(self.components).encode()) > _MOST_BYTES:
            raise ValueError(f"a principal of more than {_MOST_BYTES} bytes")

    def __str__(self) -> str:
        return "/".join(map(_escaped, self.components)) + "@" + _escaped(self.realm)

    @property
    def salt(self) -> str:
        """The default salt, RFC 4120 section 4."""
        return self.realm + "".join(self.components)

    def name(self, name_type: int = NameType.PRINCIPAL) -> PrincipalName:
        """As it stands in messages; the type is a hint only (RFC 4120 section 6.2)."""
        return PrincipalName(name_type, self.components)


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(char, char) for char in text)


def parsed(text: str, realm: str) -> Principal:
    """Return the principal that is typed ``text``, of ``realm`` unless it says another.

    Raises `ValueError`.
    """
    parts: list[str] = [""]
    at_realm = False
    place = 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        if piece is None:
            raise ValueError("a principal ends in a backslash")
        place = piece.end()
        escaped, mark, plain = piece.groups()
        if mark == "@":
            if at_realm:
                raise ValueError("a principal has more than one realm")
            at_realm = True
            parts.append("")
        elif mark == "/" and not at_realm:
            parts.append("")
        else:
            parts[-1] += mark or plain or _MEANT.get(escaped, escaped)
    if at_realm:
        realm = parts.pop()
    return Principal(tuple(parts), check_realm(realm))


def check_realm(realm: str) -> str:
    """Return ``realm``; raises `ValueError` unless it may be the name of one (6.1)."""
    if not realm or len(realm) > 255 or not realm.isprintable() or set(realm) & set("/: \"'\\"):
        raise ValueError(f"{realm[:40]!r} is no name of a realm")
    return realm
