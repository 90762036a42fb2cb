"""``kdc admin -f pwd.txt COMMAND``: the operator's tool.

It asks the running KDC through its local socket; if none is running it takes
the store's lock and does the same by itself.  What a command needs is loaded
when its word has been typed.
"""

from __future__ import annotations

from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.admin.database import AdminStore
from kdc.commands.options import Command, realm_of, words

__all__ = ["AdminOptions"]


class AdminOptions(Command):
    """Options of ``kdc admin``."""

    synopsis = "kdc admin [-f pwd.txt] COMMAND [options]"
    longdesc = "Look after the principal database, beside the running KDC or without it."
    optValues = {
        "file": "file",
        "output": "file",
        "master-key": "file",
        "generation-file": "file",
    }
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
    subCommands = words(
        "kdc.commands.admin",
        ("list", "list.ListCommand", "all principals"),
        ("show", "show.ShowCommand", "one principal"),
        ("add", "add.AddCommand", "add a principal that has a key file"),
        ("invite", "invite.InviteCommand", "make invitations for new principals"),
        ("reset", "invite.ResetCommand", "invite a principal anew whose secret is lost"),
        ("disable", "standing.DisableCommand", "let a principal get no keys"),
        ("enable", "standing.EnableCommand", "let it again"),
        ("delete", "standing.DeleteCommand", "delete a principal"),
        ("purge", "standing.PurgeCommand", "free the name of a deleted principal"),
        ("set-address", "set_address.SetAddressCommand", "note another address"),
        ("rename", "rename.RenameCommand", "refused"),
        ("rotate-master-key", "rotate.RotateMasterKeyCommand", "seal the database under a new key"),
        ("rotate-tls", "rotate.RotateTLSCommand", "give the KDC a new identity"),
        ("check", "files.CheckCommand", "look for damage"),
        ("repair", "files.RepairCommand", "put damaged lines aside"),
        ("backup", "files.BackupCommand", "copy the database"),
        ("dump", "dump.DumpCommand", "write it as portable text"),
        ("load", "load.LoadCommand", "add what dump wrote"),
        ("import", "load.ImportCommand", "take over names of the textbook format"),
        ("stats", "stats.StatsCommand", "counts, and what the running KDC does"),
    )

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
