"""What the command lines of both programs have in common."""

from __future__ import annotations

import getopt
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

import attrs
from twisted.python import usage
from twisted.python.reflect import namedAny

from kdc import __version__
from kdc.admin.log_lines import LogFormat
from kdc.client import typed
from kdc.client.settings import absolute
from kdc.net.tls import is_address
from kdc.protocol.names import check_realm, fold_name

__all__ = [
    "LIMIT_OPTION",
    "LOG_FORMAT_OPTION",
    "Chosen",
    "Command",
    "Limited",
    "bytes_of",
    "local_endpoint",
    "log_format_of",
    "name_of",
    "rate_of",
    "realm_of",
    "seconds_of",
    "server_endpoints",
    "status_endpoint",
    "whole_number",
    "words",
]

P = ParamSpec("P")
T = TypeVar("T")


class Command(usage.Options):
    """What every command of ours answers to besides its own options."""

    synopsis: str
    # What completion offers for the values of options: "file", "directory" or "peer".  And the
    # options that mean more when they are given more than once.  Each class adds its own.
    optValues: ClassVar[Mapping[str, str]] = {}
    optRepeated: ClassVar[tuple[str, ...]] = ()
    # Those whose value may be left out, which its class sees to.
    optBare: ClassVar[tuple[str, ...]] = ()
    # The same for its arguments, or the words to choose from; "..." for any number of the last.
    optArguments: ClassVar[tuple[str, ...]] = ()

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
            if getattr(self, "subOptions", None) is not None:
                raise  # what the command behind us has no option for, ours may not be meant
            raise usage.UsageError(self._explained(str(error))) from None
        if self.parent is not None and not isinstance(self.parent, Command):
            from kdc.commands.pid_file import see_to_pid_file

            see_to_pid_file(self.parent)

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

    opt_h = usage.Options.opt_help

    def opt_verbose(self) -> None:
        """show how the program came to an error that nobody foresaw"""

    opt_v = opt_verbose

    def opt_version(self) -> None:
        """show the version, and end"""
        print(f"kdc {__version__}")
        raise SystemExit(0)


class Limited(Command):
    """A command with limits, each an attrs field under the name that is typed."""

    limits: ClassVar[Mapping[str, Any]]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["limit"] = {}

    @staticmethod
    def lowest(name: str) -> int:
        """The least that one can be."""
        return 1

    def opt_limit(self, value: str) -> None:
        """NAME=NUMBER sets one of the limits: see --help-limits; may be repeated"""
        name, _, number = value.partition("=")
        field = self.limits.get(name)
        if field is None:
            raise usage.UsageError(f"no limit is called {name[:40]!r}: see --help-limits")
        self["limit"][name] = whole_number(number, self.lowest(name), 10**9, name)

    def opt_help_limits(self) -> None:
        """list the limits with their defaults"""
        for name, field in self.limits.items():
            print(f"{name}={field.default:g}")
        raise SystemExit(0)


class Chosen(usage.Options):
    """Options behind which one of ``subCommands`` has to stand, which is what runs."""

    def postOptions(self) -> None:
        if self.subCommand is None:
            raise usage.UsageError("which command?")

    def run(self) -> int:
        status: int = self.subOptions.run()
        return status


def words(
    package: str, *rows: tuple[str, str | Callable[[], Any], str]
) -> list[list[str | Callable[[], Any] | None]]:
    """The sub-commands of a command: word, its class in ``package`` or what makes one, one line.

    A class is loaded with its module when its word has been typed.
    """
    return [
        [word, None, _Loaded(f"{package}.{made}") if isinstance(made, str) else made, text]
        for word, made, text in rows
    ]


@attrs.frozen
class _Loaded:
    name: str

    def __call__(self) -> Any:
        return namedAny(self.name)()


def log_file(text: str | None) -> Path | None:
    """Where the activity log goes; ``-`` is standard output."""
    return Path("/dev/stdout") if text == "-" else absolute(text)


LOG_FORMAT_OPTION = [
    "log-format",
    None,
    None,
    "how the activity log is written: text or json, an object a line; text by default",
]


def log_format_of(text: str) -> LogFormat:
    """How the activity log is to be written; raises `usage.UsageError`."""
    try:
        return LogFormat(text)
    except ValueError:
        raise usage.UsageError(f"a log is text or json, not {text[:40]!r}") from None


def realm_of(options: Any) -> str:
    """The realm that was typed; raises `usage.UsageError`, as all of these do."""
    return _understood(check_realm, options["realm"])


def name_of(text: str) -> str:
    """The principal's name a person meant."""
    return _understood(fold_name, text)


def host_of(text: str) -> str:
    """A host's name or address, without a port."""
    host, port = _understood(typed.host_and_port, text)
    if port is not None:
        raise usage.UsageError(f"a host is wanted here, without a port: {text[:80]!r}")
    return host


def place_of(address: str | None, port: str | None, lowest: int = 1) -> tuple[str, int | None]:
    """The host and port of two options, of which the first may hold both."""
    number = None if port is None else whole_number(port, lowest, 65535, "a port")
    if not address:
        return "", number
    host, there = _understood(typed.host_and_port, address)
    if there and number and there != number:
        raise usage.UsageError(f"two ports: {there} and {number}")
    return host, there or number


def whole_number(text: str, low: int, high: int, what: str) -> int:
    """A number from ``low`` to ``high``; ``what`` says of what it is one."""
    return _understood(typed.whole_number, text, low, high, what)


def _understood(check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return check(*args, **kwargs)
    except ValueError as error:
        raise usage.UsageError(str(error)) from None


_AMOUNT = re.compile(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE)
_TIME = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def bytes_of(text: str) -> int:
    """A number of bytes, as people type it; raises `usage.UsageError`."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise usage.UsageError(f"not a size such as 500M or 20G: {text[:40]!r}")
    return int(found[1]) << 10 * " KMGT".index(found[2].upper() or " ")


LIMIT_OPTION = ["limit", None, None, "no faster than so many bytes a second, such as 500K or 5M"]


def rate_of(text: str | None) -> int | None:
    """Bytes a second, if a limit was typed; raises `usage.UsageError`."""
    if text is None:
        return None
    rate = bytes_of(text)
    if not rate:
        raise usage.UsageError("--limit 0 would never be done")
    return rate


def seconds_of(text: str) -> int | None:
    """A time such as 90s, 10m, 2h or 1d; None if it is none."""
    found = _TIME.fullmatch(text)
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


def server_endpoints(text: str) -> str:
    """A Twisted endpoint string for ``text``: itself, ADDRESS:PORT, or a port on loopback."""
    if ":" not in text:
        return f"tcp:{whole_number(text, 0, 65535, 'a port')}:interface=127.0.0.1"
    host, port = _address_and_port(text)
    if port is None:
        return text
    kind, escaped = "tcp6" if ":" in host else "tcp", host.replace(":", "\\:")
    return f"{kind}:{port}:interface={escaped}"


def service_endpoint(text: str) -> str:
    """A Twisted endpoint string of what is to be connected to: itself, HOST:PORT, or a port."""
    if ":" not in text:
        return f"tcp:127.0.0.1:{whole_number(text, 1, 65535, 'a port')}"
    host, port = _address_and_port(text, names=True)
    return text if port is None else f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"


def _address_and_port(text: str, *, names: bool = False) -> tuple[str, int | None]:
    """Empty and None for what is an endpoint string, such as ``tcp:80``."""
    try:
        host, port = typed.host_and_port(text, 0)
    except ValueError:
        return "", None
    named = host == "localhost" or ("." in host and not host.endswith("."))
    if is_address(host) or (names and named):
        return host, port
    return "", None


def status_endpoint(text: str) -> str:
    """A Twisted endpoint string for the status port: also for HOST:PORT behind ``tcp:``.

    A unix socket is its owner's only, unless its mode is given.
    """
    found = re.fullmatch(r"(tcp6?):(\[[0-9a-fA-F:.]+\]|[0-9.]+|localhost):([0-9]{1,5})", text)
    if found is not None:
        kind, host, port = found.groups()
        plain = host.strip("[]").replace(":", "\\:")
        return f"{'tcp6' if host[0] == '[' else kind}:{port}:interface={plain}"
    if text.startswith("unix:") and ":mode=" not in text:
        return text + ":mode=600"
    return server_endpoints(text)


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
