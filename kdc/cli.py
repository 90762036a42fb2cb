"""The console commands ``kdc`` and ``kdcclient``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.python import usage

from kdc.errors import ExitStatus, KDCError
from kdc.running import complain, run_to_end, say, show_warnings

__all__ = ["kdc_main", "kdcclient_main"]


def kdc_main() -> None:
    """``kdc -p PORT -o out.txt -f pwd.txt``: the KDC in the foreground."""
    raise SystemExit(_guarded("kdc", _kdc, sys.argv[1:]))


def kdcclient_main() -> None:
    """``kdcclient -n NAME -m R|S ...`` and the everyday forms."""
    raise SystemExit(_guarded("kdcclient", _kdcclient, sys.argv[1:]))


def _guarded(program: str, command: Callable[[list[str]], int], argv: list[str]) -> int:
    try:
        return command(argv)
    except usage.UsageError as error:
        say(f"{program}: {error}\n  see {program} --help")
        return int(ExitStatus.USAGE)
    except KDCError as error:
        return complain(program, error)
    except KeyboardInterrupt:
        return 130


def _kdc(argv: list[str]) -> int:
    if argv[:1] == ["admin"]:
        from kdc.admin import AdminOptions

        admin = AdminOptions()  # type: ignore[no-untyped-call]
        admin.parseOptions(argv[1:])
        return admin.run()
    from twisted.internet import reactor

    from kdc.service import KDCService
    from kdc.tap import Options, settings_of

    options = Options()
    options.parseOptions(argv)
    service = KDCService(settings_of(options), reactor, say, lambda: settings_of(options))
    show_warnings("kdc")
    service.privilegedStartService()
    return run_to_end("kdc", reactor, lambda: _serve(service), serves=True)


async def _serve(service: Any) -> int:
    """Run a service until a signal cancels this."""
    from twisted.internet.defer import Deferred

    service.startService()
    try:
        await Deferred()
    finally:
        await service.stopService()
    return 0


def _kdcclient(argv: list[str]) -> int:
    from kdc.commands import Options

    options = Options()  # type: ignore[no-untyped-call]
    options.parseOptions(argv)
    return options.run()
