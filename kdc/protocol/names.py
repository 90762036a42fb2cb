"""Names of principals and realms, addresses: one spelling each, checked in one place."""

from __future__ import annotations

import functools
import ipaddress
import re
import unicodedata

from kdc.hostile_text import shown

__all__ = [
    "check_address",
    "check_name",
    "check_realm",
    "fold_name",
    "normal_passphrase",
    "plain_address",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REALM = re.compile(r"[A-Za-z0-9.-]{1,64}")
_MAX_PASSPHRASE_BYTES = 1024


def check_name(name: str) -> str:
    """Return ``name`` if it is a principal's name on the wire.

    1-64 of ``a-z 0-9 . _ -``, a letter or digit first.  Raises `ValueError`.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"not a principal's name: {shown(name)}"
            " (1-64 of a-z 0-9 . _ -, the first a letter or digit)"
        )
    return name


def check_realm(realm: str) -> str:
    """Return ``realm`` if it is a realm's name; raises `ValueError`."""
    if _REALM.fullmatch(realm) is None:
        raise ValueError(f"not a realm: {shown(realm)} (1-64 of A-Z a-z 0-9 . -)")
    return realm


def fold_name(typed: str) -> str:
    """Return the name a person meant: ASCII capitals become small letters.

    Nothing else is folded, so that no two people can mean one name by letters
    that merely look alike.  Raises `ValueError`.
    """
    return check_name(typed.lower() if typed.isascii() else typed)


@functools.lru_cache(maxsize=4096)  # of those that are right: every 306 has one
def check_address(address: str) -> str:
    """Return ``address`` if it is none, or an IP address in its one spelling; raises `ValueError`.

    That is what ipaddress prints.  No scope: it means something on one machine
    only.  No IPv4 address within an IPv6 one: that is a second spelling, and
    Python 3.13 prints it otherwise than 3.11.
    """
    if "%" in address or plain_address(address) != address:
        raise ValueError(f"not a canonical IP address: {shown(address)}")
    return address


def plain_address(typed: str) -> str:
    """Return the one spelling of the address that was meant; raises `ValueError`."""
    if not typed:
        return ""
    if "%" in typed:
        raise ValueError(f"an address with a zone is of no use to others: {shown(typed)}")
    ip = ipaddress.ip_address(typed)
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def normal_passphrase(typed: str) -> bytes:
    """Return the bytes of a passphrase: NFC, UTF-8, nothing trimmed.

    Raises `ValueError` (which does not quote the passphrase) if it is empty,
    too long, or has control characters.
    """
    text = unicodedata.normalize("NFC", typed)
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in text):
        raise ValueError("the passphrase has control characters")
    encoded = text.encode()
    if not 1 <= len(encoded) <= _MAX_PASSPHRASE_BYTES:
        raise ValueError(f"a passphrase has 1 to {_MAX_PASSPHRASE_BYTES} bytes of UTF-8")
    return encoded
