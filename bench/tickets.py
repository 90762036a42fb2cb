"""Kerberos: what a ticket costs krb5kdc and a realm for tests, and what it is to start one.

Both are asked by one client, over UDP, one request after the other, each with a fresh timestamp
or authenticator; it opens each answer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from functools import partial

import attrs

from bench.figures import Figures, Results
from bench.kerberos import Realm as KRB5Realm
from bench.kload import initial_with_proof, over_udp
from bench.plan import Plan
from bench.population import name_of
from bench.processes import Failed, Scratch, cpu_of, cpu_of_all
from kdc.kerberos.keytab import KeytabEntry, read_keytab
from kdc.kerberos.names import Principal, parsed
from kdc.testing import Realm
from kdc.testing.client import Client

__all__ = [
    "AS",
    "CHILD",
    "FIFTY",
    "K5TEST",
    "REALMS",
    "SECTIONS",
    "TGS",
    "THREAD",
    "TICKETS",
    "measure",
    "ours",
    "theirs",
]

TICKETS, REALMS = "tickets", "realms"
SECTIONS = (TICKETS, REALMS)
AS, TGS = "AS", "TGS"
CHILD, THREAD, K5TEST = "a realm in its own process", "a realm in a thread", "k5test, krb5kdc"
FIFTY = "50 realms at once, each in its own process"
_STARTS = 5
_ETYPE = 18


def ours(what: str) -> str:
    return f"kdc.testing, {what}"


def theirs(what: str) -> str:
    return f"krb5kdc, {what}"


def measure(scratch: Scratch, plan: Plan, results: Results) -> None:
    with contextlib.ExitStack() as stack:
        kdcs = {ours: stack.enter_context(_ours())}
        if plan.peers:
            try:
                kdcs[theirs] = stack.enter_context(_theirs(scratch))
            except Failed as error:
                for what in (AS, TGS):
                    results.without(TICKETS, theirs(what), str(error))
        for turn in range(plan.rounds):
            for what in (AS, TGS):
                for name, kdc in list(kdcs.items())[:: 1 if turn % 2 else -1]:
                    results.measure(
                        TICKETS, name(what), partial(kdc.measured, what, plan.each(110))
                    )
    starts: dict[str, Callable[[], Figures]] = {
        CHILD: partial(_starts, partial(_start, in_process=False), 1),
        THREAD: partial(_starts, partial(_start, in_process=True), 1),
        FIFTY: partial(_starts, partial(_start, in_process=False), 50),
    }
    if plan.peers:
        starts[K5TEST] = partial(_starts, _start_k5test, 1)
    for _ in range(plan.few):
        for row, start in starts.items():
            results.measure(REALMS, row, start)


@attrs.frozen
class _Asked:
    """A KDC, and who asks it for what."""

    pid: int
    client: Client
    entry: KeytabEntry
    service: Principal

    def measured(self, what: str, count: int) -> Figures:
        once = self.authenticate if what == AS else self._ticket()
        once()  # what is made once, and kept, is not of each
        cpu, begun = cpu_of(self.pid), time.monotonic()
        for _ in range(count):
            once()
        seconds = time.monotonic() - begun
        used = cpu_of(self.pid) - cpu
        return {"us": used / count * 1e6, "per_second": count / seconds, "count": count}

    def authenticate(self) -> None:
        initial_with_proof(self.client, self.entry)

    def _ticket(self) -> Callable[[], None]:
        credential = self.client.initial(self.entry.principal, lambda _: self.entry.key)

        def once() -> None:
            self.client.service(credential, self.service)

        return once


def _asked(pid: int, realm: str, port: int, entries: list[KeytabEntry], service: str) -> _Asked:
    entry = next(entry for entry in entries if entry.key.etype == _ETYPE)
    client = Client(realm, partial(over_udp, ("127.0.0.1", port)))
    return _Asked(pid, client, entry, parsed(service, realm))


@contextlib.contextmanager
def _ours() -> Iterator[_Asked]:
    with Realm("BENCH") as realm:
        realm.add("client", None)
        realm.add("service", None)
        entries = realm.keytab_entries("client")
        yield _asked(realm.pid, "BENCH", realm.port, entries, "service")


@contextlib.contextmanager
def _theirs(scratch: Scratch) -> Iterator[_Asked]:
    """With a log-in that writes nothing into the database: ours does not either."""
    realm = KRB5Realm(scratch, 10)
    try:
        with realm.tuned():
            entries = read_keytab(realm.keytab.read_bytes())
            mine = [entry for entry in entries if entry.principal.components == ("client",)]
            yield _asked(realm.pid, "BENCH", realm.port, mine, name_of(0))
    finally:
        realm.stop()


def _start(in_process: bool) -> Callable[[], None]:
    """What k5test's realm has when it is there: two people, a host, a keytab, a ticket."""
    realm = Realm(in_process=in_process)
    user = realm.user("user", "password")
    realm.add("user/admin", "password")
    realm.service("host/localhost")
    user.kinit()
    return realm.close


def _start_k5test() -> Callable[[], None]:
    try:
        import k5test  # type: ignore[import-not-found]
    except ImportError:
        raise Failed("k5test is not there: pip install k5test") from None
    stop: Callable[[], None] = k5test.K5Realm().stop
    return stop


def _starts(start: Callable[[], Callable[[], None]], at_once: int) -> Figures:
    """CPU of all processes, ours included, and seconds, for each realm until it can be used."""
    me, turns = os.getpid(), max(1, _STARTS // at_once)
    cpu = seconds = 0.0
    for _ in range(turns):
        before, begun = cpu_of_all(me), time.monotonic()
        ends = [start() for _ in range(at_once)]
        seconds += time.monotonic() - begun
        cpu += cpu_of_all(me) - before
        for end in ends:
            end()
    count = turns * at_once
    return {"CPU ms": cpu / count * 1e3, "ms": seconds / count * 1e3, "count": count}
