"""``set-address``: where a principal is."""

from __future__ import annotations

from typing import Any

from twisted.python import usage

from kdc.commands.admin.command import RequestCommand
from kdc.commands.options import name_of, place_of

__all__ = ["SetAddressCommand"]


class SetAddressCommand(RequestCommand):
    """``set-address NAME ADDRESS PORT``"""

    synopsis = "kdc admin set-address NAME ADDRESS PORT|ADDRESS:PORT"
    command = "set-address"

    def parseArgs(self, name: str = "", address: str = "", port: str | None = None) -> None:
        host, number = place_of(address, port, 0)
        if number is None:
            raise usage.UsageError("say where to: set-address NAME ADDRESS PORT")
        self["principal"], self["address"], self["port"] = name_of(name), host, number

    def request(self) -> dict[str, Any]:
        return {"name": self["principal"], "address": self["address"], "port": self["port"]}
