"""The lines of the activity log, as they are written and as they are read again.

As text, the default:

    2026-11-23T05:12:15.123Z issued client=alice address=192.0.2.1 bob

and as JSON, for other programs; docs/log.md says what stands in it:

    {"time": "2026-11-23T05:12:15.123Z", "event": "issued", "client": "alice", ...}
"""

from __future__ import annotations

import ast
import enum
import functools
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

from kdc.hostile_text import harmless

__all__ = [
    "EVENTS",
    "LINES",
    "Entry",
    "LogFormat",
    "Noted",
    "json_line",
    "parse",
    "stamp",
    "text_line",
]

_MOST = 200
# Every event that there is, and what it says besides who, from where and when.
EVENTS: Mapping[str, str] = {
    "started": "the KDC can be used; how many principals it has, and which of several nodes it is",
    "stopped": "the KDC has ended, as it was told",
    "reloaded": "configuration and certificate were read again; the KDC's fingerprint",
    "reload-failed": "they could not be used, and why; the old ones stay",
    "store-lost": "the database is another's now, and why; the KDC ends",
    "store-trouble": "something is wrong with the database, and what; clients may be told to wait",
    "store-well": "nothing is wrong with it any more",
    "suppressed": "so many lines were too many to be written",
    "registered": "a new name",
    "authenticated": "a connection has proved whose it is",
    "issued": "a session key; for which receiver",
    "epoch-begun": "it receives from now on; address and port that others are told",
    "epoch-ended": "it does not receive any more, and why",
    "superseded": "it began to receive elsewhere, and this connection was told so",
    "changed": "it has new keys",
    "deleted": "it has deleted itself",
    "refused": "what was asked was refused; the code, and what it was about",
    "kerberos-issued": "a Kerberos ticket; for which service",
    "kerberos-refused": "a Kerberos ticket was refused; why, and for which service",
    "kerberos-keytab": "it has got its Kerberos keys; for which names",
    "admin-added": "an operator added a principal that has a key file",
    "admin-invited": "an operator made an invitation",
    "admin-reset": "an operator invited a principal anew whose secret is lost",
    "admin-loaded": "an operator took a principal over from a dump; its status",
    "admin-imported": "an operator took a principal over from the textbook format; its status",
    "admin-disabled": "an operator let a principal get no keys",
    "admin-enabled": "an operator let it again",
    "admin-deleted": "an operator deleted a principal",
    "admin-purged": "an operator freed the name of a deleted principal",
    "admin-moved": "an operator noted another address",
    "admin-expires": "an operator let a principal end, and when, in Unix seconds",
    "admin-new-master-key": "an operator made a master key for several KDCs; what it is called",
    "admin-rotated-master-key": "an operator sealed the database under a new key",
    "admin-rotated-tls": "an operator gave the KDC a new identity; its fingerprint",
    "admin-kerberos-enabled": "an operator gave the realm keys for Kerberos",
    "admin-kerberos-rotated": "an operator gave it other keys for Kerberos; their version",
    "admin-kerberos-services": "an operator said which Kerberos services are a principal's",
    "admin-kerberos-keytab": "an operator took a principal's Kerberos keys; for which names",
    "admin-dumped": "an operator took the secrets out of the database",
    "admin-moved-store": "an operator moved the database, to etcd or from there; its generation",
    "admin-repaired": "an operator put damaged lines aside; how many were kept",
}


class LogFormat(enum.Enum):
    """How lines are written."""

    TEXT = "text"
    JSON = "json"


class Noted(Protocol):
    """What a line is about."""

    @property
    def event(self) -> str: ...

    @property
    def principal(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def detail(self) -> str: ...


@attrs.frozen
class Entry:
    """A line that has been read.  ``time`` is as it is written, so that it sorts; or empty."""

    time: str
    event: str
    principal: str
    address: str
    detail: str

    @property
    def values(self) -> dict[str, Any]:
        """As an object of JSON."""
        return _values(self, self.time)

    def __str__(self) -> str:
        return f"{self.time} {_plain(self)}".lstrip()


def text_line(noted: Noted, unix_time: float, *, stamped: bool = True) -> str:
    """Return the line; every part is printable ASCII without line breaks."""
    line = _plain(noted)
    if stamped:
        line = f"{_to_milliseconds(unix_time)} {line}"
    return line if line.isascii() and line.isprintable() else ascii(line)


def json_line(noted: Noted, unix_time: float, *, stamped: bool = True) -> str:
    """The same as JSON: ASCII on one line, too, and harmless when it has been read.

    The time is in it wherever it goes.
    """
    return json.dumps(_values(noted, _to_milliseconds(unix_time)))


def _plain(noted: Noted) -> str:
    line = f"{noted.event} client={noted.principal or '-'} address={noted.address or '-'}"
    return f"{line} {noted.detail[:_MOST]}" if noted.detail else line


_UID = re.compile(r"by uid ([0-9]{1,10})\Z")


def _values(noted: Noted, at: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "time": at or None,
        "event": _inert(noted.event),
        "client": _inert(noted.principal) or None,
        "address": _inert(noted.address) or None,
        "detail": _inert(noted.detail),
    }
    if noted.event == "issued":
        values["receiver"] = values["detail"]
    elif noted.event == "refused":
        values["refusal"] = values["detail"].partition(" ")[0]
    elif noted.event.startswith("admin-") and (found := _UID.search(noted.detail)):
        values["uid"] = int(found[1])
    return values


def _inert(text: str) -> str:
    text = text[:_MOST]
    return text if text.isascii() and text.isprintable() else harmless(text)


def _to_milliseconds(unix_time: float) -> str:
    whole = int(unix_time)
    return f"{stamp(whole)}.{int((unix_time - whole) * 1000):03d}Z"


@functools.lru_cache(maxsize=4)
def stamp(whole: int) -> str:
    """A time in whole seconds, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"
_IS_TIME = re.compile(_TIME)
_EVENT = re.compile(r"[a-z][a-z-]{0,63}")
_TEXT = re.compile(
    rf"(?:({_TIME}) )?({_EVENT.pattern}) client=(\S+) address=(\S+)(?: (.*))?", re.ASCII
)


def parse(line: bytes) -> Entry | None:
    """What a line says, in whichever form it is; None if it is no line of the log."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        return None
    return _from_json(text) if text.startswith("{") else _from_text(text)


def _from_text(text: str) -> Entry | None:
    if text[:1] in ("'", '"'):
        # What was not printable was written as Python does.
        try:
            text = str(ast.literal_eval(text))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        found = re.fullmatch(_TEXT, harmless(text))
    else:
        found = _TEXT.fullmatch(text) if text.isprintable() else None
    if found is None:
        return None
    at, event, client, address, detail = found.groups(default="")
    return Entry(at, event, _known(client), _known(address), detail)


def _known(word: str) -> str:
    return "" if word == "-" else word


def _from_json(text: str) -> Entry | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    at, event = values.get("time"), values.get("event")
    rest = [values.get(name) or "" for name in ("client", "address", "detail")]
    if not all(isinstance(each, str) for each in (at, event, *rest)):
        return None
    if not (_IS_TIME.fullmatch(at) and _EVENT.fullmatch(event)):
        return None
    return Entry(at, event, *(_inert(each) for each in rest))


LINES: Mapping[LogFormat, Callable[..., str]] = {
    LogFormat.TEXT: text_line,
    LogFormat.JSON: json_line,
}
