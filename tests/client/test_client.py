"""The client's connection to the KDC: requests, answers, and every way it can go wrong."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IHandshakeListener
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface.verify import verifyObject

from kdc.channel.services import Service
from kdc.client.client import CONNECT_SECONDS, KDCClient
from kdc.client.link import REQUEST_SECONDS, _Silent
from kdc.errors import (
    AuthenticationRefused,
    ErrorKind,
    ExitStatus,
    KDCError,
    KDCUnreachable,
    PeerUnavailable,
    Refusal,
    RefusedByPolicy,
    RemoteProtocolError,
    Superseded,
    TooBusy,
)
from kdc.issuing import issuer as issuer_module
from kdc.issuing.decisions import Enrolment, Output
from kdc.issuing.session import Session, State
from kdc.limits import Limits
from kdc.net.retry import backoff
from kdc.protocol.codec import MAX_FRAME, FrameBuffer, frame
from kdc.protocol.messages import (
    Authenticate,
    KeyReply,
    KeyRequest,
    Receiving,
    Refused,
    Registered,
    encode,
    type_of,
)
from kdc.server._connections import KDCProtocol
from kdc.server._handshakes import tls_factory
from kdc.store import Replace
from tests.support.core import keys_of
from tests.support.edge import KDC, KDC_HOST, KDC_PORT, EdgeTestCase, Recorder, factory_of

PUBLIC = bytes([9]) + bytes(31)


class RequestTests(EdgeTestCase):
    def test_register(self) -> None:
        """A new name is registered, and the connection is good for more at once."""
        client = self.client("alice")
        generation = self.do(client.register("", 60000))
        self.assertEqual(generation, 1)
        link = self.do(client.link())
        self.failure(PeerUnavailable, link.request_key("bob"))
        self.assertEqual(len(self.kdc.factory), 1)

    def test_grant(self) -> None:
        """A key for a peer that receives says where it is."""
        self.do(self.login("bob", address="192.0.2.7").receive_under(PUBLIC, "", 60000))
        client = self.known_client("alice")
        grant = self.do(client.grant("bob"))
        self.assertEqual((grant.reply.address, grant.reply.port), ("192.0.2.7", 60000))
        self.assertEqual(grant.reply.receiver_key, PUBLIC)
        self.assertNotEqual(self.do(client.grant("bob")).reply.session_key, grant.reply.session_key)
        self.assertEqual(len(self.kdc.factory), 2, "one connection is used again")

    def test_counts_from_asking(self) -> None:
        """A key's L seconds begin when it is asked for, however late the answer comes."""
        self.do(self.login("bob").receive_under(PUBLIC, "", 60000))
        client = self.known_client("alice")
        link = self.do(client.link())
        (serving,) = [each for s, each in self.kdc.factory._protocols.items() if s.name == "alice"]
        asked, take = self.network.milliseconds(), serving.dataReceived
        serving.dataReceived = lambda data: (  # type: ignore[method-assign,assignment]
            self.network.callLater(5, take, data)
        )
        granting = self.begin(link.request_key("bob"))
        self.network.advance(6)
        grant = self.successResultOf(granting)
        end = asked + 1000 * grant.reply.lifetime_seconds
        presentation = grant.presentation()
        presentation.require_in_time(end)
        self.assertRaises(PeerUnavailable, presentation.require_in_time, end + 1)

    def test_one_round_trip(self) -> None:
        """On a new connection the question does not wait for the answer to our proof."""
        self.do(self.login("bob").receive_under(PUBLIC, "", 60000))
        heard: list[list[int]] = []
        original = KDCProtocol.dataReceived

        def hear(protocol: KDCProtocol, data: bytes) -> None:
            frames = FrameBuffer(MAX_FRAME)
            frames.feed(data)
            heard.append([type_of(body) for body in iter(frames.next, None)])
            original(protocol, data)

        self.patch(KDCProtocol, "dataReceived", hear)
        client = self.known_client("alice")
        self.do(client.grant("bob"))
        self.assertEqual(heard, [[Authenticate.TYPE, KeyRequest.TYPE]])
        self.do(client.grant("bob"))
        self.assertEqual(heard[1:], [[KeyRequest.TYPE]])

    def test_proof_refused_behind_a_question(self) -> None:
        """What was asked with a wrong proof fails with that, not with the end of the connection."""
        self.kdc.add("alice")
        client = self.client("alice", secret="no")
        asked = [Deferred.fromCoroutine(client.grant(name)) for name in ("bob", "carol")]
        self.network.settle()
        for each in asked:
            self.failureResultOf(each, AuthenticationRefused)
        self.assertEqual(self.network.wires, [])
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_many_at_once(self) -> None:
        """Requests that are sent together are answered each with its own."""
        names = [f"receiver{number}" for number in range(20)]
        for number, name in enumerate(names):
            self.do(self.login(name).receive_under(PUBLIC, "", 5000 + number))
        link = self.login("alice")
        asked = [Deferred.fromCoroutine(link.request_key(name)) for name in names]
        self.network.settle()
        ports = [self.successResultOf(each).reply.port for each in asked]
        self.assertEqual(ports, list(range(5000, 5020)))

    def test_in_any_order(self) -> None:
        """Two requests may be answered in either order; each gets its own answer."""
        self.do(self.login("bob").receive_under(PUBLIC, "", 5001))
        self.do(self.login("carol").receive_under(PUBLIC, "", 5002))
        link = self.login("alice")
        (serving,) = [each for s, each in self.kdc.factory._protocols.items() if s.name == "alice"]
        original, held = serving.dataReceived, []

        def reorder(data: bytes) -> None:
            held.append(data)
            length = 2 + int.from_bytes(data[:2], "big")
            if len(held) == 1 and len(data) > length:
                original(data[length:] + data[:length])

        serving.dataReceived = reorder  # type: ignore[method-assign]
        asked = [Deferred.fromCoroutine(link.request_key(name)) for name in ("bob", "carol")]
        self.network.settle()
        self.assertEqual([self.successResultOf(each).reply.port for each in asked], [5001, 5002])
        events = [line.detail for line in self.kdc.audit if line.event == "issued"]
        self.assertEqual(events, ["carol", "bob"])

    def test_one_connection_for_all(self) -> None:
        """Whoever asks for the connection while it is being made waits for the same one."""
        client = self.known_client("alice")
        links = [Deferred.fromCoroutine(client.link()) for _ in range(5)]
        self.network.settle()
        self.assertEqual(len({id(self.successResultOf(each)) for each in links}), 1)
        self.assertEqual(len(self.kdc.factory), 1)

    def test_after_idleness(self) -> None:
        """A connection that was closed for idleness is replaced without a word."""
        client = self.known_client("alice")
        self.do(client.link())
        self.network.advance(1000)
        self.do(self.login("bob").receive_under(PUBLIC, "", 60000))
        self.do(client.grant("bob"))

    def test_lost_at_that_moment(self) -> None:
        """A connection that breaks as we ask is replaced, and the question repeated once."""
        client = self.known_client("alice")
        link = self.do(client.link())
        self.do(self.login("bob").receive_under(PUBLIC, "", 60000))
        (serving,) = [each for s, each in self.kdc.factory._protocols.items() if s.name == "alice"]
        serving.dataReceived = lambda data: serving.transport.abortConnection()  # type: ignore[method-assign,union-attr]
        self.do(client.grant("bob"))
        self.assertFalse(link.alive)

    def test_change_and_delete(self) -> None:
        """Keys can be changed, and a name given up; both end the connection."""
        link = self.login("alice")
        self.assertEqual(self.do(link.change(keys_of("alice", "second"))), 2)
        self.assertFalse(link.alive)
        link = self.do(self.client("alice", secret="second").login())
        self.assertEqual(self.do(link.delete()), 3)

    def test_close(self) -> None:
        """A client that is closed leaves nothing behind, and can be used again."""
        client = self.known_client("alice")
        link = self.do(client.link())
        client.close()
        client.close()
        self.network.settle()
        self.assertEqual(self.network.wires, [])
        self.assertEqual(self.network.getDelayedCalls(), [])
        self.failure(KDCUnreachable, link.request_key("bob"))
        self.do(client.link())

    def test_interface(self) -> None:
        """The connection hears of the end of the handshake."""
        self.assertTrue(verifyObject(IHandshakeListener, self.login("alice")))


class RefusalTests(EdgeTestCase):
    """Each refusal becomes an error that says what to do, with its exit status."""

    limits = Limits(keys_per_second=1, keys_burst=10)

    def test_wrong_secret(self) -> None:
        """Wrong key and unknown name: exit status 4, the connection closed."""
        self.kdc.add("alice")
        texts = set()
        for name in ("alice", "nobody"):
            error = self.failure(AuthenticationRefused, self.client(name, secret="no").login())
            self.assertIs(error.exit_status, ExitStatus.AUTHENTICATION)
            texts.add(f"{error} {error.hint}")
        self.assertEqual(len(texts), 1, "the one is not told from the other")
        self.assertEqual(self.network.wires, [])

    def test_time_is_over(self) -> None:
        """Told to the owner with its reason; and nobody is registered again for it."""
        record = self.kdc.add("alice")
        new = attrs.evolve(record, expiry_time=1)
        self.kdc.store.apply([Replace(new, record.generation)])
        for ask in (KDCClient.login, KDCClient.link, lambda client: client.grant("bob")):
            error = self.failure(RefusedByPolicy, ask(self.client("alice")))
            self.assertIn("our time at this KDC is over", str(error))
            self.assertIs(error.kind, ErrorKind.PRINCIPAL_EXPIRED)
            self.assertIs(error.exit_status, ExitStatus.REFUSED)

    def test_peers(self) -> None:
        """Unknown and not receiving: exit status 5; oneself: 8."""
        self.kdc.add("bob")
        link = self.login("alice")
        unknown = self.failure(PeerUnavailable, link.request_key("nobody"))
        absent = self.failure(PeerUnavailable, link.request_key("bob"))
        self.assertIs(unknown.exit_status, ExitStatus.PEER)
        self.assertNotEqual(str(unknown), str(absent))
        self.assertIn("bob", str(absent))
        error = self.failure(RefusedByPolicy, link.request_key("alice"))
        self.assertIs(error.exit_status, ExitStatus.REFUSED)
        self.assertTrue(link.alive)

    def test_rate(self) -> None:
        """A KDC that refuses for now: the error says after how many seconds to try again."""
        link = self.login("alice")

        def busy(session: Session, request: KeyRequest, now: object) -> Output:
            return session.refuse(Refusal.RATE, request.nonce, "", 1)

        refusing = {(State.AUTHENTIC, KeyRequest): busy}
        patched = self.patch(issuer_module, "EXCHANGES", refusing)
        error = self.failure(TooBusy, link.request_key("bob"))
        patched.restore()
        self.assertEqual(error.retry_after, 1)
        self.assertIn("1 s", error.hint)
        self.network.advance(1)
        self.failure(PeerUnavailable, link.request_key("bob"))

    def test_registration(self) -> None:
        """A name that is taken, or cannot be had without an invitation."""
        self.kdc.add("alice")
        error = self.failure(
            AuthenticationRefused, self.client("alice", secret="other").register("", 0)
        )
        self.assertIn("registered already", str(error))
        self.kdc.stop()
        self.kdc = KDC(self.network, enrolment=Enrolment.INVITE)
        error = self.failure(AuthenticationRefused, self.client("alice").register("", 0))
        self.assertIn("invitation", str(error))
        self.assertEqual(self.network.wires, [])

    def test_every_refusal(self) -> None:
        """There is a text for each code, none is a traceback, and none quotes a number."""
        from kdc.client._refusals import error_of

        for code in Refusal:
            error = error_of(Refused(code, 3), "no key for bob")
            self.assertTrue(str(error).startswith("no key for bob: "))
            self.assertTrue(error.hint)
            self.assertNotEqual(error.exit_status, ExitStatus.DONE)


class TroubleTests(EdgeTestCase):
    """No KDC, a slow one, one that goes away, and one that is none."""

    def impostor(self, recorder: Recorder) -> None:
        """Something with the KDC's own TLS key takes its place."""
        self.kdc.stop()
        inner = factory_of(recorder)
        self.network.listen(
            KDC_HOST, KDC_PORT, TLSMemoryBIOFactory(self.kdc.tls, False, inner, self.network)
        )

    def test_no_kdc(self) -> None:
        """Nobody listens there: exit status 3, at once, with the place."""
        error = self.failure(KDCUnreachable, self.client("alice", port=99).login())
        self.assertIn(f"{KDC_HOST} port 99", str(error))
        self.assertIs(error.exit_status, ExitStatus.KDC)

    def test_accepts_and_is_silent(self) -> None:
        """What accepts the connection and says nothing costs ten seconds."""
        self.network.listen(KDC_HOST, 99, factory_of(Recorder()))
        login = self.begin(self.client("alice", port=99).login())
        self.network.advance(CONNECT_SECONDS - 0.1)
        self.assertNoResult(login)
        self.network.advance(0.2)
        self.failureResultOf(login, KDCUnreachable)
        self.assertEqual(self.network.wires, [])
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_silent_in_a_crowd(self) -> None:
        """Who has more patience waits for another turn at a KDC that has not come to him."""
        silent = self.network.listen(KDC_HOST, 99, factory_of(*(Recorder() for _ in range(3))))
        client = self.client("alice", port=99)
        told: list[KDCError] = []
        client.patience_seconds, client.held_up = 60.0, told.append
        entering = self.begin(client.register("", 0))
        for tried in range(1, 3):
            self.network.advance(CONNECT_SECONDS + 0.3)
            self.assertEqual([type(error) for error in told], [_Silent] * tried)
        self.assertNoResult(entering)
        silent.stopListening()
        kdc = self.kdc
        self.network.listen(KDC_HOST, 99, tls_factory(kdc.factory, kdc.tls, self.network))
        self.network.advance(CONNECT_SECONDS + 8)
        self.assertEqual(self.successResultOf(entering), 1)

    def test_displaced(self) -> None:
        """A KDC may need our place when TLS is up and it has not heard us: that is no other end."""
        recorder = Recorder()
        self.impostor(recorder)
        client = self.client("alice")
        entering = self.begin(client.register("", 0))
        self.network.settle()
        self.assertTrue(recorder.received)
        kdc = self.kdc
        self.network.listen(KDC_HOST, KDC_PORT, tls_factory(kdc.factory, kdc.tls, self.network))
        recorder.out.abortConnection()
        self.assertNoResult(entering)
        self.network.advance(1)
        self.assertEqual(self.successResultOf(entering), 1)

    def test_reset_while_connecting(self) -> None:
        """Nor is a connection that was closed before we knew that it was there."""
        client = self.client("alice")
        endpoint, left = client.endpoint, [1]

        def connect(factory: Any) -> Deferred[Any]:
            if left:
                left.clear()
                return fail(ConnectError(errno.ECONNRESET, "Connection reset by peer"))
            return endpoint.connect(factory)

        client.endpoint = SimpleNamespace(connect=connect)  # type: ignore[assignment]
        entering = self.begin(client.register("", 0))
        self.assertNoResult(entering)
        self.network.advance(1)
        self.assertEqual(self.successResultOf(entering), 1)

    def test_closes_at_once(self) -> None:
        """A KDC with too many newcomers is tried again, for ten seconds."""
        self.network.listen(KDC_HOST, 99, factory_of())
        login = self.begin(self.client("alice", port=99).login())
        self.assertNoResult(login)
        self.network.advance(CONNECT_SECONDS + 1)
        self.failureResultOf(login, KDCUnreachable)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_no_answer(self) -> None:
        """A request that is not answered costs ten seconds, and the connection."""
        link = self.login("alice")
        (serving,) = self.kdc.factory._protocols.values()
        serving.dataReceived = lambda data: None  # type: ignore[method-assign]
        asked = self.begin(link.request_key("bob"))
        other = self.begin(link.request_key("carol"))
        self.network.advance(REQUEST_SECONDS - 0.1)
        self.assertNoResult(asked)
        self.network.advance(0.2)
        self.failureResultOf(asked, KDCUnreachable)
        self.failureResultOf(other, KDCUnreachable)
        self.assertFalse(link.alive)
        self.network.settle()
        self.assertEqual(self.network.wires, [])

    def test_goes_away(self) -> None:
        """A KDC that dies: who waits is told at once, and so is who asks later."""
        link = self.login("alice")
        (serving,) = self.kdc.factory._protocols.values()
        serving.dataReceived = lambda data: None  # type: ignore[method-assign]
        asked = self.begin(link.request_key("bob"))
        self.kdc.stop()
        self.failureResultOf(asked, KDCUnreachable)
        self.failure(KDCUnreachable, link.request_key("bob"))
        self.assertIsInstance(self.successResultOf(link.lost), KDCUnreachable)

    def test_answers_that_are_not_sealed(self) -> None:
        """A 306, 308 or 399 in the clear, even by the holder of the TLS key, is not believed."""
        key = bytes(32)
        forged = [
            encode(KeyReply(key, bytes(16), PUBLIC, 300, "192.0.2.66", 1, b"ticket")),
            encode(Receiving(bytes(16), key, 300)),
            encode(Refused(Refusal.UNKNOWN_PRINCIPAL, 0)),
            encode(Registered(bytes(16), 1)),
            b"",
            bytes(2),
            bytes(2048),
        ]
        for body in forged:
            link = self.login("alice")
            (serving,) = self.kdc.factory._protocols.values()
            transport: Any = serving.transport
            serving.dataReceived = lambda data, t=transport, b=body: t.write(frame(b))  # type: ignore[misc,method-assign]
            error = self.failure(RemoteProtocolError, link.request_key("bob"))
            self.assertFalse(link.alive)
            self.assertIs(error.exit_status, ExitStatus.INTEGRITY)
            self.network.settle()
        self.assertEqual(self.network.wires, [])

    def test_speaks_unasked(self) -> None:
        """A KDC that speaks before it is asked is not one."""
        recorder = Recorder()
        self.impostor(recorder)
        link = self.do(self.client("alice").connect())
        recorder.out.write(frame(encode(Refused(Refusal.RATE, 5))))
        self.network.settle()
        self.assertFalse(link.alive)
        self.assertIsInstance(self.successResultOf(link.lost), RemoteProtocolError)

    def test_refuses_before_authentication(self) -> None:
        """Before 312 a plain refusal is believed."""
        recorder = Recorder()
        self.impostor(recorder)
        login = self.begin(self.client("alice").login())
        recorder.out.write(frame(encode(Refused(Refusal.RATE, 5))))
        self.network.settle()
        self.assertEqual(self.failureResultOf(login, TooBusy).value.retry_after, 5)

    def test_cannot_seal(self) -> None:
        """An impostor with the TLS key cannot answer 312 without the reply key."""
        recorder = Recorder()
        self.impostor(recorder)
        login = self.begin(self.client("alice").login())
        nonce = bytes(recorder.received[2 + 2 + 6 : 2 + 2 + 6 + 16])
        recorder.out.write(frame((312).to_bytes(2, "big") + nonce + bytes(24)))
        self.network.settle()
        error = self.failureResultOf(login, RemoteProtocolError).value
        self.assertIs(error.refusal, Refusal.NOT_AUTHENTIC)

    def test_talks_for_ever(self) -> None:
        """Once the connection is given up nothing more is taken in, however much comes."""
        recorder = Recorder()
        self.impostor(recorder)
        link = self.do(self.client("alice").connect())
        link.close()
        for _ in range(20):
            recorder.out.write(bytes(100_000))
            self.network.settle()
        self.assertLess(len(link._frames), 100_000)

    def test_too_long(self) -> None:
        """A frame over the limit ends the connection at its length."""
        link = self.login("alice")
        (serving,) = self.kdc.factory._protocols.values()
        transport: Any = serving.transport
        transport.write(b"\x08\x01")
        self.network.settle()
        self.assertFalse(link.alive)

    def test_superseded_while_asking(self) -> None:
        """Who hears that his name was taken over while he asks for an epoch stays away, too."""
        self.kdc.add("bob")
        _, listener, running = self.receive("bob", Service(factory_of()))
        (serving,) = self.kdc.factory._protocols.values()
        late: list[bytes] = []
        serving.dataReceived = late.append  # type: ignore[assignment,method-assign]
        listener.due()
        self.network.settle()
        self.assertEqual(len(late), 1, "the request for the next epoch is on its way")
        self.do(self.login("bob").receive_under(PUBLIC, "", 5001))
        self.failureResultOf(running, Superseded)
        self.network.advance(100)
        self.assertEqual(self.kdc.events().count("epoch-begun"), 2)

    def test_superseded_while_asking_for_a_key(self) -> None:
        """Whoever asks for a key at that moment still gets it, on another connection."""
        self.do(self.login("carol").receive_under(PUBLIC, "", 5001))
        client = self.known_client("bob")
        link = self.do(client.link())
        self.do(link.receive_under(PUBLIC, "", 5002))
        (serving,) = [each for s, each in self.kdc.factory._protocols.items() if s.name == "bob"]
        serving.dataReceived = lambda data: None  # type: ignore[method-assign]
        asked = self.begin(client.grant("carol"))
        self.assertNoResult(asked)
        self.do(self.login("bob").receive_under(PUBLIC, "", 5003))
        self.assertEqual(self.successResultOf(asked).reply.port, 5001)

    def test_one_gives_up(self) -> None:
        """Who gives up waiting for the proof does not take what others have asked with him."""
        self.do(self.login("bob").receive_under(PUBLIC, "", 60000))
        for moment in range(12):
            client = self.known_client("alice")
            asked = Deferred.fromCoroutine(client.grant("bob"))
            linked = Deferred.fromCoroutine(client.link())
            for _ in range(moment):
                for wire in list(self.network.wires):
                    wire.step()
            linked.cancel()
            self.network.settle()
            self.successResultOf(asked)
            _ = linked.addErrback(lambda _: None)
            self.assertTrue(linked.called)
            self.do(client.link())
            client.close()
            self.network.settle()

    def test_cancelled(self) -> None:
        """Whoever gives up waiting leaves no connection behind."""
        for moment in range(6):
            login = Deferred.fromCoroutine(self.known_client("alice").login())
            for _ in range(moment):
                for wire in list(self.network.wires):
                    wire.step()
            login.cancel()
            self.network.settle()
            if not login.called:
                self.fail("it goes on")
            _ = login.addErrback(lambda _: None)
            self.network.advance(20)
        alive = [each for each in self.kdc.factory._protocols if each.name]
        self.assertLessEqual(len(alive), 1)


class BackoffTests(EdgeTestCase):
    def test_growing(self) -> None:
        """Each wait is longer than the one before, up to a limit, and never the same for two."""
        for attempt in range(40):
            waits = [backoff(attempt, first=0.5, most=60) for _ in range(20)]
            high = min(60, 0.5 * 2**attempt)
            self.assertTrue(all(high / 2 <= wait <= high for wait in waits))
            self.assertGreater(len(set(waits)), 10)

    def test_link_shows_no_secret(self) -> None:
        """What a client prints of itself names no key."""
        client = self.known_client("alice")
        link = self.do(client.link())
        for shown in (repr(client), repr(link), repr(client.keys)):
            self.assertNotIn(repr(client.keys.reply_key)[2:-1], shown)
            self.assertNotIn("Ed25519", shown)
