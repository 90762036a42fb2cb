"""The process of a test realm: a line of JSON in, a line of JSON out, until the input ends.

It ends however whoever started it has ended, and takes the realm's directory with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from typing import Any, BinaryIO

from kdc.errors import KDCError
from kdc.testing._host import Host, HostSettings

__all__ = ["main"]


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Do what comes from ``source``: the first line is the settings."""
    first = json.loads(source.readline() or b"null")
    if first is None:
        return
    directory = first.pop("directory")
    try:
        try:
            host = Host(HostSettings(**first))
        except KDCError as error:
            source.readline()  # the command that this is the answer to
            _write(sink, {"error": str(error), "hint": error.hint})
            return
        try:
            for line in source:
                _write(sink, _done(host, json.loads(line)))
        finally:
            host.close()
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


def _done(host: Host, command: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": host.call(command["call"], command["values"])}
    except KDCError as error:
        return {"error": str(error), "hint": error.hint}


def _write(sink: BinaryIO, answer: dict[str, Any]) -> None:
    sink.write(json.dumps(answer).encode() + b"\n")
    sink.flush()


def main() -> None:
    # What ends the test at the terminal is not for us: our input ends with the test.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nobody else writes where the answers go.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
