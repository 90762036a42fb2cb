"""``init``: from an invitation to a principal that can send and receive."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.python import usage

from kdc.client import configuration
from kdc.client.addresses import typed_as
from kdc.client.membership import NOT_REGISTERED, check_new, join, make_client
from kdc.client.secret import ensure_key_file, read_invitation
from kdc.client.settings import absolute, client_settings
from kdc.commands.client.options import DEFAULT_LISTEN_PORT, run_client
from kdc.commands.options import Command
from kdc.errors import (
    AuthenticationRefused,
    ConfigurationError,
    LocalIOError,
    local_error,
)
from kdc.net.exit_status import say
from kdc.protocol.invitation import Invitation, is_incomplete
from kdc.terminal import ask_pasted, has_terminal

__all__ = ["InitCommand"]


class InitCommand(Command):
    """``init``: from an invitation to a principal that can send and receive."""

    synopsis = "kdcclient init [--invitation-file FILE] [--key-file FILE | --passphrase] [options]"
    longdesc = (
        "Take the name of an invitation, which is asked for, and write down whatever the other"
        " commands need to know."
    )
    optValues = {"invitation-file": "file", "key-file": "file", "config": "file"}
    optParameters = [
        ["invitation-file", None, None, "read the invitation from this file (mode 0600)"],
        [
            "key-file",
            None,
            None,
            "our key file, made if it is not there; by default beside the configuration",
        ],
        ["config", None, None, "the configuration to write, instead of the user's own"],
    ]
    optFlags = [
        ["passphrase", None, "ask for a passphrase, each time, instead of a key file"],
        ["short-passphrase", None, "take a new passphrase of less than 8 characters"],
        ["force", None, "replace a configuration that is there"],
    ]

    def parseArgs(self, *words: str) -> None:
        if words:
            raise usage.UsageError(
                "an invitation is a secret, and what is typed behind a command can be read by"
                " everybody on this machine, and stays in the shell's history: paste it where"
                " kdcclient init asks for it, or give --invitation-file.  Was it one?  Then have"
                " the operator make a new one, which makes it useless"
            )

    def run(self) -> int:
        from twisted.internet import reactor

        if self["passphrase"] and self["key-file"]:
            raise usage.UsageError("give one of --passphrase and --key-file")
        path = absolute(self["config"]) or configuration.default_path().absolute()
        # Before the invitation is used up.
        if not self["force"]:
            configuration.check_free(path)
        invitation = self._invitation()
        key_file = None if self["passphrase"] else self._key_file(path, invitation.name)
        values = _values_of(invitation, path, key_file)
        settings = client_settings(
            {
                **values,
                "key-file": key_file,
                "config": os.devnull,
                "short-passphrase": self["short-passphrase"],
            }
        )
        _make_directory(path.parent)
        made = key_file is not None and ensure_key_file(key_file)
        if made:
            say(f"{key_file}: a new key; whoever can read it can act in {invitation.name}'s name")
        client = make_client(reactor, settings, prompt=f"passphrase for {invitation.name}: ")
        check_new(client.weakness)
        if key_file is None and not settings.secret.repeated(client.keys):
            raise ConfigurationError("the two passphrases differ; nothing was registered")

        def remember() -> None:
            configuration.save(path, values)
            say(f"{path}: {invitation.name} at the KDC at {client.where}")

        async def work() -> int:
            try:
                return await join(client, DEFAULT_LISTEN_PORT, invitation.code, remember)
            except AuthenticationRefused as error:
                # Only if it surely was not taken: otherwise it may be the only copy.
                if made and key_file is not None and error.kind in NOT_REGISTERED:
                    key_file.unlink(missing_ok=True)
                    say(f"{key_file}: removed again, as it is nobody's key")
                raise

        return run_client(reactor, work)

    def _invitation(self) -> Invitation:
        path = absolute(self["invitation-file"])
        if path is not None:
            return read_invitation(path)
        if not has_terminal():
            raise ConfigurationError(
                "no terminal to ask for the invitation on", hint="give --invitation-file"
            )
        return Invitation.parse(ask_pasted("invitation: ", "invitation", is_incomplete))

    def _key_file(self, config_path: Path, name: str) -> Path:
        return absolute(self["key-file"]) or config_path.with_name(f"{name}.key")


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalIOError(
            f"settings cannot be kept: {local_error(path, error)}",
            hint="name another file with --config; the key file is made beside it",
        ) from None


def _values_of(
    invitation: Invitation, path: Path, key_file: Path | None
) -> dict[str, str | int | list[str]]:
    """What the configuration at ``path`` has to say."""
    places = ((invitation.host, invitation.port), *invitation.others)
    values: dict[str, str | int | list[str]] = {
        "name": invitation.name,
        **(
            {"addresses": list(map(typed_as, places))}
            if invitation.others
            else {"address": invitation.host, "port": invitation.port}
        ),
        "realm": invitation.realm,
        "kdc-fingerprint": invitation.fingerprint,
    }
    if key_file is not None:
        near = key_file.parent == path.parent
        values["key-file"] = key_file.name if near else str(key_file)
    return values
