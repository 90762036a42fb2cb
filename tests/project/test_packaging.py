"""What is installed, and the files around the code that nothing else would notice rotting."""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twisted.application.service import ServiceMaker
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.command_lines import logical_lines

TOP = Path(__file__).parent.parent.parent
PLUGINS = TOP / "twisted" / "plugins" / "kdc_plugins.py"


def setup_arguments() -> dict[str, Any]:
    """Return those arguments of ``setup()`` in setup.py that are written out there."""
    tree = ast.parse((TOP / "setup.py").read_text(encoding="utf-8"))
    (call,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "setup"
    )
    arguments = {}
    for keyword in call.keywords:
        try:
            arguments[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except ValueError:
            continue  # computed: the version, the description
    return arguments


def load(path: Path) -> ModuleType:
    """Import a script that is in no package, and finds what is beside it as when it is started."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"not Python: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


class SetupTests(SynchronousTestCase):
    """setup.py says what is there."""

    def setUp(self) -> None:
        self.arguments = setup_arguments()

    def test_no_package_is_forgotten(self) -> None:
        """Every directory with modules in it is installed, and nothing else but the plugins."""
        directories = {path.parent.relative_to(TOP) for path in (TOP / "kdc").rglob("*.py")}
        packages = {".".join(directory.parts) for directory in directories}
        self.assertEqual(set(self.arguments["packages"]), packages | {"twisted.plugins"})

    def test_type_information_is_installed(self) -> None:
        """Programs that use the package are checked against its types."""
        self.assertIn("py.typed", self.arguments["package_data"]["kdc"])
        self.assertTrue((TOP / "kdc" / "py.typed").exists())

    def test_manual_is_installed(self) -> None:
        """Every page of the manual goes where man looks for it."""
        pages = sorted(str(path.relative_to(TOP)) for path in (TOP / "docs" / "man").glob("*.1"))
        ((place, installed),) = self.arguments["data_files"]
        self.assertEqual((place, sorted(installed)), ("share/man/man1", pages))

    def test_commands_exist(self) -> None:
        """Each console command names a function that is there."""
        for script in self.arguments["entry_points"]["console_scripts"]:
            module, function = script.split("=")[1].strip().split(":")
            self.assertTrue(callable(getattr(importlib.import_module(module), function)), script)

    def test_few_requirements(self) -> None:
        """Running it needs Twisted with TLS, cryptography, attrs and service-identity only."""
        needed = {Requirement(text).name for text in self.arguments["install_requires"]}
        self.assertEqual(needed, {"twisted", "cryptography", "attrs", "service-identity"})

    def test_kerberos_needs_nothing(self) -> None:
        """Who wants Kerberos can say so, and gets no other package for it."""
        self.assertEqual(self.arguments["extras_require"]["kerberos"], [])


class PluginTests(SynchronousTestCase):
    """What every twistd on the machine loads."""

    def test_imports_nothing_of_ours(self) -> None:
        """A fault in the package cannot break other people's twistd."""
        tree = ast.parse(PLUGINS.read_text(encoding="utf-8"))
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        self.assertEqual(
            [ast.unparse(node) for node in imports],
            ["from twisted.application.service import ServiceMaker"],
        )

    def test_other_plugins_wait(self) -> None:
        """The plugins beside it import nothing of ours either, until one of them is used."""
        for path in PLUGINS.parent.glob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self.assertNotRegex(ast.unparse(node), r"\bkdc\b|from \.", path.name)

    def test_both_commands(self) -> None:
        """Twistd gets `kdc`, `kdcclient` and `kdc-relay`, each with options and a service."""
        names = runpy.run_path(str(PLUGINS))
        makers = {m.tapname: m for m in names.values() if isinstance(m, ServiceMaker)}
        self.assertEqual(set(makers), {"kdc", "kdcclient", "kdc-relay"})
        for maker in makers.values():
            self.assertTrue(callable(maker.options))
            self.assertTrue(callable(maker.makeService))

    def test_no_init(self) -> None:
        """Twisted's own package stays visible, and its plugin directory open."""
        self.assertEqual([str(path) for path in (TOP / "twisted").rglob("__init__.py")], [])


def pins() -> dict[str, str]:
    """Return the version of each distribution in constraints.txt."""
    pinned: dict[str, str] = {}
    for line in (TOP / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            found = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9a-z.]*)", line)
            if found is None:
                raise ValueError(f"constraints.txt: neither a pin nor a comment: {line!r}")
            pinned[canonicalize_name(found[1])] = found[2]
    return pinned


def requirements_of(requirement: Requirement) -> Iterator[Requirement]:
    """Yield what an installed distribution needs here, with the extras asked for."""
    for text in importlib.metadata.requires(requirement.name) or ():
        needed = Requirement(text)
        extras = ["", *requirement.extras]
        if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
            yield needed


class ConstraintsTests(SynchronousTestCase):
    """The versions that the README's commands install."""

    def test_every_requirement_is_pinned(self) -> None:
        """What runs the programs, down to what our requirements require, has one version."""
        pinned = pins()
        waiting = [Requirement(text) for text in setup_arguments()["install_requires"]]
        names = [canonicalize_name(requirement.name) for requirement in waiting]
        if any(importlib.metadata.version(name) != pinned[name] for name in names):
            raise SkipTest("other versions are installed here; theirs need other things")
        seen = set()
        while waiting:
            requirement = waiting.pop()
            name = canonicalize_name(requirement.name)
            self.assertIn(name, pinned)
            self.assertIn(pinned[name], requirement.specifier, f"the pin of {name}")
            if (name, *requirement.extras) not in seen:
                seen.add((name, *requirement.extras))
                waiting.extend(requirements_of(requirement))
        self.assertIn(("pyopenssl",), seen)

    def test_tools_are_pinned(self) -> None:
        """A new release of a tool cannot turn a green check red."""
        for text in setup_arguments()["extras_require"]["dev"]:
            requirement = Requirement(text)
            self.assertIn(pins()[canonicalize_name(requirement.name)], requirement.specifier)


def _parse_toml(text: str) -> None:
    tomllib.loads(text)


def _parse_unit(text: str) -> None:
    # A unit repeats keys and has `%` for itself; a section it has to have.
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    if not parser.sections():
        raise ValueError("no section")


def _parse_logrotate(text: str) -> None:
    inside, script = False, False
    for line in filter(None, (line.split("#")[0].strip() for line in text.splitlines())):
        if script or line == "endscript":
            if not script:
                raise ValueError("endscript without a script")
            script = line != "endscript"
        elif line == "}" or line.endswith("{"):
            if inside == (line != "}"):
                raise ValueError(f"not the place for {line!r}")
            inside = line != "}"
        elif not inside or re.fullmatch(r"[a-z]+( [\w/.-]+)*", line) is None:
            raise ValueError(f"no directive: {line!r}")
        else:
            script = line in ("prerotate", "postrotate", "firstaction", "lastaction")
    if inside or script:
        raise ValueError("no end")


def yaml_lines(text: str) -> None:
    """Keys and lists, as far as that can be said without a parser; promtool says the rest."""
    for line in text.splitlines():
        if re.fullmatch(r"|#.*|(  )*(- )?[A-Za-z_]+:( .+)?", line.rstrip()) is None:
            raise ValueError(f"neither key nor list: {line!r}")


def _parse_containerfile(text: str) -> None:
    """Instructions, of which the first says what to begin with."""
    lines = logical_lines(re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    words = [line.split(" ", 1)[0] for line in lines if line.strip()]
    known = {
        "FROM",
        "RUN",
        "COPY",
        "ENV",
        "USER",
        "WORKDIR",
        "VOLUME",
        "EXPOSE",
        "ENTRYPOINT",
        "CMD",
    }
    if words[0] != "FROM" or not set(words) <= known:
        raise ValueError(f"no instructions: {set(words) - known}")


def _parse_shell(text: str) -> None:
    result = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ValueError(result.stderr)


def _parse_environment(text: str) -> None:
    for line in text.splitlines():
        if re.fullmatch(r"|#.*|[A-Z][A-Z_]*=\S+", line) is None:
            raise ValueError(f"no setting: {line!r}")


# By a file's name, or by how it ends.
PARSERS: dict[str, Callable[[str], object]] = {
    "etcd.conf": _parse_environment,
    ".sh": _parse_shell,
    "": _parse_containerfile,
    ".yml": yaml_lines,
    ".conf": _parse_unit,
    ".json": json.loads,
    ".logrotate": _parse_logrotate,
    ".py": ast.parse,
    ".service": _parse_unit,
    ".socket": _parse_unit,
    ".timer": _parse_unit,
    ".toml": _parse_toml,
}


class EtcTests(SynchronousTestCase):
    """The sample files."""

    def test_every_file_parses(self) -> None:
        """No sample is broken; a new kind of file gets a parser here first."""
        paths = [path for path in (TOP / "etc").rglob("*") if path.suffix != ".pyc"]
        files = [path for path in paths if path.is_file()]
        self.assertNotEqual(files, [])
        for path in files:
            by = path.name if path.name in PARSERS and path.parent.name == "etc" else path.suffix
            self.assertIn(by, PARSERS, f"nothing here can parse {path.name}")
            PARSERS[by](path.read_text(encoding="utf-8"))

    def test_parsers_refuse(self) -> None:
        """The parsers used above notice a broken file."""
        for suffix, text in (
            (".py", "def"),
            (".toml", "= 1"),
            (".service", "A=1"),
            (".socket", ""),
            (".sh", "if true; then"),
            ("etcd.conf", "ETCD_NAME = kdc"),
            (".yml", "\ta: b"),
            (".json", '{"a": }'),
            ("", "RUN true\nFROM nothing"),
            ("", "FROM nothing\nPAINT it black"),
        ):
            self.assertRaises((SyntaxError, ValueError, configparser.Error), PARSERS[suffix], text)


class SummaryTests(SynchronousTestCase):
    """The line by which CI tells how the tests went."""

    def setUp(self) -> None:
        summary = load(TOP / ".ci" / "summary.py")
        self.count, self.shortened = summary.count, summary.shortened

    def test_counts(self) -> None:
        """Every kind of result is in the count; only trial's last summary speaks."""
        for output, expected in (
            ("PASSED (successes=12)\n", (12, 0, 0)),
            ("PASSED (skips=2, successes=12)\n", (12, 0, 2)),
            ("PASSED (skips=2, expectedFailures=1, successes=12)\n", (12, 0, 3)),
            ("FAILED (skips=1, failures=2, errors=3, successes=4)\n", (4, 5, 1)),
            ("FAILED (unexpectedSuccesses=1, successes=4)\n", (4, 1, 0)),
            ("PASSED (successes=1)\nand then\nFAILED (errors=1)\n", (0, 1, 0)),
            ("PASSED\n", (0, 0, 0)),
        ):
            self.assertEqual(self.count(output), expected, output)

    def test_cut_short(self) -> None:
        """An output without a summary is no success, whatever else is in it."""
        for output in ("", "test_PASSED ... [OK]\n", "  PASSED (successes=3)\n", "PASSED (succ"):
            self.assertIsNone(self.count(output), output)

    def test_trial_says_failed(self) -> None:
        """Trial's verdict counts even if none of its numbers does."""
        self.assertEqual(self.count("FAILED (surprises=1, successes=3)\n"), (3, 1, 0))

    def test_what_failed(self) -> None:
        """Each failed test is told by name, place and error; nothing of those that were skipped."""
        rule = "=" * 79
        output = (
            f"noise\n{rule}\n[SKIPPED]\nno tool\n\ntests.a.test_b.CTests.test_skipped\n"
            f'{rule}\n[FAIL]\nTraceback (most recent call last):\n  File "/x/tests/a/test_b.py", '
            'line 7, in test_d\n    self.fail()\n  File "/y/unittest/case.py", line 1, in fail\n'
            "    raise it\nFailTest: 1 != 2\n\ntests.a.test_b.CTests.test_d\n"
            f"{'-' * 79}\nRan 2 tests in 1.0s\nFAILED (failures=1)\n"
        )
        self.assertEqual(
            self.shortened(output),
            [
                "tests.a.test_b.CTests.test_d",
                '  tests/a/test_b.py", line 7, in test_d',
                "FailTest: 1 != 2",
                "",
            ],
        )

    def test_what_else_failed(self) -> None:
        """Of another program's output, and of a run cut short, the last lines are told."""
        self.assertEqual(self.shortened("a\n" * 30 + "why\n")[-2:], ["a", "why"])
        self.assertEqual(len(self.shortened("a\n" * 30)), 20)
        self.assertEqual(self.shortened("x" * 999), ["x" * 160])


class ScriptTests(SynchronousTestCase):
    """What make and CI start by name."""

    def test_executable(self) -> None:
        """The scripts keep their mode, so that `make` can start them."""
        for name in ("run", "oldest", "wheel-check", "summary.py"):
            self.assertTrue(os.access(TOP / ".ci" / name, os.X_OK), name)
