"""What others have chosen reaches logs and terminals in one way, which makes it harmless."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import KDCError
from kdc.hostile_text import harmless
from kdc.net.log import Logger

KDC = Path(__file__).parent.parent.parent / "kdc"
HOSTILE = "a\x1b[2J\n\u202e\u0430b 2026-01-01 issued"

# Who writes to standard output or error otherwise than by `say` and `answer`, and what.  JSON
# needs no reason: it is ASCII.
PRINTING = {
    ("terminal.py", "say"): "the one place for what is told",
    ("terminal.py", "answer"): "the one place for what was asked for",
    ("terminal.py", "_redraw"): "how many seconds yet, and words of ours",
    ("commands/options.py", "opt_version"): "our own version",
    ("commands/completion.py", "run"): "a script of our own words",
    ("commands/options.py", "opt_help_limits"): "names and numbers of ours",
    ("testing/shims.py", "main"): "another program's answers, of a realm for tests",
    ("testing/shims.py", "_query"): "another program's answers, of a realm for tests",
    ("testing/shims.py", "_wait"): "another program's answers, of a realm for tests",
}
LOGGERS = {
    "net/log.py": "the one place",
    "net/exit_status.py": "shows what is logged, by `say`",
    "commands/twistd.py": "what `say` says, under twistd",
}
_MODULES = ("logging", "warnings", "twisted.logger", "twisted.python.log")


def functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every node with the name of the function that it is in."""
    for node in ast.iter_child_nodes(tree):
        here = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else inside
        yield here, node
        yield from functions(node, here)


def prints(node: ast.AST) -> bool:
    """Whether it writes to standard output or error what is not JSON."""
    if not isinstance(node, ast.Call):
        return False
    called, words = ast.unparse(node.func), [ast.unparse(each) for each in node.args]
    if called == "print":
        return not all(word.startswith("json.dumps(") for word in words)
    return called in ("sys.stdout.write", "sys.stderr.write", "sys.stdout.writelines")


def modules() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(KDC.rglob("*.py")):
        yield str(path.relative_to(KDC)), ast.parse(path.read_text(encoding="utf-8"))


class OneWayTests(SynchronousTestCase):
    def test_terminals(self) -> None:
        """What is told and answered goes through the two functions that make it harmless."""
        found = {
            (name, function)
            for name, tree in modules()
            for function, node in functions(tree)
            if prints(node)
        }
        self.assertEqual(found, set(PRINTING))

    def test_loggers(self) -> None:
        """Nobody logs by anything else than our own logger."""
        found = set()
        for name, tree in modules():
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    used = {each.name for each in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    used = {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
                else:
                    continue
                if used & set(_MODULES):
                    found.add(name)
        self.assertEqual(found, set(LOGGERS))

    def test_finds_others(self) -> None:
        """The test sees what it looks for."""
        source = "def f():\n print(x)\n print(json.dumps(x))\n sys.stderr.write(x)\n log.info(x)"
        self.assertEqual(sum(prints(node) for _, node in functions(ast.parse(source))), 2)


class LoggerTests(SynchronousTestCase):
    log = Logger()

    def test_harmless(self) -> None:
        """Texts and errors in a line are made harmless; numbers stay what they are."""
        with capturedLogs() as events:
            self.log.info(
                "{text} {error} {count:03d}", text=HOSTILE, error=KDCError(HOSTILE), count=7
            )
        (event,) = events
        line = formatEvent(event)
        self.assertEqual(line, f"{harmless(HOSTILE)} {harmless(HOSTILE)} 007")
        self.assertTrue(line.isprintable())

    def test_twisteds_own_fields(self) -> None:
        """A failure is logged as one, with where it comes from."""
        with capturedLogs() as events:
            try:
                raise KDCError("no")
            except KDCError:
                self.log.failure("{what} failed", what=HOSTILE)
        (event,) = events
        self.assertIs(event["log_level"], LogLevel.critical)
        self.assertIsInstance(event["log_failure"].value, KDCError)
        self.assertTrue(event["log_namespace"].startswith(__name__))
        self.assertEqual(formatEvent(event), f"{harmless(HOSTILE)} failed")
        self.assertEqual(len(self.flushLoggedErrors(KDCError)), 1)
