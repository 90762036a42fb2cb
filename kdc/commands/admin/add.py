"""``add``: a principal that has a key file."""

from __future__ import annotations

from typing import Any

from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.admin.command import PlacedCommand
from kdc.errors import ExitStatus, KDCError
from kdc.terminal import say

__all__ = ["AddCommand"]


class AddCommand(PlacedCommand):
    """``add NAME --key-file FILE``"""

    synopsis = "kdc admin add NAME --key-file FILE [options]"
    longdesc = "Add a principal that has a key file; the file is made if it is not there."
    command = "add"
    optValues = {"key-file": "file"}
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
        from kdc.client.secret import ensure_key_file

        path = absolute(self["key-file"])
        if path is None:
            raise usage.UsageError("give --key-file, or invite the principal instead")
        new = ensure_key_file(path)
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
