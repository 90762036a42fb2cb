"""``kdc:`` endpoint strings.

Client: ``kdc:bob``, ``kdc:bob:service=web:name=alice:keyFile=/etc/alice.key``.
Server: ``kdc:name=bob:listen=tcp\\:60000:allow=alice,carol``.

Several KDCs of a realm: ``address=kdc1.example,kdc2.example\\:12345``.  What is not given
comes from the configuration file.  No secret can stand in
such a string, only the file that holds it.

Endpoints of one process that say the same of themselves share one client, and
so one connection to the KDC and one epoch: two receivers of one name would
take it from each other.
"""

from __future__ import annotations

import re
from typing import Any
from weakref import WeakKeyDictionary

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from kdc.api import Client
from kdc.channel.services import DEFAULT_SERVICE
from kdc.net.waiting import Waiters
from kdc.protocol.names import check_name, fold_name

__all__ = ["client_endpoint", "server_endpoint"]

_COMMON = frozenset(
    {
        "address",
        "config",
        "kdcCa",
        "kdcFingerprint",
        "keyFile",
        "knownKdcs",
        "name",
        "passphraseFile",
        "port",
        "reach",
        "realm",
    }
)
_SharedKey = tuple[tuple[str, Any], ...]
_shared: WeakKeyDictionary[Any, dict[_SharedKey, _Shared]] = WeakKeyDictionary()


@attrs.define
class _Shared:
    """A client that is opened when somebody needs it, and again if that failed."""

    reactor: Any
    options: dict[str, Any]
    _client: Client | None = None
    _opening: bool = False
    _opened: Waiters = attrs.field(factory=Waiters, init=False)

    async def get(self) -> Client:
        while self._opening:  # somebody does it for us
            await self._opened.wait()
        if self._client is None:
            self._opening = True
            try:
                self._client = await Client.open(self.reactor, **self.options)
            finally:
                self._opening = False
                self._opened.release()
        return self._client


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _ClientEndpoint:
    shared: _Shared
    peer: str
    service: str

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        client = await self.shared.get()
        return await client.connect(self.peer, factory, self.service)


@implementer(IStreamServerEndpoint)
@attrs.frozen
class _ServerEndpoint:
    shared: _Shared
    service: str
    listen_at: str
    allow: frozenset[str] | None
    advertise: str

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return Deferred.fromCoroutine(self._listen(protocolFactory))

    async def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        client = await self.shared.get()
        port: IListeningPort = await client.listen(
            factory,
            service=self.service,
            listen=self.listen_at,
            allow=self.allow,
            advertise=self.advertise,
        )
        return port


def client_endpoint(
    reactor: Any, peer: str, service: str = DEFAULT_SERVICE, **options: str
) -> IStreamClientEndpoint:
    """Parse the rest of ``kdc:PEER:...``; raises `ValueError`."""
    endpoint: IStreamClientEndpoint = _ClientEndpoint(
        _shared_client(reactor, options), fold_name(peer), _service(service)
    )
    return endpoint


def server_endpoint(
    reactor: Any,
    service: str = DEFAULT_SERVICE,
    listen: str = "tcp:60000:interface=127.0.0.1",
    allow: str = "",
    advertise: str = "",
    **options: str,
) -> IStreamServerEndpoint:
    """Parse the rest of ``kdc:...``; raises `ValueError`."""
    names = frozenset(fold_name(name) for name in allow.split(",")) if allow else None
    endpoint: IStreamServerEndpoint = _ServerEndpoint(
        _shared_client(reactor, options), _service(service), listen, names, advertise
    )
    return endpoint


def _shared_client(reactor: Any, options: dict[str, str]) -> _Shared:
    for key in options:
        if key not in _COMMON:
            raise ValueError(
                f"a kdc: endpoint has no {key[:40]!r}; there are {', '.join(sorted(_COMMON))}"
            )
    given: dict[str, Any] = {_underlined(key): value for key, value in options.items()}
    if "address" in given:
        given["address"] = tuple(given["address"].split(","))
    clients = _shared.setdefault(reactor, {})
    return clients.setdefault(tuple(sorted(given.items())), _Shared(reactor, given))


def _underlined(key: str) -> str:
    return re.sub("[A-Z]", lambda found: "_" + found.group().lower(), key)


def _service(typed: str) -> str:
    return check_name(typed) if typed else DEFAULT_SERVICE
