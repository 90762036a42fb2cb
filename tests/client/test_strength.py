"""What is said about a new passphrase."""

from __future__ import annotations

import hashlib
import sys

from twisted.trial.unittest import SynchronousTestCase

from kdc.client._strength import remark_on


class RemarkTests(SynchronousTestCase):
    def test_guessed_soon(self) -> None:
        """One that others have, too, or that is the name, is told; none of it is repeated."""
        for passphrase in ("12345678", "qwertyuiop", "alice1234"):
            remark = remark_on(passphrase, "alice")
            self.assertIn("guesses", remark)
            self.assertNotIn(passphrase, remark)

    def test_good(self) -> None:
        """There is nothing to say, however long it is."""
        for passphrase in (
            "korrekt hoarse stapler battle",
            "ünïcode \u26bf and more",
            hashlib.sha512(b"").hexdigest() * 8,
        ):
            self.assertEqual(remark_on(passphrase, "alice"), "")

    def test_not_installed(self) -> None:
        """Without the library nothing is said."""
        self.assertNotEqual(remark_on("password", "alice"), "")
        self.addCleanup(sys.modules.__setitem__, "zxcvbn", sys.modules["zxcvbn"])
        sys.modules["zxcvbn"] = None  # type: ignore[assignment]
        self.assertEqual(remark_on("password", "alice"), "")
