"""The user's configuration file: defaults for what would be typed each time.

TOML, by default ``$XDG_CONFIG_HOME/kdc/client.toml``:

    name = "bob"
    address = "kdc.example"
    port = 12345
    kdc-fingerprint = "sha256:..."
    key-file = "bob.key"

or ``addresses = ["kdc1.example", "kdc2.example:12345"]`` where a realm has several KDCs.
The keys are the client's options; relative paths start at the file's own
directory.  Secrets themselves never stand in it.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdc.errors import ConfigurationError, ErrorKind
from kdc.files.atomic import PartialFile
from kdc.files.private import read_small, utf8
from kdc.hostile_text import shown

__all__ = ["KEYS", "PATHS", "check_free", "default_path", "directory", "load", "path_of", "save"]

PATHS = ("passphrase-file", "key-file", "kdc-ca", "known-kdcs")
KEYS = ("name", "address", "addresses", "port", "realm", "reach", "kdc-fingerprint", *PATHS)
_MAX_BYTES = 65_536


def directory() -> Path:
    """Where the user's own files are."""
    try:
        return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "kdc"
    except RuntimeError:  # no HOME, and a user that the system does not know
        return Path("/nonexistent/.config/kdc")


def default_path() -> Path:
    return directory() / "client.toml"


def path_of(name: str) -> Path:
    """The file for the principal ``name``, for those who have several on one account."""
    return directory() / "names" / f"{name}.toml"


def load(path: Path | None = None) -> dict[str, Any]:
    """Return the options in ``path``, or in the user's own file if there is one.

    All are texts, but for ``addresses``, which is a tuple of them.

    Raises `ConfigurationError` for a file that is not such a file, and
    `LocalIOError` for one that was named and cannot be read.
    """
    named = path is not None
    path = path or default_path()
    content = read_small(path, _MAX_BYTES, missing=None if named else b"")
    return {key: _value(path, key, value) for key, value in _parsed(path, content).items()}


def check_free(path: Path) -> None:
    """Raises `ConfigurationError` if there is such a file: somebody's settings are in it."""
    if os.path.lexists(path):
        raise ConfigurationError(f"{path} is there already", kind=ErrorKind.SETTINGS_THERE)


def save(path: Path, values: Mapping[str, str | int | list[str]]) -> None:
    """Make ``values`` the whole of the file, readable by its owner only.

    Raises `ConfigurationError` for what TOML cannot express, and `LocalIOError`.
    """
    text = "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()
    )
    try:
        content = text.encode()
        if tomllib.loads(text) != dict(values):
            raise ValueError
    except ValueError:  # a path can hold any bytes
        raise ConfigurationError(f"{path}: a name in it cannot be written down") from None
    file = PartialFile(path)
    try:
        file.write([content])
        file.finish()
        file.show()
    finally:
        file.discard()


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    text = utf8(content)
    why = "it is not UTF-8"
    if text is not None:
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            why = str(error)
    # Not from there: the error can hold all of a file, and somebody may have named a secret one.
    raise ConfigurationError(f"{shown(str(path), 4096)}: {why}", hint="it must be TOML")


def _value(path: Path, key: str, value: Any) -> str | tuple[str, ...]:
    if key not in KEYS:
        raise ConfigurationError(
            f"{path}: there is no setting {shown(key)}", hint=f"there are: {', '.join(KEYS)}"
        )
    if key == "addresses":
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ConfigurationError(f'{path}: {key} must be a list of texts: ["kdc.example"]')
        return tuple(value)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ConfigurationError(f"{path}: {key} must be a text or a number")
    text = str(value)
    if "\0" in text:
        raise ConfigurationError(f"{path}: {key} has a zero byte in it: {shown(text)}")
    if key in PATHS and text != "system":
        return str(path.parent.absolute() / os.path.expanduser(text))
    return text
