"""Twisted's TLS, with less to do for a small message.

Twisted's reads until there is no more, which pyOpenSSL tells by an exception, three of them for
a request and its answer, and with a buffer of 32 KiB made anew each time.  `LeanTLS` asks OpenSSL
itself, into one buffer, and gives it what came and what goes out as it is.  Twisted's transport
writes when the reactor says that it may, which takes another turn of it and two system calls; where
nothing waits to be written, it can be tried at once.  What a connection's transport provides is
said once and not ten times, and one that is lost leaves nothing for the garbage collector.  What
else is out of the ordinary (an alert, a proper end, an error, a full socket) is left to Twisted's
own code.

It relies on names that pyOpenSSL and Twisted do not promise: `fits` tells whether they are
what they were, and `tls_protocol` is Twisted's class where they are not.
"""

from __future__ import annotations

import threading
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.net.tls import tls_context
from kdc.net.writing import is_bare, write_at_once

try:
    from OpenSSL._util import ffi, lib
except ImportError:
    ffi = lib = None

__all__ = ["LeanTLS", "fits", "tls_protocol"]

_ROOM = 1 << 15
_OF_OPENSSL = (
    *("SSL_read", "SSL_write", "BIO_read", "BIO_write"),
    *("SSL_get_error", "SSL_ERROR_WANT_READ"),
)
_OF_A_CONNECTION = ("_ssl", "_from_ssl", "_into_ssl")
_OF_TWISTED = (
    *("_flushReceiveBIO", "_flushSendBIO", "_write", "_handshakeDone"),
    *("_checkHandshakeStatus", "_lostTLSConnection", "_aborted", "_reason"),
)


class _Room(threading.local):
    """A buffer for each thread: OpenSSL fills it without the interpreter's lock."""

    def __init__(self) -> None:
        self.buffer: Any = ffi.new("char[]", _ROOM) if ffi else None


_room = _Room()


class LeanTLS(TLSMemoryBIOProtocol):
    """One TLS connection, as `TLSMemoryBIOProtocol`."""

    _is_bare = False

    def makeConnection(self, transport: Any) -> None:
        self._is_bare = is_bare(transport)
        # Twisted's says what the transport provides ten times, once for each interface of it.
        self._tlsConnection = self.factory._creatorCallable(self)
        self._appSendBuffer: list[bytes] = []
        ProtocolWrapper.makeConnection(self, transport)
        self._checkHandshakeStatus()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # Twisted asks OpenSSL once more, which raises: and the traceback holds all that belongs to
        # this connection, 50 KiB, until garbage is collected.  What has come is read already.
        if not self._lostTLSConnection:
            self._lostTLSConnection = True
            self._reason = self._reason or Failure(CONNECTION_LOST)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        if self._handshakeDone and not self._appSendBuffer:
            into: Any = self._tlsConnection._into_ssl
            if lib.BIO_write(into, data, len(data)) > 0:
                self._flushReceiveBIO()
                return
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def _write(self, data: bytes) -> None:
        while self._handshakeDone and data and not self._lostTLSConnection:
            sent = lib.SSL_write(self._tlsConnection._ssl, data, len(data))
            if sent <= 0:
                break
            self._flushSendBIO()
            data = data[sent:]  # a record holds so much
        if data:
            super()._write(data)  # type: ignore[no-untyped-call]

    def _flushReceiveBIO(self) -> None:
        ssl: Any = self._tlsConnection._ssl
        buffer = _room.buffer
        while not self._lostTLSConnection:
            count = lib.SSL_read(ssl, buffer, _ROOM)
            if count <= 0:
                if lib.SSL_get_error(ssl, count) == lib.SSL_ERROR_WANT_READ:
                    break
                super()._flushReceiveBIO()  # type: ignore[no-untyped-call]
                return
            if not self._aborted:
                self.wrappedProtocol.dataReceived(ffi.buffer(buffer, count)[:])
        self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        buffer = _room.buffer
        count = lib.BIO_read(self._tlsConnection._from_ssl, buffer, _ROOM)
        if count > 0:  # or there is nothing to send
            write_at_once(self.transport, (ffi.buffer(buffer, count)[:],), bare=self._is_bare)


@implementer(IOpenSSLServerConnectionCreator)
class _Example:
    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(tls_context(), None)


def fits(
    library: Any = lib, protocol: Any = TLSMemoryBIOProtocol, factory: Any = TLSMemoryBIOFactory
) -> bool:
    """Whether pyOpenSSL and Twisted have what `LeanTLS` relies on."""
    example = _Example()
    connection = example.serverConnectionForTLS(None)
    return (
        all(hasattr(library, name) for name in _OF_OPENSSL)
        and all(hasattr(connection, name) for name in _OF_A_CONNECTION)
        and all(hasattr(protocol, name) for name in _OF_TWISTED)
        and hasattr(factory(example, False, Factory()), "_creatorCallable")
    )


tls_protocol: type[TLSMemoryBIOProtocol] = LeanTLS if fits() else TLSMemoryBIOProtocol
