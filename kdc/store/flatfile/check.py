"""Looking at a store's files line by line, and saying what is wrong with which.

Reads only, takes no lock, and needs nothing to be right.  `kdc.store.flatfile._store.repair`
goes on with what is found here.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Sequence

import attrs

from kdc.protocol.crypto import same
from kdc.store import StoreError
from kdc.store.flatfile._journal import COMMIT, Chain, JournalHeader
from kdc.store.flatfile.base import Header, end_line
from kdc.store.flatfile.paths import Paths
from kdc.store.sealed.files import Files, read_all
from kdc.store.sealed.generation import KeptGeneration
from kdc.store.sealed.lines import BadLine, Entry, Sealer, foreign_digest
from kdc.store.sealed.masterkey import MasterKeys, mac_key

__all__ = ["Examination", "Line", "Problem", "check", "examine"]

_MAX_COMPARED = 200  # damaged lines among which exchanged digests are looked for
_NAME = re.compile(rb":([a-z0-9][a-z0-9._-]{0,63}):")


@attrs.frozen
class Problem:
    """One thing that is wrong.  ``line`` is 0 where it is the file as a whole.

    A harmless one does not keep the store from being opened.
    """

    file: str
    line: int
    text: str
    harmless: bool = False

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{where}: {self.text}"


@attrs.frozen
class Line:
    """One line of a file; ``entry`` is None if it is not authentic."""

    file: str
    number: int
    raw: bytes = attrs.field(repr=False)
    entry: Entry | None = attrs.field(repr=False)

    def name(self) -> str | None:
        """Return the name that can still be read, authentic or not."""
        match = _NAME.match(self.raw)
        return match[1].decode() if match else None


@attrs.define
class Examination:
    """All that could be found out."""

    paths: Paths
    problems: list[Problem] = attrs.field(factory=list)
    header: Header | None = None
    master: bytes | None = attrs.field(default=None, repr=False)
    base_lines: list[Line] = attrs.field(factory=list)
    journal_lines: list[Line] = attrs.field(factory=list)
    kept_generation: int = 0

    @property
    def repairable(self) -> bool:
        """Whether it is known which lines are authentic."""
        return self.header is not None and self.master is not None

    def say(self, file: str, line: int, text: str, *, harmless: bool = False) -> None:
        self.problems.append(Problem(file, line, text, harmless))


def check(
    path: str | os.PathLike[str],
    *,
    key_path: str | os.PathLike[str] | None = None,
    generation_path: str | os.PathLike[str] | None = None,
    files: Files | None = None,
) -> list[Problem]:
    """Return everything that is wrong with the store at ``path``, in the order of the lines.

    An empty list: every line is authentic and nothing is missing.  Never raises
    for what the files hold.  It may run beside the server.
    """
    paths = Paths.of(path, key_path, generation_path)
    return examine(paths, files).problems


def examine(paths: Paths, files: Files | None = None) -> Examination:
    """See `check`."""
    files = files or Files()
    found = Examination(paths)
    # The journal first: pwd.txt may be replaced meanwhile, and needs it less then.
    journal = _content(found, files, paths.journal, needed=False)
    base = _content(found, files, paths.base, needed=True)
    if base is None:
        return found
    if not base:
        if journal is not None or files.exists(paths.generation):
            found.say(paths.base, 0, "is empty, and it was not always so: it was truncated")
        return found
    header_line = base[: base.find(b"\n") + 1]
    found.header = Header.parse(header_line)
    _find_key(found, files, journal or b"", header_line)
    if found.header is None or found.master is None:
        return found
    sealer = Sealer(found.master, found.header.realm, found.header.store_id, os.urandom)
    _check_base(found, base, sealer)
    last = found.header.generation
    if journal is not None:
        last = max(last, _check_journal(found, journal, sealer))
    _check_versions(found)
    _check_generation(found, files, last)
    return found


def _content(found: Examination, files: Files, path: str, *, needed: bool) -> bytes | None:
    try:
        fd = files.open(path, os.O_RDONLY)
        try:
            return read_all(files, fd)
        finally:
            files.close(fd)
    except FileNotFoundError:
        if needed:
            found.say(path, 0, "is missing")
    except OSError as error:
        found.say(path, 0, f"cannot be read: {error.strerror}")
    return None


def _find_key(found: Examination, files: Files, journal: bytes, header_line: bytes) -> None:
    paths = found.paths
    if found.header is None:
        if header_line.startswith(b":"):
            found.say(paths.base, 1, "is of the original program, which holds no usable keys")
            return
        found.say(paths.base, 1, "is not the first line of a principal database")
        # The journal knows what the first line said.
        other = JournalHeader.parse(journal[: journal.find(b"\n") + 1])
        if other is None:
            return
        found.header = Header(other.realm, other.store_id, other.key_id, 0, 0)
    try:
        keys = MasterKeys.read(files, paths.key)
        found.master = keys.get(found.header.key_id, paths.base)
        if len(keys.by_id) > 1:
            found.say(
                paths.key,
                0,
                "holds two keys: a rotation was cut short, do it again",
                harmless=True,
            )
    except FileNotFoundError:
        found.say(paths.key, 0, "is missing: without it no line can be read")
    except StoreError as error:
        found.say(paths.key, 0, str(error))
    except OSError as error:
        found.say(paths.key, 0, f"cannot be read: {error.strerror}")


def _check_base(found: Examination, content: bytes, sealer: Sealer) -> None:
    path, header = found.paths.base, found.header
    if header is None or found.master is None:
        return
    raw_lines = content.splitlines(keepends=True)
    before = len(found.problems)
    ended = raw_lines[-1].startswith(b"end:")
    body = raw_lines[1:-1] if ended else raw_lines[1:]
    for number, raw in enumerate(body, 2):
        found.base_lines.append(_line(found, path, number, raw, sealer))
    _explain_exchanged(found, found.base_lines, sealer)
    _check_order(found)
    missing = header.count - len(body)
    if not ended:
        found.say(
            path,
            len(raw_lines),
            f"the file ends here, without its end line: it was cut "
            f"({max(missing, 0)} of {header.count} principals are missing)",
        )
        return
    if missing and found.problems[before:] == []:
        what = "lines were removed" if missing > 0 else "lines were put in"
        found.say(path, 0, f"{abs(missing)} {what}: line 1 says {header.count} principals")
    mac = hmac.digest(
        mac_key(found.master, header.store_id, "base"), b"".join(raw_lines[:-1]), "sha256"
    )
    if not same(end_line(mac), raw_lines[-1]) and found.problems[before:] == []:
        found.say(
            path,
            len(raw_lines),
            "the end line does not fit, though each line is authentic: line 1 or the end line "
            "was changed, or an older line of somebody was put back",
        )


def _line(found: Examination, path: str, number: int, raw: bytes, sealer: Sealer) -> Line:
    try:
        return Line(path, number, raw, sealer.entry(raw))
    except BadLine as error:
        text = str(error)
        if not raw.endswith(b"\n"):
            text = "is torn: it ends in the middle"
        found.say(path, number, text)
        return Line(path, number, raw, None)


def _explain_exchanged(found: Examination, lines: Sequence[Line], sealer: Sealer) -> None:
    damaged = [line for line in lines if line.entry is None][:_MAX_COMPARED]
    for line in damaged:
        for other in damaged:
            if other is not line and foreign_digest(sealer, line.raw, other.raw):
                found.say(line.file, line.number, f"its digest is that of line {other.number}")


def _check_order(found: Examination) -> None:
    header, path = found.header, found.paths.base
    seen: dict[str, Line] = {}
    previous = ""
    for line in found.base_lines:
        if line.entry is None or header is None:
            continue
        record = line.entry.record
        first = seen.setdefault(record.name, line)
        if line.entry.purged:
            found.say(path, line.number, "belongs into the journal: it was put in here")
        elif first is not line and first.entry is not None:
            older = first if first.entry.record.generation < record.generation else line
            same_line = first.raw == line.raw
            text = "is there twice" if same_line else "has two lines, and this is the older one"
            found.say(
                path,
                older.number if not same_line else line.number,
                f"{record.name!r} {text} (see line "
                f"{first.number if older is line or same_line else line.number})",
            )
        elif record.name < previous:
            found.say(path, line.number, f"{record.name!r} is out of order: lines were moved")
        if header.generation and record.generation > header.generation:
            found.say(
                path,
                line.number,
                f"is of generation {record.generation}, later than this file "
                f"({header.generation}): it was put in",
            )
        previous = max(previous, record.name)


def _check_journal(found: Examination, content: bytes, sealer: Sealer) -> int:
    path, base = found.paths.journal, found.header
    raw_lines = content.splitlines(keepends=True)
    header = JournalHeader.parse(raw_lines[0]) if raw_lines else None
    if header is None or base is None or found.master is None:
        found.say(path, 1, "is not the first line of a journal")
        return 0
    if (header.realm, header.store_id) != (base.realm, base.store_id):
        found.say(path, 1, "belongs to another store")
        return 0
    if header.key_id != base.key_id:
        found.say(path, 1, "is sealed under another master key", harmless=True)
        return 0
    if header.after > base.generation:
        found.say(
            path,
            1,
            f"begins after generation {header.after}, and pwd.txt ends at {base.generation}: "
            "changes between them are missing",
        )
    return _check_batches(found, raw_lines, header, sealer)


def _check_batches(
    found: Examination, raw_lines: list[bytes], header: JournalHeader, sealer: Sealer
) -> int:
    path = found.paths.journal
    before = len(found.problems)
    chain = Chain(header, found.master or b"")
    generation = acknowledged = header.after
    batch: list[bytes] = []
    for number, raw in enumerate(raw_lines[1:], 2):
        match = COMMIT.fullmatch(raw)
        if match is None:
            batch.append(raw)
            line = _line(found, path, number, raw, sealer)
            found.journal_lines.append(line)
            if line.entry is not None:
                now = line.entry.record.generation
                if now <= generation:
                    found.say(path, number, f"repeats generation {now}: it was put in or moved")
                elif now > generation + 1 and found.problems[before:] == []:
                    found.say(
                        path, number, f"generations {generation + 1} to {now - 1} are missing"
                    )
                generation = max(generation, now)
            continue
        fits = same(chain.next(b"".join(batch), int(match[1])), raw)
        if not fits and found.problems[before:] == []:
            found.say(path, number, "does not fit the lines before it: lines were changed")
        # As recorded, so that the next batch is judged by itself.
        chain.accept(raw)
        acknowledged, batch = int(match[1]), []
    if batch:
        _explain_tail(found, len(raw_lines), before)
    return acknowledged


def _explain_tail(found: Examination, number: int, before: int) -> None:
    """A tail without its commit line was never acknowledged, as far as the file tells."""
    first_bad = min((problem.line for problem in found.problems[before:]), default=number)
    if first_bad >= number - 1:
        del found.problems[before:]
        found.say(
            found.paths.journal,
            first_bad,
            "a batch without its commit line: a crash cut it short before it was acknowledged",
            harmless=True,
        )


def _check_versions(found: Examination) -> None:
    """Find lines of pwd.txt that the journal knows to be out of date."""
    if found.header is None:
        return
    latest: dict[str, Entry] = {}
    for line in found.journal_lines:
        if line.entry and line.entry.record.generation <= found.header.generation:
            latest[line.entry.record.name] = line.entry
    for line in found.base_lines:
        entry = line.entry and latest.get(line.entry.record.name)
        if line.entry and entry and entry.record.generation > line.entry.record.generation:
            found.say(
                line.file,
                line.number,
                f"is generation {line.entry.record.generation} of {entry.record.name!r}, and the "
                f"journal has {entry.record.generation}: an older line was put back",
            )


def _check_generation(found: Examination, files: Files, last: int) -> None:
    path, header = found.paths.generation, found.header
    if header is None:
        return
    try:
        kept = KeptGeneration.read(files, path, header.store_id)
    except StoreError as error:
        found.say(path, 0, str(error))
        return
    except OSError as error:
        found.say(path, 0, f"cannot be read: {error.strerror}")
        return
    if kept is None:
        if last:
            found.say(path, 0, "is missing: a restored backup would go unnoticed", harmless=True)
        return
    found.kept_generation = kept
    if kept > last:
        found.say(
            path,
            1,
            f"says generation {kept}, and the store ends at {last}: an old copy was put back, or "
            "the journal is missing or cut",
        )
