"""What passes on what is written to it."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

from kdc.files.streams import is_stream, own_stream, write_stream
from tests.files.test_opening import OpeningTestCase


class StreamTests(OpeningTestCase):
    """What passes on what is written to it."""

    def refused(self, path: Path) -> int:
        with self.assertRaises(OSError) as caught:
            is_stream(path)
        return caught.exception.errno or 0

    def test_kinds(self) -> None:
        """FIFOs and devices do, files and what is not there do not, and the rest is refused."""
        self.assertTrue(is_stream(self.fifo))
        self.assertTrue(is_stream(self.link(Path("/dev/null"))))
        self.assertFalse(is_stream(self.file()))
        self.assertFalse(is_stream(self.link(self.file())))
        self.assertFalse(is_stream(self.link(self.directory / "nowhere")))
        with socket.socket(socket.AF_UNIX) as listening:
            here = os.getcwd()
            self.addCleanup(os.chdir, here)
            os.chdir(self.directory)
            listening.bind("socket")
            self.assertEqual(self.refused(Path("socket")), errno.ENXIO)

    def test_what_we_were_started_with(self) -> None:
        """A descriptor is one by whatever name, though it may be of a regular file."""
        fd = os.open(self.file(), os.O_WRONLY)
        self.addCleanup(os.close, fd)
        for place in (
            "/dev/fd",
            "/proc/self/fd",
            "/proc/thread-self/fd",
            f"/proc/{os.getpid()}/fd",
        ):
            self.assertTrue(is_stream(Path(place, str(fd))), place)
            self.assertTrue(is_stream(self.link(Path(place, str(fd)))), place)
        above = self.directory / "above"
        above.symlink_to("/dev/fd")
        self.assertTrue(is_stream(above / str(fd)))

    def test_what_is_not_for_us_to_write_to(self) -> None:
        """Not one that is only read, nor that is closed, nor another process's."""
        fd = os.open(self.file(), os.O_RDONLY)
        self.assertEqual(self.refused(Path(f"/dev/fd/{fd}")), errno.EBADF)
        os.close(fd)
        self.assertEqual(self.refused(Path(f"/dev/fd/{fd}")), errno.EBADF)
        self.assertEqual(self.refused(Path(f"/proc/{os.getppid()}/fd/1")), errno.ENXIO)


class WritingTests(OpeningTestCase):
    """A pipe whose reader takes his time."""

    def test_all_of_it(self) -> None:
        """However little the pipe takes at a time, all arrives in its order."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        ours = own_stream(writing)
        content = os.urandom(1 << 20)
        pieces = [content[:10], content[10:300_000], content[300_000:]]
        found: list[bytes] = []

        def read() -> None:
            with os.fdopen(reading, "rb") as file:
                found.append(file.read(len(content)))

        reader = threading.Thread(target=read)
        reader.start()
        self.assertEqual(write_stream(ours, pieces, lambda: False), len(content))
        os.close(ours)
        reader.join()
        self.assertEqual(found, [content])

    def test_given_up(self) -> None:
        """Nobody has to wait for a reader who has stopped to read."""
        reading, writing = os.pipe()
        for fd in (reading, writing):
            self.addCleanup(os.close, fd)
        ours = own_stream(writing)
        self.addCleanup(os.close, ours)
        looks: list[int] = []

        def given_up() -> bool:
            looks.append(1)
            return len(looks) > 3

        with self.assertRaises(OSError) as caught:
            write_stream(ours, [bytes(1 << 20)], given_up)
        self.assertEqual(caught.exception.errno, errno.ECANCELED)
        self.assertTrue(os.get_blocking(writing), "those who write there as well wait as before")

    def test_no_pipe(self) -> None:
        """A file is written on where it is, by whomever."""
        fd = os.open(self.file(b""), os.O_WRONLY)
        self.addCleanup(os.close, fd)
        os.write(fd, b"one ")
        ours = own_stream(fd)
        write_stream(ours, [b"two "], lambda: True)
        os.close(ours)
        os.write(fd, b"three")
        self.assertEqual((self.directory / "file").read_bytes(), b"one two three")
