"""Which names may be sent: a rule that is written out, and the same for every version."""

from __future__ import annotations

import sys
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.hostile_text import shown
from kdc.transfer.messages import Item, Kind
from kdc.transfer.names import MAX_NAME_BYTES, safe_name, safe_path
from tests.support.core import PROPERTY

# Written a second time, as docs/protocol.md has it.
REFUSED = (
    *((0x00, 0x1F), (0x7F, 0x9F), (0x2028, 0x2029), (0x202A, 0x202E), (0x2066, 0x2069)),
    *((0xD800, 0xDFFF), (0x2F, 0x2F), (0x5C, 0x5C)),
)


def is_safe(check: Callable[[str], object], name: str) -> bool:
    try:
        check(name)
    except ValueError:
        return False
    return True


def may_stand(letter: str) -> bool:
    return not any(first <= ord(letter) <= last for first, last in REFUSED)


class SafeNameTests(SynchronousTestCase):
    UNSAFE = (
        *("", ".", "..", "/", "a\\b", "a\0b", "a\nb", "Icon\r", "a\tb", "\x1b[2J", "a\x7f"),
        *("\x9b2J", "\u202egpj.exe", "\u2066a", "\u2028", "\u2029", "\ud800", "\udcff"),
        *("x" * 256, "名" * 86),
    )

    def test_safe(self) -> None:
        """Ordinary names stay as they are; so do those with unusual blanks, or new letters."""
        for name in (
            *("report.pdf", "a", "Übersicht 2026 (2).txt", "x" * 255, "名" * 85, "a..b", "~"),
            "Screenshot 2026-11-27 at 10.32.07\u202fAM.png",
            *("a\u00a0b", "نام\u200cها", "\u200fשלום", "e\u0301", "\U0001f469\u200d\U0001f52c"),
            *("\ue000", "\U0003ffff", "\u0378", "soft\u00adhyphen", "\ufeffbom", "a\u3000b"),
        ):
            self.assertEqual(safe_name(name), name)
            self.assertEqual(safe_path(f"d/{name}"), ("d", name))

    def test_unsafe(self) -> None:
        """Paths, hidden files, options, and what a terminal would obey are refused."""
        for name in (*self.UNSAFE, "a/b", "../a", ".bashrc", "-rf", "--help"):
            self.assertRaises(ValueError, safe_name, name)
        for name in self.UNSAFE:
            self.assertRaises(ValueError, safe_path, f"d/{name}")
            self.assertRaises(ValueError, safe_path, f"d/{name}/x")
            self.assertRaises(ValueError, Item, Kind.FILE, name, 0)

    def test_why(self) -> None:
        """What is wrong with a name is said, in a line that a terminal does not obey."""
        for name, why in (
            ("Icon\r", "U+000D"),
            ("\u202egpj.exe", "U+202E"),
            ("a\udcffb", "not UTF-8"),
            ("x" * 300, "300 bytes, and 255"),
            ("a\\b", "a \\ in it"),
            (".ssh", "begins with ."),
            ("-rf", "begins with -"),
        ):
            error = str(self.assertRaises(ValueError, safe_name, name))
            self.assertIn(why, error)
            self.assertTrue(error.isprintable(), error)
        error = str(self.assertRaises(ValueError, safe_path, "a/" + "x" * 4998))
        self.assertIn("5000 bytes", error)

    def test_every_letter(self) -> None:
        """The rule is the one of the page, for each of Unicode's numbers, assigned or not."""
        for code in range(sys.maxunicode + 1):
            letter = chr(code)
            if is_safe(safe_path, f"d/a{letter}b") is not may_stand(letter) and letter != "/":
                self.fail(f"U+{code:04X}")

    def test_below(self) -> None:
        """In a directory that was wanted, names may be hidden; at the top they may not."""
        self.assertEqual(safe_path("d/.git/-x"), ("d", ".git", "-x"))
        self.assertRaises(ValueError, safe_path, ".git/x")

    def test_depth_and_length(self) -> None:
        """Paths are bounded."""
        self.assertEqual(len(safe_path("/".join("x" * 64))), 64)
        self.assertRaises(ValueError, safe_path, "/".join("x" * 65))
        self.assertRaises(ValueError, safe_path, "/".join(["x" * 200] * 21))

    @PROPERTY
    @given(st.lists(st.text(max_size=80), max_size=5))
    def test_any_path(self, parts: list[str]) -> None:
        """What passes stays below its top, and each part is one that a directory can hold."""
        path = "/".join(parts)
        if is_safe(safe_path, path):
            for part in safe_path(path):
                self.assertNotIn(part, ("", ".", ".."))
                self.assertNotIn("/", part)
                self.assertNotIn("\0", part)
                self.assertLessEqual(len(part.encode()), MAX_NAME_BYTES)

    @PROPERTY
    @given(st.text(st.characters(), min_size=1, max_size=100))
    def test_any_name(self, name: str) -> None:
        """What is refused has a reason on the page; whatever is taken can be shown."""
        expected = (
            all(map(may_stand, name))
            and not name.startswith((".", "-"))
            and len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES
        )
        self.assertIs(is_safe(safe_name, name), expected)
        if expected:
            self.assertTrue(all(may_stand(letter) or letter in "/\\" for letter in shown(name)))
