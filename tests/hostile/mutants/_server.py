"""docs/protocol.md sections 4 and 10: the KDC's connections."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *of(
        "kdc/server/_connections.py",
        "tests.server.test_connections",
        ("2", "ALPN", "if transport.negotiatedProtocol != ALPN:", "if False:"),
    ),
    *of(
        "kdc/server/_connections.py",
        "tests.server.test_connections.ArrivalTests tests.server.test_connections.FairnessTests",
        (
            "10",
            "arrivals that prove nothing",
            "if not self.arrivals.admit(address, self.now().milliseconds):",
            "if False:",
        ),
        (
            "10",
            "who proves is not counted",
            "        self.factory.arrivals.proved(self._address, self.factory.now().milliseconds)\n",
            "",
        ),
        (
            "10",
            "who is over its rate is not read",
            "        if rest is not None:\n            self._pause(rest / 1000)\n",
            "",
        ),
    ),
    *of(
        "kdc/server/_directory.py",
        "tests.server.test_directory",
        (
            "10",
            "a channel to the directory counts",
            "        self._directory.charge(addr.name, _CHANNEL_CHARGE)\n",
            "",
        ),
        (
            "10",
            "a question counts by what it costs",
            "            self.charge(client, len(self.store) / _NAMES_PER_CHARGE)\n",
            "            pass\n",
        ),
    ),
    *of(
        "kdc/issuing/_authentication.py",
        "tests.issuing.test_issuer",
        (
            "10",
            "a log-in that would wait too long",
            "    if owed_seconds > _PATIENCE_SECONDS:\n",
            "    if False:\n",
        ),
    ),
]
