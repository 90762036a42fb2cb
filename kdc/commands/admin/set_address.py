"""``set-address``: where a principal is."""

from __future__ import annotations

from typing import Any

from twisted.python import usage

from kdc.commands.admin.command import RequestCommand
from kdc.commands.options import name_of, whole_number

__all__ = ["SetAddressCommand"]


class SetAddressCommand(RequestCommand):
    """``set-address NAME ADDRESS PORT``"""

    synopsis = "kdc admin set-address NAME ADDRESS PORT"
    command = "set-address"

    def parseArgs(self, name: str = "", address: str = "", port: str = "") -> None:
        if not port:
            raise usage.UsageError("say where to: set-address NAME ADDRESS PORT")
        self["principal"], self["address"] = name_of(name), address
        self["port"] = whole_number(port, 0, 65535, "a port")

    def request(self) -> dict[str, Any]:
        return {"name": self["principal"], "address": self["address"], "port": self["port"]}
