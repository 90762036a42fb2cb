"""``twistd kdcclient receiver|sender``: options, settings, services."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.python import usage

from kdc.client_app import Receiver, ReceiveSettings, SendSettings, make_client, send
from kdc.client_options import ClientOptions, client_settings, name_of
from kdc.errors import KDCError
from kdc.options import Command, absolute, whole_number
from kdc.running import complain, ends_twistd, leave_twistd, run_to_end

__all__ = [
    "Options",
    "ReceiverOptions",
    "SenderOptions",
    "makeService",
    "receive_settings",
    "send_settings",
]

DEFAULT_LISTEN_PORT = 60_000


class ReceiverOptions(ClientOptions):
    """Options of a receiver."""

    synopsis = "receiver -n NAME -a HOST -p PORT [-o FILE | --inbox DIR] [options]"
    longdesc = "Register if the name is new, then receive what others send."
    optParameters = [
        ["output", "o", None, "the file that each message replaces"],
        ["inbox", None, None, "the directory where each file gets its own name"],
        ["save-encrypted", "s", None, "keep the last message's records as they came, sealed"],
        [
            "listen",
            None,
            None,
            (
                "port or Twisted endpoint to listen on; by default port 60000,"
                " on this machine only if the KDC is on it too"
            ),
        ],
        ["advertise", None, "", "the address to tell senders, if it is not the one the KDC sees"],
    ]
    optFlags = [["once", None, "end after one message"]]

    def opt_allow(self, value: str) -> None:
        """receive from these only: NAME[,NAME...]; may be repeated"""
        self["allow"] = self.get("allow", frozenset()) | {name_of(n) for n in value.split(",")}


class SenderOptions(ClientOptions):
    """Options of a sender."""

    synopsis = "sender -n NAME -a HOST -p PORT -r RECEIVER -i FILE [options]"
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
    return ReceiveSettings(
        client=client,
        listen=_listen(options["listen"], client.on_loopback, ":" in client.host),
        output=absolute(options["output"]),
        inbox=absolute(options["inbox"]),
        records=absolute(options["save-encrypted"]),
        once=bool(options.get("once")),
        allow=options.get("allow", frozenset()),
        advertise=options["advertise"],
    )


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
    return SendSettings(client_settings(options), name_of(options["receiver"]), (path,))


class Options(Command):
    """Options of ``twistd kdcclient``."""

    synopsis = "kdcclient receiver|sender [options]"
    subCommands = [
        ["receiver", None, ReceiverOptions, "receive what others send"],
        ["sender", None, SenderOptions, "send a file and end"],
    ]

    def postOptions(self) -> None:
        if self.subCommand is None:
            raise usage.UsageError("what: receiver or sender?")
        if self.subCommand == "sender" and self.parent is not None:
            # One-shot: it must neither daemonize nor mind the pid file of a
            # receiver that was started in the same directory.
            self.parent["nodaemon"] = True
            self.parent["pidfile"] = ""


class _ReceiverService(Service):
    """A `Receiver` under twistd; ends the process with its status when it cannot go on."""

    def __init__(self, receiver: Receiver, reactor: Any) -> None:
        self._receiver = receiver
        self._reactor = reactor
        self._running: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._running = Deferred.fromCoroutine(self._run())

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._receiver.close())

    async def _run(self) -> None:
        try:
            status = await self._receiver.run()
        except KDCError as error:
            status = complain("kdcclient", error)
        if self.running:
            leave_twistd(self._reactor, status)


def makeService(options: Any) -> IService:
    """Ask what has to be asked now, while there is a terminal; a sender is done here."""
    from twisted.internet import reactor

    with ends_twistd("kdcclient"):
        if options.subCommand == "sender":
            sending = send_settings(options.subOptions)
            client = make_client(reactor, sending.client)
            raise SystemExit(run_to_end("kdcclient", reactor, lambda: send(client, sending)))
        receiving = receive_settings(options.subOptions)
        return _ReceiverService(
            Receiver(make_client(reactor, receiving.client), receiving), reactor
        )
