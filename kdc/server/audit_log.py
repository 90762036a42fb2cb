"""The activity log (out.txt): one line per thing that happened, never a secret.

`kdc.admin.log_lines` says what a line looks like.  To systemd's journal, which notes the time by
itself, text goes without it.

Lines are gathered and written in batches by a worker thread: formatting and
writing each by itself would cost more than issuing the key it tells of.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from kdc.admin.log_lines import LINES, LogFormat
from kdc.files.opening import open_regular
from kdc.issuing.decisions import Audit
from kdc.limits import Rate, TokenBuckets
from kdc.net.background import background
from kdc.net.log import Logger
from kdc.net.waiting import Deadline

__all__ = ["AuditLog", "is_standard_stream", "open_log"]

_FLUSH_SECONDS = 0.2
_MAX_WAITING = 200_000
# Lines whose cause has proved nothing, all together: enough to see what goes on, not
# enough to fill a disk.
_UNPROVEN = Rate(10, 1, 200)
# What a principal can cause as often as it likes, for each of them.  Not "issued", for
# which there is a rate already, nor what changes the store.
_AT_WILL = frozenset(("authenticated", "epoch-begun", "epoch-ended", "refused", "superseded"))
_PROVEN = Rate(50, 1, 500)


_STANDARD_STREAM = re.compile("/dev/std(out|err)|/dev/fd/([0-9]{1,4})|/proc/self/fd/([0-9]{1,4})")


def is_standard_stream(path: Path) -> bool:
    """Whether it is something that was opened for us, such as /dev/stdout."""
    return _STANDARD_STREAM.fullmatch(str(path)) is not None


def open_log(path: Path) -> int:
    """Return a descriptor to append lines to, of a file of its owner's; raises `OSError`.

    What was opened for us is used as it is, whatever it is.
    """
    found = _STANDARD_STREAM.fullmatch(str(path))
    if found is None:
        return open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    number = {"out": 1, "err": 2}.get(found[1] or "") or int(found[2] or found[3])
    return os.dup(number)


def _is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether it is systemd's journal, which has told which file that is."""
    status = os.fstat(fd)
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _is_cut(path: Path) -> bool:
    """Whether the last line of a file has no end: what was written then was cut short."""
    if is_standard_stream(path):
        return False
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            file.seek(0, os.SEEK_END)
            if not file.tell():
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # it can be written to, and that will do
        return False


class AuditLog:
    """Appends to ``path``.  ``run`` runs a call in a worker thread, in order.

    ``shown`` is given each batch of lines before it is written, where somebody looks on.
    """

    log = Logger()

    def __init__(
        self,
        path: Path | None,
        *,
        clock: IReactorTime,
        run: Callable[
            [Callable[[list[tuple[Audit, float]]], None], list[tuple[Audit, float]]], Deferred[None]
        ],
        now: Callable[[], float] = time.time,
        environ: Mapping[str, str] = os.environ,
        log_format: LogFormat = LogFormat.TEXT,
        shown: Callable[[list[tuple[Audit, float]]], None] | None = None,
    ) -> None:
        self._shown = shown
        self.path = path
        self.log_format = log_format
        self._environ = environ
        self._stamped = True
        self._cut = False  # the last line that was written has no end
        self._clock = clock
        self._run = run
        self._now = now
        self._waiting: list[tuple[Audit, float]] = []
        self._dropped = 0
        self._unproven = TokenBuckets(_UNPROVEN, capacity=1)
        self._proven = TokenBuckets(_PROVEN)
        self._file: int | None = None
        self._writing = False
        self._soon = Deadline(clock)
        self._failing = ""
        self.suppressed = 0

    @property
    def waiting(self) -> int:
        """How many lines are still to be written."""
        return len(self._waiting)

    @property
    def trouble(self) -> str:
        """Why lines cannot be written just now, or nothing."""
        return self._failing

    def open(self) -> None:
        """Open the file, made readable by its owner only; raises `OSError`."""
        if self.path is not None:
            self._file = open_log(self.path)
            self._stamped = not _is_journal(self._file, self._environ)
            self._cut = _is_cut(self.path)

    def reopen(self) -> None:
        """Begin a new file if the old one was moved away; raises `OSError`.

        The descriptor stays the same: the thread that is writing to it just now
        must not find it closed, or be another file's by then.
        """
        if self.path is None or self._file is None:
            self.open()
            return
        new = open_log(self.path)
        os.dup2(new, self._file, inheritable=False)
        os.close(new)

    def add(self, audit: Audit) -> None:
        """Take one line; it is written within moments."""
        if len(self._waiting) >= _MAX_WAITING or self._flooding(audit):
            self._dropped += 1
            self.suppressed += 1
            return
        self._waiting.append((audit, self._now()))
        self._schedule()

    def _flooding(self, audit: Audit) -> bool:
        """Whether whoever caused this line causes too many."""
        if not audit.unproven and audit.event not in _AT_WILL:
            return False
        # Not by `now`: a step of the wall clock must not silence the log.
        now = int(self._clock.seconds() * 1000)
        if audit.unproven:
            return self._unproven.take(None, now) > 0
        return self._proven.take(audit.principal, now) > 0

    async def flush(self) -> None:
        """Write what has been added so far; what cannot be written is lost, and logged once."""
        if self._dropped:
            note = Audit("suppressed", "", "", f"{self._dropped} lines")
            self._waiting.append((note, self._now()))
            self._dropped = 0
        lines, self._waiting = self._waiting, []
        if not lines:
            return
        if self._shown is not None:
            self._shown(lines)
        try:
            await self._run(self._write, lines)
            self._failing = ""
        except OSError as error:
            # A full disk must not stop the service, nor be told once a batch.
            if not self._failing:
                self.log.error(
                    "cannot write the activity log {path}: {error}; lines are lost until it works",
                    path=str(self.path),
                    error=error.strerror,
                )
            self._failing = f"cannot write {self.path}: {error.strerror}"

    def close(self) -> None:
        self._soon.end()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _schedule(self) -> None:
        if self._waiting and not self._writing and not self._soon.running:
            self._soon.within(_FLUSH_SECONDS, self._tick)

    def _tick(self) -> None:
        background(self._write_next(), "writing the activity log")

    async def _write_next(self) -> None:
        """One batch at a time: those behind a disk that hangs would be bounded by nothing."""
        self._writing = True
        try:
            await self.flush()
        finally:
            self._writing = False
            self._schedule()

    def _write(self, lines: list[tuple[Audit, float]]) -> None:
        if self._file is None:
            return
        line_of, stamped = LINES[self.log_format], self._stamped
        text = "".join([line_of(audit, at, stamped=stamped) + "\n" for audit, at in lines]).encode()
        if self._cut:
            text = b"\n" + text
        while text:
            written = os.write(self._file, text)
            self._cut = text[written - 1 : written] != b"\n"
            text = text[written:]
