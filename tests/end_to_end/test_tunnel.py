"""Tunnels as people start them."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import stat
import tempfile
from pathlib import Path

from tests.support.processes import CLIENT, RunningKDC, reserved_port
from tests.support.tunnels import TunnelTestCase, digest_server


class TunnelProgramTests(TunnelTestCase):
    def test_tcp(self) -> None:
        """Ten MB each way, and both ends pass on as they come; the exposing side says who came."""
        kdc = self.shared_kdc()
        alice, bob = self.name("alice"), self.name("bob")
        exposing = self.exposer(kdc, bob, f"digest=tcp:127.0.0.1:{digest_server(self)}")
        _, port = self.forwarder(kdc, alice, bob, "digest")
        self.assert_passes(("127.0.0.1", port), 10_000_000)
        exposing.expect(rf"{bob}: digest: {alice} from 127.0.0.1 port \d+: connected\n")
        exposing.expect(
            rf"{alice} from \S+ port \d+: closed after 10000000|bytes in, \d+ bytes out"
        )
        self.assertNotIn("Traceback", exposing.said)

    def test_unnamed(self) -> None:
        """The service without a name, as programs offer it, is forwarded, too."""
        kdc = self.shared_kdc()
        alice, bob = self.name("alice"), self.name("bob")
        self.exposer(kdc, bob, f"=tcp:127.0.0.1:{digest_server(self)}")
        program = self.client(
            *("forward", "-n", alice, *kdc.options, *self.key(alice)),
            *("--to", bob, "", "--listen", "0"),
        )
        found = program.expect(rf"the unnamed service of {bob} is at \S+ port (\d+)\n")
        self.assert_passes(("127.0.0.1", int(found[1])))

    def test_datagrams(self) -> None:
        """UDP at both ends: datagrams of every size come whole, and each sender has his answers."""
        kdc = self.shared_kdc()
        alice, bob = self.name("alice"), self.name("bob")
        far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(far.close)
        far.settimeout(60)
        far.bind(("127.0.0.1", 0))
        exposing = self.exposer(kdc, bob, f"echo=udp:127.0.0.1:{far.getsockname()[1]}")
        _, port = self.forwarder(kdc, alice, bob, "echo", "udp:0")
        users = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for number, user in enumerate(users):
            self.addCleanup(user.close)
            user.settimeout(60)
            user.connect(("127.0.0.1", port))
            for size in (1, 0, 512, 9000, 60_000):
                user.send(bytes([number]) * size)
                datagram, source = far.recvfrom(65_536)
                self.assertEqual(datagram, bytes([number]) * size)
                far.sendto(datagram[::-1] + b"!", source)
                self.assertEqual(user.recv(65_536), datagram + b"!")
            exposing.expect(rf"echo: {alice} from \S+ port \d+: connected\n")

    def test_no_place_for_datagrams(self) -> None:
        """What is no address and port is refused before anything listens."""
        kdc = self.shared_kdc()
        alice = self.name("alice")
        for expose in ("e=udp:localhost:53", "e=udp:53", "e=udp:127.0.0.1:0", "e=udp:127.0.0.1:x"):
            program = self.client("expose", "-n", alice, *kdc.options, *self.key(alice), expose)
            self.assert_brief(program, 1, "not a place for datagrams")

    def test_several_services(self) -> None:
        """One receiver offers several services, each reached under its own name."""
        kdc = self.shared_kdc()
        alice, bob = self.name("alice"), self.name("bob")
        ports = [digest_server(self), digest_server(self)]
        self.exposer(
            kdc, bob, f"one=tcp:127.0.0.1:{ports[0]}", f"two=tcp:host=127.0.0.1:port={ports[1]}"
        )
        for service in ("one", "two"):
            _, port = self.forwarder(kdc, alice, bob, service)
            self.assert_passes(("127.0.0.1", port))

    def socket_path(self, name: str) -> Path:
        """Where a socket can be: its whole path may have 107 bytes, wherever the checkout is."""
        directory = Path(tempfile.mkdtemp(prefix="kdc-"))
        self.addCleanup(shutil.rmtree, directory)
        return directory / f"{name}.sock"

    def test_unix_sockets(self) -> None:
        """Unix sockets at both ends."""
        kdc = self.shared_kdc()
        alice, bob = self.name("alice"), self.name("bob")
        near, far = self.socket_path("near"), self.socket_path("far")
        digest_server(self, path=far)
        self.exposer(kdc, bob, f"digest=unix:{far}")
        self.forwarder(kdc, alice, bob, "digest", f"unix:{near}")
        self.assertEqual(stat.S_IMODE(near.stat().st_mode), 0o600)
        self.assert_passes(str(near), family=socket.AF_UNIX)

    def test_unix_socket_left_behind(self) -> None:
        """The socket of a process that was killed is no hindrance to the next one."""
        kdc = self.shared_kdc()
        near = self.socket_path("near")
        alice, bob = self.name("alice"), self.name("bob")
        self.exposer(kdc, bob, f"digest=tcp:127.0.0.1:{digest_server(self)}")
        first, _ = self.forwarder(kdc, alice, bob, "digest", f"unix:{near}")
        first.kill()
        self.assertTrue(near.exists())
        self.forwarder(kdc, alice, bob, "digest", f"unix:{near}:mode=660")
        self.assertEqual(stat.S_IMODE(near.stat().st_mode), 0o660)
        self.assert_passes(str(near), family=socket.AF_UNIX)

    def test_ipv6(self) -> None:
        """Everything over IPv6: the KDC, the channel, and both local ends."""
        try:
            reserved_port("::1")
        except OSError as error:
            self.skipTest(f"no IPv6 on this machine: {error}")
        program = self.kdc("-p", "tcp6:0:interface=\\:\\:1")
        alice, bob = self.name("alice"), self.name("bob")
        far = digest_server(self, "::1")
        exposing = self.exposer(program, bob, f"digest=tcp:host=\\:\\:1:port={far}")
        _, port = self.forwarder(program, alice, bob, "digest", "tcp6:0")
        self.assert_passes(("::1", port), family=socket.AF_INET6)
        self.assertIn(f"{bob}: receiving on ::1 port", exposing.said)
        self.assertIn(f"digest: {alice} from ::1 port", exposing.said)

    def test_local_by_default(self) -> None:
        """A port that is forwarded can be reached from this machine only, unless one says so."""
        kdc = self.shared_kdc()
        program, _ = self.forwarder(kdc, self.name("alice"), "nobody-yet", "web", "tcp:0")
        self.assertIn("web of nobody-yet is at 127.0.0.1 port", program.said)

    def test_not_allowed(self) -> None:
        """Somebody who is not allowed is met with silence; only the own log says why."""
        kdc = self.shared_kdc()
        bob, carol = self.name("bob"), self.name("carol")
        target = f"digest=tcp:127.0.0.1:{digest_server(self)}"
        exposing = self.exposer(kdc, bob, target, "--allow", "dave,erin", "--allow", "frank")
        forwarding, port = self.forwarder(kdc, carol, bob, "digest")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            self.assertRaises(ConnectionResetError, connection.recv, 1)
        forwarding.expect(f"digest of {bob}: the peer closed the connection without an answer\n")
        self.assertNotIn(f"{carol} from", exposing.said)

    def test_target_down(self) -> None:
        """Nothing listens where the exposing side points: it says so; the user is reset."""
        kdc = self.shared_kdc()
        bob = self.name("bob")
        exposing = self.exposer(kdc, bob, f"digest=tcp:127.0.0.1:{reserved_port()}")
        _, port = self.forwarder(kdc, self.name("alice"), bob, "digest")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            self.assertRaises(ConnectionResetError, connection.recv, 1)
        exposing.expect("cannot connect: Connection was refused")

    def test_twistd(self) -> None:
        """`twistd kdcclient tunnel` does both at once, as a daemon would."""
        kdc = self.shared_kdc()
        alice, bob = self.name("alice"), self.name("bob")
        exposing = self.twistd(
            *("-n", "--pidfile=", "kdcclient", "tunnel", "-n", bob, *kdc.options, *self.key(bob)),
            *("--expose", f"digest=tcp:127.0.0.1:{digest_server(self)}", "--listen", "0"),
        )
        exposing.expect(f"{bob}: receiving on")
        near = reserved_port()
        forwarding = self.twistd(
            *("-n", "--pidfile=", "kdcclient", "tunnel", "-n", alice, *kdc.options),
            *(*self.key(alice), "--forward", f"{bob}/digest={near}"),
        )
        forwarding.expect(f"digest of {bob} is at 127.0.0.1 port {near}\n")
        self.assert_passes(("127.0.0.1", near))
        exposing.expect(f"digest: {alice} from")

    def test_bad_endpoints(self) -> None:
        """What is no endpoint is refused with one line; a port that is taken, too."""
        kdc = self.shared_kdc()
        bob = self.name("bob")
        common = ("-n", bob, *kdc.options, *self.key(bob))
        self.assert_brief(self.client("expose", *common, "web=nothing:1"), 1, "not an endpoint")
        self.assert_brief(self.client("expose", *common, "web"), 1, "SERVICE=ENDPOINT")
        self.assert_brief(self.client("expose", *common), 1, "say what to expose")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            forward = ("forward", *common, "--to", "x", "web", "--listen", port)
            self.assert_brief(self.client(*forward), 7, "cannot listen on .* in use")


class PipeTests(TunnelTestCase):
    """`kdcclient pipe`: a service on standard input and output."""

    def setUp(self) -> None:
        super().setUp()
        self.running = self.shared_kdc()
        self.alice, self.bob = self.name("alice"), self.name("bob")

    def pipe(
        self, service: str, content: bytes, line: str = 'cat in | "$@" | cat > out'
    ) -> tuple[int, bytes, str]:
        """Run it in a shell; return its exit status, what it wrote, and what it said."""
        self.file("in", content)
        program = self.scratch.start(
            *("bash", "-c", line + "; exit ${PIPESTATUS[1]:-$?}", "bash", *CLIENT, "pipe"),
            *("-n", self.alice, *self.running.options, *self.key(self.alice)),
            *(self.bob, service),
        )
        status = program.wait()
        return status, (self.directory / "out").read_bytes(), program.said

    def test_pipe(self) -> None:
        """What stands on standard input goes in, what comes out is written; then it ends."""
        self.exposer(self.running, self.bob, f"digest=tcp:127.0.0.1:{digest_server(self)}")
        content = os.urandom(3_000_000)
        for line in ('cat in | "$@" | cat > out', '"$@" < in > out'):
            status, written, said = self.pipe("digest", b"%16d" % 2_000_000 + content, line)
            self.assertEqual(status, 0, said)
            self.assertEqual(written[:32], hashlib.sha256(content).digest())
            self.assertEqual(written[32:], b"z" * 2_000_000)
        self.assertEqual(said, "")

    def test_refused(self) -> None:
        """A service that is not there, and a peer that is not: one line, and an exit status."""
        status, written, said = self.pipe("digest", b"")
        self.assertEqual((status, written), (5, b""))
        self.assertIn(f"no key for {self.bob}", said)
        self.exposer(self.running, self.bob, f"digest=tcp:127.0.0.1:{digest_server(self)}")
        status, written, said = self.pipe("nothere", b"")
        self.assertEqual((status, written), (8, b""))
        self.assertEqual(said.count("does not offer nothere"), 1, said)

    def test_cut(self) -> None:
        """A stream that is cut ends with a status other than 0: nobody takes it for whole."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            exposing = self.exposer(self.running, self.bob, f"cut=tcp:127.0.0.1:{port}")
            program = self.client(
                *("pipe", "-n", self.alice, *self.running.options, *self.key(self.alice)),
                *(self.bob, "cut"),
            )
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"half of it")
                self.eventually("half is here", lambda: program.printed == "half of it")
                exposing.kill()
                self.assert_ends(program, 6, "the connection was cut")

    def test_reader_goes(self) -> None:
        """`pipe ... | head`: when nobody reads any more, it ends."""
        self.exposer(self.running, self.bob, f"digest=tcp:127.0.0.1:{digest_server(self)}")
        line = 'cat in | "$@" | head -c 40 > out'
        status, written, said = self.pipe("digest", b"%16d" % 50_000_000, line)
        self.assertEqual(written[32:], b"z" * 8)
        self.assertEqual(status, 5, said)
        self.assertIn("nobody reads", said)

    def test_service_ends_first(self) -> None:
        """The service ends before the input does: the end of the input then ends it all."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.exposer(self.running, self.bob, f"daytime=tcp:127.0.0.1:{port}")
            os.mkfifo(self.directory / "fifo")
            program = self.scratch.start(
                *("bash", "-c", 'exec "$@" < fifo > out', "bash", *CLIENT, "pipe"),
                *("-n", self.alice, *self.running.options, *self.key(self.alice)),
                *(self.bob, "daytime"),
            )
            with (self.directory / "fifo").open("wb", buffering=0) as fifo:
                connection, _ = server.accept()
                fifo.write(b"what time is it?")
                self.assertEqual(connection.recv(100), b"what time is it?")
                connection.sendall(b"noon")
                connection.close()
                output = self.directory / "out"
                self.eventually("it is noon", lambda: output.read_bytes() == b"noon")
                self.assertIs(program.process.poll(), None)
            self.assert_ends(program, 0)


class RestartTests(TunnelTestCase):
    """What goes on, and what comes back by itself."""

    def begin(self, port: int) -> socket.socket:
        """Open a connection through a tunnel, in the middle of a dialogue."""
        connection = socket.create_connection(("127.0.0.1", port), 60)
        connection.sendall(b"%16d" % 100_000)
        return connection

    def finish(self, connection: socket.socket) -> None:
        connection.sendall(b"rest")
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        connection.close()
        self.assertEqual(answer, hashlib.sha256(b"rest").digest() + b"z" * 100_000)

    def restart(self, kdc: RunningKDC) -> RunningKDC:
        kdc.program.kill()
        return self.kdc(port=kdc.port)

    def test_kdc(self) -> None:
        """The KDC is killed and restarted: running tunnels go on, and new ones open again."""
        kdc = self.kdc(port=reserved_port())
        exposing = self.exposer(kdc, "bob", f"digest=tcp:127.0.0.1:{digest_server(self)}")
        _, port = self.forwarder(kdc, "alice", "bob", "digest")
        first = self.begin(port)
        exposing.expect("connected\n")
        kdc.program.kill()
        exposing.expect("trying again in")
        with socket.create_connection(("127.0.0.1", port), 60) as refused:
            self.assertRaises(ConnectionResetError, refused.recv, 1)
        second = self.kdc(port=kdc.port)
        exposing.expect("bob: receiving on")
        self.assert_passes(("127.0.0.1", port))
        self.finish(first)
        self.assertEqual(second.program.process.poll(), None)

    def test_exposing_side(self) -> None:
        """The exposing side is killed: its tunnels are cut; restarted, it serves new ones."""
        kdc = self.kdc()
        target = f"digest=tcp:127.0.0.1:{digest_server(self)}"
        exposing = self.exposer(kdc, "bob", target)
        forwarding, port = self.forwarder(kdc, "alice", "bob", "digest")
        connection = self.begin(port)
        exposing.expect("connected\n")
        exposing.kill()
        with connection:
            self.assertRaises(ConnectionResetError, connection.recv, 1)
        forwarding.expect("digest of bob: the (connection was cut|peer closed the connection)")
        self.exposer(kdc, "bob", target)
        self.assert_passes(("127.0.0.1", port))

    def test_stopped(self) -> None:
        """SIGTERM ends either side."""
        kdc = self.kdc()
        exposing = self.exposer(kdc, "bob", "digest=tcp:127.0.0.1:1")
        forwarding, _ = self.forwarder(kdc, "alice", "bob", "digest")
        for program in (exposing, forwarding):
            self.assertEqual(program.stop(), 128 + signal.SIGTERM)

    def test_taken_over(self) -> None:
        """Another one exposes under the same name: the first says so, and ends."""
        kdc = self.kdc()
        exposing = self.exposer(kdc, "bob", "digest=tcp:127.0.0.1:1")
        self.exposer(kdc, "bob", "digest=tcp:127.0.0.1:1")
        self.assert_ends(exposing, 8, "somebody began to receive as bob elsewhere")
