"""Who is there, as a KDC's directory answers it: lines of JSON, docs/protocol.md section 6.5.

    {"name":"bob","receiving":true,"address":"192.0.2.7","port":60000}
    {"name":"carol","receiving":false,"address":"","port":0}
    {"more":false}

Who asks for its own standing is answered in a line, docs/protocol.md section 6.5.1:

    {"now":1796083200,"end":1798761600,"renewal":7776000}

There is one way only to write an answer, and whatever is written otherwise is
refused.  Pure: no I/O.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import attrs

from kdc.errors import malformed
from kdc.protocol.codec import ADDRESS
from kdc.protocol.names import check_name

__all__ = [
    "DIRECTORY",
    "MAX_ANSWER",
    "MAX_PRESENCES",
    "MAX_STANDING",
    "SERVICE",
    "STANDING",
    "DirectoryAnswer",
    "Presence",
    "Standing",
    "decode_answer",
    "decode_standing",
    "end_line",
    "lines_of",
    "standing_line",
    "wait_line",
]

SERVICE = "kdc.who"
STANDING = "kdc.standing"
# The name of the directory, unless it was given another.
DIRECTORY = "directory"
MAX_PRESENCES = 100_000
MAX_ANSWER = 1 << 24
MAX_STANDING = 128
_MAX_WAIT_SECONDS = 3600
_MAX_NUMBER = (1 << 63) - 1


@attrs.frozen
class Presence:
    """A principal that is registered, and where it receives, if it does.

    The address is empty if the KDC knows none that means anything elsewhere.
    """

    name: str
    receiving: bool = False
    address: str = ""
    port: int = 0


@attrs.frozen
class Standing:
    """How long the one who asks is good for, all of it by the KDC's clock, which decides.

    ``now`` and ``end`` are Unix times; an ``end`` of 0 never comes.  ``renewal``: a new key
    moves the end to so many seconds from then, 0 if it does not.
    """

    now: int
    end: int = 0
    renewal: int = 0

    def seconds_left(self) -> int | None:
        """None: there is no end."""
        return max(0, self.end - self.now) if self.end else None


@attrs.frozen
class DirectoryAnswer:
    """``more``: there are others besides; ``wait_seconds``: ask again then, this is no answer."""

    presences: tuple[Presence, ...] = ()
    more: bool = False
    wait_seconds: int = 0


def lines_of(presences: Iterable[Presence]) -> bytes:
    """Return some lines of an answer; all of them come in the order of their names."""
    return b"".join(_line(attrs.asdict(presence)) for presence in presences)


def end_line(*, more: bool = False) -> bytes:
    """The last line of an answer."""
    return _line({"more": more})


def wait_line(seconds: int) -> bytes:
    """The only line for who asks too often."""
    return _line({"wait": max(1, min(seconds, _MAX_WAIT_SECONDS))})


def decode_answer(
    text: bytes, most: int = MAX_PRESENCES, limit: int = MAX_ANSWER
) -> DirectoryAnswer:
    """Take ``limit`` bytes at most, which name ``most``; raises `RemoteProtocolError`."""
    try:
        if len(text) > limit or text.count(b"\n") > most + 1:
            raise ValueError("it is too long")
        *lines, last, rest = text.decode("ascii").split("\n")
        presences = tuple(_presence(json.loads(line)) for line in lines)
        answer = _ended(presences, json.loads(last))
        again = lines_of(presences) + (
            wait_line(answer.wait_seconds) if answer.wait_seconds else end_line(more=answer.more)
        )
        if rest or again != text:
            raise ValueError("it is not in its one form")
    except (ValueError, TypeError, RecursionError) as error:
        raise malformed(f"the directory's answer: {str(error)[:200]!r}") from None
    names = [presence.name for presence in presences]
    if any(one >= other for one, other in itertools.pairwise(names)):
        raise malformed("the directory's answer: its names are not in order")
    return answer


def standing_line(standing: Standing) -> bytes:
    """The whole answer to who asks for its own standing."""
    return _line(attrs.asdict(standing))


def decode_standing(text: bytes) -> Standing:
    """Raises `RemoteProtocolError`."""
    try:
        if len(text) > MAX_STANDING:
            raise ValueError("it is too long")
        standing = Standing(**json.loads(text))
        for number in (standing.now, standing.end, standing.renewal):
            if type(number) is not int or not 0 <= number <= _MAX_NUMBER:
                raise ValueError("it is no number of seconds")
        if standing_line(standing) != text:
            raise ValueError("it is not in its one form")
    except (ValueError, TypeError, RecursionError) as error:
        raise malformed(f"the directory's answer: {str(error)[:200]!r}") from None
    return standing


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _presence(fields: Any) -> Presence:
    presence = Presence(**fields)
    kinds = [type(value) for value in attrs.astuple(presence)]
    if kinds != [str, bool, str, int]:
        raise ValueError("a line with a value of another kind")
    check_name(presence.name)
    if not presence.receiving and (presence.address or presence.port):
        raise ValueError("the address of somebody who does not receive")
    if not 0 <= presence.port <= 0xFFFF:
        raise ValueError("not a port")
    ADDRESS.check(presence.address)
    return presence


def _ended(presences: tuple[Presence, ...], fields: Any) -> DirectoryAnswer:
    if not isinstance(fields, dict):
        raise ValueError("it has no end")
    if fields.keys() == {"more"} and type(fields["more"]) is bool:
        return DirectoryAnswer(presences, fields["more"])
    if fields.keys() == {"wait"} and type(fields["wait"]) is int and not presences:
        return DirectoryAnswer(wait_seconds=fields["wait"])
    raise ValueError("it has no end")
