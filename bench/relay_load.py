"""Both ends of what a relay carries, and receivers that are linked to one.

``python -m bench.relay_load ROLE SETTINGS``: a process that says a line of JSON when it is ready,
and goes on when it is sent a line.  The bytes are made and dropped here, as they are: what a
relay carries is sealed or not, that costs it the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from bench.load import Settings, at_once, client_of
from bench.population import able
from bench.processes import cpu_of
from kdc.channel.relay_link import Link
from kdc.protocol.codec import frame
from kdc.protocol.relay import RELAY, Call, Claim, Claimed, Message, Verdict, show_token

__all__: list[str] = []

HERE = "127.0.0.1"
_AT_ONCE = 8
_PIECE = bytes(1 << 18)
# What a sender begins with: the beginning of a 309 of a usual length.
_PRESENT = (309).to_bytes(2, "big") + b"\1"


def _say(**what: float) -> None:
    print(json.dumps(what), flush=True)


class _Receiver:
    """One that is linked, under an epoch that is made up: a relay of its own cannot know."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.epoch_id = os.urandom(16)
        self._claimed: Deferred[None] = Deferred()
        self.called: Deferred[Call] = Deferred()
        self.link = Link(self._take, self._unlinked)

    async def receive(self) -> None:
        """Have the KDC know the epoch: its own relay asks it."""
        public = X25519PrivateKey.generate().public_key().public_bytes_raw()
        connection = await self._client.login()
        self.epoch_id = (await connection.receive_under(public, HERE, 60000)).epoch_id

    async def begin(self, port: int) -> None:
        await self.link.open(self._client, RELAY, (HERE, port))
        self.link.say(Claim(self.epoch_id))
        await self._claimed

    def present(self) -> bytes:
        return frame(_PRESENT + self.epoch_id + bytes(170))

    def _take(self, message: Message) -> None:
        if isinstance(message, Claimed):
            assert message.verdict == Verdict.YES
            self._claimed.callback(None)
        elif isinstance(message, Call):
            self.called.callback(message)

    def _unlinked(self) -> None:
        print("a link was lost", file=sys.stderr)
        os._exit(1)  # one that is not there would be counted as if it cost nothing


# One stream, by different ways.


async def _through_ours(reactor: Any, settings: Settings) -> tuple[socket.socket, socket.socket]:
    number = able(settings["principals"])[-1]  # the first ones ask for keys meanwhile
    receiver = _Receiver(client_of(reactor, settings, number))
    await receiver.receive()
    await receiver.begin(settings["middle"])
    sender = socket.create_connection((HERE, settings["middle"]))
    sender.sendall(receiver.present())
    call = await receiver.called
    sink = socket.create_connection((HERE, settings["middle"]))
    sink.sendall(show_token(call.token))
    await deferToThread(_expect, sink, receiver.present())
    return sender, sink


async def _through_transit(reactor: Any, settings: Settings) -> tuple[socket.socket, socket.socket]:
    token = os.urandom(32).hex()
    ends = [socket.create_connection((HERE, settings["middle"])) for _ in range(2)]
    for end in ends:
        end.sendall(f"please relay {token} for side {os.urandom(8).hex()}\n".encode())
    for end in ends:
        await deferToThread(_expect, end, b"ok\n")
    return ends[0], ends[1]


async def _through_socat(reactor: Any, settings: Settings) -> tuple[socket.socket, socket.socket]:
    with socket.create_server((HERE, settings["far"])) as listening:
        sender = socket.create_connection((HERE, settings["middle"]))
        sink, _ = await deferToThread(listening.accept)
    return sender, sink


_WAYS = {"ours": _through_ours, "transit": _through_transit, "socat": _through_socat}


def _expect(connection: socket.socket, what: bytes) -> None:
    assert connection.recv(len(what), socket.MSG_WAITALL) == what


def _pour(sender: socket.socket, count: int) -> None:
    for _ in range(0, count, len(_PIECE)):
        sender.sendall(_PIECE)


def _drain(sink: socket.socket, count: int) -> None:
    buffer, left = bytearray(len(_PIECE)), count
    while left:
        got = sink.recv_into(buffer)
        assert got, "cut short"
        left -= got


async def _carry(reactor: Any, settings: Settings) -> None:
    """Send so many bytes; say what that cost the process in the middle."""
    ends = await _WAYS[settings["way"]](reactor, settings)
    count, pid = settings["mib"] << 20, settings["middle_pid"]
    cpu, begun = cpu_of(pid), time.monotonic()
    await gatherResults(
        [deferToThread(_pour, ends[0], count), deferToThread(_drain, ends[1], count)]
    )
    seconds, cpu = time.monotonic() - begun, cpu_of(pid) - cpu
    gib = settings["mib"] / 1024
    _say(**{"MiB/s": settings["mib"] / seconds, "CPU s/GiB": cpu / gib})


async def _flood(reactor: Any, settings: Settings) -> None:
    """Send and send; say how fast that went when a line comes."""
    ends = await _through_ours(reactor, settings)
    _ = deferToThread(_pour, ends[0], 1 << 50)
    done = [0]

    def drain() -> None:
        buffer = bytearray(len(_PIECE))
        while True:
            done[0] += ends[1].recv_into(buffer)

    _ = deferToThread(drain)
    begun = time.monotonic()
    _say()
    await deferToThread(sys.stdin.readline)
    _say(**{"MiB/s": (done[0] >> 20) / (time.monotonic() - begun)})
    os._exit(0)  # the threads have no end


# Many.


class _Sends(Protocol):
    def __init__(self, first: bytes, content: bytes) -> None:
        self._first, self._content = first, content

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self._first + self._content)
        if self._content:
            transport.loseWriteConnection()


class _Takes(_Sends):
    """The receiver's end: fires with the digest of all that came, at its end."""

    def __init__(self, token: bytes, done: Deferred[bytes]) -> None:
        super().__init__(show_token(token), b"")
        self._done = done
        self._digest = hashlib.sha256()

    def dataReceived(self, data: bytes) -> None:
        self._digest.update(data)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self._done.callback(self._digest.digest())


async def _links(reactor: Any, settings: Settings) -> None:
    """So many receivers; then a transfer to each of the first of them, all at once."""
    numbers = range(settings["count"])
    receivers = [_Receiver(client_of(reactor, settings, number)) for number in numbers]
    port = settings["middle"]
    _say()
    await deferToThread(sys.stdin.readline)
    await at_once([lambda r=r: r.begin(port) for r in receivers], _AT_ONCE)  # type: ignore[misc]
    _say()
    await deferToThread(sys.stdin.readline)
    content = os.urandom(settings["each"])

    async def connect(protocol: Protocol) -> None:
        factory = Factory.forProtocol(lambda: protocol)
        factory.noisy = False
        await TCP4ClientEndpoint(reactor, HERE, port).connect(factory)

    async def transfer(receiver: _Receiver) -> bool:
        await connect(_Sends(receiver.present(), content))
        done: Deferred[bytes] = Deferred()
        await connect(_Takes((await receiver.called).token, done))
        return await done == hashlib.sha256(receiver.present() + content).digest()

    begun = time.monotonic()
    works = [Deferred.fromCoroutine(transfer(r)) for r in receivers[: settings["at_once"]]]
    whole = await gatherResults(works)
    _say(whole=sum(whole), seconds=time.monotonic() - begun)
    await Deferred()


_ROLES: dict[str, Callable[[Any, Settings], Awaitable[None]]] = {
    "carry": _carry,
    "flood": _flood,
    "links": _links,
}


if __name__ == "__main__":
    role = _ROLES[sys.argv[1]]
    react(lambda reactor: Deferred.fromCoroutine(role(reactor, json.loads(sys.argv[2]))))  # type: ignore[arg-type]
