"""Write the manual pages in docs/man, from the definitions of the options.

    python docs/man/make_man_pages.py

They are committed, so that they can be packaged and read without running
anything; a test compares them with what this makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdc import __version__
from kdc.commands.admin.subcommands import AdminOptions
from kdc.commands.client.subcommands import Options as ClientOptions
from kdc.commands.option_table import CommandTable, Flag, table_of
from kdc.commands.quick import QuickOptions
from kdc.commands.realm import RealmOptions
from kdc.commands.relay import Options as RelayOptions
from kdc.commands.tap import Options as KDCOptions
from kdc.errors import ExitStatus

PLACE = Path(__file__).parent
PAGES: dict[str, tuple[Any, str, str]] = {
    "kdc": (
        KDCOptions,
        "key distribution centre",
        "kdc-admin(1), kdc-quick(1), kdcclient(1), twistd(1)",
    ),
    "kdc-quick": (QuickOptions, "a key distribution centre for oneself", "kdc(1), kdcclient(1)"),
    "kdc-realm": (RealmOptions, "a Kerberos realm for one command", "kdc(1), kinit(1)"),
    "kdc-admin": (AdminOptions, "look after a key distribution centre", "kdc(1), kdcclient(1)"),
    "kdc-relay": (RelayOptions, "carry for those who cannot be reached", "kdc(1), kdcclient(1)"),
    "kdcclient": (
        ClientOptions,
        "send and receive over channels set up by a key distribution centre",
        "kdc(1), kdc-admin(1)",
    ),
}
STATUSES = {
    ExitStatus.DONE: "Done; for a sender: the receiver has it on its disk.",
    ExitStatus.USAGE: "Wrong usage, or a file or option that is not usable.",
    ExitStatus.KDC: "No KDC answers, or it is not the one it should be.",
    ExitStatus.AUTHENTICATION: "The KDC does not accept name and secret.",
    ExitStatus.PEER: "The peer is unknown, not receiving, or does not answer.",
    ExitStatus.INTEGRITY: "Something was changed or cut short on its way.",
    ExitStatus.LOCAL_IO: "A local file or port: permission, no room, in use.",
    ExitStatus.REFUSED: "Refused by the peer or by the KDC's rules.",
    ExitStatus.INCOMPLETE: "Sent, but not all of it: what is missing or has changed is named.",
}


def roff(text: str) -> str:
    """``text`` as troff shows it, whatever it begins with."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def flag_lines(flag: Flag) -> Iterator[str]:
    value = f" \\fI{roff(flag.name.upper())}\\fR" if flag.takes_value else ""
    if flag.bare:
        value = f" [{value.strip()}]"
    short = f"\\fB\\-{flag.short}\\fR, " if flag.short else ""
    yield ".TP"
    yield f"{short}\\fB{roff('--' + flag.name)}\\fR{value}"
    yield roff(flag.text)


def synopsis_lines(synopsis: str) -> Iterator[str]:
    program = synopsis.partition(" ")[0]
    yield ".nf"
    for line in re.split(rf" (?={program} )", synopsis):
        yield roff(line)
    yield ".fi"


def command_lines(
    path: tuple[str, ...], table: CommandTable, text: str, common: frozenset[Flag]
) -> Iterator[str]:
    yield f".SS {roff(' '.join(path))}"
    if table.synopsis:
        yield from synopsis_lines(table.synopsis)
        yield ".PP"
    yield roff(table.text or text[:1].upper() + text[1:] + ".")
    own = [flag for flag in table.flags if flag not in common]
    for flag in own:
        yield from flag_lines(flag)
    if own and len(own) < len(table.flags):
        yield ".PP"
        yield "And the options that all commands have."


def page(name: str) -> str:
    """Return the manual page ``name`` as troff source."""
    options, purpose, see_also = PAGES[name]
    table = table_of(options)
    commands = [(path, each) for path, each in table.walk() if path]
    texts = {(*path, word): text for path, each in table.walk() for word, text, _ in each.commands}
    in_all = [frozenset(each.flags) for _, each in commands if each.flags]
    common = frozenset(table.flags) & frozenset(
        flag for flag in table.flags if sum(flag in flags for flags in in_all) > len(in_all) // 2
    )
    lines = [
        '.\\" Made by docs/man/make_man_pages.py; do not edit.',
        f'.TH {name.upper()} 1 "" "kdc {__version__}" "User Commands"',
        ".SH NAME",
        f"{roff(name)} \\- {roff(purpose)}",
        ".SH SYNOPSIS",
        *synopsis_lines(table.synopsis),
        ".SH DESCRIPTION",
        roff(table.text),
        ".SH OPTIONS",
    ]
    for flag in table.flags:
        lines += flag_lines(flag)
    if commands:
        lines.append(".SH COMMANDS")
    for path, each in commands:
        lines += command_lines(path, each, texts[path], common)
    lines.append(".SH EXIT STATUS")
    for status in ExitStatus:
        lines += [".TP", f"\\fB{int(status)}\\fR", roff(STATUSES[status])]
    lines += [".TP", "\\fB130\\fR, \\fB143\\fR", "Ended by Ctrl\\-C or SIGTERM."]
    lines += [".SH SEE ALSO", roff(see_also)]
    return "\n".join(lines) + "\n"


def main() -> None:
    PLACE.mkdir(exist_ok=True)
    for name in PAGES:
        (PLACE / f"{name}.1").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
