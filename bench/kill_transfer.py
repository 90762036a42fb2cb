"""Kill a transfer again and again, at random moments on either side, until it has arrived.

    python -m bench.kill_transfer [--kills 10] [--size BYTES] [--seed N]

The sender is a ``kdcclient send`` that is started again whenever it was killed;
the receiver a ``kdcclient receive --inbox`` that is started again whenever it
was.  A proxy in between slows the stream down and counts it.  In the end the
file has to be equal, and what went over the wire tells how much was sent twice.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import random
import selectors
import socket
import threading
import time

from bench.realm import Process, Realm, realm
from kdc.terminal import amount

_READ = 1 << 16


class Counter:
    """Listens at 127.0.0.2 in the receiver's place, and passes on so many bytes a second."""

    def __init__(self, port: int, rate: float) -> None:
        self.passed = 0
        self._rate = rate
        self._port = port
        self._listening = socket.create_server(("127.0.0.2", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            threading.Thread(target=self._pass_on, args=(connection,), daemon=True).start()

    def _pass_on(self, connection: socket.socket) -> None:
        try:
            # Small buffers: what the kernel holds when a side is killed is lost.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
            with connection, socket.create_connection(("127.0.0.1", self._port)) as onward:
                self._relay(connection, onward)
        except OSError:
            return

    def _relay(self, sender: socket.socket, receiver: socket.socket) -> None:
        with selectors.DefaultSelector() as both:
            both.register(sender, selectors.EVENT_READ, receiver)
            both.register(receiver, selectors.EVENT_READ, sender)
            while True:
                for key, _ in both.select():
                    source, sink = key.fileobj, key.data
                    data = source.recv(_READ)  # type: ignore[union-attr]
                    if not data:
                        return
                    sink.sendall(data)
                    if source is sender:
                        self.passed += len(data)
                        time.sleep(len(data) / self._rate)


def receiver(parties: Realm, port: int) -> Process:
    return parties.client(
        *("receive", "bob", "--inbox", "inbox", "--once"),
        *("--listen", str(port), "--advertise", "127.0.0.2"),
    )


def run(parties: Realm, size: int, kills: int, chance: random.Random) -> None:
    path, inbox = parties.directory / "large", parties.directory / "inbox"
    inbox.mkdir()
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(chance.randbytes(1 << 20))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    rate = size / 6.0
    counter = Counter(port, rate)
    receiving = receiver(parties, port)
    receiving.wait_for("receiving on")
    sending = parties.client("send", "alice", "bob", str(path))
    killed = {"sender": 0, "receiver": 0}
    while sum(killed.values()) < kills:
        # A tenth of what is left, more or less: the last kill comes before the end.
        before = counter.passed
        wanted = before + chance.uniform(0.2, 1.0) * size / (kills + 1)
        while counter.passed < wanted and sending.status is None:
            time.sleep(0.01)
        if sending.status == 0:
            break
        side = chance.choice(["sender", "receiver"])
        killed[side] += 1
        if side == "sender":
            sending.kill()
        else:
            receiving.kill()
            receiving = receiver(parties, port)
        if sending.status is not None:
            sending = parties.client("send", "alice", "bob", str(path))
    status = sending.wait()
    if status or receiving.wait():
        raise RuntimeError(f"status {status}: {sending.lines} {receiving.lines}")
    if not filecmp.cmp(path, inbox / "large", shallow=False):
        raise RuntimeError("what arrived is something else")
    if sorted(os.listdir(inbox)) != ["large"]:
        raise RuntimeError(f"left behind: {os.listdir(inbox)}")
    again = counter.passed - size
    number = sum(killed.values())
    print(
        f"{amount(size)}, the sender killed {killed['sender']} times, the receiver"
        f" {killed['receiver']} times: equal; {amount(again)} sent again,"
        f" {amount(again / max(number, 1))} for each kill",
        flush=True,
    )


def main() -> None:
    """Raises `RuntimeError` if it did not arrive as it was."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--size", type=int, default=256 << 20)
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if chosen.seed is None else chosen.seed
    print(f"--seed {seed}")
    with realm() as parties:
        run(parties, chosen.size, chosen.kills, random.Random(seed))


if __name__ == "__main__":
    main()
