"""What the measurements make of their figures; that they measure is for `make bench` to show."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import goals, plan, report
from bench.exchanges import CONNECT, ISSUE, REGISTER, label
from bench.figures import Results, number, table
from bench.processes import Failed, Scratch, cpu_of, free_port, listening, run

SIZES = (10, 1000)


def issued(ours: float, krb5: float) -> Results:
    """Results of issuing alone, the same for every size."""
    results = Results(facts={"load": "Quiet."})
    for size in SIZES:
        for how in ("1 in flight", "pipelined"):
            results.add(ISSUE, label(f"kdc, {how}", size), {"us": ours})
        results.add(ISSUE, label("krb5kdc, UDP, 8 outstanding", size), {"us": krb5})
    return results


def met(results: Results) -> dict[str, bool | None]:
    return {goal.text: goal.met for goal in goals.goals(results, SIZES)}


class FiguresTests(SynchronousTestCase):
    """Several samples of one thing."""

    def test_three_digits(self) -> None:
        """A figure shows no more digits than it deserves."""
        shown = [number(value) for value in (0, 0.01234, 1.2345, 123.45, 12345, 1234567)]
        self.assertEqual(shown, ["0", "0.0123", "1.23", "123", "12,300", "1,230,000"])

    def test_median_and_range(self) -> None:
        """One wild round does not move the figure, and is not hidden either."""
        results = Results()
        for value in (3.0, 90.0, 2.0):
            results.add("s", "row", {"us": value})
        self.assertEqual(results.text("s", "row", "us"), "3 (2 - 90)")

    def test_missing(self) -> None:
        """What was not measured is no zero."""
        self.assertEqual(Results().text("s", "row", "us"), "-")
        self.assertIsNone(Results().median("s", "row", "us"))

    def test_table(self) -> None:
        """Rows become Markdown."""
        self.assertEqual(table(("", "us"), [("a", "1")]), "|  | us |\n| --- | --: |\n| a | 1 |\n")


class GoalsTests(SynchronousTestCase):
    """A goal is met by the figures, or it is not."""

    def test_met_and_not_met(self) -> None:
        """A third of krb5kdc is asked for with one request in flight, a tenth with many."""
        self.assertEqual(list(met(issued(30, 100)).values())[:2], [True, False])
        self.assertEqual(list(met(issued(9, 100)).values())[:2], [True, True])
        self.assertEqual(list(met(issued(40, 100)).values())[:2], [False, False])

    def test_worst_size_counts(self) -> None:
        """One size that misses the goal is enough to miss it."""
        results = issued(9, 100)
        results.add(ISSUE, label("kdc, pipelined", SIZES[0]), {"us": 300.0})
        self.assertFalse(list(met(results).values())[1])

    def test_nothing_measured(self) -> None:
        """Without figures nothing is met, and nothing missed."""
        self.assertEqual(set(met(Results()).values()), {None})

    def test_connect_and_register(self) -> None:
        """Connecting is compared with the bare handshake, registering with kadmin.local."""
        results = issued(9, 100)
        results.add(CONNECT, "floor: bare TLS", {"us": 900.0})
        for size in SIZES:
            results.add(CONNECT, label("kdc", size), {"us": 1100.0})
            results.add(REGISTER, label("kadmin.local", size), {"per_second": 200.0})
            for clients, rate in ((16, 150.0), (64, 300.0)):
                row = label(f"kdc, {clients} at a time", size)
                results.add(REGISTER, row, {"per_second": rate})
        found = met(results)
        self.assertFalse(found["connect: at most 150 us above the bare TLS handshake"])
        self.assertFalse(
            found["register: faster than kadmin.local from 16 clients on, 10 principals"]
        )


class ReportTests(SynchronousTestCase):
    """The document."""

    def test_whatever_is_there(self) -> None:
        """A run that could measure little still says what, and what not and why."""
        results = issued(30, 100)
        results.without("tunnel", "spiped", "spiped is not installed\nand more")
        directory = Path(self.mktemp())
        directory.mkdir()
        report.write(directory, results, plan.QUICK, 1.0)
        text = (directory / "performance.md").read_text()
        self.assertIn("0.30 to 0.30 of it | met", " ".join(text.split()))
        self.assertIn("- tunnel, spiped: spiped is not installed\n", text)
        self.assertNotIn("and more", text)


class ProcessesTests(SynchronousTestCase):
    """Programs under measurement."""

    def test_cpu_time(self) -> None:
        """A program's work is counted, and only its own."""
        busy = "import time\nwhile time.process_time() < 0.3: pass"
        self.assertGreater(run(["python3", "-c", busy]).cpu_seconds, 0.3)
        self.assertLess(run(["python3", "-c", "import time; time.sleep(0.3)"]).cpu_seconds, 0.3)
        self.assertGreater(cpu_of(1), 0.0)

    def test_failure_is_told(self) -> None:
        """A program that fails gives no figure but its complaint."""
        error = self.assertRaises(Failed, run, ["python3", "-c", "raise SystemExit('no room')"])
        self.assertIn("no room", str(error))

    def test_everything_is_ended(self) -> None:
        """Whatever happens in between, servers and directory are gone afterwards."""
        port = free_port()
        serve = ["python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)]

        def fail() -> None:
            with Scratch() as scratch:
                self.directory = scratch.directory
                scratch.start(serve, port=port)
                self.assertTrue(listening(port))
                raise KeyError

        self.assertRaises(KeyError, fail)
        self.assertFalse(listening(port))
        self.assertFalse(self.directory.exists())
