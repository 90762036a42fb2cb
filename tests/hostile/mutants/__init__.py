"""Defences taken out one at a time: each must fail a test.  ``make mutants``.

``MUTANTS`` is the list: where docs/protocol.md or docs/store.md asks for it, what
it defends, the file, the code as it is, the code without it, and the tests that
ought to notice.  The code must stand in its file exactly once; the tests check
that, so that the list follows the code.  ``python -m tests.hostile.mutants``
copies the tree, and runs those tests once for each mutant.
"""

from __future__ import annotations

from tests.hostile.mutants import (
    _channel,
    _client,
    _etcd,
    _issuing,
    _kerberos,
    _kerberos_front,
    _protocol,
    _relay,
    _server,
    _store,
    _transfer,
    _wire,
)
from tests.hostile.mutants._mutant import TOP, Mutant, mutated
from tests.hostile.mutants._table import in_place, table

__all__ = ["MUTANTS", "TOP", "Mutant", "mutated", "with_table"]

MUTANTS: list[Mutant] = [
    *_wire.MUTANTS,
    *_protocol.MUTANTS,
    *_issuing.MUTANTS,
    *_client.MUTANTS,
    *_store.MUTANTS,
    *_etcd.MUTANTS,
    *_channel.MUTANTS,
    *_server.MUTANTS,
    *_transfer.MUTANTS,
    *_relay.MUTANTS,
    *_kerberos.MUTANTS,
    *_kerberos_front.MUTANTS,
]


def with_table(page: str) -> str:
    """Return docs/security.md with the list as it is."""
    return in_place(page, table(MUTANTS))
