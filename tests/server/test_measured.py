"""What is counted: by what was asked, what became of it, and how long it took."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import LocalIOError, Refusal
from kdc.issuing.current import always_current
from kdc.issuing.decisions import Audit
from kdc.server._listeners import Listeners
from kdc.server._measured import KINDS, Measured
from tests.support.core import Connection, Realm, keys_of


class MeasuredTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.measured = Measured()
        self.realm = Realm()
        listeners = Listeners(self.realm.audit.append)
        self.measured.hear(listeners)
        issuing = self.realm.issuer.realm
        issuing.audit = listeners.tell
        self.realm.issuer = self.measured.issuer(issuing, always_current)

    def outcomes(self) -> dict[str, tuple[int, int]]:
        """Only those that there were: done, refused."""
        found = {kind: (asked.done, asked.refused) for kind, asked in self.measured.asked.items()}
        return {kind: outcomes for kind, outcomes in found.items() if any(outcomes)}

    def refusals(self) -> dict[str, float]:
        return {code: n for (code,), n in self.measured.refusals.counts.items() if n}

    def register(self, name: str, secret: str = "first") -> Connection:
        connection = self.realm.connect(keys_of(name, secret))
        connection.ask(connection.exchange.register("", 60000))
        return connection

    def test_each_kind(self) -> None:
        """Each request is counted once, as what it was, and as done or refused."""
        alice = self.register("alice")
        alice.ask(alice.exchange.authenticate())
        self.realm.receiver("bob")
        for _ in range(3):
            alice.grant("bob")
        sent, _ = alice.exchange.request_key("nobody")
        self.assertIs(alice.refusal(sent), Refusal.UNKNOWN_PRINCIPAL)
        self.assertEqual(
            self.outcomes(),
            {"register": (1, 0), "authenticate": (2, 0), "receive": (1, 0), "issue": (3, 1)},
        )
        self.assertEqual(self.refusals(), {"unknown_principal": 1})
        self.assertEqual(self.measured.keys.seconds.count, 4)
        self.assertEqual(self.measured.registrations.total, 1)
        self.assertEqual(self.measured.authentications.total, 2)

    def test_refused_by_the_store(self) -> None:
        """What is decided only when the store has answered is counted then."""
        self.register("alice")
        self.register("alice", "another's")
        self.realm.store_available = False
        self.register("bob")
        self.assertEqual(self.outcomes(), {"register": (1, 2)})
        self.assertEqual(sum(self.refusals().values()), 2)

    def test_wrong_key(self) -> None:
        """A wrong proof is a failure, and the only one."""
        self.register("alice")
        guess = self.realm.connect(keys_of("alice", "guessed"))
        self.assertIs(guess.refusal(guess.exchange.authenticate()), Refusal.NOT_AUTHENTIC)
        self.assertEqual(self.measured.failures.total, 1)
        self.assertEqual(self.outcomes()["authenticate"], (0, 1))

    def test_no_request(self) -> None:
        """What nobody asks a KDC is one more kind, whatever it is."""
        for first in (b"\x00\x00", b"\xff\xff", b"\x01"):
            session = self.realm.connect(keys_of("alice")).session
            self.realm.issuer.receive(session, first + bytes(40), self.realm.now)
        self.assertEqual(self.outcomes(), {"other": (0, 3)})
        self.assertNotIn(first, KINDS)

    def test_lines(self) -> None:
        """The last thousand lines are kept, and how many there were."""
        lines = [(Audit("told", "", "", str(number)), float(number)) for number in range(1200)]
        self.measured.keep(lines[:700])
        self.measured.keep(lines[700:])
        self.assertEqual(list(self.measured.lines), lines[200:])
        self.assertEqual(self.measured.lines_seen, 1200)

    def test_writes(self) -> None:
        """Each batch is timed; one that fails is told until one succeeds."""

        def run(call: Any, *args: Any) -> Deferred[Any]:
            try:
                return succeed(call(*args))
            except LocalIOError as error:
                return fail(error)

        def full() -> None:
            raise LocalIOError("the disk is full")

        timed = self.measured.write_run(run)
        self.failureResultOf(timed(full), LocalIOError)
        self.assertEqual(self.measured.write_failed, "the disk is full")
        self.assertEqual(self.successResultOf(timed(lambda: "done")), "done")
        self.assertEqual(self.measured.write_failed, "")
        self.assertEqual(self.measured.writes.of().count, 1)


class ListenersTests(SynchronousTestCase):
    def test_some_hear(self) -> None:
        """Whoever was added for an event hears of it, in order; who comes last hears of all."""
        heard: list[str] = []
        listeners = Listeners(lambda line: heard.append(f"last {line.event}"))
        listeners.add(lambda line: heard.append("one"), "a", "b")
        listeners.add(lambda line: heard.append("two"), "b")
        for event in ("a", "b", "c"):
            listeners.tell(Audit(event, "", ""))
        self.assertEqual(heard, ["one", "last a", "one", "two", "last b", "last c"])
