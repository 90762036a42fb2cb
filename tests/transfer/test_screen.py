"""What a person at the receiver sees, and in which order."""

from __future__ import annotations

import io
import os
import sys

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kdc.transfer._screen import Screen
from kdc.transfer.consent import Consent
from kdc.transfer.messages import Offer
from kdc.transfer.progress import Progress
from tests.transfer.test_consent import SlowReactor


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ScreenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.terminal = Terminal()
        self.patch(sys, "stderr", self.terminal)
        self.patch(os, "environ", {"TERM": "xterm"})
        self.screen = Screen()

    def seen(self) -> str:
        """What came since this was called last."""
        text = self.terminal.getvalue()
        self.terminal.truncate(0)
        self.terminal.seek(0)
        return text

    def test_lines(self) -> None:
        """A line is not written behind what is drawn, but in its place."""
        watcher = self.screen.watch("alice", Offer(("a",)))
        self.screen._progress.wait("drawn")
        self.screen.say("a line")
        self.assertTrue(self.seen().endswith("drawn\r\x1b[Ka line\n"))
        watcher.close()
        self.assertEqual(self.seen(), "")

    def test_question(self) -> None:
        """Nothing comes into a question: what is drawn goes before it, lines come after it."""
        progress = Progress("x", 100)
        self.screen = Screen(progress)
        progress.wait("drawn")
        self.seen()
        self.screen.begin_question()
        self.assertEqual(self.seen(), "\r\x1b[K")
        self.screen.draw(progress, 5, "name")
        for line in ("one", "two"):
            self.screen.say(line)
        self.assertEqual(self.seen(), "")
        self.screen.end_question()
        self.assertEqual(self.seen(), "one\ntwo\n")
        self.screen.say("three")
        self.assertEqual(self.seen(), "three\n")

    def test_end(self) -> None:
        """What was held back is told when nobody is asked any more."""
        self.screen.begin_question()
        self.screen.say("received something")
        self.screen.close()
        self.screen.close()
        self.assertEqual(self.seen(), "\nreceived something\n")

    def test_until_the_question_is_gone(self) -> None:
        """A sender that leaves takes its question back, and only then others are heard."""
        reactor = SlowReactor()
        consent = Consent(reactor, ask=True, screen=self.screen)
        asked = [Deferred.fromCoroutine(consent(name, Offer(("a",)))) for name in ("a", "b")]
        for each in asked:
            _ = each.addErrback(lambda _: None)
        asked[0].cancel()
        self.screen.say("a has left")
        self.assertEqual((self.seen(), len(reactor.questions)), ("", 1))
        reactor.answer(False)
        self.assertEqual((self.seen(), len(reactor.questions)), ("a has left\n", 1))
        reactor.answer(True)
        self.successResultOf(asked[1])
