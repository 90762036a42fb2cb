"""What is remembered of requests is bounded, by time and by number."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kdc.kerberos.kdc import Answer
from kdc.kerberos.replay import Authenticators, LookAside


class LookAsideTests(SynchronousTestCase):
    def test_number(self) -> None:
        """The oldest go: beyond ten thousand answers, or eight MiB of them."""
        long = bytes((1 << 20) - 1)
        for count, behind, reply in ((10_001, b"", b"x"), (9, b"", long), (9, long, b"")):
            answers: LookAside[Answer] = LookAside()
            answer = Answer(reply)
            for number in range(count):
                answers.put(b"%d" % number + behind, answer, 0)
            self.assertIsNone(answers.get(b"0" + behind, 0))
            self.assertEqual(answers.get(b"%d" % (count - 1) + behind, 0), answer)
            self.assertEqual(answers.get(b"2" + behind, 0), answer)

    def test_cleared(self) -> None:
        answers: LookAside[Answer] = LookAside()
        answers.put(b"a", Answer(b"b"), 0)
        answers.clear()
        self.assertIsNone(answers.get(b"a", 0))


class AuthenticatorTests(SynchronousTestCase):
    def test_number(self) -> None:
        """The newest ten thousand are known again."""
        used = Authenticators()
        for number in range(10_001):
            self.assertTrue(used.is_new(b"%d" % number, 0, 600))
        self.assertFalse(used.is_new(b"10000", 0, 600))
        self.assertTrue(used.is_new(b"0", 0, 600))

    def test_time(self) -> None:
        """As long as they could be used again, and no longer."""
        used = Authenticators()
        used.is_new(b"a", 0, 600)
        self.assertFalse(used.is_new(b"a", 600, 600))
        self.assertTrue(used.is_new(b"a", 601, 600))
