"""TLS in front of a factory that listens."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory

from kdc.net.lean_tls import tls_protocol

__all__ = ["ListeningTLSFactory"]


class ListeningTLSFactory(TLSMemoryBIOFactory):
    """What a listening port is given; ``factory`` may refuse a connection."""

    noisy = False
    # Twisted's default gathers small writes, a turn of the reactor each; ours are gathered.
    protocol = tls_protocol

    def __init__(
        self, factory: Any, tls: IOpenSSLServerConnectionCreator, clock: IReactorTime
    ) -> None:
        super().__init__(tls, False, factory, clock)

    def buildProtocol(  # type: ignore[override] # None is a factory's way to refuse
        self, addr: Any
    ) -> Protocol | None:
        """Refuse before there is any TLS, which is most of what a connection costs."""
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else tls_protocol(self, inner)
