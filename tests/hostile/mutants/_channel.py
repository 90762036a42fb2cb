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
            "        self._silent_beats = 0\n        if isinstance",
            "        if isinstance",
        ),
        (
            "6.2",
            "a silent peer is given up",
            "if self._silent_beats > _MOST_SILENT_BEATS:",
            "if False:",
        ),
        (
            "6.2",
            "data nobody took is not acknowledged",
            "        if self._ending in LOST:  # nobody has consumed that, and the peer must not think so\n            self._acknowledge(AckStatus.NOT_ALLOWED)\n            return\n",
            "",
        ),
    ),
]
