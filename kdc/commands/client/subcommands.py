"""The console command ``kdcclient``: the origin's flags, and one word a task.

What a word needs is loaded when it has been typed: a small message is sent in
less time than it takes to load all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python import usage

from kdc.commands.client.options import PROGRAM
from kdc.commands.client.transfer_commands import Receive, Send, Sender, run_receiver, run_sender
from kdc.commands.client.transfer_options import ReceiverOptions, send_settings

__all__ = ["Options"]


def _completion() -> Any:
    from kdc.commands.completion import CompletionOptions
    from kdc.commands.option_table import table_of

    return CompletionOptions(PROGRAM, lambda: table_of(Options))


def _asking(word: str) -> Callable[[], Any]:
    def load() -> Any:
        from kdc.commands.client import ask

        return getattr(ask, word)()

    return load


def _identity(word: str) -> Callable[[], Any]:
    def load() -> Any:
        from kdc.commands.client import membership

        return getattr(membership, word)()

    return load


def _tunnels(word: str) -> Callable[[], Any]:
    def load() -> Any:
        from kdc.commands.client import tunnel_commands

        return getattr(tunnel_commands, word)()

    return load


class Options(ReceiverOptions):
    """``kdcclient``: the origin's flags, or a word."""

    synopsis = (
        "kdcclient -n NAME -m R -s outenc -o outfile -a HOST -p PORT\n"
        "       kdcclient -n NAME -m S -r RECEIVER -i in.txt -a HOST -p PORT\n"
        "       kdcclient COMMAND [options]"
    )
    longdesc = "Receive and send over channels that the key distribution centre sets up."
    optParameters = [
        ["mode", "m", None, "R: receive one message; S: send one"],
        ["receiver", "r", None, "with -m S: the name of the receiver"],
        ["input", "i", None, "with -m S: the file to send"],
    ]
    subCommands = [
        ["receive", None, Receive, "receive what others send"],
        ["receiver", None, Receive, "the same"],
        ["send", None, Send, "send files"],
        ["sender", None, Sender, "send one file, with the flags of twistd kdcclient sender"],
        ["expose", None, _tunnels("Expose"), "let peers use local services"],
        ["forward", None, _tunnels("Forward"), "use a peer's service as if it were local"],
        ["pipe", None, _tunnels("Pipe"), "connect a peer's service to standard input and output"],
        ["tunnel", None, _tunnels("Tunnel"), "expose and forward, any number"],
        [
            "init",
            None,
            _identity("Init"),
            "take the name of an invitation, and remember who we are",
        ],
        ["register", None, _identity("Register"), "take a name at the KDC"],
        ["passwd", None, _identity("Passwd"), "change passphrase or key"],
        ["whoami", None, _asking("Whoami"), "what we are to the KDC"],
        ["who", None, _asking("Who"), "who can be reached now"],
        ["doctor", None, _asking("Doctor"), "find out what is wrong"],
        ["completion", None, _completion, "completion for bash, zsh or fish"],
        ["keygen", None, _identity("Keygen"), "make a key file"],
    ]

    def run(self) -> int:
        """Do what was asked; return the exit status."""
        if self.subCommand is not None:
            status: int = self.subOptions.run()
            return status
        if self["mode"] in ("R", "r"):
            return run_receiver(self, once=True, ask=False)
        if self["mode"] in ("S", "s"):
            return run_sender(send_settings(self))
        raise usage.UsageError("what? -m R, -m S, or a command")
