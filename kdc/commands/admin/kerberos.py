"""``kerberos``: the realm's Kerberos, for programs that speak nothing else."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, ClassVar

from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.admin.command import AdminCommand, NamedCommand, RequestCommand, lines
from kdc.commands.options import Chosen, words
from kdc.commands.private_file import write_private
from kdc.errors import RefusedByPolicy
from kdc.terminal import date, harmless

__all__ = ["LOST", "KerberosOptions"]

# docs/kerberos.md and README.md say the same.
LOST = (
    "With the Kerberos front end the KDC also holds keys that are the identity: whoever has"
    " pwd.txt and pwd.txt.key, or reads the KDC's memory, can play anybody to Kerberos services,"
    " and read recorded Kerberos sessions.  Kerberos needs clocks within 5 minutes, has no forward"
    " secrecy, and a stolen ticket cache is good until it ends.  Nothing can be guessed off line"
    " from the Kerberos port: nobody has a Kerberos passphrase.  Service tickets are sealed under"
    " random keys: nothing to roast.  Names can be enumerated."
)


class KerberosOptions(Chosen, AdminCommand):
    """``kerberos COMMAND``"""

    synopsis = "kdc admin kerberos COMMAND [options]"
    longdesc = "What kdc --kerberos needs: keys, and the names of services."
    subCommands = words(
        "kdc.commands.admin.kerberos",
        ("enable", "EnableCommand", "give the realm keys for Kerberos"),
        ("services", "ServicesCommand", "say which services are a principal's"),
        ("keytab", "KeytabCommand", "write a machine's keytab"),
        ("rotate", "RotateCommand", "give the realm other keys"),
        ("show", "ShowCommand", "what a principal has"),
    )


class EnableCommand(RequestCommand):
    """``kerberos enable``"""

    synopsis = "kdc admin kerberos enable --yes"
    longdesc = (
        "Give the realm keys for Kerberos.  What is lost by it is said first: --yes takes it."
    )
    command = "kerberos-enable"
    optFlags = [["yes", None, "yes, with what is lost by it"]]

    def run(self) -> int:
        if not self["yes"]:
            raise RefusedByPolicy(LOST, hint="if that is meant: kdc admin kerberos enable --yes")
        return super().run()


class ServicesCommand(NamedCommand):
    """``kerberos services NAME``"""

    synopsis = "kdc admin kerberos services NAME [--add SERVICE...] [--remove SERVICE...]"
    longdesc = (
        "Say which services, such as HTTP/web.example.org, are NAME's: each is one principal's."
        "  Without options, show them."
    )
    command = "kerberos-services"
    optRepeated: ClassVar[tuple[str, ...]] = ("add", "remove")

    def opt_add(self, value: str) -> None:
        """a service that is NAME's from now on; may be repeated"""
        self["add"] = [*self.get("add", []), value]

    def opt_remove(self, value: str) -> None:
        """one that is no longer; may be repeated"""
        self["remove"] = [*self.get("remove", []), value]

    def request(self) -> dict[str, Any]:
        return {
            **super().request(),
            "add": self.get("add", []),
            "remove": self.get("remove", []),
        }

    def line(self, answer: dict[str, Any]) -> str:
        return _described(answer)


class KeytabCommand(NamedCommand):
    """``kerberos keytab NAME``"""

    synopsis = "kdc admin kerberos keytab NAME --keytab FILE [--service SERVICE...] [--new-keys]"
    longdesc = (
        "Write NAME's keys for its machine, of all its services or of some.  Keys stay as they are"
        " however often that is done, unless others are asked for."
    )
    command = "kerberos-keytab"
    optValues = {"keytab": "file"}
    optRepeated: ClassVar[tuple[str, ...]] = ("service",)
    optParameters = [["keytab", "k", None, "the file to write (mode 0600)"]]
    optFlags = [["new-keys", None, "make new keys; the version before is still opened"]]

    def opt_service(self, value: str) -> None:
        """only this service, which is NAME's; may be repeated"""
        self["service"] = [*self.get("service", []), value]

    def postOptions(self) -> None:
        if not self["keytab"]:
            raise usage.UsageError("where to? --keytab FILE")

    def request(self) -> dict[str, Any]:
        return {
            **super().request(),
            "services": self.get("service", []),
            "new_keys": bool(self["new-keys"]),
        }

    def run(self) -> int:
        path: Path = absolute(self["keytab"])  # type: ignore[assignment]
        for answer in self.store.ask({"command": self.command, **self.request()}):
            write_private(path, base64.b64decode(answer.pop("keytab")))
            self.show(answer, harmless(f"{answer['name']}: its keytab is {path}"))
        return 0


class RotateCommand(RequestCommand):
    """``kerberos rotate``"""

    synopsis = "kdc admin kerberos rotate [--drop]"
    longdesc = (
        "Give the realm other keys.  Tickets under those before are good until they end, unless"
        " these keys are dropped at once: then everybody needs a new ticket."
    )
    command = "kerberos-rotate"
    optFlags = [["drop", None, "drop the keys before now: somebody has read them"]]

    def request(self) -> dict[str, Any]:
        return {"drop": bool(self["drop"])}

    def line(self, answer: dict[str, Any]) -> str:
        return f"the realm's keys are version {answer['version']} now"


class ShowCommand(NamedCommand):
    """``kerberos show NAME``"""

    synopsis = "kdc admin kerberos show NAME"
    command = "kerberos-show"

    def line(self, answer: dict[str, Any]) -> str:
        return _described(answer)


def _described(answer: dict[str, Any]) -> str:
    return lines(
        {
            "name": answer["name"],
            "version": answer["version"] or "",
            "made": date(answer["made"]) if answer["made"] else "",
            "services": " ".join(answer["services"]),
        }
    )
