"""What people are told to type next."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kdc.commands.hints import hint_of
from kdc.commands.tap import for_clients
from kdc.errors import ConfigurationError, ErrorKind, KDCError


class HintTests(SynchronousTestCase):
    def test_words_of_the_table(self) -> None:
        """They take the place of what a library can say, with the facts put in."""
        error = ConfigurationError(
            "missing",
            hint="look",
            kind=ErrorKind.SETTING_MISSING,
            facts={"key": "port", "path": "/etc/{x}"},
        )
        hint = hint_of(error)
        self.assertTrue(hint.startswith("give it with --port, or put it into /etc/{x};"), hint)

    def test_words_of_the_error(self) -> None:
        """An error that is in no table, or whose facts are another version's, has its own."""
        for error in (
            KDCError("no", hint="look"),
            KDCError("no", hint="look", kind=ErrorKind.SETTING_MISSING, facts={"place": "x"}),
        ):
            self.assertEqual(hint_of(error), "look")


class ForClientsTests(SynchronousTestCase):
    """What a KDC that starts says for people with clients."""

    def test_where(self) -> None:
        """The address that it listens on, unless that is all of them."""
        for host, told in (
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "THIS-HOST"),
            ("::", "THIS-HOST"),
        ):
            (line,) = for_clients(host, 88, "sha256:12")
            self.assertTrue(line.endswith(f" -a {told} -p 88 --kdc-fingerprint sha256:12"), line)
