"""``rotate-master-key`` and ``rotate-tls``: new keys of the KDC itself."""

from __future__ import annotations

from typing import Any

from kdc.commands.admin.command import RequestCommand
from kdc.terminal import harmless

__all__ = ["RotateMasterKeyCommand", "RotateTLSCommand"]


class RotateMasterKeyCommand(RequestCommand):
    """``rotate-master-key``"""

    synopsis = "kdc admin rotate-master-key"
    longdesc = "Seal the database under a new master key.  Older backups need the old one."
    command = "rotate-master-key"


class RotateTLSCommand(RequestCommand):
    """``rotate-tls``"""

    synopsis = "kdc admin rotate-tls"
    longdesc = "Make a new TLS key.  Every client that has pinned the old one must be told."
    command = "rotate-tls"

    def line(self, answer: dict[str, Any]) -> str:
        return harmless(f"the new fingerprint, for every client: {answer['fingerprint']}")
