"""pwd.txt, line by line: what is wrong with it."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping

from kdc.protocol.crypto import same
from kdc.store.flatfile._examined import Line, Problem, Source, Take, line_of
from kdc.store.flatfile.base import WITH_PARTS, Header, end_line
from kdc.store.sealed.lines import Sealer, foreign_digest
from kdc.store.sealed.masterkey import mac_key

__all__ = ["check_base"]

_MAX_COMPARED = 200  # damaged lines among which exchanged digests are looked for


def check_base(
    source: Source,
    header: Header,
    master: bytes,
    sealer: Sealer,
    newer: Mapping[str, int],
    take: Take,
) -> list[Problem]:
    """Return what is wrong with pwd.txt; each of its principals' lines is given to ``take``.

    ``newer``: the generations that the journal has of names, as far as pwd.txt should have them.
    """
    lines = _Lines(source, header, sealer, newer, take)
    mac = hmac.new(mac_key(master, header.store_id, "base"), digestmod="sha256")
    number, last = 0, b""
    for number, raw in source.lines():
        # The last line is none of a principal, and not in the MAC: one is always held back.
        if number > 1:
            mac.update(last)
        if number > 2:
            lines.look(number - 1, last)
        last = raw
    ended = last.startswith(b"end:")
    if not ended and number > 1:
        lines.look(number, last)
    problems = lines.problems()
    problems += _end(source.path, header, number, last, mac.digest(), sound=not problems)
    return problems + lines.older


def _end(
    path: str, header: Header, number: int, last: bytes, mac: bytes, *, sound: bool
) -> Iterator[Problem]:
    """What the end of the file tells; of one that is not ``sound`` only whether it is there."""
    ended = last.startswith(b"end:")
    missing = header.count - (number - 2 if ended else number - 1)
    if not ended:
        yield Problem(
            path,
            number,
            f"the file ends here, without its end line: it was cut "
            f"({max(missing, 0)} of {header.count} principals are missing)",
        )
    elif missing and sound:
        what = "lines were removed" if missing > 0 else "lines were put in"
        text = f"{abs(missing)} {what}: line 1 says {header.count} principals"
        yield Problem(path, 0, text)
    elif sound and not same(end_line(mac), last):
        yield Problem(
            path,
            number,
            "the end line does not fit, though each line is authentic: line 1 or the end line "
            "was changed, or an older line of somebody was put back",
        )


class _Lines:
    """Looks at one principal's line after the other; keeps only those with which something is."""

    def __init__(
        self,
        source: Source,
        header: Header,
        sealer: Sealer,
        newer: Mapping[str, int],
        take: Take,
    ) -> None:
        self.older: list[Problem] = []
        self._source = source
        self._header = header
        self._sealer = sealer
        self._newer = newer
        self._take = take
        self._problems: list[Problem] = []
        self._damaged: list[Line] = []
        self._misplaced: list[Line] = []
        self._previous = ""

    def look(self, number: int, raw: bytes) -> None:
        path = self._source.path
        line = line_of(self._problems, path, number, raw, self._sealer)
        self._take(line)
        if line.entry is None:
            if len(self._damaged) < _MAX_COMPARED:
                self._damaged.append(line)
            return
        record = line.entry.record
        if line.entry.purged:
            self._say(number, "belongs into the journal: it was put in here")
        elif record.name <= self._previous:
            self._misplaced.append(line)
        if record.kerberos and self._header.format < WITH_PARTS:
            self._say(number, "has a Kerberos part, which line 1 says that none has")
        if self._header.generation and record.generation > self._header.generation:
            self._say(
                number,
                f"is of generation {record.generation}, later than this file "
                f"({self._header.generation}): it was put in",
            )
        self._previous = max(self._previous, record.name)
        newer = self._newer.get(record.name, 0)
        if newer > record.generation:
            text = (
                f"is generation {record.generation} of {record.name!r}, and the "
                f"journal has {newer}: an older line was put back"
            )
            self.older.append(Problem(path, number, text))

    def problems(self) -> list[Problem]:
        """Return all that was found in the lines, once all were looked at, in their order."""
        for line in self._damaged:
            for other in self._damaged:
                if other is not line and foreign_digest(self._sealer, line.raw, other.raw):
                    self._say(line.number, f"its digest is that of line {other.number}")
        firsts = self._firsts({_name(line) for line in self._misplaced})
        for line in self._misplaced:
            self._explain_misplaced(line, firsts[_name(line)])
        return sorted(self._problems, key=lambda problem: problem.line)

    def _firsts(self, names: set[str]) -> Mapping[str, Line]:
        """The first line of each of these names.

        In a file that is in order, no name is looked for: to remember each that was there
        once would cost more than the file.
        """
        firsts: dict[str, Line] = {}
        for number, raw in self._source.lines() if names else ():
            line = Line(self._source.path, number, raw, None)
            name = line.name()
            if name in names and name not in firsts:
                line = line_of([], line.file, number, raw, self._sealer)
                if line.entry is not None:
                    firsts[name] = line
        return firsts

    def _explain_misplaced(self, line: Line, first: Line) -> None:
        name = _name(line)
        if first.number == line.number:
            self._say(line.number, f"{name!r} is out of order: lines were moved")
        elif first.raw == line.raw:
            self._say(line.number, f"{name!r} is there twice (see line {first.number})")
        else:
            older, other = sorted((line, first), key=_generation)
            text = f"{name!r} has two lines, and this is the older one (see line {other.number})"
            self._say(older.number, text)

    def _say(self, number: int, text: str) -> None:
        self._problems.append(Problem(self._source.path, number, text))


def _name(line: Line) -> str:
    return "" if line.entry is None else line.entry.record.name


def _generation(line: Line) -> int:
    return 0 if line.entry is None else line.entry.record.generation
