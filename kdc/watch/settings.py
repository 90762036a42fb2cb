"""What a status port is told, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import attrs

from kdc.errors import ConfigurationError, ErrorKind
from kdc.files.private import read_private
from kdc.net.sockets import is_local_endpoint

__all__ = ["StatusSettings"]

_LEAST_TOKEN = 20


@attrs.frozen
class StatusSettings:
    """``endpoint``: a Twisted server endpoint string.  ``hosts``: the names we are known by."""

    endpoint: str
    token_file: Path | None = None
    hosts: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether only this machine can connect."""
        return is_local_endpoint(self.endpoint)

    @property
    def has_tls(self) -> bool:
        """Whether the endpoint brings a certificate of its own."""
        return self.endpoint.startswith("ssl:")

    def token(self) -> bytes | None:
        """Return what who looks has to show; None if nothing.

        Raises `ConfigurationError` if others can connect and there is no token, or a weak one;
        `LocalIOError` if its file cannot be read.
        """
        if self.token_file is None:
            if self.local:
                return None
            raise ConfigurationError(
                f"{self.endpoint}: a status port that other machines reach needs a token",
                hint="listen on this machine only, or give a file with a token",
                kind=ErrorKind.STATUS_NEEDS_TOKEN,
            )
        token = read_private(self.token_file).strip()
        if len(token) < _LEAST_TOKEN or not all(33 <= byte < 127 for byte in token):
            raise ConfigurationError(
                f"{self.token_file}: a token is {_LEAST_TOKEN} ASCII characters or more, one word",
                hint="such as what this prints: openssl rand -hex 32",
            )
        return token
