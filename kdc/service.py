"""The KDC as a Twisted service: store, certificate, log and ports, in order, and back."""

from __future__ import annotations

import datetime as dt
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import blockingCallFromThread, deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from kdc.administration import Context, administer
from kdc.adminserver import AdminFactory, SocketPath
from kdc.auditlog import AuditLog
from kdc.background import background
from kdc.clock import use_monotonic_timers
from kdc.errors import ConfigurationError, KDCError, LocalIOError
from kdc.issuer import Audit, Enrolment, Issuer
from kdc.partial import local_error
from kdc.rates import Limits
from kdc.secret import others_can_read
from kdc.server import KDCFactory, tls_factory
from kdc.store import Record
from kdc.store.flatfile import FlatFileStore
from kdc.storewriter import StoreWriter
from kdc.tls import ServerTLS, make_certificate

__all__ = ["KDCService", "KDCSettings", "load_tls", "renew_tls"]

_MAX_TLS_FILE = 1 << 20
_OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
# A pwd.txt of this many principals is written in a few milliseconds.
_FOLD_RECORDS = 10_000
_FOLD_SECONDS = 1.0


@attrs.frozen
class KDCSettings:
    """What a KDC is told; paths are absolute.

    ``endpoints``: Twisted server endpoint strings.  ``hosts``: the names and
    addresses that clients reach us by, besides this machine's own.
    """

    store: Path
    endpoints: tuple[str, ...]
    output: Path | None = None
    realm: str = "LOCAL"
    enrolment: Enrolment = Enrolment.OPEN
    lifetime_seconds: int = 300
    limits: Limits = attrs.field(factory=Limits)
    tls_key: Path | None = None
    tls_certificate: Path | None = None
    master_key: Path | None = None
    generation: Path | None = None
    accept_rollback: bool = False
    hosts: tuple[str, ...] = ()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TLS_FILE)
    except OSError as error:
        raise local_error(path, error) from None


def _create(path: Path, content: bytes) -> None:
    """Make a new file, whole and durable, readable by its owner only."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    os.link(temporary, path)
    temporary.unlink()


def load_tls(settings: KDCSettings) -> ServerTLS:
    """Read the KDC's TLS key and certificate; make them if none were given or made before.

    One file beside the store holds both, so that they cannot be torn apart.
    Raises `KDCError`.
    """
    if settings.tls_key is not None and settings.tls_certificate is not None:
        return ServerTLS(_private(settings.tls_key), _read(settings.tls_certificate))
    if settings.tls_key is not None or settings.tls_certificate is not None:
        raise ConfigurationError("--tls-key and --tls-certificate go together")
    path = _own_tls(settings)
    if not path.exists():
        key, certificate = make_certificate((*settings.hosts, *_OWN_HOSTS), dt.datetime.now(dt.UTC))
        try:
            _create(path, key + certificate)
        except OSError as error:
            raise local_error(path, error) from None
    both = _private(path)
    return ServerTLS(both, both)


def renew_tls(settings: KDCSettings) -> ServerTLS:
    """Put a new key and certificate in the place of those that were made here.

    The old file is kept beside it, under the ending ``.old``.  Raises `KDCError`.
    """
    if settings.tls_key is not None:
        raise ConfigurationError(
            "this KDC was given its TLS key, it did not make it",
            hint="replace the files of --tls-key and --tls-certificate, then send SIGHUP",
        )
    path = _own_tls(settings)
    try:
        if path.exists():
            path.replace(path.with_name(f"{path.name}.old"))
    except OSError as error:
        raise local_error(path, error) from None
    return load_tls(settings)


def _own_tls(settings: KDCSettings) -> Path:
    return settings.store.with_name(f"{settings.store.name}.tls")


def _private(path: Path) -> bytes:
    """Read a secret file, which nobody else may be able to."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise local_error(path, error) from None
    if others_can_read(path, mode):
        raise ConfigurationError(
            f"{path} can be read by others than its owner", hint=f"chmod 600 {path}"
        )
    return _read(path)


class KDCService(Service):
    """One KDC.  Whatever stops it from starting is raised by ``privilegedStartService``."""

    log = Logger()

    def __init__(
        self,
        settings: KDCSettings,
        reactor: Any,
        say: Callable[[str], None] = lambda line: None,
        read_again: Callable[[], KDCSettings] | None = None,
    ) -> None:
        use_monotonic_timers(reactor)
        self.settings = settings
        self._reactor = reactor
        self._say = say
        self._read_again = read_again or (lambda: settings)
        self._ports: list[Any] = []
        self._pool = ThreadPool(minthreads=0, maxthreads=1, name="kdc-store")
        self._log_pool = ThreadPool(minthreads=0, maxthreads=1, name="kdc-log")
        self._admin = SocketPath(settings.store)
        self._folding: IDelayedCall | None = None

    def privilegedStartService(self) -> None:
        """Open the store, then the ports: who can connect is answered from a whole store."""
        settings = self.settings
        self.tls = load_tls(settings)
        self.store = FlatFileStore.open(
            settings.store,
            realm=settings.realm,
            key_path=_text(settings.master_key),
            generation_path=_text(settings.generation),
            accept_rollback=settings.accept_rollback,
        )
        try:
            self._build()
            self._listen()
            self._listen_for_operator()
        except BaseException:
            self.audit.close()
            self.store.close()
            raise

    def startService(self) -> None:
        if not self._ports:
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]
        for pool in (self._pool, self._log_pool):
            pool.start()
        self._unwatch = self.store.watch(self._changed)
        self.audit.add(Audit("started", "", "", f"{len(self.store)} principals"))
        for line in (*self.store.notes, *self.greeting()):
            self._say(line)
        # SIGHUP would otherwise end twistd without stopService.
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """Read configuration and certificate again; begin a new log file if the old was moved.

        What cannot be used leaves everything as it was.  Ports, realm and files
        stay as they were at the start.
        """
        try:
            settings = self._read_again()
            tls = load_tls(self.settings)
            self.audit.reopen()
        except (KDCError, OSError) as error:
            self.log.error("not reloaded, the old state stays: {error}", error=error)
            self.audit.add(Audit("reload-failed", "", "", str(error)))
            return
        self.tls.replace_by(tls)
        self.factory.issuer.govern(settings.enrolment, settings.lifetime_seconds, settings.limits)
        self.factory.limit(settings.limits)
        self.audit.add(Audit("reloaded", "", "", self.tls.fingerprint))

    def greeting(self) -> list[str]:
        """What the operator sees first: where, who, and what a client has to type."""
        lines = []
        for port in self._ports:
            where = port.getHost()
            if not hasattr(where, "port"):
                continue
            host, number = getattr(where, "host", ""), getattr(where, "port", "")
            lines.append(f"kdc: realm {self.settings.realm} listening on {host} port {number}")
            shown = {"0.0.0.0": "THIS-HOST", "::": "THIS-HOST"}.get(host, host)  # noqa: S104
            lines.append(
                f"kdc: clients: kdcclient receive -n NAME --inbox . -a {shown} -p {number}"
                f" --kdc-fingerprint {self.tls.fingerprint}"
            )
        lines.append(f"kdc: fingerprint {self.tls.fingerprint}")
        lines.append(
            f"kdc: {len(self.store)} principals in {self.settings.store};"
            f" new names: {self.settings.enrolment.value}"
        )
        return lines

    def _build(self) -> None:
        settings, reactor = self.settings, self._reactor

        def run_in(pool: ThreadPool) -> Callable[..., Deferred[Any]]:
            return lambda call, *args: deferToThreadPool(reactor, pool, call, *args)

        self.audit = AuditLog(settings.output, clock=reactor, run=run_in(self._log_pool))
        try:
            self.audit.open()
        except OSError as error:
            raise local_error(settings.output or Path("-"), error) from None
        issuer = Issuer(
            realm=settings.realm,
            find=self.store.get,
            audit=self.audit.add,
            random=os.urandom,
            enrolment=settings.enrolment,
            lifetime_seconds=settings.lifetime_seconds,
            limits=settings.limits,
        )
        self._in_store_thread = run_in(self._pool)
        self.writer = StoreWriter(self.store, self._in_store_thread)
        self.factory = KDCFactory(issuer, self.writer, clock=reactor, limits=settings.limits)

    def _listen(self) -> None:
        from twisted.internet.endpoints import serverFromString

        factory = tls_factory(self.factory, self.tls, self._reactor)
        for description in self.settings.endpoints:
            try:
                listening = serverFromString(self._reactor, description).listen(factory)
            except (ValueError, TypeError, KeyError) as error:
                raise ConfigurationError(f"not an endpoint: {description!r}: {error}") from None
            failed: list[Any] = []
            _ = listening.addCallbacks(self._ports.append, failed.append)
            if failed:
                failed[0].trap(CannotListenError, OSError)
                raise LocalIOError(
                    f"cannot listen on {description}: {_why(failed[0].value)}",
                    hint="is another program, or another KDC, using that port?",
                )

    def _listen_for_operator(self) -> None:
        """Open the local socket of ``kdc admin``.

        We hold the store's lock, so a socket that is there is a dead one of ours.
        """
        factory = AdminFactory(
            lambda request: self._in_store_thread(administer, self.store, request, self._context()),
            self._in_store_thread,
        )
        self._admin.path.unlink(missing_ok=True)
        port = self._reactor.listenUNIX(self._admin.usable, factory, mode=0o600, wantPID=0)
        self._ports.append(port)

    def _context(self) -> Context:
        """What an operator's command works with; used in the store's thread."""

        def in_reactor(call: Callable[..., Any], *args: Any) -> Any:
            return blockingCallFromThread(self._reactor, call, *args)

        return Context(
            now=int(time.time()),
            random=os.urandom,
            audit=lambda event, name, detail: in_reactor(
                self.audit.add, Audit(event, name, "local", detail)
            ),
            where=self._where,
            rotate_tls=lambda: in_reactor(self._renew_tls),
            rotate_master_key=self.store.rotate_master_key,
            more_stats=lambda: in_reactor(self._stats),
        )

    def _where(self) -> tuple[str, int, str]:
        """Where clients reach us, as far as we know."""
        bound = self._ports[0].getHost()
        host = self.settings.hosts[0] if self.settings.hosts else getattr(bound, "host", "")
        if host in ("0.0.0.0", "::"):  # noqa: S104 - any: that is no address to go to
            host = ""
        return host, getattr(bound, "port", 0), self.tls.fingerprint

    def _renew_tls(self) -> str:
        self.tls.replace_by(renew_tls(self.settings))
        return self.tls.fingerprint

    def _stats(self) -> dict[str, Any]:
        return {
            "connections": len(self.factory),
            "receiving": len(self.factory.issuer.receiving),
            "generation": self.store.generation,
            "trouble": self.store.trouble,
            "fingerprint": self.tls.fingerprint,
        }

    def _changed(self, record: Record) -> None:
        """Called by the store, in its thread."""
        self._reactor.callFromThread(self.factory.record_changed, record)
        self._reactor.callFromThread(self._fold_soon)

    def _fold_soon(self) -> None:
        """Bring a small pwd.txt up to date for those who read it, once it is quiet."""
        if self._folding is None and len(self.store) <= _FOLD_RECORDS:
            self._folding = self._reactor.callLater(_FOLD_SECONDS, self._fold)

    def _fold(self) -> None:
        self._folding = None

        async def fold() -> None:
            await self._in_store_thread(self.store.fold)

        background(fold(), "folding the journal")

    async def _stop(self) -> None:
        """Stop listening, let what was begun come to its end, then close everything."""
        for port in self._ports:
            await port.stopListening()
        self._admin.close()
        self.factory.close_all()
        if self._folding is not None:
            self._folding.cancel()
        await self.writer.drain()
        self._unwatch()
        self.audit.add(Audit("stopped", "", ""))
        await self.audit.flush()
        for pool in (self._pool, self._log_pool):
            pool.stop()
        self.audit.close()
        self.store.close()


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _why(error: BaseException) -> str:
    cause = getattr(error, "socketError", error)
    return getattr(cause, "strerror", None) or str(cause)
