"""What is opened by its path is a regular file, and nothing else holds us up."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.client.secret import write_key_file
from kdc.commands.admin.database import AdminStore
from kdc.commands.admin.load import _lines_of
from kdc.errors import KDCError, LocalIOError
from kdc.files.opening import open_regular
from kdc.files.private import read_private, read_small
from kdc.server.policy import read_policy
from kdc.store.sealed.files import Files
from kdc.transfer.receiving import _beginning

READING = os.O_RDONLY
WRITING = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class OpeningTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.fifo = self.directory / "fifo"
        os.mkfifo(self.fifo, 0o600)

    def file(self, content: bytes = b"content") -> Path:
        path = self.directory / "file"
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    def link(self, to: Path) -> Path:
        link = self.directory / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(to)
        return link


class OpenRegularTests(OpeningTestCase):
    """The function itself."""

    def refused(self, path: Path | str, flags: int = READING, *, follow: bool = False) -> int:
        with self.assertRaises(OSError) as caught:
            os.close(open_regular(path, flags, follow=follow))
        return caught.exception.errno or 0

    def test_a_file(self) -> None:
        """A file is opened, by its path or from a directory; a new one is its owner's alone."""
        path = self.file()
        for fd in (open_regular(path), open_regular(str(path), follow=True)):
            self.assertEqual(os.read(fd, 100), b"content")
            self.assertFalse(os.get_inheritable(fd))
            os.close(fd)
        below = os.open(self.directory, os.O_RDONLY)
        self.addCleanup(os.close, below)
        os.close(open_regular("new", os.O_WRONLY | os.O_CREAT, dir_fd=below))
        self.assertEqual((self.directory / "new").stat().st_mode & 0o777, 0o600)

    def test_what_is_no_file(self) -> None:
        """A FIFO with or without its other end, a device, a socket, a directory: none is waited
        for, whoever would follow a link to it."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        here = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, here)
        listening.bind(f"/proc/self/fd/{here}/socket")
        others = [self.fifo, self.directory / "socket", Path("/dev/zero"), Path("/dev/full")]
        for _ in range(2):
            for path in others:
                for flags in (READING, WRITING):
                    for follow in (False, True):
                        self.assertEqual(self.refused(path, flags, follow=follow), errno.ENXIO)
                    self.assertEqual(self.refused(self.link(path), flags, follow=True), errno.ENXIO)
            self.assertEqual(self.refused(self.directory), errno.EISDIR)
            # And once more, with somebody at both ends of the FIFO.
            self.addCleanup(os.close, os.open(self.fifo, os.O_RDWR))

    def test_links(self) -> None:
        """A link is followed only where that was asked for."""
        link = self.link(self.file())
        for flags in (READING, WRITING):
            self.assertEqual(self.refused(link, flags), errno.ELOOP)
            os.close(open_regular(link, flags, follow=True))
        self.assertEqual(self.refused(self.link(Path("nowhere")), WRITING), errno.ELOOP)
        self.assertFalse((self.directory / "nowhere").exists())

    def test_nothing_stays_open(self) -> None:
        """What is refused is closed."""
        before = len(os.listdir("/proc/self/fd"))
        for path in (self.fifo, self.directory, Path("/dev/zero")):
            self.refused(path)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_what_was_opened_for_us(self) -> None:
        """A number is a pipe only for whoever reads a path that a person gave."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, b"x")
        path = f"/dev/fd/{reading}"
        self.assertNotEqual(self.refused(path), 0)
        self.assertEqual(self.refused(f"/dev/fd/{writing}", os.O_WRONLY, follow=True), errno.ENXIO)
        fd = open_regular(path, follow=True)
        self.addCleanup(os.close, fd)
        os.close(writing)
        self.assertEqual((os.read(fd, 9), os.read(fd, 9)), (b"x", b""))


class UserTests(OpeningTestCase):
    """Whoever opens something; `tests.client.test_paths` has those of a client."""

    def test_readers(self) -> None:
        """Whoever reads a file that is a FIFO refuses it at once, and names it."""
        readers: dict[str, Callable[[Path], object]] = {
            "small": lambda path: read_small(path, 100),
            "secret": read_private,
            "policy": read_policy,
            "list": lambda path: list(_lines_of(path)),
            "database": lambda path: AdminStore(path).realm,
        }
        for name, read in readers.items():
            error = self.assertRaises(KDCError, read, self.fifo)
            self.assertIn(f"{self.fifo} is not a regular file", str(error), name)
            self.assertIs(type(error), LocalIOError)

    def test_store(self) -> None:
        """The store's files: none is a FIFO, a device or behind a link."""
        for path in (self.fifo, Path("/dev/null"), self.link(self.file())):
            for flags in (READING, os.O_RDWR | os.O_CREAT):
                with self.assertRaises(OSError):
                    os.close(Files().open(str(path), flags))

    def test_a_message_is_not_shown_from_a_fifo(self) -> None:
        """A receiver's hook may have put anything in the place of what came."""
        self.assertEqual(_beginning(self.fifo), b"")
        self.assertEqual(_beginning(self.file()), b"content")
        self.assertEqual(_beginning(self.link(self.file())), b"")

    def test_the_activity_log(self) -> None:
        """``kdc admin`` notes nothing in a FIFO, with a reader or without, nor through a link."""
        for _ in range(2):
            AdminStore(self.directory / "pwd.txt", output=self.fifo).audit("admin-added", "alice")
            reading = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
            self.addCleanup(os.close, reading)
        self.assertEqual(os.read(reading, 100), b"")
        target = self.file(b"")
        link = self.link(target)
        AdminStore(self.directory / "pwd.txt", output=link).audit("admin-added", "alice")
        self.assertEqual(target.read_bytes(), b"")
        AdminStore(self.directory / "pwd.txt", output=target).audit("admin-added", "alice")
        self.assertIn(b"alice", target.read_bytes())

    def test_a_new_key_file(self) -> None:
        """A key is written to nothing that is there, and not through a link that leads nowhere."""
        target = self.directory / "elsewhere"
        for path in (self.fifo, self.file(), self.link(target), self.link(self.file())):
            before = self.file().read_bytes()
            self.assertRaises(LocalIOError, write_key_file, path)
            self.assertEqual(self.file().read_bytes(), before)
            self.assertTrue(os.path.lexists(path))
        self.assertFalse(target.exists())

    def test_process_substitution(self) -> None:
        """What a shell makes of ``<(command)`` is a passphrase file."""
        bash = shutil.which("bash")
        if bash is None:
            raise SkipTest("no bash here")
        program = (
            "import sys; from pathlib import Path; from kdc.files.private import read_private;"
            "sys.stdout.buffer.write(sys.argv[1].encode() + b' ' + read_private(Path(sys.argv[1])))"
        )
        command = 'exec "$0" -c "$1" <(read -r; printf %s "correct horse")'
        done = subprocess.run(
            [bash, "-c", command, sys.executable, program],
            input=b"go on\n",
            capture_output=True,
            check=False,
            cwd=Path(__file__).parent.parent.parent,
        )
        where, _, secret = done.stdout.partition(b" ")
        self.assertEqual((done.returncode, done.stderr, secret), (0, b"", b"correct horse"))
        self.assertTrue(where.startswith((b"/dev/fd/", b"/proc/self/fd/")), where)
