"""The same work with more and more connections, on databases of every size."""

from __future__ import annotations

import resource
from functools import partial

from bench.exchanges import CONNECT, ISSUE, REGISTER, label
from bench.figures import Results
from bench.kerberos import Realm
from bench.kload import TICKET
from bench.ours import KDC, UNLIMITED, load
from bench.plan import Plan
from bench.processes import Late, Scratch

__all__ = ["CONNECTIONS", "KRB5", "MOST_OUTSTANDING", "SECTIONS", "WORKS", "measure", "row"]

CONNECTIONS = "connections"
SECTIONS = (CONNECTIONS,)
# Each work, and what one of it costs the KDC, about, in us.
WORKS = {ISSUE: 50, CONNECT: 700, REGISTER: 850}
KRB5 = "krb5kdc, issue"
# There are many rows: each is measured once, with half of what others have of a server's time.
_HALF = 2
# Whoever is beyond the limit on newcomers is sent away; here all of them are to come in.
_LIMITS = UNLIMITED | dict.fromkeys(("unauthenticated", "unauthenticated-per-address"), 4096)
# More packets than this are lost in a socket's buffer before krb5kdc sees them.
MOST_OUTSTANDING = 64


def row(what: str, at_once: int, principals: int) -> str:
    return label(f"{what}, {at_once:,} at once", principals)


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    """Connections that ask, one request in flight each; or connect, or register, at once."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for principals in plan.principals:
        ours = Late(partial(KDC, scratch, principals, limits=_LIMITS))
        peer = Late(partial(Realm, scratch, principals))
        try:
            for at_once in plan.connections:
                _ours(ours, plan, results, at_once, principals)
                if plan.peers and at_once < 10 * MOST_OUTSTANDING:
                    _theirs(peer, plan, results, min(at_once, MOST_OUTSTANDING), principals)
        finally:
            ours.stop()
            peer.stop()


def _ours(ours: Late[KDC], plan: Plan, results: Results, at_once: int, principals: int) -> None:
    def measured(work: str) -> dict[str, float]:
        count = max(2 * at_once, plan.each(WORKS[work], _HALF))
        how = {
            ISSUE: {"connections": at_once, "depth": 1, "each": max(2, count // at_once)},
            CONNECT: {"count": count, "concurrency": at_once},
            REGISTER: {
                "first": (1 << 28) + (at_once << 14),
                "count": count,
                "concurrency": at_once,
                "open": False,
            },
        }
        return load(work, ours().where() | how[work])

    for work in WORKS:
        name = row(f"kdc, {work}", at_once, principals)
        results.measure(CONNECTIONS, name, partial(measured, work))


def _theirs(peer: Late[Realm], plan: Plan, results: Results, at_once: int, principals: int) -> None:
    results.measure(
        CONNECTIONS,
        row(KRB5, at_once, principals),
        lambda: peer().native([TICKET], plan.each(130, _HALF), at_once),
    )
