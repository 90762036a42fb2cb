"""Where a principal's secret comes from: a terminal, a file or a descriptor; never argv.

Blocking: it reads, asks, and derives.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path

import attrs

from kdc.errors import ConfigurationError, ErrorKind
from kdc.files.atomic import PartialFile
from kdc.files.private import read_private, utf8
from kdc.protocol.crypto import (
    KEY_BYTES,
    Digest,
    LongTermKeys,
    digest_of_passphrase,
    long_term_keys,
)
from kdc.protocol.invitation import Invitation
from kdc.protocol.names import normal_passphrase
from kdc.terminal import ask

__all__ = ["SecretSource", "read_code", "read_invitation", "write_key_file"]

_KEY_PREFIX = "kdc-key:1:"
_MAX_PASSPHRASE = 4096


@attrs.frozen
class SecretSource:
    """At most one of them is set; with none, a person is asked."""

    passphrase_file: Path | None = None
    passphrase_fd: int | None = None
    key_file: Path | None = None

    @property
    def asks(self) -> bool:
        return self.passphrase_file is None and self.passphrase_fd is None and not self.key_file

    def keys(self, realm: str, name: str, prompt: str = "") -> LongTermKeys:
        """Return the long-term keys of ``name``: 0.2 s for a passphrase.

        Raises `ConfigurationError` or `LocalIOError`, which never quote the secret.
        """
        if self.key_file is not None:
            digest = _key_of(self.key_file)
        else:
            digest = digest_of_passphrase(self._passphrase(name, prompt), realm, name)
        return long_term_keys(digest, realm, name)

    def _passphrase(self, name: str, prompt: str) -> bytes:
        if self.passphrase_file is not None:
            raw, where = read_private(self.passphrase_file), str(self.passphrase_file)
        elif self.passphrase_fd is not None:
            raw, where = _read_fd(self.passphrase_fd), f"descriptor {self.passphrase_fd}"
        else:
            typed = ask(
                prompt or f"passphrase of {name}: ",
                "passphrase",
                kind=ErrorKind.PASSPHRASE_UNKNOWN,
            )
            raw, where = typed.encode("utf-8", "surrogatepass"), "what was typed"
        text = utf8(raw)
        if text is None:
            raise ConfigurationError(f"{where} is not UTF-8")
        try:
            # Editors end a file with a line break; it is not part of the secret.
            return normal_passphrase(text.removesuffix("\n").removesuffix("\r"))
        except ValueError as error:
            raise ConfigurationError(f"{where}: {error}") from None


def write_key_file(path: Path) -> None:
    """Make a new key file of 32 random bytes, readable by its owner only.

    Whenever it is interrupted, there is a whole one or none; when this returns it
    survives a power cut.  What is there already stays, and is a `LocalIOError`.
    """
    text = _KEY_PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n"
    file = PartialFile(path)
    try:
        file.write([text.encode()])
        file.finish()
        file.show_new()
    finally:
        file.discard()


def _key_of(path: Path) -> Digest:
    text = read_private(path).strip()
    try:
        if not text.startswith(_KEY_PREFIX.encode()):
            raise ValueError
        key = base64.b64decode(text.removeprefix(_KEY_PREFIX.encode()), validate=True)
        if len(key) != KEY_BYTES:
            raise ValueError
    except (ValueError, binascii.Error):
        raise ConfigurationError(
            f"{path} is not a key file", kind=ErrorKind.NOT_A_KEY_FILE
        ) from None
    return Digest(key)


def _read_fd(fd: int) -> bytes:
    try:
        with os.fdopen(fd, "rb", closefd=True) as file:
            return file.read(_MAX_PASSPHRASE)
    except OSError as error:
        raise ConfigurationError(f"descriptor {fd}: {error.strerror}") from None


def read_invitation(path: Path) -> Invitation:
    """Return the invitation in a file that is its owner's alone."""
    return Invitation.parse(read_private(path).decode("ascii", "replace"))


def read_code(path: Path) -> bytes:
    """Return the code of the invitation in a file."""
    return read_invitation(path).code
