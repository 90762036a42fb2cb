"""The KDC's TLS key and certificate on the disk: given to it, or made here.  Blocking."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import attrs

from kdc.errors import ConfigurationError
from kdc.files.atomic import PartialFile, local_error
from kdc.files.private import others_can_read
from kdc.net.tls import ServerTLS, make_certificate

__all__ = ["TLSFiles"]

_MAX_BYTES = 1 << 20
_OWN_HOSTS = ("localhost", "127.0.0.1", "::1")


@attrs.frozen
class TLSFiles:
    """``key`` and ``certificate`` if they were given, otherwise ``own``, which holds both.

    One file, so that they cannot be torn apart.  ``hosts`` are the names that a
    certificate made here is for, besides this machine's own.  All methods raise
    `KDCError`.
    """

    own: Path
    key: Path | None = None
    certificate: Path | None = None
    hosts: tuple[str, ...] = ()

    @classmethod
    def beside(cls, store: Path) -> TLSFiles:
        return cls(store.with_name(f"{store.name}.tls"))

    def load(self) -> ServerTLS:
        """Read what is there; nothing is made."""
        if self.key is not None and self.certificate is not None:
            return ServerTLS(_private(self.key), _read(self.certificate))
        if self.key is not None or self.certificate is not None:
            raise ConfigurationError("--tls-key and --tls-certificate go together")
        both = _private(self.own)
        return ServerTLS(both, both)

    def load_or_make(self) -> ServerTLS:
        """Read what is there, or what is made now."""
        if self.key is None and self.certificate is None and not os.path.lexists(self.own):
            self._make()
        return self.load()

    def renew(self) -> ServerTLS:
        """Put a new key and certificate in the place of those that were made here.

        The old file is kept beside it, under the ending ``.old``.  Whatever
        fails, there is one of the two under the name at all times.
        """
        if self.key is not None or not os.path.lexists(self.own):
            raise ConfigurationError(
                f"there is no {self.own}: the KDC was given its TLS key, it did not make it",
                hint="replace the files of --tls-key and --tls-certificate, then send SIGHUP",
            )
        old = self.own.with_name(f"{self.own.name}.old")
        try:
            old.unlink(missing_ok=True)
            os.link(self.own, old, follow_symlinks=False)
        except OSError as error:
            raise local_error(old, error) from None
        self._make()
        return self.load()

    def _make(self) -> None:
        key, certificate = make_certificate((*self.hosts, *_OWN_HOSTS), dt.datetime.now(dt.UTC))
        file = PartialFile(self.own)
        try:
            file.write([key, certificate])
            file.finish()
            file.show(replace=True)
        finally:
            file.discard()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise local_error(path, error) from None


def _private(path: Path) -> bytes:
    """Read a secret file, which nobody else may be able to."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise local_error(path, error) from None
    if others_can_read(path, mode):
        raise ConfigurationError(
            f"{path} can be read by others than its owner", hint=f"chmod 600 {path}"
        )
    return _read(path)
