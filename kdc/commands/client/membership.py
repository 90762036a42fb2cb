"""Become a principal, and remain its only owner: join, register, change the secret."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.python import usage

from kdc.client import configuration
from kdc.client.membership import change_secret, join, make_client, register
from kdc.client.secret import SecretSource, read_code, read_invitation, write_key_file
from kdc.client.settings import absolute, client_settings
from kdc.commands.client.options import DEFAULT_LISTEN_PORT, PROGRAM, ClientOptions
from kdc.commands.options import Command, whole_number
from kdc.errors import ConfigurationError, ExitStatus, local_error
from kdc.net.exit_status import run_to_end, say
from kdc.protocol.invitation import Invitation
from kdc.terminal import ask, has_terminal

__all__ = ["Init", "Keygen", "Passwd", "Register"]


class Init(Command):
    """``init``: from an invitation to a principal that can send and receive."""

    synopsis = "kdcclient init [--invitation-file FILE] [--key-file FILE | --passphrase] [options]"
    longdesc = (
        "Take the name of an invitation, which is asked for, and write down whatever the other"
        " commands need to know."
    )
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
        ["force", None, "replace a configuration that is there"],
    ]

    def run(self) -> int:
        from twisted.internet import reactor

        if self["passphrase"] and self["key-file"]:
            raise usage.UsageError("give one of --passphrase and --key-file")
        path = absolute(self["config"]) or configuration.default_path().absolute()
        # Before the invitation is used up.
        if not self["force"]:
            configuration.check_free(path)
        invitation = self._invitation()
        _make_directory(path.parent)
        key_file = None if self["passphrase"] else self._key_file(path, invitation.name)
        values = _values_of(invitation, path, key_file)
        settings = client_settings({**values, "key-file": key_file, "config": os.devnull})
        client = make_client(reactor, settings, prompt=f"passphrase for {invitation.name}: ")
        if key_file is None:
            again = settings.secret.keys(settings.realm, settings.name, "once more: ")
            if again.verify_key != client.keys.verify_key:
                raise ConfigurationError("the two passphrases differ; nothing was registered")

        def remember() -> None:
            configuration.save(path, values)
            say(f"{path}: {invitation.name} at the KDC at {client.where}")

        return run_to_end(
            PROGRAM,
            reactor,
            lambda: join(client, DEFAULT_LISTEN_PORT, invitation.code, remember),
        )

    def _invitation(self) -> Invitation:
        path = absolute(self["invitation-file"])
        if path is not None:
            return read_invitation(path)
        return Invitation.parse(ask("invitation: ", "invitation", "give --invitation-file"))

    def _key_file(self, config_path: Path, name: str) -> Path:
        path = absolute(self["key-file"]) or config_path.with_name(f"{name}.key")
        if not os.path.lexists(path):
            write_key_file(path)
            say(f"{path}: a new key; whoever can read it can act in {name}'s name")
        return path


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise local_error(path, error) from None


def _values_of(invitation: Invitation, path: Path, key_file: Path | None) -> dict[str, str | int]:
    """What the configuration at ``path`` has to say."""
    values: dict[str, str | int] = {
        "name": invitation.name,
        "address": invitation.host,
        "port": invitation.port,
        "realm": invitation.realm,
        "kdc-fingerprint": invitation.fingerprint,
    }
    if key_file is not None:
        near = key_file.parent == path.parent
        values["key-file"] = key_file.name if near else str(key_file)
    return values


class Register(ClientOptions):
    """``register``: take a name, and nothing else."""

    synopsis = "kdcclient register -n NAME -a HOST -p PORT [options]"
    optParameters = [
        ["listen-port", None, "60000", "the port to register for our receiver"],
        ["invitation-file", None, None, "read the invitation's code from this file"],
    ]

    def run(self) -> int:
        from twisted.internet import reactor

        settings = client_settings(self)
        port = whole_number(self["listen-port"], 0, 65535, "a port")
        path = absolute(self["invitation-file"])
        code = b"" if path is None else read_code(path)
        client = make_client(reactor, settings, prompt=f"passphrase for {settings.name}: ")
        if settings.secret.asks:
            again = settings.secret.keys(settings.realm, settings.name, "once more: ")
            if again.verify_key != client.keys.verify_key:
                raise ConfigurationError("the two passphrases differ; nothing was registered")
        return run_to_end(PROGRAM, reactor, lambda: register(client, port, code))


class Passwd(ClientOptions):
    """``passwd``: change the passphrase or key."""

    synopsis = "kdcclient passwd -n NAME -a HOST -p PORT [options]"
    optParameters = [
        ["new-passphrase-file", None, None, "read the new passphrase from this file (mode 0600)"],
        ["new-key-file", None, None, "use this key file (see keygen) from now on"],
    ]

    def run(self) -> int:
        from twisted.internet import reactor

        settings = client_settings(self)
        if self["new-passphrase-file"] and self["new-key-file"]:
            raise usage.UsageError("give one of --new-passphrase-file and --new-key-file")
        new = SecretSource(
            absolute(self["new-passphrase-file"]), None, absolute(self["new-key-file"])
        )
        if new.asks and not has_terminal():
            raise ConfigurationError(
                "no terminal to ask for the new passphrase on",
                hint="give --new-passphrase-file or --new-key-file",
            )
        client = make_client(reactor, settings, prompt=f"old passphrase of {settings.name}: ")
        keys = new.keys(settings.realm, settings.name, "new passphrase: ")
        if new.asks:
            again = new.keys(settings.realm, settings.name, "once more: ")
            if again.verify_key != keys.verify_key:
                raise ConfigurationError("the two new passphrases differ; nothing was changed")
        status = run_to_end(PROGRAM, reactor, lambda: change_secret(client, keys))
        if status == ExitStatus.DONE:
            self._tell_of_configuration(settings.secret)
        return status

    def _tell_of_configuration(self, old: SecretSource) -> None:
        """Without the option the old secret was from the file that the configuration names."""
        path = old.key_file or old.passphrase_file
        if path is not None and not (self["key-file"] or self["passphrase-file"]):
            where = absolute(self["config"]) or configuration.default_path()
            say(f"{where} still names {path}, the old secret: replace that, or name the new one")


class Keygen(Command):
    """``keygen FILE``: make a key file."""

    synopsis = "kdcclient keygen FILE"
    longdesc = "Make a file with a random key, to be used instead of a passphrase."

    def parseArgs(self, file: str = "") -> None:
        if not file:
            raise usage.UsageError("name the file: keygen FILE")
        self["file"] = file

    def run(self) -> int:
        path = Path(self["file"])
        write_key_file(path)
        say(f"{path}: a new key; whoever can read it can act in its owner's name")
        return 0
