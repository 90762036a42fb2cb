"""``send``, and ``sender`` for one file: what is typed, the settings made of it, and the sending.

What does it is loaded when it is run: help and refusals need none of it.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.python import usage

from kdc.client.settings import absolute, client_settings
from kdc.commands.client.options import ClientOptions, run_client
from kdc.commands.hints import complain
from kdc.commands.options import LIMIT_OPTION, name_of, rate_of, seconds_of
from kdc.errors import ConfigurationError
from kdc.files.private import read_small, utf8
from kdc.terminal import has_terminal, shown
from kdc.transfer.exclusion import exclusion
from kdc.transfer.names import safe_name
from kdc.transfer.survey import STDIN, Thing, things_of
from kdc.transfer.walk import Choice

if TYPE_CHECKING:
    from kdc.transfer.sending import SendSettings

__all__ = [
    "SendCommand",
    "SenderCommand",
    "SenderOptions",
    "run_sender",
    "send_settings",
    "things_to_send",
]


_MAX_PATTERNS = 1 << 20


class SendCommand(ClientOptions):
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
        ["as", None, None, "the name that the receiver sees, of one thing or a text"],
        [
            "wait",
            "w",
            None,
            "wait until the receiver receives; with a time such as 90s, 10m or 2h, no longer",
        ],
        ["links", None, "skip", "symbolic links in directories: skip, or follow inside them"],
        ["exclude-from", None, None, "a file of patterns, one a line, as for --exclude"],
        LIMIT_OPTION,
    ]
    optFlags = [
        ["skip", None, "leave out what cannot be sent, and send the rest"],
        ["no-preserve", None, "send files without their times and modes"],
    ]
    optValues = {"exclude-from": "file", "links": "skip follow"}
    optRepeated = ("exclude",)
    optArguments = ("peer", "file", "...")
    optBare = ("wait",)

    def opt_exclude(self, value: str) -> None:
        """leave this out of directories: a pattern as in .gitignore; may be repeated"""
        self["exclude"] = (*self.get("exclude", ()), value)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        given = list(sys.argv[1:] if options is None else options)
        super().parseOptions(list(self._with_wait(given)))

    def _with_wait(self, words: Sequence[str]) -> Iterator[str]:
        """The same words, but each ``--wait`` with a value: its time need not be typed."""
        rest = collections.deque(words)
        while rest:
            word = rest.popleft()
            if word in ("--wait", "-w"):
                timed = bool(rest) and seconds_of(rest[0]) is not None
                yield "--wait=" + (rest.popleft() if timed else "")
                continue
            yield word
            if word == "--":
                yield from rest
                return
            if rest and self._takes_next(word):
                yield rest.popleft()

    def _takes_next(self, word: str) -> bool:
        if word.startswith("--"):
            return any(o.startswith(word[2:]) and o.endswith("=") for o in self.longOpt)
        return word[:1] == "-" and f"{word[-1]}:" in self.shortOpt and word != "-"

    def parseArgs(self, receivers: str = "", *files: str) -> None:
        if files and self["text"] is not None:
            raise usage.UsageError("files or --text, not both at a time")
        if not receivers or (not files and self["text"] is None):
            raise usage.UsageError("say what to send to whom: send RECEIVER FILE...")
        self["receivers"] = tuple(dict.fromkeys(map(name_of, receivers.split(","))))
        self["files"] = files

    def run(self) -> int:
        from kdc.transfer.sending import SendSettings

        client = client_settings(self)
        wait = self["wait"]
        wait_seconds = seconds_of(wait) if wait else None
        if wait and wait_seconds is None:
            raise usage.UsageError(f"--wait takes a time such as 90s, 10m or 2h, not {wait[:40]!r}")
        things = tuple(things_to_send(self["files"], self["text"], self["as"]))
        return run_sender(
            SendSettings(
                client,
                self["receivers"],
                things,
                wait=wait is not None,
                wait_seconds=wait_seconds,
                bytes_per_second=rate_of(self["limit"]),
                retry=True,
                skip=bool(self["skip"]),
                ask=sys.stdin.isatty() and has_terminal(),
                choice=_choice(self),
            )
        )


def _choice(options: Any) -> Choice:
    """What of directories is sent; raises `usage.UsageError` or `KDCError`."""
    if options["links"] not in ("skip", "follow"):
        raise usage.UsageError(f"--links is skip or follow, not {shown(options['links'])}")
    patterns = list(options.get("exclude", ()))
    path = absolute(options["exclude-from"])
    if path is not None:
        patterns += _lines_of(path)
    choice = Choice(preserve=not options["no-preserve"], follow=options["links"] == "follow")
    return attrs.evolve(choice, excluded=exclusion(patterns)) if patterns else choice


def _lines_of(path: Path) -> list[str]:
    text = utf8(read_small(path, _MAX_PATTERNS))
    if text is None:
        raise ConfigurationError(f"{shown(str(path), 4096)} is not UTF-8")
    return text.splitlines()


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
    if "" in files:
        raise usage.UsageError("one of the files has no name: an empty word was given")
    if files.count("-") > 1:
        raise usage.UsageError("there is only one standard input")
    paths = [STDIN if file == "-" else absolute(file) for file in files]
    return things_of([path for path in paths if path is not None], name)


class SenderOptions(ClientOptions):
    """Options of ``twistd kdcclient sender``."""

    synopsis = "kdcclient sender -n NAME -a HOST -p PORT -r RECEIVER -i FILE [options]"
    longdesc = (
        "Register if the name is new, then send one file.  The exit status is 0 only if"
        " the receiver has confirmed that it is on its disk."
    )
    optValues = {"input": "file", "receiver": "peer"}
    optParameters = [
        ["receiver", "r", None, "the name of the receiver"],
        ["input", "i", None, "the file to send"],
    ]


class SenderCommand(SenderOptions):
    """``sender``: as ``twistd kdcclient sender``."""

    def run(self) -> int:
        return run_sender(send_settings(self))


def send_settings(options: Any) -> SendSettings:
    """Of the flags of a `SenderOptions`; raises `usage.UsageError` or `KDCError`."""
    from kdc.transfer.sending import SendSettings, plain_file

    path = absolute(options["input"])
    if not options["receiver"] or path is None:
        raise usage.UsageError("say what to send to whom: --receiver NAME --input FILE")
    receiver = name_of(options["receiver"])
    return SendSettings(client_settings(options), (receiver,), plain_file(path))


def run_sender(settings: SendSettings) -> int:
    from twisted.internet import reactor

    from kdc.client.membership import make_client
    from kdc.transfer.sending import send

    client = make_client(reactor, settings.client)
    return run_client(reactor, lambda: send(client, settings, complain))
