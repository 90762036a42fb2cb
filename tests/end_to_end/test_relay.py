"""A relay between real programs: on one machine, and in networks where nobody gets in."""

from __future__ import annotations

import hashlib
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.support.processes import CLIENT, KDC, Program, ProgramTestCase, RunningKDC, reserved_port
from tests.support.tunnels import TunnelTestCase, digest_server, shout_server

THROUGH = r"others reach us through the relay at"


class RelayProgramTests(ProgramTestCase):
    """On this machine, where only those who insist use it."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.name("alice"), self.name("bob")
        self.realm = self.kdc("--relay", "0")
        self.realm.program.expect(r"kdc: relay: receiving on 127.0.0.1 port \d+\n")

    def options(self, name: str) -> tuple[str, ...]:
        return ("-n", name, *self.realm.options, *self.key(name), "--reach", "relay")

    def receive(self) -> Program:
        (self.directory / "inbox").mkdir(exist_ok=True)
        receiver = self.client(
            "receive", "--inbox", "inbox", "--listen", "0", *self.options(self.bob)
        )
        receiver.expect(rf"{self.bob}: {THROUGH} 127.0.0.1 port \d+\n")
        receiver.expect(r"receiving on")
        return receiver

    def test_send(self) -> None:
        """A file arrives through it; the KDC's log says who used it, and its key is its own."""
        self.receive()
        content = os.urandom(3_000_000)
        path = self.file("large.bin", content)
        sender = self.client("send", self.bob, str(path), *self.options(self.alice))
        self.assert_ends(sender, 0, "who has it on disk")
        self.assertEqual((self.directory / "inbox" / "large.bin").read_bytes(), content)
        self.eventually("the log names who used it", lambda: self.alice in self._log())
        self.assertEqual((self.directory / "pwd.txt.relay").stat().st_mode & 0o777, 0o600)

    def test_without_one(self) -> None:
        """Where there is none, who insists on it is told so, with status 5."""
        realm = self.realm
        self.realm = self.shared_kdc()
        self.receiver(self.realm, self.bob, "-o", "out")
        sender = self.client("send", self.bob, str(self.file("x", b"x")), *self.options(self.alice))
        self.assert_brief(sender, 5, "there is no relay to reach")
        self.realm = realm

    def test_killed(self) -> None:
        """A relay of its own is killed in the middle, and started again: it goes on from there."""
        self.realm.program.stop()
        self.realm = self.kdc("-f", "another.txt")
        port = reserved_port()
        relay = self._relay(port)
        receiver = self.receive()
        content = os.urandom(40_000_000)
        path = self.file("large.bin", content)
        sender = self.client(
            *("send", self.bob, str(path), *self.options(self.alice)),
        )
        partial = self.directory / "inbox" / ".kdc-partial"
        self.eventually(
            "something has come",
            lambda: (
                any(p.stat().st_size > 0 for p in partial.rglob("*") if p.is_file())
                or (self.directory / "inbox" / "large.bin").exists()
            ),
        )
        relay.kill()
        self._relay(port)
        receiver.expect(THROUGH)
        self.assert_ends(sender, 0, "who has it on disk")
        self.assertEqual((self.directory / "inbox" / "large.bin").read_bytes(), content)

    def _relay(self, port: int) -> Program:
        relay = self.scratch.start(
            *(*KDC, "relay", *self.realm.options, *self.key("relay")),
            *("--listen", f"tcp:{port}:interface=127.0.0.1"),
        )
        relay.expect(r"relay: receiving on 127.0.0.1 port \d+\n")
        return relay

    def _log(self) -> str:
        return (self.directory / "out.txt").read_text()


class TunnelThroughRelayTests(TunnelTestCase):
    def test_tunnel(self) -> None:
        """Bulk both ways, and ends as they come, through a relay."""
        kdc = self.kdc("--relay", "0")
        kdc.program.expect(r"kdc: relay: receiving on")
        alice, bob = self.name("alice"), self.name("bob")
        way = ("--reach", "relay")
        self.exposer(kdc, bob, f"digest=tcp:127.0.0.1:{digest_server(self)}", *way)
        _, port = self.forwarder(kdc, alice, bob, "digest", options=way)
        self.assert_passes(("127.0.0.1", port), 10_000_000)

    def test_pipe(self) -> None:
        """What is typed is answered at once, line by line, as in a shell at the other end."""
        kdc = self.kdc("--relay", "0")
        kdc.program.expect(r"kdc: relay: receiving on")
        alice, bob = self.name("alice"), self.name("bob")
        way = ("--reach", "relay")
        self.exposer(kdc, bob, f"shell=tcp:127.0.0.1:{shout_server(self)}", *way)
        program = self.client(
            *("pipe", "-n", alice, *kdc.options, *self.key(alice), *way, bob, "shell"),
            terminal=True,
        )
        for word in ("hello", "is anybody there", "good bye"):
            program.type(f"{word}\n")
            program.expect(word.upper())
        program.type("\x04")
        self.assert_ends(program, 0)

    def test_two_families(self) -> None:
        """One end comes by IPv6 and the other one by IPv4: they are joined all the same."""
        try:
            reserved_port("::1")
        except OSError as error:
            self.skipTest(f"no IPv6 on this machine: {error}")
        both = ("-p", "tcp:0:interface=127.0.0.1", "-p", "tcp6:0:interface=\\:\\:1")
        kdc = self.kdc(*both, "--relay", "tcp6:0")
        kdc.program.expect(r"kdc: relay: receiving on :: port \d+\n")
        (number,) = re.findall(r"listening on ::1 port (\d+)", kdc.program.said)
        alice, bob = self.name("alice"), self.name("bob")
        way = ("--reach", "relay")
        self.exposer(kdc, bob, f"digest=tcp:127.0.0.1:{digest_server(self)}", *way)
        six = ("-a", "::1", "-p", number)
        _, port = self.forwarder(kdc, alice, bob, "digest", options=(*way, *six))
        self.assert_passes(("127.0.0.1", port))


class OwnProcessTests(TunnelTestCase):
    """A relay that is not the KDC's, under twistd and with a name of its own; programs use it."""

    def setUp(self) -> None:
        super().setUp()
        self.realm = self.shared_kdc()
        self.alice, self.bob, self.eu = map(self.name, ("alice", "bob", "relay-eu"))
        self.relay = self.twistd(
            *("-n", "--pidfile=", "kdc-relay", "-n", self.eu, *self.realm.options),
            *(*self.key(self.eu), "--listen", "tcp:0:interface=127.0.0.1"),
        )
        self.relay.expect(rf"{self.eu}: receiving on 127.0.0.1 port \d+\n")

    def test_another_name(self) -> None:
        """A receiver names it; a sender who does not gets there by the KDC's answer alone."""
        way = ("--reach", f"relay={self.eu}")
        served = f"digest=tcp:127.0.0.1:{digest_server(self)}"
        exposing = self.exposer(self.realm, self.bob, served, *way)
        self.assertRegex(exposing.said, rf"{self.bob}: {THROUGH}")
        self.relay.expect(f"linked: {self.bob} from 127.0.0.1")
        for options in (way, ()):
            alice = self.name("alice")
            _, port = self.forwarder(self.realm, alice, self.bob, "digest", options=options)
            self.assert_passes(("127.0.0.1", port), 1_000_000)

    def test_api(self) -> None:
        """Other people's programs: the classes at one end, an endpoint string at the other."""
        options = [f"address={self.realm.host}", f"port={self.realm.port}"]
        options += [f"kdcFingerprint={self.realm.fingerprint}".replace(":", "\\:")]
        options += [f"reach=relay={self.eu}"]
        string = ":".join([f"kdc:{self.bob}", f"name={self.alice}", *options])
        string += f":keyFile={self.key(self.alice)[1]}"
        opening = {
            "name": self.bob,
            "address": self.realm.host,
            "port": self.realm.port,
            "kdc_fingerprint": self.realm.fingerprint,
            "key_file": self.key(self.bob)[1],
            "reach": f"relay={self.eu}",
        }
        self.file("server.py", SERVER.format(opening=opening).encode())
        self.file("client.py", CLIENT_PROGRAM.format(string=string).encode())
        server = self.scratch.start(sys.executable, "server.py", merged=True)
        server.expect("listening")
        client = self.scratch.start(sys.executable, "client.py")
        self.assert_ends(client, 0)
        self.assertEqual(client.printed, "HELLO\n")
        self.relay.expect(f"linked: {self.bob} from 127.0.0.1")


SERVER = """
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from kdc.api import Client, run

class Shout(Protocol):
    def dataReceived(self, data):
        self.transport.write(data.upper())

async def main(reactor):
    client = await Client.open(reactor, **{opening!r})
    await client.listen(Factory.forProtocol(Shout))
    print("listening", flush=True)
    await Deferred()

run(main)
"""
CLIENT_PROGRAM = """
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, Protocol
from kdc.api import run

class Say(Protocol):
    def connectionMade(self):
        self.heard = Deferred()
        self.transport.write(b"hello")

    def dataReceived(self, data):
        self.heard.callback(data)

async def main(reactor):
    endpoint = clientFromString(reactor, {string!r})
    say = await endpoint.connect(Factory.forProtocol(Say))
    print((await say.heard).decode())

run(main)
"""


# What a system says that has no such things, or not for us.
_LACKING = ("not permitted", "denied", "not supported", "Unknown device type", "Read-only")


class _Hosts:
    """Network namespaces around this one: each is linked to the host ``kdc`` alone."""

    def __init__(self) -> None:
        self.made: list[str] = []
        # Of its own, whoever else runs these tests; the name of an interface has 15 letters.
        self.stem = f"kdc{secrets.token_hex(4)}"

    def make(self, name: str, number: int) -> str:
        """A host with an address of its own; return it."""
        space = self._space(name)
        self._run("ip", "netns", "add", space)
        self.made.append(space)
        self._run("ip", "-n", space, "link", "set", "lo", "up")
        if name != "kdc":
            near, far = f"{self.stem}{number}a", f"{self.stem}{number}b"
            self._run(
                *("ip", "link", "add", near, "netns", space, "type", "veth"),
                *("peer", "name", far, "netns", self._space("kdc")),
            )
            for where, end, last in ((space, near, 2), (self._space("kdc"), far, 1)):
                self._run(
                    "ip", "-n", where, "addr", "add", f"10.213.{number}.{last}/24", "dev", end
                )
                self._run("ip", "-n", where, "link", "set", end, "up")
            self._run("ip", "-n", space, "route", "add", "default", "via", f"10.213.{number}.1")
            return f"10.213.{number}.2"
        return ""

    def let_nothing_in(self, name: str, port: int) -> None:
        """What comes for ``port`` is thrown away in silence, as by a router that translates."""
        space = self._space(name)
        self._run("ip", "-n", space, "rule", "add", "pref", "10", "lookup", "local")
        self._run("ip", "-n", space, "rule", "del", "pref", "0")
        self._run(
            *("ip", "-n", space, "rule", "add", "pref", "5", "ipproto", "tcp"),
            *("dport", str(port), "blackhole"),
        )

    def inside(self, name: str, argv: Iterable[str]) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self._space(name), *argv)

    def cut(self, name: str, number: int) -> None:
        """Take the link down, and have every connection over it find out."""
        subprocess.run(
            self.inside(name, ("ss", "-K", "dport", "=", "60600")), check=False, capture_output=True
        )
        end = f"{self.stem}{number}a"
        self._run("ip", "-n", self._space(name), "link", "set", end, "down")
        self._run("ip", "-n", self._space(name), "link", "set", end, "up")
        self._run(
            *("ip", "-n", self._space(name), "route", "replace", "default"),
            *("via", f"10.213.{number}.1"),
        )

    def end(self) -> None:
        for space in reversed(self.made):
            subprocess.run(("ip", "netns", "del", space), check=False)

    def _space(self, name: str) -> str:
        return f"{self.stem}-{name}"

    @staticmethod
    def _run(*argv: str) -> None:
        subprocess.run(argv, check=True, capture_output=True)


class NetworkTests(ProgramTestCase):
    """Three hosts: the KDC with its relay, alice and bob, each of whom reaches the KDC alone."""

    SIZE = int(os.environ.get("RELAY_TEST_BYTES", "25165824"))
    CUTS = int(os.environ.get("RELAY_TEST_CUTS", "3"))

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise SkipTest("network namespaces need root and iproute2")
        self.kept = 0
        self.hosts = _Hosts()
        self.addCleanup(self.hosts.end)
        try:
            self.hosts.make("kdc", 0)
            self.hosts.make("alice", 1)
            self.hosts.make("bob", 2)
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace")
            if not any(lacking in said for lacking in _LACKING):
                raise AssertionError(said) from error
            raise SkipTest(f"no network namespaces here: {said}") from None
        for name in ("alice", "bob"):
            self.key(name)
        (self.directory / "inbox").mkdir()
        self.realm = self.start_kdc()

    def start_kdc(self) -> RunningKDC:
        kdc = self.scratch.start(
            *self.hosts.inside("kdc", KDC),
            *("-p", "tcp:12345", "-f", "pwd.txt", "-o", "out.txt", "--enrol", "open"),
            *("--relay", "tcp:60600"),
        )
        realm = RunningKDC(kdc)
        kdc.expect(r"kdc: relay: receiving on \S+ port 60600\n")
        return realm

    def options(self, name: str, number: int) -> tuple[str, ...]:
        return (
            *("-n", name, "-a", f"10.213.{number}.1", "-p", "12345"),
            *("--kdc-fingerprint", self.realm.fingerprint, *self.key(name)),
        )

    def receive(self) -> Program:
        return self.scratch.start(
            *self.hosts.inside("bob", CLIENT),
            *("receive", "--inbox", "inbox", *self.options("bob", 2)),
        )

    def send(self, *what: str) -> Program:  # type: ignore[override]
        return self.scratch.start(
            *self.hosts.inside("alice", CLIENT), *("send", "bob", *what, *self.options("alice", 1))
        )

    def large(self) -> Path:
        path = self.directory / "large.bin"
        with path.open("wb") as file:
            for _ in range(0, self.SIZE, 1 << 20):
                file.write(os.urandom(1 << 20))
        return path

    def send_through_the_relay(self) -> tuple[Path, Program]:
        """A large file is on its way to bob, who cannot be reached otherwise."""
        self.hosts.let_nothing_in("bob", 60000)
        receiver = self.receive()
        receiver.expect(THROUGH)
        receiver.expect("receiving on")
        path = self.large()
        return path, self.send(str(path))

    def assert_equal(self, path: Path) -> None:
        found = self.directory / "inbox" / path.name
        digests = [hashlib.sha256(each.read_bytes()).digest() for each in (path, found)]
        self.assertEqual(digests[0], digests[1])

    def test_nothing_gets_in(self) -> None:
        """Bob's network lets nothing in: he is reached through the relay, and so is told."""
        self.hosts.let_nothing_in("bob", 60000)
        receiver = self.receive()
        receiver.expect(rf"bob: {THROUGH} 10.213.2.1 port 60600, as it cannot reach our port 60000")
        receiver.expect("receiving on")
        doctor = self.scratch.start(
            *self.hosts.inside("bob", CLIENT), "doctor", *self.options("bob", 2)
        )
        self.assert_ends(doctor, 0)
        self.assertIn(
            "ok   relay: 10.213.2.1 port 60600 answers, and it cannot connect to our port 60000:"
            " others come through it\n",
            doctor.printed,
        )
        path = self.file("hello.txt", b"hello")
        # What bob's own way to the relay is called means nothing to alice: the relay's name does.
        self.assert_ends(self.send(str(path)), 0, "who has it on disk")
        self.assert_equal(path)

    def test_the_relay_reaches_him_and_the_sender_does_not(self) -> None:
        """Bob tells his own address, which is good for the KDC's side of the world only."""
        receiver = self.receive()
        receiver.expect(r"bob: others reach us directly, or else through the relay")
        receiver.expect("receiving on")
        path = self.file("hello.txt", b"hello")
        self.assert_ends(self.send(str(path)), 0, "who has it on disk")
        self.assert_equal(path)

    def test_cut(self) -> None:
        """Links go down while a file is on its way: it goes on where it was, and is whole."""
        path, sender = self.send_through_the_relay()
        chance = random.Random(self.SIZE)
        for _ in range(self.CUTS):
            self.wait_for_more(chance.randrange(1 << 18, max(self.SIZE // self.CUTS, 1 << 19)))
            name, number = chance.choice((("alice", 1), ("bob", 2)))
            self.hosts.cut(name, number)
        self.assert_ends(sender, 0, "who has it on disk")
        self.assert_equal(path)

    def test_restart(self) -> None:
        """The KDC with its relay is killed and started again in the middle: the same."""
        path, sender = self.send_through_the_relay()
        self.wait_for_more(1 << 18)
        self.realm.program.signal(signal.SIGKILL)
        self.realm.program.wait()
        self.realm = self.start_kdc()
        self.assert_ends(sender, 0, "who has it on disk")
        self.assert_equal(path)

    def wait_for_more(self, count: int) -> None:
        """Until so much more of it has been kept, or all of it."""
        inbox = self.directory / "inbox"

        def kept() -> int:
            return sum(p.stat().st_size for p in inbox.rglob("*") if p.is_file() and p.exists())

        before = self.kept
        whole = inbox / "large.bin"
        self.eventually("more has come", lambda: whole.exists() or kept() >= before + count)
        self.kept = kept()
