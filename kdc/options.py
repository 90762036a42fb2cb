"""What the command lines of both programs have in common."""

from __future__ import annotations

import contextlib
import getopt
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.python import usage

from kdc import __version__
from kdc.errors import ExitStatus, KDCError
from kdc.protocol.names import check_realm
from kdc.terminal import complain, say

__all__ = [
    "Command",
    "absolute",
    "ends_twistd",
    "is_loopback",
    "local_endpoint",
    "realm_of",
    "server_endpoints",
    "whole_number",
]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Command(usage.Options):
    """What every command of ours answers to besides its own options."""

    synopsis: str

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As usual; without sub-commands, options may stand behind arguments too."""
        given = list(sys.argv[1:] if options is None else options)
        if not getattr(self, "subCommands", None):
            try:
                found, arguments = getopt.gnu_getopt(given, self.shortOpt, self.longOpt)
            except getopt.GetoptError as error:
                raise usage.UsageError(self._explained(str(error))) from None
            given = [word for name, value in found for word in self._words(name, value)]
            given += ["--", *arguments]
        try:
            super().parseOptions(given)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            raise usage.UsageError(self._explained(str(error))) from None

    def _explained(self, error: str) -> str:
        """Name what was meant, where a slip of the fingers is likely."""
        from difflib import get_close_matches  # which nobody else waits for

        for pattern, words in (
            (r"Unknown command: (\S+)", [name for name, *_ in getattr(self, "subCommands", ())]),
            (r"option (--\S+) not recognized", [f"--{o.rstrip('=')}" for o in self.longOpt]),
        ):
            found = re.fullmatch(pattern, error)
            near = get_close_matches(found[1], words, 1) if found else []
            if near:
                return f"{error}; did you mean {near[0]}?"
        return error

    def _words(self, name: str, value: str) -> list[str]:
        """One option as it has to be typed again."""
        if f"{name[2:]}=" in self.longOpt:
            return [f"{name}={value}"]
        return [name, value] if f"{name[1:]}:" in self.shortOpt else [name]

    def getSynopsis(self) -> str:
        """Each ``synopsis`` is a whole command line: its parents' are not put before it."""
        top: Any = self
        while top.parent is not None:
            top = top.parent
        program = "" if isinstance(top, Command) else "twistd [-n] "
        return f"Usage: {program}{self.synopsis}"

    def opt_version(self) -> None:
        """show the version, and end"""
        print(f"kdc {__version__}")
        raise SystemExit(0)


def absolute(path: str | Path | None) -> Path | None:
    """Absolute now: a daemon changes its directory later."""
    return None if not path else Path(os.path.abspath(os.path.expanduser(path)))


def realm_of(options: Any) -> str:
    try:
        return check_realm(options["realm"])
    except ValueError as error:
        raise usage.UsageError(str(error)) from None


def whole_number(text: str, low: int, high: int, what: str) -> int:
    """Raises `usage.UsageError` unless ``text`` is a number from ``low`` to ``high``."""
    # Python refuses to read thousands of digits, and none of ours has more than ten.
    if text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high:
        return int(text)
    raise usage.UsageError(f"{what} is a number from {low} to {high}, not {text[:40]!r}")


def server_endpoints(text: str) -> str:
    """A Twisted endpoint string for ``text``: itself, or a port number on loopback."""
    if ":" in text:
        return text
    return f"tcp:{whole_number(text, 0, 65535, 'a port')}:interface=127.0.0.1"


def local_endpoint(text: str) -> str:
    """A Twisted endpoint string for a tunnel's near end.

    Without an interface it is this machine's only, a unix socket its owner's
    only: whoever can connect there acts in our name at the far end.
    """
    text = server_endpoints(text)
    if text.startswith("unix:") and ":mode=" not in text:
        return text + ":mode=600"
    if text.startswith(("tcp:", "tcp6:")) and "interface=" not in text:
        return text + (":interface=127.0.0.1" if text.startswith("tcp:") else ":interface=\\:\\:1")
    return text


def is_loopback(endpoint: str) -> bool:
    """Whether an endpoint string can be reached from this machine only."""
    if endpoint.startswith("unix:"):
        return True
    if not endpoint.startswith(("tcp:", "tcp6:")):
        return False
    words = dict(part.partition("=")[::2] for part in endpoint.replace("\\:", "\0").split(":"))
    return words.get("interface", "").replace("\0", ":") in _LOOPBACK


@contextlib.contextmanager
def ends_twistd(program: str, twistd: Any = None) -> Iterator[None]:
    """Turn an error while twistd starts into its lines and its exit status.

    ``twistd``: its own options, once it has begun to start the service.
    """
    try:
        yield
        return
    except usage.UsageError as error:
        say(f"{program}: {error}\n  see twistd {program} --help")
        status, why = int(ExitStatus.USAGE), str(error)
    except KDCError as error:
        status, why = complain(program, error), str(error)
    if twistd is not None:
        _withdraw(twistd, why)
    raise SystemExit(status)


def _withdraw(twistd: Any, why: str) -> None:
    """What twistd does itself for errors that may show a traceback.

    The pid file would name a process that is gone; and whoever started a daemon
    waits for word from it, for ever if none comes.
    """
    if twistd["pidfile"]:
        with contextlib.suppress(OSError):
            os.unlink(twistd["pidfile"])
    pipe = twistd.get("statusPipe")
    if pipe is not None:
        os.write(pipe, f"1 {why}".encode("ascii", "backslashreplace")[:100])
        os.close(pipe)
