"""The journal, line by line: what is wrong with it."""

from __future__ import annotations

import attrs

from kdc.protocol.crypto import same
from kdc.store.flatfile._examined import Problem, Source, Take, line_of
from kdc.store.flatfile._journal import COMMIT, Chain, JournalHeader
from kdc.store.flatfile.base import Header
from kdc.store.sealed.lines import Sealer

__all__ = ["JournalFound", "check_journal"]


@attrs.define
class JournalFound:
    """What was found: how far it goes, and what it has that pwd.txt should have, too."""

    problems: list[Problem] = attrs.field(factory=list)
    acknowledged: int = 0
    folded: dict[str, int] = attrs.field(factory=dict)


def check_journal(
    source: Source, base: Header, master: bytes, sealer: Sealer, take: Take
) -> JournalFound:
    """Return what there is; each of its principals' lines is given to ``take``."""
    found = JournalFound()
    header = JournalHeader.parse(source.first_line())
    if header is None:
        text = "is not the first line of a journal"
    elif (header.realm, header.store_id) != (base.realm, base.store_id):
        text = "belongs to another store"
    elif header.key_id != base.key_id:
        text = "is sealed under another master key"
        found.problems.append(Problem(source.path, 1, text, harmless=True))
        return found
    else:
        if header.after > base.generation:
            text = (
                f"begins after generation {header.after}, and pwd.txt ends at {base.generation}: "
                "changes between them are missing"
            )
            found.problems.append(Problem(source.path, 1, text))
        _Batches(source, header, base, Chain(header, master), sealer, take, found).check()
        return found
    found.problems.append(Problem(source.path, 1, text))
    return found


@attrs.define
class _Batches:
    _source: Source
    _header: JournalHeader
    _base: Header
    _chain: Chain
    _sealer: Sealer
    _take: Take
    _found: JournalFound
    _problems: list[Problem] = attrs.field(init=False, factory=list)
    _batch: list[bytes] = attrs.field(init=False, factory=list, repr=False)
    _generation: int = attrs.field(init=False, default=0)

    def check(self) -> None:
        self._generation = self._found.acknowledged = self._header.after
        number = 0
        for number, raw in self._source.lines():
            if number > 1:
                self._look(number, raw)
        if self._batch:
            self._explain_tail(number)
        self._found.problems += self._problems

    def _look(self, number: int, raw: bytes) -> None:
        match = COMMIT.fullmatch(raw)
        if match is None:
            self._line(number, raw)
            return
        fits = same(self._chain.next(b"".join(self._batch), int(match[1])), raw)
        if not fits and not self._problems:
            self._say(number, "does not fit the lines before it: lines were changed")
        # As recorded, so that the next batch is judged by itself.
        self._chain.accept(raw)
        self._found.acknowledged, self._batch = int(match[1]), []

    def _line(self, number: int, raw: bytes) -> None:
        self._batch.append(raw)
        line = line_of(self._problems, self._source.path, number, raw, self._sealer)
        self._take(line)
        if line.entry is None:
            return
        now = line.entry.record.generation
        if now <= self._generation:
            self._say(number, f"repeats generation {now}: it was put in or moved")
        elif now > self._generation + 1 and not self._problems:
            self._say(number, f"generations {self._generation + 1} to {now - 1} are missing")
        self._generation = max(self._generation, now)
        if now <= self._base.generation:
            self._found.folded[line.entry.record.name] = now

    def _explain_tail(self, number: int) -> None:
        """A tail without its commit line was never acknowledged, as far as the file tells."""
        first_bad = min((problem.line for problem in self._problems), default=number)
        if first_bad >= number - 1:
            text = (
                "a batch without its commit line: a crash cut it short before it was acknowledged"
            )
            self._problems = [Problem(self._source.path, first_bad, text, harmless=True)]

    def _say(self, number: int, text: str) -> None:
        self._problems.append(Problem(self._source.path, number, text))
