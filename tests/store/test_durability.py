"""The last step to the disk: what the real `Files` asks of the system, on which file, and when.

The simulated disk of the other tests stands in for exactly these calls.  Here the
store works on a real file system, and every write, sync and rename is noted.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.store import Create, StoreError
from kdc.store.flatfile._store import FlatFileStore
from kdc.store.flatfile.backup import backup
from kdc.store.flatfile.repair import repair
from kdc.store.sealed.files import Files, read_all, replace
from tests.support.disk import abandon
from tests.support.store_conformance import active, token


def inline(work: Callable[[], None]) -> None:
    work()


@attrs.frozen
class Call:
    """``inode`` of the descriptor, or of what is renamed; ``path`` as it was at that moment."""

    name: str
    inode: int
    path: str
    directory_inode: int = 0


class DurabilityCase(SynchronousTestCase):
    def setUp(self) -> None:
        top = os.path.abspath(self.mktemp())
        # Key and generation lie elsewhere: each directory has to be synced for itself.
        for name in ("store", "keys", "generations", "backup"):
            os.makedirs(os.path.join(top, name))
        self.top = top
        self.path = os.path.join(top, "store", "pwd.txt")
        self.key = os.path.join(top, "keys", "master")
        self.generation = os.path.join(top, "generations", "kept")
        self.calls: list[Call] = []
        self.watch()

    def watch(self) -> None:
        for name in ("write", "pwrite", "ftruncate", "fsync", "fdatasync"):
            self._watch_descriptor(name)
        rename = os.rename

        def renamed(old: str, new: str, **named: Any) -> None:
            directory = os.stat(os.path.dirname(new)).st_ino
            self.calls.append(Call("rename", os.stat(old).st_ino, new, directory))
            rename(old, new, **named)

        self.patch(os, "rename", renamed)

    def _watch_descriptor(self, name: str) -> None:
        original = getattr(os, name)

        def call(fd: int, *args: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{fd}")
            self.calls.append(Call(name, os.fstat(fd).st_ino, path))
            return original(fd, *args)

        self.patch(os, name, call)

    def open(self, **options: Any) -> FlatFileStore:
        store = FlatFileStore.open(
            self.path,
            realm="LOCAL",
            key_path=self.key,
            generation_path=self.generation,
            run=inline,
            **options,
        )
        self.addCleanup(store.close)
        return store

    def check_durable(self, *names: str) -> None:
        """Each file was on the disk before it got its name, and the name is there too by now."""
        renamed = []
        for at, call in enumerate(self.calls):
            if call.name != "rename":
                continue
            renamed.append(os.path.relpath(call.path, self.top))
            before = [each.name for each in self.calls[:at] if each.inode == call.inode]
            self.assertIn("write", before, call)
            # As a whole: its length and the rest of its inode too.
            self.assertEqual(before[-1], "fsync", call)
            after = [(each.name, each.inode) for each in self.calls[at + 1 :]]
            self.assertIn(("fsync", call.directory_inode), after, call)
        self.assertEqual(renamed, list(names))
        self.calls.clear()


class DurabilityTests(DurabilityCase):
    def test_new_store(self) -> None:
        """The key is durable before what it seals has its name."""
        self.open()
        self.check_durable("keys/master", "store/pwd.txt")

    def test_change(self) -> None:
        """What is acknowledged is in the journal on the disk: the last call on it is a sync."""
        store = self.open()
        self.calls.clear()
        store.apply([Create(active("alice"), token(1))])
        self.check_durable("store/pwd.txt.journal", "generations/kept")
        journal = os.stat(self.path + ".journal").st_ino
        for number in range(3):
            self.calls.clear()
            store.apply([Create(active(f"bob{number}"), token(2 + number))])
            names = [call.name for call in self.calls if call.inode == journal]
            self.assertEqual(names, ["write", "fdatasync"])

    def test_fold(self) -> None:
        """pwd.txt is durable under its name before the journal is shortened."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        self.calls.clear()
        self.assertTrue(store.fold())
        # The name of pwd.txt first: until then the journal has to reach further back.
        names = [(call.name, call.path) for call in self.calls]
        base = names.index(("rename", self.path))
        journal = names.index(("rename", self.path + ".journal"))
        self.assertIn(("fsync", os.path.dirname(self.path)), names[base:journal])
        self.check_durable("store/pwd.txt", "store/pwd.txt.journal")

    def test_rotation(self) -> None:
        """Both keys are durable, elsewhere, before anything is sealed under the new one."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        self.calls.clear()
        store.rotate_master_key()
        names = [(call.name, call.path) for call in self.calls]
        first, base = names.index(("rename", self.key)), names.index(("rename", self.path))
        self.assertIn(("fsync", os.path.dirname(self.key)), names[first:base])
        # Else a power cut could leave the older pwd.txt beside the journal that follows this one.
        journal = names.index(("rename", f"{self.path}.journal"))
        self.assertIn(("fsync", os.path.dirname(self.path)), names[base:journal])
        self.check_durable("keys/master", "store/pwd.txt", "store/pwd.txt.journal", "keys/master")

    def test_what_is_made(self) -> None:
        """A new file was not there before, nor a link that leads to another."""
        path = os.path.join(self.top, "new")
        os.symlink(self.path, path)
        self.assertRaises(FileExistsError, Files().create, path)
        self.assertFalse(os.path.exists(self.path))
        os.unlink(path)
        os.close(Files().create(path))
        self.assertRaises(FileExistsError, Files().create, path)

    def test_what_is_read(self) -> None:
        """A device is no file, though it can be opened and read."""
        fd = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        error = self.assertRaises(OSError, read_all, Files(), fd)
        self.assertEqual(error.errno, errno.EINVAL)

    def test_stop(self) -> None:
        """A store that was closed has its generation on the disk too."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        kept = os.stat(self.generation).st_ino
        store.apply([Create(active("bob"), token(2))])
        store.close()
        names = [call.name for call in self.calls if call.inode == kept]
        self.assertEqual(names[-1], "fdatasync")

    def test_stop_without_a_fold(self) -> None:
        """It is even where the last changes stay in the journal."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        kept = os.stat(self.generation).st_ino
        store.apply([Create(active("bob"), token(2))])
        os.mkdir(self.path + ".fold")  # so that none is possible
        store.close()
        self.assertIn("fold", store.trouble)
        names = [call.name for call in self.calls if call.inode == kept]
        self.assertEqual(names[-2:], ["pwrite", "fdatasync"])

    def test_accepted_rollback(self) -> None:
        """The generation that is gone on from is durable before anything is changed."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        store.close()
        copy = os.path.join(self.top, "copy")
        shutil.copytree(os.path.dirname(self.path), copy)
        store = self.open()
        store.apply([Create(active("bob"), token(2))])
        store.close()
        shutil.copytree(copy, os.path.dirname(self.path), dirs_exist_ok=True)
        self.calls.clear()
        self.open(accept_rollback=True)
        self.check_durable("store/pwd.txt")

    def test_repair(self) -> None:
        """The quarantine is durable before what it was taken from is replaced."""
        store = self.open()
        store.apply([Create(active("alice"), token(1)), Create(active("bob"), token(2))])
        store.close()
        with open(self.path, "r+b") as file:
            content = file.read().replace(b":alice:10.", b":alice:11.")
            file.seek(0)
            file.write(content)
        self.calls.clear()
        repair(self.path, key_path=self.key, generation_path=self.generation)
        self.check_durable(
            "store/pwd.txt.quarantine", "store/pwd.txt", "store/pwd.txt.journal", "generations/kept"
        )

    def test_backup(self) -> None:
        """A backup that was made survives a power cut."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        self.calls.clear()
        backup(self.path, os.path.join(self.top, "backup"), with_key=True, key_path=self.key)
        self.check_durable("backup/pwd.txt", "backup/pwd.txt.journal", "backup/pwd.txt.key")

    def test_replace(self) -> None:
        """The directory is that of the file, wherever the process is."""
        replace(Files(), self.key, b"content")
        self.check_durable("keys/master")

    def test_a_sync_that_fails_is_told(self) -> None:
        """What the system refuses to sync is not taken for durable."""

        def fail(fd: int) -> None:
            raise OSError(5, os.strerror(5))

        for name in ("fsync", "fdatasync"):
            self.patch(os, name, fail)
        files = Files()
        fd = os.open(self.top, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        self.assertRaises(OSError, files.fsync, fd)
        self.assertRaises(OSError, files.fdatasync, fd)
        self.assertRaises(OSError, files.sync_directory, self.path)


class RotationCutShortTests(DurabilityCase):
    def test_a_journal_under_the_older_key(self) -> None:
        """It is left out only if pwd.txt has all of it, and no generation file is needed to see."""
        store = self.open()
        store.apply([Create(active("alice"), token(1))])
        store.close()
        directory, copy = os.path.dirname(self.path), os.path.join(self.top, "copy")
        shutil.copytree(directory, copy)
        older_key = self.content(self.key)
        store = self.open()
        store.rotate_master_key()
        store.close()
        rotated = self.content(self.path)
        both = self.content(self.key) + older_key
        # A pwd.txt under the new key beside the journal under the older one, as a crash leaves it.
        for change in (False, True):
            os.unlink(self.generation)
            shutil.copytree(copy, directory, dirs_exist_ok=True)
            self.put(self.key, older_key)
            if change:
                store = self.open()
                store.apply([Create(active("bob"), token(2))])
                abandon(store)
            self.put(self.path, rotated)
            self.put(self.key, both)
            Files().remove_if_there(self.generation)
            if change:
                error = self.assertRaises(StoreError, self.open)
                self.assertIn("is sealed under another master key", str(error))
            else:
                store = self.open()
                self.assertEqual([record.name for record in store], ["alice"])
                store.apply([Create(active("carol"), token(3))])
                store.close()

    def content(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def put(self, path: str, content: bytes) -> None:
        with open(path, "wb") as file:
            file.write(content)
