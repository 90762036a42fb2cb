"""The KDC's directory, on a network in memory, and what its clients learn of others."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs
from twisted.protocols.wire import Echo

from kdc.channel._channel import ClosedEarly
from kdc.channel.listening import Listening
from kdc.channel.services import Service
from kdc.channel.standing import standing
from kdc.client.client import KDCClient
from kdc.commands.client.who import Found, everybody, who
from kdc.errors import (
    ConfigurationError,
    ErrorKind,
    IntegrityError,
    LocalIOError,
    PeerUnavailable,
    RefusedByPolicy,
    RemoteProtocolError,
    TooBusy,
)
from kdc.limits import Limits
from kdc.protocol.directory import DIRECTORY, SERVICE, STANDING, Standing
from kdc.server import _directory as directory_module
from kdc.server._directory import Directory, DirectorySettings
from kdc.server.certificate import ServerTLS
from kdc.store import Create, Delete, Record, Replace, Status
from tests.channel.test_api import ListeningHost
from tests.support.edge import (
    KDC_HOST,
    KDC_PORT,
    EdgeTestCase,
    HalfRecorder,
    Recorder,
    certificate,
    factory_of,
)

PORT = 89


class DirectoryTestCase(EdgeTestCase):
    unix_time = 1_700_000_000

    def setUp(self) -> None:
        super().setUp()
        self.key_file = Path(self.mktemp()).absolute()
        self.said: list[str] = []
        self.fingerprint = ""  # that of the KDC
        self.clients: list[KDCClient] = []
        self.directory = self.new_directory()

    def known_client(self, name: str, **options: Any) -> KDCClient:
        self.clients.append(super().known_client(name, **options))
        return self.clients[-1]

    def new_directory(self, **settings: Any) -> Directory:
        given = {"listen": f"tcp:{PORT}", "key_file": self.key_file, **settings}
        return Directory(
            DirectorySettings(**given),
            ListeningHost(self.network, KDC_HOST),
            realm=self.kdc.realm,
            store=self.kdc.store,
            read=self.read,
            fingerprint=lambda: self.fingerprint or self.kdc.tls.fingerprint,
            say=self.said.append,
            unix_time=lambda: self.unix_time,
        )

    def read(self, call: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return succeed(call(*args))

    def open(self, directory: Directory | None = None) -> None:
        (directory or self.directory).open(KDC_HOST, KDC_PORT)

    def start(self) -> None:
        self.open()
        self.directory.start()
        self.network.settle()
        self.assertEqual(self.said, [f"kdc: directory: receiving on {KDC_HOST} port {PORT}"])

    def stop(self) -> None:
        self.do(self.directory.stop())

    def restart(self, **settings: Any) -> None:
        """Have another directory in the place of the one that runs."""
        self.stop()
        self.said.clear()
        self.directory = self.new_directory(**settings)
        self.start()

    def ask(self, name: str) -> list[Found]:
        found, more = self.do(everybody(self.known_client(name), DIRECTORY))
        self.assertFalse(more)
        return found

    def refused(self, expected: type[Exception], name: str) -> Any:
        return self.failure(expected, everybody(self.known_client(name), DIRECTORY))


class OwnKDCTests(DirectoryTestCase):
    def test_another_kdc(self) -> None:
        """The directory takes no other for the KDC that it is part of, and says nothing to it."""
        self.fingerprint = "sha256:" + 64 * "0"
        self.open()
        self.directory.start()
        self.network.settle()
        self.assertNotIn("authenticated", self.kdc.events())
        self.assertIsNone(self.kdc.realm.epoch_of(DIRECTORY))
        self.assertFalse(any("receiving" in line for line in self.said), self.said)
        self.stop()


class WhoTests(DirectoryTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.start()

    def tearDown(self) -> None:
        """In the end nothing is left of it all."""
        self.stop()
        for client in self.clients:
            client.close()
        self.network.settle()
        self.assertEqual((self.network.wires, self.network.getDelayedCalls()), ([], []))

    def test_who_is_there(self) -> None:
        """Who is registered, who receives and where, ourselves too; in order; not the directory."""
        reception, *_ = self.receive("bob", Service(factory_of(Echo())))
        self.kdc.add("alan")
        address = reception._client.reactor.address
        self.assertEqual(
            self.ask("alice"),
            [
                Found("alan", "registered"),
                Found("alice", "registered"),
                Found("bob", "receiving", address, 60000),
            ],
        )
        reception.stop()
        self.network.settle()
        self.assertEqual(self.ask("bob")[-1], Found("bob", "registered"))

    def test_the_same_as_by_name(self) -> None:
        """It says nothing that asking for a key to each would not."""
        reception, *_ = self.receive("bob", Service(factory_of(Echo())))
        self.kdc.add("carol")
        listed = [each for each in self.ask("alice") if each.name != "alice"]
        self.assertEqual(self.do(who(self.known_client("alice"), ["bob", "carol"])), listed)
        reception.stop()

    def test_policy(self) -> None:
        """Whom the realm's policy keeps a client from asking keys for, it does not hear of."""
        for name in ("alice", "bob", "carol"):
            self.kdc.add(name)
        forbidden = {("alice", "carol"), ("carol", "carol")}
        self.kdc.realm.permits = lambda client, receiver: (client, receiver) not in forbidden
        self.assertEqual([each.name for each in self.ask("alice")], ["alice", "bob"])
        self.assertEqual([each.name for each in self.ask("bob")], ["alice", "bob", "carol"])
        self.assertEqual([each.name for each in self.ask("carol")], ["alice", "bob", "carol"])

    def test_policy_keeps_from_the_directory(self) -> None:
        """Who may not ask for a key to the directory learns nothing of anybody."""
        self.kdc.realm.permits = lambda client, receiver: receiver != DIRECTORY
        self.refused(RefusedByPolicy, "alice")

    def test_not_active(self) -> None:
        """Names that are invited, disabled or deleted are nobody's business."""
        for name in ("disabled", "deleted"):
            record = self.kdc.add(name)
            if name == "deleted":
                self.kdc.apply(Delete(name, record.generation))
            else:
                self.kdc.apply(
                    Replace(
                        Record(
                            name,
                            Status.DISABLED,
                            verify_key=record.verify_key,
                            reply_key=record.reply_key,
                        ),
                        record.generation,
                    )
                )
        invited = Record("invited", Status.INVITED, invitation=bytes(16), invitation_end_time=1)
        self.kdc.apply(Create(invited, bytes(16)))
        self.assertEqual([each.name for each in self.ask("alice")], ["alice"])

    def test_more_than_is_told(self) -> None:
        """An answer is bounded, in pieces however it comes, and says when it is not all."""
        for number in range(7):
            self.kdc.add(f"n{number}")
        self.restart(names_at_once=2)
        self.assertEqual(len(self.ask("alice")), 8)
        for most in (1, 2, 3, 7):
            self.restart(names_at_once=2, max_named=most)
            found, more = self.do(everybody(self.known_client("alice"), DIRECTORY))
            self.assertEqual((len(found), more), (most, True))
        self.restart(names_at_once=2, max_named=8)
        self.assertEqual(len(self.ask("alice")), 8)

    def test_too_often(self) -> None:
        """Who keeps asking is told when to come again; others are not kept waiting by that."""
        self.limit(keys_per_second=11, keys_burst=120)
        for _ in range(10):
            self.ask("alice")
        error = self.refused(TooBusy, "alice")
        self.assertEqual((error.retry_after, error.hint), (1, "try again in 1 s"))
        self.ask("bob")
        self.network.advance(2)
        self.ask("alice")
        self.refused(TooBusy, "alice")

    def test_one_budget(self) -> None:
        """Questions and requests for keys are counted together, and slow each other down."""
        self.limit(keys_per_second=11, keys_burst=110)
        alice = self.login("alice", address="198.51.100.7")
        for _ in range(9):
            self.ask("alice")
        (protocol,) = (
            each for each in self.kdc.factory._protocols.values() if each._address == "198.51.100.7"
        )
        asked = [self.begin(alice.request_key(DIRECTORY)) for _ in range(30)]
        self.assertTrue(protocol._rest.running)
        self.network.advance(5)
        for each in asked:
            self.successResultOf(each)
        alice.close()
        self.network.settle()

    def test_many_names(self) -> None:
        """The more there is to look at, the more a question counts."""
        self.limit(keys_per_second=1, keys_burst=100)
        for number in range(100):
            self.kdc.add(f"user{number}")
        owed = self.kdc.realm.work_rate.owed
        self.ask("alice")
        now = self.network.milliseconds()
        spent = 11 + len(self.kdc.store) / 50
        self.kdc.realm.work_rate.charge("alice", 99.9 - spent, now)
        self.assertEqual(owed("alice", now), 0)
        self.kdc.realm.work_rate.charge("alice", 0.5, now)
        self.assertIn(owed("alice", now), range(399, 403))

    def limit(self, **limits: int) -> None:
        realm = self.kdc.realm
        realm.govern(realm.enrolment, 300, Limits(**limits), realm.permits)

    def test_a_question_is_empty(self) -> None:
        """Who says something is cut off."""
        asking = HalfRecorder()
        self.connect("alice", DIRECTORY, asking, SERVICE)
        asking.out.write(b"?")
        self.network.settle()
        self.assertIsInstance(asking.lost, IntegrityError)
        self.ask("alice")

    def test_says_nothing(self) -> None:
        """Who opens a channel and does not ask loses it, and holds a few at a time only."""
        idle = [HalfRecorder() for _ in range(5)]
        for each in idle[:4]:
            self.successResultOf(self.connect("alice", DIRECTORY, each, SERVICE))
        # Not even an answer to the handshake, however often it tries.
        fifth = self.connect("alice", DIRECTORY, idle[4], SERVICE)
        self.network.advance(15)
        self.failureResultOf(fifth, ClosedEarly)
        self.ask("bob")
        self.network.advance(directory_module.ANSWER_SECONDS)
        self.assertEqual([type(each.lost) for each in idle[:4]], [IntegrityError] * 4)
        self.ask("alice")

    def test_too_many(self) -> None:
        """Nor do many together keep more than so many open."""
        self.restart(max_open=2)
        for name in ("alice", "bob"):
            self.successResultOf(self.connect(name, DIRECTORY, HalfRecorder(), SERVICE))
        third = self.connect("carol", DIRECTORY, HalfRecorder(), SERVICE)
        self.network.advance(15)
        self.failureResultOf(third, ClosedEarly)
        self.network.advance(directory_module.ANSWER_SECONDS)
        self.ask("carol")

    def test_does_not_read(self) -> None:
        """For who does not read no more is prepared than fits between us, and not for ever."""
        record = Record("n", Status.ACTIVE, verify_key=bytes(32), reply_key=bytes(32))
        for number in range(20_000):
            name = f"n{number:05}"
            self.kdc.store._records[name] = attrs.evolve(record, name=name)
        self.restart(names_at_once=100)
        reads: list[Any] = []
        self.directory.read = lambda call, *args: succeed(reads.append(call) or call(*args))  # type: ignore[func-returns-value]
        asking = HalfRecorder()
        self.successResultOf(self.connect("alice", DIRECTORY, asking, SERVICE))
        asking.out.pauseProducing()
        asking.out.loseWriteConnection()
        self.network.settle()
        self.assertLess(len(reads), 80)
        prepared = len(reads)
        self.network.advance(directory_module.ANSWER_SECONDS)
        self.assertLessEqual(len(reads), prepared + 1)
        self.assertIsInstance(asking.lost, Exception)
        self.assertEqual(len(self.ask("bob")), 20_002)

    def test_other_services(self) -> None:
        """It offers nothing else."""
        failed = self.connect("alice", DIRECTORY, Recorder(), "kdc.send")
        self.failureResultOf(failed, RefusedByPolicy)

    def test_wherever_the_kdc_is(self) -> None:
        """It is looked for where we reach the KDC, whatever the KDC takes for its own address."""
        epoch = self.kdc.realm.epoch_of(DIRECTORY)
        self.assertEqual((epoch.address, epoch.port), (KDC_HOST, PORT))  # type: ignore[union-attr]
        object.__setattr__(epoch, "address", "127.0.0.1")
        self.assertEqual([each.name for each in self.ask("alice")], ["alice"])

    def test_renewed_certificate(self) -> None:
        """After the KDC has taken another TLS key it comes back, to the KDC that it is part of."""
        self.kdc.tls.replace_by(ServerTLS(*certificate("renewed")))
        for wire in list(self.network.wires):
            if wire.host.port == KDC_PORT:
                wire.abortConnection()
        self.network.advance(2)
        self.assertRegex(self.said[-2], "the connection to the KDC .* was lost; trying again in")
        self.assertIn("receiving on", self.said[-1])
        self.ask("alice")

    def test_disabled_meanwhile(self) -> None:
        """An operator who disables it ends it, which is said; the KDC goes on."""
        record = self.kdc.store.get(DIRECTORY)
        if record is None:
            self.fail("not registered")
        disabled = Record(
            DIRECTORY,
            Status.DISABLED,
            verify_key=record.verify_key,
            reply_key=record.reply_key,
        )
        with capturedLogs() as events:
            self.kdc.apply(Replace(disabled, record.generation))
            self.network.advance(2)
        self.assertRegex(self.said[-1], "directory: has ended: ")
        self.assertEqual([e["log_namespace"] for e in events], ["kdc.server._directory.Directory"])
        self.assertNotIn((KDC_HOST, PORT), self.network.ports)
        self.refused(PeerUnavailable, "alice")
        self.assert_well()

    def test_stopped_in_the_middle(self) -> None:
        """Answers that are being given are broken off, and are seen to be."""
        waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

        def slow(call: Callable[..., Any], *args: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            waiting.append((done, lambda: call(*args)))
            return done

        self.directory.read = slow
        asking = self.begin(everybody(self.known_client("alice"), DIRECTORY))
        self.assertNoResult(asking)
        self.stop()
        self.failureResultOf(asking, IntegrityError)
        ((done, call),) = waiting
        done.callback(call())  # the thread comes to its end, too
        self.assertEqual(len(waiting), 1)


class StandingTests(DirectoryTestCase):
    """When one's own time at the KDC ends."""

    def tearDown(self) -> None:
        for client in self.clients:
            client.close()
        self.network.settle()

    def limit(self, name: str, end: int, renewal: int = 0) -> None:
        record = self.kdc.store.get(name) or self.kdc.add(name)
        limited = attrs.evolve(record, expiry_time=end, renewal_seconds=renewal)
        self.kdc.apply(Replace(limited, record.generation))

    def standing(self, name: str) -> Standing | None:
        return self.do(standing(self.known_client(name)))

    def test_told(self) -> None:
        """Each is told its own, and what time it is at the KDC; none is told another's."""
        self.start()
        self.limit("alice", self.unix_time + 90, 7776000)
        self.limit("bob", self.unix_time + 5)
        now = self.unix_time
        self.assertEqual(self.standing("alice"), Standing(now, now + 90, 7776000))
        self.assertEqual(self.standing("bob"), Standing(now, now + 5))
        self.assertEqual(self.standing("carol"), Standing(now))
        self.unix_time += 60
        self.assertEqual(self.standing("alice"), Standing(now + 60, now + 90, 7776000))
        self.stop()

    def test_nobody_tells(self) -> None:
        """Without a directory, with one that does not know the question, and with a bad answer."""
        self.assertIsNone(self.standing("alice"))
        for services in (
            {SERVICE: Service(Factory.forProtocol(Echo))},
            {STANDING: Service(Factory.forProtocol(Echo))},
        ):
            reception, listener, _ = self.receive(DIRECTORY, services)
            port = self.network.listen(KDC_HOST, 60000, listener)
            self.assertIsNone(self.standing("alice"))
            port.stopListening()
            reception.stop()
            self.network.settle()

    def test_a_question_is_empty(self) -> None:
        """Who says something is cut off, and is told nothing."""
        self.start()
        asking = HalfRecorder()
        self.connect("alice", DIRECTORY, asking, STANDING)
        asking.out.write(b"bob")
        self.network.settle()
        self.assertIsInstance(asking.lost, IntegrityError)
        self.assertEqual(asking.received, b"")
        self.stop()

    def test_has_room(self) -> None:
        """A few questions at a time of one client, of both kinds; all end with the directory."""
        self.start()
        idle = [HalfRecorder() for _ in range(5)]
        for each, service in zip(idle[:4], 2 * (STANDING, SERVICE), strict=True):
            self.successResultOf(self.connect("alice", DIRECTORY, each, service))
        fifth = self.connect("alice", DIRECTORY, idle[4], STANDING)
        self.network.advance(15)
        self.failureResultOf(fifth, ClosedEarly)
        self.stop()
        self.network.settle()
        self.assertEqual([type(each.lost) for each in idle[:4]], [IntegrityError] * 4)

    def test_who_stays_is_told(self) -> None:
        """A receiver looks when it has begun and each day, and says it from 14 days before."""
        self.start()
        self.limit("bob", self.unix_time + 16 * 86400)
        told: list[str] = []
        client = self.known_client("bob")
        client.reactor = ListeningHost(self.network, client.reactor.address)
        listening = Listening(client, {}, "tcp:60000", ending=told.append)
        self.do(listening.bind())
        running = self.begin(listening.run())
        self.network.advance(61)
        self.assertEqual(told, [])
        for _ in range(4):
            self.unix_time += 86400
            self.network.advance(86400 * 1.1)
        self.assertGreaterEqual(len(told), 2)
        self.assertRegex(told[0], "^our time at the KDC ends in 13 days, 2023-11-30T22:13Z: ")
        self.do(listening.close())
        self.assertIsNone(self.successResultOf(running))
        count = len(told)
        self.network.advance(2 * 86400)
        self.assertEqual(len(told), count)
        self.stop()


class NoDirectoryTests(DirectoryTestCase):
    """It was not started, or somebody else has its name."""

    def test_none(self) -> None:
        """It is said so, with what to do, whether the name is unknown or does not receive."""
        for _ in range(2):
            error = self.refused(PeerUnavailable, "alice")
            self.assertRegex(str(error), "has no directory: nobody answers there as directory")
            self.assertIn("kdcclient who PEER", error.hint)
            self.assertIn("kdc --directory", error.hint)
            self.kdc.add(DIRECTORY)

    def test_elsewhere(self) -> None:
        """Who has taken its name on another host is not even looked for."""
        answering = HalfRecorder()
        reception, *_ = self.receive(DIRECTORY, {SERVICE: Service(factory_of(answering))})
        error = self.refused(PeerUnavailable, "alice")
        self.assertIn(f"cannot be reached at {KDC_HOST} port 60000", str(error))
        self.assertEqual(answering.made, 0)
        reception.stop()

    def test_junk(self) -> None:
        """What is no answer is refused, and nothing of it is shown."""
        answering = HalfRecorder()
        services = {SERVICE: Service(factory_of(answering))}
        reception, listener, _ = self.receive(DIRECTORY, services)
        self.network.listen(KDC_HOST, 60000, listener)
        asking = self.begin(everybody(self.known_client("alice"), DIRECTORY))
        answering.out.write(b'{"name":"\\u001b[2J","receiving":false,"address":"","port":0}\n')
        answering.out.loseConnection()
        self.network.settle()
        error = self.failureResultOf(asking, RemoteProtocolError).value
        self.assertTrue(str(error).isprintable(), str(error))
        reception.stop()


class StartTests(DirectoryTestCase):
    """Its key, its name, its port."""

    def refuses(self, expected: type[Exception], pattern: str, **settings: Any) -> Any:
        error = self.assertRaises(expected, self.open, self.new_directory(**settings))
        self.assertRegex(str(error), pattern)
        return error

    def test_first_start(self) -> None:
        """A key of its own, private; registered in the store; the same one the next time."""
        self.start()
        self.assertEqual(stat.S_IMODE(self.key_file.stat().st_mode), 0o600)
        self.assertEqual(self.kdc.events()[0], "registered")
        key, record = self.key_file.read_bytes(), self.kdc.store.get(DIRECTORY)
        self.stop()
        self.network.settle()
        self.directory = self.new_directory()
        self.said.clear()
        self.start()
        self.assertEqual(self.key_file.read_bytes(), key)
        self.assertEqual(self.kdc.store.get(DIRECTORY), record)
        self.stop()

    def test_another_name(self) -> None:
        """For a realm that has a principal called so already."""
        self.kdc.add(DIRECTORY)
        error = self.refuses(ConfigurationError, "the name directory is not the directory's")
        self.assertIs(error.kind, ErrorKind.NAME_OF_DIRECTORY_TAKEN)
        directory = self.new_directory(name="who-is-who")
        self.open(directory)
        directory.start()
        self.network.settle()
        found, _ = self.do(everybody(self.known_client("alice"), "who-is-who"))
        self.assertEqual([each.name for each in found], ["alice", "directory"])
        self.do(directory.stop())

    def test_name_not_usable(self) -> None:
        """Its key lost, its record disabled or deleted: nothing is put in the place of that."""
        self.open()
        self.stop()
        record = self.kdc.store.get(DIRECTORY)
        if record is None:
            self.fail("not registered")
        self.key_file.rename(self.key_file.with_suffix(".lost"))
        self.refuses(ConfigurationError, "its key is not the one in")
        self.key_file.with_suffix(".lost").rename(self.key_file)
        self.kdc.apply(Delete(DIRECTORY, record.generation))
        self.refuses(ConfigurationError, "deleted or disabled")
        self.assertIs(self.kdc.store.get(DIRECTORY).status, Status.DELETED)  # type: ignore[union-attr]

    def test_key_file(self) -> None:
        """One that others can read, or that is none, is not used."""
        self.open()
        self.stop()
        self.key_file.chmod(0o640)
        self.refuses(ConfigurationError, "can be read by others")
        self.key_file.chmod(0o600)
        self.key_file.write_text("nothing")
        self.refuses(ConfigurationError, "is not a key file")
        self.refuses(LocalIOError, "Not a directory", key_file=self.key_file / "no" / "key")

    def test_port(self) -> None:
        """One that is taken is known before the KDC runs."""
        self.network.listen(KDC_HOST, PORT, factory_of())
        self.refuses(LocalIOError, "cannot listen on tcp:89")
        self.refuses(ConfigurationError, "not an endpoint", listen="tcp:x")
