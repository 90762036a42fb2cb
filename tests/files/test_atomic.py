"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import errno
import os
import resource
import secrets
import signal
import stat
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ExitStatus, LocalIOError, local_error
from kdc.files.atomic import PartialFile


class PartialFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "report.pdf"

    def listing(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    def finished(self, content: bytes) -> PartialFile:
        file = PartialFile(self.path)
        file.write([content])
        file.finish()
        return file

    def calls(self, *names: str) -> list[str]:
        """What is asked of the system from now on, in order."""
        seen: list[str] = []

        def watch(name: str) -> None:
            original = getattr(os, name)

            def call(*args: Any, **named: Any) -> Any:
                seen.append(name)
                return original(*args, **named)

            self.patch(os, name, call)

        for name in names:
            watch(name)
        return seen

    def failing(self, name: str, number: int) -> None:
        """Have one call to the system fail from now on."""

        def fail(*args: Any, **named: Any) -> Any:
            raise OSError(number, os.strerror(number))

        self.patch(os, name, fail)

    def test_what_is_long_goes_to_the_disk_while_it_is_written(self) -> None:
        """From its beginning again, if what was written was nothing."""
        asked: list[tuple[int, int, int]] = []
        self.patch(os, "posix_fadvise", lambda fd, *what: asked.append(what))
        file = PartialFile(self.path)
        self.addCleanup(file.discard)
        for _ in range(2):
            asked.clear()
            for _ in range(9):
                file.write([bytes(1 << 20)])
            self.assertEqual(asked, [(0, 8 << 20, os.POSIX_FADV_DONTNEED)])
            file.begin_again()

    def test_nothing_before_the_end(self) -> None:
        """Until it is shown there is nothing under the name, and nobody else can read it."""
        file = PartialFile(self.path)
        file.write([b"one", b"two"])
        (temporary,) = self.listing()
        self.assertTrue(temporary.startswith(".kdc-") and temporary.endswith(".part"))
        mode = stat.S_IMODE((self.directory / temporary).stat().st_mode)
        self.assertEqual(mode, 0o600)
        file.finish()
        self.assertFalse(self.path.exists())
        file.show()
        self.assertEqual(self.path.read_bytes(), b"onetwo")
        self.assertEqual(self.listing(), ["report.pdf"])
        self.assertEqual(file.written, 6)

    def test_durable_before_it_is_shown(self) -> None:
        """The content reaches the disk, then the name, then the directory."""
        file = PartialFile(self.path)
        file.write([b"x"])
        seen = self.calls("fsync", "replace")
        file.finish()
        file.show()
        self.assertEqual(seen, ["fsync", "replace", "fsync"])

    def test_replacing(self) -> None:
        """The old content is there until the new one is, whole."""
        self.path.write_bytes(b"old")
        file = self.finished(b"new")
        self.assertEqual(self.path.read_bytes(), b"old")
        file.show()
        self.assertEqual(self.path.read_bytes(), b"new")
        self.assertEqual(self.listing(), ["report.pdf"])

    def test_links_are_not_followed(self) -> None:
        """Replacing a symbolic link replaces the link, not what it points to."""
        target = self.directory / "target"
        target.write_bytes(b"precious")
        self.path.symlink_to(target.name)
        self.finished(b"new").show()
        self.assertEqual(target.read_bytes(), b"precious")
        self.assertFalse(self.path.is_symlink())

    def test_a_guessed_name(self) -> None:
        """Whatever lies at the temporary name already is neither written to nor followed."""
        self.patch(secrets, "token_hex", lambda length: "0" * 16)
        target = self.directory / "target"
        target.write_bytes(b"precious")
        (self.directory / ".kdc-0000000000000000.part").symlink_to(target.name)
        self.assertRaises(LocalIOError, PartialFile, self.path)
        self.assertEqual(target.read_bytes(), b"precious")

    def test_discard(self) -> None:
        """What is discarded leaves nothing, before and after its end; what is shown stays."""
        PartialFile(self.path).discard()
        self.finished(b"x").discard()
        self.assertEqual(self.listing(), [])
        file = self.finished(b"x")
        file.show()
        file.discard()
        self.assertEqual(self.listing(), ["report.pdf"])

    def test_many_pieces(self) -> None:
        """More pieces than one call to the system takes arrive in order."""
        pieces = [b"%d," % number for number in range(3000)]
        file = PartialFile(self.path)
        file.write(pieces)
        file.finish()
        file.show()
        self.assertEqual(self.path.read_bytes(), b"".join(pieces))

    def test_short_writes(self) -> None:
        """The system may take less than it was given: the rest follows."""
        writev, write = os.writev, os.write
        self.patch(os, "writev", lambda fd, pieces: writev(fd, [b"".join(pieces)[:5]]))
        self.patch(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
        file = PartialFile(self.path)
        file.write([b"0123456789", b"abcdefghij"])
        file.finish()
        file.show()
        self.assertEqual(self.path.read_bytes(), b"0123456789abcdefghij")
        self.assertEqual(file.written, 20)

    def test_full_disk(self) -> None:
        """A disk that fills up in the middle is an error that says so, and leaves nothing."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGXFSZ, ignored)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, before)
        file = PartialFile(self.path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        error = self.assertRaises(LocalIOError, file.write, [bytes(20_000)])
        self.assertIn(str(self.path), str(error))
        file.discard()
        self.assertEqual(self.listing(), [])

    def test_every_call_may_fail(self) -> None:
        """Whatever the system refuses becomes one kind of error, and discard cleans up."""
        for name in ("writev", "fsync", "replace"):
            with self.subTest(name):
                self.failing(name, errno.ENOSPC)
                file = PartialFile(self.path)

                def store(file: PartialFile = file) -> None:
                    file.write([b"x"])
                    file.finish()
                    file.show()

                error = self.assertRaises(LocalIOError, store)
                self.assertIn("make room", error.hint)
                self.assertIs(error.exit_status, ExitStatus.LOCAL_IO)
                file.discard()
                self.assertEqual(self.listing(), [])
                self.doCleanups()

    def test_where_nothing_can_be_made(self) -> None:
        """No directory, a directory in the way, a directory that is a file."""
        (self.directory / "file").write_bytes(b"")
        for path, text in (
            (self.directory / "missing" / "a", "No such file"),
            (self.directory, "Is a directory"),
            (self.directory / "file" / "a", "Not a directory"),
        ):
            error = self.assertRaises(LocalIOError, PartialFile, path)
            self.assertIn(text, str(error))
            self.assertIn(str(path), str(error))

    def test_long_names(self) -> None:
        """A name of any length that the file system takes can be written to."""
        for name in ("x" * 255, "名" * 85):
            self.path = self.directory / name
            self.finished(b"1").show()
            self.assertEqual(self.path.read_bytes(), b"1")

    def test_hints(self) -> None:
        """The common reasons come with what to do."""
        for number in (errno.EACCES, errno.EROFS, errno.ENOENT, errno.EDQUOT):
            error = local_error(self.path, OSError(number, "x"))
            self.assertTrue(error.hint)
