"""What a store of sealed lines holds in memory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from kdc.errors import ErrorKind
from kdc.protocol.names import check_name
from kdc.store import Status, StoreError
from kdc.store.sealed.lines import BadLine, Entry, Sealer, has_part, name_of
from kdc.store.sealed.table import Table, lines_of
from kdc.store.services import Services

__all__ = ["Content"]

_RECENT_LINES = 4096


class Content:
    """The lines in memory and the key that opens them: they change together."""

    def __init__(self, table: Table, sealer: Sealer, path: str) -> None:
        self.table = table
        self.sealer = sealer
        self._path = path
        # By the line, not by the name: it cannot go stale.
        self._read_again = functools.lru_cache(_RECENT_LINES)(self._read)
        self._services = Services()
        for name in table.parts.copy():
            # One that does not open is told of when it is asked for.
            with contextlib.suppress(StoreError):
                self._index(name.decode())

    def entry_of(self, name: str) -> Entry | None:
        try:
            # A separator in the name would match the fields behind somebody else's.
            line = self.table.get(check_name(name).encode())
        except ValueError:
            return None
        return None if line is None else self._read_again(line)

    def entries(self) -> Iterator[Entry]:
        # The snapshot is taken now, not when the first entry is asked for.
        chunks = self.table.snapshot()
        return (self._read(line) for line in lines_of(chunks))

    def entries_from(self, name: str) -> Iterator[Entry]:
        first = name.encode("utf-8", "replace")
        chunks = self.table.snapshot(first)
        return (self._read(line) for line in lines_of(chunks) if name_of(line) >= first)

    def entries_with_parts(self) -> list[Entry]:
        """Those with a Kerberos part, in the order of their names."""
        names = sorted(name.decode() for name in self.table.parts.copy())
        found = [self.entry_of(name) for name in names]
        return [entry for entry in found if entry is not None]

    def _index(self, name: str) -> None:
        entry = self.entry_of(name)
        self._services.put(name, () if entry is None else entry.record.services)

    def owner_of(self, service: str) -> str | None:
        return self._services.owner_of(service)

    def put(self, line: bytes) -> None:
        """Take in a line that is durable."""
        name = name_of(line)
        concerns = has_part(line) or name in self.table.parts
        self.table.put(line)
        if concerns:
            self._index(name.decode())

    def remove(self, name: bytes) -> None:
        """Forget a line that is durably gone; raises `KeyError`."""
        self._services.put(name.decode(), ())
        self.table.remove(name)

    def counts(self) -> dict[Status, int]:
        """How many lines have each status; no line is opened for it."""
        chunks = self.table.snapshot()
        counts = {}
        for status in Status:
            field = b":%s:" % status.value.encode()
            # Nothing else in a line can be that, but for the name it begins with.
            called_so = sum(chunk.startswith(field) or b"\n" + field in chunk for chunk in chunks)
            counts[status] = sum(chunk.count(field) for chunk in chunks) - called_so
        return counts

    def resealed(self, sealer: Sealer) -> Content:
        """Return the same entries under another key."""
        table = Table()
        for chunk in self.table.snapshot():
            lines = [self._read(line) for line in lines_of([chunk])]
            table.extend(b"".join(sealer.lines(lines)), len(lines))
        return Content(table, sealer, self._path)

    def _read(self, line: bytes) -> Entry:
        try:
            return self.sealer.entry(line)
        except BadLine as error:
            # The file's MAC was right, so this line was written by us and is
            # damaged in memory, or by somebody who has the master key.
            name = name_of(line).decode("ascii", "replace")
            raise StoreError(
                f"{self._path}: the line of {name!r} {error}",
                hint="check the store",
                kind=ErrorKind.STORE_DAMAGED,
                facts={"path": self._path},
            ) from None
