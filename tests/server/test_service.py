"""The KDC as a whole: how it starts, what keeps it from starting, how it is told, how it stops."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any, cast

import attrs
from cryptography import x509
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.python.usage import UsageError
from twisted.trial.unittest import TestCase

from kdc.admin.log_lines import LogFormat
from kdc.client.client import KDCClient
from kdc.client.identity import ClientTLS, Pin
from kdc.client.link import KDCLink
from kdc.commands.admin.database import AdminStore
from kdc.commands.client.who import everybody
from kdc.commands.tap import Options, makeService
from kdc.errors import (
    AuthenticationRefused,
    ConfigurationError,
    ErrorKind,
    ExitStatus,
    KDCError,
    KDCUnreachable,
    LocalIOError,
    NotReceiving,
    RefusedByPolicy,
    WrongIdentity,
)
from kdc.files.atomic import PartialFile
from kdc.issuing.decisions import Audit, Enrolment
from kdc.issuing.permits import Permits
from kdc.limits import Limits
from kdc.protocol.invitation import Invitation
from kdc.server.certificate import make_certificate
from kdc.server.service import KDCService, KDCSettings
from kdc.store import Status, StoreError, StoreLost
from kdc.store.flatfile._store import FlatFileStore
from kdc.store.opened import open_store
from kdc.store.sealed.files import Files
from tests.support.core import keys_of
from tests.support.processes import PATIENCE_SECONDS, reserved_port

reactor = cast(Any, _reactor)
LOOPBACK = "tcp:0:interface=127.0.0.1"
PUBLIC = bytes([9]) + bytes(31)


class ServiceTestCase(TestCase):
    """A KDC in this process, on a real port, with real files."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.store = self.directory / "pwd.txt"
        self.log = self.directory / "out.txt"
        self.said: list[str] = []
        self.services: list[KDCService] = []
        self.clients: list[KDCClient] = []
        self.addCleanup(self.stop_all)

    async def stop_all(self) -> None:
        for client in self.clients:
            client.close()
        while self.services:
            await self.stop(self.services[-1])
        # The clients' ends of the connections come down too.
        while any("KDCLink" in str(reader) or "TLS" in str(reader) for reader in self.readers()):
            await self.sleep(0.01)

    async def stop(self, service: KDCService) -> None:
        self.services.remove(service)
        await service.stopService()

    def readers(self) -> list[Any]:
        return [r for r in reactor.getReaders() if "Client" in type(r).__name__]

    async def sleep(self, seconds: float) -> None:
        await deferLater(reactor, seconds)

    async def eventually(self, what: str, true: Any) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            if time.monotonic() > deadline:
                self.fail(f"still not: {what}")
            await self.sleep(0.01)

    def settings(self, **changed: Any) -> KDCSettings:
        plain: dict[str, Any] = {
            "store": self.store,
            "endpoints": (LOOPBACK,),
            "output": self.log,
            "fold_seconds": 0.02,
        }
        return KDCSettings(**{**plain, **changed})

    def start(self, settings: KDCSettings | None = None, **how: Any) -> KDCService:
        service = KDCService(settings or self.settings(), reactor, self.said.append, **how)
        service.startService()
        self.services.append(service)
        return service

    def refused(self, error: type[KDCError], pattern: str, **changed: Any) -> KDCError:
        """It does not start, says why, and leaves nothing open: it can be tried again at once."""
        service = KDCService(self.settings(**changed), reactor)
        raised: KDCError = self.assertRaises(error, service.privilegedStartService)
        self.assertRegex(str(raised), pattern)
        self.assertEqual([r for r in reactor.getReaders() if hasattr(r, "factory")], [])
        return raised

    def port(self, service: KDCService) -> int:
        return int(service._ports[0].getHost().port)

    def client(self, service: KDCService, name: str, pin: str | None = None) -> KDCClient:
        port = self.port(service)
        client = KDCClient(
            reactor=reactor,
            endpoint=HostnameEndpoint(reactor, "127.0.0.1", port),
            tls=ClientTLS(Pin(pin or service.tls.fingerprint), "127.0.0.1"),
            keys=keys_of(name),
            where="here",
        )
        self.clients.append(client)
        return client

    async def registered(self, service: KDCService, name: str) -> KDCLink:
        client = self.client(service, name)
        await client.register("", 60000)
        return await client.link()

    async def admin(self, command: str, name: str | None = None, **more: Any) -> list[Any]:
        """As ``kdc admin`` does it, from outside."""
        request = {"command": command, **({} if name is None else {"name": name}), **more}
        return await deferToThread(lambda: list(AdminStore(self.store).ask(request)))

    async def logged(self, *patterns: str) -> None:
        for pattern in patterns:
            await self.eventually(
                f"{pattern} in the log", lambda p=pattern: p in self.log.read_text()
            )


class StartTests(ServiceTestCase):
    async def test_first_start(self) -> None:
        """All files are made, for their owner only; in the end only the socket goes."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        service = self.start(for_clients=lambda *where: [f"dial {where}"])
        files = {path.name: path.stat().st_mode for path in self.directory.iterdir()}
        self.assertLessEqual(
            {"pwd.txt", "pwd.txt.key", "pwd.txt.tls", "pwd.txt.admin", "out.txt"}, set(files)
        )
        for name, mode in files.items():
            self.assertEqual(mode & 0o777, 0o600, name)
        self.assertTrue(stat.S_ISSOCK(files["pwd.txt.admin"]))
        greeting = "\n".join(self.said)
        self.assertIn(f"listening on 127.0.0.1 port {self.port(service)}", greeting)
        fingerprint = service.tls.fingerprint
        self.assertIn(f"dial {('127.0.0.1', self.port(service), fingerprint)}", greeting)
        self.assertIn(f"fingerprint {fingerprint}", greeting)
        odd = attrs.evolve(self.settings(), store=Path("/a\n\x1b[2J/pwd.txt"))
        self.assertEqual(odd.where, '"/a\\n\\x1b[2J/pwd.txt"')
        await self.stop(service)
        self.assertFalse((self.directory / "pwd.txt.admin").exists())
        self.assertEqual(self.start().tls.fingerprint, fingerprint)
        await self.logged(" started client=- address=- 0 principals", " stopped client=- ")

    async def test_port_in_use(self) -> None:
        """A busy port is a local error, with a hint; a port that was free is given back."""
        service = self.start()
        busy = f"tcp:{self.port(service)}:interface=127.0.0.1"
        other = reserved_port()
        self.store = self.directory / "other" / "pwd.txt"
        self.store.parent.mkdir()
        endpoints = (f"tcp:{other}:interface=127.0.0.1", busy)
        raw = KDCService(self.settings(endpoints=endpoints), reactor)
        raised = self.assertRaises(LocalIOError, raw.privilegedStartService)
        self.assertEqual(raised.exit_status, ExitStatus.LOCAL_IO)
        self.assertRegex(str(raised), "cannot listen on .*: Address already in use")
        self.assertIs(raised.kind, ErrorKind.KDC_PORT_IN_USE)
        self.assertIn("another program", raised.hint)
        await self.sleep(0)
        again = self.start(self.settings(endpoints=endpoints[:1]))
        self.assertEqual(self.port(again), other)

    def test_endpoints(self) -> None:
        """What is no endpoint is told, with what was typed."""
        for endpoint in ("tcp:x", "nothing:1", "ssl:0:privateKey=missing.pem", ""):
            self.refused(ConfigurationError, "not an endpoint", endpoints=(endpoint,))

    def test_tls_files(self) -> None:
        """A TLS key that is missing, no key, not a pair or not private is refused."""
        directory = self.directory
        key, certificate = make_certificate(["localhost"], _now())
        good, chain, other = (directory / name for name in ("key.pem", "chain.pem", "other.pem"))
        good.write_bytes(key)
        good.chmod(0o600)
        chain.write_bytes(certificate)
        other.write_bytes(make_certificate(["localhost"], _now())[1])
        exposed = directory / "exposed.pem"
        exposed.write_bytes(key)
        exposed.chmod(0o640)
        junk = directory / "junk.pem"
        junk.write_bytes(b"nothing")
        junk.chmod(0o600)
        (directory / "folder").mkdir(mode=0o700)
        os.mkfifo(directory / "fifo", 0o600)
        for error, pattern, one, two in (
            (LocalIOError, "missing: No such file", directory / "missing", chain),
            (LocalIOError, "missing: No such file", good, directory / "missing"),
            (LocalIOError, "folder: Is a directory", directory / "folder", chain),
            (LocalIOError, "fifo is not a regular file", directory / "fifo", chain),
            (LocalIOError, "fifo is not a regular file", good, directory / "fifo"),
            (ConfigurationError, "exposed.pem can be read by others", exposed, chain),
            (ConfigurationError, "not a usable pair", junk, chain),
            (ConfigurationError, "not a usable pair", good, junk),
            (ConfigurationError, "not a usable pair", good, other),
            (ConfigurationError, "go together", good, None),
            (ConfigurationError, "go together", None, chain),
        ):
            self.refused(error, pattern, tls_key=one, tls_certificate=two)
        self.assertFalse((directory / "pwd.txt.tls").exists())
        service = self.start(self.settings(tls_key=good, tls_certificate=chain))
        self.assertFalse((directory / "pwd.txt.tls").exists())
        self.assertTrue(service.tls.fingerprint)

    async def test_own_tls_file(self) -> None:
        """The file that was made here has to stay private too."""
        await self.stop(self.start())
        own = self.directory / "pwd.txt.tls"
        own.chmod(0o640)
        error = self.refused(ConfigurationError, "pwd.txt.tls can be read by others")
        self.assertIn("chmod 600", error.hint)
        own.chmod(0o600)
        own.write_bytes(own.read_bytes()[:300])
        self.refused(ConfigurationError, "not a usable pair")
        own.unlink()
        own.symlink_to("nowhere")
        self.refused(LocalIOError, "pwd.txt.tls: No such file")

    def test_host_of_the_certificate(self) -> None:
        """A name with letters beyond ASCII is one; what can be no name is refused at once."""
        _, chain = make_certificate(["bücher.example"], dt.datetime.now(dt.UTC))
        names = x509.load_pem_x509_certificate(chain).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        self.assertEqual(names.value.get_values_for_type(x509.DNSName), ["xn--bcher-kva.example"])
        for host in ("", "x" * 64, "a..b"):
            options = Options()
            self.assertRaises(UsageError, options.parseOptions, ["-p", "0", f"--host={host}"])

    def test_output(self) -> None:
        """A log that cannot be written is known at the start, not later."""
        (self.directory / "folder").mkdir()
        self.refused(LocalIOError, "folder: Is a directory", output=self.directory / "folder")
        os.mkfifo(self.directory / "fifo")
        self.refused(LocalIOError, "fifo is not a regular file", output=self.directory / "fifo")
        missing = self.directory / "no" / "out.txt"
        self.refused(LocalIOError, "out.txt: No such file", output=missing)

    async def test_directory(self) -> None:
        """It is there when it was asked for, asks the KDC for nothing but its epoch, and goes."""
        service = self.start(self.settings(directory=LOOPBACK, directory_name="who"))
        await self.eventually("a directory", lambda: "kdc: who: receiving" in self.said[-1])
        await self.logged(" registered client=who ", " epoch-begun client=who ")
        self.assertEqual((await self.admin("stats"))[0]["receiving"], 1)
        key = self.directory / "pwd.txt.directory"
        self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        client = self.client(service, "alice")
        await client.register("", 60000)
        found, _ = await everybody(client, "who")
        self.assertEqual([str(each) for each in found], ["alice: registered"])
        await self.stop(service)
        self.assertNotIn("ended", self.said[-1])

    def test_directory_cannot_start(self) -> None:
        """Then the KDC does not, and leaves its ports to the next."""
        self.refused(ConfigurationError, "not an endpoint", directory="tcp:x")
        unix = f"unix:{self.directory.relative_to(Path.cwd())}/socket"
        self.refused(ConfigurationError, "need a TCP port", directory=LOOPBACK, endpoints=(unix,))
        (self.directory / "pwd.txt.admin").mkdir()
        self.refused(LocalIOError, "cannot listen on .*pwd.txt.admin", directory=LOOPBACK)
        self.assertEqual(
            sorted(path.name for path in self.directory.glob("pwd*")),
            ["pwd.txt.admin", "pwd.txt.lock"],
        )
        # In a store that was there its name has been taken, and its key stays with it.
        open_store(self.directory / "pwd.txt", realm="LOCAL").close()
        self.refused(LocalIOError, "cannot listen on .*pwd.txt.admin", directory=LOOPBACK)
        (self.directory / "pwd.txt.directory").unlink()
        self.refused(ConfigurationError, "is not the directory's", directory=LOOPBACK)

    def test_where_others_can_write(self) -> None:
        """Where anybody could exchange the store, its key or its generation there is no start."""
        open_to_all = self.directory / "open"
        open_to_all.mkdir()
        open_to_all.chmod(0o777)
        for changed in (
            {"store": open_to_all / "pwd.txt"},
            {"master_key": open_to_all / "key"},
            {"generation": open_to_all / "generation"},
        ):
            error = self.refused(ConfigurationError, "can be written by others", **changed)
            self.assertEqual(error.exit_status, ExitStatus.USAGE)
            self.assertIn(f"chmod go-w {open_to_all}", error.hint)
        self.assertEqual(list(open_to_all.iterdir()), [])
        self.assertEqual(list(self.directory.iterdir()), [open_to_all])

    async def test_missing_store(self) -> None:
        """A store that was there is missed; a new one is not begun in its place."""
        service = self.start()
        await self.registered(service, "alice")
        await self.stop(service)
        self.store.rename(self.directory / "elsewhere")
        error = self.refused(StoreError, "pwd.txt is missing or empty, and it was not always so")
        self.assertEqual(error.exit_status, ExitStatus.LOCAL_IO)
        self.assertFalse(self.store.exists())

    async def test_second_kdc(self) -> None:
        """A second KDC for one store is refused, and told who has it; the first goes on."""
        service = self.start()
        other = KDCService(self.settings(), reactor)
        error = self.assertRaises(StoreError, other.privilegedStartService)
        self.assertIn(f"in use by process {os.getpid()}", str(error))
        self.assertEqual(error.exit_status, ExitStatus.LOCAL_IO)
        link = await self.registered(service, "alice")
        self.assertTrue(link.alive)
        self.assertEqual(len(await self.admin("list")), 1)

    async def test_operators_socket(self) -> None:
        """What a dead KDC left behind is replaced; what cannot be is told."""
        (self.directory / "pwd.txt.admin").write_bytes(b"a file in the way")
        service = self.start()
        self.assertEqual(await self.admin("list"), [])
        await self.stop(service)
        (self.directory / "pwd.txt.admin").mkdir()
        self.refused(LocalIOError, r"cannot listen on .*pwd.txt.admin: Is a directory")

    async def test_long_path(self) -> None:
        """A directory with a very long name serves its operator too."""
        self.store = self.directory / ("x" * 150) / "pwd.txt"
        self.store.parent.mkdir()
        service = self.start()
        self.assertEqual(await self.admin("list"), [])
        await self.stop(service)
        self.assertFalse(self.store.with_name("pwd.txt.admin").exists())

    async def test_pwd_txt_is_readable_soon(self) -> None:
        """Shortly after a registration the name is in pwd.txt, for people to see."""
        service = self.start()
        await self.registered(service, "alice")
        await self.eventually("alice in pwd.txt", lambda: b"\n:alice:" in self.store.read_bytes())
        await self.admin("delete", "alice")
        await self.eventually("a tombstone", lambda: b":deleted:" in self.store.read_bytes())

    def folds(self) -> list[Any]:
        return [c for c in reactor.getDelayedCalls() if c.getTime() - reactor.seconds() > 900]

    async def test_stop_waits_for_the_disk(self) -> None:
        """A registration that the disk is busy with when the KDC stops is kept."""
        service = self.start()
        begun, release = threading.Event(), threading.Event()
        self.addCleanup(release.set)
        apply = service.store.apply

        def slowly(changes: Any) -> Any:
            begun.set()
            release.wait()
            return apply(changes)

        self.patch(service.store, "apply", slowly)
        registering = Deferred.fromCoroutine(self.client(service, "alice").register("", 1))
        _ = registering.addErrback(lambda failure: failure.trap(KDCUnreachable))
        await self.eventually("begun", begun.is_set)
        stopping = Deferred.fromCoroutine(self.stop(service))
        await self.eventually("closing", lambda: not service._ports)
        self.assertFalse(stopping.called)
        release.set()
        await stopping
        await registering
        with contextlib.closing(FlatFileStore.open(self.store, realm="LOCAL")) as store:
            self.assertIsNotNone(store.get("alice"))

    async def test_stop_without_its_socket(self) -> None:
        """The operators' socket being gone, the store is released all the same; no traceback."""
        service = self.start()
        await self.registered(service, "alice")
        (self.directory / "pwd.txt.admin").unlink()
        with capturedLogs() as logs:
            await self.stop(service)
        told = [_text(event) for event in logs if event["log_level"] >= LogLevel.error]
        self.assertEqual(len(told), 1, told)
        self.assertIn("stopping: closing a port: ", told[0])
        self.assertTrue(self.log.read_text().rstrip().endswith("stopped client=- address=-"))
        self.assertTrue(self.start().store.get("alice"))

    async def test_each_step_of_stopping(self) -> None:
        """Whatever fails on the way out, the store is released at the end."""
        service = self.start()
        await self.registered(service, "alice")
        broken = (
            *((port, "stopListening") for port in service._ports),
            *((service._admin, "close"), (service.operators, "close_all")),
            *((service.factory, "close_all"), (service.writer, "drain"), (service._watch, "stop")),
            *((service.audit, "flush"), (service.audit, "close")),
            *((pool, "stop") for pool in service._pools),
        )
        for thing, name in broken:
            self.patch(thing, name, self.failing_after(getattr(thing, name)))
        await self.stop(service)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), len(broken))
        self.assertTrue(self.start().store.get("alice"))

    def failing_after(self, step: Any) -> Any:
        """What fails, but has done all that it should have done."""

        async def fail() -> None:
            await maybeDeferred(step)
            raise RuntimeError("a defect")

        return fail

    def test_whose_clock(self) -> None:
        """A program decides what its reactor's timers follow when it begins; a service does not."""
        before = reactor.seconds
        KDCService(self.settings(), reactor)
        self.assertEqual(reactor.seconds, before)
        self.patch(reactor, "seconds", before)
        options = Options()
        options.parseOptions(["-p", "0", "-f", str(self.store)])
        service: Any = makeService(options)
        self.assertIs(reactor.seconds, time.monotonic)
        self.assertEqual(service.settings.store, self.store)

    def test_signals_while_stopping(self) -> None:
        """A second signal ends the process at once, and means what it did when all is over."""
        service = self.start()
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        hangs: Deferred[None] = Deferred()
        self.patch(service.writer, "drain", lambda: hangs)
        stopped = service.stopService()
        self.services.remove(service)
        for number in (signal.SIGTERM, signal.SIGINT):
            self.assertEqual(signal.getsignal(number), signal.SIG_DFL)
        hangs.callback(None)

        def over(_: object) -> None:
            after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
            self.assertEqual(after, before)

        return stopped.addCallback(over)  # type: ignore[return-value]

    async def test_stop_before_the_fold(self) -> None:
        """A stop right after a change leaves no work behind, and the change is kept."""
        service = self.start(self.settings(fold_seconds=1000.0))
        await self.registered(service, "alice")
        self.assertEqual(len(self.folds()), 1)
        await self.stop(service)
        self.assertEqual(self.folds(), [])
        with contextlib.closing(FlatFileStore.open(self.store, realm="LOCAL")) as store:
            self.assertIsNotNone(store.get("alice"))


class TakenOverTests(ServiceTestCase):
    """The store's files are another's all of a sudden."""

    def setUp(self) -> None:
        super().setUp()
        self.given_up: list[KDCError] = []

    def start_watched(self, look_seconds: float) -> KDCService:
        settings = self.settings(look_seconds=look_seconds)
        return self.start(settings, give_up=self.given_up.append)

    async def ends(self, removed: str) -> None:
        await self.eventually("the end", lambda: self.given_up)
        (error,) = self.given_up
        self.assertIs(type(error), StoreLost)
        self.assertEqual(error.exit_status, ExitStatus.LOCAL_IO)
        self.assertIn(f"{removed} was removed", str(error))
        self.assertTrue(error.hint)
        await self.logged(" store-lost client=- address=- the store is not ours any more: ")

    async def test_trouble(self) -> None:
        """What is wrong with the database is in the log, and that it is over; the KDC goes on."""
        service = self.start_watched(0.01)
        store: Any = service.store
        store._troubles["fold"] = "the disk is slow"
        await self.logged(" store-trouble client=- address=- the disk is slow")
        del store._troubles["fold"]
        await self.logged(" store-well client=- address=-")
        self.assertEqual(self.given_up, [])
        await self.stop(service)

    async def test_by_a_registration(self) -> None:
        """Whoever registers then gets no answer, and the KDC ends."""
        service = self.start_watched(1000)
        await self.registered(service, "alice")
        self.assertEqual(self.given_up, [])
        (self.directory / "pwd.txt.lock").unlink()
        bob = self.client(service, "bob")
        bob.patience_seconds = (
            0.0  # otherwise he asks again, and this KDC is not gone with its process
        )
        with self.assertRaises(KDCUnreachable), capturedLogs():
            await bob.register("", 60000)
        await self.ends("pwd.txt.lock")

    async def test_by_an_operator(self) -> None:
        """So it does when an operator's command finds out, who is told why."""
        service = self.start_watched(1000)
        await self.registered(service, "alice")
        (self.directory / "pwd.txt.journal").unlink()
        with self.assertRaises(KDCError) as caught:
            await self.admin("disable", "alice")
        self.assertIn("pwd.txt.journal was removed", str(caught.exception))
        await self.ends("pwd.txt.journal")

    async def test_without_a_change(self) -> None:
        """A look now and then finds out, too; it goes on as long as all is well."""
        service = self.start_watched(0.01)
        looks: list[None] = []
        look = service.store.check_ours

        def counted() -> None:
            look()
            looks.append(None)

        self.patch(service.store, "check_ours", counted)
        await self.eventually("some looks", lambda: len(looks) > 2)
        os.replace(self.store.with_name("pwd.txt.tls"), self.store)
        await self.ends("pwd.txt")

    async def test_by_a_fold(self) -> None:
        """So does the fold after a change."""
        service = self.start_watched(1000)
        apply = service.store.apply

        def then_lost(changes: Any) -> Any:
            results = apply(changes)
            (self.directory / "pwd.txt.lock").unlink()
            return results

        self.patch(service.store, "apply", then_lost)
        await self.registered(service, "alice")
        await self.ends("pwd.txt.lock")


def _now() -> Any:
    return dt.datetime.now(dt.UTC)


class FullDiskTests(ServiceTestCase):
    async def test_a_full_disk(self) -> None:
        """Keys are issued from memory; changes are refused, and count once there is space again."""
        service = self.start()
        alice, bob = await self.registered(service, "alice"), await self.registered(service, "bob")
        await bob.receive_under(PUBLIC, "", 60000)
        before = list(service.store)

        def full(files: Files, fd: int, content: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patched = self.patch(Files, "write", full)
        for _ in range(2):
            with self.assertRaises(KDCUnreachable) as refused:
                await self.client(service, "carol").register("", 60000)
            self.assertIn("try again later", cast(Any, refused.exception).hint)
            with self.assertRaises(KDCError) as caught:
                await self.admin("disable", "bob")
            self.assertIn("No space left", str(caught.exception))
            await alice.request_key("bob")
            await self.client(service, "alice").login()
        self.assertEqual(list(service.store), before)
        self.assertEqual((await self.admin("stats"))[0]["active"], 2)
        patched.restore()
        await self.registered(service, "carol")
        await alice.request_key("bob")
        await self.admin("disable", "bob")
        await self.stop(service)
        with contextlib.closing(FlatFileStore.open(self.store, realm="LOCAL")) as store:
            statuses = {record.name: record.status.value for record in store}
        self.assertEqual(statuses, {"alice": "active", "bob": "disabled", "carol": "active"})
        self.assertNotIn("admin-disabled", self.log.read_text().partition("client=carol")[0])


class ReloadTests(ServiceTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.next: KDCSettings | KDCError = self.settings()

    def read_again(self) -> KDCSettings:
        if isinstance(self.next, KDCError):
            raise self.next
        return self.next

    async def hangup(self) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await self.sleep(0)

    async def test_reload(self) -> None:
        """SIGHUP: other enrolment, lifetime and limits count from now on."""
        service = self.start(read_again=self.read_again)
        await self.registered(service, "alice")
        self.next = self.settings(
            enrolment=Enrolment.CLOSED, lifetime_seconds=77, limits=Limits(idle_seconds=5)
        )
        await self.hangup()
        await self.logged(f" reloaded client=- address=- {service.tls.fingerprint}")
        with self.assertRaises(AuthenticationRefused):
            await self.registered(service, "bob")
        self.assertEqual(service.factory.issuer.realm.lifetime_seconds, 77)
        self.assertEqual(service.factory.limits.idle_seconds, 5)

    async def test_who_may_reach_whom(self) -> None:
        """So do the rules on keys: none for whom they exclude, until they are others."""
        rules = Permits({"bob": ["carol"]})
        service = self.start(self.settings(permits=rules), read_again=self.read_again)
        alice = await self.registered(service, "alice")
        await self.registered(service, "bob")
        with self.assertRaises(RefusedByPolicy):
            await alice.request_key("bob")
        await self.hangup()
        with self.assertRaises(NotReceiving):
            await alice.request_key("bob")

    async def test_broken_configuration(self) -> None:
        """What cannot be read leaves everything as it was, and both logs say so."""
        service = self.start(read_again=self.read_again)
        self.next = ConfigurationError("kdc.toml: there is no setting 'enroll'")
        fingerprint = service.tls.fingerprint
        with capturedLogs() as logs:
            await self.hangup()
        self.assertIn("the old state stays: kdc.toml", str([_text(event) for event in logs]))
        await self.logged(" reload-failed client=- address=- kdc.toml: there is no setting")
        self.assertEqual(service.tls.fingerprint, fingerprint)
        await self.registered(service, "alice")

    async def test_broken_certificate(self) -> None:
        """So does a certificate that is broken or gone: no new identity is made up."""
        service = self.start(read_again=self.read_again)
        own = self.directory / "pwd.txt.tls"
        content = own.read_bytes()
        for damage in (lambda: own.write_bytes(b"nothing"), own.unlink):
            damage()
            self.next = self.settings(enrolment=Enrolment.CLOSED)
            with capturedLogs():
                await self.hangup()
            await self.logged(" reload-failed ")
            self.assertEqual(service.factory.issuer.realm.enrolment, Enrolment.OPEN)
        self.assertFalse(own.exists())
        await self.registered(service, "alice")
        own.write_bytes(content)
        own.chmod(0o600)
        await self.hangup()
        await self.logged(" reloaded ")

    async def test_new_certificate(self) -> None:
        """New connections see a certificate that was put there; the open ones go on."""
        service = self.start(read_again=self.read_again)
        alice = await self.registered(service, "alice")
        old = service.tls.fingerprint
        key, certificate = make_certificate(["localhost"], _now())
        (self.directory / "pwd.txt.tls").write_bytes(key + certificate)
        await self.hangup()
        self.assertNotEqual(service.tls.fingerprint, old)
        self.assertTrue(alice.alive)
        await self.registered(service, "bob")
        with self.assertRaises(WrongIdentity):
            await self.client(service, "carol", old).login()

    async def test_rotated_log(self) -> None:
        """After the log was moved, SIGHUP begins a new one; no line is lost or torn."""
        service = self.start(read_again=self.read_again)
        await self.registered(service, "alice")
        await self.logged(" registered client=alice")
        moved = self.log.rename(self.directory / "out.txt.1")
        await self.registered(service, "bob")
        await self.hangup()
        await self.registered(service, "carol")
        await self.logged(" registered client=carol")
        old, new = moved.read_text(), self.log.read_text()
        self.assertIn(" registered client=alice", old)
        self.assertEqual((old + new).count(" registered client=bob"), 1)
        self.assertTrue(old.endswith("\n"))
        self.assertEqual(self.log.stat().st_mode & 0o777, 0o600)

    async def test_log_format(self) -> None:
        """As text or as JSON, from the start on and from SIGHUP on."""
        json_lines = self.settings(log_format=LogFormat.JSON)
        service = self.start(json_lines, read_again=self.read_again)
        await self.registered(service, "alice")
        await self.logged('"event": "registered", "client": "alice"')
        await self.hangup()
        await self.logged(" reloaded client=-")
        self.next = json_lines
        await self.hangup()
        await self.logged('"event": "reloaded"')
        forms = [line[0] for line in self.log.read_text().splitlines()]
        self.assertEqual((forms[0], forms[-1]), ("{", "{"))

    async def test_log_in_the_way(self) -> None:
        """If no new log can be begun, the old one goes on."""
        service = self.start(read_again=self.read_again)
        moved = self.log.rename(self.directory / "out.txt.1")
        self.log.mkdir()
        with capturedLogs() as logs:
            await self.hangup()
        self.assertIn("out.txt: Is a directory", str([_text(event) for event in logs]))
        await self.registered(service, "alice")
        await self.eventually("alice", lambda: "registered client=alice" in moved.read_text())

    async def test_handler_goes_with_the_service(self) -> None:
        """After a stop SIGHUP means what it meant before."""
        before = signal.getsignal(signal.SIGHUP)
        service = self.start()
        self.assertNotEqual(signal.getsignal(signal.SIGHUP), before)
        await self.stop(service)
        self.assertEqual(signal.getsignal(signal.SIGHUP), before)


def _text(event: Any) -> str:
    return eventAsText(event)


class OperatorTests(ServiceTestCase):
    async def receiving(self, service: KDCService, name: str) -> KDCLink:
        link = await self.registered(service, name)
        await link.receive_under(PUBLIC, "", 60000)
        self.assertIn(name, service.factory.issuer.realm.receiving)
        return link

    async def test_at_once(self) -> None:
        """Who is disabled or deleted is cut off: connections, epoch, log-in; others are not."""
        service = self.start()
        alice = await self.registered(service, "alice")
        for command, status in (("disable", Status.DISABLED), ("delete", Status.DELETED)):
            name = f"{command}d-bob"
            bob = await self.receiving(service, name)
            await alice.request_key(name)
            await self.admin(command, name)
            self.assertIsInstance(await bob.lost, KDCUnreachable)
            self.assertNotIn(name, service.factory.issuer.realm.receiving)
            with self.assertRaises(KDCError):
                await alice.request_key(name)
            with self.assertRaises(AuthenticationRefused):
                await self.client(service, name).login()
            record = service.store.get(name)
            self.assertIs(record and record.status, status)
        self.assertTrue(alice.alive)
        await self.admin("enable", "disabled-bob")
        await self.client(service, "disabled-bob").link()
        await self.logged("admin-disabled client=disabled-bob address=local by uid")

    async def test_reset(self) -> None:
        """Whose secret is lost is cut off, and comes back with the invitation and no old key."""
        service = self.start()
        bob = await self.receiving(service, "bob")
        where = {"kdc_host": "127.0.0.1"}
        (answer,) = await self.admin("reset", "bob", **where)
        self.assertIsInstance(await bob.lost, KDCUnreachable)
        self.assertNotIn("bob", service.factory.issuer.realm.receiving)
        client = self.client(service, "bob")
        with self.assertRaises(AuthenticationRefused):
            await client.login()
        with self.assertRaises(AuthenticationRefused):
            await client.register("", 60000)
        invitation = Invitation.parse(answer["invitation"])
        await client.register("", 60000, invitation.code)
        await self.client(service, "bob").login()

    async def test_rotate_tls(self) -> None:
        """Open connections go on; new ones see the new identity, after a restart too."""
        service = self.start()
        old = service.tls.fingerprint
        bob = await self.receiving(service, "bob")
        alice = await self.registered(service, "alice")
        (answer,) = await self.admin("rotate-tls")
        new = answer["fingerprint"]
        self.assertNotEqual(new, old)
        self.assertEqual(service.tls.fingerprint, new)
        self.assertTrue(bob.alive)
        await alice.request_key("bob")
        with self.assertRaises(WrongIdentity):
            await self.client(service, "alice", old).login()
        await self.client(service, "alice", new).link()
        for name in ("pwd.txt.tls", "pwd.txt.tls.old"):
            self.assertEqual((self.directory / name).stat().st_mode & 0o777, 0o600)
        await self.stop(service)
        self.assertEqual(self.start().tls.fingerprint, new)
        await self.logged(f"admin-rotated-tls client=- address=local {new} by uid {os.getuid()}")

    async def test_rotate_a_given_key(self) -> None:
        """A TLS key that the KDC was given is not the KDC's to replace."""
        key, certificate = make_certificate(["localhost"], _now())
        paths = [self.directory / "key.pem", self.directory / "chain.pem"]
        for path, content in zip(paths, (key, certificate), strict=True):
            path.write_bytes(content)
            path.chmod(0o600)
        service = self.start(self.settings(tls_key=paths[0], tls_certificate=paths[1]))
        before = service.tls.fingerprint
        with self.assertRaises(KDCError) as caught:
            await self.admin("rotate-tls")
        self.assertIn("SIGHUP", cast(Any, caught.exception).hint)
        self.assertEqual(service.tls.fingerprint, before)
        self.assertEqual(paths[0].read_bytes(), key)

    async def test_rotate_tls_on_a_full_disk(self) -> None:
        """If the new key cannot be written, the old one stays, in use and on the disk."""
        service = self.start()
        before = (self.directory / "pwd.txt.tls").read_bytes()

        def full(file: Any, pieces: Any) -> None:
            raise LocalIOError("no space left")

        self.patch(PartialFile, "write", full)
        with self.assertRaises(KDCError):
            await self.admin("rotate-tls")
        self.assertEqual((self.directory / "pwd.txt.tls").read_bytes(), before)
        await self.registered(service, "alice")
        self.assertEqual([p for p in self.directory.iterdir() if ".part" in p.name], [])

    async def test_rotate_master_key(self) -> None:
        """The store is under another key, and everybody is still who he was."""
        service = self.start()
        await self.registered(service, "alice")
        before = (self.directory / "pwd.txt.key").read_bytes()
        await self.admin("rotate-master-key")
        self.assertNotEqual((self.directory / "pwd.txt.key").read_bytes(), before)
        await self.client(service, "alice").login()

    async def test_top(self) -> None:
        """What is done now and since the start, without a status port; refusals that flood, too."""
        service = self.start(self.settings(relay=LOOPBACK))
        alice = await self.registered(service, "alice")
        bob = await self.registered(service, "bob")
        await bob.receive_under(PUBLIC, "127.0.0.1", 60000)
        for _ in range(3):
            await alice.request_key("bob")
        audit = service.factory.issuer.realm.audit
        for _ in range(1000):
            audit(Audit("refused", "", "192.0.2.1", "MALFORMED x", unproven=True))
        await self.logged(" suppressed ")
        (top,) = await self.admin("top")
        self.assertEqual((top["realm"], top["keys"], top["troubles"]), ("LOCAL", 3, {}))
        receivers = {name: place for name, place, _ in top["receivers"]}
        self.assertEqual(receivers["bob"], "127.0.0.1 port 60000")
        self.assertEqual(top["receiving"], len(receivers))
        self.assertEqual(top["refusals"]["MALFORMED"], 1000)
        now, store = dict(top["facts"]["Now"]), dict(top["facts"]["Store"])
        self.assertEqual((now["keys issued"], store["principals"]), ("3", "3"))
        # More are let through the longer it takes to cause them.
        self.assertEqual(now["log lines left out"], str(service.audit.suppressed))
        self.assertIn(service.audit.suppressed, range(500, 801))
        self.assertEqual(dict(top["facts"]["Certificate"])["fingerprint"], service.tls.fingerprint)
        self.assertIn("Relay", top["facts"])
        self.assertEqual(len(top["lines"]), 100)
        self.assertEqual(top["lines"][0][1], "suppressed")

    async def test_stats(self) -> None:
        """Who is connected and receiving, and which identity the KDC shows."""
        service = self.start()
        await self.receiving(service, "bob")
        (stats,) = await self.admin("stats")
        self.assertEqual((stats["connections"], stats["receiving"], stats["active"]), (1, 1, 1))
        self.assertEqual(stats["fingerprint"], service.tls.fingerprint)

    async def test_where_it_is(self) -> None:
        """An invitation leads to the port that is open, by the name that clients know."""
        service = self.start(self.settings(hosts=("kdc.example",), endpoints=("tcp:0",)))
        (answer,) = await self.admin("invite", "bob")
        invitation = Invitation.parse(answer["invitation"])
        self.assertEqual((invitation.realm, invitation.name), ("LOCAL", "bob"))
        self.assertEqual((invitation.host, invitation.port), ("kdc.example", self.port(service)))
        self.assertEqual(invitation.fingerprint, service.tls.fingerprint)
        await self.stop(service)
        self.start(self.settings(endpoints=("tcp:0",)))
        with self.assertRaises(KDCError) as caught:
            await self.admin("invite", "carol")
        self.assertIs(caught.exception.kind, ErrorKind.ADDRESS_OF_KDC_UNKNOWN)

    async def test_reading_keeps_nobody_waiting(self) -> None:
        """While an operator lists very many principals, others register."""
        service = self.start()
        release = threading.Event()
        self.addCleanup(release.set)

        def slowly(store: Any) -> Any:
            release.wait()
            return iter(())

        self.patch(FlatFileStore, "__iter__", slowly)
        listing = Deferred.fromCoroutine(self.admin("list"))
        await self.registered(service, "alice")
        self.assertFalse(listing.called)
        release.set()
        self.assertEqual(await listing, [])

    async def test_loading_keeps_nobody_from_his_keys(self) -> None:
        """While principals from a file go to the disk, keys are issued; then they are there."""
        service = self.start()
        alice, _ = await self.registered(service, "alice"), await self.receiving(service, "bob")
        begun, release = threading.Event(), threading.Event()
        self.addCleanup(release.set)
        apply = service.store.apply

        def slowly(changes: Any) -> Any:
            begun.set()
            release.wait()
            return apply(changes)

        self.patch(service.store, "apply", slowly)
        records = [{"name": name, "status": "invited"} for name in ("carol", "dave", "alice")]
        loading = Deferred.fromCoroutine(self.admin("load", records=records))
        await self.eventually("begun", begun.is_set)
        await alice.request_key("bob")
        self.assertFalse(loading.called)
        release.set()
        answers = await loading
        self.assertEqual([answer["done"] for answer in answers], [True, True, False])
        self.assertEqual(len(service.store), 4)
        await self.logged("admin-loaded client=dave address=local invited by uid")

    async def test_stop_in_the_middle(self) -> None:
        """A stop waits for the change that is under way, for no operator, and loses nothing."""
        service = self.start()
        begun, release = threading.Event(), threading.Event()
        self.addCleanup(release.set)
        rotate = service.store.rotate_master_key

        def slowly() -> None:
            begun.set()
            release.wait()
            rotate()

        self.patch(service.store, "rotate_master_key", slowly)
        before = (self.directory / "pwd.txt.key").read_bytes()
        rotating = Deferred.fromCoroutine(self.admin("rotate-master-key"))
        await self.eventually("begun", begun.is_set)
        stopping = Deferred.fromCoroutine(self.stop(service))
        await self.eventually("no operator", lambda: not service.operators.connections)
        release.set()
        await stopping
        with self.assertRaises(LocalIOError):
            await rotating
        self.assertIn("admin-rotated-master-key", self.log.read_text())
        self.assertNotEqual((self.directory / "pwd.txt.key").read_bytes(), before)
        with contextlib.closing(FlatFileStore.open(self.store, realm="LOCAL")) as store:
            self.assertEqual(len(store), 0)
