"""Feed everything that reads from outside with what is almost right: ``make fuzz SECONDS=60``.

``python -m tests.hostile.fuzz --seconds 60 --seed 7``.  Each input is a valid one,
changed where such inputs have joints: lengths, types, ends of fields, lines,
members.  What is allowed is the value that the bytes mean, or the one error
that the reader documents.  The same seed gives the same inputs; what was ever
found is in ``corpus/``, a file ``TARGET.WORDS.hex`` each, and is tried by the tests.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdc.admin._request import Context
from kdc.admin.principals import administer
from kdc.channel._liveness import ANSWER_SECONDS
from kdc.client import configuration, known_kdcs
from kdc.errors import KDCError, RemoteProtocolError
from kdc.protocol import directory
from kdc.protocol.codec import MAX_FRAME, FrameBuffer, frame
from kdc.protocol.invitation import Invitation
from kdc.protocol.messages import decode_request, encode, split_sealed
from kdc.protocol.names import check_name, fold_name
from kdc.protocol.records import AckStatus
from kdc.server._operators import _request
from kdc.server.policy import read_policy
from kdc.store import KerberosPart, StoreError
from kdc.store.memory import MemoryStore
from kdc.store.portable import bounded_lines, read_dump, read_textbook
from kdc.transfer._framing import AnswerReader, ItemReader
from kdc.transfer.messages import Accept, Held, Item, Kind, Offer, Omitted, Refuse, Why
from kdc.transfer.names import safe_path
from tests.hostile._fuzz_kerberos import KERBEROS
from tests.hostile._fuzz_kerberos_front import KERBEROS_FRONT
from tests.hostile._fuzz_services import SERVICES
from tests.hostile._fuzz_target import Found, Target, defects_of
from tests.support.edge import ChannelTestCase, EdgeTestCase, Recorder
from tests.support.samples import REQUESTS
from tests.support.store_conformance import active, part

__all__ = ["CORPUS", "TARGETS", "Found", "Target", "main", "tried"]

CORPUS = Path(__file__).parent / "corpus"
# Kept as long as this process needs them.
_DIRECTORIES: list[tempfile.TemporaryDirectory[str]] = []
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 2**31, 2**32 - 1, 2**63)
_TOKENS = (
    *(
        b"",
        b"\0",
        b"\n",
        b"\r\n",
        b":",
        b"/",
        b"..",
        b"\x1b[2J",
        b'"',
        b"\\u0000",
        b"{",
        b"[",
        b"]",
    ),
    *(b"null", b"true", b"-1", b"1e999", b"NaN", b"9" * 5000, b"[" * 3000, b"\xff\xfe", b"\x80"),
    *(
        "\u202e\u2044\u200b".encode(),
        b'"a":1,"a":2',
        b"sha256:",
        b"kdc-invite:1:",
        b"kdc2-",
        b"=",
        b"'''",
    ),
)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _frames(data: bytes) -> None:
    frames = FrameBuffer(MAX_FRAME)
    for at in range(0, len(data), 7):
        frames.feed(data[at : at + 7])
        while (body := frames.next()) is not None:
            if len(body) > MAX_FRAME:
                raise Found("a frame longer than any may be")


def _requests(data: bytes) -> None:
    if encode(decode_request(data)) != data:
        raise Found("two encodings of one request")


def _items(data: bytes) -> None:
    """However it arrives, it means the same."""
    meant: list[bool] = []
    for step in (len(data) or 1, 1 + len(data) // 5):
        reader, events = ItemReader(10**6), []
        try:
            for at in range(0, len(data), step):
                events += list(reader.feed(data[at : at + step]))
            events += list(reader.end())
            meant.append(True)
        except (RemoteProtocolError, KDCError):
            meant.append(False)
    if meant[0] != meant[1]:
        raise Found("it is taken or not, as it arrives")


def _admin(data: bytes) -> None:
    context = Context(
        now=1,
        random=bytes,
        audit=lambda *line: None,
        where=lambda: ("kdc.example", 88, "sha256:" + "0" * 64),
        rotate_tls=str,
    )
    json.dumps(list(administer(MemoryStore(), _request(data), context)))


def _in_file(read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """For readers of files: the same file again and again."""
    directory = tempfile.TemporaryDirectory(prefix="kdc-fuzz-")
    path = Path(directory.name) / "file"
    _DIRECTORIES.append(directory)

    def reading(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return reading


def _lines(data: bytes) -> Any:
    return bounded_lines(io.StringIO(_text(data), newline="\n"))


class _ToKDC(EdgeTestCase):
    """Bytes as a client says them: on TCP, and inside of TLS."""

    def inside(self, data: bytes) -> None:
        self._do(lambda: self._inside(data))

    def outside(self, data: bytes) -> None:
        self._do(lambda: self.dial().out.write(data))

    def _inside(self, data: bytes) -> None:
        client = self.client("alice", address="192.0.2.1")
        link = self.do(client.connect())
        link.transport.write(data)  # type: ignore[union-attr]
        self.network.settle()
        client.close()

    def _do(self, act: Callable[[], object]) -> None:
        def live() -> None:
            act()
            self.network.settle()
            self.network.advance(600)

        try:
            self.setUp()
            defects_of(live)
            if len(self.kdc.factory) or self.network.wires:
                raise Found("a connection that never ends")
        finally:
            self.doCleanups()


class _ToReceiver(ChannelTestCase):
    """Bytes as a sender says them to a receiver."""

    def said(self, data: bytes) -> None:
        self.setUp()
        other = Recorder()
        self.offer(other)
        mallory = Recorder()

        def live() -> None:
            self.dial(mallory).write(data)
            self.network.advance(600)
            if self.network.wires:  # the answer to our end is waited for longest
                self.network.advance(ANSWER_SECONDS)

        defects_of(live)
        if not b"hello".startswith(bytes(other.received)):
            raise Found("data that nobody sent")
        if self.network.wires:
            raise Found("a connection that never ends")

    def good(self) -> bytes:
        self.setUp()
        one, other = Recorder(), Recorder()
        _, wire = self.pair(one, other)
        one.out.write(b"hello")
        one.out.loseConnection()
        self.network.settle()
        return bytes(wire.sent)


_REQUESTS = tuple(map(encode, REQUESTS))
_OFFER = Offer(("a", "b"), 0)
_ITEMS = b"".join(
    (
        _OFFER.encode(),
        *(Item(Kind.FILE, "a", 3).encode(), b"abc"),
        *(Omitted("a", Why.CHANGED, again=True).encode(), Item(Kind.FILE, "a", 2).encode(), b"ab"),
        *(Item(Kind.FILE, "b", None).encode(), b"rest"),
    )
)
_ANSWERS = b"".join(
    (Held("a", 3, "0" * 64).encode(), Accept().encode(), Refuse(AckStatus.TOO_LARGE, "no").encode())
)
_ADMIN = tuple(
    json.dumps({"command": word, "name": "bob", "port": 1, "address": "192.0.2.1"}).encode()
    for word in ("add", "invite", "list", "show", "purge", "set-address", "load", "stats", "dump")
)
_INVITATION = str(Invitation("LOCAL", "bob", "192.0.2.1", 88, "sha256:" + "0" * 64, bytes(16)))
_CONFIG = b'name = "bob"\nport = 88\naddress = "192.0.2.1"\nkey-file = "~/bob.key"\n'
_POLICY = (
    b'enrol = "open"\nlifetime = 300\n[limits]\nfailures-per-minute = 9\n[permit]\n"a*" = ["b"]\n'
)
_DUMP = (
    b'{"format": "kdc-principals", "version": 1, "realm": "LOCAL", "secrets": false}\n'
    b'{"name": "bob", "status": "active", "address": "", "port": 0, "generation": 1}\n'
)
_TO_KDC, _TO_RECEIVER = _ToKDC("outside"), _ToReceiver("said")


def _part(data: bytes) -> None:
    if KerberosPart.decoded(data).encoded() != data:
        raise Found("a Kerberos part has two forms")


TARGETS: dict[str, Target] = {
    "frames": Target(_frames, tuple(map(frame, _REQUESTS)), (RemoteProtocolError,)),
    "requests": Target(_requests, _REQUESTS, (RemoteProtocolError,)),
    "sealed": Target(split_sealed, (b"\x01\x32" + bytes(60),), (RemoteProtocolError,)),
    "directory": Target(
        directory.decode_answer,
        (
            directory.lines_of([directory.Presence("bob", True, "192.0.2.1", 9)])
            + directory.end_line(),
            directory.wait_line(5),
        ),
        (RemoteProtocolError,),
    ),
    "items": Target(_items, (_ITEMS,), ()),
    "answers": Target(lambda data: list(AnswerReader().feed(data)), (_ANSWERS,), (KDCError,)),
    "paths": Target(
        lambda data: safe_path(_text(data)), (b"a/b/c", "\u00e9/b".encode()), (ValueError,)
    ),
    "names": Target(
        lambda data: check_name(fold_name(_text(data))), (b"alice", b"bob-1"), (ValueError,)
    ),
    "invitation": Target(
        lambda data: Invitation.parse(_text(data)), (_INVITATION.encode(),), (KDCError,)
    ),
    "operators": Target(_admin, _ADMIN, (KDCError,)),
    "configuration": Target(_in_file(configuration.load), (_CONFIG,), (KDCError,)),
    "policy": Target(_in_file(read_policy), (_POLICY,), (KDCError,)),
    "known": Target(
        _in_file(lambda path: known_kdcs.find(path, "192.0.2.1", 88)),
        (known_kdcs.line_for([("192.0.2.1", 88)], "sha256:" + "0" * 64).encode(),),
        (KDCError,),
    ),
    "kerberos-part": Target(
        _part, (part(active("a"), "HTTP/a", "host/b").encoded(),), (ValueError,)
    ),
    "dump": Target(lambda data: list(read_dump(_lines(data), "LOCAL")), (_DUMP,), (StoreError,)),
    "textbook": Target(
        lambda data: list(read_textbook(_lines(data))), (b":bob:192.0.2.1:88:abc:\n",), ()
    ),
    "tcp": Target(_TO_KDC.outside, (*map(frame, _REQUESTS), b"\x16\x03\x01"), ()),
    "tls": Target(_TO_KDC.inside, tuple(map(frame, _REQUESTS)), ()),
    "channel": Target(_TO_RECEIVER.said, (_TO_RECEIVER.good(),), ()),
    **SERVICES,
    **KERBEROS,
    **KERBEROS_FRONT,
}


def changed(data: bytes, others: tuple[bytes, ...], rng: random.Random) -> bytes:
    """One to four changes of ``data``, each at a place of its own."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(data))
        end = min(len(data), at + rng.choice((0, 1, 1, 2, 4, 16, 100)))
        kind = rng.randrange(8)
        if kind == 0 and data:
            at = rng.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[end:]
        elif kind == 2:
            data = data[:at] + data[at:end] * rng.choice((2, 3, 200)) + data[end:]
        elif kind == 3:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(_NUMBERS) + rng.randint(-1, 1)
            data = data[:at] + (number % 256**width).to_bytes(width, "big") + data[at + width :]
        elif kind == 4:
            data = data[:at] + rng.choice(_TOKENS) + data[end:]
        elif kind == 5:
            other = rng.choice(others)
            data = data[:at] + other[rng.randint(0, len(other)) :]
        elif kind == 6:
            data = data[:at]
        else:
            data = data[:at] + rng.randbytes(rng.choice((1, 2, 16, 300))) + data[end:]
    return data[:100_000]


def tried(name: str, data: bytes) -> None:
    """Feed ``data`` to a target; raise `Found` if it is not taken as it should be."""
    target = TARGETS[name]
    try:
        target.read(data)
    except Found:
        raise
    except target.refusals:
        pass
    except Exception as error:
        raise Found(f"{type(error).__name__}\n{traceback.format_exc(limit=-4)}") from error


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for so long")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all inputs")
    parser.add_argument("--only", choices=TARGETS, help="this target")
    options = parser.parse_args()
    names = [options.only] if options.only else list(TARGETS)
    rngs = {name: random.Random(f"{options.seed} {name}") for name in names}
    print(f"seed {options.seed}")
    inputs = dict.fromkeys(names, 0)
    seen: set[tuple[str, str]] = set()
    began = time.monotonic()
    while time.monotonic() < began + options.seconds:
        for name in names:
            turn = time.monotonic()
            # Each target gets the same share of the time, not of the inputs.
            while time.monotonic() < turn + 0.05:
                seeds, rng = TARGETS[name].seeds, rngs[name]
                data = changed(rng.choice(seeds), seeds, rng)
                inputs[name] += 1
                try:
                    tried(name, data)
                except Found as error:
                    kind = (name, str(error).strip().splitlines()[-1])
                    if kind not in seen:
                        seen.add(kind)
                        print(f"{name}: input {inputs[name]}: {error}\n{data.hex()}", flush=True)
    for name, count in inputs.items():
        print(f"{count:10,}  {name}")
    print(f"{sum(inputs.values()):,} inputs, {len(seen)} found")
    return min(len(seen), 1)


if __name__ == "__main__":
    sys.exit(main())
