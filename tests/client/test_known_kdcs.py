"""The file of KDCs met before, and the first look at a new one."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.client import known_kdcs as known_kdcs_module
from kdc.commands.hints import hint_of
from kdc.errors import ConfigurationError, ErrorKind, KDCUnreachable, LocalIOError, WrongIdentity
from kdc.net.tls import ALPN
from kdc.server.certificate import ServerTLS
from tests.support.edge import certificate, strange_certificate
from tests.support.processes import PATIENCE_SECONDS

ONE, TWO = "sha256:" + "1a" * 32, "sha256:" + "2b" * 32


class OneConnection:
    """Something that listens on this machine, and takes one connection."""

    def __init__(self, test: SynchronousTestCase, serve: Callable[[socket.socket], None]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._serve = serve
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        test.addCleanup(self._thread.join, PATIENCE_SECONDS)

    def _run(self) -> None:
        with self._listening, self._listening.accept()[0] as connection:
            connection.settimeout(PATIENCE_SECONDS)
            with contextlib.suppress(OSError):  # the other side has seen enough
                self._serve(connection)


class TLSServer:
    """What a KDC looks like to somebody who only looks; ``heard`` is what he says."""

    def __init__(
        self,
        test: SynchronousTestCase,
        newest: ssl.TLSVersion | None = None,
        *,
        chain: bytes = certificate()[1],
    ) -> None:
        self.heard = b""
        path = Path(test.mktemp())
        path.write_bytes(certificate()[0] + chain)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(path)
        self._context.set_alpn_protocols([ALPN.decode()])
        if newest is not None:
            self._context.maximum_version = newest
        self.port = OneConnection(test, self._serve).port

    def _serve(self, connection: socket.socket) -> None:
        with self._context.wrap_socket(connection, server_side=True) as secured:
            self.heard += secured.recv(1000)


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "kdc" / "known_kdcs"

    def write(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text)

    def test_remembered(self) -> None:
        """What was added is found again, by host and port, with the line it stands in."""
        self.assertIsNone(known_kdcs_module.find(self.path, "kdc.example", 88))
        known_kdcs_module.add(self.path, [("kdc.example", 88)], ONE)
        known_kdcs_module.add(self.path, [("2001:db8::1", 88)], TWO)
        pin = known_kdcs_module.find(self.path, "KDC.example", 88)
        assert pin is not None
        self.assertEqual((pin.fingerprint, pin.source), (ONE, f"{self.path} line 1"))
        second = known_kdcs_module.find(self.path, "2001:db8::1", 88)
        assert second is not None
        self.assertEqual((second.fingerprint, second.source), (TWO, f"{self.path} line 2"))
        self.assertIsNone(known_kdcs_module.find(self.path, "kdc.example", 89))
        self.assertIsNone(known_kdcs_module.find(self.path, "example", 88))

    def test_private(self) -> None:
        """File and directory are made for their owner alone."""
        known_kdcs_module.add(self.path, [("kdc.example", 88)], ONE)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode) & 0o077, 0)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode) & 0o077, 0)

    def test_nowhere_to_remember(self) -> None:
        """No home, or one that is none: the file is named, and what does without it."""
        self.path.parent.parent.mkdir(parents=True, exist_ok=True)
        self.path.parent.write_bytes(b"not a directory")
        for path in (self.path, Path("/proc/nonexistent/.config/kdc/known_kdcs")):
            error = self.assertRaises(
                LocalIOError, known_kdcs_module.add, path, [("kdc.example", 88)], ONE
            )
            self.assertIs(error.kind, ErrorKind.NOT_REMEMBERED)
            self.assertIn(f"no KDC can be remembered: {path}", str(error).replace(".config: ", ""))
        error = self.assertRaises(LocalIOError, known_kdcs_module.find, self.path, "kdc", 88)
        self.assertIs(error.kind, ErrorKind.NOT_REMEMBERED)
        hint = hint_of(error)
        self.assertIn("--known-kdcs", hint)
        self.assertIn("--kdc-fingerprint", hint)

    def test_the_first_counts(self) -> None:
        """A second line for the same KDC does not replace the first."""
        known_kdcs_module.add(self.path, [("kdc.example", 88)], ONE)
        known_kdcs_module.add(self.path, [("kdc.example", 88)], TWO)
        pin = known_kdcs_module.find(self.path, "kdc.example", 88)
        assert pin is not None
        self.assertEqual(pin.fingerprint, ONE)

    def test_written_by_hand(self) -> None:
        """Comments and empty lines are allowed, and a last line without its end."""
        self.write(f"# ours\n\n  other.example:1 {TWO}")
        known_kdcs_module.add(self.path, [("kdc.example", 88)], ONE)
        pin = known_kdcs_module.find(self.path, "kdc.example", 88)
        assert pin is not None
        self.assertEqual((pin.fingerprint, pin.source), (ONE, f"{self.path} line 4"))

    def test_in_capitals(self) -> None:
        """Capitals in the file or in what is typed do not make a KDC one that was never met."""
        self.write(f"KDC.Example:88 {ONE}\n[2001:DB8::1]:88 {TWO}\n")
        for host in ("kdc.example", "KDC.EXAMPLE", "2001:db8::1", "2001:DB8::1"):
            self.assertIsNotNone(known_kdcs_module.find(self.path, host, 88), host)

    def test_beyond_ascii(self) -> None:
        """A host with other letters stands there as the name service knows it."""
        known_kdcs_module.add(self.path, [("Bücher.example", 88)], ONE)
        self.assertEqual(self.path.read_text(), f"xn--bcher-kva.example:88 {ONE}\n")
        self.assertIsNotNone(known_kdcs_module.find(self.path, "bücher.example", 88))

    def test_wrong_lines(self) -> None:
        """A line that cannot be right is an error that names file and line."""
        for line in ("kdc.example:88", "a b c", "kdc.example:88 sha256:1234", "kdc.example:88 x"):
            self.write(f"# ours\n{line}\n")
            error = self.assertRaises(
                ConfigurationError, known_kdcs_module.find, self.path, "kdc.example", 88
            )
            self.assertIn(f"{self.path} line 2", str(error))

    def test_not_such_a_file(self) -> None:
        """Binary files and directories are refused by name."""
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"\xff\xfe")
        self.assertRaises(ConfigurationError, known_kdcs_module.find, self.path, "kdc.example", 88)
        self.assertRaises(LocalIOError, known_kdcs_module.find, self.path.parent, "kdc.example", 88)
        self.assertRaises(
            LocalIOError, known_kdcs_module.add, self.path.parent, [("kdc.example", 88)], ONE
        )

    def test_default(self) -> None:
        """The user's own file is in the configuration directory."""
        self.patch(os, "environ", {"XDG_CONFIG_HOME": "/config", "HOME": "/home/alice"})
        self.assertEqual(known_kdcs_module.default_path(), Path("/config/kdc/known_kdcs"))
        self.patch(os, "environ", {"HOME": "/home/alice"})
        self.assertEqual(
            known_kdcs_module.default_path(), Path("/home/alice/.config/kdc/known_kdcs")
        )


class LookTests(SynchronousTestCase):
    def test_fingerprint(self) -> None:
        """The first look gives the fingerprint that the KDC prints, and says nothing."""
        server = TLSServer(self)
        shown = known_kdcs_module.look("127.0.0.1", server.port)
        self.assertEqual(shown, ServerTLS(*certificate()).fingerprint)
        self.doCleanups()
        self.assertEqual(server.heard, b"")

    def test_older_version(self) -> None:
        """What speaks TLS 1.2 only is not a KDC."""
        server = TLSServer(self, ssl.TLSVersion.TLSv1_2)
        error = self.assertRaises(KDCUnreachable, known_kdcs_module.look, "127.0.0.1", server.port)
        self.assertIn("does not speak this protocol", str(error))

    def test_unreadable_certificate(self) -> None:
        """A certificate that cannot be read is a clear error."""
        server = TLSServer(self, chain=strange_certificate())
        error = self.assertRaises(WrongIdentity, known_kdcs_module.look, "127.0.0.1", server.port)
        self.assertIn("cannot be read", str(error))

    def test_not_tls(self) -> None:
        """What answers something else is not a KDC."""
        listening = OneConnection(self, lambda connection: connection.sendall(b"220 mail\r\n"))
        self.assertRaises(KDCUnreachable, known_kdcs_module.look, "127.0.0.1", listening.port)

    def test_nobody(self) -> None:
        """Where nobody listens, and where there can be nobody, the place is named."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        error = self.assertRaises(KDCUnreachable, known_kdcs_module.look, "127.0.0.1", port)
        self.assertIn(f"127.0.0.1 port {port}", str(error))
        for host in ("kdc..example", "x" * 64 + ".example"):
            self.assertRaises(KDCUnreachable, known_kdcs_module.look, host, 88)
