"""A KDC of principals in memory, its clock and randomness in the test's hands, and a client."""

from __future__ import annotations

import hashlib
from typing import Any

from kdc.kerberos.kdc import KDC, Answer
from kdc.kerberos.keys import Entry
from kdc.kerberos.messages import KRB_ERROR, KRBError
from kdc.kerberos.names import Principal, parsed
from kdc.kerberos.realm import Policy, Realm
from kdc.testing._database import Database
from kdc.testing.client import Client

__all__ = ["NOW", "REALM", "KDCOfTest", "random_of"]

REALM = "EXAMPLE.ORG"
NOW = 1_800_000_000.25


class random_of:
    """Bytes that look random, the same in each run."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._count = 0

    def __call__(self, length: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(self._seed + self._count.to_bytes(8, "big")).digest(length)


class KDCOfTest:
    """alice (password ``secret``), and the services ``host/web`` and ``HTTP/web``."""

    def __init__(self, **policy: Any) -> None:
        self.now = NOW
        self._clients = 0
        self.requests: list[bytes] = []
        self.answers: list[Answer] = []
        chosen = Policy(**policy)
        random = random_of("kdc")
        self.database = Database(REALM, chosen.etypes, random, lambda: self.now)
        self.database.create()
        self.alice = self.database.add("alice", "secret")
        self.web = self.database.add("HTTP/web", None)
        self.host = self.database.add("host/web", None)
        self.realm = Realm(REALM, self.database.entries.get, random, chosen)
        self.kdc = KDC(self.realm)

    def exchange(self, request: bytes) -> bytes:
        self.requests.append(request)
        self.answers.append(self.kdc.answer(request, self.now))
        return self.answers[-1].reply

    def client(self, ahead: float = 0) -> Client:
        self._clients += 1
        random = random_of(f"client {self._clients}")
        return Client(REALM, self.exchange, lambda: self.now + ahead, random)

    def principal(self, name: str) -> Principal:
        return parsed(name, REALM)

    def error(self, request: bytes) -> KRBError:
        """The error that ``request`` is answered with."""
        return KRB_ERROR.decode(self.exchange(request))

    def key_of(self, entry: Entry, etype: int = 18) -> Any:
        return entry.current.key(etype)
