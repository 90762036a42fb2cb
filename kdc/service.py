"""The KDC as a Twisted service: store, certificate, log and ports, in order, and back."""

from __future__ import annotations

import datetime as dt
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from kdc.auditlog import AuditLog
from kdc.clock import use_monotonic_timers
from kdc.errors import ConfigurationError, KDCError, LocalIOError
from kdc.issuer import Audit, Enrolment, Issuer
from kdc.partial import local_error
from kdc.rates import Limits
from kdc.server import KDCFactory, tls_factory
from kdc.store import Record
from kdc.store.flatfile import FlatFileStore
from kdc.storewriter import StoreWriter
from kdc.tls import ServerTLS, make_certificate

__all__ = ["KDCService", "KDCSettings", "load_tls"]

_MAX_TLS_FILE = 1 << 20


@attrs.frozen
class KDCSettings:
    """What a KDC is told; paths are absolute.

    ``endpoints``: Twisted server endpoint strings.  ``hosts``: the names that a
    certificate made here is for.
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
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")


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
    path = settings.store.with_name(f"{settings.store.name}.tls")
    if not path.exists():
        key, certificate = make_certificate(settings.hosts, dt.datetime.now(dt.UTC))
        try:
            _create(path, key + certificate)
        except OSError as error:
            raise local_error(path, error) from None
    both = _private(path)
    return ServerTLS(both, both)


def _private(path: Path) -> bytes:
    """Read a secret file, which nobody else may be able to."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise local_error(path, error) from None
    if mode & 0o077:
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
    ) -> None:
        use_monotonic_timers(reactor)
        self.settings = settings
        self._reactor = reactor
        self._say = say
        self._ports: list[Any] = []
        self._pool = ThreadPool(minthreads=0, maxthreads=1, name="kdc-store")
        self._log_pool = ThreadPool(minthreads=0, maxthreads=1, name="kdc-log")

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
        for line in self.greeting():
            self._say(line)
        # SIGHUP would otherwise end twistd without stopService.
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """Read the certificate again and begin a new log file if the old one was moved.

        A certificate that cannot be used leaves the old one in service.
        """
        try:
            tls = load_tls(self.settings)
            self.audit.reopen()
        except (KDCError, OSError) as error:
            self.log.error("not reloaded, the old state stays: {error}", error=error)
            return
        self.tls.replace_by(tls)
        self.log.info("reloaded; fingerprint {fingerprint}", fingerprint=self.tls.fingerprint)

    def greeting(self) -> list[str]:
        """What the operator sees first: where, who, and what a client has to type."""
        lines = []
        for port in self._ports:
            where = port.getHost()
            host, number = getattr(where, "host", ""), getattr(where, "port", "")
            lines.append(f"kdc: realm {self.settings.realm} listening on {host} port {number}")
            shown = {"0.0.0.0": "THIS-HOST", "::": "THIS-HOST"}.get(host, host)  # noqa: S104
            lines.append(
                f"kdc: clients: kdcclient receiver -n NAME -a {shown} -p {number}"
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
        self.writer = StoreWriter(self.store, run_in(self._pool))
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

    def _changed(self, record: Record) -> None:
        """Called by the store, in its thread."""
        self._reactor.callFromThread(self.factory.record_changed, record)

    async def _stop(self) -> None:
        """Stop listening, let what was begun come to its end, then close everything."""
        for port in self._ports:
            await port.stopListening()
        self.factory.close_all()
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
