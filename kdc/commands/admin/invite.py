"""``invite``: reserve a name for whoever holds the invitation."""

from __future__ import annotations

from typing import Any

from kdc.commands.admin.command import PlacedCommand
from kdc.commands.options import whole_number
from kdc.terminal import harmless

__all__ = ["InviteCommand"]


class InviteCommand(PlacedCommand):
    """``invite NAME``"""

    synopsis = "kdc admin invite NAME [options]"
    longdesc = "Reserve a name for whoever holds the invitation, which is printed."
    command = "invite"
    optParameters = [
        ["kdc-address", None, None, "where clients reach the KDC, if it does not know"],
        ["kdc-port", None, None, "its port"],
        ["kdc-fingerprint", None, None, "its fingerprint, if the KDC is not running"],
        ["hours", None, "72", "how long the invitation is good"],
    ]

    def request(self) -> dict[str, Any]:
        port = self["kdc-port"]
        return {
            **super().request(),
            "kdc_host": self["kdc-address"],
            "kdc_fingerprint": self["kdc-fingerprint"],
            "kdc_port": None if port is None else whole_number(port, 1, 65535, "a port"),
            "valid_seconds": 3600 * whole_number(self["hours"], 1, 8760, "--hours"),
        }

    def line(self, answer: dict[str, Any]) -> str:
        return harmless(answer.get("invitation") or super().line(answer))
