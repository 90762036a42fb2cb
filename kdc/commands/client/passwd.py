"""``passwd``: change the passphrase or key."""

from __future__ import annotations

from twisted.python import usage

from kdc.client import configuration
from kdc.client.membership import change_secret, check_new, make_client
from kdc.client.secret import SecretSource
from kdc.client.settings import absolute, client_settings, configuration_file
from kdc.commands.client.options import ClientOptions, run_client
from kdc.errors import ConfigurationError, ExitStatus
from kdc.net.exit_status import say
from kdc.terminal import has_terminal

__all__ = ["PasswdCommand"]


class PasswdCommand(ClientOptions):
    """``passwd``: change the passphrase or key."""

    synopsis = "kdcclient passwd -n NAME -a HOST -p PORT [options]"
    optValues = {"new-passphrase-file": "file", "new-key-file": "file"}
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
            absolute(self["new-passphrase-file"]),
            None,
            absolute(self["new-key-file"]),
            settings.secret.least_letters,
        )
        if new.asks and not has_terminal():
            raise ConfigurationError(
                "no terminal to ask for the new passphrase on",
                hint="give --new-passphrase-file or --new-key-file",
            )
        client = make_client(reactor, settings, prompt=f"old passphrase of {settings.name}: ")
        secret = new.secret(settings.realm, settings.name, "new passphrase: ")
        check_new(secret.weakness)
        if new.asks and not new.repeated(secret.keys):
            raise ConfigurationError("the two new passphrases differ; nothing was changed")
        status = run_client(reactor, lambda: change_secret(client, secret.keys))
        if status == ExitStatus.DONE:
            self._tell_of_configuration(settings.secret)
        return status

    def _tell_of_configuration(self, old: SecretSource) -> None:
        """Without the option the old secret was from the file that the configuration names."""
        path = old.key_file or old.passphrase_file
        if path is not None and not (self["key-file"] or self["passphrase-file"]):
            where = configuration_file(self) or configuration.default_path()
            say(f"{where} still names {path}, the old secret: replace that, or name the new one")
