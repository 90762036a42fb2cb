"""The same again: what a sender sends a second time because it never learnt of the first.

Between the end of a stream and its acknowledgement a connection may break.
Then the receiver has shown everything and the sender does not know it.  So an
inbox notes what it is about to show, and forgets it when the sender has
confirmed that it knows.  If the same sender comes with the same offer while
the note is there, it is told what it has sent, as after any cut.  If it
recognises all of it, each digest and each name, nothing is stored.

What it is told comes from the receipts that were written when it sent it, and
never from the inbox: what has become of it there since then is not the
sender's business, and must not show in what we answer.  So if anything is
otherwise the note is forgotten, and the sender has to begin anew.
Blocking; no Twisted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from kdc.errors import LocalIOError
from kdc.transfer._inbox import InboxDeposit
from kdc.transfer._partials import Note, forget
from kdc.transfer._receipts import Receipt
from kdc.transfer.deposit import Anew, Arrival, Deposit, Stored
from kdc.transfer.messages import MAX_HELD_BYTES, Held, Item, Kind, Offer, Omitted

__all__ = ["OnceDeposit"]


class OnceDeposit(Deposit):
    """An `InboxDeposit`, but what was shown by it before is not stored twice.

    ``process`` is the same for all deposits of one receiver, as long as it runs:
    what it has shown itself it calls `Stored.again`.
    """

    def __init__(
        self,
        inbox: Path,
        sender: str,
        offer: Offer,
        *,
        process: str,
        force: bool = False,
        preserve: bool = True,
    ) -> None:
        self._new = InboxDeposit(
            inbox, sender, offer, process=process, force=force, preserve=preserve
        )
        self.key = self._new.key
        self.remarks = self._new.remarks
        self._inbox = inbox
        self._process = process
        self._note: Note | None = None
        self._recognised: set[str] = set()

    def prepare(self) -> list[Held]:
        note = self._new.open().noted()
        held = [] if note is None else [each.held for each in note.receipts.values() if each.size]
        if note is None or sum(len(each.encode()) for each in held) > MAX_HELD_BYTES:
            return self._new.resume()
        self._note = note
        return held

    def take(self, arrivals: Sequence[Arrival]) -> None:
        if self._note is None:
            self._new.take(arrivals)
            return
        for arrival in arrivals:
            # Of what is the same no content follows: all of it is left out.
            if isinstance(arrival, Omitted):
                if arrival.name in self._note.receipts:
                    self._begin_anew()
            elif isinstance(arrival, Item):
                receipt = self._note.receipts.get(arrival.name)
                if arrival.name in self._recognised or not _is_the_same(arrival, receipt):
                    self._begin_anew()
                self._recognised.add(arrival.name)

    def show(self) -> list[Stored]:
        if self._note is None:
            return self._new.show()
        if self._recognised != self._note.receipts.keys():
            self._begin_anew()
        stored = self._shown_before(self._note)
        self._new.discard()
        return stored

    def discard(self, *, keep: bool = False) -> bool:
        return self._new.discard(keep=keep)

    def settled(self) -> None:
        with contextlib.suppress(OSError, LocalIOError):
            fd = os.open(self._inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                forget(fd, self.key)
            finally:
                os.close(fd)

    def _begin_anew(self) -> None:
        self._new.unnote()
        raise Anew("it is not what was sent before; it has to be sent anew")

    def _shown_before(self, note: Note) -> list[Stored]:
        """What was shown then, by top-level names; where it is now is for us only."""
        places = {}
        with contextlib.suppress(OSError), os.scandir(self._inbox) as listing:
            places = {each.inode(): self._inbox / each.name for each in listing}
        found = []
        for name, inode in note.tops.items():
            files = [
                receipt.size
                for path, receipt in note.receipts.items()
                if path.partition("/")[0] == name and receipt.kind is not Kind.DIRECTORY
            ]
            path = places.get(inode)
            # What is not there any more nobody has to be told of, nor can a hook work on it.
            again = note.process == self._process or path is None
            kind = note.receipts[name].kind
            found.append(
                Stored(kind, name, path or self._inbox / name, sum(files), len(files), again)
            )
        return found


def _is_the_same(item: Item, receipt: Receipt | None) -> bool:
    """Whether the sender has recognised this, all of it."""
    return receipt is not None and (item.kind, item.size, item.start, item.executable) == (
        receipt.kind,
        receipt.size,
        receipt.size,
        receipt.executable,
    )
