"""Receivers that live in the KDC's own process: their key, their name, their way to the KDC.

To the protocol they are principals like any other, which happen to need no
network to reach the KDC.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.failure import Failure

from kdc.channel.listening import Listening
from kdc.channel.services import Service
from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Pin
from kdc.client.secret import SecretSource, write_key_file
from kdc.errors import ConfigurationError, ErrorKind, KDCError
from kdc.issuing.decisions import Audit
from kdc.issuing.realm import Realm
from kdc.net.log import Logger
from kdc.net.sockets import tcp_endpoint
from kdc.protocol.crypto import LongTermKeys, same
from kdc.protocol.relay import Reach
from kdc.store import Create, Outcome, Record, Status, Store

__all__ = ["Asking", "QuestionPort", "Resident", "at_once"]

_MAX_OPEN_OF_ONE = 4


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


class Asking(Protocol):
    """Somebody who has a question at the moment."""

    @property
    def client(self) -> str: ...

    def drop(self) -> None: ...


class QuestionPort:
    """Where a resident is asked, from `start` to `stop`; its port is taken when this is made.

    ``services`` take the questions, and keep who is ``asking``: at most ``most_open`` at a time,
    and a few of one client.  ``what`` it is to the ``log``.  Raises `KDCError`.
    """

    def __init__(
        self,
        client: KDCClient,
        listen: str,
        services: Mapping[str, IProtocolFactory],
        asking: set[Any],
        *,
        most_open: int,
        what: str,
        log: Logger,
        say: Callable[[str], None],
    ) -> None:
        self._log = log
        self._client = client
        self._asking: set[Asking] = asking
        self._most_open = most_open
        self._what = what
        self._say = say
        self._running: Deferred[None] | None = None
        self._listening = Listening(
            client,
            # Asked before the handshake is answered: who has no place learns nothing by it.
            {name: Service(factory, self._has_room) for name, factory in services.items()},
            listen,
            status=self._status,
            reach=Reach.DIRECT,
        )
        at_once(self._listening.bind())

    def start(self) -> None:
        """Be reachable from now on."""
        self._running = Deferred.fromCoroutine(self._run()).addErrback(
            lambda failure: self._log.failure("{what} has ended", failure, what=self._what)
        )

    async def stop(self) -> None:
        """Leave the KDC, and break off the answers that are being given."""
        await self._listening.close()
        self._client.close()
        for each in list(self._asking):
            each.drop()
        if self._running is not None:
            await self._running

    def _has_room(self, client: str) -> bool:
        """Whether ``client`` may ask one question more at this time."""
        own = sum(each.client == client for each in self._asking)
        return own < _MAX_OPEN_OF_ONE and len(self._asking) < self._most_open

    async def _run(self) -> None:
        try:
            await self._listening.run()
        except KDCError as error:
            self._log.error("{what} has ended: {error}", what=self._what, error=error)
            self._status(f"has ended: {error}")
            await self._listening.close()

    def _status(self, line: str) -> None:
        self._say(f"kdc: {self._client.keys.name}: {line}")


def at_once(binding: Coroutine[Deferred[Any], Any, None]) -> None:
    """Whatever a port needs, it is bound, or not, before this returns."""
    failed: list[Failure] = []
    _ = Deferred.fromCoroutine(binding).addErrback(failed.append)
    if failed:
        failed[0].raiseException()
