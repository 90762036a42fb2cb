"""What is kept of the names that were told, for completion."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.commands.client.peers import default_path, remember


class PeersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "kdc" / "peers"

    def test_remember(self) -> None:
        """The last answer is all that is kept, for its owner only."""
        remember(["zoe", "alice"], self.path)
        remember(["carol", "bob"], self.path)
        self.assertEqual(self.path.read_text(), "bob\ncarol\n")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_no_place(self) -> None:
        """Where nothing can be kept, nobody hears of it."""
        self.path.parent.parent.mkdir(parents=True)
        self.path.parent.write_text("in the way")
        remember(["alice"], self.path)
        self.assertEqual(self.path.parent.read_text(), "in the way")

    def test_where(self) -> None:
        """Where the scripts look."""
        self.patch(os, "environ", {"XDG_CACHE_HOME": "/x", "HOME": "/h"})
        self.assertEqual(default_path(), Path("/x/kdc/peers"))
        self.patch(os, "environ", {"HOME": "/h"})
        self.assertEqual(default_path(), Path("/h/.cache/kdc/peers"))
