"""KDCs this user has met: the known-KDCs file, and how one gets into it.

One line a KDC, or a realm's KDCs: ``HOST:PORT[,HOST:PORT...] sha256:...[,sha256:...]``.
Blocking; used before the reactor runs.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path

from kdc.client import configuration
from kdc.client.addresses import Place, key_of
from kdc.client.identity import Pin
from kdc.errors import ConfigurationError, ErrorKind, KDCUnreachable, LocalIOError, local_error
from kdc.files.opening import open_regular
from kdc.files.private import read_small
from kdc.net.tls import ALPN, fingerprint_shown, parse_fingerprints

__all__ = ["add", "default_path", "find", "look"]

_LOOK_SECONDS = 10.0
_MAX_BYTES = 1 << 20


def default_path() -> Path:
    return configuration.directory() / "known_kdcs"


def find(path: Path, host: str, port: int) -> Pin | None:
    """Return the pin for that KDC; raises `ConfigurationError` naming a line that is wrong."""
    try:
        lines = read_small(path, _MAX_BYTES, missing=b"").decode("ascii").splitlines()
    except LocalIOError as error:
        raise _no_place(error) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not a known-KDCs file") from None
    key = key_of(host, port)
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise ConfigurationError(f"{path} line {number}: not HOST:PORT FINGERPRINT")
        if key in words[0].lower().split(","):
            return _pin(words[1], f"{path} line {number}")
    return None


def _pin(fingerprint: str, place: str) -> Pin:
    try:
        return Pin(parse_fingerprints(fingerprint), place)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}", hint=error.hint) from None


def line_for(places: Iterable[Place], fingerprint: str) -> str:
    return f"{','.join(key_of(*place) for place in places)} {fingerprint}"


def add(path: Path, places: Iterable[Place], fingerprint: str) -> None:
    """Remember the KDC, or the KDCs, at ``places``; the file is made if need be."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, follow=True)
        with os.fdopen(fd, "a+", encoding="ascii") as file:
            file.seek(0)
            # A person may have left the last line without its end.
            begin = "" if file.read()[-1:] in ("", "\n") else "\n"
            file.write(f"{begin}{line_for(places, fingerprint)}\n")
    except OSError as error:
        raise _no_place(local_error(path, error)) from None


def _no_place(error: LocalIOError) -> LocalIOError:
    """No home, one that cannot be read or written, or a file that was named."""
    return LocalIOError(
        f"no KDC can be remembered: {error}",
        hint="name another file for the KDCs that were met, or give the KDC's fingerprint: then"
        " nothing has to be remembered",
        kind=ErrorKind.NOT_REMEMBERED,
    )


def look(host: str, port: int) -> str:
    """Return the fingerprint that is shown there; nothing is sent, nothing is believed.

    Raises `KDCUnreachable` and `WrongIdentity`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the person who is asked next decides
    context.set_alpn_protocols([ALPN.decode()])
    where = f"{host} port {port}"
    try:
        with (
            socket.create_connection((host, port), _LOOK_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate = secured.getpeercert(binary_form=True)
    except ssl.SSLError:
        raise KDCUnreachable(
            f"what answers at {where} does not speak this protocol (TLS 1.3, kdp/1)",
            hint="check the port",
        ) from None
    except (OSError, UnicodeError) as error:  # UnicodeError: no name can look like that
        raise KDCUnreachable(
            f"no KDC answers at {where}: {getattr(error, 'strerror', None) or error}",
            hint="is it running, and are address and port right?",
        ) from None
    if certificate is None:
        raise KDCUnreachable(f"what answers at {where} shows no certificate")
    return fingerprint_shown(certificate)
