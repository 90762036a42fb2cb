"""Where a principal's secret comes from: a terminal, a file or a descriptor; never argv.

Blocking: it reads, asks, and derives.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import getpass
import os
import secrets
import signal
import stat
import termios
from collections.abc import Iterator
from pathlib import Path

import attrs

from kdc.errors import ConfigurationError
from kdc.files.atomic import local_error, sync_directory
from kdc.files.private import others_can_read
from kdc.protocol.crypto import (
    KEY_BYTES,
    Digest,
    LongTermKeys,
    digest_of_passphrase,
    long_term_keys,
)
from kdc.protocol.names import normal_passphrase

__all__ = [
    "SecretSource",
    "ask",
    "has_terminal",
    "interruptible",
    "read_private",
    "write_key_file",
]

_KEY_PREFIX = "kdc-key:1:"
_MAX_FILE = 4096


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
                "give --passphrase-file, --passphrase-fd or --key-file",
            )
            raw, where = typed.encode(), "what was typed"
        try:
            # Editors end a file with a line break; it is not part of the secret.
            return normal_passphrase(raw.decode().removesuffix("\n").removesuffix("\r"))
        except UnicodeDecodeError:
            raise ConfigurationError(f"{where} is not UTF-8") from None
        except ValueError as error:
            raise ConfigurationError(f"{where}: {error}") from None


def has_terminal() -> bool:
    """Whether there is somebody to ask."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def read_private(path: Path) -> bytes:
    """Read a small secret file; refuses one that others than its owner could read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            if stat.S_ISREG(mode) and others_can_read(path, mode):
                raise ConfigurationError(
                    f"{path} can be read by others than its owner", hint=f"chmod 600 {path}"
                )
            content = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise local_error(path, error) from None
    if len(content) > _MAX_FILE:
        raise ConfigurationError(f"{path} is too long for a secret")
    return content


def write_key_file(path: Path) -> None:
    """Make a new key file of 32 random bytes, readable by its owner only.

    When this returns it survives a power cut; if it raises nothing is left.
    """
    text = _KEY_PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(fd)
            sync_directory(path.parent)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise local_error(path, error) from None


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
            f"{path} is not a key file", hint="make one with: kdcclient keygen FILE"
        ) from None
    return Digest(key)


def _read_fd(fd: int) -> bytes:
    try:
        with os.fdopen(fd, "rb", closefd=True) as file:
            return file.read(_MAX_FILE)
    except OSError as error:
        raise ConfigurationError(f"descriptor {fd}: {error.strerror}") from None


def ask(prompt: str, what: str, instead: str) -> str:
    """Return what is typed without echo; ``instead``: what to do where there is no terminal."""
    if not has_terminal():
        raise ConfigurationError(f"no terminal to ask for the {what} on", hint=instead)
    with interruptible():
        try:
            return getpass.getpass(prompt)
        except (EOFError, termios.error):
            raise ConfigurationError(f"no {what} was typed") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"the {what} that was typed is not UTF-8") from None


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a question, and the program with it, by `SystemExit`.

    A running reactor would only take note of them; the default action of SIGTERM
    would leave the terminal without its echo.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [(number, signal.signal(number, _leave)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)
