"""Three KDCs of one realm on a network in memory, and clients that know all of them."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.endpoints import TCP4ClientEndpoint

from kdc.client.nodes import CONNECT_SECONDS, Nodes
from kdc.errors import Refusal
from kdc.issuing import issuer as issuer_module
from kdc.issuing.decisions import Output
from kdc.issuing.session import Session, State
from kdc.protocol.messages import KeyRequest
from tests.support.edge import KDC, KDC_PORT, EdgeTestCase, Recorder, factory_of

__all__ = ["HOSTS", "PUBLIC", "NodesTestCase"]

HOSTS = ("192.0.2.81", "192.0.2.82", "192.0.2.83")
PUBLIC = bytes([9]) + bytes(31)
_REQUEST: Any = (State.AUTHENTIC, KeyRequest)


class NodesTestCase(EdgeTestCase):
    """Three KDCs on one store, asked in their order unless a test says otherwise."""

    def setUp(self) -> None:
        super().setUp()
        self.kdcs = [
            KDC(self.network, store=self.kdc.store, tls=self.kdc.tls, host=host) for host in HOSTS
        ]

    def nodes(self, name: str, *, secret: str = "first", **options: Any) -> Nodes:
        """One principal's, known to the KDCs unless ``known`` is false."""
        if options.pop("known", True) and self.kdc.store.get(name) is None:
            self.kdc.add(name, secret)
        host = self.host()
        first = self.client(name, secret=secret, address=host.address, **options)
        return Nodes(
            (
                attrs.evolve(
                    first,
                    endpoint=TCP4ClientEndpoint(host, kdc, KDC_PORT, CONNECT_SECONDS),
                    where=f"{kdc} port {KDC_PORT}",
                    connect_seconds=CONNECT_SECONDS,
                    patience_seconds=0.0,
                )
                for kdc in HOSTS
            ),
            shuffle=lambda order: None,
        )

    def receive(self, name: str, *numbers: int) -> None:  # type: ignore[override]
        """Have ``name`` receive at the KDCs of these numbers."""
        for number in numbers:
            link = self.login_at(name, number)
            self.do(link.receive_under(PUBLIC, "", 60000 + number))

    def login_at(self, name: str, number: int) -> Any:
        if self.kdc.store.get(name) is None:
            self.kdc.add(name)
        return self.do(self.client(name, kdc=HOSTS[number]).login())

    def asked(self) -> list[list[str]]:
        """What each KDC has been asked, by what it has noted."""
        return [kdc.events() for kdc in self.kdcs]

    def hang(self, number: int) -> None:
        """As when its process is stopped: what is open stays open, and nothing is answered."""
        kdc = self.kdcs[number]
        kdc.port.stopListening()
        self.network.listen(HOSTS[number], KDC_PORT, factory_of(*(Recorder() for _ in range(9))))
        for protocol in kdc.factory._protocols.values():
            protocol.dataReceived = lambda data: None  # type: ignore[method-assign]

    def refuse(self, number: int, code: Refusal) -> None:
        """Have that one refuse every request for a key so."""
        realm, issue = self.kdcs[number].realm, issuer_module.EXCHANGES[_REQUEST]

        def refusing(session: Session, request: KeyRequest, now: Any) -> Output:
            if session.realm is realm:
                return session.refuse(code, request.nonce, "", 1)
            return issue(session, request, now)

        self.patch(issuer_module, "EXCHANGES", {**issuer_module.EXCHANGES, _REQUEST: refusing})

    def ends(self, client: Nodes) -> None:
        """Nothing is left of it."""
        client.close()
        self.network.settle()
