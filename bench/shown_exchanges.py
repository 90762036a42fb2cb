"""What the KDC does, as docs/performance.md shows it."""

from __future__ import annotations

from bench.background_work import BACKGROUND, HEADS
from bench.connections import CONNECTIONS
from bench.exchanges import (
    BARE,
    CONNECT,
    DISK,
    ISSUE,
    KADMIN,
    KADMIN_LOCAL,
    LOGIN,
    REGISTER,
    START,
    native,
)
from bench.figures import Results
from bench.tables import always, of, plot, same_size

__all__ = ["background_shown", "connections_shown", "exchanges_shown"]


def exchanges_shown(results: Results, plots: bool) -> list[str]:
    common = {"us": "server CPU, us", "per_second": "per second"}
    waits = {"median_ms": "median, ms", "p99_ms": "99 %, ms"}
    krb5 = same_size(native(8))
    kadmin, far = same_size(KADMIN_LOCAL), same_size(KADMIN)
    return [
        "## Issuing a session key\n\n50 connections that are there, each with 1 or 16 requests in"
        " flight; krb5kdc: a service ticket for each of many services, one request with a fresh"
        " authenticator each, by 1 or 8 `kvno` at a time, and by requests that were made before the"
        " clock started, which cost the server less, as it need not sleep between them.\n\n"
        + of(results, ISSUE, common | waits, {"CPU, of krb5kdc's (made before, 8)": ("us", krb5)})
        + plot("issue", plots),
        "## Connecting\n\nA new TLS connection, proof of who it is, one key; beside `kinit` with"
        " pre-authentication and one service ticket (three requests over UDP, without TLS: the"
        " first is refused and tells `kinit` what to prove), the bare handshake of a server with"
        " the KDC's own TLS settings that does nothing but take it and close, and the same with two"
        " exchanges of the sizes of ours. krb5kdc writes into its database when somebody logs in,"
        " unless it is told not to (`disable_last_success`, `disable_lockout`): both are shown, by"
        " the same three requests made before, of which the server has the least work.\n\n"
        + of(
            results,
            CONNECT,
            common | waits,
            {
                "CPU, of the bare handshake": ("us", always(BARE)),
                "of kinit and kvno": ("us", same_size(LOGIN)),
            },
        ),
        "## Registering\n\nEach by a client and a TLS connection of its own, acknowledged when on"
        " the disk. With *connections open* they are there before the clock starts, so that one"
        " request, the disk and one answer are left; without, connecting is part of it.\n"
        "`kadmin.local addprinc -randkey` writes into the database itself, without any network or"
        " proof of who asks, one after the other and with one fsync each; its CPU time is that of"
        " the whole process, its start included. `kadmin` asks `kadmind` over the network, one"
        " after the other, too; its CPU time is the server's. *fdatasync alone* appends as many"
        " bytes as a registration. The store by itself, on a disk of 500 fsyncs a second too:"
        " [store-runs.md](store-runs.md).\n\n"
        + of(
            results,
            REGISTER,
            common | waits,
            {
                "rate, of kadmin.local": ("per_second", kadmin),
                "CPU, of kadmin.local": ("us", kadmin),
                "rate, of kadmin": ("per_second", far),
                "CPU, of kadmind": ("us", far),
                "rate, of fdatasync": ("per_second", always(DISK)),
            },
        ),
        "## Starting\n\n" + of(results, START, {"CPU s": "CPU s", "MiB": "MiB resident"}),
    ]


def connections_shown(results: Results, plots: bool) -> str:
    return (
        "## With more and more connections\n\nThe same with as many connections as clients at once:"
        " *issue* on connections that are there, one request in flight on each; *connect* and"
        " *register* with a new connection for each. The KDC's limit on newcomers, 256 at a time,"
        " is out of the way here. krb5kdc has as many requests outstanding, but 64 at most: of more"
        " it loses some. Each row is measured once, with a second of the server's CPU.\n\n"
        + of(
            results,
            CONNECTIONS,
            {
                "us": "server CPU, us",
                "per_second": "per second",
                "median_ms": "median, ms",
                "p99_ms": "99 %, ms",
            },
        )
        + plot("connections", plots)
    )


def background_shown(results: Results) -> str:
    return (
        "## While the KDC does long work\n\nA client asks for a key 200 times a second, at set"
        " times whether the answer before has come or not, of a KDC that has one processor."
        " Meanwhile everything runs that goes through all principals. The waits are counted from"
        " when each key was to be asked for; *nothing* is the same without any work.\n\n"
        + of(results, BACKGROUND, HEADS)
    )
