"""docs/protocol.md section 6.6: what keeps a relay from harm, and others from a relay."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *of(
        "kdc/relay/_registry.py",
        "tests.relay.test_registry",
        (
            "6.6",
            "a claim of what is another's",
            "        if not owned:\n            return Verdict.NOT_YOURS\n",
            "",
        ),
        (
            "6.6",
            "claims without end",
            "len(linked.claimed) >= self.limits.epochs_per_link",
            "False",
        ),
        (
            "6.6",
            "a token twice",
            "self._waiting.pop(token, (None, now))",
            "self._waiting.get(token, (None, now))",
        ),
        (
            "10",
            "joined connections without end",
            "        if count >= getattr(self.limits, limit):\n",
            "        if count > getattr(self.limits, limit):\n",
        ),
    ),
    *of(
        "kdc/relay/_port.py",
        "tests.relay.test_port",
        (
            "10",
            "time for the first bytes",
            "self._deadline.within(self._port.registry.limits.first_seconds, self._too_slow)",
            "self._deadline.within(3600, self._too_slow)",
        ),
        (
            "10",
            "no more than 64 bytes before it is known what comes",
            "        read_at_once(self._raw, FIRST_BYTES)\n",
            "",
        ),
        (
            "10",
            "a sender waits ten seconds",
            "        sender.wait(registry.limits.token_seconds)\n",
            "",
        ),
        (
            "10",
            "a joined connection on which nothing moves",
            "        if self._seen == moved:\n",
            "        if False:\n",
        ),
        (
            "10",
            "a joined connection of which both halves have ended",
            "        if self._read_ended and self._shut:\n            self._transport.loseConnection()\n",
            "        pass\n",
        ),
    ),
    *of(
        "kdc/relay/_links.py",
        "tests.relay.test_port",
        (
            "10",
            "a receiver that does not read its link",
            "            self._deaf.within(_DEAF_SECONDS, self.drop)\n",
            "",
        ),
        (
            "6.6",
            "no scanner: seldom",
            " or links.dials.take(self._peer.name, links.now())",
            "",
        ),
        ("6.6", "no scanner: one at a time", "if self._dialling or", "if"),
    ),
    *of(
        "kdc/channel/relayed.py",
        "tests.relay.test_relay",
        (
            "6.6",
            "that something answers at our address does not mean that it is us",
            "or body != dial_back(self._nonce)[2:]",
            "",
        ),
        (
            "6.6",
            "a receiver comes for epochs of its own only",
            "if message.epoch_id in self._held and",
            "if",
        ),
        (
            "6.6",
            "a receiver comes to so many calls at a time",
            " and self._coming < _MOST_COMING:",
            ":",
        ),
        (
            "6.6",
            "a relay that cuts its links off is not asked again and again",
            "if await self._linked() > _MOST_PAUSE_SECONDS:",
            "if await self._linked() >= 0:",
        ),
    ),
    *of(
        "kdc/channel/_ways.py",
        "tests.channel.test_ways",
        (
            "6.6",
            "one 309 goes out on one connection: the first is given up before the relay",
            "                    connecting.end()\n                    self._failed",
            "                    self._failed",
        ),
    ),
    *of(
        "kdc/tunnel/datagrams.py",
        "tests.tunnel.test_datagrams",
        (
            "10",
            "no more channels are being opened than there may be",
            "            self.opening.cancel()\n",
            "            pass\n",
        ),
    ),
    *of(
        "kdc/net/splice.py",
        "tests.relay.test_port tests.relay.test_ends tests.tunnel.test_tunnel tests.net.test_splice",
        (
            "6.6",
            "a cut is no end",
            "        if broken is None:\n",
            "        if True:\n",
        ),
        (
            "6.6",
            "what comes later passes nothing that waits",
            "if not (self._behind or",
            "if not (False or",
        ),
        (
            "10",
            "who does not read holds the other up",
            "            self._other._producer.pauseProducing()\n",
            "            pass\n",
        ),
    ),
]
