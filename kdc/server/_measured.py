"""The KDC's figures: counted where things happen, by what is put around those places.

Where nobody watches, nothing is put there, and it costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter, time
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kdc.errors import Refusal
from kdc.issuing.decisions import Audit, Now, Output, Write
from kdc.issuing.issuer import Issuer
from kdc.issuing.realm import Realm
from kdc.issuing.session import Session
from kdc.protocol.messages import Authenticate, ChangeKeys, KeyRequest, Receive, Register
from kdc.store import Result
from kdc.watch.figures import OTHER, Figures

__all__ = ["KINDS", "Measured"]

# What is asked of a KDC, by the number that it begins with.
KINDS = {
    Register.TYPE.to_bytes(2, "big"): "register",
    ChangeKeys.TYPE.to_bytes(2, "big"): "change",
    KeyRequest.TYPE.to_bytes(2, "big"): "issue",
    Receive.TYPE.to_bytes(2, "big"): "receive",
    Authenticate.TYPE.to_bytes(2, "big"): "authenticate",
}
_KINDS = (*KINDS.values(), OTHER)
_REFUSALS = tuple(refusal.name.lower() for refusal in Refusal)
_LINES = 1000


class Measured:
    """Counts, and keeps the last lines of the activity log."""

    def __init__(self) -> None:
        self.figures = figures = Figures()
        self.requests = figures.counter(
            "kdc_requests_total",
            "Requests that clients made, by what they asked and what became of it.",
            kind=_KINDS,
            outcome=("done", "refused"),
        )
        self.refusals = figures.counter(
            "kdc_refusals_total", "Refusals that clients were told, by code.", code=_REFUSALS
        )
        self.keys = figures.counter("kdc_keys_issued_total", "Session keys issued.")
        self.registrations = figures.counter("kdc_registrations_total", "New names registered.")
        self.authentications = figures.counter(
            "kdc_authentications_total", "Connections that have proved whose they are."
        )
        self.failures = figures.counter(
            "kdc_authentication_failures_total", "Proofs of a key that were wrong."
        )
        self.seconds = figures.histogram(
            "kdc_request_seconds",
            "From a request to its answer, the wait for the store included.",
            kind=_KINDS,
        )
        self.writes = figures.histogram(
            "kdc_store_write_seconds", "One batch of changes, until it was durable."
        )
        self.syncs = figures.histogram(
            "kdc_store_sync_seconds", "One wait for the disk that has the store."
        )
        self.lines: deque[tuple[Audit, float]] = deque(maxlen=_LINES)
        self.lines_seen = 0
        self.write_failed = ""
        self._refused = 0
        self._counted = {
            "issued": self.keys,
            "registered": self.registrations,
            "authenticated": self.authentications,
        }

    def audit_to(self, audit: Callable[[Audit], None]) -> Callable[[Audit], None]:
        """Return what counts each line of the activity log, and hands it on."""

        def counted(line: Audit) -> None:
            self._count(line)
            audit(line)

        return counted

    def _count(self, line: Audit) -> None:
        self.lines.append((line, time()))
        self.lines_seen += 1
        counter = self._counted.get(line.event)
        if counter is not None:
            counter.add()
        elif line.event == "refused":
            self._refused += 1
            code = line.detail.partition(" ")[0].lower()
            self.refusals.add(code)
            if code == "not_authentic":
                self.failures.add()

    def issuer(self, realm: Realm, current: Callable[[Now], bool]) -> Issuer:
        return _MeasuredIssuer(realm, current, self)

    def done(self, kind: str, began: float, refused_before: int) -> None:
        outcome = "done" if self._refused == refused_before else "refused"
        self.requests.add(kind, outcome)
        self.seconds.observe(perf_counter() - began, kind)

    @property
    def refused(self) -> int:
        return self._refused

    def write_run(self, run: Callable[..., Deferred[Any]]) -> Callable[..., Deferred[Any]]:
        """Return what makes a call by ``run``; how long it took is noted, and a failure."""

        def timed(call: Callable[..., Any], *args: Any) -> tuple[float, Any]:
            began = perf_counter()
            result = call(*args)
            return perf_counter() - began, result

        def took(found: tuple[float, Any]) -> Any:
            seconds, result = found
            self.writes.observe(seconds)
            self.write_failed = ""
            return result

        def failed(failure: Failure) -> Failure:
            self.write_failed = str(failure.value)
            return failure

        return lambda call, *args: run(timed, call, *args).addCallbacks(took, failed)


class _MeasuredIssuer(Issuer):
    def __init__(self, realm: Realm, current: Callable[[Now], bool], measured: Measured) -> None:
        super().__init__(realm, current)
        self._measured = measured

    def receive(self, session: Session, body: bytes, now: Now) -> Output:
        measured = self._measured
        refused, began = measured.refused, perf_counter()
        output = super().receive(session, body, now)
        kind = KINDS.get(bytes(body[:2]), OTHER)
        if output.write is None:
            measured.done(kind, began, refused)
            return output
        decide = output.write.then

        def then(result: Result | None) -> Output:
            refused = measured.refused
            answer = decide(result)
            measured.done(kind, began, refused)
            return answer

        return attrs.evolve(output, write=Write(output.write.change, then))
