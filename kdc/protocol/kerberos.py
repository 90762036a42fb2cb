"""What principals get from the KDC's Kerberos over a channel: docs/kerberos.md.

    tgt      {"life":36000,"renewable":604800,"forwardable":true}
    keytab   {"services":["HTTP/web.example.org"],"new_keys":false}

An answer is a byte 0 and a file, or a byte 1 and a line of JSON that says what is refused:

    {"text":"...","hint":"..."}

There is one way only to write each, and whatever is written otherwise is refused.  Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

import attrs

from kdc.errors import RefusedByPolicy, RemoteProtocolError, malformed

__all__ = [
    "KEYTAB",
    "MAX_ANSWER",
    "MAX_QUESTION",
    "RECEIVER",
    "TICKET",
    "KeytabWanted",
    "TicketWanted",
    "decode_answer",
    "decode_question",
    "encode_question",
    "file_answer",
    "refusal_answer",
]

# The name of the receiver, and of what it does.
RECEIVER = "kerberos"
TICKET = "tgt"
KEYTAB = "keytab"
MAX_QUESTION = 16_384
MAX_ANSWER = 1 << 20
_MAX_SECONDS = 366 * 86_400
_MAX_TEXT = 400
_MOST_SERVICES = 64


def _seconds(_: object, attribute: Any, value: object) -> None:
    if type(value) is not int or not 0 <= value <= _MAX_SECONDS:
        raise ValueError(f"{attribute.name} is a number of seconds, up to a year")


def _flag(_: object, attribute: Any, value: object) -> None:
    if type(value) is not bool:
        raise ValueError(f"{attribute.name} is true or false")


def _tuple(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


def _names(_: object, attribute: Any, value: Any) -> None:
    if len(value) > _MOST_SERVICES or not all(type(name) is str for name in value):
        raise ValueError(f"{attribute.name} are up to {_MOST_SERVICES} names")


@attrs.frozen
class TicketWanted:
    """A ticket for the ticket-granting service: 0 seconds are the realm's most, or no renewal."""

    life: int = attrs.field(default=0, validator=_seconds)
    renewable: int = attrs.field(default=0, validator=_seconds)
    forwardable: bool = attrs.field(default=True, validator=_flag)


@attrs.frozen
class KeytabWanted:
    """A keytab with our own name and all of our services, or with these services alone."""

    services: tuple[str, ...] = attrs.field(default=(), converter=_tuple, validator=_names)
    new_keys: bool = attrs.field(default=False, validator=_flag)


W = TypeVar("W", TicketWanted, KeytabWanted)


def encode_question(wanted: TicketWanted | KeytabWanted) -> bytes:
    return _json(attrs.asdict(wanted))


def decode_question(kind: type[W], data: bytes) -> W:
    """Raises `RemoteProtocolError`."""
    try:
        if len(data) > MAX_QUESTION:
            raise ValueError("it is too long")
        values = json.loads(data)
        wanted = kind(**values)
        if encode_question(wanted) != data:
            raise ValueError("it is not in its one form")
    except (ValueError, TypeError, RecursionError) as error:
        raise malformed(f"question to Kerberos: {error}"[:_MAX_TEXT]) from None
    return wanted


def file_answer(content: bytes) -> bytes:
    return b"\0" + content


def refusal_answer(text: str, hint: str) -> bytes:
    return b"\1" + _json({"text": text[:_MAX_TEXT], "hint": hint[:_MAX_TEXT]})


def decode_answer(data: bytes) -> bytes:
    """Return the file; raises `RefusedByPolicy` with what was said, or `RemoteProtocolError`."""
    if data[:1] == b"\0":
        return data[1:]
    try:
        if data[:1] != b"\1" or len(data) > MAX_QUESTION:
            raise ValueError("it is no answer")
        values = json.loads(data[1:])
        text, hint = values["text"], values["hint"]
        if type(text) is not str or type(hint) is not str or len(text + hint) > 2 * _MAX_TEXT:
            raise ValueError("it says nothing")
        if _json({"text": text, "hint": hint}) != data[1:]:
            raise ValueError("it is not in its one form")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _malformed_answer(error) from None
    raise RefusedByPolicy(text, hint=hint)


def _malformed_answer(error: Exception) -> RemoteProtocolError:
    return malformed(f"answer of Kerberos: {error}"[:_MAX_TEXT])


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"
