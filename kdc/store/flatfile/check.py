"""Looking at a store's files line by line, and saying what is wrong with which.

Reads only, takes no lock, and needs nothing to be right.  `kdc.store.flatfile._store.repair`
goes on with what is found here.
"""

from __future__ import annotations

import contextlib
import os

import attrs

from kdc.store import StoreError
from kdc.store.flatfile._check_base import check_base
from kdc.store.flatfile._check_journal import JournalFound, check_journal
from kdc.store.flatfile._examined import Line, Problem, Source, Take, opened
from kdc.store.flatfile._journal import JournalHeader
from kdc.store.flatfile.base import Header
from kdc.store.flatfile.paths import Paths
from kdc.store.sealed.files import Files
from kdc.store.sealed.generation import KeptGeneration
from kdc.store.sealed.lines import Sealer
from kdc.store.sealed.masterkey import MasterKeys

__all__ = ["Examination", "Line", "Problem", "check", "examine"]


@attrs.define
class Examination:
    """All that could be found out, but for the lines themselves."""

    paths: Paths
    problems: list[Problem] = attrs.field(factory=list)
    header: Header | None = None
    master: bytes | None = attrs.field(default=None, repr=False)
    kept_generation: int = 0
    readable: bool = True

    @property
    def repairable(self) -> bool:
        """Whether it is known which lines are authentic."""
        return self.readable and self.header is not None and self.master is not None

    def say(self, file: str, line: int, text: str, *, harmless: bool = False) -> None:
        self.problems.append(Problem(file, line, text, harmless))

    def unreadable(self, file: str, error: OSError) -> None:
        self.say(file, 0, f"cannot be read: {error.strerror}")


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


def examine(
    paths: Paths, files: Files | None = None, take: Take = lambda line: None
) -> Examination:
    """See `check`.  Every line of a principal is given to ``take``, the journal's first."""
    files = files or Files()
    found = Examination(paths)
    # A KDC may go on meanwhile.  What says how far it has come is read before what that is
    # compared with; the journal is opened before pwd.txt, which needs it less when replaced.
    kept = _kept(files, paths)
    with contextlib.ExitStack() as held:
        journal = _opened(found, files, paths.journal, held)
        base = _opened(found, files, paths.base, held, needed=True)
        if base is None:
            return found
        if not base.size:
            if journal is not None or files.exists(paths.generation):
                found.say(paths.base, 0, "is empty, and it was not always so: it was truncated")
            return found
        try:
            last = _check_files(found, files, base, journal, take)
        except OSError as error:
            found.readable = False
            found.unreadable(paths.base, error)
            return found
    if last is not None:
        _check_generation(found, kept, last)
    return found


def _opened(
    found: Examination,
    files: Files,
    path: str,
    held: contextlib.ExitStack,
    *,
    needed: bool = False,
) -> Source | None:
    try:
        return held.enter_context(opened(files, path))
    except FileNotFoundError:
        if needed:
            found.say(path, 0, "is missing")
    except OSError as error:
        found.unreadable(path, error)
    return None


def _check_files(
    found: Examination, files: Files, base: Source, journal: Source | None, take: Take
) -> int | None:
    """Return the generation that both files come to, if that could be found out."""
    header_line = base.first_line()
    found.header = Header.parse(header_line)
    _find_key(found, files, b"" if journal is None else journal.first_line(), header_line)
    if found.header is None or found.master is None:
        return None
    sealer = Sealer(found.master, found.header.realm, found.header.store_id, os.urandom)
    said = JournalFound()
    if journal is not None:
        said = check_journal(journal, found.header, found.master, sealer, take)
    found.problems += check_base(base, found.header, found.master, sealer, said.folded, take)
    found.problems += said.problems
    return max(found.header.generation, said.acknowledged)


def _find_key(found: Examination, files: Files, journal_line: bytes, header_line: bytes) -> None:
    paths = found.paths
    if found.header is None:
        if header_line.startswith(b":"):
            found.say(paths.base, 1, "is of the original program, which holds no usable keys")
            return
        found.say(paths.base, 1, "is not the first line of a principal database")
        # The journal knows what the first line said.
        other = JournalHeader.parse(journal_line)
        if other is None:
            return
        found.header = Header(other.realm, other.store_id, other.key_id, 0, 0, other.format)
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
        found.unreadable(paths.key, error)


def _kept(files: Files, paths: Paths) -> bytes | OSError | None:
    try:
        return KeptGeneration.content(files, paths.generation)
    except OSError as error:
        return error


def _check_generation(found: Examination, content: bytes | OSError | None, last: int) -> None:
    path, header = found.paths.generation, found.header
    if isinstance(content, OSError):
        found.unreadable(path, content)
        return
    if header is None:
        return
    if content is None:
        if last:
            found.say(path, 0, "is missing: a restored backup would go unnoticed", harmless=True)
        return
    try:
        kept = KeptGeneration.parse(content, path, header.store_id)
    except StoreError as error:
        found.say(path, 0, str(error))
        return
    found.kept_generation = kept
    if kept > last:
        found.say(
            path,
            1,
            f"says generation {kept}, and the store ends at {last}: an old copy was put back, or "
            "the journal is missing or cut",
        )
