"""``twistd kdcclient receiver|sender``: options, settings, services."""

from __future__ import annotations

import re
import shlex
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.python import usage

from kdc.background import background
from kdc.client_app import make_client
from kdc.client_options import PROGRAM, ClientOptions, client_settings, name_of
from kdc.corefiles import no_core_file
from kdc.errors import KDCError
from kdc.options import Command, absolute, ends_twistd, local_endpoint, whole_number
from kdc.receive_app import STDOUT, Receiver, ReceiveSettings
from kdc.running import complain, leave_twistd, run_to_end
from kdc.send_app import SendSettings, plain_file, send
from kdc.tunnel_app import Exposed, Forwarded, Tunnels, TunnelSettings

__all__ = [
    "Options",
    "ReceiverOptions",
    "SenderOptions",
    "TunnelOptions",
    "bytes_of",
    "exposed_of",
    "makeService",
    "receive_settings",
    "send_settings",
    "tunnel_settings",
]

DEFAULT_LISTEN_PORT = 60_000


_LISTEN = [
    [
        "listen",
        None,
        None,
        (
            "port or Twisted endpoint to listen on; by default port 60000,"
            " on this machine only if the KDC is on it too"
        ),
    ],
    ["advertise", None, "", "the address to tell peers, if it is not the one the KDC sees"],
]


class ReceiverOptions(ClientOptions):
    """Options of a receiver."""

    synopsis = "kdcclient receiver -n NAME -a HOST -p PORT [-o FILE | --inbox DIR] [options]"
    longdesc = "Register if the name is new, then receive what others send."
    optParameters = [
        ["output", "o", None, "the file that each message replaces, or - for standard output"],
        ["inbox", None, None, "the directory where each file gets its own name"],
        ["max-size", None, None, "take no more at a time, such as 500M or 20G"],
        ["hook", None, None, "a command to run for each thing that was received, without a shell"],
        ["save-encrypted", "s", None, "keep the last message's records as they came, sealed"],
        *_LISTEN,
    ]
    optFlags = [
        ["once", None, "end after one message"],
        ["force", None, "replace what has the same name in the inbox"],
    ]

    def opt_allow(self, value: str) -> None:
        """let these only open a channel: NAME[,NAME...]; may be repeated"""
        self["allow"] = self.get("allow", frozenset()) | {name_of(n) for n in value.split(",")}

    def opt_accept_from(self, value: str) -> None:
        """take things from these only: NAME[,NAME...]; may be repeated"""
        names = {name_of(n) for n in value.split(",")}
        self["accept-from"] = self.get("accept-from", frozenset()) | names


class TunnelOptions(ClientOptions):
    """Options of tunnels."""

    synopsis = (
        "kdcclient tunnel -n NAME -a HOST -p PORT [--expose SERVICE=ENDPOINT ...]"
        " [--forward PEER/SERVICE=ENDPOINT ...] [options]"
    )
    longdesc = (
        "Expose local services to peers, and reach theirs.  Endpoints are Twisted's, such as"
        " tcp:127.0.0.1:5432 or unix:/run/service.sock."
    )
    optParameters = _LISTEN

    def opt_expose(self, value: str) -> None:
        """SERVICE=ENDPOINT: let peers connect to this endpoint as SERVICE; may be repeated"""
        self["expose"] = (*self.get("expose", ()), exposed_of(value))

    def opt_forward(self, value: str) -> None:
        """PEER/SERVICE=ENDPOINT: listen here for a peer's service (a port alone: on this
        machine only); may be repeated"""
        far, _, near = value.partition("=")
        peer, _, service = far.partition("/")
        if not near:
            raise usage.UsageError(f"--forward is PEER/SERVICE=ENDPOINT, not {value[:80]!r}")
        self["forward"] = (
            *self.get("forward", ()),
            Forwarded(name_of(peer), name_of(service), local_endpoint(near)),
        )

    def opt_allow(self, value: str) -> None:
        """who may use what is exposed: NAME[,NAME...]; may be repeated"""
        self["allow"] = self.get("allow", frozenset()) | {name_of(n) for n in value.split(",")}


def exposed_of(text: str) -> Exposed:
    """Parse SERVICE=ENDPOINT; raises `usage.UsageError`."""
    name, _, endpoint = text.partition("=")
    if not endpoint:
        raise usage.UsageError(f"what to expose is SERVICE=ENDPOINT, not {text[:80]!r}")
    return Exposed(name_of(name), endpoint)


def tunnel_settings(options: Any) -> TunnelSettings:
    """Raises `usage.UsageError` or `KDCError`."""
    client = client_settings(options)
    settings = TunnelSettings(
        client,
        tuple(options.get("expose", ())),
        tuple(options.get("forward", ())),
        options.get("allow", frozenset()),
        _listen(options.get("listen"), client.on_loopback, ":" in client.host),
        options.get("advertise") or "",
    )
    if not settings.exposed and not settings.forwarded:
        raise usage.UsageError("say what to expose or to forward")
    return settings


class SenderOptions(ClientOptions):
    """Options of a sender."""

    synopsis = "kdcclient sender -n NAME -a HOST -p PORT -r RECEIVER -i FILE [options]"
    longdesc = (
        "Register if the name is new, then send one file.  The exit status is 0 only if"
        " the receiver has confirmed that it is on its disk."
    )
    optParameters = [
        ["receiver", "r", None, "the name of the receiver"],
        ["input", "i", None, "the file to send"],
    ]


def receive_settings(options: Any) -> ReceiveSettings:
    """Raises `usage.UsageError` or `KDCError`."""
    if bool(options["output"]) == bool(options["inbox"]):
        raise usage.UsageError("say where received things go: --output FILE or --inbox DIR")
    client = client_settings(options)
    stdout = options["output"] == str(STDOUT)
    return ReceiveSettings(
        client=client,
        listen=_listen(options["listen"], client.on_loopback, ":" in client.host),
        output=STDOUT if stdout else absolute(options["output"]),
        inbox=absolute(options["inbox"]),
        records=absolute(options["save-encrypted"]),
        once=bool(options.get("once")) or stdout,
        allow=options.get("allow", frozenset()),
        advertise=options["advertise"],
        accept_from=options.get("accept-from", frozenset()),
        max_bytes=None if options["max-size"] is None else bytes_of(options["max-size"]),
        force=bool(options["force"]),
        hook=_hook(options["hook"]),
    )


_AMOUNT = re.compile(r"(\d{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE)


def bytes_of(text: str) -> int:
    """A number of bytes, as people type it; raises `usage.UsageError`."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise usage.UsageError(f"not a size such as 500M or 20G: {text[:40]!r}")
    return int(found[1]) << 10 * " KMGT".index(found[2].upper() or " ")


def _hook(text: str | None) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text or ""))
    except ValueError as error:
        raise usage.UsageError(f"--hook: {error}") from None
    if text is not None and not words:
        raise usage.UsageError("--hook names no command")
    # A daemon changes its directory later.
    first = [str(absolute(word)) if "/" in word else word for word in words[:1]]
    return (*first, *words[1:])


def _listen(text: str | None, loopback: bool, ipv6: bool) -> str:
    if text is not None and ":" in text:
        return text
    port = DEFAULT_LISTEN_PORT if text is None else whole_number(text, 0, 65535, "a port")
    kind = "tcp6" if ipv6 else "tcp"
    if not loopback:
        return f"{kind}:{port}"
    return f"{kind}:{port}:interface=" + ("\\:\\:1" if ipv6 else "127.0.0.1")


def send_settings(options: Any) -> SendSettings:
    """Raises `usage.UsageError` or `KDCError`."""
    path = absolute(options["input"])
    if not options["receiver"] or path is None:
        raise usage.UsageError("say what to send to whom: --receiver NAME --input FILE")
    receiver = name_of(options["receiver"])
    return SendSettings(client_settings(options), (receiver,), plain_file(path))


class Options(Command):
    """Options of ``twistd kdcclient``."""

    synopsis = "kdcclient receiver|sender|tunnel [options]"
    subCommands = [
        ["receiver", None, ReceiverOptions, "receive what others send"],
        ["sender", None, SenderOptions, "send a file and end"],
        ["tunnel", None, TunnelOptions, "expose local services to peers, and reach theirs"],
    ]

    def postOptions(self) -> None:
        if self.subCommand is None:
            raise usage.UsageError("what: receiver, sender or tunnel?")
        if self.subCommand == "sender" and self.parent is not None:
            # One-shot: it must neither daemonize nor mind the pid file of a
            # receiver that was started in the same directory.
            self.parent["nodaemon"] = True
            self.parent["pidfile"] = ""


class _ClientService(Service):
    """A `Receiver` or `Tunnels` under twistd; ends the process when it cannot go on."""

    def __init__(self, running: Receiver | Tunnels, reactor: Any) -> None:
        self._work = running
        self._reactor = reactor

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        background(self._run(), PROGRAM)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._work.close())

    async def _run(self) -> None:
        try:
            status = await self._work.run()
        except KDCError as error:
            status = complain(PROGRAM, error)
        except SystemExit as leaving:  # interrupted at a question
            status = int(leaving.code or 0)
        if self.running:
            leave_twistd(self._reactor, status)


def makeService(options: Any) -> IService:
    """Ask what has to be asked now, while there is a terminal; a sender is done here."""
    from twisted.internet import reactor

    no_core_file()
    with ends_twistd(PROGRAM):
        given = options.subOptions
        if options.subCommand == "sender":
            sending = send_settings(given)
            client = make_client(reactor, sending.client)
            raise SystemExit(run_to_end(PROGRAM, reactor, lambda: send(client, sending)))
        if options.subCommand == "tunnel":
            tunnel = tunnel_settings(given)
            return _ClientService(Tunnels(make_client(reactor, tunnel.client), tunnel), reactor)
        receiving = receive_settings(given)
        if receiving.output == STDOUT:
            raise usage.UsageError("a service has no standard output: use kdcclient receive -o -")
        receiver = Receiver(make_client(reactor, receiving.client), receiving)
        return _ClientService(receiver, reactor)
