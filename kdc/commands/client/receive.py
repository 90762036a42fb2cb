"""``receive``: what is typed, and settings of it; what does it is loaded when it is run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.python import usage

from kdc.client.settings import absolute, client_settings
from kdc.client.typed import advertised
from kdc.commands.client.options import LISTEN_OPTIONS, ClientOptions, listen_endpoints, run_client
from kdc.commands.hints import complain
from kdc.commands.options import LIMIT_OPTION, bytes_of, name_of, rate_of
from kdc.commands.watched import Side, StatusOptions, watched
from kdc.files.streams import is_stream
from kdc.terminal import has_terminal

if TYPE_CHECKING:
    from kdc.commands.twistd import Work
    from kdc.transfer.receiving import Receiver, ReceiveSettings

__all__ = [
    "ReceiveCommand",
    "ReceiverOptions",
    "receive_settings",
    "run_receiver",
    "watched_receiver",
]


class ReceiverOptions(StatusOptions, ClientOptions):
    """Options of a receiver, of ``twistd kdcclient receiver`` and of the origin's flags too."""

    synopsis = "kdcclient receiver -n NAME -a HOST -p PORT [-o FILE | --inbox DIR] [options]"
    longdesc = "Register if the name is new, then receive what others send."
    optValues = {
        "output": "file",
        "inbox": "directory",
        "hook": "file",
        "save-encrypted": "file",
        "allow": "peer",
        "accept-from": "peer",
    }
    optRepeated = ("allow", "accept-from")
    optParameters = [
        [
            "output",
            "o",
            None,
            "the file that each message replaces; a pipe or - gets one",
        ],
        ["inbox", None, None, "the directory where each file gets its own name"],
        ["max-size", None, None, "take no more at a time, such as 500M or 20G"],
        ["hook", None, None, "a command to run for each thing that was received, without a shell"],
        ["save-encrypted", "s", None, "keep the last message's records as they came, sealed"],
        LIMIT_OPTION,
        *LISTEN_OPTIONS,
    ]
    optFlags = [
        ["once", None, "end after one message"],
        ["force", None, "replace what has the same name in the inbox"],
        ["no-preserve", None, "files in the inbox are private, and as old as they are here"],
    ]

    def opt_allow(self, value: str) -> None:
        """let these only open a channel: NAME[,NAME...]; may be repeated"""
        self["allow"] = self.get("allow", frozenset()) | {name_of(n) for n in value.split(",")}

    def opt_accept_from(self, value: str) -> None:
        """take things from these only: NAME[,NAME...]; may be repeated"""
        names = {name_of(n) for n in value.split(",")}
        self["accept-from"] = self.get("accept-from", frozenset()) | names


class ReceiveCommand(ReceiverOptions):
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


def receive_settings(options: Any) -> ReceiveSettings:
    """Raises `usage.UsageError` or `KDCError`."""
    from kdc.transfer.receiving import STDOUT, ReceiveSettings

    if bool(options["output"]) == bool(options["inbox"]):
        raise usage.UsageError("say where received things go: --output FILE or --inbox DIR")
    client = client_settings(options)
    output = STDOUT if options["output"] in _STDOUT_NAMES else absolute(options["output"])
    passes_on = output == STDOUT or _passes_on(output)
    listen, otherwise = listen_endpoints(options["listen"], client.on_loopback, client.ipv6)
    return ReceiveSettings(
        client=client,
        listen=listen,
        otherwise=otherwise,
        output=output,
        passes_on=passes_on,
        inbox=absolute(options["inbox"]),
        records=absolute(options["save-encrypted"]),
        once=bool(options.get("once")) or passes_on,
        allow=options.get("allow", frozenset()),
        advertise=advertised(options["advertise"]),
        accept_from=options.get("accept-from", frozenset()),
        max_bytes=None if options["max-size"] is None else bytes_of(options["max-size"]),
        force=bool(options["force"]),
        preserve=not options["no-preserve"],
        hook=_hook(options["hook"]),
        bytes_per_second=rate_of(options["limit"]),
    )


_STDOUT_NAMES = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def _passes_on(output: Path | None) -> bool:
    try:
        return output is not None and is_stream(output)
    except OSError:  # why it cannot be used is told by `check_places`
        return False


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


def run_receiver(options: Any, *, once: bool, ask: bool) -> int:
    from twisted.internet import reactor

    from kdc.client.membership import make_client
    from kdc.transfer.receiving import Receiver, check_places

    options["once"] = once
    settings = attrs.evolve(receive_settings(options), ask=ask)
    check_places(settings)
    receiver = Receiver(make_client(reactor, settings.client), settings, complain)
    return run_client(reactor, watched_receiver(options, reactor, receiver).run)


def watched_receiver(options: Any, reactor: Any, receiver: Receiver) -> Work:
    """Raises `usage.UsageError` or `KDCError`."""

    def sides() -> Iterator[Side]:
        from kdc.watch.receiver import transfer_facts, transfer_figures

        figures = list(transfer_figures(lambda: receiver.figures))
        yield Side("Transfers", figures, lambda: transfer_facts(receiver.figures))

    return watched(options, reactor, receiver, receiver.name, lambda: receiver.channels, sides)
