"""The console command ``kdcclient``: the origin's flags, and one word a task.

What a word needs is loaded when it has been typed: a small message is sent in
less time than it takes to load all of them.
"""

from __future__ import annotations

from typing import Any

from twisted.python import usage

from kdc.commands.client.options import PROGRAM
from kdc.commands.client.receive import ReceiverOptions, run_receiver
from kdc.commands.options import words

__all__ = ["Options"]


def _completion() -> Any:
    from kdc.commands.completion import CompletionOptions
    from kdc.commands.option_table import table_of

    return CompletionOptions(PROGRAM, lambda: table_of(Options))


class Options(ReceiverOptions):
    """``kdcclient``: the origin's flags, or a word."""

    synopsis = (
        "kdcclient -n NAME -m R -s outenc -o outfile -a HOST -p PORT\n"
        "       kdcclient -n NAME -m S -r RECEIVER -i in.txt -a HOST -p PORT\n"
        "       kdcclient COMMAND [options]"
    )
    longdesc = "Receive and send over channels that the key distribution centre sets up."
    optValues = {"input": "file", "receiver": "peer"}
    optParameters = [
        ["mode", "m", None, "R: receive one message; S: send one"],
        ["receiver", "r", None, "with -m S: the name of the receiver"],
        ["input", "i", None, "with -m S: the file to send"],
    ]
    subCommands = words(
        "kdc.commands.client",
        ("receive", "receive.ReceiveCommand", "receive what others send"),
        ("receiver", "receive.ReceiveCommand", "the same"),
        ("send", "send.SendCommand", "send files"),
        (
            "sender",
            "send.SenderCommand",
            "send one file, with the flags of twistd kdcclient sender",
        ),
        ("expose", "expose.ExposeCommand", "let peers use local services"),
        ("forward", "forward.ForwardCommand", "use a peer's service as if it were local"),
        ("pipe", "pipe.PipeCommand", "connect a peer's service to standard input and output"),
        ("tunnel", "tunnel.TunnelCommand", "expose and forward, any number"),
        ("init", "init.InitCommand", "take the name of an invitation, and remember who we are"),
        ("register", "register.RegisterCommand", "take a name at the KDC"),
        ("passwd", "passwd.PasswdCommand", "change passphrase or key"),
        ("renew", "renew.RenewCommand", "put a new key into our key file"),
        ("whoami", "whoami.WhoamiCommand", "what we are to the KDC"),
        ("who", "who.WhoCommand", "who can be reached now"),
        ("kinit", "kinit.KinitCommand", "get a Kerberos ticket"),
        ("keytab", "kinit.KeytabCommand", "get our Kerberos keys, for a machine"),
        ("doctor", "doctor.DoctorCommand", "find out what is wrong"),
        ("completion", _completion, "completion for bash, zsh or fish"),
        ("keygen", "keygen.KeygenCommand", "make a key file"),
    )

    def run(self) -> int:
        """Do what was asked; return the exit status."""
        if self.subCommand is not None:
            status: int = self.subOptions.run()
            return status
        if self["mode"] in ("R", "r"):
            return run_receiver(self, once=True, ask=False)
        if self["mode"] in ("S", "s"):
            from kdc.commands.client.send import run_sender, send_settings

            return run_sender(send_settings(self))
        raise usage.UsageError("what? -m R, -m S, or a command")
