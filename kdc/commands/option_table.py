"""The option definitions of a command as a table, for whatever is made from them.

Completion scripts and manual pages come from here, so that they cannot say
anything else than the command line does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

__all__ = ["CommandTable", "Flag", "table_of"]


@attrs.frozen
class Flag:
    """One option.  ``short`` is a letter or empty."""

    name: str
    short: str
    text: str
    takes_value: bool
    value: str  # file, directory, peer; one of some words; or empty: another, or none
    repeated: bool
    bare: bool = False  # its value may be left out

    @property
    def takes_next(self) -> bool:
        """Whether the word behind it is its value, and nothing else."""
        return self.takes_value and not self.bare


@attrs.frozen
class CommandTable:
    """A command, its options, and its sub-commands (name, one line, table)."""

    synopsis: str
    text: str
    flags: tuple[Flag, ...]
    commands: tuple[tuple[str, str, CommandTable], ...] = ()
    arguments: tuple[str, ...] = ()  # as a flag's value, or words with blanks between them
    repeats: bool = False  # the last of them, any number

    def walk(self, *path: str) -> Iterator[tuple[tuple[str, ...], CommandTable]]:
        """This command and all below it, each with the words that lead there."""
        yield path, self
        for name, _, table in self.commands:
            yield from table.walk(*path, name)


def table_of(options_type: Callable[[], Any]) -> CommandTable:
    """Read the definitions of a `twisted.python.usage.Options` class."""
    options = options_type()
    arguments = getattr(options, "optArguments", ())
    return CommandTable(
        " ".join((getattr(options, "synopsis", None) or "").split()),
        " ".join((getattr(options, "longdesc", None) or "").split()),
        tuple(_flags(options)),
        tuple(
            (name, text, table_of(sub))
            for name, _, sub, text in getattr(options, "subCommands", None) or ()
        ),
        tuple(kind for kind in arguments if kind != "..."),
        "..." in arguments,
    )


def _flags(options: Any) -> Iterator[Flag]:
    classes = type(options).__mro__[::-1]
    values = {k: v for each in classes for k, v in vars(each).get("optValues", {}).items()}
    repeated = {name for each in classes for name in vars(each).get("optRepeated", ())}
    bare = {name for each in classes for name in vars(each).get("optBare", ())}
    for long in sorted(options.longOpt):
        name = long.removesuffix("=")
        takes_value = long.endswith("=")
        text = " ".join((options.docs.get(name.replace("-", "_")) or options.docs[name]).split())
        short = [
            letter
            for letter, meaning in options.synonyms.items()
            if len(letter) == 1 and meaning.replace("_", "-") == name
        ]
        yield Flag(
            name,
            short[0] if short else "",
            text,
            takes_value,
            values.get(name, ""),
            name in repeated,
            name in bare,
        )
