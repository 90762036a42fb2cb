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
]
