"""What strangers and bad networks do to open ports; afterwards everything still works."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator

from tests.support.processes import PATIENCE_SECONDS, Program, ProgramTestCase, RunningKDC
from tests.support.proxies import OTHER_LOOPBACK, Cut, Proxy, require_other_loopback

HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curious\r\n\r\n"


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)


def answer_to(port: int, data: bytes) -> bytes:
    """Send ``data`` and return what comes until the other side closes, which it has to."""
    answer = bytearray()
    with connected(port) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(data)
        while more := connection.recv(65536):
            answer += more
    return bytes(answer)


def leave_after(port: int, data: bytes) -> None:
    """Send ``data`` and close, waiting for nothing."""
    with connected(port) as connection:
        connection.sendall(data)


@contextlib.contextmanager
def tls(
    port: int, *protocols: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> Iterator[ssl.SSLSocket]:
    """A TLS connection of whoever it may be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(list(protocols))
    with connected(port) as plain, context.wrap_socket(plain) as secured:
        yield secured


def answer_over_tls(
    port: int, data: bytes, *protocols: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> bytes:
    """Send ``data`` over TLS and return what comes until the other side closes.

    Raises `ssl.SSLError` or `ConnectionError` if there is no TLS to be had.
    """
    answer = bytearray()
    with (
        tls(port, *protocols, version=version) as secured,
        contextlib.suppress(ConnectionError, ssl.SSLError),
    ):
        secured.sendall(data)
        while more := secured.recv(65536):
            answer += more
    return bytes(answer)


def flood(port: int) -> None:
    """A hundred connections at the same time, each as talkative as it is allowed to be."""
    with contextlib.ExitStack() as all_of_them:
        for _ in range(100):
            connection = all_of_them.enter_context(connected(port))
            with contextlib.suppress(OSError):
                connection.setblocking(False)
                connection.send(os.urandom(65536))


class GarbageTests(ProgramTestCase):
    """Bytes that no program of ours would send."""

    def test_kdc(self) -> None:
        """The KDC closes, says at most why, and serves on; its log stays short."""
        kdc = self.kdc()
        for data in (os.urandom(4096), HTTP, b"\x16\x03\x01\x02\x00\x01", b"\0" * 100_000):
            # At most a TLS alert comes back.
            self.assertLess(len(answer_to(kdc.port, data + bytes(600))), 10)
            leave_after(kdc.port, data[: len(data) // 2])
        leave_after(kdc.port, b"")
        # Without our protocol's name in TLS nothing is said, and nothing is taken in.
        for protocols in (("h2", "http/1.1"), ("kdp/2",), ()):
            self.assertEqual(answer_over_tls(kdc.port, HTTP, *protocols), b"", protocols)
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            answer_over_tls(kdc.port, HTTP, "kdp/1", version=ssl.TLSVersion.TLSv1_2)
        for data in (
            b"\xff\xff",
            b"\0\0",
            HTTP,
            b"\1\0" + os.urandom(256),
            b"\0\2" + (301).to_bytes(2, "big"),
        ):
            answer = answer_over_tls(kdc.port, data, "kdp/1")
            self.assertEqual(answer[2:4], (399).to_bytes(2, "big"), (data[:8], answer))
        with tls(kdc.port, "kdp/1") as secured:
            secured.sendall(b"\1\0 half a frame")
        flood(kdc.port)
        self.one_transfer(kdc)
        self.assertEqual(kdc.program.stop(), 0)
        self.assertLess((self.directory / "out.txt").stat().st_size, 10_000)

    def test_receiver(self) -> None:
        """A receiver answers strangers with nothing at all, and serves on."""
        kdc, bob, alice = self.shared_kdc(), self.name("bob"), self.name("alice")
        receiver = self.receiver(kdc, bob, "-o", "outfile")
        port = int(receiver.said.rpartition(" port ")[2])
        whole = b"\0\xf0"
        for data in (
            os.urandom(4096),
            HTTP,
            b"\0\0",
            b"\xff\xff",
            whole + os.urandom(240),
            whole + (309).to_bytes(2, "big") + os.urandom(238),
        ):
            self.assertEqual(answer_to(port, data + bytes(600)), b"", data[:8])
            leave_after(port, data[: len(data) // 2])
        with self.assertRaises((ssl.SSLError, ConnectionError)), tls(port, "kdp/1"):
            self.fail("a receiver that speaks TLS")
        flood(port)
        path = self.file("in.txt", os.urandom(200_000))
        self.assert_ends(self.send(kdc, alice, bob, path), 0)
        self.assertEqual((self.directory / "outfile").read_bytes(), path.read_bytes())

    def test_waiting_out_a_flood(self) -> None:
        """Who comes while strangers hold all places waits until these have had their time."""
        kdc = self.kdc("--limit", "tls-seconds=1")
        with contextlib.ExitStack() as all_of_them:
            idle = [all_of_them.enter_context(connected(kdc.port)) for _ in range(40)]
            self.one_transfer(kdc)
            self.assertEqual(len(idle), 40)


# An ACK: its length, its kind, its status, two numbers and the tag.  An END has no status.
FAREWELL_BYTES = 2 + 1 + 1 + 8 + 8 + 16
END_BYTES = FAREWELL_BYTES - 1


class CutTests(ProgramTestCase):
    """Networks that end in the middle: whatever is not whole does not count."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.name("alice"), self.name("bob")
        self.path = self.file("in.txt", os.urandom(500_000))

    def between(self, kdc: RunningKDC, *options: str) -> tuple[Program, Callable[[Cut], Proxy]]:
        """A receiver, and a way to stand between it and its senders.

        It names an address where, at its own port, a proxy listens.
        """
        require_other_loopback()
        receiver = self.receiver(
            *(kdc, self.bob, "--advertise", OTHER_LOOPBACK, "-o", "outfile", "-s", "outenc"),
            *options,
        )
        port = int(receiver.said.rpartition(" port ")[2])
        return receiver, lambda cut: Proxy(("127.0.0.1", port), cut, at=(OTHER_LOOPBACK, port))

    def send_through(self, proxy: Proxy, kdc: RunningKDC) -> Program:
        with proxy:
            sender = self.send(kdc, self.alice, self.bob, self.path)
            sender.wait()
        return sender

    def test_between_sender_and_receiver(self) -> None:
        """Cut or changed anywhere: status 6, nothing under the final name, and then it works."""
        kdc = self.shared_kdc()
        receiver, between = self.between(kdc)
        untouched = between(Cut())
        self.assert_ends(self.send_through(untouched, kdc), 0)
        up, down = untouched.passed
        self.assertGreater(up, 500_000)
        for name in ("outfile", "outenc"):
            (self.directory / name).unlink()

        # In the handshake: nothing was said yet, so the sender tries again by itself.
        for cut in (Cut(up=0, times=1), Cut(up=100, times=1), Cut(down=10, times=1)):
            proxy = between(cut)
            self.assert_ends(self.send_through(proxy, kdc), 0)
            self.assertEqual(proxy.connections, 2, str(cut))
            receiver.expect("received in.txt")
            for name in ("outfile", "outenc"):
                (self.directory / name).unlink()
        # Within the content, within its end.  Behind that is only that the sender has seen ours.
        end = up - FAREWELL_BYTES
        for cut in (Cut(up=up // 2), Cut(up=end - 30), Cut(flip=up // 2), Cut(flip=end - 5)):
            sender = self.send_through(between(cut), kdc)
            self.assert_brief(sender, 6, f"the connection to {self.bob} was cut before it conf")
            receiver.expect(f"nothing was kept of what {self.alice} sent: .+")
            self.assert_nothing_kept("outfile", "outenc")
        # The file arrived, but of the receiver's answers only those before its
        # acknowledgement: the sender cannot know.
        within = down - END_BYTES - FAREWELL_BYTES // 2
        sender = self.send_through(between(Cut(down=within)), kdc)
        self.assert_brief(sender, 6, f"the connection to {self.bob} was cut before it confirmed")
        receiver.expect("received in.txt")

        self.assert_ends(self.send_through(between(Cut()), kdc), 0)
        self.assertEqual((self.directory / "outfile").read_bytes(), self.path.read_bytes())

    def test_receiver_of_one(self) -> None:
        """``-m R`` ends with status 6, too, and leaves nothing."""
        kdc = self.shared_kdc()
        receiver, between = self.between(kdc, "--once")
        self.assert_ends(self.send_through(between(Cut(up=250_000)), kdc), 6)
        self.assert_ends(receiver, 6, f"nothing was kept of what {self.alice} sent\n")
        self.assert_nothing_kept("outfile", "outenc")

    def test_between_client_and_kdc(self) -> None:
        """Cut before TLS is up the client tries again; later it ends with status 3."""
        kdc = self.shared_kdc()
        for name in (self.alice, self.bob):
            self.register(kdc, name)
        receiver = self.receiver(kdc, self.bob, "-o", "outfile")
        target = ("127.0.0.1", kdc.port)
        statuses = {}
        untouched = Proxy(target)
        self.assert_ends(self.send_by(untouched, kdc), 0)
        up, down = untouched.passed
        # 40 from the end is in a question or its answer, whether or not a goodbye came after.
        cases = (
            (Cut(up=100, times=1), 0),
            (Cut(down=500, times=1), 0),
            (Cut(up=up - 40), 3),
            (Cut(down=down - 40), 3),
            (Cut(flip=up - 40), 3),
        )
        for cut, status in cases:
            sender = self.send_by(Proxy(target, cut), kdc)
            statuses[cut] = sender.wait()
            if status:
                self.assert_brief(sender, status, "kdcclient: .*the (connection to the )?KDC at")
        self.assertEqual(statuses, dict(cases))
        self.assertEqual(receiver.said.count("received in.txt"), 3)
        self.one_transfer(kdc)

    def send_by(self, proxy: Proxy, kdc: RunningKDC) -> Program:
        """Send, with a proxy between the sender and the KDC."""
        with proxy:
            sender = self.client(
                *("-n", self.alice, "-m", "S", "-r", self.bob, "-i", str(self.path)),
                *("-p", str(proxy.port), "--kdc-fingerprint", kdc.fingerprint),
                *self.key(self.alice),
            )
            sender.wait()
        return sender
