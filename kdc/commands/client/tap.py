"""``twistd kdcclient receiver|sender``: options, settings, services."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from kdc.client.membership import make_client
from kdc.commands.client.options import PROGRAM, run_client
from kdc.commands.client.receive import ReceiverOptions, receive_settings, watched_receiver
from kdc.commands.client.send import SenderOptions, send_settings
from kdc.commands.client.tunnel import TunnelOptions, tunnel_settings, watched_tunnels
from kdc.commands.hints import complain
from kdc.commands.options import Command
from kdc.commands.process_limits import set_limits
from kdc.commands.twistd import WorkService, ends_twistd
from kdc.net.clock import use_monotonic_timers
from kdc.transfer.receiving import STDOUT, Receiver, check_places
from kdc.transfer.sending import send
from kdc.tunnel.tunnels import Tunnels

__all__ = ["Options", "makeService"]


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


def makeService(options: Any) -> IService:
    """Ask what has to be asked now, while there is a terminal; a sender is done here."""
    from twisted.internet import reactor

    set_limits()
    use_monotonic_timers(reactor)
    with ends_twistd(PROGRAM):
        given = options.subOptions
        if options.subCommand == "sender":
            sending = send_settings(given)
            client = make_client(reactor, sending.client)
            raise SystemExit(run_client(reactor, lambda: send(client, sending, complain)))
        if options.subCommand == "tunnel":
            tunnel = tunnel_settings(given)
            tunnels = Tunnels(make_client(reactor, tunnel.client), tunnel)
            work = watched_tunnels(given, reactor, tunnels, tunnel)
            return WorkService(PROGRAM, work, reactor)
        receiving = receive_settings(given)
        if receiving.output == STDOUT:
            raise usage.UsageError("a service has no standard output: use kdcclient receive -o -")
        check_places(receiving)
        receiver = Receiver(make_client(reactor, receiving.client), receiving, complain)
        return WorkService(PROGRAM, watched_receiver(given, reactor, receiver), reactor)
