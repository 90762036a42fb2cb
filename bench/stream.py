"""A stream out of memory, and where it ends; the same two for every program under measurement.

python -m bench.stream source BYTES      to standard output
python -m bench.stream drain BYTES       from standard input; status 1 unless whole
python -m bench.stream sink PORT [PEM]   connections of `send`, for ever; over TLS with PEM
python -m bench.stream send PORT BYTES PEM PID   over TLS; prints time, and CPU time with PID's
"""

from __future__ import annotations

import json
import os
import random
import socket
import ssl
import sys
import time
from collections.abc import Callable

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


def send(port: int, count: int, context: ssl.SSLContext | None = None) -> None:
    """Send through whatever leads to a sink, and wait until it has all; raises `Failed`."""
    try:
        connection = socket.create_connection(("127.0.0.1", port), 120)
        if context is not None:
            connection = context.wrap_socket(connection)
        with connection:
            connection.sendall(count.to_bytes(8, "big"))
            _source(connection.sendall, count)
            whole = connection.recv(16) == _WHOLE
    except OSError as error:
        raise Failed(f"the stream was cut: {error}") from None
    if not whole:
        raise Failed("the stream did not arrive whole")


def _sink(port: int, context: ssl.SSLContext | None) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=100) as listener:
        while True:
            connection, _ = listener.accept()
            try:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                with connection:
                    head = connection.recv(8)
                    whole = len(head) == 8 and _drain(
                        connection.recv_into, int.from_bytes(head, "big")
                    )
                    connection.sendall(_WHOLE if whole else b"torn")
            except OSError:
                continue


def _context(protocol: int, pem: str) -> ssl.SSLContext:
    """TLS 1.3; its first suite is AES-256-GCM."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.load_cert_chain(pem)
    else:
        context.load_verify_locations(pem)
    return context


def _send_over_tls(port: int, count: int, pem: str, pid: int) -> None:
    context = _context(ssl.PROTOCOL_TLS_CLIENT, pem)
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
        _sink(number, _context(ssl.PROTOCOL_TLS_SERVER, more[0]) if more else None)


if __name__ == "__main__":
    main()
