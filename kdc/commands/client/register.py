"""``register``: take a name, and nothing else."""

from __future__ import annotations

from kdc.client.membership import check_new, make_client, register
from kdc.client.secret import read_code
from kdc.client.settings import absolute, client_settings
from kdc.commands.client.options import ClientOptions, run_client
from kdc.commands.options import whole_number
from kdc.errors import ConfigurationError

__all__ = ["RegisterCommand"]


class RegisterCommand(ClientOptions):
    """``register``: take a name, and nothing else."""

    synopsis = "kdcclient register -n NAME -a HOST -p PORT [options]"
    optValues = {"invitation-file": "file"}
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
        check_new(client.weakness)
        if settings.secret.asks and not settings.secret.repeated(client.keys):
            raise ConfigurationError("the two passphrases differ; nothing was registered")
        return run_client(reactor, lambda: register(client, port, code))
