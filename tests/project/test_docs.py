"""What the documents say can be typed, followed and seen."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tests.project.test_packaging import TOP, load
from tests.support.command_lines import (
    OURS,
    logical_lines,
    long_options,
    options_in,
    parse,
    words_of,
)
from tests.support.processes import reserved_port

README = TOP / "README.md"
DOCUMENTS = [README, *sorted((TOP / "docs").glob("*.md")), TOP / "formal" / "README.md"]
SAMPLE_RUN = TOP / "docs" / "sample-run.md"
CLIENT, SENDING = TOP / "docs" / "client.md", TOP / "docs" / "sending.md"
QUICK = TOP / "docs" / "quick.svg"
FIRST_EXPERIENCE = TOP / "docs" / "first-experience.md"
# Options of other people's programs, which our documents mention as well.
FOREIGN_OPTIONS = frozenset(
    (
        *("--constraint", "--path"),  # of pip and of twistd web
        *("--first", "--seed", "--seeds"),  # of the simulation and the fuzzer
        *("--rounds", "--most"),  # of bench.hostile
        "--now",  # of systemctl
        # Of etcdctl.
        *("--peer-urls", "--data-dir"),
        *("--initial-advertise-peer-urls", "--initial-cluster", "--initial-cluster-token"),
        "--only",  # of bench.cluster_faults, as --rounds
        "--report",  # of bench
        *("--negotiate", "--delegation"),  # of curl
    )
)
# Other programs in the README's blocks.
FOREIGN_PROGRAMS = frozenset(("source", "make", "export", "mkdir", "echo", "cmp", "python3", "pip"))


def blocks_of(text: str) -> list[str]:
    """Return what is typed in a shell, of what stands between fences in a Markdown document."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for language, block in fenced if language in ("", "sh")]


def links_in(text: str) -> list[str]:
    """Return the targets of links, apart from those in blocks."""
    prose = re.sub(r"^(```.*?^```|    .*?)$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors_of(text: str) -> set[str]:
    """Return what a link can point to: the headings, spelt as forges do."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    """Return the links of ``document`` that lead nowhere in the project."""
    broken = []
    for link in links_in(document.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue  # elsewhere on the network
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        there = target.exists() and (
            not anchor or anchor in anchors_of(target.read_text(encoding="utf-8"))
        )
        if not there:
            broken.append(link)
    return broken


class DocumentTests(SynchronousTestCase):
    """README.md and docs/."""

    def test_options_exist(self) -> None:
        """Every option that a document mentions is one of our programs'."""
        known = long_options() | FOREIGN_OPTIONS
        for document in DOCUMENTS:
            unknown = options_in(document.read_text(encoding="utf-8")) - known
            self.assertEqual(unknown, set(), document.name)

    def test_links(self) -> None:
        """Every link within the project leads somewhere."""
        for document in DOCUMENTS:
            self.assertEqual(broken_links(document), [], document.name)

    def test_commands_parse(self) -> None:
        """Each command line of the README and of the users' pages is one that its program takes."""
        parsed = set()
        for document in (README, CLIENT, SENDING):
            for block in blocks_of(document.read_text(encoding="utf-8")):
                for words in filter(None, map(words_of, logical_lines(block))):
                    program = Path(words[0]).name
                    if program not in FOREIGN_PROGRAMS:
                        self.assert_parses(words)
                        parsed.add(program)
        self.assertEqual(parsed, set(OURS))

    def assert_parses(self, words: list[str]) -> None:
        ends = [at for at, word in enumerate(words) if word in ("|", ">")]
        try:
            parse(words[: min(ends, default=None)])
        except usage.UsageError as error:
            self.fail(f"{' '.join(words)}: {error}")

    def test_statuses(self) -> None:
        """README and users' page list every exit status, and no other, in the same words."""
        from kdc.errors import ExitStatus

        tables = [
            document.read_text(encoding="utf-8").partition("| status |")[2].partition("\n\n")[0]
            for document in (README, CLIENT)
        ]
        self.assertEqual(tables[0], tables[1])
        rows = re.findall(r"^\| ([\d, ]+) \|", tables[0], re.MULTILINE)
        listed = {int(number) for row in rows for number in row.split(",")}
        self.assertEqual(listed, {*map(int, ExitStatus), 130, 143})

    def test_make_targets(self) -> None:
        """What the README says to make can be made."""
        makefile = (TOP / "Makefile").read_text(encoding="utf-8")
        for target in re.findall(r"\bmake (\w+)", README.read_text(encoding="utf-8")):
            self.assertRegex(makefile, rf"(?m)^{target}:", target)


class CheckTests(SynchronousTestCase):
    """The checks above notice what they are for."""

    def test_options(self) -> None:
        """An option is found in a line, in code and at an end; a dash in a word is none."""
        text = "give `--old-name` or --file=x; well--known, a---rule, -p, --json."
        self.assertEqual(options_in(text), {"--old-name", "--file", "--json"})
        self.assertIn("--file", long_options())
        self.assertNotIn("--old-name", long_options())

    def test_links(self) -> None:
        """A missing file and a missing heading are found, elsewhere is left alone."""
        directory = Path(self.mktemp())
        directory.mkdir()
        document = directory / "a.md"
        document.write_text(
            "# One two: three\n[a](b.md) [b](#one-two-three) [c](#four) [d](https://e.f/)\n"
            "[e](a.md#one-two-three) [f](a.md#five)\n\n    [g](code.md)\n"
        )
        self.assertEqual(broken_links(document), ["b.md", "#four", "a.md#five"])

    def test_commands(self) -> None:
        """An option that is gone is refused in every kind of command line."""
        for line in (
            "kdc -p 1 --gone",
            "kdc admin list --gone",
            "kdcclient -n bob -m R --gone",
            "kdcclient send bob in.txt --gone",
            "$ twistd -n kdc -p 1 --gone",
            "twistd --gone kdc -p 1",
            "twistd kdcclient sender --gone",
        ):
            self.assertRaises(usage.UsageError, parse, words_of(line))
            parse(words_of(line.replace("--gone", "# gone")))
        self.assertRaises(ValueError, parse, ["rm", "-r"])


def stable(page: str) -> str:
    """Return a sample run without what is another each time."""
    for pattern, name in (
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r"\b[0-9a-f]{64}\b", "DIGEST"),
        (r"\bkdc2-[\w-]+", "kdc2-INVITATION"),
        (r"\bsha256:(\s+[0-9a-f]{8}){8}\b", "DIGEST IN GROUPS"),
        (r"(?m)^(    kdc-principals:1:LOCAL):.*$", r"\1:IDS"),
        (r"(?m)^(    :\w+:[\d.]+:\d+):.*$", r"\1:SEALED"),
        (r"(?m)^    end:.*$", "    end:MAC"),
        (r"(?m)^    0000[0-9a-f]0 .*$", "    HEXDUMP"),
        (r"\b\d{7,}\b", "SIZE"),
    ):
        page = re.sub(pattern, name, page)
    return page


class SampleRunTests(SynchronousTestCase):
    """docs/sample-run.md."""

    def test_as_recorded(self) -> None:
        """Typed again, the three commands show what the page says.

        If they should show something else from now on: run docs/recorders/record_sample_run.py.
        """
        recorder = load(TOP / "docs" / "recorders" / "record_sample_run.py")
        seen = recorder.record(kdc_port=reserved_port(), listen_port=reserved_port())
        page = SAMPLE_RUN.read_text(encoding="utf-8")
        self.assertEqual(stable(page).splitlines(), stable(seen).splitlines())

    def test_no_passphrase(self) -> None:
        """What was typed without echo is not on the page."""
        recorder = load(TOP / "docs" / "recorders" / "record_sample_run.py")
        for passphrase in (recorder.ALICES, recorder.BOBS, recorder.GUESS):
            self.assertNotIn(passphrase, SAMPLE_RUN.read_text(encoding="utf-8"))


class QuickTests(SynchronousTestCase):
    """docs/quick.svg, with which the README begins."""

    def setUp(self) -> None:
        self.recorder = load(TOP / "docs" / "recorders" / "record_quick.py")
        self.picture = QUICK.read_text(encoding="utf-8")

    def test_as_recorded(self) -> None:
        """Done again, from nothing to two files on the disk, it looks as on the picture.

        If it should look otherwise from now on: run docs/recorders/record_quick.py.
        """
        seen = self.recorder.record(kdc_port=reserved_port(), listen_port=reserved_port())
        self.assertEqual(self.picture.splitlines(), seen.splitlines())

    def test_as_counted(self) -> None:
        """The README's first commands are those of the picture, and its table counts them right."""
        readme = README.read_text(encoding="utf-8")
        first, *_ = blocks_of(readme)
        typed = self.recorder.typed(self.picture)
        self.assertEqual(logical_lines(first), [*self.recorder.FIRST, *self.recorder.SECOND])
        self.assertEqual(typed, logical_lines(first))
        row = re.search(r"(?m)^\| `kdc` \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", readme)
        self.assertIsNotNone(row)
        if row:
            letters = sum(map(len, typed[:3]))
            self.assertEqual(row.groups(), ("3", "0", str(letters), str(len(typed[3]))))

    def test_other_programs(self) -> None:
        """What the table says of the others is what is written out under it."""
        readme = README.read_text(encoding="utf-8")
        for program in ("magic-wormhole", "croc"):
            row = re.search(rf"(?m)^\| {program} \| (\d) \| (\d) \| (\d+) \|", readme)
            words = re.search(rf"(?m)^- {program}: (.+?)\.$", readme, re.DOTALL)
            self.assertTrue(row and words, program)
            if row and words:
                pieces = re.findall(r"`([^`]+)`", words[1])
                self.assertEqual(len(pieces), int(row[1]) + int(row[2]), program)
                self.assertEqual(sum(map(len, pieces)), int(row[3]), program)


class FirstExperienceTests(SynchronousTestCase):
    """docs/first-experience.md."""

    def setUp(self) -> None:
        self.recorder = load(TOP / "docs" / "recorders" / "record_first_experience.py")
        self.page = FIRST_EXPERIENCE.read_text(encoding="utf-8")

    def test_as_recorded(self) -> None:
        """Done again, from the invitation to the file on the disk, it looks as on the page.

        If it should look otherwise from now on: run docs/recorders/record_first_experience.py.
        """
        seen = self.recorder.record(kdc_port=reserved_port(), listen_port=reserved_port())
        self.assertEqual(stable(self.page).splitlines(), stable(seen).splitlines())

    def test_four_commands(self) -> None:
        """Nothing else is typed than four commands, none longer than a line."""
        typed = self.recorder.typed(self.page)
        self.assertEqual(typed, list(self.recorder.COMMANDS))
        self.assertEqual(len(typed), 4)
        for line in typed:
            self.assertLess(len(f"$ {line}"), 80)
            parse(words_of(line))

    def test_the_same_file(self) -> None:
        """Both ends show the same sum."""
        sums = re.findall(r"(?m)^    ([0-9a-f]{64})  report\.pdf$", self.page)
        self.assertEqual((len(sums), len(set(sums))), (2, 1))
