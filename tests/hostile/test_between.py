"""Whoever sits between two parties can stop them, at any byte, and nothing more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS
from kdc.errors import KDCError
from tests.hostile._between import ATTACKS, Attack
from tests.support.core import keys_of
from tests.support.edge import KDC_HOST, ChannelTestCase, EdgeTestCase, Recorder, Wire

CONTENT = b"the quick brown fox " * 5
# Longer than every deadline of a channel or a connection.
AGES_SECONDS = 7200


class ChannelTests(ChannelTestCase):
    """A short exchange over a channel, attacked at every byte of either direction."""

    def exchange(self, what: str = "", sender: bool = True, position: int = 0) -> Wire:
        """Send `CONTENT` to bob, and see what became of it."""
        self.setUp()
        alice, bob = Recorder(), Recorder()
        self.offer(bob)
        channel = self.sender(alice)
        wire = self.dial(channel)
        attacked = wire if sender else wire.peer
        other = self.recorded[sender][position:] if what else b""
        attack = Attack(self.network, attacked, what, position, other) if what else None
        opened = channel.opened.addCallbacks(
            lambda _: (alice.out.write(CONTENT), alice.out.loseConnection()),
            lambda failure: failure.trap(KDCError) and None,
        )
        self.network.settle()
        self.network.advance(AGES_SECONDS)
        self.successResultOf(opened)
        why = f"{what} at byte {position} of {'alice' if sender else 'bob'}"
        if attack is not None:
            self.assertTrue(attack.done, why)
        self.assertTrue(CONTENT.startswith(bytes(bob.received)), why)
        self.assertEqual(bytes(alice.received), b"", why)
        for one in (alice, bob):
            if one.made:
                self.assertIsNot(one.lost, None, why)
            # A clean end says that all of it has come.
            if isinstance(one.lost, ConnectionDone):
                self.assertEqual(bytes(bob.received), CONTENT, why)
        self.whole = all(isinstance(one.lost, ConnectionDone) for one in (alice, bob))
        self.assert_quiet()
        return wire

    def test_every_byte(self) -> None:
        """Whatever is done to a byte, bob takes a beginning of what alice sent, or all of it."""
        wire = self.exchange()
        self.assertTrue(self.whole)
        self.recorded = {True: bytes(wire.sent), False: bytes(wire.peer.sent)}
        outcomes: dict[str, set[bool]] = {what: set() for what in ATTACKS}
        for sender, sent in self.recorded.items():
            for position in range(len(sent)):
                for what in ATTACKS:
                    self.exchange(what, sender, position)
                    outcomes[what].add(self.whole)
        self.assertEqual(outcomes.pop("delay"), {True})
        for what, wholes in outcomes.items():
            self.assertIn(False, wholes, what)

    def test_a_record_that_never_ends(self) -> None:
        """A forged length: pings, which fill it up in hours, are no sign of life."""
        alice, bob = Recorder(), Recorder()
        _, wire = self.pair(alice, bob)

        def longer(data: bytes) -> bytes:
            wire.peer.tamper = lambda data: data
            return bytes([data[0] ^ 0x20]) + data[1:]

        wire.peer.tamper = longer
        bob.out.write(b"hello")
        self.network.advance(AGES_SECONDS)
        self.assertEqual(bytes(alice.received), b"")
        self.assertIsInstance(alice.lost, KDCError)
        self.assertIsInstance(bob.lost, KDCError)
        self.assert_quiet()

    recorded: dict[bool, bytes]
    whole = False


def edges(sent: bytes) -> set[int]:
    """Where TLS records begin and end in ``sent``, with what is near: headers, types, tags."""
    found: set[int] = set()
    at = 0
    while at < len(sent):
        end = at + 5 + int.from_bytes(sent[at + 3 : at + 5], "big")
        found |= {*range(at, min(at + 8, end)), *range(max(at, end - 18), end, 4), end - 1}
        at = end
    return found


class KDCTests(EdgeTestCase):
    """A registration and a request for a key, over TLS, attacked at every byte."""

    def alice(self) -> KDCClient:
        tls = ClientTLS(self.kdc.identity, KDC_HOST)
        # The shortest key exchange: a post-quantum one is a thousand random bytes more.
        tls._context.set_tmp_ecdh(ec.SECP256R1())
        return self.client("alice", address="192.0.2.1", tls=tls)

    def exchange(self, what: str = "", client: bool = True, position: int = 0) -> bytes:
        """Register alice and get her a key, and see what became of it."""
        self.setUp()
        alice = self.alice()
        wires: list[Wire] = []
        connect = self.network.connect

        def connected(*args: Any) -> Wire:
            wire = connect(*args)
            wires.append(wire if client else wire.peer)
            if what and len(wires) == 1:
                Attack(self.network, wires[0], what, position, self.recorded[client][position:])
            return wire

        self.network.connect = connected  # type: ignore[method-assign,assignment]
        results: list[object] = []
        work = Deferred.fromCoroutine(alice.register("", 0)).addBoth(results.append)
        self.network.settle()
        self.network.advance(AGES_SECONDS)
        self.assertTrue(work.called, f"{what} at byte {position}: it never ends")
        result = results[0]
        if isinstance(result, Failure):
            result.trap(KDCError)
        else:
            # What was acknowledged is stored, and is what alice wanted to be stored.
            record = self.kdc.store.get("alice")
            self.assertIsNot(record, None)
            self.assertEqual(record and record.verify_key, keys_of("alice").verify_key)
        self.whole = not isinstance(result, Failure)
        alice.close()
        self.network.settle()
        return bytes(wires[0].sent)

    def attacked(self, attacks: Sequence[str], client: bool, positions: Iterable[int]) -> None:
        """Do each of ``attacks`` at each of ``positions`` of what one side sends."""
        for position in positions:
            for what in attacks:
                self.exchange(what, client, position)
                self.outcomes[what].add(self.whole)

    def record(self) -> None:
        self.outcomes: dict[str, set[bool]] = {what: set() for what in ATTACKS}
        self.recorded = {side: self.exchange(client=side) for side in (True, False)}
        self.assertTrue(self.whole)

    def assert_bites(self) -> None:
        """A delay stops nothing, everything else stops something; and the KDC is well."""
        self.assertEqual(self.outcomes.pop("delay"), {True})
        for what, wholes in self.outcomes.items():
            self.assertIn(False, wholes, what)
        self.assert_well()

    def test_every_byte(self) -> None:
        """One party is told of a failure, or what it is told is true; and it ends.

        Each byte is flipped; the other attacks take turns from byte to byte, unless all of
        them are asked for.
        """
        self.record()
        for side, sent in self.recorded.items():
            if os.environ.get("EVERY_ATTACK"):
                self.attacked(ATTACKS, side, range(len(sent)))
                continue
            self.attacked(["flip"], side, range(len(sent)))
            for first in range(1, len(ATTACKS)):
                positions = range(first - 1, len(sent), len(ATTACKS) - 1)
                self.attacked([ATTACKS[first]], side, positions)
        self.assert_bites()

    def test_every_record(self) -> None:
        """Every attack at each record's header, first bytes, tag and end."""
        self.record()
        for side, sent in self.recorded.items():
            found = edges(sent)
            self.assertGreater(len(found), 50)
            self.attacked(ATTACKS, side, sorted(found))
        self.assert_bites()

    recorded: dict[bool, bytes]
    whole = False
