"""Secrets are compared by one function, which takes as long whatever they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.constant_time import same

TOP = Path(__file__).parent.parent.parent
# What is a secret, or proves that somebody knows one, is called so.  (A ``verify_key`` is public.)
_SECRET = re.compile(
    r"(^|_)(code|digest|fingerprint|invitation|mac|master|passphrase|proof|secret|tag|token"
    r"|(reply|session|signing|ticket|private)_key)$"
)
_COMPARED = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)
# (module, what is compared): no secret is compared there.
ALLOWED = {
    # Which error it is.
    ("kdc/testing/client.py", "refused.error.code != Code.PREAUTH_REQUIRED"),
    # Whether text has the one form that its own bytes have.
    ("kdc/store/sealed/lines.py", "binascii.b2a_base64(sealed, newline=False) != digest"),
}


def name_of(node: ast.AST) -> str:
    """The last word of what an expression is called."""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    return getattr(node, "attr", getattr(node, "id", ""))


def compared(tree: ast.AST) -> Iterator[str]:
    """Each comparison of what is called as a secret is."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], _COMPARED):
            continue
        sides = [node.left, *node.comparators]
        empty = any(isinstance(side, ast.Constant) for side in sides)
        if not empty and any(_SECRET.search(name_of(side)) for side in sides):
            yield ast.unparse(node)


class ConstantTimeTests(SynchronousTestCase):
    def test_the_one_function(self) -> None:
        """It says whether all of it is the same."""
        self.assertTrue(same(b"secret", b"secret"))
        for other in (b"Secret", b"secreT", b"secre", b"secrets", b"", b"\0" * 6):
            self.assertFalse(same(b"secret", other))
            self.assertFalse(same(other, b"secret"))

    def test_no_other_comparison(self) -> None:
        """Nothing called as a secret is has ``==``, ``!=`` or ``in`` beside it."""
        found = {
            (module, text)
            for path in sorted((TOP / "kdc").rglob("*.py"))
            for module in [str(path.relative_to(TOP))]
            for text in compared(ast.parse(path.read_text(encoding="utf-8")))
        }
        self.assertEqual(found, ALLOWED)

    def test_the_search_finds(self) -> None:
        """Comparisons of secrets, however they are spelled."""
        for text in (
            "proof == keys.proof",
            "record.reply_key != request.reply_key",
            "mac.digest() == found[1:]",
            "code in codes",
            "self._token() == token",
        ):
            self.assertEqual(list(compared(ast.parse(text))), [text])
        for text in ("invitation != b''", "name == other", "same(proof, keys.proof)", "key < 3"):
            self.assertEqual(list(compared(ast.parse(text))), [])

    def test_nobody_else_has_one(self) -> None:
        """The library's function for it is called there, and nowhere else."""
        users = [
            str(path.relative_to(TOP))
            for path in sorted((TOP / "kdc").rglob("*.py"))
            if "compare_digest" in path.read_text(encoding="utf-8")
        ]
        self.assertEqual(users, ["kdc/constant_time.py"])
