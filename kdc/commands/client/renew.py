"""``renew``: another key in the place of the one in our key file."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.python import usage

from kdc.client.membership import make_client, renew
from kdc.client.secret import SecretSource, ensure_key_file
from kdc.client.settings import client_settings
from kdc.commands.client.options import ClientOptions, run_client
from kdc.errors import ExitStatus, local_error
from kdc.files.atomic import sync_directory
from kdc.net.exit_status import say

__all__ = ["RenewCommand"]


class RenewCommand(ClientOptions):
    """``renew``"""

    synopsis = "kdcclient renew [options]"
    longdesc = (
        "Make a new key, give it to the KDC, and put it in the place of the one in our key file."
        "  Cut short, the same again completes it.  An end that our operator has set with kdc admin"
        " expire --in begins anew with it."
    )

    def run(self) -> int:
        from twisted.internet import reactor

        settings = client_settings(self)
        key_file = settings.secret.key_file
        if key_file is None:
            raise usage.UsageError("renew is for a key file; a passphrase is changed by passwd")
        client = make_client(reactor, settings)
        # Durable before the KDC has it.  One that is there is from a renewal that was cut short.
        successor = key_file.with_name(f"{key_file.name}.new")
        ensure_key_file(successor)
        new = SecretSource(key_file=successor).keys(settings.realm, settings.name)
        status = run_client(reactor, lambda: renew(client, new))
        if status == ExitStatus.DONE:
            _take_its_place(successor, key_file)
            say(f"{key_file}: the key of {settings.name} is a new one")
        return status


def _take_its_place(successor: Path, key_file: Path) -> None:
    try:
        os.replace(successor, key_file)
        sync_directory(key_file.parent)
    except OSError as error:
        raise local_error(key_file, error) from None
