"""Completion scripts for bash, zsh and fish, made from the option definitions."""

from __future__ import annotations

from collections.abc import Callable

from twisted.python import usage

from kdc.commands.option_table import CommandTable
from kdc.commands.options import Command

__all__ = ["SHELLS", "CompletionOptions", "script_for"]


class CompletionOptions(Command):
    """``completion SHELL``, of any program."""

    longdesc = "Write the script that teaches a shell these options to standard output."
    optArguments = ("bash zsh fish",)

    def __init__(self, program: str, table: Callable[[], CommandTable]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._program = program
        self._table = table
        self.synopsis = f"{program} completion bash|zsh|fish"

    def parseArgs(self, shell: str = "") -> None:
        if shell not in SHELLS:
            raise usage.UsageError(f"which shell: {', '.join(SHELLS)}?")
        self["shell"] = shell

    def run(self) -> int:
        print(script_for(self["shell"], self._program, self._table()), end="")
        return 0


def script_for(shell: str, program: str, table: CommandTable) -> str:
    """Return the script that teaches ``shell`` about ``program``; raises `KeyError`."""
    return SHELLS[shell](program, table)


# The names that `who` has told last, one a line.
_PEERS = 'cat "${XDG_CACHE_HOME:-$HOME/.cache}/kdc/peers" 2>/dev/null'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _words(table: CommandTable) -> list[str]:
    flags = [f"--{flag.name}" for flag in table.flags]
    flags += [f"-{flag.short}" for flag in table.flags if flag.short]
    return [name for name, _, _ in table.commands] + flags


def _spellings(table: CommandTable, *values: str) -> list[str]:
    """The options of all commands, as they are typed, that take one of ``values``; or any."""
    flags = {flag for _, each in table.walk() for flag in each.flags if flag.takes_next}
    found = [flag for flag in flags if not values or flag.value in values]
    shorts = {f"-{flag.short}" for flag in found if flag.short}
    return sorted({f"--{flag.name}" for flag in found} | shorts)


def _bash(program: str, table: CommandTable) -> str:
    """One function: find the deepest command that was typed, offer what it knows.

    What stays empty is completed as a file by bash itself, which knows how names
    with blanks are quoted.  Names of others come from a file, and are text to it.
    """
    function = f"_{program}"
    lines = [
        f"# bash completion for {program}; made by: {program} completion bash",
        f"{function}() {{",
        '  local word previous path="" position=0 skip="" words="" kind="" name typed',
        '  word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
        # bash takes --option=value for three words.
        '  [ "$word" = = ] && word=""',
        '  [ "$previous" = = ] && previous="${COMP_WORDS[COMP_CWORD-2]}"',
        '  for typed in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        '    if [ "$typed" = = ]; then skip=1; continue; fi',
        '    if [ -n "$skip" ]; then skip=""; continue; fi',
        '    case "$typed" in',
        f"      {'|'.join(_spellings(table))}) skip=1; continue ;;",
        "      -*) continue ;;",
        "    esac",
        '    case "$path $typed" in',
    ]
    for path, _ in table.walk():
        if path:
            before, last = "/".join(path[:-1]), path[-1]
            lines.append(f'      "{before} {last}") path="{"/".join(path)}" position=-1 ;;')
    lines += ["    esac", "    position=$((position + 1))", "  done", '  case "$previous" in']
    for value in sorted({flag.value for _, each in table.walk() for flag in each.flags} - {""}):
        lines.append(f'    {"|".join(_spellings(table, value))}) kind="{value}" ;;')
    lines += ['    *) case "$path" in']
    for path, each in table.walk():
        lines.append(f'      "{"/".join(path)}") words={_quoted(" ".join(_words(each)))} ;;')
    lines += ["    esac", '    case "$path $position" in']
    for path, each in table.walk():
        for number, value in enumerate(each.arguments):
            at = "*" if each.repeats and number == len(each.arguments) - 1 else str(number)
            lines.append(f'      "{"/".join(path)} "{at}) kind="{value}" ;;')
    lines += [
        "    esac ;;",
        "  esac",
        # Options where nothing else is asked for, or one has been begun.
        '  case "$kind/$word" in',
        '    /*|*/-*) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;',
        "  esac",
        '  case "$kind" in',
        "    directory) compopt +o default -o dirnames ;;",
        "    peer)",
        "      while IFS= read -r name; do",
        '        [ "${name#"$word"}" = "$name" ] && [ -n "$word" ] || COMPREPLY+=("$name")',
        f"      done < <({_PEERS}) ;;",
        "    ''|file) ;;",
        '    *) COMPREPLY+=($(compgen -W "$kind" -- "$word")) ;;',
        "  esac",
        "}",
        f"complete -o default -F {function} {program}",
    ]
    return "\n".join(lines) + "\n"


def _zsh(program: str, table: CommandTable) -> str:
    lines = [
        f"#compdef {program}",
        f"# made by: {program} completion zsh",
        f"_{program}_peers() {{",
        f'  local -a names; names=(${{(f)"$({_PEERS})"}}); compadd -a names',
        "}",
    ]
    for path, each in table.walk():
        lines += _zsh_function(program, path, each)
    # Called by the completion system where the file is in fpath; where somebody has sourced it,
    # there is nothing to complete yet.
    lines += [
        f'if [ "$funcstack[1]" = _{program} ]; then',
        f'  _{program} "$@"',
        "else",
        f"  compdef _{program} {program}",
        "fi",
    ]
    return "\n".join(lines) + "\n"


def _zsh_function(program: str, path: tuple[str, ...], table: CommandTable) -> list[str]:
    specs = []
    for flag in table.flags:
        text = flag.text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
        text = text.replace(":", "\\:")
        value = f":{flag.name}:{_zsh_action(program, flag.value)}" if flag.takes_next else ""
        spellings = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
        again = "*" if flag.repeated else f"({' '.join(spellings)})"
        for spelling in spellings:
            equals = "=" if flag.takes_next and spelling.startswith("--") else ""
            specs.append(_quoted(f"{again}{spelling}{equals}[{text}]{value}"))
    name = "_".join(("", program, *path))
    if not table.commands:
        rest = []
        for number, kind in enumerate(table.arguments, 1):
            last = table.repeats and number == len(table.arguments)
            place = "*" if last else str(number)
            rest.append(f"'{place}:argument:{_zsh_action(program, kind)}'")
        if not table.repeats:
            rest.append("'*:file:_files'")
        after = []
    else:
        names = " ".join(_quoted(f"{n}:{text}") for n, text, _ in table.commands)
        rest = ["'(-)1:command:->command'", "'(-)*::argument:->argument'"]
        after = [
            '  case "$state" in',
            f"    command) local -a commands=({names}); _describe command commands ;;",
            '    argument) case "$words[1]" in',
            *(f"      {n}) {name}_{n} ;;" for n, _, _ in table.commands),
            "    esac ;;",
            "  esac",
        ]
    return [
        f"{name}() {{",
        "  local state",
        "  _arguments -s -S \\",
        *(f"    {spec} \\" for spec in specs),
        f"    {' '.join(rest)}",
        *after,
        "}",
    ]


def _zsh_action(program: str, kind: str) -> str:
    actions = {"": "", "file": "_files", "directory": "_files -/", "peer": f"_{program}_peers"}
    return actions.get(kind, f"({kind})")


def _fish(program: str, table: CommandTable) -> str:
    lines = [
        f"# fish completion for {program}; made by: {program} completion fish",
        f"function __{program}_peers",
        '    set -l cache $HOME/.cache; test -n "$XDG_CACHE_HOME"; and set cache $XDG_CACHE_HOME',
        "    cat $cache/kdc/peers 2>/dev/null",
        "end",
    ]
    for path, each in table.walk():
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in path)
        below = " ".join(name for name, _, _ in each.commands)
        here = seen
        if below:
            none = f"not __fish_seen_subcommand_from {below}"
            here = f"{seen}; and {none}" if seen else none
        when = f"-n {_quoted(here)}" if here else ""
        for name, text, _ in each.commands:
            lines.append(f"complete -c {program} -f {when} -a {name} -d {_quoted(text)}")
        for kind in each.arguments:
            if kind != "file":
                offered = _fish_value(program, kind).removeprefix(" -x")
                lines.append(f"complete -c {program} {when}{offered}")
        for flag in each.flags:
            short = f" -s {flag.short}" if flag.short else ""
            value = _fish_value(program, flag.value) if flag.takes_next else ""
            lines.append(
                f"complete -c {program} {when} -l {flag.name}{short}{value} -d {_quoted(flag.text)}"
            )
    return "\n".join(lines) + "\n"


def _fish_value(program: str, kind: str) -> str:
    values = {
        "": " -x",
        "file": " -r -F",
        "directory": " -x -a '(__fish_complete_directories)'",
        "peer": f" -x -a '(__{program}_peers)'",
    }
    return values.get(kind, f" -x -a {_quoted(kind)}")


SHELLS: dict[str, Callable[[str, CommandTable], str]] = {
    "bash": _bash,
    "fish": _fish,
    "zsh": _zsh,
}
