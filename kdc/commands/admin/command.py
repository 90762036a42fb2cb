"""What the commands of ``kdc admin`` have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.admin.database import AdminStore
from kdc.commands.etcd import (
    ETCD_LOGIN,
    ETCD_VALUES,
    later_etcd_of,
    state_path,
    store_path,
    with_store_table,
)
from kdc.commands.options import (
    LOG_FORMAT_OPTION,
    Command,
    log_file,
    log_format_of,
    name_of,
    place_of,
    realm_of,
)
from kdc.terminal import answer as tell
from kdc.terminal import harmless, say, wait_shown

if TYPE_CHECKING:
    from kdc.store.etcd.api import EtcdSettings

__all__ = [
    "AdminCommand",
    "EndingCommand",
    "NamedCommand",
    "PlacedCommand",
    "RequestCommand",
    "StoreOptions",
    "lines",
]


_PLACE = ("store", "state", *(str(row[0]) for row in ETCD_LOGIN))


class StoreOptions(Command):
    """Which database, and how to answer: before the command or behind it."""

    optValues = {
        "file": "file",
        "log-format": "text json",
        "output": "file",
        "master-key": "file",
        "generation-file": "file",
        "config": "file",
        **ETCD_VALUES,
    }
    optParameters = [
        ["file", "f", None, "the principal database; by default pwd.txt"],
        [
            "state",
            None,
            None,
            "instead of a file: the state directory of a KDC that shares its principals",
        ],
        [
            "store",
            None,
            None,
            (
                "with --state: etcd://HOST:PORT,HOST:PORT/ - where the principals are, for when"
                " no KDC runs there"
            ),
        ],
        *ETCD_LOGIN,
        ["config", "c", None, "the KDC's configuration: what its table store says of these"],
        [
            "output",
            "o",
            None,
            (
                "the activity log for changes made without a running KDC; by default"
                " beside the database, with the ending .audit"
            ),
        ],
        LOG_FORMAT_OPTION,
        ["realm", None, None, "the realm of a database that is yet to be made; LOCAL by default"],
        ["master-key", None, None, "the key file of the database, if it is not beside it"],
        ["generation-file", None, None, "its generation file, if that is not beside it"],
    ]
    optFlags = [["json", None, "answer in lines of JSON"]]


class AdminCommand(StoreOptions):
    """One command of ``kdc admin``."""

    parent: Any

    def given(self, name: str) -> Any:
        """What was given behind the command, or before it."""
        if self[name] not in (None, 0):
            return self[name]
        before = self.parent
        return before.given(name) if isinstance(before, AdminCommand) else before[name]

    @property
    def store(self) -> AdminStore:
        place = self._place()
        state = absolute(place["state"])
        if state is not None and place["file"]:
            raise usage.UsageError("--file and --state exclude each other")
        shared = place["store"] is not None
        path = store_path(place) if shared or state is None else state_path(state)
        etcd = later_etcd_of(place) if shared else None
        return self.store_at(path, running_only=state is not None and not shared, etcd=etcd)

    def store_at(
        self,
        path: Path,
        *,
        running_only: bool = False,
        etcd: Callable[[], EtcdSettings] | None = None,
    ) -> AdminStore:
        return AdminStore(
            path,
            realm_of({"realm": _or(self.given("realm"), "LOCAL")}),
            log_file(self.given("output")),
            absolute(self.given("master-key")),
            absolute(self.given("generation-file")),
            log_format_of(_or(self.given("log-format"), "text")),
            running_only=running_only,
            etcd=etcd,
        )

    def _place(self) -> dict[str, Any]:
        """Where the principals are, by the options or by the KDC's configuration."""
        given = {name: self.given(name) for name in (*_PLACE, "file")}
        config = absolute(self.given("config"))
        if config is None:
            return with_store_table(given, {})
        from kdc.server.policy import read_policy

        return with_store_table(given, read_policy(config).store)

    def run(self) -> int:
        raise NotImplementedError

    def show(self, answer: dict[str, Any], line: str) -> None:
        tell(json.dumps(answer) if self.given("json") else line)


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


class EndingCommand(NamedCommand):
    """A command after which what was true before must not be relied on any more, anywhere."""

    optFlags = [["wait", None, "end only when it is in force at every KDC that shares the store"]]

    def run(self) -> int:
        seconds = 0
        for answer in self.store.ask({"command": self.command, **self.request()}):
            seconds = max(seconds, answer.get("in_force_seconds", 0))
            self.show(answer, self.line(answer))
        if seconds and self["wait"]:
            wait_shown(seconds, "until it is in force everywhere")
            say("in force everywhere")
        elif seconds:
            say(f"in force everywhere within {seconds} s")
        return 0


class PlacedCommand(NamedCommand):
    """A command that may say where the principal is."""

    optParameters = [
        ["address", None, "", "the principal's IP address"],
        ["port", None, "0", "the port of its receiver"],
    ]
    optFlags = [["if-absent", None, "no error if the name is there already"]]

    def request(self) -> dict[str, Any]:
        address, port = place_of(self["address"], self["port"], 0)
        return {
            "name": self["principal"],
            "address": address,
            "port": port,
            "if_absent": bool(self.get("if-absent")),
        }


def _or(given: str | None, default: str) -> str:
    return default if given is None else given


def lines(answer: dict[str, Any]) -> str:
    return "\n".join(
        f"{key.replace('_', ' ')}: {harmless(str(value)) or '-'}" for key, value in answer.items()
    )
