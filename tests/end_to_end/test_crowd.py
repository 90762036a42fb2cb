"""Two hundred senders to one receiver at the same time."""

from __future__ import annotations

import re
import sys

from tests.support.crowd import SIZES, content_of, name_of
from tests.support.processes import ProgramTestCase


class CrowdTests(ProgramTestCase):
    """Everybody at once."""

    def test_two_hundred_senders(self) -> None:
        """Each of them is new to the KDC, and each file arrives whole."""
        # All come from one address here; sixteen strangers at a time would be let in.
        kdc = self.kdc("--limit", "unauthenticated-per-address=256")
        inbox = self.directory / "inbox"
        inbox.mkdir()
        receiver = self.receiver(kdc, "bob", "--inbox", str(inbox))
        halves = [
            self.scratch.start(
                *(sys.executable, "-m", "tests.support.crowd"),
                *(kdc.host, str(kdc.port), kdc.fingerprint, str(first), "98"),
            )
            for first in (0, 98)
        ]
        numbers = range(196, 200)
        single = [
            self.send(kdc, name_of(n), "bob", self.file(f"{name_of(n)}.bin", content_of(n)))
            for n in numbers
        ]
        for program in (*halves, *single):
            self.assert_ends(program, 0, "who has it on disk")

        # The receiver keeps notes until it knows that the senders know.
        self.eventually("nothing else is there", lambda: len(list(inbox.iterdir())) == 200)
        for number in range(200):
            received = (inbox / f"{name_of(number)}.bin").read_bytes()
            self.assertEqual(len(received), SIZES[number % len(SIZES)])
            self.assertTrue(received == content_of(number), name_of(number))
        self.assertEqual(len(re.findall(r" bytes? in ", receiver.said)), 200)
        self.assertEqual(receiver.said.count("nothing was kept"), 0)
        self.one_transfer(kdc)
