"""What the measurements make of their figures; that they measure is for `make bench` to show."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from bench import (
    background_work,
    breaking,
    goals,
    paths,
    plan,
    profiles,
    quick,
    relay,
    report,
    senders,
    tickets,
    transfers,
    tunnelled,
    watching,
)
from bench.exchanges import (
    BARE,
    CONNECT,
    EXCHANGES,
    ISSUE,
    KADMIN,
    KADMIN_LOCAL,
    LOGIN,
    OPENED,
    REGISTER,
    label,
    native,
)
from bench.figures import Results, number, pooled, table
from bench.floor import DIGEST
from bench.load import together
from bench.processes import Failed, Scratch, cpu_of, free_port, listening, run
from bench.processes import run as run_program
from bench.rounds import Kept, Run, Wanted, mend, read
from bench.ways import BARE_TLS, CHANNEL, IMPORTS, INTERPRETER, PLAIN, SEND, Way, is_rival

SIZES = (10, 1000)


def issued(ours: float, krb5: float) -> Results:
    """Results of issuing alone, the same for every size."""
    results = Results(facts={"load": "Quiet."})
    for size in SIZES:
        for how in ("1 in flight", "pipelined"):
            results.add(ISSUE, label(f"kdc, {how}", size), {"us": ours})
        results.add(ISSUE, label("krb5kdc, UDP, 8 outstanding", size), {"us": krb5})
        results.add(ISSUE, label(native(8), size), {"us": krb5})
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
        """A third of krb5kdc is asked for with one request in flight, a twelfth with many."""
        self.assertEqual(list(met(issued(30, 100)).values())[:2], [True, False])
        self.assertEqual(list(met(issued(7, 100)).values())[:2], [True, True])
        self.assertEqual(list(met(issued(40, 100)).values())[:2], [False, False])

    def test_best_of_krb5(self) -> None:
        """Whatever client makes krb5kdc look best is the one to compare with."""
        results = issued(30, 100)
        for size in SIZES:
            results.add(ISSUE, label(native(64), size), {"us": 80.0})
        self.assertIs(next(iter(met(results).values())), False)

    def test_every_run_counts(self) -> None:
        """A goal that one of several runs misses is not met, and each run's figure is shown."""
        both = pooled([issued(30, 100), issued(35, 100)])
        goal = goals.goals(both, SIZES)[0]
        self.assertIs(goal.met, False)
        self.assertEqual(goal.figure, "0.300 to 0.300 of it; 0.350 to 0.350 of it")
        self.assertIs(goals.goals(pooled([issued(30, 100)] * 2), SIZES)[0].met, True)
        self.assertIs(goals.goals(pooled([issued(30, 100), Results()]), SIZES)[0].met, None)

    def test_worst_size_counts(self) -> None:
        """One size that misses the goal is enough to miss it."""
        results = issued(7, 100)
        results.add(ISSUE, label("kdc, pipelined", SIZES[0]), {"us": 300.0})
        self.assertFalse(list(met(results).values())[1])

    def test_nothing_measured(self) -> None:
        """Without figures nothing is met, and nothing missed."""
        self.assertEqual(set(met(Results()).values()), {None})

    def test_relay(self) -> None:
        """What a relay costs, beside the one of magic-wormhole, and what issuing beside it does."""

        def goals_of(cost: float, ours: float, p99: float) -> list[bool | None]:
            results = Results()
            results.add(relay.CARRIED, relay.OURS, {"CPU s/GiB": cost, "MiB/s": ours})
            results.add(relay.CARRIED, relay.TRANSIT, {"MiB/s": 200.0})
            results.add(relay.ISSUING, relay.ALONE, {"p99_ms": 4.0})
            results.add(relay.ISSUING, relay.BESIDE, {"p99_ms": p99})
            found = goals.goals(results, SIZES)
            return [goal.met for goal in found if "relay" in goal.text]

        self.assertEqual(goals_of(0.5, 450, 7), [True, True, True])
        self.assertEqual(goals_of(1.2, 390, 9), [False, False, False])

    def test_kerberos(self) -> None:
        """Tickets beside krb5kdc's, and the start of a realm for tests."""

        def goals_of(ours: float, start: float) -> list[bool | None]:
            results = Results()
            for what in (tickets.AS, tickets.TGS):
                results.add(tickets.TICKETS, tickets.ours(what), {"us": ours})
                results.add(tickets.TICKETS, tickets.theirs(what), {"us": 100.0})
            for row in (tickets.CHILD, tickets.THREAD):
                results.add(tickets.REALMS, row, {"CPU ms": start})
            found = goals.goals(results, SIZES)
            return [goal.met for goal in found if goal.text.startswith("Kerberos")]

        self.assertEqual(goals_of(80, 20), [True, True, True, True])
        self.assertEqual(goals_of(90, 100), [False, True, True, False])
        self.assertEqual(goals_of(101, 151), [False, False, False, False])

    def test_watched(self) -> None:
        """The least of each counts: what else ran on the machine may have been there for one."""
        for least, good in ((30.8, True), (31.0, False)):
            results = Results()
            for us in (30.0, 60.0):
                results.add(watching.WATCHING, watching.OFF, {"us": us})
            for us in (90.0, least):
                results.add(watching.WATCHING, watching.LOOKED_AT, {"us": us})
            found = [goal for goal in goals.goals(results, SIZES) if goal.text.startswith("watch")]
            self.assertEqual([goal.met for goal in found], [good])

    def test_crowds(self) -> None:
        """One that is lost in one round is enough; a run without that crowd says nothing."""
        for stored, good in (((1000, 1000), True), ((1000, 999), False)):
            results = Results()
            for count in stored:
                results.add(senders.SENDERS, "1,000 senders", {"asked": 1000, "stored": count})
            found = [g for g in goals.goals(results, SIZES) if g.text.startswith("1,000 senders")]
            self.assertEqual([goal.met for goal in found], [good])
        both = goals.goals(pooled([results, issued(30, 100)]), SIZES)
        self.assertIs(next(g for g in both if g.text.startswith("1,000 senders")).met, False)

    def test_background(self) -> None:
        """Whatever work lets keys wait longest counts, with a million principals and no fewer."""
        results = Results()
        for n, work, wait in (
            (1_000_000, "list", 19.0),
            (1_000_000, "dump", 21.0),
            (10, "x", 99.0),
        ):
            waits = {"p99 ms": wait, "worst ms": 4 * wait}
            results.add(background_work.BACKGROUND, label(work, n), waits)
        found = [g for g in goals.goals(results, SIZES) if "long work" in g.text]
        self.assertEqual([goal.met for goal in found], [False, True])
        self.assertEqual(found[0].figure, "21 ms: dump, 1,000,000 principals")

    def test_many_files(self) -> None:
        """The goal is for as many files as it says."""
        for count, met_in_time in ((100_000, True), (2000, None)):
            results = Results()
            results.add(transfers.MANY, SEND, {"s": 9.0, "files": count})
            found = [g for g in goals.goals(results, SIZES) if g.text.startswith("a directory")]
            self.assertEqual([goal.met for goal in found], [met_in_time])

    def test_cut(self) -> None:
        """What is asked for is when it goes on, not when it is whole."""
        for seconds, met in ((0.9, True), (1.1, False)):
            results = Results()
            results.add(transfers.RESUME, SEND, {"s to go on": seconds, "s": 9.0})
            found = [g for g in goals.goals(results, SIZES) if "killed at 70 %" in g.text]
            self.assertEqual([goal.met for goal in found], [met])

    def test_missing_size(self) -> None:
        """A size that was not measured may be the one that misses the goal."""
        results = issued(7, 100)
        found = [goal.met for goal in goals.goals(results, (*SIZES, 1_000_000))]
        self.assertEqual(found[:2], [None, None])
        found = [goal.met for goal in goals.goals(issued(90, 100), (*SIZES, 1_000_000))]
        self.assertEqual(found[:2], [False, False])

    def test_connect(self) -> None:
        """Connecting is compared with the bare handshake, and the reason is made of figures."""
        results = issued(9, 100)
        results.add(CONNECT, BARE, {"us": 900.0})
        results.add(CONNECT, EXCHANGES, {"us": 1010.0})
        results.add("crypto", "all", {"Ed25519 verification": 60.0})
        for size, ours in zip(SIZES, (1040.0, 1300.0), strict=True):
            results.add(CONNECT, label("kdc", size), {"us": ours})
        goal = next(g for g in goals.goals(results, SIZES) if g.text.startswith("connect"))
        self.assertFalse(goal.met)
        self.assertEqual(goal.figure, "400 us above 900 us")
        self.assertIn("add 110 us and one Ed25519 verification 60 us; the other 230 us", goal.why)

    def test_beside_login(self) -> None:
        """The same work of krb5kdc is a log-in and a ticket; the worst size counts."""
        results = Results()
        for size, ours in zip(SIZES, (700.0, 900.0), strict=True):
            results.add(CONNECT, label("kdc", size), {"us": ours})
            results.add(CONNECT, label(LOGIN, size), {"us": 1000.0})
        goal = next(g for g in goals.goals(results, SIZES) if "kinit" in g.text)
        self.assertEqual((goal.met, goal.figure), (True, "0.9 of it"))

    def test_register(self) -> None:
        """Registering is compared with a peer over the network, and with one without."""
        results = Results()
        for size in SIZES:
            results.add(REGISTER, label(KADMIN, size), {"per_second": 100.0})
            results.add(REGISTER, label(KADMIN_LOCAL, size), {"per_second": 200.0})
            row = label(f"kdc, 16 at a time{OPENED}", size)
            results.add(REGISTER, row, {"per_second": 160.0, "us": 400.0})
        found = [goal for goal in goals.goals(results, SIZES) if "16 clients" in goal.text]
        self.assertEqual([goal.met for goal in found], [True, True, False, False])
        self.assertEqual(
            [goal.figure for goal in found][1:3], ["160/s, 1.60 times", "160/s, 0.80 times"]
        )

    def test_best_peer(self) -> None:
        """A floor is no rival; a tunnel is compared with tunnels."""
        results = Results()
        for section, row, rate in (
            ("memory", CHANNEL, 400.0),
            ("memory", PLAIN, 1000.0),
            ("memory", BARE_TLS, 500.0),
            ("memory", "ssh", 200.0),
            ("tunnel", "stunnel", 900.0),
        ):
            results.add(section, row, {"MiB/s": rate})
        goal = next(
            g for g in goals.goals(results, SIZES) if "memory to memory: at least" in g.text
        )
        self.assertEqual(
            (goal.met, goal.figure), (False, f"400 MiB/s, 0.80 times that of {BARE_TLS}")
        )
        self.assertIn("OpenSSL moves 500 MiB/s", goal.why)


class RunTests(SynchronousTestCase):
    """Rounds as they come, and a run that goes on where another was cut short."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.calls: list[str] = []

    def call(self, row: str) -> dict[str, float]:
        self.calls.append(row)
        if row == "bad":
            raise Failed("no such program\nat all")
        return {"us": float(len(self.calls))}

    def rounds(self, run: Run, count: int) -> None:
        for _ in range(count):
            for row in ("good", "bad"):
                run.measure("s", row, partial(self.call, row))

    def begin(self, **how: Any) -> Run:
        file = self.path.open("a")
        self.addCleanup(file.close)
        run = Run(file=file, **how)
        if "kept" not in how:
            run.begin(plan.QUICK)
        return run

    def test_kept(self) -> None:
        """What was measured can be read again as soon as it is there, and what could not be."""
        run = self.begin()
        run.note(kernel="Linux")
        self.rounds(run, 2)
        kept = read(self.path)
        self.assertEqual(kept.plan, plan.QUICK)
        self.assertEqual(kept.results.samples, {"s|good|us": [1.0, 3.0]})
        self.assertEqual(kept.results.missing, {"s|bad": "no such program\nat all"})
        self.assertEqual(kept.results.facts, {"kernel": "Linux"})
        self.assertEqual((kept.results.samples, kept.results.missing), (run.samples, run.missing))

    def test_goes_on(self) -> None:
        """Rounds that are there are not measured again; half a line at the end is none."""
        self.rounds(self.begin(), 1)
        with self.path.open("a") as file:
            file.write('{"section": "s", "row": "good", "fig')
        kept = read(self.path)
        mend(self.path)
        run = self.begin(kept=kept)
        self.rounds(run, 3)
        self.assertEqual(self.calls, ["good", "bad"] * 3)
        self.assertEqual(run.samples["s|good|us"], [1.0, 3.0, 5.0])
        self.assertEqual(read(self.path).results.samples, run.samples)

    def test_only(self) -> None:
        """A section, or some of its rows."""
        for only, asked in (("s", 2), ("s/goo", 1), ("other", 0)):
            self.calls.clear()
            self.rounds(Run(wanted=Wanted((only,))), 1)
            self.assertEqual(len(self.calls), asked, only)
        self.assertTrue(Wanted(("s/goo",))("s"))

    def test_time_left(self) -> None:
        """An earlier run of the same tells how long the rest may take."""
        before = Kept(plan.QUICK, Results())
        for row, seconds in (("good", 60.0), ("bad", 540.0)):
            line = {"section": "s", "row": row, "seconds": seconds, "figures": {"us": 1.0}}
            before.take(line)
        told: list[str] = []
        now = iter((0.0, 30.0, 30.0, 300.0))
        self.rounds(Run(before=before, show=told.append, clock=lambda: next(now)), 1)
        self.assertEqual(told, ["s: good, round 1", "s: bad, round 1; about 4 min left"])

    def test_no_rounds(self) -> None:
        """Another file is not taken for one of rounds."""
        for text in ("", "# Performance\n", '{"plan": {"rounds": 1}}\n'):
            self.path.write_text(text)
            error = self.assertRaises(ValueError, read, self.path)
            self.assertIn("holds no rounds", str(error))

    def test_pooled(self) -> None:
        """Several runs are shown as one, with the range of their ratios; a gap of one is none."""
        first, second = issued(30, 100), issued(40, 100)
        second.without("tunnel", "spiped", "no spiped")
        first.add("tunnel", "spiped", {"MiB/s": 100.0})
        second.without("tunnel", "socat", "no socat")
        both = pooled([first, second])
        row, krb5 = label("kdc, pipelined", 10), label(native(8), 10)
        self.assertEqual(both.ratio_text(ISSUE, row, krb5, "us"), "0.30 - 0.40")
        self.assertEqual(both.ratio_text(ISSUE, krb5, krb5, "us"), "1.00")
        self.assertEqual(both.samples[f"{ISSUE}|{row}|us"], [30, 40])
        self.assertEqual(both.missing, {"tunnel|socat": "no socat"})


class QuickTests(SynchronousTestCase):
    """The guard against what becomes dearer."""

    def test_dearer(self) -> None:
        """What costs more units than when it was kept is named; a slower machine is not."""
        directory = Path(self.mktemp())
        directory.mkdir()
        row = label("kdc, pipelined", 10)

        def shown(us: float, unit: float) -> str:
            results = Results()
            results.add(ISSUE, row, {"us": us})
            results.add("reference", "unit", {"us": unit})
            text = quick.shown(results, directory)
            if not (directory / "quick.json").exists():
                quick.keep(results, directory)
            return text

        self.assertIn("nothing to compare with", shown(30, 60))
        self.assertIn("Nothing is dearer", shown(30, 60))
        self.assertNotIn("Dearer", shown(60, 120))
        self.assertIn(f"Dearer than when it was kept:\n- issue: {row}: 2.00 times", shown(60, 60))

    def test_another_python(self) -> None:
        """What another Python took is compared, with a word of warning."""
        directory = Path(self.mktemp())
        directory.mkdir()
        results = Results(facts={"Python": "3.11, self-built"})
        results.add(ISSUE, label("kdc, pipelined", 10), {"us": 30.0})
        quick.keep(results, directory)
        results.facts["Python"] = "3.11, the distribution's"
        self.assertIn("of another Python, 3.11, self-built", quick.shown(results, directory))


class CommandTests(SynchronousTestCase):
    """`python -m bench` before it measures anything."""

    def bench(self, *words: str) -> str:
        """What it says when it refuses."""
        error = self.assertRaises(Failed, run, [sys.executable, "-m", "bench", *words])
        return str(error)

    def test_only_one_python(self) -> None:
        """The page in docs/ is made of what the distribution's Python did, and of equal runs."""
        files = []
        for at, (python, rounds) in enumerate((("3.11, self-built", 1), ("3.11, the d", 2))):
            files.append(Path(self.mktemp()).resolve())
            with files[at].open("w") as file:
                run = Run(file=file)
                run.begin(attrs.evolve(plan.QUICK, rounds=rounds))
                run.note(Python=python, load="Quiet.")
        self.assertIn("that Python is 3.11, self-built", self.bench("--report", str(files[0])))
        two = self.bench("--report", *map(str, files), "--output", self.mktemp())
        self.assertIn("did not measure the same", two)

    def test_report_of_kept_rounds(self) -> None:
        """The page is made of the rounds, which are beside it and make it again."""
        path, output = (Path(self.mktemp()).resolve() for _ in range(2))
        with path.open("w") as file:
            run = Run(file=file)
            run.begin(attrs.evolve(plan.QUICK, principals=SIZES))
            run.note(load="Quiet.")
            run.measure(ISSUE, label("kdc, pipelined", 10), lambda: {"us": 30.1234567})
        bench = [sys.executable, "-m", "bench", "--output", str(output), "--report"]
        run_program([*bench, str(path)])
        page = (output / "performance.md").read_text()
        self.assertIn("| kdc, pipelined, 10 principals | 30.1 |", page)
        beside = output / "performance" / "rounds-1.jsonl"
        self.assertIn('"us": 30.1235', beside.read_text())
        run_program([*bench, str(beside)])
        self.assertEqual((output / "performance.md").read_text(), page)

    def test_refused_before_measuring(self) -> None:
        """Nothing is measured that could not be written, or by words nobody understands."""
        self.assertIn("nothing can be written to /dev/null", self.bench("--output", "/dev/null"))
        self.assertIn("there is no such section", self.bench("--only", "tunels"))
        self.assertIn(
            "holds no rounds", self.bench("--report", __file__, "--output", self.mktemp())
        )


class PlanTests(SynchronousTestCase):
    """How much is measured."""

    def test_enough(self) -> None:
        """However many rounds there are, a row has as much of a server's time."""
        for rounds in (1, 2, 7):
            each = attrs.evolve(plan.FULL, rounds=rounds).each(100)
            self.assertGreaterEqual(each * rounds * 100e-6, plan.FULL.cpu_seconds)


class BreakingTests(SynchronousTestCase):
    """What breaks first."""

    def test_said_plainly(self) -> None:
        """Who was lost is told, and what one processor can do."""
        results = issued(50, 100)
        results.add(senders.SENDERS, "1,000 senders", {"asked": 1000, "stored": 9, "confirmed": 9})
        results.add(tunnelled.TUNNELLED, "5 connections", {"asked": 5, "answered": 5, "s": 2.0})
        text = breaking.breaking(results, SIZES[0])
        self.assertIn("**1,000 senders at once: only 9 were delivered.**", text)
        self.assertIn("5 connections at once: all were answered, the last after 2 s.", text)
        self.assertIn("full at 20,000 keys, one in flight on each connection", text)


class PathsTests(SynchronousTestCase):
    """How far a path is above its floor."""

    def test_above_the_floor(self) -> None:
        """The floor is the sum of what cannot be saved, each part measured alone."""
        results = issued(80, 100)
        for kind, us in (("tcp", 20.0), ("tls", 36.0)):
            results.add(ISSUE, f"floor: {kind} alone, 1 in flight", {"us": us})
        results.add("crypto", "all", {"AES-256-GCM, 200 bytes": 1.0, "12 random bytes": 0.5})
        (path,) = paths.paths(results, SIZES[0])
        self.assertEqual((path.name, path.ours, path.floor), ("issue, 1 in flight", 80, 39.5))
        self.assertIn("40.5 above, 2.03 times", paths.shown([path]))

    def test_a_file(self) -> None:
        """A file is read and written, sealed and opened, digested once; and a command starts."""
        gib = (1 << 30) / 65_518 / 1e6
        results = Results()
        results.add(transfers.FILES, SEND, {"CPU s/GiB": 3.0})
        results.add(transfers.FILES, PLAIN, {"CPU s/GiB": 1.0})
        results.add(transfers.SMALL, INTERPRETER, {"CPU s": 0.25})
        results.add(transfers.SMALL, IMPORTS, {"CPU s": 0.5})
        sealing = {"AES-256-GCM, 65,519 bytes": 0.125 / gib}
        for digest, found in (({}, []), ({DIGEST: 0.5 / gib}, [2.25])):
            results.add("crypto", "all", sealing | digest)
            files = [p for p in paths.paths(results, SIZES[0]) if p.name == "file to file"]
            self.assertEqual([path.floor for path in files], found)
        goal = next(g for g in goals.goals(results, SIZES) if "file to file: at most 2.2" in g.text)
        self.assertFalse(goal.met)
        self.assertIn("the digest with which it goes on if it is cut 0.5 CPU s", goal.why)

    def test_nothing_is_guessed(self) -> None:
        """A path with a part that was not measured is left out."""
        results = issued(80, 100)
        results.add(ISSUE, "floor: tls alone, 1 in flight", {"us": 36.0})
        self.assertEqual(paths.paths(results, SIZES[0]), [])


class LoadTests(SynchronousTestCase):
    """What load generators make of several measurements."""

    def test_together(self) -> None:
        """Batches count by their size, and their times add up."""
        parts = [
            {"us": 100.0, "client_us": 10.0, "per_second": 100.0, "count": 300},
            {"us": 200.0, "client_us": 20.0, "per_second": 50.0, "count": 100},
        ]
        found = together(parts)
        self.assertEqual((found["us"], found["client_us"]), (125.0, 12.5))
        self.assertEqual((found["count"], found["per_second"]), (400, 80.0))

    def test_only_ours(self) -> None:
        """The quick form runs no other program."""
        ran: list[str] = []

        def way(row: str) -> Way:
            def measured() -> dict[str, float]:
                ran.append(row)
                return {"s": 1.0}

            return row, measured

        rows = [CHANNEL, PLAIN, "ssh, ChaCha20", "magic-wormhole"]
        self.assertEqual([row for row in rows if is_rival(row)], rows[2:])
        results = Results()
        transfers.in_turn(results, "memory", 2, [way(row) for row in rows], peers=False)
        self.assertEqual(ran, [CHANNEL, PLAIN] * 2)
        self.assertEqual(results.rows("memory"), [CHANNEL, PLAIN])


class ProfilesTests(SynchronousTestCase):
    """What becomes of a profiler's samples."""

    def test_shares(self) -> None:
        """A sample counts for the innermost part that is known; waiting does not count."""
        path = Path(self.mktemp())
        path.write_text(
            "main (x.py:1);dataReceived (twisted/internet/tcp.py:2);f (kdc/protocol/codec:3) 30\n"
            "main (x.py:1);write (twisted/protocols/tls.py:2);send (OpenSSL/SSL.py:3) 10\n"
            "main (x.py:1);doPoll (twisted/internet/epollreactor.py:240) 500\n"
            "main (x.py:1);_load (<frozen importlib._bootstrap>:9);f (kdc/protocol/codec.py:1) 60\n"
        )
        self.assertEqual(
            profiles.shares(path),
            {"encoding and decoding": 30.0, "TLS (pyOpenSSL)": 10.0, "imports": 60.0},
        )


class ReportTests(SynchronousTestCase):
    """The document."""

    def test_whatever_is_there(self) -> None:
        """A run that could measure little still says what, and what not and why."""
        results = issued(30, 100)
        results.without("tunnel", "spiped", "spiped is not installed\nwith a traceback")
        directory = Path(self.mktemp())
        directory.mkdir()
        report.write(directory, results, attrs.evolve(plan.QUICK, principals=SIZES), 1.0)
        text = (directory / "performance.md").read_text()
        self.assertIn("0.300 to 0.300 of it | met", " ".join(text.split()))
        self.assertIn("- tunnel, spiped: spiped is not installed\n", text)
        self.assertNotIn("with a traceback", text)

    def test_ratios(self) -> None:
        """Beside a figure is what it is of its rival's, with as many principals."""
        results = issued(30, 100)
        results.add(ISSUE, label("krb5kdc, TCP, 8 outstanding", SIZES[1]), {"us": 150.0})
        directory = Path(self.mktemp())
        directory.mkdir()
        report.write(directory, results, attrs.evolve(plan.QUICK, principals=SIZES), 1.0)
        text = (directory / "performance.md").read_text()
        self.assertIn("| kdc, 1 in flight, 10 principals | 30 | - | - | - | 0.30 |", text)
        self.assertIn(
            "| krb5kdc, TCP, 8 outstanding, 1,000 principals | 150 | - | - | - | 1.50 |", text
        )


class ProcessesTests(SynchronousTestCase):
    """Programs under measurement."""

    def test_cpu_time(self) -> None:
        """A program's work is counted, and only its own."""
        busy = "import time\nwhile time.process_time() < 0.3: pass"
        worked = run(["python3", "-c", busy]).cpu_seconds
        self.assertGreater(worked, 0.3)
        # How long it takes to start is the machine's matter; it is the same for both.
        self.assertLess(run(["python3", "-c", "import time; time.sleep(0.3)"]).cpu_seconds, worked)
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
