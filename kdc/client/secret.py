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

from kdc.client._strength import LEAST_LETTERS, remark_on, weakness_of
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
from kdc.terminal import ask, say

__all__ = [
    "Secret",
    "SecretSource",
    "ensure_key_file",
    "read_code",
    "read_invitation",
    "write_key_file",
]

_KEY_PREFIX = "kdc-key:1:"
_MAX_PASSPHRASE = 4096


@attrs.frozen
class Secret:
    """Keys, and why what they are made of is no good as a new secret, if so."""

    keys: LongTermKeys
    weakness: str = ""


@attrs.frozen
class SecretSource:
    """At most one of the first three is set; with none, a person is asked.

    ``least_letters``: a new passphrase is to have so many.
    """

    passphrase_file: Path | None = None
    passphrase_fd: int | None = None
    key_file: Path | None = None
    least_letters: int = LEAST_LETTERS

    @property
    def asks(self) -> bool:
        return self.passphrase_file is None and self.passphrase_fd is None and not self.key_file

    def keys(self, realm: str, name: str, prompt: str = "") -> LongTermKeys:
        """Return the long-term keys of ``name``: 0.2 s for a passphrase.

        Raises `ConfigurationError` or `LocalIOError`, which never quote the secret.
        """
        return self.secret(realm, name, prompt).keys

    def secret(self, realm: str, name: str, prompt: str = "") -> Secret:
        """The same, with what speaks against it as a new one."""
        if self.key_file is not None:
            return Secret(long_term_keys(_key_of(self.key_file), realm, name))
        passphrase = self._passphrase(name, prompt)
        keys = long_term_keys(digest_of_passphrase(passphrase, realm, name), realm, name)
        return Secret(keys, weakness_of(passphrase.decode(), self.least_letters))

    def repeated(self, keys: LongTermKeys, prompt: str = "once more: ") -> bool:
        """Have a person type a new passphrase again; whether it is that of ``keys``.

        If it is, what can be said against it is said.
        """
        passphrase = self._passphrase(keys.name, prompt)
        digest = digest_of_passphrase(passphrase, keys.realm, keys.name)
        again = long_term_keys(digest, keys.realm, keys.name)
        same = again.verify_key == keys.verify_key
        if same and (remark := remark_on(passphrase.decode(), keys.name)):
            say(remark)
        return same

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


def ensure_key_file(path: Path) -> bool:
    """Make a new key file unless there is something already; whether one was made."""
    if os.path.lexists(path):
        return False
    write_key_file(path)
    return True


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
