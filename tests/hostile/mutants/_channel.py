"""docs/protocol.md sections 6 and 10: a channel on its transport."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *of(
        "kdc/channel/_channel.py",
        "tests.channel.test_channel tests.channel.test_idle tests.hostile.test_between.ChannelTests.test_a_record_that_never_ends",
        (
            "6.2",
            "only what is authentic is a sign of life",
            "        self._liveness.heard()\n        if isinstance",
            "        if isinstance",
        ),
        (
            "6.2",
            "data nobody took is not acknowledged",
            "        if self._ending in LOST:  # nobody has consumed that, and the peer must not think so\n            self._acknowledge(AckStatus.NOT_ALLOWED)\n            return\n",
            "",
        ),
    ),
    *of(
        "kdc/channel/_channel.py",
        "tests.channel.test_idle tests.channel.test_timers",
        ("10", "nothing happens to what is gone", "        self._timers.end()\n", ""),
        (
            "10",
            "a last word that nobody takes",
            "            self._within(LINGER_SECONDS, transport.abortConnection)\n",
            "",
        ),
        (
            "10",
            "an end that is never answered",
            "return Expected.ANSWER if stream.sent_end else Expected.NOTHING",
            "return Expected.NOTHING",
        ),
        (
            "10",
            "who does not read misses nothing",
            "stream is None or self._paused or",
            "stream is None or",
        ),
        ("10", "who is at work himself misses nothing", "or self._storing or", "or"),
    ),
    *of(
        "kdc/channel/_liveness.py",
        "tests.channel.test_idle",
        (
            "6.2",
            "a silent peer is given up",
            "        if self._owed is not Expected.NOTHING and",
            "        if self._owed is Expected.ANSWER and",
        ),
    ),
]
