"""What a KDC tells of itself to people who look at it: in the browser, and in a terminal."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs

from kdc.admin.log_lines import stamp
from kdc.admin.principals import AdminAnswer
from kdc.issuing.decisions import Audit
from kdc.issuing.realm import Realm
from kdc.net import clock
from kdc.server._connections import KDCFactory
from kdc.server._listeners import Listeners
from kdc.server._node import nodes_shown
from kdc.server.audit_log import AuditLog
from kdc.server.certificate import ServerTLS
from kdc.store import Store
from kdc.watch.relay import relay_facts

__all__ = ["Facts", "Glance", "Tally", "connections_of", "facts_of", "receivers_of"]

Facts: TypeAlias = Sequence[tuple[str, str]]

_MOST = 200
_LINES = 100


class Tally:
    """What has been done since the start, as far as the activity log tells; and its last lines."""

    def __init__(self) -> None:
        self.keys = 0
        self.registered = 0
        self.authenticated = 0
        self.refusals: Counter[str] = Counter()
        self.lines: deque[tuple[Audit, float]] = deque(maxlen=_LINES)

    def hear(self, listeners: Listeners) -> None:
        listeners.add(self._note_refusal, "refused")
        listeners.add(self._note_registered, "registered")
        listeners.add(self._note_authenticated, "authenticated")

    def _note_refusal(self, line: Audit) -> None:
        self.refusals[line.detail.partition(" ")[0]] += 1

    def _note_registered(self, line: Audit) -> None:
        self.registered += 1

    def _note_authenticated(self, line: Audit) -> None:
        self.authenticated += 1

    def note(self, lines: Sequence[tuple[Audit, float]]) -> None:
        """These are on their way to the log.  Keys are counted here: many at once cost little."""
        self.keys += sum(line.event == "issued" for line, _ in lines)
        self.lines.extend(lines[-_LINES:])


def connections_of(factory: KDCFactory) -> Facts:
    unproved = len(factory.limiter)
    return [
        ("connections", f"{factory.connected:,}, {unproved:,} of them unproved"),
        *(
            (f"ended for {limit.replace('_', ' ')}", f"{count:,}")
            for limit, count in factory.turned_away.items()
        ),
    ]


def facts_of(
    factory: KDCFactory, store: Store, tls: ServerTLS, relay: Any = None
) -> Iterator[tuple[str, Facts]]:
    """The store, who shares it, the certificate, the limits; the relay if there is one."""
    yield (
        "Store",
        [
            ("principals", f"{len(store):,}"),
            ("latest change", f"{store.generation:,}"),
            *((name.replace("_", " "), f"{n:,}") for name, n in store.figures.items()),
        ],
    )
    if store.nodes is not None:
        yield "Nodes", list(nodes_shown(store.nodes))
    yield (
        "Certificate",
        [("fingerprint", tls.fingerprint), ("ends", stamp(tls.end_time) + "Z")],
    )
    limits = attrs.asdict(factory.limits)
    yield "Limits", [(name.replace("_", " "), f"{n:g}") for name, n in limits.items()]
    if relay is not None:
        yield "Relay", relay_facts(relay)


def receivers_of(realm: Realm) -> Iterator[tuple[str, str, int]]:
    """Some of those who are receiving: name, place, and for how many seconds already."""
    now = clock.milliseconds()
    for name in realm.first_receiving(_MOST):
        epoch = realm.epoch_of(name)
        if epoch is not None:
            place = f"{epoch.address or '-'} port {epoch.port}"
            yield name, place, (now - epoch.began_milliseconds) // 1000


@attrs.frozen(kw_only=True)
class Glance:
    """All of it at once, as plain values, for whoever asks by the operators' socket."""

    _store: Store
    _audit: AuditLog
    _factory: KDCFactory
    _tls: ServerTLS
    _tally: Tally
    _relay: Callable[[], Any]

    def answer(self) -> AdminAnswer:
        realm, tally = self._factory.issuer.realm, self._tally
        troubles = {"store": self._store.trouble, "log": self._audit.trouble}
        done = [
            ("keys issued", f"{tally.keys:,}"),
            ("names registered", f"{tally.registered:,}"),
            ("log-ins", f"{tally.authenticated:,}"),
            ("log lines left out", f"{self._audit.suppressed:,}"),
            *connections_of(self._factory),
        ]
        facts = facts_of(self._factory, self._store, self._tls, self._relay())
        return {
            "realm": realm.name,
            "milliseconds": clock.milliseconds(),
            "keys": tally.keys,
            "facts": {"Now": done, **dict(facts)},
            "troubles": {name: why for name, why in troubles.items() if why},
            "receiving": realm.epochs,
            "receivers": list(receivers_of(realm)),
            "refusals": dict(tally.refusals.most_common()),
            "lines": [
                [f"{stamp(int(at))}Z", line.event, line.principal, line.address, line.detail[:200]]
                for line, at in itertools.islice(reversed(tally.lines), _LINES)
            ],
        }
