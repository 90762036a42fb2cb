"""``kdc admin -f pwd.txt COMMAND``: the operator's tool.

It asks the running KDC through its local socket; if none is running it takes
the store's lock and does the same by itself.  What a command needs is loaded
when its word has been typed.
"""

from __future__ import annotations

from kdc.commands.admin.command import StoreOptions
from kdc.commands.options import Chosen, words

__all__ = ["AdminOptions"]


class AdminOptions(Chosen, StoreOptions):
    """Options of ``kdc admin``."""

    synopsis = "kdc admin [-f pwd.txt] COMMAND [options]"
    longdesc = "Look after the principal database, beside the running KDC or without it."
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
        ("expire", "expire.ExpireCommand", "let a principal or an invitation end"),
        ("rename", "rename.RenameCommand", "refused"),
        ("new-master-key", "rotate.NewMasterKeyCommand", "make a key that nodes can go over to"),
        ("rotate-master-key", "rotate.RotateMasterKeyCommand", "seal the database under a new key"),
        ("rotate-tls", "rotate.RotateTLSCommand", "give the KDC a new identity"),
        ("kerberos", "kerberos.KerberosOptions", "keys and services for Kerberos"),
        ("check", "files.CheckCommand", "look for damage"),
        ("repair", "files.RepairCommand", "put damaged lines aside"),
        ("backup", "files.BackupCommand", "copy the database"),
        ("move", "move.MoveCommand", "move the database into etcd, or back"),
        ("dump", "dump.DumpCommand", "write it as portable text"),
        ("load", "load.LoadCommand", "add what dump wrote"),
        ("import", "load.ImportCommand", "take over names of the textbook format"),
        ("log", "log.LogCommand", "what has happened"),
        ("top", "top.TopCommand", "what the running KDC does, all the time"),
        ("nodes", "nodes.NodesCommand", "the KDCs that share the principals"),
        ("stats", "stats.StatsCommand", "counts, and what the running KDC does"),
    )
