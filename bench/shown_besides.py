"""What a realm has besides, as docs/performance.md shows it."""

from __future__ import annotations

from bench.figures import Results
from bench.plan import Plan
from bench.tables import always, of
from bench.tickets import AS, REALMS, TGS, TICKETS, theirs
from bench.watching import OFF, WATCHING

__all__ = ["kerberos_shown", "watching_shown"]


def watching_shown(results: Results, plan: Plan) -> str:
    return (
        "## Watched\n\nKeys from a KDC without a status port, from one that has one, and from one"
        " of which the page is open while Prometheus' figures are read each second:"
        f" {plan.watched_turns} turns of {plan.watched_keys:,} keys each, one request in flight on"
        " each connection. Other work on the machine only adds to a turn: the least is what"
        " to compare.\n\n"
        + of(
            results,
            WATCHING,
            {"us": "server CPU for a key, us", "per_second": "keys/s"},
            {"times": ("us", always(OFF))},
        )
    )


def kerberos_shown(results: Results, plan: Plan) -> str:
    same = {f"kdc.testing, {what}": theirs(what) for what in (AS, TGS)}
    return (
        f"## Kerberos\n\n{plan.each(110):,} tickets in turn from the realm for tests and from"
        " krb5kdc, by one client over UDP, one request after the other: AS with the encrypted"
        " timestamp at once, TGS with a fresh authenticator each. krb5kdc writes nothing into its"
        " database meanwhile.\n\n"
        + of(
            results,
            TICKETS,
            {"us": "server CPU for a ticket, us", "per_second": "per second"},
            {"CPU, of krb5kdc's": ("us", lambda row: same.get(row, row))},
        )
        + "\nStarting a realm with two people, a host, its keytab and a ticket; the CPU is that of"
        " every process that has a part in it.\n\n"
        + of(results, REALMS, {"CPU ms": "CPU for each, ms", "ms": "until it is ready, ms"})
    )
