"""Send and receive: what is typed, and from it settings.

What does it is loaded when it is known which of the two it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.python import usage

from kdc.client.settings import absolute, client_settings
from kdc.commands.client.options import PROGRAM, ClientOptions
from kdc.commands.client.transfer_options import (
    ReceiverOptions,
    SenderOptions,
    receive_settings,
    send_settings,
)
from kdc.commands.options import name_of
from kdc.terminal import has_terminal
from kdc.transfer.names import safe_name
from kdc.transfer.survey import STDIN, Thing, things_of

if TYPE_CHECKING:
    from kdc.commands.client.send import SendSettings

__all__ = ["Receive", "Send", "Sender", "run_receiver", "run_sender", "things_to_send"]


class Receive(ReceiverOptions):
    """``receive``: until stopped, or once."""

    synopsis = "kdcclient receive -n NAME -a HOST -p PORT [-o FILE | --inbox DIR] [options]"
    longdesc = (
        "Register if the name is new, then receive what others send.  At a terminal it asks"
        " whether something is wanted, unless --yes or one of the rules --allow, --accept-from"
        " and --max-size is given."
    )
    optFlags = [["yes", "y", "take everything without asking"]]

    def run(self) -> int:
        rules = ("yes", "allow", "accept-from", "max-size")
        ask = not any(self.get(rule) for rule in rules) and sys.stdin.isatty() and has_terminal()
        return run_receiver(self, once=bool(self["once"]), ask=ask)


class Send(ClientOptions):
    """``send RECEIVER[,RECEIVER...] FILE...``"""

    synopsis = (
        "kdcclient send -n NAME -a HOST -p PORT RECEIVER[,RECEIVER...]"
        " FILE|DIR|-... | --text TEXT [options]"
    )
    longdesc = (
        "Register if the name is new, then send files and directories, - for standard input,"
        " or a text.  A connection that is cut is tried again, and goes on where it was.  The"
        " exit status is 0 only if each receiver has confirmed that it is on its disk."
    )
    optParameters = [
        ["text", None, None, "send this text"],
        ["as", None, None, "the name that the receiver sees, of standard input or a text"],
    ]
    optFlags = [["wait", "w", "wait until the receiver receives"]]

    def parseArgs(self, receivers: str = "", *files: str) -> None:
        if files and self["text"] is not None:
            raise usage.UsageError("files or --text, not both at a time")
        if not receivers or (not files and self["text"] is None):
            raise usage.UsageError("say what to send to whom: send RECEIVER FILE...")
        self["receivers"] = tuple(dict.fromkeys(map(name_of, receivers.split(","))))
        self["files"] = files

    def run(self) -> int:
        from kdc.commands.client.send import SendSettings

        client = client_settings(self)
        things = tuple(things_to_send(self["files"], self["text"], self["as"]))
        return run_sender(
            SendSettings(client, self["receivers"], things, wait=bool(self["wait"]), retry=True)
        )


def things_to_send(files: Sequence[str], text: str | None, name: str | None) -> list[Thing]:
    """What a person means; raises `usage.UsageError` or `LocalIOError`."""
    if name is not None and len(files) > 1:
        raise usage.UsageError("--as is for one thing, as standard input or a text")
    try:
        if name is not None:
            safe_name(name)
        if text is not None:
            return [Thing(safe_name(name or "message.txt"), text=text.encode())]
    except ValueError as error:  # undecodable bytes, too
        raise usage.UsageError(str(error)) from None
    if files.count("-") > 1:
        raise usage.UsageError("there is only one standard input")
    paths = [STDIN if file == "-" else absolute(file) for file in files]
    return things_of([path for path in paths if path is not None], name)


class Sender(SenderOptions):
    """``sender``: as ``twistd kdcclient sender``."""

    def run(self) -> int:
        return run_sender(send_settings(self))


def run_receiver(options: Any, *, once: bool, ask: bool) -> int:
    from twisted.internet import reactor

    from kdc.client.membership import make_client
    from kdc.commands.client.receive import Receiver, check_places
    from kdc.net.exit_status import run_to_end

    options["once"] = once
    settings = attrs.evolve(receive_settings(options), ask=ask)
    check_places(settings)
    receiver = Receiver(make_client(reactor, settings.client), settings)
    return run_to_end(PROGRAM, reactor, receiver.run)


def run_sender(settings: SendSettings) -> int:
    from twisted.internet import reactor

    from kdc.client.membership import make_client
    from kdc.commands.client.send import send
    from kdc.net.exit_status import run_to_end

    client = make_client(reactor, settings.client)
    return run_to_end(PROGRAM, reactor, lambda: send(client, settings))
