"""What `kdc.commands.client.doctor` says of a receiver, which depends on where it listens."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.client.settings import ClientSettings
from kdc.commands.client import doctor
from kdc.commands.client.doctor import Finding, examine, relay_check
from kdc.errors import ExitStatus
from kdc.protocol.relay import Reach
from tests.support.relay import RELAY_HOST, RELAY_PORT, RelayTestCase

HERE = "192.0.2.7"


class _Connection:
    def getsockname(self) -> tuple[str, int]:
        return HERE, 40_000

    def close(self) -> None:
        """Nothing is open."""


class ReceiverTests(SynchronousTestCase):
    """A KDC on this machine, which sees us at another address."""

    def finding(self, answers: Iterable[str], kdc: bool = True) -> Finding:
        def connect(address: tuple[str, int], seconds: float) -> Any:
            there = kdc if address == ("127.0.0.1", 1) else address[0] in answers
            if not there:
                raise ConnectionRefusedError(111, "Connection refused")
            return _Connection()

        # Nothing listens on its port, so the checks in between end at once.
        found = examine(ClientSettings("bob", "127.0.0.1", 1), 60_000, connect)
        return next(each for each in found if each.what == "port to receive on")

    def test_reachable(self) -> None:
        """It answers where the KDC sees us."""
        finding = self.finding([HERE, "127.0.0.1"])
        self.assertIsNone(finding.error)
        self.assertEqual(finding.found, f"something, ours or not, listens on port 60000 of {HERE}")

    def test_loopback_only(self) -> None:
        """It answers this machine, and nobody else: that is a fault, and it is said what to do."""
        for host in ("127.0.0.1", "::1"):
            finding = self.finding([host])
            self.assertIs(finding.status, ExitStatus.LOCAL_IO)
            self.assertIn(f"answers at {host}, but not at {HERE}", finding.found)
            assert finding.error is not None
            self.assertIn("--listen tcp:60000", finding.error.hint)

    def test_none(self) -> None:
        """None at all is no fault: not everybody receives."""
        finding = self.finding([])
        self.assertIsNone(finding.error)
        self.assertIn("nothing listens on port 60000", finding.found)

    def test_no_kdc(self) -> None:
        """Without a KDC nobody says where we are: then what this machine says has to do."""
        finding = self.finding(["127.0.0.1"], kdc=False)
        self.assertIsNone(finding.error)
        self.assertIn("port 60000 of 127.0.0.1", finding.found)


class InterruptedTests(SynchronousTestCase):
    """It says of nothing that it is good which it has not looked at."""

    def test_status(self) -> None:
        """Whoever interrupts the part that asks the KDC gets the status of that."""
        self.patch(doctor, "examine", lambda settings, port: iter([Finding("a", "good")]))
        self.patch(doctor, "make_client", lambda reactor, settings: None)
        self.patch(doctor, "run_client", lambda reactor, work: 130)
        command = doctor.DoctorCommand()
        command.parseOptions(["-n", "bob", "-p", "1", "--passphrase-file", "x"])
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(command.run(), 130)


class RelayTests(RelayTestCase):
    """By which ways others come to us, and why."""

    def check(self, port: int = 60_000, address: str = "192.0.2.200") -> Finding:
        client = self.known_client("bob", address=address)
        client.reach, client.relay = self.way
        checking = self.begin(relay_check(client, port))
        self.network.advance(60)
        return self.successResultOf(checking)

    way = (Reach.AUTO, "relay")

    def test_both(self) -> None:
        """The relay gets through to our port: others come directly, or else through it."""
        bob = self.listen("bob", silent=False)
        finding = self.check(address=self.address_of(bob))
        self.assertIsNone(finding.error)
        self.assertIn(f"{RELAY_HOST} port {RELAY_PORT} answers", finding.found)
        self.assertIn("can connect to our port 60000: others come directly, or else", finding.found)
        # Whoever is linked stays so.
        self.assertEqual(self.relay.figures.links, 1)

    def test_relay_only(self) -> None:
        """It does not: then others come through it, and that is no fault."""
        self.network.silent.add("192.0.2.200")
        finding = self.check()
        self.assertIsNone(finding.error)
        self.assertIn("it cannot connect to our port 60000: others come through it", finding.found)

    def test_another_port(self) -> None:
        """Where nobody listens, nobody is reached."""
        bob = self.listen("bob", silent=False)
        finding = self.check(port=60_001, address=self.address_of(bob))
        self.assertIn("it cannot connect to our port 60001", finding.found)

    def test_insisted(self) -> None:
        """Who insists on it is reached by it alone."""
        self.way = (Reach.RELAY, "relay")
        bob = self.listen("bob", silent=False)
        finding = self.check(address=self.address_of(bob))
        self.assertIn("others come through it, as --reach relay says", finding.found)

    def test_not_wanted(self) -> None:
        """Who does without it does not ask."""
        self.way = (Reach.DIRECT, "relay")
        self.assertIn("not used, as --reach direct says", self.check().found)
        self.assertNotIn("issued", self.kdc.events())

    def test_none(self) -> None:
        """None by that name is a fault for those only who insist on it."""
        for way, status in ((Reach.AUTO, ExitStatus.DONE), (Reach.RELAY, ExitStatus.PEER)):
            self.way = (way, "relay-eu")
            finding = self.check()
            self.assertIs(finding.status, status)
            self.assertIn("relay-eu", finding.found)

    def test_it_does_not_answer(self) -> None:
        """One that there is and that nobody can connect to is a fault, and it is said where."""
        self.network.silent.add(RELAY_HOST)
        finding = self.check()
        self.assertIs(finding.status, ExitStatus.PEER)
        self.assertIn(f"{RELAY_HOST} port {RELAY_PORT}", finding.found)
