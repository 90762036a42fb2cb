"""``kdc admin -f pwd.txt COMMAND``: the operator's tool.

It asks the running KDC through its local socket; if none is running it takes
the store's lock and does the same by itself.
"""

from __future__ import annotations

import os
import time
from typing import Any

from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.admin.database import AdminStore
from kdc.commands.admin.files import AdminCommand, Backup, Check, Dump, Repair
from kdc.commands.admin.load import Import, Load
from kdc.commands.options import Command, realm_of, whole_number
from kdc.errors import ExitStatus, KDCError
from kdc.protocol.names import fold_name
from kdc.terminal import harmless, say

__all__ = ["AdminOptions"]


class _Request(AdminCommand):
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
            return f"{answer['name']}: nothing to do, {answer['why']}"
        return f"{answer.get('name', self.command)}: done"


class _Named(_Request):
    """A command about one principal."""

    def parseArgs(self, name: str = "") -> None:
        if not name:
            raise usage.UsageError(f"whom? {self.command} NAME")
        self["principal"] = _name(name)


class _List(_Request):
    """``list``"""

    synopsis = "kdc admin list [--status STATUS] [--prefix TEXT]"
    command = "list"
    optParameters = [
        ["status", None, None, "only those that are active, disabled, invited or deleted"],
        ["prefix", None, None, "only names that begin so"],
    ]

    def request(self) -> dict[str, Any]:
        return {"status": self["status"], "prefix": self["prefix"]}

    def line(self, answer: dict[str, Any]) -> str:
        return (
            f"{harmless(answer['name']):<24} {harmless(answer['status']):<9}"
            f" {harmless(answer['address'] or '-'):<22} {answer['port']:>5}"
            f"  {_date(answer['changed'])}"
        )


class _Show(_Named):
    """``show NAME``"""

    synopsis = "kdc admin show NAME"
    command = "show"

    def line(self, answer: dict[str, Any]) -> str:
        shown = dict(answer)
        for key in answer.keys() & {"changed", "invitation_end"}:
            shown[key] = _date(answer[key])
        return _lines(shown)


class _Placed(_Named):
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


class _Add(_Placed):
    """``add NAME --key-file FILE``"""

    synopsis = "kdc admin add NAME --key-file FILE [options]"
    longdesc = "Add a principal that has a key file; the file is made if it is not there."
    command = "add"
    optParameters = [["key-file", None, None, "the principal's key file"]]

    def request(self) -> dict[str, Any]:
        from kdc.client.secret import SecretSource

        source = SecretSource(key_file=absolute(self["key-file"]))
        keys = source.keys(self.store.realm, self["principal"])
        return {
            **super().request(),
            "verify_key": keys.verify_key.hex(),
            "reply_key": keys.reply_key.hex(),
        }

    def run(self) -> int:
        from kdc.client.secret import write_key_file

        path = absolute(self["key-file"])
        if path is None:
            raise usage.UsageError("give --key-file, or invite the principal instead")
        new = not os.path.lexists(path)
        if new:
            write_key_file(path)
        try:
            status = super().run()
        except KDCError as error:
            # Only if it surely was not taken: otherwise it may be the only copy.
            if new and error.exit_status is ExitStatus.REFUSED:
                path.unlink()
            raise
        if new:
            say(f"{path}: a new key; take it to {self['principal']} by a safe way")
        return status


class _Invite(_Placed):
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
        return answer.get("invitation") or super().line(answer)


class _Disable(_Named):
    """``disable NAME``"""

    synopsis = "kdc admin disable NAME"
    command = "disable"


class _Enable(_Named):
    """``enable NAME``"""

    synopsis = "kdc admin enable NAME"
    command = "enable"


class _Delete(_Named):
    """``delete NAME``"""

    synopsis = "kdc admin delete NAME"
    longdesc = "Delete a principal; its name stays reserved until it is purged."
    command = "delete"


class _Purge(_Named):
    """``purge NAME``"""

    synopsis = "kdc admin purge NAME"
    longdesc = (
        "Free the name of a deleted principal or of an invitation.  With --force at once: for up to"
        " an hour there can be tickets for the deleted owner, whose senders would take a new owner"
        " of the name for him."
    )
    command = "purge"
    optFlags = [["force", None, "do not wait until no ticket for the old owner can be left"]]

    def request(self) -> dict[str, Any]:
        return {**super().request(), "force": bool(self["force"])}


class _SetAddress(_Request):
    """``set-address NAME ADDRESS PORT``"""

    synopsis = "kdc admin set-address NAME ADDRESS PORT"
    command = "set-address"

    def parseArgs(self, name: str = "", address: str = "", port: str = "") -> None:
        if not port:
            raise usage.UsageError("say where to: set-address NAME ADDRESS PORT")
        self["principal"], self["address"] = _name(name), address
        self["port"] = whole_number(port, 0, 65535, "a port")

    def request(self) -> dict[str, Any]:
        return {"name": self["principal"], "address": self["address"], "port": self["port"]}


class _Rename(_Request):
    """``rename OLD NEW``"""

    synopsis = "kdc admin rename OLD NEW"
    longdesc = "Refused, and says why."
    command = "rename"

    def parseArgs(self, *names: str) -> None:
        """Whatever they are."""


class _RotateMasterKey(_Request):
    """``rotate-master-key``"""

    synopsis = "kdc admin rotate-master-key"
    longdesc = "Seal the database under a new master key.  Older backups need the old one."
    command = "rotate-master-key"


class _RotateTLS(_Request):
    """``rotate-tls``"""

    synopsis = "kdc admin rotate-tls"
    longdesc = "Make a new TLS key.  Every client that has pinned the old one must be told."
    command = "rotate-tls"

    def line(self, answer: dict[str, Any]) -> str:
        return f"the new fingerprint, for every client: {answer['fingerprint']}"


class _Stats(_Request):
    """``stats``"""

    synopsis = "kdc admin stats"
    command = "stats"

    def line(self, answer: dict[str, Any]) -> str:
        return _lines(answer)


class AdminOptions(Command):
    """Options of ``kdc admin``."""

    synopsis = "kdc admin [-f pwd.txt] COMMAND [options]"
    longdesc = "Look after the principal database, beside the running KDC or without it."
    optParameters = [
        ["file", "f", "pwd.txt", "the principal database"],
        [
            "output",
            "o",
            None,
            (
                "the activity log for changes made without a running KDC; by default"
                " beside the database, with the ending .audit"
            ),
        ],
        ["realm", None, "LOCAL", "the realm of a database that is yet to be made"],
        ["master-key", None, None, "the key file of the database, if it is not beside it"],
        ["generation-file", None, None, "its generation file, if that is not beside it"],
    ]
    optFlags = [["json", None, "answer in lines of JSON"]]
    subCommands = [
        ["list", None, _List, "all principals"],
        ["show", None, _Show, "one principal"],
        ["add", None, _Add, "add a principal that has a key file"],
        ["invite", None, _Invite, "make an invitation for a new principal"],
        ["disable", None, _Disable, "let a principal get no keys"],
        ["enable", None, _Enable, "let it again"],
        ["delete", None, _Delete, "delete a principal"],
        ["purge", None, _Purge, "free the name of a deleted principal"],
        ["set-address", None, _SetAddress, "note another address"],
        ["rename", None, _Rename, "refused"],
        ["rotate-master-key", None, _RotateMasterKey, "seal the database under a new key"],
        ["rotate-tls", None, _RotateTLS, "give the KDC a new identity"],
        ["check", None, Check, "look for damage"],
        ["repair", None, Repair, "put damaged lines aside"],
        ["backup", None, Backup, "copy the database"],
        ["dump", None, Dump, "write it as portable text"],
        ["load", None, Load, "add what dump wrote"],
        ["import", None, Import, "take over names of the textbook format"],
        ["stats", None, _Stats, "counts, and what the running KDC does"],
    ]

    def postOptions(self) -> None:
        if self.subCommand is None:
            raise usage.UsageError("which command?")

    @property
    def store(self) -> AdminStore:
        path = absolute(self["file"])
        if path is None:
            raise usage.UsageError("--file must name the principal database")
        return AdminStore(
            path,
            realm_of(self),
            absolute(self["output"]),
            absolute(self["master-key"]),
            absolute(self["generation-file"]),
        )

    def run(self) -> int:
        status: int = self.subOptions.run()
        return status


def _name(typed: str) -> str:
    try:
        return fold_name(typed)
    except ValueError as error:
        raise usage.UsageError(str(error)) from None


def _date(unix_time: int) -> str:
    """In UTC, as the log has it; the number itself if it is no date of ours."""
    try:
        return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(unix_time))
    except (OverflowError, ValueError, OSError):
        return str(unix_time)


def _lines(answer: dict[str, Any]) -> str:
    return "\n".join(
        f"{key.replace('_', ' ')}: {harmless(str(value)) or '-'}" for key, value in answer.items()
    )
