"""etcd's JSON gateway, by the standard library: requests, and a watch.  Blocking.

A request that failed either certainly was not carried out (`Unsent`, `Denied`), or
nobody knows (`Unknown`): that is all a caller has to tell apart.  The next request
then goes to the next member.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import attrs

from kdc.errors import ConfigurationError, LocalIOError
from kdc.files.private import read_private
from kdc.store.etcd.refusals import (
    USER,
    Denied,
    EtcdError,
    TokenEnded,
    Unknown,
    Unsent,
    advice,
    refusal,
    why,
)
from kdc.store.etcd.wire import Answer

T = TypeVar("T")

__all__ = [
    "Denied",
    "EtcdError",
    "EtcdSettings",
    "Gateway",
    "Link",
    "Stream",
    "Unknown",
    "Unsent",
]

_PIECE = 1 << 16
_MAX_ANSWER = 256 << 20  # 50,000 lines are some 40 MB
_MAX_ERROR = 4096
_MAX_PEM = 1 << 16
_CONNECT_SECONDS = 1.0
_LOGIN_SECONDS = 2.0
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


class Stream(Protocol):
    """A watch."""

    def next(self) -> Answer | None:
        """Return the next message, or None if none came for long; raises `EtcdError`."""

    def drop(self) -> None:
        """End it, from any thread: ``next`` raises, then its own thread closes it."""

    def close(self) -> None:
        """Give up its connection."""


class Link(Protocol):
    """A way to etcd for one thread: one connection at a time, to one of the members."""

    def post(self, path: str, body: Answer, seconds: float) -> Answer:
        """Return what etcd answers within ``seconds``; raises `EtcdError`.

        After `Unsent` and `Unknown` the next member is asked next time.
        """

    def watch(self, body: Answer, seconds: float) -> Stream:
        """Begin a watch, which is silent for ``seconds`` at most; raises `EtcdError`."""

    def next_member(self) -> None:
        """Give up this connection, and ask the next member next time."""

    def interrupt(self) -> None:
        """Wake whoever waits in it, from any thread; nothing is asked any more."""

    def close(self) -> None:
        """Give up the connection."""


@attrs.frozen
class EtcdSettings:
    """The members, the nearest first, and how we know them and they us."""

    members: tuple[tuple[str, int], ...]
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str = ""
    password: str = attrs.field(default="", repr=False)

    @property
    def hosts(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self.members)

    def context(self) -> ssl.SSLContext | None:
        """Return how TLS is spoken; None if it is not, on this machine only.

        Raises `ConfigurationError`, `LocalIOError`.
        """
        if self.ca is None:
            outside = [host for host, _ in self.members if host not in _LOOPBACK]
            if outside:
                raise ConfigurationError(
                    f"without TLS anybody on the way to {outside[0]} could be etcd",
                    hint="give the certificate of the authority that etcd's certificates are from",
                )
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                # For what it refuses: whoever reads the key can write to etcd.
                read_private(self.key or self.certificate, _MAX_PEM)
                # A key under a passphrase is an error: nobody is there to be asked.
                context.load_cert_chain(self.certificate, self.key, password=str)
        except (OSError, ssl.SSLError) as error:
            raise LocalIOError(
                f"cannot use the certificates for etcd: {error.strerror or 'not a certificate'}",
                hint=f"look at {self.ca} and at our own certificate and key",
            ) from None
        return context


class _Connection:
    """One connection to one member."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        self._http = (
            http.client.HTTPConnection(host, port, timeout=_CONNECT_SECONDS)
            if context is None
            else http.client.HTTPSConnection(host, port, timeout=_CONNECT_SECONDS, context=context)
        )
        try:
            self._http.connect()
        except (OSError, ValueError) as error:
            self._http.close()
            raise Unsent(f"{host} port {port}: {why(error)}", advice(error, host)) from None
        self.where = f"{host} port {port}"
        self.socket = self._http.sock
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, path: str, body: Answer, token: str, seconds: float) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = token
        self.socket.settimeout(seconds)
        self._http.request("POST", path, json.dumps(body).encode(), headers)
        return self._http.getresponse()

    def interrupt(self) -> None:
        # Of the plain socket: TLS must not be taken from under a thread that reads it.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._http.close()


class Gateway:
    """See `Link`."""

    def __init__(self, settings: EtcdSettings, context: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._context = context
        self._at = 0
        self._connection: _Connection | None = None
        self._token = ""
        self._ended = False

    def post(self, path: str, body: Answer, seconds: float) -> Answer:
        return self._logged_in(lambda: self._ask(path, body, self._token, seconds))

    def watch(self, body: Answer, seconds: float) -> Stream:
        return self._logged_in(lambda: self._begin_watch(body, seconds))

    def next_member(self) -> None:
        self.close()
        self._at = (self._at + 1) % len(self._settings.members)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def interrupt(self) -> None:
        self._ended = True
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def _logged_in(self, ask: Callable[[], T]) -> T:
        """Ask; if etcd does not know our token any more, log in and ask again, once."""
        if self._settings.user and not self._token:
            self._log_in()
        try:
            return ask()
        except TokenEnded:
            if not self._settings.user:
                raise Denied("etcd wants a user and a password", USER) from None
        self._log_in()
        try:
            return ask()
        except TokenEnded:
            raise Denied("etcd does not take the token that it has just given") from None

    def _log_in(self) -> None:
        self._token = ""
        body = {"name": self._settings.user, "password": self._settings.password}
        try:
            answer = self._ask("/v3/auth/authenticate", body, "", _LOGIN_SECONDS)
        except Unknown as error:
            raise Unsent(str(error), error.hint) from None  # what it was for was not sent
        except (TokenEnded, Denied) as error:
            if error.hint:
                raise
            raise Denied("etcd does not take our user and password", USER) from None
        token = answer.get("token")
        if not isinstance(token, str) or len(token) > _MAX_ERROR:
            raise Unsent("etcd gave no token")
        if not token.isascii() or not token.isprintable():  # it would be other headers
            raise Unsent("etcd gave no token")
        self._token = token

    def _connected(self) -> _Connection:
        if self._ended:
            raise Unsent("closed")
        if self._connection is None:
            host, port = self._settings.members[self._at]
            try:
                self._connection = _Connection(host, port, self._context)
            except Unsent:
                self.next_member()
                raise
            if self._ended:  # meanwhile, when there was nothing yet to interrupt
                self.close()
                raise Unsent("closed")
        return self._connection

    def _ask(self, path: str, body: Answer, token: str, seconds: float) -> Answer:
        connection = self._connected()
        until = time.monotonic() + seconds
        with self._unknown_if_it_breaks(connection):
            response = connection.send(path, body, token, seconds)
            if response.status != http.HTTPStatus.OK:
                raise self._refusal(connection, _read(response, _MAX_ERROR, until))
            answer = json.loads(_read(response, _MAX_ANSWER, until))
            if not isinstance(answer, dict):
                raise ValueError("not an object")
        return answer

    def _begin_watch(self, body: Answer, seconds: float) -> Stream:
        connection = self._connected()
        with self._unknown_if_it_breaks(connection):
            response = connection.send("/v3/watch", body, self._token, seconds)
            if response.status != http.HTTPStatus.OK:
                until = time.monotonic() + seconds
                raise self._refusal(connection, _read(response, _MAX_ERROR, until))
        self._connection = None
        return _GatewayStream(connection, response)

    @contextlib.contextmanager
    def _unknown_if_it_breaks(self, connection: _Connection) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            self.next_member()
            text = f"{connection.where}: {why(error)}"
            raise Unknown(text, advice(error, connection.where) if self._context else "") from None

    def _refusal(self, connection: _Connection, text: bytes) -> EtcdError:
        error = refusal(connection.where, text, self._settings.user)
        if isinstance(error, Unknown):
            self.next_member()
        return error


class _GatewayStream:
    """See `Stream`: one JSON object a line."""

    def __init__(self, connection: _Connection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def next(self) -> Answer | None:
        try:
            line = self._response.readline(_MAX_ANSWER)
            if not line.endswith(b"\n"):
                raise Unknown("etcd ended the watch")
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("not an object")
        except TimeoutError:
            return None
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise Unknown(f"{self._connection.where}: {why(error)}") from None
        return message

    def drop(self) -> None:
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()


def _read(response: http.client.HTTPResponse, most: int, until: float) -> bytes:
    """Return the whole body; raises `ValueError` if it is too long, `TimeoutError`."""
    pieces, size = [], 0
    while piece := response.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise ValueError("the answer is too long")
        if time.monotonic() > until:
            raise TimeoutError
    return b"".join(pieces)
