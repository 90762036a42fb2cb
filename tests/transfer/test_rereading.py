"""Digests of files that are gone on with while what was kept of them is read."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.transfer._digest import Digest
from kdc.transfer._rereading import KeptDigest, Rereading
from tests.support.core import PROPERTY


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class RereadingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.stopped = threading.Event()

    def kept(self, content: bytes, size: int | None = None, digest: str = "") -> KeptDigest:
        """Of a file that has ``content`` now."""
        self.path.write_bytes(content)
        size = len(content) if size is None else size
        fd = os.open(self.path, os.O_RDONLY)
        return KeptDigest(fd, size, digest or sha256(content[:size]), self.stopped)

    def write(self, digest: Digest, *pieces: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(pieces))
        digest.add(pieces)


class KeptDigestTests(RereadingTestCase):
    @PROPERTY
    @given(st.binary(min_size=1), *[st.lists(st.binary(), max_size=4)] * 2)
    def test_any(self, kept: bytes, before: list[bytes], after: list[bytes]) -> None:
        """Whatever comes before what was kept has been read, and after that: it is of all."""
        digest = self.kept(kept)
        self.assertEqual((digest.reached, digest.is_behind), ((len(kept), sha256(kept)), True))
        for piece in before:
            self.write(digest, piece)
        self.assertEqual(digest.reached, (len(kept), sha256(kept)))
        digest.run()
        self.assertTrue(digest.is_what_came())
        self.assertFalse(digest.is_behind)
        for piece in after:
            self.write(digest, piece)
        whole = self.path.read_bytes()
        self.assertEqual(digest.reached, (len(whole), sha256(whole)))

    def test_more_is_there(self) -> None:
        """What is behind what was kept does not count."""
        digest = self.kept(b"kept, and more", 4)
        digest.run()
        self.assertTrue(digest.is_what_came())
        self.assertEqual(digest.reached, (4, sha256(b"kept")))

    def test_not_what_was_kept(self) -> None:
        """Other bytes, or fewer of them."""
        for found in (b"lept", b"kep", b"", b"kepT and more"):
            digest = self.kept(found, 4, sha256(b"kept"))
            self.write(digest, b"more")
            digest.run()
            self.assertTrue(digest.is_wrong)
            self.assertFalse(digest.is_what_came())
            self.assertTrue(digest.is_behind)

    def test_changed_behind_it(self) -> None:
        """What was written since is not told of if somebody else has been at it."""
        for change in (b"MORE", b"mor", b""):
            digest = self.kept(b"kept")
            self.write(digest, b"good")
            self.write(digest, b"more")
            self.path.write_bytes(b"keptgood" + change)
            digest.run()
            self.assertTrue(digest.is_wrong)
            self.assertFalse(digest.is_what_came())
            self.assertEqual(digest.reached, (8, sha256(b"keptgood")))

    def test_stopped(self) -> None:
        """Nobody is told that it is wrong, nor that it is right."""
        digest = self.kept(b"kept")
        self.stopped.set()
        digest.run()
        self.assertFalse(digest.is_what_came())
        self.assertFalse(digest.is_wrong)

    def test_cannot_be_read(self) -> None:
        """A disk that fails says nothing of what is on it."""
        digest = KeptDigest(os.open(".", os.O_RDONLY), 1, sha256(b"x"), self.stopped)
        digest.run()
        self.assertRaises(OSError, digest.is_what_came)
        self.assertFalse(digest.is_wrong)

    def test_nothing_was_kept(self) -> None:
        """Of what came from its beginning nothing is in doubt."""
        digest = Digest()
        digest.add([b"some", b"thing"])
        self.assertEqual(digest.reached, (9, sha256(b"something")))
        self.assertTrue(digest.is_what_came())
        self.assertFalse(digest.is_behind or digest.is_wrong)
        digest = Digest(hashlib.sha256(b"some"), 4)
        digest.add([b"thing"])
        self.assertEqual(digest.reached, (9, sha256(b"something")))


class ThreadTests(RereadingTestCase):
    def test_while_it_is_written(self) -> None:
        """Whoever is first: many pieces come while it is read."""
        content = os.urandom(3 << 20)
        self.path.write_bytes(content)
        rereading = Rereading()
        self.addCleanup(rereading.close)
        digest = rereading.begin(os.open(self.path, os.O_RDONLY), len(content), sha256(content))
        for _ in range(50):
            self.write(digest, os.urandom(50_000), b"x")
        self.assertTrue(digest.is_what_came())
        whole = self.path.read_bytes()
        self.assertEqual(digest.reached, (len(whole), sha256(whole)))

    def test_closed(self) -> None:
        """Who has begun much, and leaves, leaves no descriptor and no thread."""
        before = os.listdir("/proc/self/fd"), threading.active_count()
        rereading = Rereading()
        self.path.write_bytes(bytes(8 << 20))
        for _ in range(4):
            rereading.begin(os.open(self.path, os.O_RDONLY), 8 << 20, sha256(b"other"))
        rereading.close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before[0]))
        self.assertEqual(threading.active_count(), before[1])
