"""Names, realms and passphrases: one spelling each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.protocol.names import (
    check_address,
    check_name,
    check_realm,
    fold_name,
    normal_passphrase,
    plain_address,
)
from tests.support.core import PROPERTY

GOOD_NAMES = ["a", "0", "bob", "bob.smith", "7of9", "a_b-c.d", "a" * 64, "a.", "a--"]
BAD_NAMES = [
    "",
    "a" * 65,
    "Bob",
    ".bob",
    "-bob",
    "_bob",
    "bob smith",
    "bob\n",
    "\nbob",
    "bob\0",
    "bob:x",
    "../bob",
    "bob/x",
    "bob@LOCAL",
    "b\u00f6b",
    "b\u043eb",  # a Cyrillic letter that looks like an o
    "\uff42ob",
    "bob\u200b",
]


class NameTests(SynchronousTestCase):
    def test_good_names(self) -> None:
        """1 to 64 of a-z 0-9 . _ -, a letter or digit first."""
        for name in GOOD_NAMES:
            self.assertEqual(check_name(name), name)

    def test_bad_names(self) -> None:
        """Whatever else is no name: not folded, not trimmed, refused."""
        for name in BAD_NAMES:
            self.assertRaises(ValueError, check_name, name)

    def test_quoted_in_short(self) -> None:
        """The error shows what was wrong, on one line, however long it was."""
        error = str(self.assertRaises(ValueError, check_name, "A\n" * 5000))
        self.assertIn("A\\n", error)
        self.assertNotIn("\n", error)
        self.assertLess(len(error), 300)

    def test_typed_capitals_are_folded(self) -> None:
        """Bob is bob for a person at a keyboard."""
        self.assertEqual(fold_name("Bob.Smith"), "bob.smith")

    def test_look_alikes_are_not_folded(self) -> None:
        """The Kelvin sign's small letter is an ASCII k: nobody becomes kim by it."""
        for typed in ("\u212aim", "K\u0130M", "\uff22ob", " bob", "bob "):
            self.assertRaises(ValueError, fold_name, typed)

    @PROPERTY
    @given(st.text(max_size=70))
    def test_any_text_is_a_name_or_is_refused(self, text: str) -> None:
        """There is no third way, and what is accepted is unchanged."""
        try:
            self.assertEqual(check_name(text), text)
        except ValueError:
            return
        self.assertTrue(text.isascii() and text == text.lower() and 1 <= len(text) <= 64)


class AddressTests(SynchronousTestCase):
    def test_one_spelling(self) -> None:
        """None, or what ipaddress prints."""
        for address in ("", "192.0.2.7", "::1", "2001:db8::7", "fe80::1"):
            self.assertEqual(check_address(address), address)
            self.assertEqual(plain_address(address), address)

    def test_other_spellings(self) -> None:
        """On the wire they are refused; what a person typed becomes the one."""
        for typed, address in (
            ("2001:DB8::7", "2001:db8::7"),
            ("2001:db8:0:0:0:0:0:7", "2001:db8::7"),
            ("2001:db8::0007", "2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:c000:207", "192.0.2.7"),
        ):
            self.assertRaises(ValueError, check_address, typed)
            self.assertEqual(plain_address(typed), address)

    def test_no_addresses(self) -> None:
        """Names, scopes, masks, numbers: refused, typed or not."""
        for typed in ("localhost", "fe80::1%eth0", "192.0.2.0/24", "192.0.2", "192.0.2.07", " ::1"):
            self.assertRaises(ValueError, check_address, typed)
            self.assertRaises(ValueError, plain_address, typed)


class RealmTests(SynchronousTestCase):
    def test_realms(self) -> None:
        """1 to 64 of A-Z a-z 0-9 . -, capitals being other letters."""
        for realm in ("LOCAL", "example.org", "A-1", "r" * 64):
            self.assertEqual(check_realm(realm), realm)
        for realm in ("", "r" * 65, "LO CAL", "LOCAL\n", "LOC_AL", "\u00c4", "A:B", "A/B"):
            self.assertRaises(ValueError, check_realm, realm)


class PassphraseTests(SynchronousTestCase):
    def test_same_text_same_bytes(self) -> None:
        """An accented letter is one letter, however the keyboard composed it."""
        self.assertEqual(normal_passphrase("cafe\u0301"), normal_passphrase("caf\u00e9"))
        self.assertEqual(normal_passphrase("caf\u00e9"), b"caf\xc3\xa9")

    def test_nothing_else_is_changed(self) -> None:
        """Spaces and capitals count; compatibility letters (NFKC) are not folded."""
        self.assertEqual(normal_passphrase("  Two  words "), b"  Two  words ")
        self.assertEqual(normal_passphrase("\ufb01x"), "\ufb01x".encode())

    def test_bounds(self) -> None:
        """1 to 1,024 bytes, counted after normalisation."""
        self.assertEqual(normal_passphrase("x"), b"x")
        self.assertEqual(len(normal_passphrase("x" * 1024)), 1024)
        self.assertEqual(len(normal_passphrase("e\u0301" * 512)), 1024)
        for typed in ("", "x" * 1025, "\u00e9" * 513):
            self.assertRaises(ValueError, normal_passphrase, typed)

    def test_control_characters(self) -> None:
        """A new line pasted along, or half a surrogate pair, is refused and never quoted."""
        for char in ("\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\ud800"):
            error = self.assertRaises(ValueError, normal_passphrase, f"hunter2{char}")
            self.assertNotIn("hunter2", str(error))

    def test_too_long_is_not_quoted(self) -> None:
        """No error shows a passphrase."""
        error = self.assertRaises(ValueError, normal_passphrase, "hunter2" * 200)
        self.assertNotIn("hunter2", str(error))
