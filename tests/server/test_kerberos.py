"""Kerberos for the principals of a store: who gets tickets, and what strangers get."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError
from kdc.kerberos.der import DERError
from kdc.kerberos.errors import Code
from kdc.kerberos.messages import (
    AS_REP,
    AS_REQ,
    KDC_REQ_BODY,
    KRB_ERROR,
    METHOD_DATA,
    PVNO,
    KDCReq,
    KDCReqBody,
    PAData,
)
from kdc.kerberos.names import Principal
from kdc.kerberos.padata import PadataType
from kdc.kerberos.tickets import Flag, opened
from kdc.server._kerberos import Cookies, KerberosRealm
from kdc.server.kerberos_settings import KerberosSettings
from kdc.store import Create, Delete, Status
from kdc.store.memory import MemoryStore
from kdc.testing.client import Client, TicketRefused, Wanted
from tests.support.core import PROPERTY
from tests.support.kerberos import NOW, REALM
from tests.support.kerberos_store import ADDRESS, StoreOfTest
from tests.support.store_conformance import serving, token

ELSEWHERE = "198.51.100.9"


def as_req(
    name: str, padata: tuple[PAData, ...] = (), *, server: tuple[str, ...] = ("krbtgt", REALM)
) -> bytes:
    body = KDCReqBody(
        options=0,
        client=Principal((name,), REALM).name(),
        realm=REALM,
        server=Principal(server, REALM).name(2),
        start_time=None,
        till=int(NOW) + 36_000,
        renew_till=None,
        nonce=7,
        etypes=(18, 17),
        addresses=None,
        authorization=None,
        tickets=None,
    )
    return AS_REQ.encode(KDCReq(PVNO, 10, padata or None, KDC_REQ_BODY.encode(body)))


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.case = StoreOfTest()

    def refused(self, code: int, name: str, service: str) -> None:
        """``name`` gets no ticket for ``service``, and this is why."""
        tgt = self.case.tgt(name)
        self.refused_with(code, tgt, service)

    def refused_with(self, code: int, ticket: object, service: str) -> None:
        error = self.assertRaises(
            TicketRefused, self.case.client().service, ticket, self.case.principal(service)
        )
        self.assertEqual(error.code, code, str(error))


class TicketTests(Case):
    def test_a_person(self) -> None:
        """Who came by a channel gets tickets for services, under a key of their owner."""
        ticket = self.case.client().service(self.case.tgt("alice"), self.case.principal("HTTP/web"))
        part, entry, key = opened(self.case.realm.realm, ticket.ticket)
        self.assertEqual(part.client.components, ("alice",))
        self.assertEqual(entry.owner, "web1")
        self.assertEqual(key, self.case.keys("web1")(18))
        self.assertTrue(part.flags & Flag.PRE_AUTHENTICATED)
        self.assertIn("kerberos-issued", [line.event for line in self.case.lines])

    def test_a_machine(self) -> None:
        """Who has a keytab gets a ticket by it, under any of the names in it."""
        for name in ("web1", "HTTP/web"):
            got = self.case.client().initial(self.case.principal(name), self.case.keys("web1"))
            self.assertEqual(got.client, self.case.principal(name))

    def test_how_long(self) -> None:
        """As long as the realm allows, and renewable if that is asked for."""
        tgt = self.case.tgt("alice")
        self.assertEqual((tgt.end_time, tgt.renew_till), (int(NOW) + 36_000, 0))
        tgt = self.case.tgt("alice", life_seconds=60, renewable_seconds=10**7, forwardable=False)
        self.assertEqual((tgt.end_time, tgt.renew_till), (int(NOW) + 60, int(NOW) + 604_800))
        self.assertFalse(tgt.flags & Flag.FORWARDABLE)

    def test_nothing_to_guess(self) -> None:
        """Who has no keytab has no key: an AS request is never answered with anything sealed."""
        reply = self.case.realm.request(as_req("alice"), ADDRESS)
        error = KRB_ERROR.decode(reply)
        self.assertEqual(error.code, Code.PREAUTH_REQUIRED)
        self.assertIn("there are no passwords here", error.text or "")
        principal = self.case.principal("alice")
        refused = self.assertRaises(
            TicketRefused, self.case.client().initial, principal, "a password"
        )
        self.assertEqual(refused.code, Code.PREAUTH_FAILED)

    def test_unknown_padata_proves_nothing(self) -> None:
        """Whatever padata comes along that nobody knows, error 25 is the answer."""
        for name in ("alice", "web1"):
            for kind in (*range(-5, 200), 65_000):
                if kind in (PadataType.ENC_TIMESTAMP, PadataType.FX_FAST):
                    continue
                reply = self.case.realm.request(as_req(name, (PAData(kind, b"x" * 40),)), ADDRESS)
                self.assertEqual(KRB_ERROR.decode(reply).code, Code.PREAUTH_REQUIRED, (name, kind))

    def test_no_service_of_a_person(self) -> None:
        """There is no ticket for who has no keytab, but user to user."""
        self.refused(Code.MUST_USE_USER_TO_USER, "alice", "carol")

    def test_names(self) -> None:
        """Capitals, reserved names, and what no store can have are nobody's."""
        for name in ("Alice", "krbtgt", "kadmin", "kadmin/changepw", "nobody", "HTTP/other", ""):
            self.assertIsNone(self.case.realm.principals(self.case.principal(name)), name)
        for components in (("HTTP/web",), ("HTTP", "web", ""), ("HTTP/web", ""), ("krbtgt",)):
            self.assertIsNone(self.case.realm.principals(Principal(components, REALM)))
        self.assertIsNone(self.case.realm.principals(Principal(("alice",), "OTHER")))
        # A store can hold more than an operator can type: still one name has one way to say it.
        self.case.store.apply([Create(serving("other", "a/b/c"), token(9))])
        self.assertIsNotNone(self.case.realm.principals(Principal(("a", "b", "c"), REALM)))
        self.assertIsNone(self.case.realm.principals(Principal(("a/b", "c"), REALM)))
        self.assertIsNotNone(self.case.realm.principals(self.case.principal("alice")))

    def test_realm(self) -> None:
        """A realm in small letters is refused."""
        self.assertRaises(
            ConfigurationError,
            KerberosRealm,
            KerberosSettings(),
            store=MemoryStore("Example"),
            issuing=self.case.issuing,
            current=lambda now: True,
            tell=lambda line: None,
        )


class AtOnceTests(Case):
    """What the operator decides holds for whoever has a ticket already."""

    def test_disabled(self) -> None:
        """No new ticket, no renewal, and none by a keytab."""
        tgt = self.case.tgt("alice", renewable_seconds=1000)
        self.case.change("alice", status=Status.DISABLED)
        self.refused_with(Code.CLIENT_REVOKED, tgt, "HTTP/web")
        error = self.assertRaises(
            TicketRefused,
            self.case.client().service,
            tgt,
            self.case.realm.realm.tgs,
            Wanted(options=int(Flag.RENEW)),
        )
        self.assertEqual(error.code, Code.CLIENT_REVOKED)
        keys = self.case.keys("web1")
        self.case.change("web1", status=Status.DISABLED)
        error = self.assertRaises(
            TicketRefused, self.case.client().initial, self.case.principal("web1"), keys
        )
        self.assertEqual(error.code, Code.CLIENT_REVOKED)
        self.refused(Code.CLIENT_REVOKED, "carol", "HTTP/web")

    def test_deleted(self) -> None:
        """As if it had never been there."""
        tgt = self.case.tgt("alice")
        record = self.case.record("alice")
        self.case.store.apply([Delete("alice", record.generation)])
        self.refused_with(Code.CLIENT_UNKNOWN, tgt, "HTTP/web")
        record = self.case.record("web1")
        self.case.store.apply([Delete("web1", record.generation)])
        self.refused(Code.SERVER_UNKNOWN, "carol", "HTTP/web")

    def test_expired(self) -> None:
        """When its time is over."""
        tgt = self.case.tgt("alice")
        self.case.change("alice", expiry_time=int(NOW) - 1)
        self.refused_with(Code.CLIENT_EXPIRED, tgt, "HTTP/web")

    def test_permits(self) -> None:
        """Policy is by the owner of a service, and that of kdp/1; for a first ticket, too."""
        self.case.permit({"web1": ["bob"]})
        self.refused(Code.POLICY, "alice", "HTTP/web")
        self.refused(Code.POLICY, "alice", "web1")
        self.case.client().service(self.case.tgt("bob"), self.case.principal("host/web"))
        self.case.client().service(self.case.tgt("alice"), self.case.principal("HTTP/bob"))
        # To itself everybody may.
        keys = self.case.keys("web1")
        web = self.case.principal("web1")
        self.case.client().initial(web, keys, service=("HTTP", "web"))
        self.case.permit({"bob": ["alice"]})
        error = self.assertRaises(
            TicketRefused, self.case.client().initial, web, keys, Wanted(), ("HTTP", "bob")
        )
        self.assertEqual(error.code, Code.POLICY)

    def test_another_key(self) -> None:
        """With another passphrase, or another owner of the name, old tickets and keytabs end."""
        tgt = self.case.tgt("alice")
        self.case.now += 10
        self.case.change("alice", verify_key=b"n" * 32, changed_time=int(self.case.now))
        self.refused_with(Code.TICKET_EXPIRED, tgt, "HTTP/web")
        self.case.client().service(self.case.tgt("alice"), self.case.principal("HTTP/web"))
        keys = self.case.keys("web1")
        self.case.change("web1", verify_key=b"n" * 32)
        error = self.assertRaises(
            TicketRefused, self.case.client().initial, self.case.principal("web1"), keys
        )
        self.assertEqual(error.code, Code.PREAUTH_FAILED)
        self.refused(Code.SERVER_UNKNOWN, "alice", "HTTP/web")

    def test_user_to_user_of_an_old_ticket(self) -> None:
        """A ticket of who had the name before does not stand for who has it now."""
        old = self.case.tgt("carol")
        self.case.now += 10
        wanted = Wanted(options=int(Flag.USER_TO_USER), tickets=(old.ticket,))
        carol = self.case.principal("carol")
        self.case.client().service(self.case.tgt("alice"), carol, wanted)
        self.case.change("carol", verify_key=b"n" * 32, changed_time=int(self.case.now))
        error = self.assertRaises(
            TicketRefused, self.case.client().service, self.case.tgt("alice"), carol, wanted
        )
        self.assertEqual(error.code, Code.TICKET_EXPIRED)

    def test_cut_off(self) -> None:
        """A KDC that may not know what others have decided decides nothing."""
        self.case.current = False
        self.refused(Code.SERVICE_UNAVAILABLE, "alice", "HTTP/web")


class RotationTests(Case):
    def test_old_tickets(self) -> None:
        """They are good until none of them could be renewed any more."""
        tgt = self.case.tgt("alice", renewable_seconds=10**7)
        self.case.ask("kerberos-rotate")
        self.case.client().service(tgt, self.case.principal("HTTP/web"))
        self.assertEqual(self.case.tgt("alice").ticket.part.kvno, 2)
        self.case.now += 604_801
        self.refused_with(Code.BAD_KEY_VERSION, tgt, "HTTP/web")

    def test_dropped(self) -> None:
        """Or not at all, if somebody has read the key."""
        tgt = self.case.tgt("alice")
        self.case.ask("kerberos-rotate", drop=True)
        self.refused_with(Code.BAD_KEY_VERSION, tgt, "HTTP/web")
        self.case.client().service(self.case.tgt("alice"), self.case.principal("HTTP/web"))

    def test_a_machine(self) -> None:
        """Of a machine's keys the version before is still opened, and no other."""
        self.case.ask("kerberos-keytab", name="web1", new_keys=True)
        entry = self.case.realm.principals(self.case.principal("HTTP/web"))
        assert entry is not None
        self.assertEqual(sorted(entry.keys), [1, 2])
        self.case.ask("kerberos-keytab", name="web1", new_keys=True)
        entry = self.case.realm.principals(self.case.principal("HTTP/web"))
        assert entry is not None
        self.assertEqual(sorted(entry.keys), [2, 3])


class StrangersTests(Case):
    """Datagrams say that they are from somewhere."""

    def cookie(self, address: str = ADDRESS) -> PAData:
        reply = self.case.realm.datagram(as_req("web1"), address)
        assert reply is not None
        hints = METHOD_DATA.decode(KRB_ERROR.decode(reply).details or b"")
        return next(each for each in hints if each.kind == PadataType.FX_COOKIE)

    def wrong(self, *padata: PAData) -> bytes:
        """A request with a timestamp under another key, never the same twice."""
        asked: list[bytes] = []
        client = Client(
            REALM,
            lambda data: asked.append(data) or self.case.realm.request(data, ELSEWHERE),  # type: ignore[func-returns-value]
            lambda: self.case.now,
        )
        self.assertRaises(
            TicketRefused,
            client.initial,
            self.case.principal("web1"),
            self.case.keys("bob"),
            Wanted(padata=padata),
        )
        return asked[-1]

    def made(self, key: str) -> bytes:
        """A request of web1 under the key of somebody, which is yet to be sent."""

        class Made(Exception):
            pass

        def exchange(data: bytes) -> bytes:
            if any(
                each.kind == PadataType.ENC_TIMESTAMP for each in AS_REQ.decode(data).padata or ()
            ):
                raise Made(data)
            return self.case.realm.request(data, ADDRESS)

        client = Client(REALM, exchange, lambda: self.case.now)
        made = self.assertRaises(
            Made, client.initial, self.case.principal("web1"), self.case.keys(key)
        )
        return bytes(made.args[0])

    def codes(self, request: bytes, times: int = 1) -> list[int]:
        """What is refused when it is sent so often."""
        replies = [self.case.realm.request(request, ELSEWHERE) for _ in range(times)]
        return [KRB_ERROR.decode(reply).code for reply in replies]

    def test_no_amplifier(self) -> None:
        """Without our cookie an answer has less than twice the bytes of what asks for it."""
        requests = [
            as_req("web1"),
            as_req("alice"),
            as_req("nobody"),
            as_req("web1", server=("no", "such")),
            as_req("a", server=("x",)),
            self.wrong(),
            *(as_req("web1", (PAData(kind, b""),)) for kind in (1, 2, 128, 136, 149)),
        ]
        for request in requests:
            reply = self.case.realm.datagram(request, ADDRESS)
            assert reply is not None
            self.assertLess(len(reply), 2 * len(request), KRB_ERROR.decode(reply).code)

    def test_a_repeated_request(self) -> None:
        """Whoever has seen a good request, and sends it in another's name, is no better off."""
        asked: list[bytes] = []
        client = Client(
            REALM,
            lambda data: asked.append(data) or self.case.realm.request(data, ADDRESS),  # type: ignore[func-returns-value]
            lambda: self.case.now,
        )
        client.initial(self.case.principal("web1"), self.case.keys("web1"))
        reply = self.case.realm.datagram(asked[-1], ELSEWHERE)
        self.assertLess(len(reply or b""), 2 * len(asked[-1]))

    def test_replay(self) -> None:
        """The same request again gets the same bytes, and is issued once; its parts get nothing."""
        asked: list[bytes] = []

        def exchange(request: bytes) -> bytes:
            asked.append(request)
            return self.case.realm.request(request, ADDRESS)

        client = Client(REALM, exchange, lambda: self.case.now)
        client.service(self.case.tgt("alice"), self.case.principal("HTTP/web"))
        (request,) = asked
        count = len(self.case.lines)
        replies = {self.case.realm.request(request, f"192.0.2.{n}") for n in range(100)}
        self.assertEqual((len(replies), len(self.case.lines)), (1, count))
        self.case.now += 130
        reply = KRB_ERROR.decode(self.case.realm.request(request, ELSEWHERE))
        self.assertEqual(reply.code, Code.REPEATED)
        self.case.now += 600
        reply = KRB_ERROR.decode(self.case.realm.request(request, ELSEWHERE))
        self.assertEqual(reply.code, Code.SKEW)

    @PROPERTY
    @given(st.binary(max_size=300))
    def test_anything(self, data: bytes) -> None:
        """What is no request is not answered where anybody may have sent it."""
        case = self.case
        self.assertIsNone(case.realm.datagram(data.ljust(1400, b"x"), ADDRESS))
        for sent in (data, b"\x6a" + data, b"\x6c" + data):
            reply = case.realm.datagram(sent, ADDRESS)
            self.assertLess(len(reply or b""), 2 * len(sent) or 1)

    def test_a_cookie(self) -> None:
        """It comes with error 25, and is good from that address for a short time only."""
        cookie = self.cookie().content
        cookies = self.case.realm._cookies
        self.assertTrue(cookies.good(cookie, ADDRESS, NOW + 100))
        self.assertFalse(cookies.good(cookie, ELSEWHERE, NOW))
        self.assertFalse(cookies.good(cookie, ADDRESS, NOW + 301))
        self.assertFalse(cookies.good(cookie, ADDRESS, NOW - 301))
        self.assertFalse(Cookies().good(cookie, ADDRESS, NOW))
        for bad in (b"", cookie[:-1], cookie + b"x", bytes(len(cookie))):
            self.assertFalse(cookies.good(bad, ADDRESS, NOW))

    def test_a_whole_login_by_datagrams(self) -> None:
        """Who brings the cookie back gets the ticket in a datagram."""
        client = Client(
            REALM,
            lambda data: self.case.realm.datagram(data, ADDRESS) or b"",
            lambda: self.case.now,
        )
        wanted = Wanted(padata=(self.cookie(),))
        web = self.case.principal("web1")
        self.assertEqual(client.initial(web, self.case.keys("web1"), wanted).client, web)

    def test_failures(self) -> None:
        """Who fails too often from an address is not told there whether he still does."""
        for _ in range(10):
            self.wrong()
        good = self.case.keys("web1")
        web = self.case.principal("web1")
        elsewhere = Client(
            REALM, lambda data: self.case.realm.request(data, ELSEWHERE), lambda: self.case.now
        )
        error = self.assertRaises(TicketRefused, elsewhere.initial, web, good)
        self.assertEqual(error.code, Code.SERVICE_UNAVAILABLE)
        self.case.client().initial(web, good)

    def test_failures_asked_again(self) -> None:
        """Nor is who fails too often told when he sends the same once more."""
        for _ in range(10):
            self.assertEqual(self.codes(self.made("bob")), [Code.PREAUTH_FAILED])
        for key in ("bob", "web1"):
            self.assertEqual(self.codes(self.made(key), 3), [Code.SERVICE_UNAVAILABLE] * 3)
        self.assertNotIn(("as", "issued"), self.case.realm.counts)

    def test_asked_again_is_counted(self) -> None:
        """An answer that is sent again is none that was issued or refused again, nor a failure."""
        self.assertEqual(self.codes(self.made("bob"), 31), [Code.PREAUTH_FAILED] * 31)
        counts = self.case.realm.counts
        self.assertEqual((counts["as", "preauth_failed"], counts["as", "repeated"]), (1, 30))
        self.assertEqual(self.codes(self.made("bob")), [Code.PREAUTH_FAILED])

    def test_spoofed(self) -> None:
        """Whoever sends datagrams in another's name takes nothing from that one's connections."""
        realm = self.case.realm = self.case.new_realm(requests_per_second_per_address=5)
        for _ in range(100):
            realm.datagram(as_req("web1"), ADDRESS)
        self.assertTrue(realm.may_ask(ADDRESS))
        self.case.client().initial(self.case.principal("web1"), self.case.keys("web1"))

    def test_failures_that_are_nobodys(self) -> None:
        """Datagrams that only say that they are from an address do not count against it."""
        web = self.case.principal("web1")
        for _ in range(20):
            client = Client(
                REALM,
                lambda data: self.case.realm.datagram(data, ADDRESS) or b"",
                lambda: self.case.now,
            )
            error = self.assertRaises(TicketRefused, client.initial, web, self.case.keys("bob"))
            self.assertEqual(error.code, Code.PREAUTH_FAILED)
        self.case.client().initial(web, self.case.keys("web1"))

    def test_too_many(self) -> None:
        """Beyond an address's share, or that of all, datagrams are dropped."""
        self.case.realm = self.case.new_realm(requests_per_second_per_address=5)
        answers = [self.case.realm.datagram(as_req("web1"), ADDRESS) for _ in range(12)]
        self.assertEqual(sum(answer is None for answer in answers), 2)
        self.assertIsNotNone(self.case.realm.datagram(as_req("web1"), ELSEWHERE))
        self.case.realm = self.case.new_realm(datagrams_per_second=5)
        answers = [self.case.realm.datagram(as_req("web1"), f"192.0.2.{n}") for n in range(12)]
        self.assertEqual(sum(answer is None for answer in answers), 2)
        self.assertEqual(self.case.realm.counts["datagram", "dropped"], 2)

    def test_the_log(self) -> None:
        """Names from the network are words there; error 25 is no line, nor is what asks again."""
        before = len(self.case.lines)
        self.case.realm.request(as_req("web1"), ADDRESS)
        self.assertEqual(len(self.case.lines), before)
        self.case.realm.request(as_req("web1", server=("a b\n\x1b[2J\u202e", "y")), ADDRESS)
        (line,) = self.case.lines[before:]
        self.assertEqual(
            (line.event, line.principal, line.unproven), ("kerberos-refused", "web1", True)
        )
        self.assertEqual(line.detail, "server-unknown a\\x20b\\n\\x1b[2J\\u202e/y")
        self.case.realm.request(as_req("nobody"), ADDRESS)
        self.assertEqual(self.case.lines[-1].principal, "")

    def test_as_rep_is_never_unproved(self) -> None:
        """What could be cracked off line is not given out: no AS-REP without preauthentication."""
        for name in ("alice", "web1", "HTTP/web", "krbtgt", "kerberos"):
            for request in (
                as_req(name),
                as_req(name, (PAData(128, b"\x30\x05\xa0\x03\x01\x01\xff"),)),
            ):
                reply = self.case.realm.request(request, ADDRESS)
                self.assertRaises(DERError, AS_REP.decode, reply)
