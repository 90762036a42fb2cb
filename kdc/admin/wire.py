"""The local socket between ``kdc admin`` and the running KDC: where it is, what goes over it.

One request a connection, a line of JSON.  Then lines of the form
``{"answer": {...}}``, any number, and one ``{"end": {"status": 0}}`` or
``{"end": {"status": 8, "error": "...", "hint": "...", "kind": ..., "facts": {}}}``.
Without the end line the answer is not whole.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kdc.errors import ErrorKind, ExitStatus, KDCError, LocalIOError, local_error
from kdc.files.directory import check_directory, owners_of
from kdc.hostile_text import harmless

__all__ = [
    "MAX_REQUEST",
    "SocketPath",
    "answer_line",
    "ask",
    "connect",
    "end_line",
    "peer_process",
    "peer_uid",
]

MAX_REQUEST = 65_536
_SECONDS = 600.0  # sealing a million principals anew takes its time
_LONGEST_PATH = 100  # of a unix socket's 108
_MAX_LINE = 1 << 20
_CREDENTIALS = struct.Struct("3i")  # of a process: its id, its user, its group


class SocketPath:
    """Where the socket of a store is, as ``bind`` and ``connect`` can take it.

    A path too long for the system is reached through its directory's
    descriptor; ``close`` gives that up.
    """

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(f"{store.name}.admin")
        self._fd: int | None = None

    def open(self) -> str:
        """What to bind or connect to, until `close`; raises `OSError` if there is no directory."""
        if len(os.fsencode(self.path)) <= _LONGEST_PATH:
            return str(self.path)
        if self._fd is None:
            self._fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self.path.name}"

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def answer_line(answer: dict[str, Any]) -> bytes:
    return json.dumps({"answer": answer}).encode() + b"\n"


def end_line(error: KDCError | None = None) -> bytes:
    """The last line: all is done, or why not."""
    end: dict[str, Any] = {"status": int(ExitStatus.DONE)}
    if error is not None:
        end = {
            "status": int(error.exit_status),
            "error": str(error),
            "hint": error.hint,
            "kind": error.kind.name if error.kind else None,
            "facts": dict(error.facts),
        }
    return json.dumps({"end": end}).encode() + b"\n"


def peer_uid(connected: socket.socket) -> int:
    """Who is at the other end, as the kernel says (unix(7), SO_PEERCRED)."""
    _, uid, _ = _peer(connected)
    return uid


def peer_process(connected: socket.socket) -> int:
    """The number of the process that is at the other end."""
    number, _, _ = _peer(connected)
    return number


def _peer(connected: socket.socket) -> tuple[int, int, int]:
    size = _CREDENTIALS.size
    said = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    process, user, group = _CREDENTIALS.unpack(said)
    return process, user, group


def connect(store: Path, uid_of: Callable[[socket.socket], int] = peer_uid) -> socket.socket | None:
    """Return a connection to the KDC that has ``store``, or None if none is running.

    Root, we, and the owner of the store are believed to be the KDC, and nobody
    else: while none runs, whoever can write the directory could listen there,
    and hand out invitations of his own.  ``uid_of`` says who listens.

    Raises `LocalIOError` if somebody listens who is not to be believed, or who
    cannot be reached, `ConfigurationError` if others can write the directory.
    """
    check_directory(store)
    path = SocketPath(store)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(_SECONDS)
    try:
        connected.connect(path.open())
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connected.close()
        return None
    except OSError as error:
        connected.close()
        raise local_error(path.path, error) from None
    finally:
        path.close()
    uid = uid_of(connected)
    if uid not in owners_of(store):
        connected.close()
        raise LocalIOError(
            f"{path.path} is not the KDC's: a process of another user (uid {uid}) listens there",
            hint="nothing was asked; see who that is, and who could write the directory",
        )
    return connected


def ask(connected: socket.socket, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the answers, each as it comes, and close the connection.

    Raises the `KDCError` that the KDC found, or `LocalIOError` if its answer is
    not whole: then what was asked for may or may not have been done.
    """
    with connected, connected.makefile("rb") as lines:
        try:
            connected.sendall(json.dumps(request).encode() + b"\n")
            while line := lines.readline(_MAX_LINE):
                said = json.loads(line)
                if "answer" not in said:
                    error = _error_of(said["end"])
                    break
                yield said["answer"]
            else:
                raise LocalIOError(
                    "the running KDC ended the connection before it had answered",
                    hint="it may be stopping, or you are not its user: see its log",
                )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as unclear:
            raise LocalIOError(f"the running KDC did not answer: {unclear}") from None
    if error is not None:
        raise error


def _error_of(end: dict[str, Any]) -> KDCError | None:
    """The error that the KDC found, if it found one."""
    status = ExitStatus(end["status"])
    if status is ExitStatus.DONE:
        return None
    facts = dict(end.get("facts") or {})
    error = KDCError(
        harmless(str(end["error"])),
        hint=harmless(str(end["hint"])),
        # A KDC of another version may know others.
        kind=ErrorKind.__members__.get(str(end.get("kind"))),
        facts={str(name): harmless(str(value)) for name, value in facts.items()},
    )
    error.exit_status = status  # type: ignore[misc]
    return error
