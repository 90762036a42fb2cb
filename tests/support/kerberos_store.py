"""A KDC for Kerberos over a store in memory: alice, who has no key there, and the machine web1."""

from __future__ import annotations

import os
from typing import Any

import attrs

from kdc.admin._request import Context
from kdc.admin.principals import administer
from kdc.issuing.decisions import Audit, Enrolment
from kdc.issuing.permits import Permits
from kdc.issuing.realm import Realm as Issuing
from kdc.kerberos.initial import initial_ticket
from kdc.kerberos.keytab import read_keytab
from kdc.kerberos.names import Principal
from kdc.kerberos.profile import Key
from kdc.kerberos_store import keytab_of
from kdc.server._kerberos import KerberosRealm
from kdc.server.kerberos_settings import KerberosSettings
from kdc.store import Create, Record, Replace
from kdc.store.memory import MemoryStore
from kdc.testing.client import Client
from tests.support.kerberos import NOW, REALM
from tests.support.store_conformance import active, token

__all__ = ["StoreOfTest"]

ADDRESS = "192.0.2.7"


class StoreOfTest:
    """``web1`` has the services ``HTTP/web`` and ``host/web``; ``bob`` has ``HTTP/bob``."""

    def __init__(self, **settings: Any) -> None:
        self.now = NOW
        self.lines: list[Audit] = []
        self.current = True
        self.audited: list[tuple[str, str, str]] = []
        self.store = MemoryStore(REALM)
        old = int(NOW) - 10_000
        for number, name in enumerate(("alice", "web1", "bob", "carol")):
            self.store.apply([Create(active(name, changed_time=old), token(number + 1))])
        self.issuing = Issuing(
            REALM,
            find=self.store.get,
            audit=self.lines.append,
            random=os.urandom,
            enrolment=Enrolment.OPEN,
        )
        self.realm = self.new_realm(**settings)
        self.ask("kerberos-enable")
        self.ask("kerberos-services", name="web1", add=["HTTP/web", "host/web"])
        self.ask("kerberos-services", name="bob", add=["HTTP/bob"])
        self.addresses = [ADDRESS]

    def new_realm(self, **settings: Any) -> KerberosRealm:
        return KerberosRealm(
            KerberosSettings(advice="there are no passwords here", **settings),
            store=self.store,
            issuing=self.issuing,
            current=lambda now: self.current,
            tell=self.lines.append,
            wall=lambda: self.now,
        )

    def ask(self, command: str, **request: Any) -> list[dict[str, Any]]:
        """What an operator asks for."""
        context = Context(
            now=int(self.now),
            random=os.urandom,
            audit=lambda *line: self.audited.append(line),
            where=lambda: ("", 0, ""),
            rotate_tls=lambda: "",
        )
        return list(administer(self.store, {"command": command, **request}, context))

    def record(self, name: str) -> Record:
        record = self.store.get(name)
        assert record is not None
        return record

    def change(self, name: str, **fields: Any) -> None:
        record = self.record(name)
        self.store.apply([Replace(attrs.evolve(record, **fields), record.generation)])

    def permit(self, rules: dict[str, list[str]]) -> None:
        self.issuing.permits = Permits(rules)

    def client(self) -> Client:
        return Client(REALM, lambda data: self.realm.request(data, ADDRESS), lambda: self.now)

    def tgt(self, name: str, **wanted: Any) -> Any:
        """What `kdcclient kinit` gets."""
        principal = Principal((name,), REALM)
        return initial_ticket(self.realm.realm, principal, int(self.now), **wanted)

    def principal(self, name: str) -> Principal:
        return Principal(tuple(name.split("/")), REALM)

    def keys(self, name: str) -> Any:
        """Return the newest key of a machine for each type, as its keytab has it."""
        entries = read_keytab(keytab_of(self.record(name), REALM, [name]))

        def of(etype: int) -> Key:
            return next(entry.key for entry in entries if entry.key.etype == etype)

        return of
