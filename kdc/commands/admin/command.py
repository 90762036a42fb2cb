"""What the commands of ``kdc admin`` have in common."""

from __future__ import annotations

import json
import time
from typing import Any

from twisted.python import usage

from kdc.commands.admin.database import AdminStore
from kdc.commands.options import Command, name_of, whole_number
from kdc.terminal import answer as tell
from kdc.terminal import harmless

__all__ = [
    "AdminCommand",
    "NamedCommand",
    "PlacedCommand",
    "RequestCommand",
    "date",
    "lines",
]


class AdminCommand(Command):
    """One command of ``kdc admin``."""

    parent: Any

    @property
    def store(self) -> AdminStore:
        store: AdminStore = self.parent.store
        return store

    def run(self) -> int:
        raise NotImplementedError

    def show(self, answer: dict[str, Any], line: str) -> None:
        tell(json.dumps(answer) if self.parent["json"] else line)


class RequestCommand(AdminCommand):
    """A command that is one request to the store."""

    command = ""

    def request(self) -> dict[str, Any]:
        return {"name": self["principal"]} if "principal" in self else {}

    def run(self) -> int:
        for answer in self.store.ask({"command": self.command, **self.request()}):
            self.show(answer, self.line(answer))
        return 0

    def line(self, answer: dict[str, Any]) -> str:
        if answer.get("done") is False:
            return harmless(f"{answer['name']}: nothing to do, {answer['why']}")
        return harmless(f"{answer.get('name', self.command)}: done")


class NamedCommand(RequestCommand):
    """A command about one principal."""

    def parseArgs(self, name: str = "") -> None:
        if not name:
            raise usage.UsageError(f"whom? {self.command} NAME")
        self["principal"] = name_of(name)


class PlacedCommand(NamedCommand):
    """A command that may say where the principal is."""

    optParameters = [
        ["address", None, "", "the principal's IP address"],
        ["port", None, "0", "the port of its receiver"],
    ]
    optFlags = [["if-absent", None, "no error if the name is there already"]]

    def request(self) -> dict[str, Any]:
        return {
            "name": self["principal"],
            "address": self["address"],
            "port": whole_number(self["port"], 0, 65535, "a port"),
            "if_absent": bool(self.get("if-absent")),
        }


def date(unix_time: int) -> str:
    """In UTC, as the log has it; the number itself if it is no date of ours."""
    try:
        return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(unix_time))
    except (OverflowError, ValueError, OSError):
        return str(unix_time)


def lines(answer: dict[str, Any]) -> str:
    return "\n".join(
        f"{key.replace('_', ' ')}: {harmless(str(value)) or '-'}" for key, value in answer.items()
    )
