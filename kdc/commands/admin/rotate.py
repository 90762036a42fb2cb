"""``new-master-key``, ``rotate-master-key`` and ``rotate-tls``: new keys of the KDC itself."""

from __future__ import annotations

from typing import Any

from kdc.commands.admin.command import RequestCommand
from kdc.terminal import harmless

__all__ = ["NewMasterKeyCommand", "RotateMasterKeyCommand", "RotateTLSCommand"]


class NewMasterKeyCommand(RequestCommand):
    """``new-master-key``"""

    synopsis = "kdc admin new-master-key"
    longdesc = (
        "Where several KDCs share the database: put another master key into the key file of this"
        " node.  Copy that file to every other node and send SIGHUP there; then rotate-master-key."
    )
    command = "new-master-key"

    def line(self, answer: dict[str, Any]) -> str:
        return harmless(
            f"the key file has master key {answer['master_key']} now, too: copy it to the other"
            " nodes, by a safe way, send each SIGHUP, then rotate-master-key"
        )


class RotateMasterKeyCommand(RequestCommand):
    """``rotate-master-key``"""

    synopsis = "kdc admin rotate-master-key"
    longdesc = (
        "Seal the database under a new master key.  Older backups need the old one.  Where several"
        " KDCs share it every node needs the new one before, see new-master-key; the same again at"
        " each of the others drops the old one there."
    )
    command = "rotate-master-key"

    def line(self, answer: dict[str, Any]) -> str:
        if not answer.get("shared"):
            return super().line(answer)
        return (
            "rotate-master-key: done; the same at each other node drops the old key there; then"
            " compact and defragment etcd, whose past still has lines under it"
        )


class RotateTLSCommand(RequestCommand):
    """``rotate-tls``"""

    synopsis = "kdc admin rotate-tls"
    longdesc = "Make a new TLS key.  Every client that has pinned the old one must be told."
    command = "rotate-tls"

    def line(self, answer: dict[str, Any]) -> str:
        return harmless(f"the new fingerprint, for every client: {answer['fingerprint']}")
