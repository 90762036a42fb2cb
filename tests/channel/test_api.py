"""`kdc.api.Client`, and endpoint strings, with a network and a KDC in memory."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import (
    IListeningPort,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.protocol import Factory
from twisted.plugin import getPlugins
from twisted.protocols.wire import Echo
from zope.interface.verify import verifyObject

from kdc.api import ANYBODY, Client, ListeningPrincipal
from kdc.channel._channel import ClosedEarly
from kdc.client import configuration as configuration_module
from kdc.client.settings import ClientSettings
from kdc.errors import (
    ConfigurationError,
    IntegrityError,
    LocalIOError,
    PeerUnavailable,
    Refusal,
    RefusedByPolicy,
    RemoteProtocolError,
    Superseded,
)
from tests.support.edge import EdgeTestCase, HalfRecorder, Host, Recorder, factory_of


class _Listener:
    def __init__(self, port: Any) -> None:
        self._port = port

    def getHost(self) -> Any:
        return self._port.getHost()

    def stopListening(self) -> Deferred[None]:
        self._port.stopListening()
        return succeed(None)


class ListeningHost(Host):
    """One on which Twisted's TCP endpoints can listen, too."""

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        number = port or next(n for n in range(40000, 50000) if (self.address, n) not in self.ports)
        if (self.address, number) in self.ports:
            raise CannotListenError(interface, number, OSError(98, "Address already in use"))
        listener = _Listener(self.network.listen(self.address, number, factory))
        return cast(IListeningPort, listener)

    @property
    def ports(self) -> Any:
        return self.network.ports


class ClientTestCase(EdgeTestCase):
    def host(self, address: str | None = None) -> Host:
        return ListeningHost(self.network, address or next(self._addresses))

    def principal(self, name: str) -> Client:
        settings = ClientSettings(name, "192.0.2.88", 88)
        return Client(self.known_client(name), settings)

    def epochs_begun(self) -> int:
        return sum(event == "epoch-begun" for event in self.kdc.events())


class ClientTests(ClientTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.principal("alice"), self.principal("bob")
        self.echo = Factory.forProtocol(Echo)

    def test_listen_and_connect(self) -> None:
        """A peer that listens is reached by its name; both know each other."""
        far, near = Recorder(), Recorder()
        port: Any = self.do(self.bob.listen(factory_of(far)))
        verifyObject(IListeningPort, port)
        self.assertEqual(port.getHost().port, 40000)
        self.assertIs(self.do(self.alice.connect("bob", factory_of(near))), near)
        self.assertEqual((near.out.principal, far.out.principal), ("bob", "alice"))
        self.assertEqual((self.alice.name, self.bob.name), ("alice", "bob"))

    def test_services(self) -> None:
        """Several services share one port and one epoch, also when all begin at once."""
        fars = [Recorder(), Recorder(), Recorder()]
        for work in [
            Deferred.fromCoroutine(self.bob.listen(factory_of(far), service=service))
            for far, service in zip(fars, ("", "web", "mail"), strict=True)
        ]:
            self.network.settle()
            self.successResultOf(work)
        self.assertEqual(self.epochs_begun(), 1)
        for far, service in zip(fars, ("", "web", "mail"), strict=True):
            self.do(self.alice.connect("bob", factory_of(Recorder()), service))
            self.assertEqual(far.made, 1)

    def test_offered_twice(self) -> None:
        """A service that is offered already is not taken away from whom it belongs to."""
        self.do(self.bob.listen(self.echo, service="web"))
        self.failure(ConfigurationError, self.bob.listen(self.echo, service="web"))

    def test_allow(self) -> None:
        """A service may be for some only; nobody at all is possible, too."""
        carol = self.principal("carol")
        self.do(self.bob.listen(self.echo, service="hers", allow=["alice"]))
        self.do(self.bob.listen(self.echo, service="nobodys", allow=[]))
        self.assertEqual(self.do(self.alice.ask("bob", b"x", "hers")), b"x")
        self.assert_silence(self.begin(carol.ask("bob", b"x", "hers")))
        self.failure(RefusedByPolicy, self.alice.ask("bob", b"x", "nobodys"))

    def test_names_as_people_write_them(self) -> None:
        """Names and services are folded as on the command line, and others are errors of ours."""
        self.do(self.bob.listen(self.echo, service="Web", allow=["Alice"]))
        self.assertEqual(self.do(self.alice.ask("Bob", b"x", "WEB")), b"x")
        self.assertEqual(self.do(self.alice.session_key("BOB")).peer, "bob")
        for wrong in ("b ob", "", "b\u043eb", "bob@LOCAL", "x" * 65):
            self.failure(ConfigurationError, self.alice.ask(wrong))
            self.failure(ConfigurationError, self.alice.connect(wrong, self.echo))
            self.failure(ConfigurationError, self.alice.session_key(wrong))
            self.assertRaises(ConfigurationError, self.alice.endpoint, wrong)
            self.failure(ConfigurationError, self.bob.listen(self.echo, allow=[wrong]))
        self.failure(ConfigurationError, self.alice.ask("bob", service="a/b"))
        self.failure(ConfigurationError, self.bob.listen(self.echo, service="a b"))
        # Not the letters of it, which would let nobody in.
        self.failure(ConfigurationError, self.bob.listen(self.echo, allow="alice"))

    def assert_silence(self, connecting: Deferred[Any]) -> None:
        """Who may use nothing there is not answered, and gives up in the end."""
        self.assertNoResult(connecting)
        self.network.advance(11)
        self.failureResultOf(connecting, ClosedEarly)

    def test_port_taken(self) -> None:
        """A port that is taken is an error for who listens; another one may be tried then."""
        host = self.bob._client.reactor.address
        self.network.listen(host, 7000, factory_of())
        error = self.failure(LocalIOError, self.bob.listen(self.echo, listen="tcp:7000"))
        self.assertIn("Address already in use", str(error))
        self.failure(ConfigurationError, self.bob.listen(self.echo, listen="nothing:1"))
        self.do(self.bob.listen(self.echo))
        self.assertEqual(self.do(self.alice.ask("bob", b"x")), b"x")

    def test_stop_listening(self) -> None:
        """A service that is withdrawn is gone; with the last one the port and the epoch go."""
        first: ListeningPrincipal = self.do(self.bob.listen(self.echo))
        second = self.do(self.bob.listen(self.echo, service="web"))
        self.successResultOf(second.stopListening())
        self.failure(RefusedByPolicy, self.alice.ask("bob", b"", "web"))
        self.assertEqual(self.do(self.alice.ask("bob", b"x")), b"x")
        stopping = first.stopListening()
        self.network.settle()
        self.successResultOf(stopping)
        self.assertEqual([port for _, port in self.network.ports], [88])
        self.failure(PeerUnavailable, self.alice.ask("bob"))
        self.do(self.bob.listen(self.echo, service="again"))
        self.assertEqual(self.do(self.alice.ask("bob", b"x", "again")), b"x")

    def test_close(self) -> None:
        """A client that is closed leaves; channels that are open go on."""
        far, near = Recorder(), Recorder()
        serving = self.begin(self.bob.serve(factory_of(far)))
        self.do(self.alice.connect("bob", factory_of(near)))
        self.assertNoResult(serving)
        self.do(self.bob.close())
        self.do(self.alice.close())
        self.network.settle()
        self.assertIsNone(self.successResultOf(serving))
        near.out.write(b"still here")
        near.out.loseConnection()
        self.network.settle()
        self.assertEqual(far.received, b"still here")
        self.assertIsInstance(near.lost, ConnectionDone)
        self.assertEqual((self.network.wires, self.network.getDelayedCalls()), ([], []))

    def test_superseded(self) -> None:
        """Somebody else listens under our name: `serve` ends with that; the port is given up."""
        serving = self.begin(self.bob.serve(self.echo))
        other = self.principal("bob")
        self.do(other.listen(self.echo, service="other"))
        self.failureResultOf(serving, Superseded)
        self.assertEqual(self.do(self.alice.ask("bob", b"x", "other")), b"x")
        self.assertEqual(len(self.network.ports), 2)

    # asking

    def test_ask(self) -> None:
        """A question of any length, an answer of any length up to the limit."""
        self.do(self.bob.listen(self.echo))
        question = b"q" * 1_000_000
        self.assertEqual(self.do(self.alice.ask("bob", question)), question)
        self.assertEqual(self.do(self.alice.ask("bob", b"q" * 100, limit=100)), b"q" * 100)
        self.failure(RefusedByPolicy, self.alice.ask("bob", b"q" * 101, limit=100))

    def test_ask_and_be_cut(self) -> None:
        """Half an answer is none."""
        far = HalfRecorder()
        self.do(self.bob.listen(factory_of(far)))
        asking = self.begin(self.alice.ask("bob", b"question"))
        far.out.write(b"half an ans")
        self.network.settle()
        self.assertNoResult(asking)
        far.out.abortConnection()
        self.network.settle()
        self.failureResultOf(asking, IntegrityError)

    def test_ask_and_give_up(self) -> None:
        """Asking can be cancelled while the answer is awaited."""
        far = HalfRecorder()
        self.do(self.bob.listen(factory_of(far)))
        asking = self.begin(self.alice.ask("bob", b"question"))
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.network.settle()
        self.assertIsInstance(far.lost, IntegrityError)

    # keys

    def test_session_key(self) -> None:
        """Both ends derive what the documents say, under each purpose another key."""
        self.do(self.bob.listen(self.echo))
        key = self.do(self.alice.session_key("bob"))
        opened = self.bob.open_ticket(key.epoch_id, key.ticket, key.proof, allow=["alice"])
        self.assertEqual((opened.sender, key.peer, key.lifetime_seconds), ("alice", "bob", 300))
        purpose = "Schlüssel für Sicherungen"
        self.assertEqual(key.derive(purpose), opened.derive(purpose))
        self.assertNotEqual(key.derive(purpose), key.derive("another"))
        for thing in (key, opened):
            for secret in (key.proof, key.ticket, key._keys._root, key.derive(purpose)):
                self.assertNotIn(repr(secret)[2:-1], repr(thing))

    def test_only_from_these(self) -> None:
        """A ticket of somebody who is not expected is refused, and not used up."""
        self.do(self.bob.listen(self.echo))
        key = self.do(self.alice.session_key("bob"))
        handed = (key.epoch_id, key.ticket, key.proof)
        for names in ([], ["carol"]):
            error = self.assertRaises(
                RemoteProtocolError, self.bob.open_ticket, *handed, allow=names
            )
            self.assertIs(error.refusal, Refusal.NOT_ALLOWED)
        self.assertEqual(self.bob.open_ticket(*handed, allow=["alice"]).sender, "alice")

    def test_anybody(self) -> None:
        """That it may be anybody's has to be said."""
        self.do(self.bob.listen(self.echo))
        key = self.do(self.alice.session_key("bob"))
        handed = (key.epoch_id, key.ticket, key.proof)
        unsaid: Any = self.bob.open_ticket
        self.assertRaises(TypeError, unsaid, *handed)
        self.assertRaises(ConfigurationError, unsaid, *handed, allow=None)
        self.assertEqual(self.bob.open_ticket(*handed, allow=ANYBODY).sender, "alice")

    def test_a_ticket_opens_once(self) -> None:
        """A ticket is good once, for its receiver only, while that one listens."""
        carol = self.principal("carol")
        self.do(self.bob.listen(self.echo))
        self.do(carol.listen(self.echo))
        key = self.do(self.alice.session_key("bob"))
        handed = (key.epoch_id, key.ticket, key.proof)
        self.assertRaises(RemoteProtocolError, carol.open_ticket, *handed, allow=ANYBODY)
        self.bob.open_ticket(*handed, allow=ANYBODY)
        self.assertRaises(RemoteProtocolError, self.bob.open_ticket, *handed, allow=ANYBODY)
        self.assertRaises(ConfigurationError, self.alice.open_ticket, *handed, allow=ANYBODY)
        self.network.advance(301)
        late = self.do(self.alice.session_key("bob"))
        handed = (late.epoch_id, late.ticket, late.proof)
        self.network.advance(301)
        self.assertRaises(RemoteProtocolError, self.bob.open_ticket, *handed, allow=ANYBODY)

    def test_keys_differ(self) -> None:
        """Each request gives another key."""
        self.do(self.bob.listen(self.echo))
        keys = [self.do(self.alice.session_key("bob")) for _ in range(3)]
        self.assertEqual(len({key.derive("x") for key in keys}), 3)

    # options

    def test_nobody_is_asked(self) -> None:
        """Without a file with a secret `open` fails: a library does not ask questions."""
        self.patch(configuration_module, "load", lambda path=None: {})
        reactor: Any = self.host()
        opening = Client.open(reactor, name="alice", port=1)
        error = self.failure(ConfigurationError, opening)
        self.assertIn("key_file", error.hint)
        self.failure(ConfigurationError, Client.open(reactor, name="alice"))


class EndpointStringTests(ClientTestCase):
    """``kdc:...``"""

    def setUp(self) -> None:
        super().setUp()
        self.opened: list[dict[str, str]] = []
        self.opening: list[Deferred[Client]] = []
        self.reactor: Any = self.host()
        self.patch(Client, "open", self.open)

    def open(self, reactor: Any, **options: str) -> Deferred[Client]:
        self.assertIs(reactor, self.reactor)
        self.opened.append(options)
        if self.opening:
            return self.opening.pop(0)
        return succeed(self.principal(options.get("name", "alice")))

    def to(self, text: str) -> Any:
        return clientFromString(self.reactor, text)

    def at(self, text: str) -> Any:
        return serverFromString(self.reactor, text)

    def test_found(self) -> None:
        """Twisted finds the parser, for both sides."""
        for interface in (
            IStreamClientEndpointStringParserWithReactor,
            IStreamServerEndpointStringParser,
        ):
            plugins: list[Any] = list(getPlugins(interface))
            (plugin,) = [plugin for plugin in plugins if plugin.prefix == "kdc"]
            self.assertTrue(verifyObject(interface, plugin))
        self.assertTrue(verifyObject(IStreamClientEndpoint, self.to("kdc:bob")))
        self.assertTrue(verifyObject(IStreamServerEndpoint, self.at("kdc:")))

    def test_through(self) -> None:
        """A server and a client, both from strings."""
        listening = self.at(
            "kdc:service=echo:name=bob:listen=tcp\\:7001\\:interface=127.0.0.1:allow=alice,carol"
        ).listen(Factory.forProtocol(Echo))
        self.network.settle()
        port = self.successResultOf(listening)
        self.assertEqual(port.getHost().port, 7001)
        near = Recorder()
        connecting = self.to("kdc:bob:service=echo:name=alice").connect(factory_of(near))
        self.network.settle()
        self.assertIs(self.successResultOf(connecting), near)
        near.out.write(b"hello")
        self.network.settle()
        self.assertEqual(near.received, b"hello")
        refused = self.to("kdc:bob:service=echo:name=dave").connect(factory_of(Recorder()))
        self.network.settle()
        self.network.advance(11)
        self.failureResultOf(refused, ClosedEarly)

    def test_keywords(self) -> None:
        """Each keyword is the option of that name."""
        words = {
            "name": "alice",
            "address": "kdc.example,[\\:\\:1]\\:89",
            "port": "88",
            "realm": "LAB",
            "keyFile": "/etc/alice.key",
            "passphraseFile": "/etc/alice.pass",
            "kdcFingerprint": "sha256\\:00",
            "kdcCa": "system",
            "knownKdcs": "/etc/known",
            "config": "/etc/client.toml",
        }
        text = "kdc:bob" + "".join(f":{key}={value}" for key, value in words.items())
        self.to(text).connect(factory_of(Recorder())).addErrback(lambda failure: None)
        self.assertEqual(
            self.opened,
            [
                {
                    "name": "alice",
                    "address": ("kdc.example", "[::1]:89"),
                    "port": "88",
                    "realm": "LAB",
                    "key_file": "/etc/alice.key",
                    "passphrase_file": "/etc/alice.pass",
                    "kdc_fingerprint": "sha256:00",
                    "kdc_ca": "system",
                    "known_kdcs": "/etc/known",
                    "config": "/etc/client.toml",
                }
            ],
        )

    def test_wrong_strings(self) -> None:
        """What cannot be meant is refused when the string is read, with a reason."""
        for text, reason in (
            ("kdc:bob:passphrase=hunter2", "no 'passphrase'; there are"),
            ("kdc:bob:key-file=x", "keyFile"),
            ("kdc:b b", "name"),
            ("kdc:bob:service=-", "name"),
        ):
            error = self.assertRaises(ValueError, self.to, text)
            self.assertIn(reason, str(error))
            self.assertNotIn("hunter2", str(error))
        for text in ("kdc:allow=a b", "kdc:passphrase=x", "kdc:service=A B"):
            self.assertRaises(ValueError, self.at, text)

    def test_shared(self) -> None:
        """Strings that say the same of themselves share one client, and one epoch."""
        listening = [
            self.at(f"kdc:{text}").listen(Factory.forProtocol(Echo))
            for text in ("name=bob:port=88", "port=88:name=bob:service=web")
        ]
        self.network.settle()
        for port in listening:
            self.successResultOf(port)
        self.assertEqual(len(self.opened), 1)
        self.assertEqual(self.epochs_begun(), 1)
        self.to("kdc:bob:name=alice").connect(factory_of(Recorder()))
        self.assertEqual(len(self.opened), 2)

    def test_opened_when_needed(self) -> None:
        """Reading a string opens nothing; those who wait get the same client."""
        self.opening = [Deferred()]
        (first,) = self.opening
        listening = [
            self.at(f"kdc:name=bob:service={service}").listen(Factory.forProtocol(Echo))
            for service in ("one", "two", "three")
        ]
        self.assertEqual(len(self.opened), 1)
        first.callback(self.principal("bob"))
        self.network.settle()
        for port in listening:
            self.successResultOf(port)

    def test_opened_again_if_that_failed(self) -> None:
        """A KDC that was not there is tried again by the next one who needs it."""
        self.opening = [fail(PeerUnavailable("not now"))]
        self.failureResultOf(
            self.at("kdc:name=bob").listen(Factory.forProtocol(Echo)), PeerUnavailable
        )
        again = self.at("kdc:name=bob").listen(Factory.forProtocol(Echo))
        self.network.settle()
        self.successResultOf(again)
        self.assertEqual(len(self.opened), 2)
