"""What the KDC tells whoever watches it: looked up in its parts when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from kdc.net import clock
from kdc.relay.relay import Figures as RelayFigures
from kdc.server._connections import KDCFactory
from kdc.server._measured import Measured
from kdc.server._node import nodes_figures
from kdc.server.audit_log import AuditLog
from kdc.server.certificate import ServerTLS
from kdc.store import Store
from kdc.watch.build import build_info
from kdc.watch.figures import Labels, Sampled
from kdc.watch.health import Checks
from kdc.watch.relay import relay_figures

__all__ = ["Parts", "checks_of", "sampled", "shared_store_figures"]


@attrs.frozen(kw_only=True)
class Parts:
    """The parts of a running KDC.  ``ports`` tells how many are bound."""

    store: Store
    audit: AuditLog
    factory: KDCFactory
    tls: ServerTLS
    measured: Measured
    ports: Callable[[], int]
    relay: Callable[[], RelayFigures | None]
    kerberos: Callable[[], Mapping[Labels, float] | None] = lambda: None


def checks_of(parts: Parts) -> Checks:
    return {
        "store": lambda: parts.store.trouble or parts.measured.write_failed,
        "ports": lambda: "" if parts.ports() else "none is bound",
        "log": lambda: parts.audit.trouble,
    }


def sampled(parts: Parts) -> Iterator[Sampled]:
    store, audit, factory = parts.store, parts.audit, parts.factory
    one = Sampled.of
    yield Sampled(
        "kdc_connections",
        "Connections of clients, by whether they have proved whose they are.",
        lambda: _connections(factory),
        ("state",),
    )
    yield Sampled(
        "kdc_connections_refused_total",
        "Connections that were ended for a limit, by the limit.",
        lambda: {(limit,): count for limit, count in factory.turned_away.items()},
        ("limit",),
        True,
    )
    yield one("kdc_epochs", "Receivers that can be reached.", lambda: factory.issuer.realm.epochs)
    yield one("kdc_principals", "Names in the store, deleted ones included.", lambda: len(store))
    yield one("kdc_store_up", "1 if the store has no trouble.", lambda: _well(store.trouble))
    yield one("kdc_store_generation", "The latest durable change.", lambda: store.generation)
    yield from _of_store(store, _STORE)
    if store.confirmed_milliseconds is not None:
        yield from shared_store_figures(store, clock.milliseconds)
    yield one("kdc_log_queue_lines", "Lines that wait to be written.", lambda: audit.waiting)
    yield one(
        "kdc_log_suppressed_lines_total",
        "Lines that were too many to be written.",
        lambda: audit.suppressed,
        grows=True,
    )
    yield one("kdc_log_up", "1 if the log can be written.", lambda: _well(audit.trouble))
    yield one(
        "kdc_certificate_expiry_timestamp_seconds",
        "When the certificate in use ends, in Unix time.",
        lambda: parts.tls.end_time,
    )
    if parts.relay() is not None:
        yield from relay_figures(parts.relay)
    if parts.kerberos() is not None:
        yield Sampled(
            "kdc_kerberos_requests_total",
            "What was asked of Kerberos, and what became of it.",
            lambda: dict(parts.kerberos() or {}),
            ("exchange", "outcome"),
            True,
        )
    yield build_info()


def _well(trouble: str) -> int:
    return int(not trouble)


def _connections(factory: KDCFactory) -> Mapping[Labels, float]:
    unproved = len(factory.limiter)
    return {("proved",): max(0, factory.connected - unproved), ("unproved",): unproved}


def shared_store_figures(store: Store, now: Callable[[], int]) -> Iterator[Sampled]:
    """Of a store that several KDCs share; ``now`` is that store's clock, in milliseconds."""
    yield Sampled.of(
        "kdc_store_confirmed_age_seconds",
        "How long ago the shared store was last known to be what all others have.",
        lambda: (now() - (store.confirmed_milliseconds or 0)) / 1000,
    )
    yield from _of_store(store, _SHARED)
    if store.nodes is not None:
        yield from nodes_figures(store.nodes)


# (what a store calls it, its name here, what it is, whether it grows)
_STORE = (
    ("journal_bytes", "kdc_store_journal_bytes", "Changes that pwd.txt does not have yet.", False),
    ("database_bytes", "kdc_store_database_bytes", "All records as text.", False),
    ("folds", "kdc_store_folds_total", "How often the journal was folded.", True),
    ("failed_folds", "kdc_store_failed_folds_total", "How often that failed.", True),
)


_SHARED = (
    (
        "etcd_reloads",
        "kdc_store_reloads_total",
        "How often all was read anew, for some change was not told of.",
        True,
    ),
    (
        "etcd_conflicts",
        "kdc_store_conflicts_total",
        "How often another KDC's change came first.",
        True,
    ),
    ("etcd_resent", "kdc_store_resent_total", "How often an answer was lost and asked for.", True),
)


def _of_store(store: Store, known: Sequence[tuple[str, str, str, bool]]) -> Iterator[Sampled]:
    for key, name, text, grows in known:
        if key in store.figures:
            yield Sampled.of(name, text, _reader(store, key), grows=grows)


def _reader(store: Store, key: str) -> Callable[[], float]:
    return lambda: store.figures[key]
