"""A stream out of memory, and where it ends; the same two for every program under measurement.

python -m bench.stream source BYTES      to standard output
python -m bench.stream drain BYTES       from standard input; status 1 unless whole
python -m bench.stream sink PORT [PEM]   connections of `send`, for ever; over TLS with PEM
python -m bench.stream send PORT BYTES PEM PID   over TLS; prints time, and CPU time with PID's
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from bench.processes import Failed, cpu_of

__all__ = ["BLOCK", "send"]

# Not zeros: a program that compresses would send nothing.  No letters: some are commands to
# s_client, where a read happens to begin with one.
BLOCK = (
    random.Random(6)
    .randbytes(1 << 20)
    .translate(bytes(n ^ 0x80 if chr(n).isalpha() and n < 128 else n for n in range(256)))
)
_WHOLE = b"whole"


def _source(write: Callable[[memoryview], object], count: int) -> None:
    block = memoryview(BLOCK)
    while count:
        piece = block[: min(count, len(block))]
        write(piece)
        count -= len(piece)


def _drain(read_into: Callable[[memoryview], int], count: int) -> bool:
    """Take ``count`` bytes; False if they end before, or are not those of `_source`."""
    buffer = bytearray(len(BLOCK))
    view = memoryview(buffer)
    at = 0
    while at < count:
        got = read_into(view[: min(len(buffer), count - at)])
        # The first byte of each piece: all of them would be half of the work.
        if not got or buffer[0] != BLOCK[at % len(BLOCK)]:
            return False
        at += got
    return True


def _write_all(piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(1, piece) :]


class _Stream(Protocol):
    """What a socket and a TLS connection of pyOpenSSL have in common here."""

    def sendall(self, data: Any, /) -> Any: ...

    def recv_into(self, buffer: Any, /) -> int: ...


def send(port: int, count: int, context: SSL.Context | None = None) -> None:
    """Send through whatever leads to a sink, and wait until it has all; raises `Failed`."""
    try:
        with socket.create_connection(("127.0.0.1", port), 120) as plain:
            stream = _over_tls(plain, context, "set_connect_state")
            stream.sendall(count.to_bytes(8, "big"))
            _source(stream.sendall, count)
            answer = bytearray(len(_WHOLE))
            whole = stream.recv_into(answer) == len(answer) and bytes(answer) == _WHOLE
    except (OSError, SSL.Error) as error:
        raise Failed(f"the stream was cut: {error}") from None
    if not whole:
        raise Failed("the stream did not arrive whole")


def _over_tls(plain: socket.socket, context: SSL.Context | None, side: str) -> _Stream:
    if context is None:
        return plain
    plain.settimeout(None)  # pyOpenSSL blocks, or does not wait at all
    connection = SSL.Connection(context, plain)
    getattr(connection, side)()
    connection.do_handshake()
    return _Direct(connection)


class _Direct:
    """pyOpenSSL makes a buffer anew for each read, and copies it: OpenSSL can read into ours."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._ssl = connection._ssl  # a name that is not promised
        self.sendall = connection.sendall

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        """As of a socket; an end or an error of whatever kind is the end."""
        return max(0, lib.SSL_read(self._ssl, ffi.from_buffer(buffer), len(buffer)))


def _sink(port: int, context: SSL.Context | None) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=100) as listener:
        while True:
            plain, _ = listener.accept()
            with plain, contextlib.suppress(OSError, SSL.Error):
                stream = _over_tls(plain, context, "set_accept_state")
                head = bytearray(8)
                whole = stream.recv_into(head) == 8 and _drain(
                    stream.recv_into, int.from_bytes(head, "big")
                )
                stream.sendall(_WHOLE if whole else b"torn!")


def _context(pem: str, server: bool) -> SSL.Context:
    """TLS 1.3 with AES-256-GCM by the OpenSSL that our own ciphers come from."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server else SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(b"TLS_AES_256_GCM_SHA384")
    if server:
        context.use_privatekey_file(pem)
        context.use_certificate_file(pem)
    else:
        context.load_verify_locations(pem)
        context.set_verify(SSL.VERIFY_PEER, lambda *said: bool(said[-1]))
    return context


def _send_over_tls(port: int, count: int, pem: str, pid: int) -> None:
    context = _context(pem, server=False)
    far, near, begun = cpu_of(pid), time.process_time(), time.monotonic()
    send(port, count, context)
    seconds, cpu = time.monotonic() - begun, time.process_time() - near
    print(json.dumps({"s": seconds, "CPU s": cpu + cpu_of(pid) - far}))


def main() -> None:
    what, number, *more = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
    if what == "source":
        _source(_write_all, number)
    elif what == "drain":
        with open(0, "rb", buffering=0) as stdin:
            sys.exit(not _drain(stdin.readinto, number))
    elif what == "send":
        _send_over_tls(number, int(more[0]), more[1], int(more[2]))
    else:
        _sink(number, _context(more[0], server=True) if more else None)


if __name__ == "__main__":
    main()
