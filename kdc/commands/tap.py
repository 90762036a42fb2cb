"""``twistd kdc`` and the console command ``kdc``: options, settings, service."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.application.service import IService
from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.etcd import (
    ETCD_OPTIONS,
    ETCD_VALUES,
    confirm_seconds,
    etcd_of,
    node_of,
    store_path,
    with_store_table,
)
from kdc.commands.hints import complain
from kdc.commands.options import (
    LOG_FORMAT_OPTION,
    Limited,
    host_of,
    log_file,
    log_format_of,
    realm_of,
    server_endpoints,
    status_endpoint,
    whole_number,
)
from kdc.commands.process_limits import set_limits
from kdc.commands.twistd import Shell, ends_twistd, leave_twistd, say_in_log
from kdc.errors import KDCError
from kdc.issuing.decisions import Enrolment
from kdc.issuing.realm import everybody
from kdc.limits import Limits
from kdc.net.clock import use_monotonic_timers
from kdc.net.exit_status import say
from kdc.net.notify import Notify
from kdc.net.sockets import is_local_endpoint
from kdc.net.threads import take_short_turns
from kdc.protocol.directory import DIRECTORY
from kdc.protocol.names import fold_name
from kdc.relay.limits import RelayLimits
from kdc.server.audit_log import is_standard_stream
from kdc.server.kerberos_settings import KerberosSettings
from kdc.server.policy import LIMITS, Policy, read_policy
from kdc.server.service import KDCService, KDCSettings
from kdc.watch.settings import StatusSettings

__all__ = ["Options", "for_clients", "makeService", "service_of", "settings_of"]

S = TypeVar("S", bound=KDCService)

DEFAULT_LIFETIME_SECONDS = 300


class Options(Limited):
    """Options of the KDC."""

    synopsis = (
        "kdc -p PORT [-f pwd.txt] [-o out.txt] [options]\n       kdc admin --help\n"
        "       kdc relay --help\n"
        "       kdc quick --help\n       kdc completion bash|zsh|fish"
    )
    longdesc = (
        "The key distribution centre: keeps the registered principals and makes session"
        " keys for pairs of them."
    )
    optValues = {
        "status-token-file": "file",
        "file": "file",
        "log-format": "text json",
        "output": "file",
        "config": "file",
        "tls-key": "file",
        "tls-certificate": "file",
        "master-key": "file",
        "generation-file": "file",
        **ETCD_VALUES,
    }
    optRepeated = ("port", "host", "limit")
    optParameters = [
        ["file", "f", None, "the principal database, by default pwd.txt; made if it is missing"],
        *ETCD_OPTIONS,
        ["output", "o", None, "the activity log, e.g. out.txt, or - for standard output"],
        LOG_FORMAT_OPTION,
        [
            "config",
            "c",
            None,
            (
                "a TOML file with enrol, lifetime, limits and who may reach whom,"
                " read again at SIGHUP; options given here count more"
            ),
        ],
        ["realm", None, "LOCAL", "the realm; must be the same at the clients"],
        [
            "enrol",
            None,
            None,
            (
                "who may register a new name: open, invite or closed;"
                " by default open if only this machine can reach the port, otherwise invite"
            ),
        ],
        ["lifetime", None, None, "seconds in which a ticket must be used, 10 to 3600; 300"],
        [
            "tls-key",
            None,
            None,
            (
                "PEM file with the TLS key; by default one is made beside"
                " the database at the first start"
            ),
        ],
        ["tls-certificate", None, None, "PEM file with the certificate chain for --tls-key"],
        [
            "master-key",
            None,
            None,
            "the key file that the database is sealed under; by default beside it",
        ],
        [
            "generation-file",
            None,
            None,
            (
                "where to remember how new the database is, to notice"
                " an old backup; by default beside it"
            ),
        ],
        [
            "directory",
            None,
            None,
            (
                "port on 127.0.0.1, or a Twisted endpoint such as tcp:12346, where clients may ask"
                " who is registered and receives (kdcclient who); without it nobody can"
            ),
        ],
        [
            "relay",
            None,
            None,
            (
                "port on 127.0.0.1, or a Twisted endpoint such as tcp:60600, where receivers that"
                " cannot be reached are reached through us; without it there is no relay here"
            ),
        ],
        [
            "status",
            None,
            None,
            (
                "port on 127.0.0.1, or a Twisted endpoint such as tcp:127.0.0.1:9464, where we are"
                " watched: a page, figures for Prometheus, whether we are ready;"
                " without it there is none"
            ),
        ],
        [
            "status-token-file",
            None,
            None,
            "what one must show there; needed where other machines can connect",
        ],
        [
            "kerberos",
            None,
            None,
            (
                "where Kerberos clients ask, such as udp:88,tcp:88; without it nobody can."
                "  See kdc admin kerberos enable"
            ),
        ],
        [
            "kerberos-tickets",
            None,
            None,
            (
                "port on 127.0.0.1, or a Twisted endpoint such as tcp:12347, where kdcclient kinit"
                " and keytab get theirs; by default a free port beside our own"
            ),
        ],
        ["directory-name", None, DIRECTORY, "the name of the principal that answers there"],
    ]
    optFlags = [
        ["accept-rollback", None, "start with a database that is older than the last one seen"],
    ]

    limits = LIMITS

    def __init__(self) -> None:
        super().__init__()
        self["port"] = []
        self["host"] = []

    def opt_port(self, value: str) -> None:
        """port on 127.0.0.1, or a Twisted endpoint such as tcp:12345; may be repeated"""
        self["port"].append(server_endpoints(value))

    opt_p = opt_port

    def opt_host(self, value: str) -> None:
        """a name or address that a certificate made here is for; may be repeated"""
        self["host"].append(host_of(value))

    def parseArgs(self, *words: str) -> None:
        if words:
            raise usage.UsageError(f"Unknown command: {words[0][:80]}")

    def postOptions(self) -> None:
        if not self["port"]:
            raise usage.UsageError("no port: give one with --port")


def settings_of(options: Options) -> KDCSettings:
    """Combine options and configuration file; called again at SIGHUP.

    Raises `usage.UsageError` or `KDCError`.
    """
    endpoints = tuple(options["port"])
    policy = _policy(options)
    place = with_store_table(options, policy.store)
    local = all(map(is_local_endpoint, endpoints))
    return KDCSettings(
        store=store_path(place),
        endpoints=endpoints,
        output=_log(options),
        log_format=log_format_of(options["log-format"] or policy.log_format or "text"),
        realm=realm_of(options),
        enrolment=policy.enrolment or (Enrolment.OPEN if local else Enrolment.INVITE),
        lifetime_seconds=policy.lifetime_seconds or DEFAULT_LIFETIME_SECONDS,
        limits=Limits(**policy.limits),
        permits=policy.permits or everybody,
        tls_key=absolute(options["tls-key"]),
        tls_certificate=absolute(options["tls-certificate"]),
        master_key=absolute(options["master-key"]),
        generation=absolute(options["generation-file"]),
        accept_rollback=bool(options["accept-rollback"]),
        hosts=tuple(options["host"]),
        directory=server_endpoints(options["directory"]) if options["directory"] else None,
        directory_name=_name(options["directory-name"]),
        relay=server_endpoints(options["relay"]) if options["relay"] else None,
        relay_limits=RelayLimits(**policy.relay_limits),
        status=_status(options, policy),
        confirm_seconds=confirm_seconds(place),
        etcd=etcd_of(place),
        node=node_of(place),
        kerberos=_kerberos(options, policy),
    )


def _kerberos(options: Options, policy: Policy) -> KerberosSettings | None:
    if options["kerberos"] is None:
        if options["kerberos-tickets"] is not None:
            raise usage.UsageError("a place for tickets, but no Kerberos: give --kerberos")
        return None
    realm = realm_of(options)
    if realm != realm.upper():
        raise usage.UsageError(
            f"Kerberos wants a realm in capital letters: --realm {realm.upper()}"
        )
    endpoints = tuple(filter(None, (part.strip() for part in options["kerberos"].split(","))))
    unknown = [each for each in endpoints if ":" not in each]
    if unknown or not endpoints:
        raise usage.UsageError("--kerberos takes endpoints, such as udp:88,tcp:88")
    tickets = options["kerberos-tickets"]
    return KerberosSettings(
        endpoints=endpoints,
        tickets=server_endpoints(tickets) if tickets else "",
        advice="nobody has a password here: kdcclient kinit, or kinit -k with a keytab",
        **policy.kerberos,  # type: ignore[arg-type]
    )


def _status(options: Options, policy: Policy) -> StatusSettings | None:
    endpoint = options["status"] or policy.status.get("endpoint")
    token_file = options["status-token-file"] or policy.status.get("token-file")
    if endpoint is None:
        if token_file is not None:
            raise usage.UsageError("a token for the status port, but no port: give --status")
        return None
    return StatusSettings(status_endpoint(endpoint), absolute(token_file), tuple(options["host"]))


def _log(options: Options) -> Path | None:
    path = log_file(options["output"])
    twistd = options.parent
    if twistd is not None and not twistd["nodaemon"] and path and is_standard_stream(path):
        raise usage.UsageError("a daemon has no standard streams: use twistd -n, or name a file")
    return path


def _name(typed: str) -> str:
    try:
        return fold_name(typed)
    except ValueError as error:
        raise usage.UsageError(str(error)) from None


def _policy(options: Options) -> Policy:
    given: dict[str, Any] = {"limits": options["limit"]}
    if options["enrol"] is not None:
        given["enrol"] = options["enrol"]
    if options["lifetime"] is not None:
        given["lifetime"] = whole_number(options["lifetime"], 1, 10**9, "--lifetime")
    policy = Policy.of(given)
    # Made absolute once: a daemon has another directory when it reads it again.
    for name in ETCD_VALUES:
        options[name] = absolute(options[name])
    path = options["config"] = absolute(options["config"])
    return policy if path is None else policy.over(read_policy(path))


def service_of(
    kind: type[S],
    options: Options,
    reactor: Any,
    give_up: Callable[[KDCError], None],
    tell: Callable[[str], None] = say,
) -> S:
    """The KDC that was asked for, not yet started.  Raises `usage.UsageError` or `KDCError`."""
    return kind(
        settings_of(options),
        reactor,
        tell,
        lambda: settings_of(options),
        give_up,
        for_clients,
        Notify.from_environment(os.environ, reactor),
    )


def for_clients(host: str, port: int, fingerprint: str) -> list[str]:
    """What people with clients have to type, for the operator to tell them."""
    where = {"0.0.0.0": "THIS-HOST", "::": "THIS-HOST"}.get(host, host)  # noqa: S104
    words = f"receive -n NAME --inbox . -a {where} -p {port} --kdc-fingerprint {fingerprint}"
    return [f"kdc: clients: kdcclient {words}"]


class _Twistd(KDCService):
    """Under twistd an error at the start must end it with its status, not with a traceback."""

    shell: Shell | None = None

    def privilegedStartService(self) -> None:
        say_in_log("kdc")
        with ends_twistd("kdc", self.shell):
            super().privilegedStartService()
        if self.shell is not None:
            self.shell.started()


def makeService(options: Any) -> IService:
    from twisted.internet import reactor

    set_limits()
    use_monotonic_timers(reactor)
    take_short_turns()
    with ends_twistd("kdc"):
        service = service_of(
            _Twistd, options, reactor, lambda error: leave_twistd(reactor, complain("kdc", error))
        )
    if options.parent is not None:
        service.shell = Shell(options.parent)
    return service
