"""What has come of each item, written down when it came: nothing else is told to its sender.

What stands in a directory later may be the work of others, and is none of the
sender's business.  A line for each item, and for each piece of a long one:

    [kind, name, bytes so far, executable, SHA-256 of them, whether that is all]

Blocking; no Twisted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import attrs
from attrs.validators import ge, instance_of

from kdc.files.atomic import write_pieces
from kdc.transfer.messages import Held, Kind
from kdc.transfer.names import safe_path

__all__ = ["Receipt", "Receipts", "read_receipts"]

# Of more items than that a cut transfer is begun anew, and stored twice if it was whole.
_MAX_BYTES = 16 << 20
_ENCODER = json.JSONEncoder(separators=(",", ":"))


@attrs.frozen
class Receipt:
    """The first ``size`` bytes have come; ``whole``: and nothing follows them."""

    kind: Kind = attrs.field(converter=Kind)
    name: str = attrs.field(validator=lambda _, __, value: safe_path(value))
    size: int = attrs.field(validator=[instance_of(int), ge(0)])
    executable: bool = attrs.field(validator=instance_of(bool))
    sha256: str = attrs.field(validator=instance_of(str))
    whole: bool = attrs.field(validator=instance_of(bool))

    @property
    def held(self) -> Held:
        return Held(self.name, self.size, self.sha256)


class Receipts:
    """Appends to the file ``fd``, which it takes over.  Methods raise `OSError`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        self._bytes = 0
        self.complete = True

    def add(
        self, kind: Kind, name: str, size: int, executable: bool, sha256: str, whole: bool
    ) -> None:
        """The fields of a `Receipt`: written with the next `flush`, if there is not too much."""
        fields = (kind.value, name, size, executable, sha256, whole)
        line = _ENCODER.encode(fields).encode() + b"\n"
        if self._bytes + len(line) > _MAX_BYTES:
            self.complete = False
            return
        self._bytes += len(line)
        self._lines.append(line)

    def withdraw(self, kind: Kind, name: str) -> None:
        """What was written down of it before does not hold any more."""
        self.add(kind, name, 0, False, "", False)

    def flush(self) -> None:
        """What is behind this survives us, not a power cut."""
        lines, self._lines = self._lines, []
        write_pieces(self._fd, lines)

    def close(self) -> None:
        os.close(self._fd)


def read_receipts(fd: int) -> dict[str, Receipt]:
    """The last of each name.  What is behind a line that is none does not count."""
    with os.fdopen(os.dup(fd), "rb") as file:
        found = {receipt.name: receipt for receipt in _parsed(file.read(_MAX_BYTES))}
    # Nothing of a file is what was withdrawn, or not begun.
    return {name: receipt for name, receipt in found.items() if receipt.size or receipt.whole}


def _parsed(text: bytes) -> Iterator[Receipt]:
    for line in text.split(b"\n")[:-1]:
        try:
            yield Receipt(*json.loads(line))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return
