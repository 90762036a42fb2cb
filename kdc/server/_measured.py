"""The KDC's figures: counted where things happen, by what is put around those places.

Where nobody watches, nothing is put there, and it costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
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
from kdc.server._listeners import Listeners
from kdc.store import Result
from kdc.watch.figures import OTHER, Figures, Labels, Sampled, Spread

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


@attrs.define
class Asked:
    """What was asked of one kind: how long each took, and how many were refused."""

    seconds: Spread
    refused: int = 0

    @property
    def done(self) -> int:
        return self.seconds.count - self.refused


class Measured:
    """Counts, and keeps the last lines of the activity log.

    What is done with every request is little: what can be added up when somebody looks, is then.
    """

    def __init__(self) -> None:
        self.figures = figures = Figures()
        self.refusals = figures.counter(
            "kdc_refusals_total", "Refusals that clients were told, by code.", code=_REFUSALS
        )
        self.registrations = figures.counter("kdc_registrations_total", "New names registered.")
        self.authentications = figures.counter(
            "kdc_authentications_total", "Connections that have proved whose they are."
        )
        self.failures = figures.counter(
            "kdc_authentication_failures_total", "Proofs of a key that were wrong."
        )
        seconds = figures.histogram(
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
        self.asked = {kind: Asked(seconds.of(kind)) for kind in _KINDS}
        self.keys = self.asked["issue"]
        figures.sampled(self._sampled())
        self.bounds = seconds.bounds
        self.lines: deque[tuple[Audit, float]] = deque(maxlen=_LINES)
        self.lines_seen = 0
        self.write_failed = ""
        self.refused = 0

    def _sampled(self) -> Iterator[Sampled]:
        yield Sampled(
            "kdc_requests_total",
            "Requests that clients made, by what they asked and what became of it.",
            self._requests,
            ("kind", "outcome"),
            grows=True,
        )
        yield Sampled.of(
            "kdc_keys_issued_total", "Session keys issued.", lambda: self.keys.done, grows=True
        )

    def _requests(self) -> Mapping[Labels, float]:
        outcomes: dict[Labels, float] = {}
        for kind, asked in self.asked.items():
            outcomes[kind, "done"] = asked.done
            outcomes[kind, "refused"] = asked.refused
        return outcomes

    def hear(self, listeners: Listeners) -> None:
        """Count what is told in some lines of the activity log."""
        listeners.add(self._note_refusal, "refused")
        listeners.add(lambda line: self.registrations.add(), "registered")
        listeners.add(lambda line: self.authentications.add(), "authenticated")

    def _note_refusal(self, line: Audit) -> None:
        self.refused += 1
        code = line.detail.partition(" ")[0].lower()
        self.refusals.add(code)
        if code == "not_authentic":
            self.failures.add()

    def keep(self, lines: Sequence[tuple[Audit, float]]) -> None:
        """These are on their way to the activity log, each with its time."""
        self.lines.extend(lines)
        self.lines_seen += len(lines)

    def issuer(self, realm: Realm, current: Callable[[Now], bool]) -> Issuer:
        return _MeasuredIssuer(realm, current, self)

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
        self._kinds = {number: measured.asked[kind] for number, kind in KINDS.items()}
        self._other = measured.asked[OTHER]

    def receive(self, session: Session, body: bytes, now: Now) -> Output:
        measured = self._measured
        refused, began = measured.refused, perf_counter()
        output = Issuer.receive(self, session, body, now)
        asked = self._kinds.get(body[:2], self._other)
        if output.write is not None:
            return self._when_decided(output, output.write, asked, began)
        asked.seconds.note(perf_counter() - began)
        if measured.refused != refused:
            asked.refused += 1
        return output

    def _when_decided(self, output: Output, write: Write, asked: Asked, began: float) -> Output:
        measured = self._measured

        def then(result: Result | None) -> Output:
            refused = measured.refused
            answer = write.then(result)
            asked.seconds.note(perf_counter() - began)
            if measured.refused != refused:
                asked.refused += 1
            return answer

        return attrs.evolve(output, write=Write(write.change, then))
