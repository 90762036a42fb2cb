"""``kdcclient doctor``: look at everything that has to be right, and say what to do.

Each check is a function that returns what it found or raises a `KDCError`; the
later ones need the earlier ones.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from kdc.channel.reach import is_loopback
from kdc.channel.relay_link import look
from kdc.channel.standing import standing, warning
from kdc.client import known_kdcs
from kdc.client.addresses import Place, shown_places
from kdc.client.client import RealmClient
from kdc.client.membership import make_client, pin_of, whoami
from kdc.client.settings import ClientSettings, client_settings
from kdc.commands.client.options import AskingOptions, run_client
from kdc.commands.client.who import everybody
from kdc.commands.hints import hint_of
from kdc.commands.options import whole_number
from kdc.errors import (
    ConfigurationError,
    ExitStatus,
    KDCError,
    KDCUnreachable,
    LocalIOError,
    NotReceiving,
    PeerUnavailable,
    RefusedByPolicy,
    UnknownIdentity,
    UnknownPeer,
)
from kdc.files.private import read_private
from kdc.net.threads import in_thread
from kdc.protocol.directory import DIRECTORY, Standing
from kdc.protocol.relay import Reach
from kdc.terminal import answer as answer_line
from kdc.terminal import date, harmless, has_terminal

__all__ = ["DoctorCommand", "Finding", "examine", "receiver_check", "relay_check"]

_SECONDS = 5.0
_DIRECTLY = "others come directly, or not at all"

Connect = Callable[[tuple[str, int], float], Any]


@attrs.frozen
class Finding:
    """One check: ``error`` is None if all is well; ``kdc`` is which, of several."""

    what: str
    found: str
    error: KDCError | None = None
    kdc: str = ""

    @property
    def status(self) -> ExitStatus:
        return ExitStatus.DONE if self.error is None else self.error.exit_status


class DoctorCommand(AskingOptions):
    """``doctor``"""

    synopsis = "kdcclient doctor -n NAME -a HOST -p PORT"
    longdesc = "Look at everything that has to be right, and say what to do about what is not."
    optParameters = [["listen-port", None, "60000", "the port of our receiver"]]

    def run(self) -> int:
        from twisted.internet import reactor

        port = whole_number(self["listen-port"], 1, 65535, "a port")
        settings = client_settings(self)
        ended = int(ExitStatus.DONE)
        findings = list(examine(settings, port))
        wrong = {f.kdc for f in findings if f.error is not None}
        # Of several KDCs some may be well.
        if "" not in wrong and len(wrong) < len(settings.places):
            try:
                client = make_client(reactor, settings)
            except KDCError as error:
                findings.append(Finding("secret", str(error), error))
            else:
                ended = run_client(reactor, lambda: self._register_check(client, findings, port))
        for finding in findings:
            self._tell(finding)
        # What has ended otherwise than by itself was interrupted, and something was not looked at.
        return int(next((f.status for f in findings if f.error is not None), ended))

    async def _register_check(self, client: Any, findings: list[Finding], port: int) -> int:
        failed = {f.kdc for f in findings if f.error is not None}
        try:
            for node in client.nodes:
                if node.where not in failed:
                    checked = await node_checks(node, port)
                    findings.extend(_of(each, node.where, client.nodes) for each in checked)
        finally:
            client.close()
        return 0

    def _tell(self, finding: Finding) -> None:
        hint = "" if finding.error is None else hint_of(finding.error)
        if self["json"]:
            row = {"what": finding.what, "found": finding.found, "ok": finding.error is None}
            answer_line(json.dumps({**row, "hint": hint}))
            return
        good = "ok  " if finding.error is None else "FAIL"
        answer_line(f"{good} {finding.what}: {harmless(finding.found)}")
        if hint:
            answer_line(f"       {hint}")


def examine(
    settings: ClientSettings, receiver_port: int, connect: Connect = socket.create_connection
) -> Iterator[Finding]:
    """Yield the findings that need no secret and no running reactor.  Blocking.

    Of each KDC it stops at the first failure of which all others would be consequences.
    """
    yield Finding("who we are", f"{settings.name} in realm {settings.realm}")
    yield _found("secret", lambda: _secret(settings))
    places = settings.places
    for place in places:
        for what, check in (
            ("name of the KDC", _resolves),
            ("port of the KDC", _reachable),
            ("identity of the KDC", _identity),
        ):
            finding = _found(what, functools.partial(check, settings, place))
            yield _of(finding, shown_places([place]), places)
            if finding.error is not None:
                break
    yield Finding("clock", _clock(settings))
    yield _found("port to receive on", lambda: _receiver_port(settings, receiver_port, connect))


def _of(finding: Finding, where: str, several: Sequence[object]) -> Finding:
    """The same of one KDC, if there are several."""
    if len(several) == 1:
        return finding
    return attrs.evolve(finding, what=f"{finding.what} at {where}", kdc=where)


def _found(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, check())
    except KDCError as error:
        return Finding(what, str(error), error)


async def node_checks(node: RealmClient, port: int) -> list[Finding]:
    """What can be learnt of one KDC by those whom it knows."""
    what = "our registration"
    try:
        found = await whoami(node)
    except KDCError as error:
        return [Finding(what, str(error), error)]
    return [
        Finding(what, f"version {found['generation']} of our record"),
        Finding("our time there", _ends(await standing(node))),
        await receiver_check(node),
        await relay_check(node, port),
    ]


def seen_by_others(address: str, port: int, connect: Connect) -> Finding:
    """Whether anything is where the KDC sends others.  Blocking."""
    what, where = "our receiver", f"{address} port {port}"
    try:
        connect((address, port), _SECONDS).close()
    except OSError as error:
        unreachable = PeerUnavailable(
            f"the KDC sends others to {where}, where nothing answers: {error.strerror or error}",
            hint="is a firewall in between?  If it is the wrong address, start the receiver with"
            " --advertise",
        )
        return Finding(what, str(unreachable), unreachable)
    return Finding(what, f"the KDC holds it and sends others to {where}, where something listens")


async def receiver_check(
    client: RealmClient, connect: Connect = socket.create_connection
) -> Finding:
    """Whether the KDC holds a receiver of ours, and where it sends others something answers.

    That it is ours cannot be tried: nobody has a key for a channel to himself.
    """
    what = "our receiver"
    try:
        found, _ = await everybody(client, DIRECTORY)
    except KDCError as error:
        return Finding(what, f"not known, as there is no directory to ask: {error}")
    for own in found:
        if own.name == client.keys.name and own.state == "receiving":
            run = in_thread(client.reactor)
            finding: Finding = await run(seen_by_others, own.address, own.port, connect)
            return finding
    return Finding(
        what,
        "the KDC knows of none that runs now; to receive, start one: kdcclient receive --inbox .",
    )


async def relay_check(client: RealmClient, port: int) -> Finding:
    """By which ways others come to us, as far as the relay can tell."""
    what = "relay"
    if client.reach is Reach.DIRECT:
        return Finding(what, f"not used, as --reach direct says: {_DIRECTLY}")
    try:
        if client.reach is Reach.AUTO and is_loopback((await client.link()).address):
            return Finding(what, f"not used on the KDC's own machine: {_DIRECTLY}")
        looked = await look(client, client.relay, port)
    except (UnknownPeer, NotReceiving, RefusedByPolicy) as error:
        if client.reach is Reach.RELAY:
            return Finding(what, str(error), error)
        return Finding(what, f"none for us ({error}): {_DIRECTLY}")
    except KDCError as error:
        return Finding(what, str(error), error)
    host, number = looked.place
    way = f"it cannot connect to our port {port}: others come through it"
    if looked.reaches_us:
        way = f"it can connect to our port {port}: others come directly, or else through it"
        if client.reach is Reach.RELAY:
            way = "others come through it, as --reach relay says"
    return Finding(what, f"{host} port {number} answers, and {way}")


def _secret(settings: ClientSettings) -> str:
    secret = settings.secret
    path = secret.key_file or secret.passphrase_file
    if path is not None:
        read_private(path)
        return f"{path}, readable by its owner only"
    if secret.passphrase_fd is not None:
        return f"from descriptor {secret.passphrase_fd}"
    if not has_terminal():
        raise ConfigurationError(
            "no secret is given, and there is no terminal to ask on",
            hint="give --key-file or --passphrase-file",
        )
    return "will be asked for"


def _ends(found: Standing | None) -> str:
    if found is None:
        return "this KDC has no directory that tells when it ends"
    return warning(found) or (f"ends {date(found.end)}" if found.end else "has no end")


def _resolves(settings: ClientSettings, place: Place) -> str:
    try:
        found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
    except OSError as error:
        raise KDCUnreachable(
            f"{place[0]} is no address that can be found: {error.strerror}",
            hint="check --address, or the configuration file",
        ) from None
    return ", ".join(sorted({str(entry[4][0]) for entry in found}))


def _reachable(settings: ClientSettings, place: Place) -> str:
    where = shown_places([place])
    try:
        socket.create_connection(place, _SECONDS).close()
    except OSError as error:
        raise KDCUnreachable(
            f"nothing answers at {where}: {error.strerror or error}",
            hint="is the KDC running, listening on more than loopback, and no firewall in between?",
        ) from None
    return f"{where} answers"


def _identity(settings: ClientSettings, place: Place) -> str:
    shown = known_kdcs.look(*place)
    if settings.fingerprint is not None:
        return _same(settings, shown, settings.fingerprint, "--kdc-fingerprint")
    if settings.ca is not None:
        return f"{shown}; to be checked against {settings.ca}"
    pin = pin_of(settings, place)
    if pin is not None:
        return _same(settings, shown, pin.fingerprint, pin.source)
    line = known_kdcs.line_for(settings.places, shown)
    raise UnknownIdentity(
        f"the KDC shows {shown}, and nobody has vouched for that yet",
        fingerprint=shown,
        hint="if it is what the KDC prints when it starts, add this line to"
        f" {settings.known_kdcs}:\n  {line}",
    )


def _same(settings: ClientSettings, shown: str, expected: str, source: str) -> str:
    if shown not in expected.split(","):
        raise UnknownIdentity(
            f"the KDC shows {shown}, but {source} says {expected}",
            fingerprint=shown,
            hint="somebody may be in between; ask the operator before you change the pin",
        )
    return f"{shown}, as {source} says"


def _clock(settings: ClientSettings) -> str:
    now = dt.datetime.fromtimestamp(time.time(), dt.UTC).isoformat(timespec="seconds")
    if settings.ca is not None:
        return f"{now}; the dates of the KDC's certificate are checked against it"
    return f"{now}; nothing here depends on it"


def _receiver_port(settings: ClientSettings, port: int, connect: Connect) -> str:
    """Whether what has it can be reached where the KDC sees us; that nothing has is no fault.

    Whether that is ours cannot be told from here: see `receiver_check`.
    """
    here = _our_address(settings, connect)
    for host in filter(None, (here, "127.0.0.1", "::1")):
        try:
            connect((host, port), _SECONDS).close()
        except OSError:
            continue
        if host == here or here is None:
            return f"something, ours or not, listens on port {port} of {host}"
        raise LocalIOError(
            f"port {port} answers at {host}, but not at {here}, from where we reach the KDC",
            hint=f"nobody else can send to it: start the receiver with --listen tcp:{port},"
            " and look at the firewall",
        )
    return f"nothing listens on port {port} of this machine"


def _our_address(settings: ClientSettings, connect: Connect) -> str | None:
    """The address of this machine on the way to the KDC, which is what the KDC tells senders."""
    for place in settings.places:
        with (
            contextlib.suppress(OSError),
            contextlib.closing(connect(place, _SECONDS)) as connection,
        ):
            return str(connection.getsockname()[0])
    return None
