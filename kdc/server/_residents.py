"""Receivers that live in the KDC's own process: their key, their name, their way to the KDC.

To the protocol they are principals like any other, which happen to need no
network to reach the KDC.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Pin
from kdc.client.secret import SecretSource, write_key_file
from kdc.errors import ConfigurationError, ErrorKind
from kdc.issuing.decisions import Audit
from kdc.issuing.realm import Realm
from kdc.net.sockets import tcp_endpoint
from kdc.protocol.crypto import LongTermKeys, same
from kdc.store import Create, Outcome, Record, Status, Store

__all__ = ["Resident", "at_once"]


@attrs.frozen
class _OurOwn:
    """The KDC's identity, for the KDC itself: whatever it shows at the moment."""

    fingerprint: Callable[[], str]

    def prepare(self, context: SSL.Context) -> None:
        Pin("").prepare(context)

    def check(self, connection: SSL.Connection) -> None:
        Pin(self.fingerprint(), "the KDC that it is part of").check(connection)


@attrs.frozen
class Resident:
    """One of them: ``name``, its key file, made if missing, and ``what`` it is to people.

    ``otherwise`` says what to do where the name is somebody else's, which is the
    error ``taken``.
    """

    name: str
    key_file: Path
    what: str
    otherwise: str
    taken: ErrorKind

    def client(
        self,
        reactor: Any,
        realm: Realm,
        store: Store,
        fingerprint: Callable[[], str],
        place: tuple[str, int],
        unix_seconds: int,
    ) -> KDCClient:
        """Be registered; return what speaks to the KDC, which is at ``place``.

        Blocking.  Raises `KDCError`.
        """
        keys = self._keys(realm.name)
        self._register(keys, realm, store, unix_seconds)
        host, port = place
        return KDCClient(
            reactor=reactor,
            endpoint=tcp_endpoint(reactor, host, port),
            tls=ClientTLS(_OurOwn(fingerprint), host),
            keys=keys,
            where=f"{host} port {port}",
        )

    def _keys(self, realm: str) -> LongTermKeys:
        if not os.path.lexists(self.key_file):
            write_key_file(self.key_file)
        return SecretSource(key_file=self.key_file).keys(realm, self.name)

    def _register(self, keys: LongTermKeys, realm: Realm, store: Store, unix_seconds: int) -> None:
        """Straight into the store: what invitations are for is settled by whose process it is."""
        name = self.name
        record = store.get(name)
        if record is None:
            new = Record(
                name,
                Status.ACTIVE,
                verify_key=keys.verify_key,
                reply_key=keys.reply_key,
                changed_time=unix_seconds,
            )
            (result,) = store.apply([Create(new, os.urandom(16))])
            if result.outcome is Outcome.DONE:
                realm.audit(Audit("registered", name, "local"))
            record = result.record
        own = record is not None and same(record.verify_key, keys.verify_key)
        if record is None or record.status is not Status.ACTIVE or not own:
            raise ConfigurationError(
                f"the name {name} is not the {self.what}'s: it is another principal, deleted or"
                f" disabled, or its key is not the one in {self.key_file}",
                hint=self.otherwise,
                kind=self.taken,
                facts={"name": name},
            )


def at_once(binding: Coroutine[Deferred[Any], Any, None]) -> None:
    """Whatever a port needs, it is bound, or not, before this returns."""
    failed: list[Failure] = []
    _ = Deferred.fromCoroutine(binding).addErrback(failed.append)
    if failed:
        failed[0].raiseException()
