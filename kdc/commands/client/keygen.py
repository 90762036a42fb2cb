"""``keygen``: make a key file."""

from __future__ import annotations

from pathlib import Path

from twisted.python import usage

from kdc.client.secret import write_key_file
from kdc.commands.options import Command
from kdc.net.exit_status import say

__all__ = ["KeygenCommand"]


class KeygenCommand(Command):
    """``keygen FILE``: make a key file."""

    synopsis = "kdcclient keygen FILE"
    longdesc = "Make a file with a random key, to be used instead of a passphrase."
    optArguments = ("file",)

    def parseArgs(self, file: str = "") -> None:
        if not file:
            raise usage.UsageError("name the file: keygen FILE")
        self["file"] = file

    def run(self) -> int:
        path = Path(self["file"])
        write_key_file(path)
        say(f"{path}: a new key; whoever can read it can act in its owner's name")
        return 0
