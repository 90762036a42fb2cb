"""Options of receivers and senders, and the settings made of them.

What receives is loaded for receivers only, and what sends for senders.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from kdc.client.settings import absolute, client_settings
from kdc.commands.client.options import LISTEN_OPTIONS, ClientOptions, listen_endpoint
from kdc.commands.options import name_of

if TYPE_CHECKING:
    from kdc.commands.client.receive import ReceiveSettings
    from kdc.commands.client.send import SendSettings

__all__ = ["ReceiverOptions", "SenderOptions", "bytes_of", "receive_settings", "send_settings"]


class ReceiverOptions(ClientOptions):
    """Options of a receiver."""

    synopsis = "kdcclient receiver -n NAME -a HOST -p PORT [-o FILE | --inbox DIR] [options]"
    longdesc = "Register if the name is new, then receive what others send."
    optParameters = [
        ["output", "o", None, "the file that each message replaces, or - for standard output"],
        ["inbox", None, None, "the directory where each file gets its own name"],
        ["max-size", None, None, "take no more at a time, such as 500M or 20G"],
        ["hook", None, None, "a command to run for each thing that was received, without a shell"],
        ["save-encrypted", "s", None, "keep the last message's records as they came, sealed"],
        *LISTEN_OPTIONS,
    ]
    optFlags = [
        ["once", None, "end after one message"],
        ["force", None, "replace what has the same name in the inbox"],
    ]

    def opt_allow(self, value: str) -> None:
        """let these only open a channel: NAME[,NAME...]; may be repeated"""
        self["allow"] = self.get("allow", frozenset()) | {name_of(n) for n in value.split(",")}

    def opt_accept_from(self, value: str) -> None:
        """take things from these only: NAME[,NAME...]; may be repeated"""
        names = {name_of(n) for n in value.split(",")}
        self["accept-from"] = self.get("accept-from", frozenset()) | names


class SenderOptions(ClientOptions):
    """Options of a sender."""

    synopsis = "kdcclient sender -n NAME -a HOST -p PORT -r RECEIVER -i FILE [options]"
    longdesc = (
        "Register if the name is new, then send one file.  The exit status is 0 only if"
        " the receiver has confirmed that it is on its disk."
    )
    optParameters = [
        ["receiver", "r", None, "the name of the receiver"],
        ["input", "i", None, "the file to send"],
    ]


def receive_settings(options: Any) -> ReceiveSettings:
    """Raises `usage.UsageError` or `KDCError`."""
    from kdc.commands.client.receive import STDOUT, ReceiveSettings

    if bool(options["output"]) == bool(options["inbox"]):
        raise usage.UsageError("say where received things go: --output FILE or --inbox DIR")
    client = client_settings(options)
    stdout = options["output"] == str(STDOUT)
    return ReceiveSettings(
        client=client,
        listen=listen_endpoint(options["listen"], client.on_loopback, ":" in client.host),
        output=STDOUT if stdout else absolute(options["output"]),
        inbox=absolute(options["inbox"]),
        records=absolute(options["save-encrypted"]),
        once=bool(options.get("once")) or stdout,
        allow=options.get("allow", frozenset()),
        advertise=options["advertise"],
        accept_from=options.get("accept-from", frozenset()),
        max_bytes=None if options["max-size"] is None else bytes_of(options["max-size"]),
        force=bool(options["force"]),
        hook=_hook(options["hook"]),
    )


_AMOUNT = re.compile(r"(\d{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE)


def bytes_of(text: str) -> int:
    """A number of bytes, as people type it; raises `usage.UsageError`."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise usage.UsageError(f"not a size such as 500M or 20G: {text[:40]!r}")
    return int(found[1]) << 10 * " KMGT".index(found[2].upper() or " ")


def _hook(text: str | None) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text or ""))
    except ValueError as error:
        raise usage.UsageError(f"--hook: {error}") from None
    if text is not None and not words:
        raise usage.UsageError("--hook names no command")
    # A daemon changes its directory later.
    first = [str(absolute(word)) if "/" in word else word for word in words[:1]]
    return (*first, *words[1:])


def send_settings(options: Any) -> SendSettings:
    """Raises `usage.UsageError` or `KDCError`."""
    from kdc.commands.client.send import SendSettings, plain_file

    path = absolute(options["input"])
    if not options["receiver"] or path is None:
        raise usage.UsageError("say what to send to whom: --receiver NAME --input FILE")
    receiver = name_of(options["receiver"])
    return SendSettings(client_settings(options), (receiver,), plain_file(path))
