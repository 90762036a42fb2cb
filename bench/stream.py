"""A stream out of memory, and where it ends; the same two for every program under measurement.

python -m bench.stream source BYTES      to standard output
python -m bench.stream drain BYTES       from standard input; status 1 unless whole
python -m bench.stream sink PORT         connections of `send`, for ever
"""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Callable

from bench.processes import Failed

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


def send(port: int, count: int) -> None:
    """Send through whatever leads to a sink, and wait until it has all; raises `Failed`."""
    try:
        with socket.create_connection(("127.0.0.1", port), 120) as connection:
            connection.sendall(count.to_bytes(8, "big"))
            _source(connection.sendall, count)
            whole = connection.recv(16) == _WHOLE
    except OSError as error:
        raise Failed(f"the stream was cut: {error}") from None
    if not whole:
        raise Failed("the stream did not arrive whole")


def _sink(port: int) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=100) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                try:
                    head = connection.recv(8, socket.MSG_WAITALL)
                    whole = len(head) == 8 and _drain(
                        connection.recv_into, int.from_bytes(head, "big")
                    )
                    connection.sendall(_WHOLE if whole else b"torn")
                except OSError:
                    continue


def main() -> None:
    what, number = sys.argv[1], int(sys.argv[2])
    if what == "source":
        _source(_write_all, number)
    elif what == "drain":
        with open(0, "rb", buffering=0) as stdin:
            sys.exit(not _drain(stdin.readinto, number))
    else:
        _sink(number)


if __name__ == "__main__":
    main()
