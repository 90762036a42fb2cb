"""A relay that does to what it carries whatever somebody on the way could.

Everything else about it is the real relay: it links, calls and joins as that does.  It is
used on the network in memory, and as a program: `PROGRAM`, what `Deed.words` says of the
deed, and then options of ``kdc relay``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from kdc.client.membership import enter, make_client
from kdc.client.settings import client_settings
from kdc.commands.relay import Options
from kdc.net.exit_status import run_to_end, say
from kdc.protocol.relay import RELAY
from kdc.relay._port import Joined, Port
from kdc.relay.limits import RelaySettings
from kdc.relay.relay import Relay

__all__ = ["CHANGES", "DEEDS", "DELAY_SECONDS", "PROGRAM", "Deed", "HostilePort", "hostile"]

PROGRAM = (sys.executable, "-m", "tests.support.hostile_relay")
DELAY_SECONDS = 2.0
# What becomes of what one end sends, from a position on: (rest, size, other) -> what arrives.
# ``size`` is that of the piece there, ``other`` what went there in the transfer before.
CHANGES: dict[str, Callable[[bytes, int, bytes], bytes]] = {
    "flip": lambda rest, size, other: bytes([rest[0] ^ 0x01]) + rest[1:],
    "drop": lambda rest, size, other: rest[size:],
    "repeat": lambda rest, size, other: rest[:size] + rest,
    "insert": lambda rest, size, other: bytes(size) + rest,
    "reorder": lambda rest, size, other: rest[size : 2 * size] + rest[:size] + rest[2 * size :],
    "splice": lambda rest, size, other: other,
}
# ``cut`` closes both ends as if all had been said, ``reset`` does not; ``stall``: nothing more
# goes that way; ``delay``: not for a while.
DEEDS = (*CHANGES, "cut", "reset", "stall", "delay")


@attrs.define
class Deed:
    """What is done at the byte ``position`` of what goes to one side.

    ``size``: of the piece there; ``skip``: so many connections are left alone first, and
    those behind the next ``times`` again.
    """

    what: str
    to_receiver: bool = True
    position: int = 0
    size: int = 1
    skip: int = 0
    times: int = 1_000_000
    done: int = 0

    @property
    def enough(self) -> int:
        """So much from the position on has to be there before it can be done."""
        return {"drop": self.size, "repeat": self.size, "reorder": 2 * self.size}.get(self.what, 1)

    def concerns(self, to_receiver: bool) -> bool:
        """Whether it is done to the next connection of which that end is made."""
        if to_receiver is not self.to_receiver:
            return False
        self.skip -= 1
        self.times -= self.skip < 0
        return self.skip < 0 and self.times >= 0

    @property
    def words(self) -> tuple[str, ...]:
        numbers = (self.to_receiver, self.position, self.size, self.skip, self.times)
        return (self.what, *(str(int(number)) for number in numbers))

    @classmethod
    def of(cls, what: str, to_receiver: str, *numbers: str) -> Deed:
        return cls(what, to_receiver == "1", *map(int, numbers))


class HostilePort(Port):
    """Does ``deed``, which may be another one for each connection."""

    deed: Deed | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # What each side was sent in the last transfer that was left alone.
        self.before = {True: b"", False: b""}

    def carrying(self, principal: str, early: bytes = b"") -> Joined:
        return _HostileEnd(self, principal, early)


def hostile(deed: Deed | None = None) -> Callable[..., Port]:
    """What a `Relay` is given to make its port."""

    def make(*args: Any, **options: Any) -> Port:
        port = HostilePort(*args, **options)
        port.deed = deed
        return port

    return make


class _HostileEnd(Joined):
    """One end: what comes here goes on changed."""

    def __init__(self, port: HostilePort, principal: str, early: bytes = b"") -> None:
        super().__init__(port, principal, early)
        self._hostile = port
        self._to_receiver = bool(early)
        mine = port.deed is not None and port.deed.concerns(self._to_receiver)
        self._deed = port.deed if mine else None
        self._left_alone = not mine
        self._heard = bytearray()
        self._held = bytearray()
        self._went = 0
        self._silent = self._ended = False

    def dataReceived(self, data: bytes | memoryview) -> None:
        self._heard += data
        self.received += len(data)  # it has moved, whatever becomes of it: nobody here is idle
        if self._silent or self._deed is not None:
            self._held += data
            self._consider()
        else:
            self._pass_on(bytes(data))

    def readConnectionLost(self) -> None:
        self._ended = True
        if self._deed is not None and self._held:
            self._do()
        if not self._silent:
            super().readConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._left_alone:
            self._hostile.before[self._to_receiver] = bytes(self._heard)
        super().connectionLost(reason)

    def _consider(self) -> None:
        deed = self._deed
        if deed is None:
            return
        before = bytes(self._held[: deed.position - self._went])
        del self._held[: len(before)]
        self._pass_on(before)
        if self._went == deed.position and len(self._held) >= deed.enough:
            self._do()

    def _pass_on(self, data: bytes) -> None:
        self._went += len(data)
        super().dataReceived(data)

    def _do(self) -> None:
        deed, self._deed = cast(Deed, self._deed), None
        deed.done += 1
        if deed.what in CHANGES:
            held, self._held = bytes(self._held), bytearray()
            other = self._hostile.before[self._to_receiver][deed.position :]
            # Behind another transfer's bytes nothing of this one comes.
            self._silent = deed.what == "splice"
            self._pass_on(CHANGES[deed.what](held, deed.size, other))
        elif deed.what == "reset":
            for end in (self, cast(Joined, self._other)):
                end.cut()
        else:
            self._silent = True
            if deed.what == "cut":
                for end in (self, cast(Joined, self._other)):
                    end._transport.unregisterProducer()
                    end._transport.loseConnection()
            elif deed.what == "delay":
                self._hostile.timers.callLater(DELAY_SECONDS, self._go_on)

    def _go_on(self) -> None:
        held, self._held, self._silent = bytes(self._held), bytearray(), False
        if not self._lost:
            self._pass_on(held)
            if self._ended:
                super().readConnectionLost()


def _main() -> None:
    """``kdc relay`` with a deed: ``--listen`` is an endpoint here."""
    from twisted.internet import reactor

    options = Options()
    options.parseOptions(sys.argv[7:])
    settings = client_settings({**options, "name": RELAY})
    client = make_client(reactor, settings)

    async def work() -> int:
        relay = Relay(
            client,
            RelaySettings(options["listen"]),
            status=say,
            make_port=hostile(Deed.of(*sys.argv[1:7])),
        )
        await relay.bind()
        await enter(client, settings, relay.port_number)
        await relay.run()
        return 0

    raise SystemExit(run_to_end("hostile relay", reactor, work, serves=True))


if __name__ == "__main__":
    _main()
