"""``invite``, ``reset``: a name for whoever holds the invitation, and for nobody else."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, ClassVar

from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.admin.command import EndingCommand, PlacedCommand
from kdc.commands.hints import complain
from kdc.commands.options import Command, name_of, place_of, whole_number
from kdc.errors import ConfigurationError, KDCError, local_error
from kdc.files.opening import open_regular
from kdc.terminal import harmless

__all__ = ["InviteCommand", "ResetCommand"]

_MAX_LINE = 1024


class _Inviting(Command):
    """A command that prints an invitation."""

    parent: Any

    optParameters = [
        ["kdc-port", None, None, "its port"],
        ["kdc-fingerprint", None, None, "its fingerprint, if the KDC is not running"],
        ["hours", None, "72", "how long the invitation is good"],
    ]
    optRepeated: ClassVar[tuple[str, ...]] = ("kdc-address",)
    optFlags = [["qr", None, "print it as a QR code, too, for a telephone's camera"]]

    def opt_kdc_address(self, value: str) -> None:
        """where clients reach the KDC, if it does not know; may be repeated where a realm has
        several KDCs"""
        self["kdc-address"] = (*self.get("kdc-address", ()), value)

    @property
    def invitation(self) -> dict[str, Any]:
        """What a request has that leads to one."""
        first, *others = self.get("kdc-address", ()) or ("",)
        host, port = place_of(first, self["kdc-port"])
        return {
            "kdc_host": host,
            "kdc_others": [place_of(other, None) for other in others],
            "kdc_fingerprint": self["kdc-fingerprint"],
            "kdc_port": port,
            "valid_seconds": 3600 * whole_number(self["hours"], 1, 8760, "--hours"),
        }

    def line(self, answer: dict[str, Any]) -> str:
        invitation = answer.get("invitation")
        line = harmless(invitation or super().line(answer))  # type: ignore[misc]
        return f"{line}\n{qr_code(line)}" if invitation and self["qr"] else line

    def check_qr(self) -> None:
        """Before a name is reserved for what cannot be printed."""
        if self["qr"]:
            if self.parent["json"]:
                raise usage.UsageError("give one of --json and --qr")
            qr_code("")


class InviteCommand(_Inviting, PlacedCommand):
    """``invite NAME...``"""

    synopsis = "kdc admin invite NAME... [options]\n       kdc admin invite --names FILE [options]"
    longdesc = (
        "Reserve names for whoever holds the invitations, which are printed, a line for each name."
    )
    command = "invite"
    optParameters = [["names", None, None, "a file of names, one a line"]]

    def parseArgs(self, *names: str) -> None:
        self["principals"] = [name_of(name) for name in names]

    def postOptions(self) -> None:
        self["principals"] += _names_in(absolute(self["names"]))
        if not self["principals"]:
            raise usage.UsageError("whom? invite NAME")

    def run(self) -> int:
        self.check_qr()
        status, names = 0, self["principals"]
        with self.store.asking(create=True) as ask:
            for name in names:
                self["principal"] = name
                request = {"command": self.command, **self.request(), **self.invitation}
                try:
                    for answer in ask(request):
                        self.show(answer, self.line(answer))
                except KDCError as error:
                    if len(names) == 1:
                        raise
                    status = complain(f"kdc admin: {name}", error)
        return status


class ResetCommand(_Inviting, EndingCommand):
    """``reset NAME``"""

    synopsis = "kdc admin reset NAME [options]"
    longdesc = (
        "For a forgotten passphrase or a stolen key: cut the principal off, forget its keys, and"
        " print an invitation for its owner.  The name is never free meanwhile."
    )
    command = "reset"

    def request(self) -> dict[str, Any]:
        return {**super().request(), **self.invitation}

    def run(self) -> int:
        self.check_qr()
        return super().run()


def _names_in(path: Path | None) -> list[str]:
    """The names in a file; what is behind a # counts for nothing."""
    if path is None:
        return []
    names = []
    try:
        with os.fdopen(open_regular(path, follow=True), encoding="utf-8", errors="replace") as file:
            number = 0
            while line := file.readline(_MAX_LINE):
                number += 1
                if name := line.partition("#")[0].strip():
                    names.append(_name(name, f"{path} line {number}"))
    except OSError as error:
        raise local_error(path, error) from None
    return names


def _name(text: str, where: str) -> str:
    try:
        return name_of(text)
    except usage.UsageError as error:
        raise usage.UsageError(f"{where}: {error}") from None


def qr_code(text: str) -> str:
    """``text`` for a camera, in half blocks: two rows of it in a line."""
    try:
        import segno
    except ImportError:
        raise ConfigurationError(
            "QR codes need a package that is not installed here: segno",
            hint="pip install 'kdc-twisted[qr]'",
        ) from None
    drawn = io.StringIO()
    segno.make(text or " ", error="m").terminal(out=drawn, compact=True)
    return drawn.getvalue().rstrip("\n")
