"""The console commands ``kdc`` and ``kdcclient``."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kdc.commands.hints import complain
from kdc.commands.process_limits import set_limits
from kdc.commands.streams import open_standard_streams
from kdc.errors import ExitStatus, KDCError, LocalIOError, local_error
from kdc.terminal import AnswerLost, say

if TYPE_CHECKING:
    from kdc.commands.option_table import CommandTable

__all__ = ["kdc_main", "kdc_table", "kdcclient_main"]


def kdc_main() -> None:
    """``kdc -p PORT -o out.txt -f pwd.txt``: the KDC in the foreground; or a word."""
    open_standard_streams()
    argv = _with_help(sys.argv[1:])
    word = argv[0] if argv else ""
    if word in _WORDS:
        raise SystemExit(_guarded(f"kdc {word}", _WORDS[word], _with_help(argv[1:])))
    if argv[1:] == ["--help"] and not word.startswith("-"):  # help of what is no command
        argv = [word]
    raise SystemExit(_guarded("kdc", _kdc, argv))


def kdcclient_main() -> None:
    """``kdcclient -n NAME -m R|S ...`` and the everyday forms."""
    open_standard_streams()
    _leave(_guarded("kdcclient", _kdcclient, _with_help(sys.argv[1:])))


def _with_help(argv: list[str]) -> list[str]:
    """``help`` and ``help COMMAND`` are what people try first."""
    while argv[:1] == ["help"]:
        argv = [*(word for word in argv[1:] if word != "--help"), "--help"]
    return argv


def _guarded(program: str, command: Callable[[list[str]], int], argv: list[str]) -> int:
    # What imports make is not garbage: looking for some all the time is a sixth of a start.
    gc.set_threshold(50_000, 20, 20)
    from twisted.python import usage

    set_limits()
    try:
        try:
            return command(argv)
        finally:
            # What goes wrong with this at the end of the process cannot be told any more.
            if sys.stdout is not None:
                sys.stdout.flush()
    except usage.UsageError as error:
        where = " ".join(filter(None, (program, getattr(error, "command", None))))
        say(f"{program}: {error}\n  see {where} --help")
        return int(ExitStatus.USAGE)
    except KDCError as error:
        return complain(program, error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        if isinstance(error.filename, str | bytes):  # of a path, and nobody foresaw it
            return complain(program, local_error(Path(os.fsdecode(error.filename)), error))
        return _lost(program, error)
    except Exception as error:  # noqa: BLE001 - a person is told, and what
        if isinstance(error.__cause__, AnswerLost):  # out of the reactor
            return _lost(program, error.__cause__)
        from kdc.commands.defect import tell_defect

        return tell_defect(program, error, verbose=_VERBOSE in _flags(argv))


def _lost(program: str, error: OSError) -> int:
    """The answer, or some of it, could not be written."""
    _give_up_output()
    if error.errno == errno.EPIPE:  # as head does when it has seen enough
        return 128 + signal.SIGPIPE
    return complain(program, LocalIOError(f"cannot write the answer: {error.strerror}"))


_VERBOSE = "--verbose"


def _flags(argv: list[str]) -> set[str]:
    """The long and the short spelling are one; what stands behind ``--`` is no option."""
    before = argv[: argv.index("--")] if "--" in argv else argv
    return {_VERBOSE if flag == "-v" else flag for flag in before}


def _leave(status: int) -> NoReturn:
    """End now: Python would take all modules apart first, which is a sixth of a short command."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(status)


def _give_up_output() -> None:
    """Keep Python from trying again, and failing with a traceback, when it ends."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def _admin(argv: list[str]) -> int:
    from kdc.commands.admin.subcommands import AdminOptions

    return _obey(AdminOptions(), argv)  # type: ignore[no-untyped-call]


def _quick(argv: list[str]) -> int:
    from kdc.commands.quick import QuickOptions

    options = QuickOptions()  # type: ignore[no-untyped-call]
    options.parseOptions(argv)
    return options.run()


def _completion(argv: list[str]) -> int:
    from kdc.commands.completion import CompletionOptions

    options = CompletionOptions("kdc", kdc_table)
    options.parseOptions(argv)
    return options.run()


def _realm(argv: list[str]) -> int:
    from kdc.commands.realm import RealmOptions

    options = RealmOptions()
    options.parseOptions(argv)  # type: ignore[no-untyped-call]
    return options.run()


def _relay(argv: list[str]) -> int:
    from kdc.commands.relay import Options

    return _obey(Options(), argv)


_WORDS = {
    "admin": _admin,
    "completion": _completion,
    "quick": _quick,
    "realm": _realm,
    "relay": _relay,
}


def kdc_table() -> CommandTable:
    """All that can be typed behind ``kdc``, whose words `kdc_main` takes out itself."""
    import attrs

    from kdc.commands.admin.subcommands import AdminOptions
    from kdc.commands.completion import CompletionOptions
    from kdc.commands.option_table import table_of
    from kdc.commands.quick import QuickOptions
    from kdc.commands.realm import RealmOptions
    from kdc.commands.relay import Options as Relay
    from kdc.commands.tap import Options

    admin = ("admin", "look after the principal database", table_of(AdminOptions))
    relay = ("relay", "carry for those who cannot be reached", table_of(Relay))
    shells = "completion for bash, zsh or fish"
    completion = ("completion", shells, table_of(lambda: CompletionOptions("kdc", kdc_table)))
    quick = ("quick", "a KDC of one's own on this machine", table_of(QuickOptions))
    realm = ("realm", "a Kerberos realm for one command", table_of(RealmOptions))
    commands = (admin, relay, completion, quick, realm)
    return attrs.evolve(table_of(Options), commands=commands)


def _kdc(argv: list[str]) -> int:
    from kdc.commands.serve import serve

    return serve(argv)


def _kdcclient(argv: list[str]) -> int:
    from kdc.commands.client.subcommands import Options

    return _obey(Options(), argv)  # type: ignore[no-untyped-call]


def _obey(options: Any, argv: list[str]) -> int:
    """Do what was asked; a `usage.UsageError` leaves with the ``command`` that it is about."""
    from twisted.python import usage

    try:
        options.parseOptions(argv)
        status: int = options.run()
    except usage.UsageError as error:
        error.command = options.subCommand  # type: ignore[attr-defined]
        raise
    return status
