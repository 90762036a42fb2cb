"""Why a connection failed, in a few words."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from kdc.net.retry import reason_of


class ReasonTests(SynchronousTestCase):
    def test_reasons(self) -> None:
        """What the system says, and of a host that does not exist more than its name again."""
        for error, said in (
            (ConnectionRefusedError("111: no"), "no"),
            (DNSLookupError("no results for hostname lookup: a.invalid"), "there is no host"),
        ):
            self.assertIn(said.lower(), reason_of(error).lower())
