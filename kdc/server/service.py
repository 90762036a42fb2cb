"""The KDC as a Twisted service: store, certificate, log and ports, in order, and back."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from kdc.admin.log_lines import LogFormat
from kdc.admin.wire import SocketPath
from kdc.errors import ConfigurationError, ErrorKind, KDCError, LocalIOError, local_error
from kdc.issuing.current import confirmed_within
from kdc.issuing.decisions import Audit, Enrolment, Permit
from kdc.issuing.issuer import Issuer
from kdc.issuing.realm import Realm, everybody
from kdc.limits import Limits
from kdc.net.background import background
from kdc.net.log import Logger
from kdc.net.notify import Notify
from kdc.net.sockets import listen_at
from kdc.net.threads import in_thread
from kdc.net.tls import is_address
from kdc.protocol.directory import DIRECTORY
from kdc.protocol.kerberos import RECEIVER as KERBEROS
from kdc.protocol.relay import RELAY
from kdc.relay.limits import RelayLimits, RelaySettings
from kdc.relay.relay import Figures as RelayFigures
from kdc.server._connections import KDCFactory
from kdc.server._facts import Glance, Tally
from kdc.server._handshakes import tls_factory
from kdc.server._last_seen import LastSeen
from kdc.server._listeners import Listeners
from kdc.server._measured import Measured
from kdc.server._node import node_facts
from kdc.server._operators import AdminFactory, Operators
from kdc.server._residents import at_once
from kdc.server._status import Parts, checks_of, sampled
from kdc.server._store_writer import StoreWatch, StoreWriter
from kdc.server.audit_log import AuditLog, is_standard_stream
from kdc.server.certificate import TLSFiles
from kdc.server.kerberos_settings import KerberosSettings
from kdc.server.own_files import KEY_ENDS
from kdc.store import Record, StoreLost
from kdc.store.opened import open_store
from kdc.terminal import counted, shown
from kdc.watch.settings import StatusSettings

if TYPE_CHECKING:
    from kdc.server._directory import Directory
    from kdc.server._kerberos_service import OwnKerberos
    from kdc.server._relay import OwnRelay
    from kdc.store.etcd.api import EtcdSettings
    from kdc.watch.port import StatusPort

__all__ = ["KDCService", "KDCSettings"]

_ENDING = (signal.SIGTERM, signal.SIGINT)


@attrs.frozen
class KDCSettings:
    """What a KDC is told; paths are absolute.

    ``endpoints``: Twisted server endpoint strings.  ``hosts``: the names and
    addresses that clients reach us by, besides this machine's own.
    ``directory``, ``relay``, ``status`` and ``kerberos``: where they listen, if they are to be
    there.
    ``fold_seconds``: so long after a change people can read it in a small store.
    ``look_seconds``: so often, without a change, it is made sure that the store is ours.
    ``confirm_seconds``: nothing is decided on what was confirmed longer ago, where others
    can change the store, too.  ``etcd``: the store is there, and beside ``store`` is only
    what this node keeps for itself.  ``node``: what operators call it then.
    """

    store: Path
    endpoints: tuple[str, ...]
    output: Path | None = None
    log_format: LogFormat = LogFormat.TEXT
    realm: str = "LOCAL"
    enrolment: Enrolment = Enrolment.OPEN
    lifetime_seconds: int = 300
    limits: Limits = attrs.field(factory=Limits)
    permits: Permit = everybody
    tls_key: Path | None = None
    tls_certificate: Path | None = None
    master_key: Path | None = None
    generation: Path | None = None
    accept_rollback: bool = False
    hosts: tuple[str, ...] = ()
    directory: str | None = None
    directory_name: str = DIRECTORY
    relay: str | None = None
    relay_limits: RelayLimits = attrs.field(factory=RelayLimits)
    status: StatusSettings | None = None
    fold_seconds: float = 1.0
    look_seconds: float = 5.0
    confirm_seconds: float = 10.0
    etcd: EtcdSettings | None = None
    node: str = ""
    kerberos: KerberosSettings | None = None

    @property
    def where(self) -> str:
        """Where the principals are, for people."""
        file = shown(str(self.store), 4096)
        return file if self.etcd is None else f"etcd ({self.etcd.hosts})"

    @property
    def tls(self) -> TLSFiles:
        own = TLSFiles.beside(self.store).own
        return TLSFiles(own, self.tls_key, self.tls_certificate, self.hosts)


class KDCService(Service):
    """One KDC.  Whatever stops it from starting is raised by ``privilegedStartService``.

    ``give_up`` is called, once at most, with what keeps it from going on; it ends the
    process.  It comes in a turn of the reactor of its own.  ``for_clients`` makes of host,
    port and fingerprint what is said at the start for people with clients.  ``notify`` tells
    systemd how we are.
    """

    log = Logger()

    def __init__(
        self,
        settings: KDCSettings,
        reactor: Any,
        say: Callable[[str], None] = lambda line: None,
        read_again: Callable[[], KDCSettings] | None = None,
        give_up: Callable[[KDCError], None] = lambda error: None,
        for_clients: Callable[[str, int, str], list[str]] = lambda *where: [],
        notify: Notify | None = None,
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self._say = say
        self._read_again = read_again or (lambda: settings)
        self._give_up = give_up
        self._for_clients = for_clients
        self._notify = notify
        self._lost = False
        self._ports: list[Any] = []
        self._pool = ThreadPool(minthreads=0, maxthreads=1, name="kdc-store")
        self._log_pool = ThreadPool(minthreads=0, maxthreads=1, name="kdc-log")
        # Who lists a million principals must not keep registrations waiting.
        self._reading_pool = ThreadPool(minthreads=0, maxthreads=1, name="kdc-reading")
        self._admin = SocketPath(settings.store)
        self._directory: Directory | None = None
        self._relay: OwnRelay | None = None
        self._kerberos: OwnKerberos | None = None
        self._measured = None if settings.status is None else Measured()
        self._status: StatusPort | None = None
        self._hangup_before: Any = signal.SIG_DFL

    def privilegedStartService(self) -> None:
        """Open the store, then the ports: who can connect is answered from a whole store."""
        settings = self.settings
        # Before all else: its lock keeps two of us from making the other files.
        self.store = open_store(
            settings.store,
            realm=settings.realm,
            key_path=settings.master_key,
            generation_path=settings.generation,
            accept_rollback=settings.accept_rollback,
            synced=None if self._measured is None else self._synced,
            etcd=settings.etcd,
            confirm_seconds=settings.confirm_seconds,
        )
        self._makes = self._to_be_made()
        try:
            self._check_tls()
            self.tls = settings.tls.load_or_make()
            self._build()
            self._listen()
            self._directory = self._open_directory()
            self._relay = self._open_relay()
            self._kerberos = self._open_kerberos()
            self._status = self._open_status()
            self._listen_for_operator()
        except BaseException:
            self._abandon()
            raise

    def _check_tls(self) -> None:
        """Refuse to be somebody else than the other nodes: clients know one fingerprint of all."""
        own = self.settings.tls.own
        if self.settings.etcd is None or self.store.made or self.settings.tls_key is not None:
            return
        if not os.path.lexists(own):
            raise ConfigurationError(
                f"{own} is missing: each node of a realm has the same TLS key",
                hint="copy that file from another node, by a safe way, as the master key",
            )

    def _to_be_made(self) -> list[Path]:
        """The files beside the store that a start will make: who fails removes them again."""
        settings = self.settings
        # The keys of those who live here are as old as their names are in the store.
        ends = KEY_ENDS if self.store.made else (".tls",)
        paths = [settings.store.with_name(f"{settings.store.name}{end}") for end in ends]
        if settings.output is not None and not is_standard_stream(settings.output):
            paths.append(settings.output)
        return [path for path in paths if not os.path.lexists(path)]

    def startService(self) -> None:
        if not self._ports:
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]
        for pool in self._pools:
            pool.start()
        self._watch.start()
        self._announce(self.settings)
        here = f", node {self.settings.node}" if self.settings.node else ""
        self._tell(Audit("started", "", "", f"{len(self.store)} principals{here}"))
        # SIGHUP would otherwise end twistd without stopService.  Before anybody is told that
        # we are here, and may send it.
        self._hangup_before = signal.signal(
            signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload)
        )
        for note in self.store.notes:
            self.log.warn("{note}", note=note)  # noqa: G010 - the name that Twisted has for it
        for line in self.greeting():
            self._say(line)
        if self._directory is not None:
            self._directory.start()
        if self._relay is not None:
            self._relay.start()
        if self._kerberos is not None:
            self._kerberos.start()
        if self._status is not None:
            self._status.start()
        if self._notify is not None:
            # Once the reactor turns.
            self._reactor.callLater(0, self._notify.ready, f"{len(self.store)} principals")

    def stopService(self) -> Deferred[None]:
        if self._notify is not None:
            self._notify.stopping()
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """Read configuration and certificate again; begin a new log file if the old was moved.

        What cannot be used leaves everything as it was.  Ports, realm and files
        stay as they were at the start.
        """
        if self._notify is not None:
            self._notify.reloading()
        self._reload()
        if self._notify is not None:
            self._notify.ready()

    def _reload(self) -> None:
        try:
            settings = self._read_again()
            tls = self.settings.tls.load()
            self._open_log()
        except KDCError as error:
            self.log.error("not reloaded, the old state stays: {error}", error=error)
            self._tell(Audit("reload-failed", "", "", str(error)))
            return
        self.tls.replace_by(tls)
        self.audit.log_format = settings.log_format
        self.factory.issuer.realm.govern(
            settings.enrolment, settings.lifetime_seconds, settings.limits, settings.permits
        )
        self.factory.limit(settings.limits)
        if self._relay is not None:
            self._relay.limit(settings.relay_limits)
        self._announce(settings)
        if self._kerberos is not None and settings.kerberos is not None:
            self._kerberos.govern(settings.kerberos)
        self._tell(Audit("reloaded", "", "", self.tls.fingerprint))

    def _announce(self, settings: KDCSettings) -> None:
        """Tell the other nodes of us, if there can be others."""
        if self.store.nodes is not None:
            self.store.nodes.announce(node_facts(settings, self._ports))

    def _open_log(self) -> None:
        try:
            self.audit.reopen()
        except OSError as error:
            raise local_error(self.settings.output or Path("-"), error) from None

    def greeting(self) -> list[str]:
        """What the operator sees first: where, who, and what clients have to know."""
        lines = []
        for port in self._ports:
            where = port.getHost()
            if not isinstance(where, IPv4Address | IPv6Address):
                continue
            host, number = where.host, where.port
            lines.append(f"kdc: realm {self.settings.realm} listening on {host} port {number}")
            lines += self._for_clients(host, number, self.tls.fingerprint)
        lines.append(f"kdc: fingerprint {self.tls.fingerprint}")
        lines.append(
            f"kdc: {counted(len(self.store), 'principal')} in {self.settings.where};"
            f" new names: {self.settings.enrolment.value}"
        )
        return lines

    def _build(self) -> None:
        settings, reactor = self.settings, self._reactor

        measured, self._tally = self._measured, Tally()
        self.audit = AuditLog(
            settings.output,
            clock=reactor,
            run=in_thread(reactor, self._log_pool),
            log_format=settings.log_format,
            shown=self._shown,
        )
        self._open_log()
        self._last_seen = LastSeen(time.time)
        listeners = Listeners(self.audit.add)
        self._last_seen.hear(listeners)
        self._tally.hear(listeners)
        if measured is not None:
            measured.hear(listeners)
        self._tell = listeners.tell
        realm = Realm(
            settings.realm,
            find=self.store.get,
            audit=self._tell,
            random=os.urandom,
            enrolment=settings.enrolment,
            lifetime_seconds=settings.lifetime_seconds,
            limits=settings.limits,
            permits=settings.permits,
        )
        in_store_thread = in_thread(reactor, self._pool)
        # Whoever finds out that the store is another's: a change, a fold, an operator, a look.
        self._in_store_thread = lambda *call: in_store_thread(*call).addErrback(self._if_lost)
        self._in_reading_thread = in_thread(reactor, self._reading_pool)
        run = self._in_store_thread
        self.writer = StoreWriter(self.store, run if measured is None else measured.write_run(run))
        current = self._current = confirmed_within(self.store, int(1000 * settings.confirm_seconds))
        make = Issuer if measured is None else measured.issuer
        issuer = make(realm, current)
        self.factory = KDCFactory(issuer, self.writer, clock=reactor, limits=settings.limits)
        self._watch = StoreWatch(
            self.store,
            self._in_store_thread,
            reactor,
            self._record_changed,
            settings.fold_seconds,
            settings.look_seconds,
            self._store_troubled,
        )

    def _shown(self, lines: Sequence[tuple[Audit, float]]) -> None:
        self._tally.note(lines)
        if self._measured is not None:
            self._measured.keep(lines)

    def _store_troubled(self, trouble: str) -> None:
        if trouble:
            self._tell(Audit("store-trouble", "", "", trouble))
        else:
            self._tell(Audit("store-well", "", ""))

    def _relayed(self) -> RelayFigures | None:
        return None if self._relay is None else self._relay.figures

    def _record_changed(self, record: Record) -> None:
        self.factory.record_changed(record)
        if self._relay is not None:
            self._relay.record_changed(record)

    def _listen(self) -> None:
        factory = tls_factory(self.factory, self.tls, self._reactor)
        hint = "is another program using that port?"
        kind = ErrorKind.KDC_PORT_IN_USE
        for description in self.settings.endpoints:
            listening = Deferred.fromCoroutine(
                listen_at(self._reactor, description, factory, hint=hint, kind=kind)
            )
            failed: list[Failure] = []
            _ = listening.addCallbacks(self._ports.append, failed.append)
            if failed:
                failed[0].raiseException()

    def _listen_for_operator(self) -> None:
        """Open the local socket of ``kdc admin``.

        We hold the store's lock, so a socket that is there is a dead one of ours.
        """
        operators = Operators(
            store=self.store,
            audit=self.audit,
            factory=self.factory,
            last_seen=self._last_seen,
            tls=self.tls,
            renew_tls=self.settings.tls.renew,
            where=self._where,
            in_reactor=self._reactor.callFromThread,
            read=self._in_reading_thread,
            write=self._in_store_thread,
            glance=Glance(
                store=self.store,
                audit=self.audit,
                factory=self.factory,
                tls=self.tls,
                tally=self._tally,
                relay=self._relayed,
            ),
        )
        self.operators = AdminFactory(operators.begin)
        try:
            self._admin.path.unlink(missing_ok=True)
            port = self._reactor.listenUNIX(
                self._admin.open(), self.operators, mode=0o600, wantPID=0
            )
        except (CannotListenError, OSError) as error:
            raise LocalIOError(
                f"cannot listen on {self._admin.path}: {_why(error)}",
                hint="operators need that socket; check the permissions of the directory",
            ) from None
        self._ports.append(port)

    def _open_directory(self) -> Directory | None:
        """Open our own receiver that tells who is there, if one is wanted."""
        settings = self.settings
        if settings.directory is None:
            return None
        from kdc.server._directory import (  # the client's half of it all
            Directory,
            DirectorySettings,
        )

        name = settings.store.name
        directory = Directory(
            DirectorySettings(
                settings.directory,
                settings.store.with_name(f"{name}.directory"),
                settings.directory_name,
            ),
            self._reactor,
            realm=self.factory.issuer.realm,
            store=self.store,
            read=self._in_reading_thread,
            fingerprint=lambda: self.tls.fingerprint,
            say=self._say,
            unix_time=time.time,
        )
        directory.open(*self._from_here())
        return directory

    def _open_relay(self) -> OwnRelay | None:
        """Open our own relay, if one is wanted."""
        settings = self.settings
        if settings.relay is None:
            return None
        from kdc.server._relay import OwnRelay
        from kdc.server._residents import Resident

        key_file = settings.store.with_name(f"{settings.store.name}.relay")
        taken = ErrorKind.NAME_OF_RELAY_TAKEN
        client = Resident(RELAY, key_file, "relay", "free the name", taken).client(
            self._reactor,
            self.factory.issuer.realm,
            self.store,
            lambda: self.tls.fingerprint,
            self._from_here(),
            int(time.time()),
        )
        told = next(filter(is_address, settings.hosts), "")
        return OwnRelay(
            client,
            RelaySettings(settings.relay, told, settings.relay_limits),
            realm=self.factory.issuer.realm,
            say=self._say,
        )

    def _open_kerberos(self) -> OwnKerberos | None:
        """Open the ports for Kerberos, if they are wanted."""
        settings = self.settings
        if settings.kerberos is None:
            return None
        from kdc.server._kerberos_service import OwnKerberos  # which no other KDC loads
        from kdc.server._residents import Resident

        key_file = settings.store.with_name(f"{settings.store.name}.kerberos")
        client = Resident(
            KERBEROS,
            key_file,
            "receiver of Kerberos",
            "free the name",
            ErrorKind.NAME_OF_KERBEROS_TAKEN,
        ).client(
            self._reactor,
            self.factory.issuer.realm,
            self.store,
            lambda: self.tls.fingerprint,
            self._from_here(),
            int(time.time()),
        )
        return OwnKerberos(
            settings.kerberos,
            client,
            getattr(self._ports[0].getHost(), "host", "127.0.0.1"),
            store=self.store,
            issuing=self.factory.issuer.realm,
            current=self._current,
            write=self.writer.submit,
            tell=self._tell,
            say=self._say,
        )

    def _open_status(self) -> StatusPort | None:
        """Open the port for whoever watches us, if there is to be one."""
        settings, measured = self.settings.status, self._measured
        if settings is None or measured is None:
            return None
        from kdc.server._page import KDCView
        from kdc.watch.page import StatusPage
        from kdc.watch.port import StatusPort  # with HTTP and all

        parts = Parts(
            store=self.store,
            audit=self.audit,
            factory=self.factory,
            tls=self.tls,
            measured=measured,
            ports=lambda: len(self._ports),
            relay=self._relayed,
            kerberos=lambda: None if self._kerberos is None else self._kerberos.counts,
        )
        measured.figures.sampled(sampled(parts))
        status = StatusPort(
            settings,
            self._reactor,
            figures=measured.figures,
            checks=checks_of(parts),
            page=StatusPage(KDCView(parts, self.settings.realm, self._in_reading_thread)),
            tls=self.tls,
            say=lambda line: self._say(f"kdc: {line}"),
        )
        at_once(status.listen())
        return status

    def _synced(self, seconds: float) -> None:
        """The store has waited so long for the disk; in a thread of its own."""
        if self._measured is not None:
            self._reactor.callFromThread(self._measured.syncs.observe, seconds)

    def _from_here(self) -> tuple[str, int]:
        """Where this process reaches itself."""
        for port in self._ports:
            where = port.getHost()
            host, number = getattr(where, "host", ""), getattr(where, "port", 0)
            if host and number:
                return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), number  # noqa: S104
        raise ConfigurationError("the directory, the relay and Kerberos need a TCP port of the KDC")

    def _if_lost(self, failure: Failure) -> Failure:
        """End if the store is another's: what is answered from memory may be old already."""
        if failure.check(StoreLost) and not self._lost:
            self._lost = True
            self._tell(Audit("store-lost", "", "", str(failure.value)))
            # Later: who waits for this call is to hear of it first.
            self._reactor.callLater(0, self._give_up, failure.value)
        return failure

    def _where(self) -> tuple[str, int]:
        """Where clients reach us, as far as we know."""
        bound = self._ports[0].getHost()
        host = self.settings.hosts[0] if self.settings.hosts else getattr(bound, "host", "")
        if host in ("0.0.0.0", "::"):  # noqa: S104 - any: that is no address to go to
            host = ""
        return host, getattr(bound, "port", 0)

    @property
    def _pools(self) -> tuple[ThreadPool, ...]:
        return self._pool, self._reading_pool, self._log_pool

    def _abandon(self) -> None:
        """Give back what a start that failed has taken, and remove what it has made.

        Nobody can have come to the ports yet: nothing was promised, no fingerprint was told.
        """
        if self._directory is not None:
            background(self._directory.stop(), "giving up the directory's port")
        if self._relay is not None:
            background(self._relay.stop(), "giving up the relay's port")
        if self._kerberos is not None:
            background(self._kerberos.stop(), "giving up the ports for Kerberos")
        if self._status is not None:
            background(self._status.stop(), "giving up the status port")
        while self._ports:
            self._ports.pop().stopListening()
        self._admin.close()
        if hasattr(self, "audit"):
            self.audit.close()
        for path in self._makes:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self.store.discard()

    async def _stop(self) -> None:
        """Stop listening, let what was begun come to its end, then close everything.

        Each step is taken whatever became of those before it: a store that stays
        locked is worse than anything they can leave behind.  Whoever does not want
        to wait sends a second signal, which ends the process at once; what was
        acknowledged is on the disk.
        """
        before = {number: signal.signal(number, signal.SIG_DFL) for number in _ENDING}
        before[signal.SIGHUP] = self._hangup_before
        for what, step in self._last_steps():
            try:
                await maybeDeferred(step)
            except OSError as error:
                self.log.error("stopping: {what}: {error}", what=what, error=str(error))
            except Exception:  # noqa: BLE001 - a defect, and the next step must be taken
                self.log.failure("stopping: {what} failed", what=what)
        for number, handler in before.items():
            signal.signal(number, handler)

    def _last_steps(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        while self._ports:
            yield "closing a port", self._ports.pop().stopListening
        yield "closing the operators' socket", self._admin.close
        yield "leaving the operators", self.operators.close_all
        if self._directory is not None:
            yield "ending the directory", self._directory.stop
        if self._relay is not None:
            yield "ending the relay", self._relay.stop
        if self._kerberos is not None:
            yield "ending Kerberos", self._kerberos.stop
        if self._status is not None:
            yield "ending the status port", self._status.stop
        yield "ending the connections", self.factory.close_all
        yield "writing what was begun", self.writer.drain
        for run in (self._in_store_thread, self._in_reading_thread):
            # Behind whatever an operator has begun, and what that has to say to the log.
            yield "finishing an operator's command", functools.partial(run, lambda: None)
        yield "leaving the store", self._watch.stop
        self._tell(Audit("stopped", "", ""))
        yield "writing the activity log", self.audit.flush
        for pool in self._pools:
            yield "ending a thread", pool.stop
        yield "closing the activity log", self.audit.close
        yield "closing the store", self.store.close


def _why(error: BaseException) -> str:
    cause = getattr(error, "socketError", error)
    return getattr(cause, "strerror", None) or str(cause)
