"""Paths that are typed or configured: whatever stands there, the program goes on or says no."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from kdc.client import configuration, known_kdcs
from kdc.client.identity import Authority
from kdc.client.secret import SecretSource, read_invitation
from kdc.commands.admin.database import AdminStore
from kdc.errors import KDCError, LocalIOError
from kdc.files.private import others_can_read, read_private

PRINT = "sha256:" + "1a" * 32
READERS: dict[str, Callable[[Path], object]] = {
    "secret": read_private,
    "key file": lambda path: SecretSource(key_file=path).keys("LOCAL", "alice"),
    "passphrase file": lambda path: SecretSource(passphrase_file=path).keys("LOCAL", "alice"),
    "invitation": read_invitation,
    "configuration": configuration.load,
    "known KDCs": lambda path: known_kdcs.find(path, "kdc", 88),
    "known KDCs, added to": lambda path: known_kdcs.add(path, [("kdc", 88)], PRINT),
    "authority": lambda path: Authority("kdc", str(path)).prepare(SSL.Context(SSL.TLS_METHOD)),
    "database": lambda path: AdminStore(path).realm,
}


class PathTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    @contextlib.contextmanager
    def pipe(self) -> Iterator[Path]:
        """A named pipe with somebody who will write into it: who reads it gets what he wrote."""
        path = self.directory / "pipe"
        os.mkfifo(path, 0o600)

        def write() -> None:
            with contextlib.suppress(BrokenPipeError), path.open("wb", buffering=0) as pipe:
                pipe.write(b"read")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield path
        finally:
            # Whoever has refused it may never have opened it for reading.
            reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            writer.join()
            os.close(reading)
            path.unlink()

    def test_pipes(self) -> None:
        """A pipe that stands where a file should be is refused by its name, and not waited for."""
        for what, read in READERS.items():
            with self.pipe() as path:
                error = self.assertRaises(KDCError, read, path)
                self.assertIn("is not a regular file", str(error), what)
                self.assertIn(str(path), str(error), what)

    def test_pipes_that_nobody_opens(self) -> None:
        """Nor is waited for somebody who might write into one."""
        path = self.directory / "pipe"
        os.mkfifo(path, 0o600)
        for what, read in READERS.items():
            error = self.assertRaises(KDCError, read, path)
            self.assertIn(str(path), str(error), what)

    def test_devices_and_the_like(self) -> None:
        """Nothing but a regular file is read, also behind a link: no endless device fills us."""
        link = self.directory / "link"
        link.symlink_to("/dev/zero")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
            above = os.open(self.directory, os.O_RDONLY)
            listening.bind(f"/proc/self/fd/{above}/socket")  # a name may be too long for one
            os.close(above)
            for path in (link, Path("/dev/zero"), self.directory, self.directory / "socket"):
                for what, read in READERS.items():
                    error = self.assertRaises(KDCError, read, path)
                    self.assertIn(str(path), f"{error}", what)

    def test_long(self) -> None:
        """A file is read no further than it may be long."""
        path = self.directory / "long"
        with path.open("wb") as file:
            file.truncate(1 << 40)
        path.chmod(0o600)
        for what, read in READERS.items():
            if what not in ("database", "known KDCs, added to"):
                self.assertIn("too long", str(self.assertRaises(KDCError, read, path)), what)

    def test_a_link(self) -> None:
        """A link to a regular file is as good: containers mount secrets so."""
        (self.directory / "secret").write_bytes(b"s")
        (self.directory / "secret").chmod(0o600)
        link = self.directory / "link"
        link.symlink_to("secret")
        self.assertEqual(read_private(link), b"s")

    def test_what_was_opened_for_us(self) -> None:
        """A descriptor of ours, as of ``<(command)``, is read to its end, however late that is."""
        reading, writing = os.pipe()

        def write() -> None:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(b"secret")

        late = threading.Thread(target=write)
        late.start()
        try:
            self.assertEqual(read_private(Path(f"/dev/fd/{reading}")), b"secret")
        finally:
            late.join()
            os.close(reading)
        self.assertEqual(configuration.load(Path(os.devnull)), {})

    def test_group_readable(self) -> None:
        """What systemd lets its service read says nothing of secrets that are elsewhere."""
        directory, elsewhere = self.directory / "credentials", self.directory / "other"
        for each in (directory, elsewhere, directory / "below"):
            each.mkdir()
        self.patch(os, "environ", {**os.environ, "CREDENTIALS_DIRECTORY": str(directory)})
        self.assertFalse(others_can_read(directory / "key", 0o440))
        self.assertTrue(others_can_read(directory / "key", 0o444))
        for path in (elsewhere / "key", directory / "below" / "key", Path("key")):
            self.assertTrue(others_can_read(path, 0o440), path)

    def test_missing(self) -> None:
        """What is not there is named."""
        for what, read in READERS.items():
            if what not in ("known KDCs", "known KDCs, added to", "database"):
                path = self.directory / "missing"
                self.assertIn(str(path), str(self.assertRaises(LocalIOError, read, path)), what)
