"""Many received files at once are made durable, with ``syncfs`` and without it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from kdc.files.system import System
from kdc.files.tree import Tree, sync_all


class SyncAllTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.top = Path(self.mktemp())
        (self.top / "below" / "deep").mkdir(parents=True)
        for name in ("a", "below/b", "below/deep/c"):
            (self.top / name).write_bytes(b"x")
        self.tree = Tree(os.open(self.top, os.O_RDONLY | os.O_DIRECTORY))
        self.addCleanup(self.tree.close)
        self.synced: list[int] = []
        fsync = os.fsync

        def noted(fd: int) -> None:
            self.synced.append(os.fstat(fd).st_ino)
            fsync(fd)

        self.patch(os, "fsync", noted)

    def everything(self) -> list[int]:
        return sorted(path.stat().st_ino for path in (self.top, *self.top.rglob("*")))

    def test_at_once(self) -> None:
        """The real ``syncfs`` is called on the tree's own file system, once, and is enough."""
        real: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
        called: list[tuple[int, int]] = []

        def syncfs(fd: int) -> int:
            called.append((fd, real(fd)))
            return called[-1][1]

        sync_all(self.tree, System(SimpleNamespace(syncfs=syncfs)))
        self.assertEqual(called, [(self.tree.fd, 0)])
        self.assertEqual(self.synced, [])

    def test_one_by_one(self) -> None:
        """Where it fails, or there is no such call, each file and each directory is synced."""
        for libc in (SimpleNamespace(syncfs=lambda fd: -1), SimpleNamespace()):
            self.synced.clear()
            sync_all(self.tree, System(libc))
            self.assertEqual(sorted(self.synced), self.everything())

    def test_directories(self) -> None:
        """`sync_directories` syncs each of them, and no file."""
        self.tree.sync_directories()
        directories = [self.top, self.top / "below", self.top / "below" / "deep"]
        self.assertEqual(sorted(self.synced), sorted(path.stat().st_ino for path in directories))
