"""Where files are opened by their paths: in one place, or for a reason that stands here."""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

KDC = Path(__file__).parent.parent.parent / "kdc"

_TERMINAL = "the terminal of whoever has started us"
# What opens something otherwise than by `open_regular`, and what that is.  A directory
# (O_DIRECTORY) and a new file (O_EXCL, which follows no link) need no other reason.
OTHERS = {
    ("files/opening.py", "open_regular"): "the one place",
    ("client/_first_contact.py", "_person_accepts"): _TERMINAL,
    ("terminal.py", "confirm"): _TERMINAL,
    ("terminal.py", "_opened"): _TERMINAL,
    ("terminal.py", "_opened.opener"): _TERMINAL,
    ("terminal.py", "has_terminal"): _TERMINAL,
    ("files/streams.py", "open_stream"): "a FIFO or device to write to, which does not wait",
    ("files/streams.py", "own_stream"): "a pipe that we were started with, which does not wait",
    ("terminal.py", "end_line"): _TERMINAL,
    ("transfer/source.py", "_opened"): "what is to be sent, a FIFO too; it does not wait",
    ("commands/main.py", "_give_up_output"): "/dev/null",
    ("commands/serve.py", "_leave_terminal"): "/dev/null",
    ("commands/streams.py", "_open_null"): "/dev/null",
    ("commands/streams.py", "open_standard_streams"): "descriptors that are open already",
}
_TEST = "a test's own files, named by the test"
OTHERS |= dict.fromkeys(
    (
        ("testing/_kadmin.py", "_export"),
        ("testing/_kinit.py", "_content"),
        ("testing/_statefile.py", "load"),
        ("testing/_statefile.py", "locked"),
        ("testing/shims.py", "_text"),
        ("testing/shims.py", "write_shims"),
    ),
    _TEST,
)
_METHODS = ("read_text", "read_bytes", "write_text", "write_bytes", "touch")


def openings(tree: ast.AST, names: dict[str, Any], inside: str = "") -> Iterator[str]:
    """Yield the name of the function around each call that may open what is there by its path."""
    for node in ast.iter_child_nodes(tree):
        here = inside
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            here = f"{inside}.{node.name}".lstrip(".")
        elif isinstance(node, ast.Call) and _opens(node, names):
            yield inside
        yield from openings(node, names, here)


def _opens(call: ast.Call, names: dict[str, Any]) -> bool:
    match call.func:
        case ast.Attribute(ast.Name("os"), "open"):
            flags = _value(call.args[1], names)
            return not flags & os.O_DIRECTORY and not flags & os.O_EXCL
        case ast.Name("open") | ast.Attribute(ast.Name("io" | "codecs"), "open"):
            return True
        case ast.Attribute(_, attr) if attr in _METHODS:
            return True
        case ast.Attribute(_, "open"):
            # Of a path: what else is called so takes no mode.
            modes = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "mode")]
            words = [word.arg for word in call.keywords]
            return "encoding" in words or any(
                isinstance(mode, ast.Constant) and isinstance(mode.value, str) for mode in modes
            )
    return False


def _value(flags: ast.expr, names: dict[str, Any]) -> int:
    """What the flags are, as far as the module's own names tell."""
    try:
        return int(eval(ast.unparse(flags), names))  # noqa: S307 - our own code
    except NameError:
        return 0


class OpeningTests(SynchronousTestCase):
    def test_each_has_its_reason(self) -> None:
        """A path that is opened otherwise than by `open_regular` is opened so for a reason."""
        found = set()
        for path in KDC.rglob("*.py"):
            name = ".".join(path.relative_to(KDC.parent).with_suffix("").parts)
            names = vars(importlib.import_module(name.removesuffix(".__init__")))
            for function in openings(ast.parse(path.read_text()), dict(names)):
                found.add((str(path.relative_to(KDC)), function))
        self.assertEqual(found, set(OTHERS))

    def test_what_is_found(self) -> None:
        """Each way to open a file is noticed, and what only has the name is not."""
        for line in (
            "open(path)",
            "os.open(path, os.O_RDONLY)",
            "os.open(path, os.O_CREAT | os.O_WRONLY, dir_fd=3)",
            "os.open(path, unknown | os.O_EXCL)",
            "io.open(path)",
            "path.open('rb')",
            "path.open(mode='w')",
            "path.open(encoding='ascii')",
            "path.read_text()",
            "self.path.write_bytes(b'')",
        ):
            found = list(
                openings(ast.parse(f"class C:\n def f(self):\n  return {line}"), {"os": os})
            )
            self.assertEqual(found, ["C.f"], line)
        for line in (
            "box.open(sealed, b'')",
            "place.open()",
            "Client.open(reactor, name='a')",
            "os.open(path, os.O_RDONLY | os.O_DIRECTORY)",
            "os.open(path, os.O_CREAT | os.O_EXCL)",
        ):
            self.assertEqual(list(openings(ast.parse(line), {"os": os})), [], line)
