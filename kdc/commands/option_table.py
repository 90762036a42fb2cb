"""The option definitions of a command as a table, for whatever is made from them.

Completion scripts and manual pages come from here, so that they cannot say
anything else than the command line does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

__all__ = ["CommandTable", "Flag", "table_of"]

_FILE_WORDS = ("file", "input", "output", "inbox", "config", "encrypted")
_FILES = ("kdc-ca", "known-kdcs", "tls-key", "tls-certificate", "hook")


@attrs.frozen
class Flag:
    """One option.  ``short`` is a letter or empty."""

    name: str
    short: str
    takes_value: bool
    text: str
    is_file: bool

    @property
    def repeated(self) -> bool:
        """Whether it means more when it is given more than once; its text says so."""
        return "may be repeated" in self.text


@attrs.frozen
class CommandTable:
    """A command, its options, and its sub-commands (name, one line, table)."""

    synopsis: str
    text: str
    flags: tuple[Flag, ...]
    commands: tuple[tuple[str, str, CommandTable], ...] = ()

    def walk(self, *path: str) -> Iterator[tuple[tuple[str, ...], CommandTable]]:
        """This command and all below it, each with the words that lead there."""
        yield path, self
        for name, _, table in self.commands:
            yield from table.walk(*path, name)


def table_of(options_type: Callable[[], Any]) -> CommandTable:
    """Read the definitions of a `twisted.python.usage.Options` class."""
    options = options_type()
    return CommandTable(
        " ".join((getattr(options, "synopsis", None) or "").split()),
        " ".join((getattr(options, "longdesc", None) or "").split()),
        tuple(_flags(options)),
        tuple(
            (name, text, table_of(sub))
            for name, _, sub, text in getattr(options, "subCommands", None) or ()
        ),
    )


def _flags(options: Any) -> Iterator[Flag]:
    for long in sorted(options.longOpt):
        name = long.removesuffix("=")
        takes_value = long.endswith("=")
        text = " ".join((options.docs.get(name.replace("-", "_")) or options.docs[name]).split())
        short = [
            letter
            for letter, meaning in options.synonyms.items()
            if len(letter) == 1 and meaning.replace("_", "-") == name
        ]
        is_file = takes_value and (name in _FILES or any(word in name for word in _FILE_WORDS))
        yield Flag(name, short[0] if short else "", takes_value, text, is_file)
