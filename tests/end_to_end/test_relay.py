"""A relay between real programs, on one machine."""

from __future__ import annotations

import os
import re
import sys

from tests.server.test_status import fetch
from tests.support.processes import KDC, Program, ProgramTestCase, bytes_below, reserved_port
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

    def test_receivers_without_one(self) -> None:
        """A receiver who insists on a relay that there is not says so, and does not pretend."""
        realm, self.realm = self.realm, self.shared_kdc()
        receiver = self.client("receive", "--inbox", ".", "--listen", "0", *self.options(self.bob))
        receiver.expect(
            rf"{self.bob}: the realm's relay cannot be used at the moment: no key for relay"
        )
        self.assertNotIn("receiving on", receiver.said)
        self.realm = realm

    def test_wrong_words(self) -> None:
        """What is no way is refused before anybody is asked."""
        name = "not a principal's name"
        for wrong, why in (
            *(("relay=", name), ("relay=No Such Name", name), ("auto=relay=x", name)),
            *(("both", "reach"), ("direct=relay", "reach")),
        ):
            us = self.options(self.alice)[:-1]
            self.assert_brief(self.client("send", self.bob, "x", *us, wrong), 1, why)

    def test_killed_receiver(self) -> None:
        """A receiver that is killed and started again goes on with what it has."""
        receiver = self.receive()
        path = self.file("large.bin", os.urandom(24 << 20))
        sender = self.client(
            *("send", self.bob, str(path), "--limit", "8M", *self.options(self.alice))
        )
        inbox = self.directory / "inbox"
        self.eventually("some of it has come", lambda: bytes_below(inbox) > 4 << 20)
        receiver.kill()
        self.receive()
        self.assert_ends(sender, 0, "who has it on disk")
        self.assertEqual((self.directory / "inbox" / "large.bin").read_bytes(), path.read_bytes())

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
        inbox = self.directory / "inbox"
        self.eventually("something has come", lambda: bytes_below(inbox) > 0)
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


class WatchedTests(TunnelTestCase):
    """What the KDC tells of its relay, while one is joined and when it has gone."""

    def test_figures(self) -> None:
        kdc = self.kdc("--relay", "0", "--status", "0")
        found = kdc.program.expect(r"kdc: status at (http://\S+)/\n")
        url = found[1]
        if fetch(f"{url}/metrics")[0] == 503:
            self.skipTest("prometheus-client is not installed")
        alice, bob = self.name("alice"), self.name("bob")
        way = ("--reach", "relay")
        self.exposer(kdc, bob, f"shell=tcp:127.0.0.1:{shout_server(self)}", *way)
        program = self.client(
            *("pipe", "-n", alice, *kdc.options, *self.key(alice), *way, bob, "shell"),
            terminal=True,
        )
        program.answer("", "hello")
        program.expect("HELLO")
        self.assert_told(url, links=1, joined=1, waiting=0, joins_total=1)
        self.assertGreater(self.told(url)["kdc_relay_bytes_total"], 200)
        _, page = fetch(f"{url}/")
        self.assertIn(b"<dt>joined connections</dt><dd>1</dd>", page)
        program.type("\x04")
        self.assert_ends(program, 0)
        self.assert_told(url, links=1, joined=0, waiting=0, joins_total=1)

    def told(self, url: str) -> dict[str, float]:
        text = fetch(f"{url}/metrics")[1].decode()
        return {
            name: float(number) for name, number in re.findall(r"(?m)^(kdc_relay_\S+) (\S+)$", text)
        }

    def assert_told(self, url: str, **expected: int) -> None:
        wanted = {f"kdc_relay_{name}": number for name, number in expected.items()}
        self.eventually(
            f"the figures are {wanted}",
            lambda: {name: self.told(url).get(name) for name in wanted} == wanted,
        )


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
