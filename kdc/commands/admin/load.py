"""``kdc admin load`` and ``kdc admin import``: principals from a file, some at a time."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from kdc.admin.wire import MAX_REQUEST
from kdc.client.settings import absolute
from kdc.commands.admin.command import AdminCommand
from kdc.commands.options import place_of, whole_number
from kdc.errors import ExitStatus, local_error
from kdc.files.opening import open_regular
from kdc.terminal import answer as tell
from kdc.terminal import harmless, say

if TYPE_CHECKING:
    from kdc.commands.admin.database import Ask
    from kdc.store.portable import Numbered, Skipped

__all__ = ["ImportCommand", "LoadCommand"]

_MAX_HOURS = 8760
_BATCH_BYTES = MAX_REQUEST - 4096  # room for the rest of a request


class _FromFile(AdminCommand):
    """A command that reads a file of principals, and may print invitations.

    It can be cut short and done again: who is there already is left alone.
    """

    optParameters = [
        ["kdc-address", None, None, "where clients reach the KDC, if it does not know"],
        ["kdc-port", None, None, "its port"],
        ["kdc-fingerprint", None, None, "its fingerprint, if the KDC is not running"],
        ["hours", None, "720", "how long the invitations are good"],
    ]

    def parseArgs(self, file: str = "") -> None:
        if not file:
            raise usage.UsageError("name the file to read")
        self["source"] = absolute(file)

    def run(self) -> int:
        request, found = self._request(), self.read(_lines_of(self["source"]))
        counts: Counter[str] = Counter()
        with self.store.asking(create=True) as ask:
            for batch in _batches(self._usable(found, counts)):
                self._take(ask, request, batch, counts)
        say(
            f"{counts['done']} added, {counts['there']} there already,"
            f" {counts['refused']} not taken"
        )
        return int(ExitStatus.REFUSED if counts["refused"] else ExitStatus.DONE)

    def read(self, lines: Iterator[str]) -> Iterator[Numbered | Skipped]:
        """Return what the file says, read as it is asked for."""
        raise NotImplementedError

    def _request(self) -> dict[str, Any]:
        """Return what every request for a batch has."""
        host, port = place_of(self["kdc-address"], self["kdc-port"])
        return {
            "command": self.parent.subCommand,
            "kdc_host": host,
            "kdc_port": port,
            "kdc_fingerprint": self["kdc-fingerprint"],
            "valid_seconds": 3600 * whole_number(self["hours"], 1, _MAX_HOURS, "--hours"),
        }

    def _usable(
        self, found: Iterable[Numbered | Skipped], counts: Counter[str]
    ) -> Iterator[Numbered]:
        """Yield the principals among ``found``, and tell of what is none."""
        from kdc.store.portable import Skipped

        for one in found:
            if isinstance(one, Skipped):
                self._tell(one.line, {"done": False, "why": one.reason, "refused": True}, counts)
            else:
                yield one

    def _take(
        self, ask: Ask, request: dict[str, Any], batch: list[Numbered], counts: Counter[str]
    ) -> None:
        from kdc.store.portable import fields_of

        records = [fields_of(one.record, secrets=True) for one in batch]
        answers = ask({**request, "records": records})
        for one, answer in zip(batch, answers, strict=True):
            self._tell(one.line, answer, counts)
        # An invitation is nowhere else: not in a buffer either, if this is ended.
        sys.stdout.flush()

    def _tell(self, line: int, answer: dict[str, Any], counts: Counter[str]) -> None:
        if self.given("json"):
            tell(json.dumps({"line": line, **answer}))
        elif not answer["done"]:
            whose = f"{answer['name']}: " if "name" in answer else ""
            say(f"line {line} left out: {harmless(whose + answer['why'])}")
        elif "invitation" in answer:
            tell(harmless(answer["invitation"]))
        counts["done" if answer["done"] else "refused" if "refused" in answer else "there"] += 1


class LoadCommand(_FromFile):
    """``load FILE``"""

    synopsis = "kdc admin load FILE [options]"
    longdesc = (
        "Add what dump has written; without keys in it, as names to be claimed by invitation."
        "  Who is there already is left alone."
    )

    def read(self, lines: Iterator[str]) -> Iterator[Numbered]:
        from kdc.store.portable import read_dump

        return read_dump(lines, self.store.realm)


class ImportCommand(_FromFile):
    """``import FILE``"""

    synopsis = "kdc admin import FILE [options]"
    longdesc = (
        "Read a database of the textbook format (:alice:10.4.5.11:35678:DIGEST=:) as names to be"
        " claimed by invitation.  Who is there already is left alone."
    )

    def read(self, lines: Iterator[str]) -> Iterator[Numbered | Skipped]:
        from kdc.store.portable import read_textbook

        say("the old digests are of no use here: each name waits for its owner to claim it")
        return read_textbook(lines)


def _lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a file, read as they are asked for; raises `LocalIOError`."""
    from kdc.store.portable import bounded_lines

    try:
        fd = open_regular(path, follow=True)
        with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
            yield from bounded_lines(file)
    except OSError as error:
        raise local_error(path, error) from None


def _batches(found: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Cut into what one request can hold."""
    from kdc.admin.enrolment import MAX_RECORDS
    from kdc.store.portable import fields_of

    batch: list[Numbered] = []
    size = 0
    for one in found:
        more = len(json.dumps(fields_of(one.record, secrets=True))) + 2
        if batch and (size + more > _BATCH_BYTES or len(batch) == MAX_RECORDS):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += more
    if batch:
        yield batch
