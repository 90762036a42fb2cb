"""docs/store.md."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *of(
        "kdc/store/flatfile/_lines.py",
        "tests.store.test_flatfile tests.store.test_damage",
        (
            "store 2",
            "a line is of one name",
            'return enc(b"kdp/1 store", self._realm, name, generation,',
            'return enc(b"kdp/1 store", self._realm, generation,',
        ),
        (
            "store 2",
            "a line is of one generation",
            "self._realm, name, generation, address",
            "self._realm, name, address",
        ),
        (
            "store 2",
            "the status is sealed",
            "address, port, status, *times)",
            "address, port, *times)",
        ),
        (
            "store 2",
            "base64 in its one form",
            "if binascii.b2a_base64(sealed, newline=False) != digest:",
            "if False:",
        ),
        ("store 2", "a line is of one store", "self._realm, store_id.encode())", "self._realm)"),
    ),
    *of(
        "kdc/store/flatfile/_files.py",
        "tests.store.test_flatfile tests.store.test_faults",
        (
            "store 3",
            "a new file is synced before its name",
            "            files.fsync(fd)\n        finally:\n            files.close(fd)\n        (rename or files.rename)",
            "            pass\n        finally:\n            files.close(fd)\n        (rename or files.rename)",
        ),
        (
            "store 3",
            "a new name is synced",
            "        raise\n    files.sync_directory(path)",
            "        raise",
        ),
        (
            "store 3",
            "only regular files are read",
            "if not stat.S_ISREG(files.fstat(fd).st_mode):",
            "if False:",
        ),
    ),
    *of(
        "kdc/store/flatfile/_store.py",
        "tests.store.test_flatfile tests.store.test_faults",
        ("store 3", "a batch is bounded", "if len(changes) > self.most_changes:", "if False:"),
        (
            "store 4",
            "the old journal takes no change under a new key",
            "        self._journal.sound = False\n        self._files",
            "        self._files",
        ),
        (
            "store 3",
            "the names are synced before the old key goes",
            "        self._files.sync_directory(self._paths.base)\n        self._renew_journal()",
            "        self._renew_journal()",
        ),
        (
            "store 3",
            "a folded journal is synced",
            "                    journal.sync(data_only=True)\n",
            "",
        ),
        ("store 4", "the generation is kept", "        self._keep_generation()\n", ""),
    ),
]
