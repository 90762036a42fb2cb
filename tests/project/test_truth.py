"""Each test says something that could be false, and no test depends on how fast the machine is."""

from __future__ import annotations

import ast
import functools
import re
import sys
import unittest
from collections.abc import Iterable, Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.project.test_packaging import TOP
from tests.support.processes import ProgramTestCase

_SAYS = ("assert", "fail", "flushLoggedErrors", "successResultOf")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    """Return every function of a module, methods and inner ones included."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def called(function: Function) -> set[str]:
    """Return the names of what a function calls; ``assert`` for a statement that can fail it."""
    names = {"assert" for node in ast.walk(function) if isinstance(node, ast.Assert | ast.Raise)}
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            names.add(getattr(node.func, "attr", getattr(node.func, "id", "")))
    return names


def asserting(trees: Iterable[ast.AST]) -> set[str]:
    """Return the names of functions that assert something, or call one that does."""
    calls: dict[str, set[str]] = {}
    for tree in trees:
        for function in functions(tree):
            calls.setdefault(function.name, set()).update(called(function))
    found: set[str] = set()
    while more := {
        name
        for name, names in calls.items()
        if name not in found and (names & found or any(n.startswith(_SAYS) for n in names))
    }:
        found |= more
    return found


def silent(trees: Iterable[ast.AST]) -> list[str]:
    """Return the tests that assert nothing."""
    trees = list(trees)
    say = asserting(trees)
    return [
        function.name
        for tree in trees
        for function in functions(tree)
        if function.name.startswith("test_")
        and not any(name in say or name.startswith(_SAYS) for name in called(function))
    ]


def patched(tree: ast.AST) -> list[str]:
    """Return the private names that are patched in something that is not the system's."""
    return [
        name.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and "patch" in ast.unparse(call.func).split(".")
        if len(call.args) > 1 and ast.unparse(call.args[0]) != "os"
        for name in [call.args[1]]
        if isinstance(name, ast.Constant)
        and isinstance(name.value, str)
        and re.match("_[^_]", name.value)
    ]


@functools.cache
def all_tests() -> dict[Path, ast.Module]:
    paths = sorted((TOP / "tests").rglob("*.py"))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


class TruthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.trees = all_tests()

    def test_every_test_asserts(self) -> None:
        """Nobody can write a test that only runs."""
        # Hypothesis runs the machine, whose rules and invariants assert.
        allowed = {"test_the_store_in_memory", "test_the_store_in_files"}
        self.assertEqual(set(silent(self.trees.values())), allowed)

    def test_only_the_profile_has_deadlines(self) -> None:
        """What Hypothesis holds against a slow machine is off in one place, for all tests."""
        for path, tree in self.trees.items():
            if path.name == "time_limit.py":
                continue
            words = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
            self.assertEqual(words & {"deadline", "suppress_health_check"}, set(), str(path))

    def test_ports_stay_taken(self) -> None:
        """A port is found free only where it stays bound until its user has it."""
        for path, tree in self.trees.items():
            for function in functions(tree):
                names = called(function)
                if {"bind", "getsockname", "close"} <= names:
                    self.fail(f"{path}: {function.name} may hand out another program's port")

    def test_nothing_private_is_patched(self) -> None:
        """What a test has to change is an argument of ours: it must not depend on our inside."""
        for path, tree in self.trees.items():
            self.assertEqual(patched(tree), [], str(path))

    def test_patches_are_found(self) -> None:
        """One of a private name is, of whatever it is; the system's are not ours."""
        source = (
            "self.patch(module, '_LIMIT', 1)\nself.patch(thing.own, '_f', g)\n"
            "patch.object(thing, '_f')\n"
            "self.patch(os, '_exit', f)\nself.patch(C, '__iter__', f)\nself.patch(a, 'b', '_c')\n"
        )
        self.assertEqual(patched(ast.parse(source)), ["_LIMIT", "_f", "_f"])

    def test_silence_is_found(self) -> None:
        """A test that reaches an assertion through others is no silent one."""
        source = (
            "def test_a(self):\n run()\n"
            "def test_b(self):\n helper()\n"
            "def helper():\n check()\n"
            "def check():\n assert x\n"
            "def test_c(self):\n self.assertTrue(x)\n"
        )
        self.assertEqual(silent([ast.parse(source)]), ["test_a"])


class TracebackTests(SynchronousTestCase):
    def test_any_traceback_fails_its_test(self) -> None:
        """Whatever a program says, prints or logs: no test passes beside a traceback."""
        said = "Traceback (most recent call last):\\n"
        for line in (
            f"import sys; sys.stderr.write('{said}')",
            f"print('{said}')",
            f"open('some.log', 'w').write('{said}')",
        ):

            class Shown(ProgramTestCase):
                def test_it(self) -> None:
                    self.scratch.start(sys.executable, "-c", line).wait()  # noqa: B023

            result = unittest.TestResult()
            Shown("test_it").run(result)
            self.assertEqual(len(result.failures) + len(result.errors), 1, line)
