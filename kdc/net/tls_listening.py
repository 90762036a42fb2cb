"""TLS in front of a factory that listens."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

__all__ = ["tls_factory"]


class _UnbufferedTLSFactory(TLSMemoryBIOFactory):
    noisy = False
    # Twisted's default gathers small writes, a turn of the reactor each; ours are gathered.
    protocol = TLSMemoryBIOProtocol

    def buildProtocol(  # type: ignore[override] # None is a factory's way to refuse
        self, addr: Any
    ) -> TLSMemoryBIOProtocol | None:
        """Refuse before there is any TLS, which is most of what a connection costs."""
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else TLSMemoryBIOProtocol(self, inner)


def tls_factory(
    factory: IProtocolFactory, tls: IOpenSSLServerConnectionCreator, clock: IReactorTime
) -> IProtocolFactory:
    """Put TLS in front of ``factory``: what a listening port is given."""
    return _UnbufferedTLSFactory(tls, False, factory, clock)
