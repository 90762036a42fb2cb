"""A KDC as those see it who watch it: systemd, Prometheus, its operator."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.support.processes import (
    PATIENCE_SECONDS,
    TWISTD,
    ProgramTestCase,
    RunningKDC,
)
from tests.support.prometheus import tool


class SystemdTests(ProgramTestCase):
    """With a socket as systemd's."""

    def setUp(self) -> None:
        super().setUp()
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.told.close)
        name = f"kdc-test-{id(self.told):x}-{self.directory.name}"
        self.told.bind(f"\0{name}")
        self.told.settimeout(PATIENCE_SECONDS)
        self.environment = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "200000"}

    def hear(self, wanted: str) -> str:
        """Wait for it; what else is told meanwhile is that it is alive."""
        while True:
            heard = self.told.recv(4096).decode()
            if heard.startswith(wanted):
                return heard
            self.assertEqual(heard, "WATCHDOG=1")

    def follow(self, kdc: RunningKDC, status: int) -> None:
        self.hear("READY=1")
        for _ in range(3):
            self.hear("WATCHDOG=1")
        kdc.program.signal(signal.SIGHUP)
        self.assertIn("MONOTONIC_USEC=", self.hear("RELOADING=1"))
        self.hear("READY=1")
        kdc.program.signal(signal.SIGTERM)
        self.hear("STOPPING=1")
        self.assertEqual(kdc.program.wait(), status)

    def test_kdc(self) -> None:
        """Ready when it can be reached, alive all the time, reloading and ready again, stopping."""
        self.follow(self.kdc(environment=self.environment), 0)

    def test_twistd(self) -> None:
        """The same under twistd, as the unit starts it."""
        argv = (*TWISTD, "-n", "--pidfile=", "kdc", "-p", "0", "-f", "pwd.txt", "-o", "out.txt")
        program = self.scratch.start(*argv, environment=self.environment, merged=True)
        # twistd ends by the signal that ended it.
        self.follow(RunningKDC(program), -signal.SIGTERM)


class PrometheusTests(ProgramTestCase):
    """With Prometheus' own tools, where they are."""

    def status_of(self, kdc: RunningKDC) -> str:
        return kdc.program.expect(r"status at (http://\S+)/\n")[1]

    def test_metrics(self) -> None:
        """Names, types and help texts are as Prometheus wants them."""
        from tests.server.test_status import fetch

        url = self.status_of(self.kdc("--status", "0", "--relay", "0"))
        status, text = fetch(f"{url}/metrics")
        if status == 503:
            raise SkipTest("prometheus-client is not installed")
        self.assertEqual(tool(self, "promtool", "check", "metrics", given=text.decode()), "")

    def test_rules(self) -> None:
        """The alerts can be used, and are about figures that there are."""
        rules = Path(__file__).parent.parent.parent / "etc" / "kdc.rules.yml"
        said = tool(self, "promtool", "check", "rules", str(rules))
        self.assertRegex(said, r"SUCCESS: \d+ rules found")

    def test_scraped(self) -> None:
        """A real Prometheus has the same figures as were done: so many keys, so many refusals."""
        from tests.server.test_status import fetch

        tool(self, "prometheus", "--version")
        kdc = self.kdc("--status", "0")
        url = self.status_of(kdc)
        if fetch(f"{url}/metrics")[0] == 503:
            raise SkipTest("prometheus-client is not installed")
        place = url.removeprefix("http://")
        self.file(
            "prometheus.yml",
            b"global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: kdc\n"
            b"  static_configs: [{targets: ['%s']}]\n" % place.encode(),
        )
        prometheus = self.scratch.start(
            *("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
            *("--web.listen-address=127.0.0.1:0", "--log.level=info"),
        )
        port = prometheus.expect(r"Listening on.*address=127\.0\.0\.1:(\d+)")[1]
        self.receiver(kdc, "bob", "--inbox", ".")
        path = self.file("a.txt", b"a")
        for _ in range(3):
            self.assert_ends(self.send(kdc, "alice", "bob", path), 0)
        for _ in range(2):
            self.assert_ends(self.send(kdc, "alice", "nobody", path), 5)

        def value(query: str) -> str:
            _, text = fetch(f"http://127.0.0.1:{port}/api/v1/query?query={query}")
            found = re.findall(r'"value":\[[\d.]+,"([^"]+)"\]', text.decode())
            return found[0] if len(found) == 1 else str(found)

        for query, number in (
            ("kdc_keys_issued_total", "3"),
            ("kdc_refusals_total%7Bcode=%22unknown_principal%22%7D", "2"),
            ("kdc_epochs", "1"),
            ("kdc_registrations_total", "2"),
        ):
            self.eventually(f"{query} is {number}", lambda q=query, n=number: value(q) == n)  # type: ignore[misc]
        # One look may take longer than the second that it has.
        self.eventually("it can be looked at", lambda: value("up") == "1")
