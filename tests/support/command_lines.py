"""Command lines as documents and units give them, read by the programs' own parsers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from twisted.scripts._twistd_unix import ServerOptions

from kdc.commands.admin.subcommands import AdminOptions
from kdc.commands.client.subcommands import Options as ClientOptions
from kdc.commands.client.tap import Options as ClientTapOptions
from kdc.commands.quick import QuickOptions
from kdc.commands.realm import RealmOptions
from kdc.commands.relay import Options as RelayOptions
from kdc.commands.tap import Options as KDCOptions

__all__ = ["OURS", "logical_lines", "long_options", "options_in", "parse", "words_of"]

OURS = ("kdc", "kdcclient", "twistd")


def logical_lines(text: str) -> list[str]:
    """Join the lines that end with a backslash to those that follow."""
    return re.sub(r"\\\n\s*", "", text).splitlines()


def words_of(line: str) -> list[str]:
    """Split a command line as a shell does, without the prompt and the comment."""
    return shlex.split(line.strip().removeprefix("$ "), comments=True)


def options_in(text: str) -> set[str]:
    """Return all the ``--options`` that a document mentions anywhere."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


def parse(words: list[str]) -> Any:
    """Let one of our programs read its arguments; return the options it then has.

    Raises `usage.UsageError`, or `ValueError` if the program is not ours.
    """
    program, *arguments = words
    name = PurePath(program).name
    if name not in OURS:
        raise ValueError(f"not a program of ours: {program}")
    options: Any
    if name == "twistd":
        options = ServerOptions()
    elif name == "kdcclient":
        options = ClientOptions()
    elif arguments[:1] == ["admin"]:
        arguments, options = arguments[1:], AdminOptions()
    elif arguments[:1] == ["quick"]:
        arguments, options = arguments[1:], QuickOptions()
    elif arguments[:1] == ["realm"]:
        arguments, options = arguments[1:], RealmOptions()
    elif arguments[:1] == ["relay"]:
        arguments, options = arguments[1:], RelayOptions()
    else:
        options = KDCOptions()
    options.parseOptions(arguments)
    return options


def _made(table: Any) -> Any:
    return table()


def _tables(table: Any) -> Iterator[Any]:
    options = _made(table)
    yield options
    for _, _, parser, _ in getattr(options, "subCommands", ()):
        yield from _tables(parser)


def long_options() -> set[str]:
    """Return every long option of every command of ours, and of twistd itself."""
    ours = (KDCOptions, QuickOptions, RealmOptions, ClientOptions, ClientTapOptions, AdminOptions)
    tops: tuple[type[Any], ...] = ours
    tables = [_made(ServerOptions), *(table for top in tops for table in _tables(top))]
    return {f"--{name.rstrip('=')}" for options in tables for name in options.longOpt}
