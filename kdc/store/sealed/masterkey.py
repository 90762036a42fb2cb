"""The master key file: the one secret that opens a store; see docs/store.md."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from pathlib import PurePath

import attrs

from kdc.files.private import others_can_read
from kdc.protocol.codec import enc
from kdc.protocol.crypto import KEY_BYTES, hkdf
from kdc.store import StoreError
from kdc.store.sealed.files import Files, read_all, replace

__all__ = ["MasterKeys", "key_id_of", "mac_key"]

_FORMAT = "kdc-master-key:1"
_LINE = re.compile(_FORMAT + r":([0-9a-f]{16}):([A-Za-z0-9+/]{43}=):")


def key_id_of(master: bytes) -> str:
    """Return what the store's files call this key; tells nothing of it."""
    return hkdf(b"", master, b"kdp/1 store key id", 8).hex()


def mac_key(master: bytes, store_id: str, purpose: str) -> bytes:
    """Return the key that authenticates one kind of thing of one store."""
    return hkdf(b"", master, enc(b"kdp/1 store mac", purpose.encode(), store_id.encode()))


@attrs.frozen
class MasterKeys:
    """The keys in one key file: one, or the new and the old while they are rotated."""

    by_id: Mapping[str, bytes] = attrs.field(repr=False)

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> MasterKeys:
        master = random(KEY_BYTES)
        return cls({key_id_of(master): master})

    @classmethod
    def read(cls, files: Files, path: str) -> MasterKeys:
        """Raises `StoreError` if others could read it too, or it is damaged; `OSError`."""
        fd = files.open(path, os.O_RDONLY)
        try:
            mode = files.fstat(fd).st_mode
            if others_can_read(PurePath(path), mode):
                raise StoreError(
                    f"{path} may be read by others (mode {mode & 0o777:03o})",
                    hint=f"chmod 600 {path}, and think of who has read it: it opens the store",
                )
            text = read_all(files, fd).decode("ascii", "replace")
        finally:
            files.close(fd)
        keys = {}
        for number, line in enumerate(text.splitlines(), 1):
            match = _LINE.fullmatch(line)
            master = base64.b64decode(match[2]) if match else b""
            if match is None or key_id_of(master) != match[1]:
                raise StoreError(
                    f"{path}, line {number} is not a master key that this version wrote",
                    hint="restore the file from its backup; without it the store cannot be read",
                )
            keys[match[1]] = master
        if not keys:
            raise StoreError(
                f"{path} is empty",
                hint="restore the file from its backup; without it the store cannot be read",
            )
        return cls(keys)

    def write(
        self, files: Files, path: str, rename: Callable[[str, str], None] | None = None
    ) -> None:
        """Put these keys, and no other, into the file, durably.  Raises `OSError`."""
        lines = [
            f"{_FORMAT}:{key_id}:{base64.b64encode(master).decode()}:\n"
            for key_id, master in self.by_id.items()
        ]
        replace(files, path, "".join(lines).encode(), rename)

    def get(self, key_id: str, path: str) -> bytes:
        """Return the key that ``path`` is sealed under; raises `StoreError`."""
        if key_id not in self.by_id:
            raise StoreError(
                f"{path} is sealed under master key {key_id}, and the key file has "
                + " and ".join(self.by_id),
                hint="put the master key file that belongs to it in its place",
            )
        return self.by_id[key_id]
