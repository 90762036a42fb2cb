"""Who gets a first ticket, and what is in it: RFC 4120 section 3.1."""

from __future__ import annotations

import functools
from collections.abc import Callable

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError
from kdc.kerberos.authdata import indicators_in
from kdc.kerberos.errors import Code
from kdc.kerberos.messages import (
    AS_REP,
    AS_REQ,
    CHECKSUM,
    ENC_AS_REP_PART,
    ENC_TICKET_PART,
    ENCRYPTED_DATA,
    ETYPE_INFO2,
    KDC_REQ_BODY,
    KRB_ERROR,
    METHOD_DATA,
    PA_ENC_TIMESTAMP,
    PVNO,
    EncryptedData,
    EncTicketPart,
    KDCReq,
    PAData,
    PAEncTimestamp,
    PrincipalName,
    Ticket,
)
from kdc.kerberos.names import NameType, Principal
from kdc.kerberos.padata import PadataType
from kdc.kerberos.tickets import Flag
from kdc.testing import TicketRefused
from kdc.testing.client import Wanted
from tests.support.kerberos import NOW, REALM, KDCOfTest

HOUR = 3600


class ASTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.kdc = KDCOfTest()
        self.alice = self.kdc.alice.principal

    def opened(self, ticket: Ticket) -> EncTicketPart:
        entry = self.kdc.database.get("/".join(ticket.server.components))
        key = entry.key(ticket.part.etype, ticket.part.kvno)
        assert key is not None
        return ENC_TICKET_PART.decode(key.open(2, ticket.part.cipher))

    def refused(self, call: Callable[[], object], code: Code) -> str:
        error = self.assertRaises(TicketRefused, call)
        self.assertEqual(error.code, code)
        return str(error)

    def initial(self, *, password: str = "secret", ahead: float = 0, **wanted: object) -> object:
        chosen = Wanted(**wanted)  # type: ignore[arg-type]
        return self.kdc.client(ahead=ahead).initial(self.alice, password, chosen)


class PreauthenticationTests(ASTestCase):
    def test_nothing_unknown_counts(self) -> None:
        """No padata of any type, empty, senseless or another's, is taken for a proof.

        But an encrypted timestamp, and that has to be right.
        """
        self.initial()
        whole = AS_REQ.decode(self.kdc.requests[1])
        others = KDCOfTest()
        others.database.change("alice", "another")
        others.client().initial(others.alice.principal, "another")
        stamp = (AS_REQ.decode(others.requests[1]).padata or ())[-1].content
        for kind in (*range(-200, 300), 1 << 20, -(1 << 31)):
            if kind in (PadataType.FX_FAST, PadataType.ENC_TIMESTAMP):
                continue
            for content in (b"", b"\0", stamp, (whole.padata or ())[-1].content):
                padata = (PAData(kind, content),)
                request = AS_REQ.encode(attrs.evolve(whole, padata=padata))
                error = self.kdc.error(request)
                self.assertEqual(error.code, Code.PREAUTH_REQUIRED, (kind, content))
        for kind in (PadataType.FX_FAST, PadataType.ENC_TIMESTAMP):
            for content in (b"\0", stamp):
                padata = (PAData(kind, content),)
                request = AS_REQ.encode(attrs.evolve(whole, padata=padata))
                self.assertIn(self.kdc.error(request).code, (Code.PREAUTH_FAILED, Code.GENERIC))

    def test_hints(self) -> None:
        """Error 25 names the salt for each type that both sides have, and what is taken."""
        self.initial(etypes=(20, 23, 17))
        error = KRB_ERROR.decode(self.kdc.answers[0].reply)
        self.assertEqual(error.code, Code.PREAUTH_REQUIRED)
        hints = {each.kind: each.content for each in METHOD_DATA.decode(error.details or b"")}
        entries = ETYPE_INFO2.decode(hints[PadataType.ETYPE_INFO2])
        self.assertEqual([entry.etype for entry in entries], [20, 17])
        self.assertEqual({entry.salt for entry in entries}, {"EXAMPLE.ORGalice"})
        self.assertEqual(hints[PadataType.ENC_TIMESTAMP], b"")
        self.assertLess(len(self.kdc.answers[0].reply), 2 * len(self.kdc.requests[0]) + 160)

    def test_wrong_password(self) -> None:
        text = self.refused(lambda: self.initial(password="Secret"), Code.PREAUTH_FAILED)
        self.assertIn("check the password", text)

    def test_another_key(self) -> None:
        """A timestamp under the key of somebody else, of another type, or for another use."""
        self.initial()
        whole = AS_REQ.decode(self.kdc.requests[1])
        plain = PA_ENC_TIMESTAMP.encode(PAEncTimestamp(int(NOW), 0))
        own = self.kdc.key_of(self.kdc.alice)
        for key, usage in ((self.kdc.key_of(self.kdc.web), 1), (own, 2), (own, 54)):
            part = EncryptedData(key.etype, None, key.seal(usage, plain, bytes(16)))
            padata = (PAData(PadataType.ENC_TIMESTAMP, ENCRYPTED_DATA.encode(part)),)
            error = self.kdc.error(AS_REQ.encode(attrs.evolve(whole, padata=padata)))
            self.assertEqual(error.code, Code.PREAUTH_FAILED)

    def test_clocks(self) -> None:
        """Within five minutes is well; beyond, the text says how far and which way."""
        for ahead in (-299, 0, 300):
            self.initial(ahead=ahead)
        text = self.refused(lambda: self.initial(ahead=-425), Code.SKEW)
        self.assertIn("the client's clock is 7 min behind the KDC's", text)
        text = self.refused(lambda: self.initial(ahead=11 * HOUR), Code.SKEW)
        self.assertIn("11 hours ahead of", text)

    def test_not_needed(self) -> None:
        """Who need not, gets a ticket at once; it does not say that anything was proved."""
        self.kdc.database.modify("alice", needs_preauth=False)
        credential = self.kdc.client().initial(self.alice, "secret")
        self.assertEqual(len(self.kdc.requests), 1)
        self.assertFalse(credential.flags & Flag.PRE_AUTHENTICATED)
        tgs = self.kdc.database.get(f"krbtgt/{REALM}")
        self.assertEqual(indicators_in(self.opened(credential.ticket), tgs), ("unproven",))


class TicketTests(ASTestCase):
    def test_what_is_in_it(self) -> None:
        """What the client is told is what is in the ticket; and how it was proved."""
        for etype in (17, 18, 19, 20):
            credential = self.kdc.client().initial(
                self.alice, "secret", Wanted(till=int(NOW) + HOUR, etypes=(etype,))
            )
            part = self.opened(credential.ticket)
            self.assertEqual(part.client.components, ("alice",))
            self.assertEqual((part.key.etype, part.key.content), (etype, credential.key.content))
            self.assertEqual(part.flags, credential.flags)
            self.assertEqual((part.auth_time, part.end_time), (int(NOW), int(NOW) + HOUR))
            for flag in (Flag.INITIAL, Flag.PRE_AUTHENTICATED, Flag.FORWARDABLE, Flag.PROXIABLE):
                self.assertTrue(part.flags & flag)
            self.assertFalse(part.flags & (Flag.RENEWABLE | Flag.INVALID | Flag.MAY_POSTDATE))
            tgs = self.kdc.database.get(f"krbtgt/{REALM}")
            self.assertEqual(indicators_in(part, tgs), ("timestamp",))

    def test_request_comes_back(self) -> None:
        """RFC 6806 section 11: what the KDC got is under the reply's key, whole."""
        self.initial()
        reply = self.kdc.answers[-1].reply
        key = self.kdc.key_of(self.kdc.alice)
        part = ENC_AS_REP_PART.decode(key.open(3, AS_REP.decode(reply).part.cipher))
        (proof,) = part.padata or ()
        checksum = CHECKSUM.decode(proof.content)
        self.assertEqual(checksum.content, key.checksum(56, self.kdc.requests[-1]))

    def test_life(self) -> None:
        """The shortest of what is asked for, the client's, the service's and the realm's."""
        for asked, client, expected in (
            (0, None, 24 * HOUR),
            (HOUR, None, HOUR),
            (100 * HOUR, None, 24 * HOUR),
            (0, 2 * HOUR, 2 * HOUR),
            (HOUR, 2 * HOUR, HOUR),
        ):
            self.kdc.database.modify("alice", max_life=client)
            till = int(NOW) + asked if asked else 0
            credential = self.kdc.client().initial(self.alice, "secret", Wanted(till=till))
            self.assertEqual(credential.end_time, int(NOW) + expected)

    def test_renewable(self) -> None:
        """For as long as asked and allowed; and in place of an end that is too early."""
        week = 7 * 24 * HOUR
        renewable = int(Flag.RENEWABLE)
        for wanted, expected in (
            (Wanted(renewable, renew_till=int(NOW) + 2 * 24 * HOUR), 2 * 24 * HOUR),
            (Wanted(renewable), week),
            (Wanted(renewable, renew_till=int(NOW) + 100 * week), week),
            (Wanted(int(Flag.RENEWABLE_OK), till=int(NOW) + 48 * HOUR), 48 * HOUR),
            (Wanted(int(Flag.RENEWABLE_OK), till=int(NOW) + HOUR), None),
            (Wanted(0, renew_till=int(NOW) + week), None),
        ):
            credential = self.kdc.client().initial(self.alice, "secret", wanted)
            self.assertEqual(bool(credential.flags & Flag.RENEWABLE), expected is not None)
            self.assertEqual(credential.renew_till, int(NOW) + expected if expected else 0)

    def test_postdated(self) -> None:
        """Good from then on, and only when it has been validated."""
        options = int(Flag.POSTDATED | Flag.MAY_POSTDATE)
        start = int(NOW) + 2 * HOUR
        wanted = Wanted(options, start=start, till=start + HOUR)
        credential = self.kdc.client().initial(self.alice, "secret", wanted)
        self.assertEqual((credential.start_time, credential.end_time), (start, start + HOUR))
        self.assertTrue(credential.flags & Flag.INVALID)

    def test_not_allowed(self) -> None:
        """Who may not, or a service that may not, gets none postdated or renewable."""
        renewable = Wanted(int(Flag.RENEWABLE))
        options, start = int(Flag.POSTDATED | Flag.MAY_POSTDATE), int(NOW) + 2 * HOUR
        for name in ("alice", f"krbtgt/{REALM}"):
            self.kdc.database.modify(name, postdatable=False, renewable=False)
            self.refused(
                functools.partial(self.initial, options=options, start=start), Code.CANNOT_POSTDATE
            )
            credential = self.kdc.client().initial(self.alice, "secret", renewable)
            self.assertFalse(credential.flags & Flag.RENEWABLE)
            self.kdc.database.modify(name, postdatable=True, renewable=True)

    def test_enterprise_names(self) -> None:
        """RFC 6806 section 5: a whole name in one component."""
        self.initial()
        for text, known in (("alice", True), (f"alice@{REALM}", True), ("alice@ELSE", False)):
            whole = AS_REQ.decode(self.kdc.requests[1])
            name = PrincipalName(NameType.ENTERPRISE, (text,))
            body = attrs.evolve(KDC_REQ_BODY.decode(whole.body), client=name)
            self.kdc.exchange(AS_REQ.encode(attrs.evolve(whole, body=KDC_REQ_BODY.encode(body))))
            code = self.kdc.answers[-1].code
            self.assertEqual(code, None if known else Code.CLIENT_UNKNOWN, text)

    def test_old_password(self) -> None:
        """It gets a ticket to change it, and no other; and says so only to who knows it."""
        self.kdc.database.modify("alice", needs_change=True)
        self.refused(self.initial, Code.KEY_EXPIRED)
        self.refused(lambda: self.initial(password="x"), Code.PREAUTH_FAILED)
        self.kdc.client().initial(self.alice, "secret", service=("kadmin", "changepw"))
        self.kdc.database.modify("alice", needs_change=False, password_expiration=int(NOW))
        self.refused(self.initial, Code.KEY_EXPIRED)
        self.kdc.database.modify("alice", password_expiration=int(NOW) + 1)
        self.initial()

    def test_tag_of_another_reply(self) -> None:
        """5.4.2: what MIT's KDC sends in an AS reply has the tag that belongs to a TGS reply."""
        key = self.kdc.key_of(self.kdc.alice)

        def exchange(request: bytes) -> bytes:
            answer = self.kdc.exchange(request)
            if self.kdc.answers[-1].code is not None:
                return answer
            reply = AS_REP.decode(answer)
            part = key.open(3, reply.part.cipher)
            self.assertEqual(part[:1], b"\x79")
            cipher = key.seal(3, b"\x7a" + part[1:], bytes(16))
            return AS_REP.encode(attrs.evolve(reply, part=attrs.evolve(reply.part, cipher=cipher)))

        client = attrs.evolve(self.kdc.client(), exchange=exchange)
        self.assertEqual(client.initial(self.alice, "secret").client, self.alice)

    def test_wrong_reply(self) -> None:
        """A client that is answered by somebody without its key finds out."""
        other = KDCOfTest()
        other.database.change("alice", "other", keep=False)
        other.database.modify("alice", needs_preauth=False)
        client = other.client()
        self.assertRaises(ConfigurationError, client.initial, self.alice, "secret")


class RepetitionTests(ASTestCase):
    def test_same_request(self) -> None:
        """The same bytes get the same answer for two minutes, by UDP or TCP."""
        self.initial()
        request, answer = self.kdc.requests[-1], self.kdc.answers[-1].reply
        self.assertEqual(self.kdc.exchange(request), answer)
        self.kdc.now += 119
        self.assertEqual(self.kdc.exchange(request), answer)
        self.kdc.now += 2
        self.assertNotEqual(self.kdc.exchange(request), answer)

    def test_of_another_realm(self) -> None:
        self.initial()
        body = attrs.evolve(
            KDC_REQ_BODY.decode(AS_REQ.decode(self.kdc.requests[0]).body), realm="ELSE.WHERE"
        )
        error = self.kdc.error(AS_REQ.encode(KDCReq(PVNO, 10, None, KDC_REQ_BODY.encode(body))))
        self.assertEqual(error.code, Code.WRONG_REALM)
        self.assertEqual(Principal(error.server.components, error.realm), self.kdc.realm.tgs)
