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


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _words(table: CommandTable) -> list[str]:
    flags = [f"--{flag.name}" for flag in table.flags]
    flags += [f"-{flag.short}" for flag in table.flags if flag.short]
    return [name for name, _, _ in table.commands] + flags


def _bash(program: str, table: CommandTable) -> str:
    """One function: find the deepest command that was typed, offer what it knows."""
    function = f"_{program}"
    files = sorted({f"--{f.name}" for _, t in table.walk() for f in t.flags if f.is_file})
    lines = [
        f"# bash completion for {program}; made by: {program} completion bash",
        f"{function}() {{",
        '  local word previous path="" words',
        '  word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
        '  case "$previous" in',
        f'    {"|".join(files)}) COMPREPLY=($(compgen -f -- "$word")); return ;;',
        "  esac",
        '  for typed in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        '    case "$path $typed" in',
    ]
    for path, _ in table.walk():
        if path:
            before, last = "/".join(path[:-1]), path[-1]
            lines.append(f'      "{before} {last}") path="{"/".join(path)}" ;;')
    lines += ["    esac", "  done", '  case "$path" in']
    for path, each in table.walk():
        lines.append(f'    "{"/".join(path)}") words={_quoted(" ".join(_words(each)))} ;;')
    lines += [
        "  esac",
        '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
        '  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))',
        "}",
        f"complete -o filenames -F {function} {program}",
    ]
    return "\n".join(lines) + "\n"


def _zsh(program: str, table: CommandTable) -> str:
    lines = [f"#compdef {program}", f"# made by: {program} completion zsh"]
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
        value = (":file:_files" if flag.is_file else f":{flag.name}:") if flag.takes_value else ""
        spellings = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
        again = "*" if flag.repeated else f"({' '.join(spellings)})"
        for spelling in spellings:
            equals = "=" if flag.takes_value and spelling.startswith("--") else ""
            specs.append(_quoted(f"{again}{spelling}{equals}[{text}]{value}"))
    name = "_".join(("", program, *path))
    if not table.commands:
        rest = ["'*:file:_files'"]
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


def _fish(program: str, table: CommandTable) -> str:
    lines = [f"# fish completion for {program}; made by: {program} completion fish"]
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
        for flag in each.flags:
            short = f" -s {flag.short}" if flag.short else ""
            value = (" -r -F" if flag.is_file else " -x") if flag.takes_value else ""
            lines.append(
                f"complete -c {program} {when} -l {flag.name}{short}{value} -d {_quoted(flag.text)}"
            )
    return "\n".join(lines) + "\n"


SHELLS: dict[str, Callable[[str, CommandTable], str]] = {
    "bash": _bash,
    "fish": _fish,
    "zsh": _zsh,
}
