"""The console command ``kdcclient``: the origin's flags, and one word a task."""

from __future__ import annotations

from twisted.python import usage

from kdc.asking_commands import Doctor, Who, Whoami
from kdc.client_options import PROGRAM
from kdc.client_tap import ReceiverOptions, send_settings
from kdc.completion import SHELLS, script_for
from kdc.identity_commands import Init, Keygen, Passwd, Register
from kdc.options import Command
from kdc.optiontable import table_of
from kdc.transfer_commands import Receive, Send, Sender, run_receiver, run_sender
from kdc.tunnel_commands import Expose, Forward, Pipe, Tunnel

__all__ = ["Options"]


class Completion(Command):
    """``completion SHELL``"""

    synopsis = "kdcclient completion bash|zsh|fish"
    longdesc = "Write the script that teaches a shell these options to standard output."

    def parseArgs(self, shell: str = "") -> None:
        if shell not in SHELLS:
            raise usage.UsageError(f"which shell: {', '.join(SHELLS)}?")
        self["shell"] = shell

    def run(self) -> int:
        print(script_for(self["shell"], PROGRAM, table_of(Options)), end="")
        return 0


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
        ["expose", None, Expose, "let peers use local services"],
        ["forward", None, Forward, "use a peer's service as if it were local"],
        ["pipe", None, Pipe, "connect a peer's service to standard input and output"],
        ["tunnel", None, Tunnel, "expose and forward, any number"],
        ["init", None, Init, "take the name of an invitation, and remember who we are"],
        ["register", None, Register, "take a name at the KDC"],
        ["passwd", None, Passwd, "change passphrase or key"],
        ["whoami", None, Whoami, "what we are to the KDC"],
        ["who", None, Who, "who can be reached now"],
        ["doctor", None, Doctor, "find out what is wrong"],
        ["completion", None, Completion, "completion for bash, zsh or fish"],
        ["keygen", None, Keygen, "make a key file"],
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
