"""What of a running KDC the status page shows; no more than an operator is told anyway."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred

from kdc.admin.log_lines import stamp
from kdc.issuing.decisions import Audit
from kdc.server._facts import Facts, connections_of, facts_of, receivers_of
from kdc.server._measured import Measured
from kdc.server._status import Parts, checks_of
from kdc.store import Record
from kdc.watch.history import History
from kdc.watch.view import Filter, Found, Live, LogLine, Principal, Receiver

__all__ = ["KDCView"]

_PAGE = 100
# So many records are looked at for one page: with a filter that fits few, there are links.
_LOOKED_AT = 20_000
_LINES_AT_ONCE = 100


class KDCView:
    """``read`` makes a call in the thread that reads the store."""

    def __init__(
        self,
        parts: Parts,
        realm: str,
        read: Callable[..., Deferred[Found]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.title = f"KDC of {realm}"
        self._parts = parts
        self._measured: Measured = parts.measured
        self._read = read
        self._now = now
        self._history = History(self._measured.bounds)
        self._checks = checks_of(parts)

    def second(self) -> None:
        keys = self._measured.keys
        self._history.note(self._now(), keys.done, keys.seconds.counts)

    def live(self) -> Live:
        realm = self._parts.factory.issuer.realm
        troubles = [(name, why) for name, check in self._checks.items() if (why := check())]
        refused = [(code, int(n)) for (code,), n in self._measured.refusals.counts.items() if n]
        return Live(
            facts=dict(self._facts()),
            receivers=[Receiver(*each) for each in receivers_of(realm)],
            receiving=realm.epochs,
            minutes=self._history.minutes,
            refusals=sorted(refused, key=lambda each: -each[1]),
            troubles=troubles,
        )

    def _facts(self) -> Iterator[tuple[str, Facts]]:
        parts, measured = self._parts, self._measured
        yield (
            "Now",
            [
                ("keys issued", f"{measured.keys.done:,}"),
                ("names registered", f"{measured.registrations.total:,.0f}"),
                ("log-ins", f"{measured.authentications.total:,.0f}"),
                ("failed log-ins", f"{measured.failures.total:,.0f}"),
                *connections_of(parts.factory),
            ],
        )
        yield from facts_of(parts.factory, parts.store, parts.tls, parts.relay())

    def lines(self, wanted: Callable[[LogLine], bool], most: int) -> list[LogLine]:
        newest = map(_line, reversed(self._measured.lines))
        return list(itertools.islice(filter(wanted, newest), most))

    def lines_after(self, number: int) -> tuple[int, list[LogLine]]:
        seen, kept = self._measured.lines_seen, self._measured.lines
        fresh = min(seen - number, len(kept), _LINES_AT_ONCE)
        return seen, [_line(each) for each in itertools.islice(kept, len(kept) - fresh, None)]

    async def find(self, wanted: Filter) -> Found:
        return await self._read(self._find, wanted)

    def _find(self, wanted: Filter) -> Found:
        """In the reading thread."""
        found: list[Principal] = []
        last = ""
        records = self._parts.store.names_from(max(wanted.name, wanted.after))
        for looked_at, record in enumerate(records):
            if not record.name.startswith(wanted.name):
                break
            if record.name == wanted.after:
                continue
            if len(found) >= _PAGE or looked_at > _LOOKED_AT:
                return Found(found, last)
            last = record.name
            if wanted.status in ("", record.status.value):
                found.append(_principal(record))
        return Found(found)


def _principal(record: Record) -> Principal:
    place = f"{record.address} port {record.port}" if record.address else ""
    changed = stamp(record.changed_time) + "Z" if record.changed_time else "-"
    return Principal(record.name, record.status.value, place, changed)


def _line(noted: tuple[Audit, float]) -> LogLine:
    audit, at = noted
    return LogLine(stamp(int(at)) + "Z", audit.event, audit.principal, audit.address, audit.detail)
