"""What is typed is named by command lines only: a library says which error it is, with facts."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from kdc.commands.hints import HINTS
from kdc.errors import ErrorKind
from tests.project.test_layers import sources, within

# A program, a word behind it, an option.
TYPED = re.compile(
    r"\bkdcclient\b|\btwistd\b|\bkdc (?:admin|completion|-)"
    r"|(?<![\w-])--(?:[a-z]|$)|(?<![\w-])-[a-zA-Z](?![\w-])"
)

# Reads what others type for another program, whose options these are.
OTHERS_LANGUAGE = tuple(
    f"kdc.testing.{name}" for name in ("_k5_places", "_kadmin", "_kinit", "k5", "shims")
)


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module, those in f-strings too; docstrings are nobody's but ours."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield from [node.value] if isinstance(node.value, str) else ()


def typed(source: str) -> list[str]:
    """Return the strings in ``source`` that name a command or an option."""
    return [text for text in texts(ast.parse(source)) if TYPED.search(text)]


def kinds(source: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the kind and the names of the facts of each error that ``source`` makes."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        given = {each.arg: each.value for each in call.keywords}
        if "kind" not in given:
            continue
        facts = given.get("facts", ast.Dict([], []))
        for node in ast.walk(given["kind"]):
            if not isinstance(node, ast.Attribute) or not node.attr.isupper():
                continue
            if getattr(node.value, "id", "") == "ErrorKind":
                assert isinstance(facts, ast.Dict), ast.unparse(call)
                yield node.attr, {ast.literal_eval(key) for key in facts.keys if key is not None}


class WordsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.modules = {
            module: path.read_text(encoding="utf-8")
            for module, path in sources().items()
            if not within(module, ["kdc.commands", *OTHERS_LANGUAGE])
        }

    def test_no_command_line(self) -> None:
        """Who uses the library from a program, or has other commands, is not told to type ours."""
        for module, source in self.modules.items():
            self.assertEqual(typed(source), [], module)

    def test_every_kind(self) -> None:
        """The table has words for each kind of error, and each kind happens."""
        self.assertEqual(set(HINTS), set(ErrorKind))
        used = "".join(self.modules.values())
        for kind in ErrorKind:
            self.assertIn(f"{ErrorKind.__name__}.{kind.name}", used)

    def test_facts(self) -> None:
        """An error brings what its words need."""
        found = [each for source in self.modules.values() for each in kinds(source)]
        self.assertGreater(len(found), len(ErrorKind) // 2)
        for kind, facts in found:
            fields = {field for _, field, _, _ in string.Formatter().parse(HINTS[ErrorKind[kind]])}
            self.assertEqual(facts, fields - {None}, kind)


class TypedTests(SynchronousTestCase):
    """The tests above see what they look for."""

    def test_named(self) -> None:
        """Programs, words and options are found, also in pieces of f-strings."""
        for source in (
            'raise E("x", hint="see kdcclient whoami")',
            'x = f"kdc admin -f {path} check"',
            'x = f"give it with --{key}"',
            'x = "give --listen"',
            'x = "use -f"',
            'x = "start twistd"',
        ):
            self.assertEqual(len(typed(source)), 1, source)
        for source in (
            '"""Asks ``kdcclient --listen``."""',
            'x = "kdc: realm LOCAL"',
            'x = "ten-a-day, a - b, 2026-11-27"',
            'x = "kdc-invite:1:"',
        ):
            self.assertEqual(typed(source), [], source)

    def test_kinds(self) -> None:
        """A kind is found with the names of its facts."""
        source = 'f(kind=ErrorKind.A, facts={"path": p}), f(kind=kind or ErrorKind.B)'
        self.assertEqual(list(kinds(source)), [("A", {"path"}), ("B", set())])
