"""KDC, receivers and senders on a network, clock and disk that a seed disturbs.

``python -m tests.hostile.simulate --seeds 1000`` (`make simulate SEEDS=1000`).
What must hold, whatever happens in whatever order:

1. nothing is accepted that the named sender did not send, nor twice;
2. an acknowledgement comes only for what is stored;
3. no acknowledged registration or change of keys is lost;
4. everything ends, and afterwards everybody is served; no defect shows in any log.

A seed that fails can be run again: ``--first SEED --seeds 1``.  The TLS between
client and KDC is the real one and draws its own randomness, which changes what
is in its records and never how long they are: the certificate is Ed25519's, since
the signatures of ECDSA differ in length.
"""

from __future__ import annotations

import argparse
import datetime as dt
import errno
import functools
import itertools
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from kdc.channel._liveness import ANSWER_SECONDS
from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.channel.receiver import ChannelListener
from kdc.channel.reception import Reception
from kdc.channel.services import Service
from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS
from kdc.errors import KDCError
from kdc.net import clock, retry
from kdc.protocol.records import AckStatus
from kdc.server.certificate import ServerTLS
from kdc.store import StoreError
from kdc.store.flatfile._store import FlatFileStore
from tests.support.core import SeededRandom, keys_of
from tests.support.disk import Disk, PowerCut
from tests.support.edge import (
    KDC,
    KDC_HOST,
    KDC_PORT,
    NOW,
    EdgeTestCase,
    Host,
    Network,
    Recorder,
    StreamRecorder,
    Wire,
    factory_of,
)

__all__ = ["Broken", "World", "run"]

PATH = "/store/pwd.txt"
STEPS = 40
# Longer than every deadline and back-off together.
AGES_SECONDS = ANSWER_SECONDS + 1800.0
NAMES = ("bob", "dave")
_LUCK = ("none", "some", "all")


class Broken(AssertionError):
    """One of the invariants does not hold."""


class _ShuffledNetwork(Network):
    """Connections get their turns in an order that the seed decides."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    def settle(self) -> None:
        self._rng.shuffle(self.wires)
        super().settle()


class _Storing(StreamRecorder):
    """Stores what came when its disk gets round to it, and then says so."""

    def __init__(self, receiver: _Receiver) -> None:
        super().__init__()
        self._receiver, self._life = receiver, receiver.life

    async def endReceived(self) -> AckStatus:
        receiver = self._receiver
        await deferLater(cast(Any, receiver.world.network), receiver.world.rng.random() * 3)
        if receiver.life != self._life:
            await Deferred()  # its process is gone, and says nothing any more
        receiver.store(self.out.principal, bytes(self.received))
        self.out.loseWriteConnection()
        return AckStatus.STORED


class _Receiver:
    """One who receives; what he has stored survives him."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.life = 0
        self.address = ""
        self.stored: list[tuple[str, bytes]] = []
        self._port: Any = None
        self._reception: Any = None

    @property
    def running(self) -> bool:
        return self._port is not None

    def start(self) -> None:
        if self.running:
            return
        world, self.life = self.world, self.life + 1
        client = world.party(self.name)
        self.address = client.reactor.address
        factory = Factory.forProtocol(lambda: _Storing(self))
        factory.noisy = False
        listener = ChannelListener(
            "LOCAL",
            {"": Service(factory)},
            timers=world.network,
            random=SeededRandom(f"{self.name} listener {self.life}"),
            now_milliseconds=world.network.milliseconds,
        )
        self._port = world.network.listen(self.address, 60000, listener)
        self._reception = Reception(
            client,
            listener,
            port=60000,
            random=SeededRandom(f"{self.name} epochs {self.life}"),
        )
        running = Deferred.fromCoroutine(self._reception.run())
        # Another life of ours began to receive: this one is told, and stops.
        _ = running.addErrback(lambda failure: failure.trap(KDCError) and None)

    def crash(self) -> None:
        if self.running:
            self.life += 1
            self._port.stopListening()
            self._port = None
            self._reception.stop()
            self.world.unplug(lambda wire: wire.host.host == self.address)

    def store(self, sender: str, content: bytes) -> None:
        if content not in self.world.sent.get((sender, self.name), ()):
            raise Broken(f"{self.name} accepted what {sender} never sent: {content[:60]!r}")
        if (sender, content) in self.stored:
            raise Broken(f"{self.name} accepted twice: {content[:60]!r}")
        self.stored.append((sender, content))
        self.world.counts["stored"] += 1


class _Sending(StreamRecorder):
    """Sends one thing, and believes in an acknowledgement only."""

    def __init__(self, world: World, sender: str, receiver: _Receiver, content: bytes) -> None:
        super().__init__()
        self._world, self._sender, self._receiver = world, sender, receiver
        self._content = content
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        super().connectionMade()
        self.out.write(self._content)
        self.out.loseWriteConnection()

    def acknowledged(self, status: AckStatus) -> None:
        self._world.counts["acknowledged"] += 1
        if (self._sender, self._content) not in self._receiver.stored:
            raise Broken(f"acknowledged, and not stored: {self._content[:60]!r}")
        self.out.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.ended.callback(None)


class World(EdgeTestCase):
    """All of it, with one seed."""

    def __init__(self, seed: int) -> None:
        super().__init__("live")
        self.seed = seed
        self.rng = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.sent: dict[tuple[str, str], list[bytes]] = {}
        # For each name what its key may be now: one, once something was acknowledged.
        self.expected: dict[str, set[bytes | None]] = {}
        self.busy: set[str] = set()
        self.work: list[tuple[str, Deferred[Any]]] = []
        self.defects: list[str] = []
        self._numbers = itertools.count(1)
        self._lives = itertools.count(1)
        self._up = False
        self._recorded: list[tuple[str, bytes]] = []

    def setUp(self) -> None:
        self.network = _ShuffledNetwork(self.rng)
        self.patch(clock, "milliseconds", self.network.milliseconds)
        self.patch(retry, "chance", random.Random(self.seed))
        self.disk = Disk(self.seed)
        self.start_kdc()
        self.receivers = [_Receiver(self, name) for name in NAMES]
        for name in (*NAMES, "alice", "carol"):
            self.kdc.add(name)
        for receiver in self.receivers:
            receiver.start()
        observer = cast(Any, self._logged)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def _logged(self, event: Any) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self.defects.append(failure.getTraceback())

    def live(self) -> None:
        """Let things happen, heal everything, and look whether all is well."""
        for _ in range(STEPS):
            self.rng.choice(_EVENTS)(self)
            self.network.advance(self.rng.expovariate(1.0))
            self.use_disk()
            self._no_defects()
        self._heal()
        self.network.advance(AGES_SECONDS)
        self._check_store()
        for what, done in self.work:
            if not done.called:
                raise Broken(f"{what} never ends")
        for receiver in self.receivers:
            before = len(receiver.stored)
            self.send("alice", receiver)
            self.network.advance(60)
            if len(receiver.stored) != before + 1:
                raise Broken(f"{receiver.name} is not served any more")
        self._no_defects()

    def _no_defects(self) -> None:
        if self.defects:
            raise Broken(f"a defect in the log:\n{self.defects[0]}")

    # the parties

    def party(self, name: str, secret: str = "first") -> KDCClient:
        number = next(self._numbers)
        host = Host(self.network, f"10.0.{number // 250}.{number % 250 + 1}")
        return KDCClient(
            reactor=host,
            endpoint=TCP4ClientEndpoint(host, KDC_HOST, KDC_PORT),
            tls=ClientTLS(self.kdc.identity, KDC_HOST),
            keys=keys_of(name, secret),
            where="the KDC",
            random=SeededRandom(f"{name} {number}"),
        )

    def begin_work(self, what: str, client: KDCClient, work: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred.fromCoroutine(work)

        def ended(result: Any) -> Any:
            client.close()
            return result

        _ = done.addBoth(ended)
        self.work.append((what, done))
        return done

    def _failed(self, failure: Failure) -> None:
        failure.trap(KDCError)
        self.counts["failed"] += 1

    def send(self, sender: str, receiver: _Receiver) -> None:
        number = next(self._numbers)
        content = f"{sender} to {receiver.name}, number {number}. ".encode()
        content *= self.rng.choice((1, 50, 3000))
        self.sent.setdefault((sender, receiver.name), []).append(content)
        protocol = _Sending(self, sender, receiver, content)
        client = self.party(sender)

        async def deliver() -> None:
            endpoint = ChannelClientEndpoint(client, receiver.name)
            await endpoint.connect(factory_of(protocol))
            await protocol.ended

        done = self.begin_work(f"sending number {number}", client, deliver())
        _ = done.addErrback(self._failed)

    def register(self) -> None:
        name = f"n{next(self._numbers)}"
        client = self.party(name, "0")
        self.expected[name] = {None, keys_of(name, "0").verify_key}
        self._change_keys(name, "0", client, client.register("", 0))

    def change(self) -> None:
        """Give a name that was acknowledged another key."""
        ready = [n for n, keys in self.expected.items() if len(keys) == 1 and n not in self.busy]
        if not ready:
            return
        name = self.rng.choice(ready)
        (now,) = self.expected[name]
        number = next(n for n in itertools.count() if keys_of(name, str(n)).verify_key == now)
        new = str(number + 1)
        client = self.party(name, str(number))
        self.expected[name].add(keys_of(name, new).verify_key)

        async def change() -> None:
            await (await client.link()).change(keys_of(name, new))

        self._change_keys(name, new, client, change())

    def _change_keys(self, name: str, secret: str, client: KDCClient, work: Any) -> None:
        self.busy.add(name)

        def acknowledged(_: object) -> None:
            self.counts["changes acknowledged"] += 1
            self.expected[name] = {keys_of(name, secret).verify_key}

        done = self.begin_work(f"the keys of {name}", client, work)
        _ = done.addCallbacks(acknowledged, self._failed).addBoth(lambda _: self.busy.discard(name))

    # what goes wrong

    def unplug(self, of: Callable[[Wire], bool]) -> None:
        """A machine is gone: its connections are reset."""
        for wire in list(self.network.wires):
            if of(wire):
                wire.finish(ConnectionLost())
                wire.peer.finish(ConnectionLost())

    def some_wire(self) -> Wire | None:
        wires = [wire for wire in self.network.wires if wire.connected]
        return self.rng.choice(wires) if wires else None

    def cut(self) -> None:
        wire = self.some_wire()
        if wire is not None:
            self.counts["cut"] += 1
            self.unplug(lambda other: other is wire)

    def cut_soon(self) -> None:
        """Cut in the middle of something: after so many bytes more."""
        wire = self.some_wire()
        if wire is not None and wire.cut_after is None:
            self.counts["cut"] += 1
            wire.cut_after = wire._moved + self.rng.randrange(1, 3000)

    def stall(self) -> None:
        wire = self.some_wire()
        if wire is not None:
            self.counts["stalled"] += 1
            wire.stalled = True
            self.network.callLater(self.rng.expovariate(0.2), setattr, wire, "stalled", False)

    def flip(self) -> None:
        """One bit of what comes next is another."""
        wire = self.some_wire()
        if wire is not None:
            self.counts["flipped"] += 1
            share = self.rng.random()

            def tamper(data: bytes) -> bytes:
                wire.tamper = lambda data: data
                changed = bytearray(data)
                changed[int(share * len(data))] ^= 1 << self.rng.randrange(8)
                return bytes(changed)

            wire.tamper = tamper

    def record(self) -> None:
        """Remember what somebody says to a receiver."""
        for wire in self.network.wires:
            if wire.peer.host.port == 60000 and wire.sent:
                self._recorded.append((wire.peer.host.host, bytes(wire.sent)))

    def replay(self) -> None:
        """Say to a receiver what somebody else has said to him."""
        self.record()
        for address, sent in self._recorded[-3:]:
            if (address, 60000) in self.network.ports:
                self.counts["replayed"] += 1
                recorder = Recorder()
                self.network.connect("203.0.113.66", address, 60000, recorder)
                recorder.out.write(sent)

    def crash_receiver(self) -> None:
        receiver = self.rng.choice(self.receivers)
        self.counts["receiver crashed"] += 1
        receiver.crash()
        self.network.callLater(self.rng.expovariate(0.5), receiver.start)

    def fill_disk(self) -> None:
        disk = self.disk
        self.counts["disk full"] += 1

        def full(call: str) -> str | None:
            if call in ("write", "pwrite"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return None

        disk.before = full
        self.network.callLater(self.rng.expovariate(0.3), setattr, disk, "before", _nothing)

    def cut_power_soon(self) -> None:
        """The KDC's machine stops in the middle of one of its next calls of the disk."""
        left = itertools.count(self.rng.randrange(6), -1)

        def power_cut(call: str) -> str | None:
            if next(left) <= 0:
                raise PowerCut
            return None

        self.disk.before = power_cut

    def crash_kdc(self) -> None:
        if not self._up:
            return
        self.counts["KDC crashed"] += 1
        self._up = False
        self.disk = self.disk.after_power_cut(self.rng.choice(_LUCK))
        self.kdc.port.stopListening()
        self.kdc.disk.waiting.clear()
        self.unplug(lambda wire: wire.host.port == KDC_PORT)
        self.network.callLater(self.rng.expovariate(0.5), self.start_kdc)

    def start_kdc(self) -> None:
        if self._up:
            return
        life = next(self._lives)
        try:
            store = FlatFileStore.open(
                PATH,
                realm="LOCAL",
                files=self.disk,
                random=SeededRandom(f"store {self.seed} {life}"),
                run=lambda work: work(),
            )
        except (PowerCut, StoreError) as error:
            # The power goes at the start, too; and a disk may still be full.
            if isinstance(error, PowerCut):
                self.disk = self.disk.after_power_cut(self.rng.choice(_LUCK))
            self.counts["KDC did not start"] += 1
            self.network.callLater(self.rng.expovariate(0.5), self.start_kdc)
            return
        self.kdc = KDC(self.network, store=cast(Any, store), tls=_tls())
        self.kdc.realm.random = SeededRandom(f"KDC {self.seed} {life}")
        self.kdc.disk.slow = True
        self._up = True
        self._check_store()

    def use_disk(self) -> None:
        """Do what waits for the KDC's disk."""
        if not self._up:
            return
        waiting, self.kdc.disk.waiting = self.kdc.disk.waiting, []
        for done, call in waiting:
            try:
                results = call()
            except PowerCut:
                self.crash_kdc()
                return
            except Exception:  # noqa: BLE001 - the writer decides, as with a thread's
                done.errback(Failure())
            else:
                done.callback(results)
        self.network.settle()

    def _check_store(self) -> None:
        for name, keys in self.expected.items():
            record = self.kdc.store.get(name)
            if (record and record.verify_key) not in keys:
                raise Broken(f"the store has another key of {name} than was acknowledged")

    def _heal(self) -> None:
        self.disk.before = _nothing
        self.start_kdc()
        self.kdc.disk.slow = False
        self.use_disk()
        for wire in self.network.wires:
            wire.stalled, wire.cut_after = False, None
            wire.tamper = lambda data: data
        for receiver in self.receivers:
            receiver.start()


@functools.cache
def _tls() -> ServerTLS:
    """A certificate of the same length, with signatures of the same length, in every run."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "key distribution centre")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + dt.timedelta(days=9))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return ServerTLS(private, made.sign(key, None).public_bytes(serialization.Encoding.PEM))


def _nothing(call: str) -> None:
    return None


def _send(world: World) -> None:
    world.send(world.rng.choice(("alice", "carol")), world.rng.choice(world.receivers))


# How often each happens, by repetition.
_EVENTS: tuple[Callable[[World], None], ...] = (
    *[_send] * 8,
    *[World.register] * 4,
    *[World.change] * 3,
    *(World.cut, World.cut_soon, World.stall, World.flip, World.replay),
    *(World.crash_receiver, World.crash_kdc, World.fill_disk, World.cut_power_soon),
)


def run(seed: int) -> Counter[str]:
    """Live through one seed; raise `Broken`, naming it, or return what happened."""
    world = World(seed)
    try:
        world.setUp()
        world.live()
    except Exception as error:
        raise Broken(f"seed {seed}: {error}") from error
    finally:
        world.doCleanups()
    return world.counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.simulate")
    parser.add_argument("--seeds", type=int, default=1000, help="so many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    failed = 0
    for seed in range(options.first, options.first + options.seeds):
        try:
            counts += run(seed)
        except Broken as error:
            failed += 1
            print(error, flush=True)
    for what, count in sorted(counts.items()):
        print(f"{count:10,}  {what}")
    print(f"{options.seeds} seeds, {failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
