"""What a ticket is good for at the KDC: RFC 4120 section 3.3, and MS-SFU."""

from __future__ import annotations

import functools
from typing import Any

import attrs

from kdc.kerberos.authdata import indicators_in, unclaimed
from kdc.kerberos.ccache import Credential
from kdc.kerberos.errors import Code
from kdc.kerberos.hmac_md5 import hmac_md5_checksum
from kdc.kerberos.messages import (
    AP_REQ,
    AUTHORIZATION_DATA,
    ENC_TICKET_PART,
    KDC_REQ_BODY,
    PA_FOR_USER,
    PA_S4U_X509_USER,
    S4U_USER_ID,
    TGS_REQ,
    AuthorizationDatum,
    Checksum,
    EncryptedData,
    PAData,
    PAForUser,
    PAS4UX509User,
    S4UUserID,
)
from kdc.kerberos.padata import PadataType
from kdc.kerberos.tickets import Flag
from kdc.testing.client import Wanted
from tests.kerberos.test_as_exchange import HOUR, ASTestCase
from tests.support.kerberos import NOW, REALM

ALL = int(Flag.FORWARDABLE | Flag.PROXIABLE | Flag.RENEWABLE | Flag.MAY_POSTDATE)


class TGSTestCase(ASTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.kdc.client()
        self.tgt = self.got(ALL)
        self.web = self.kdc.web.principal

    def got(self, options: int, **wanted: Any) -> Credential:
        return self.client.initial(self.alice, "secret", Wanted(options, **wanted))

    def service(self, options: int = 0, **wanted: Any) -> Credential:
        return self.client.service(self.tgt, self.web, Wanted(options, **wanted))


class GrantTests(TGSTestCase):
    def test_ticket(self) -> None:
        """In the client's name, since it proved who it is, not beyond the first ticket's end."""
        self.kdc.now += HOUR
        credential = self.service()
        part = self.opened(credential.ticket)
        self.assertEqual(part.client.components, ("alice",))
        self.assertEqual(part.auth_time, int(NOW))
        self.assertEqual(part.start_time, int(NOW) + HOUR)
        self.assertEqual(part.end_time, self.tgt.end_time)
        self.assertFalse(part.flags & (Flag.INITIAL | Flag.FORWARDABLE))
        self.assertTrue(part.flags & Flag.PRE_AUTHENTICATED)

    def test_indicators_are_carried(self) -> None:
        """What the client proved is in the service's ticket, under the service's key too."""
        part = self.opened(self.service().ticket)
        self.assertEqual(len(part.authorization or ()), 1)
        tgs = self.kdc.database.get(f"krbtgt/{REALM}")
        self.assertEqual(indicators_in(part, tgs), ("timestamp",))
        forged = attrs.evolve(part, client=self.kdc.principal("bob").name())
        self.assertEqual(indicators_in(forged, tgs), ())

    def test_client_gone(self) -> None:
        """Disabled or deleted since: nothing more."""
        self.kdc.database.modify("alice", disabled=True)
        self.refused(self.service, Code.CLIENT_REVOKED)
        self.kdc.database.remove("alice")
        self.refused(self.service, Code.CLIENT_UNKNOWN)

    def test_delegates(self) -> None:
        self.assertFalse(self.service().flags & Flag.OK_AS_DELEGATE)
        self.kdc.database.modify("HTTP/web", ok_as_delegate=True)
        self.assertTrue(self.service().flags & Flag.OK_AS_DELEGATE)

    def test_expired(self) -> None:
        self.kdc.now += 25 * HOUR
        text = self.refused(self.service, Code.TICKET_EXPIRED)
        self.assertIn("ended 3600 s ago: get a new ticket", text)

    def test_other_tickets(self) -> None:
        """A service's ticket gets no others."""
        credential = self.service()
        self.refused(lambda: self.client.service(credential, self.web), Code.NOT_US)

    def test_forged(self) -> None:
        """What no KDC of this realm would have written, though it were under its key."""
        for later, code in ((1000, Code.TICKET_NOT_YET_VALID), (200, None)):
            part = attrs.evolve(self.opened(self.tgt.ticket), start_time=int(NOW) + later)
            key = self.kdc.key_of(self.kdc.database.get(f"krbtgt/{REALM}"))
            sealed = attrs.evolve(
                self.tgt.ticket.part, cipher=key.seal(2, ENC_TICKET_PART.encode(part), bytes(16))
            )
            tgt, self.tgt = (
                self.tgt,
                attrs.evolve(self.tgt, ticket=attrs.evolve(self.tgt.ticket, part=sealed)),
            )
            if code is None:
                self.service()
            else:
                self.refused(self.service, code)
            self.tgt = tgt

    def test_tickets_from_elsewhere(self) -> None:
        """Another realm's, or of another version."""
        for changes, code in (
            ({"realm": "ELSE.WHERE"}, Code.NOT_US),
            ({"version": 4}, Code.BAD_VERSION),
        ):
            ticket = attrs.evolve(self.tgt.ticket, **changes)
            credential = attrs.evolve(self.tgt, ticket=ticket)
            self.refused(functools.partial(self.client.service, credential, self.web), code)

    def test_encryption_types(self) -> None:
        """The session key is of a type that the service has, whatever the client likes best."""
        old = self.kdc.database.add("HTTP/old", None, (17,)).principal
        wanted = Wanted(0, etypes=(18, 20, 17))
        self.assertEqual(self.client.service(self.tgt, old, wanted).key.etype, 17)
        self.refused(
            lambda: self.client.service(self.tgt, old, Wanted(0, etypes=(18,))), Code.NO_ETYPE
        )

    def test_older_keys(self) -> None:
        """A ticket is good while its key is kept, and no longer."""
        self.kdc.database.change(f"krbtgt/{REALM}", None, keep=True)
        self.service()
        self.kdc.database.change(f"krbtgt/{REALM}", None)
        self.refused(self.service, Code.BAD_KEY_VERSION)


class OptionTests(TGSTestCase):
    def test_each_needs_its_flag(self) -> None:
        """Of a ticket that has no flag nothing comes that has; with the flag it does."""
        self.tgt = self.got(0)
        for option in (
            *(Flag.FORWARDABLE, Flag.FORWARDED, Flag.PROXIABLE, Flag.PROXY),
            *(Flag.MAY_POSTDATE, Flag.POSTDATED, Flag.RENEWABLE, Flag.RENEW, Flag.VALIDATE),
        ):
            self.refused(functools.partial(self.service, int(option)), Code.BAD_OPTION)
        self.tgt = self.got(ALL)
        for option in (Flag.FORWARDABLE, Flag.FORWARDED, Flag.PROXIABLE, Flag.PROXY):
            self.assertTrue(self.service(int(option)).flags & option)

    def test_forwarded_stays(self) -> None:
        """What comes of a forwarded ticket says so."""
        tgs = self.kdc.realm.tgs
        wanted = Wanted(int(Flag.FORWARDED | Flag.FORWARDABLE))
        self.tgt = self.client.service(self.tgt, tgs, wanted)
        self.assertTrue(self.service().flags & Flag.FORWARDED)

    def test_no_proxy_of_the_tgs(self) -> None:
        wanted = Wanted(int(Flag.PROXY))
        self.refused(
            lambda: self.client.service(self.tgt, self.kdc.realm.tgs, wanted), Code.BAD_OPTION
        )

    def test_renew(self) -> None:
        """As long again as it was, up to its limit, then no more."""
        tgs = self.kdc.realm.tgs
        self.tgt = self.got(ALL, till=int(NOW) + 10 * HOUR, renew_till=int(NOW) + 15 * HOUR)
        self.kdc.now += 8 * HOUR
        renewed = self.client.service(self.tgt, tgs, Wanted(int(Flag.RENEW)))
        self.assertEqual(renewed.end_time, int(NOW) + 15 * HOUR)
        self.assertTrue(renewed.flags & Flag.RENEWABLE)
        self.assertTrue(renewed.flags & Flag.FORWARDABLE)
        again = Wanted(int(Flag.RENEW))
        self.refused(lambda: self.client.service(self.tgt, self.web, again), Code.BAD_OPTION)
        self.kdc.now += 7 * HOUR
        self.refused(lambda: self.client.service(renewed, tgs, again), Code.TICKET_EXPIRED)

    def test_validate(self) -> None:
        """A postdated ticket is good for nothing before it has begun and been validated."""
        options = int(Flag.POSTDATED | Flag.MAY_POSTDATE)
        wanted, tgs = Wanted(int(Flag.VALIDATE)), self.kdc.realm.tgs
        soon = self.got(options, start=int(NOW) + 200)  # within what clocks may be off
        self.refused(lambda: self.client.service(soon, tgs, wanted), Code.TICKET_NOT_YET_VALID)
        start = int(NOW) + 2 * HOUR
        self.tgt = self.got(options, start=start, till=start + HOUR)
        self.refused(self.service, Code.TICKET_NOT_YET_VALID)
        self.refused(lambda: self.client.service(self.tgt, tgs, wanted), Code.TICKET_NOT_YET_VALID)
        self.kdc.now = start + 1
        self.refused(self.service, Code.TICKET_NOT_YET_VALID)
        self.tgt = self.client.service(self.tgt, tgs, wanted)
        self.assertFalse(self.tgt.flags & Flag.INVALID)
        self.assertEqual((self.tgt.start_time, self.tgt.end_time), (start, start + HOUR))
        self.service()

    def test_user_to_user(self) -> None:
        """Under the key of the ticket that the other side sent, which has to be its own."""
        bob = self.kdc.database.add("bob", "bob's", is_service=False).principal
        theirs = self.client.initial(bob, "bob's")
        self.refused(lambda: self.client.service(self.tgt, bob), Code.MUST_USE_USER_TO_USER)
        wanted = Wanted(int(Flag.USER_TO_USER), tickets=(theirs.ticket,))
        ticket = self.client.service(self.tgt, bob, wanted).ticket
        self.assertIsNone(ticket.part.kvno)
        theirs.key.open(2, ticket.part.cipher)
        self.refused(lambda: self.client.service(self.tgt, self.web, wanted), Code.SERVER_NOMATCH)
        none = Wanted(int(Flag.USER_TO_USER))
        self.refused(lambda: self.client.service(self.tgt, bob, none), Code.BAD_OPTION)
        service = Wanted(int(Flag.USER_TO_USER), tickets=(self.service().ticket,))
        self.refused(lambda: self.client.service(self.tgt, bob, service), Code.POLICY)

    def test_constrained_delegation(self) -> None:
        """Is not there, and said not to be."""
        self.refused(lambda: self.service(int(Flag.CONSTRAINED_DELEGATION)), Code.BAD_OPTION)


class HeaderTests(TGSTestCase):
    def changed(self, **body: Any) -> bytes:
        """The last request, with another body under the same authenticator."""
        message = TGS_REQ.decode(self.kdc.requests[-1])
        other = attrs.evolve(KDC_REQ_BODY.decode(message.body), **body)
        return TGS_REQ.encode(attrs.evolve(message, body=KDC_REQ_BODY.encode(other)))

    def test_body_is_covered(self) -> None:
        """Nobody on the way makes another request of one."""
        self.service()
        error = self.kdc.error(self.changed(server=self.kdc.host.principal.name()))
        self.assertEqual(error.code, Code.MODIFIED)

    def test_repetition(self) -> None:
        """An authenticator is good once: other padata beside it are another request."""
        self.service()
        message = TGS_REQ.decode(self.kdc.requests[-1])
        again = attrs.evolve(message, padata=(*(message.padata or ()), PAData(77, b"")))
        self.assertEqual(self.kdc.error(TGS_REQ.encode(again)).code, Code.REPEATED)

    def test_clock(self) -> None:
        """An authenticator of another time is somebody else's, found later."""
        for ahead, code in ((400, Code.SKEW), (-400, Code.SKEW)):
            self.client = self.kdc.client(ahead=ahead)
            self.refused(self.service, code)

    def test_other_messages(self) -> None:
        """Another version or type of what presents the ticket."""
        self.service()
        message = TGS_REQ.decode(self.kdc.requests[-1])
        good = AP_REQ.decode((message.padata or ())[0].content)
        for header in (attrs.evolve(good, version=4), attrs.evolve(good, message_type=15)):
            padata = (PAData(PadataType.TGS_REQ, AP_REQ.encode(header)),)
            error = self.kdc.error(TGS_REQ.encode(attrs.evolve(message, padata=padata)))
            self.assertEqual(error.code, Code.BAD_VERSION)

    def test_no_ticket(self) -> None:
        self.service()
        message = attrs.evolve(TGS_REQ.decode(self.kdc.requests[-1]), padata=None)
        self.assertEqual(self.kdc.error(TGS_REQ.encode(message)).code, Code.PADATA_TYPE)

    def test_anothers_ticket(self) -> None:
        """A ticket with an authenticator in another name."""
        mixed = attrs.evolve(self.tgt, client=self.kdc.principal("bob"))
        self.refused(lambda: self.client.service(mixed, self.web), Code.BAD_MATCH)

    def test_stolen_ticket(self) -> None:
        """A ticket without its session key is of no use."""
        stolen = attrs.evolve(self.tgt, key=self.kdc.key_of(self.kdc.web))
        self.refused(lambda: self.client.service(stolen, self.web), Code.BAD_INTEGRITY)

    def test_checksums(self) -> None:
        """None, one that needs no key, or one of another type is not appropriate."""
        self.service()
        for checksum in (None, Checksum(7, bytes(16)), Checksum(15, bytes(12))):
            message = TGS_REQ.decode(self.kdc.requests[-1])
            body = KDC_REQ_BODY.encode(
                attrs.evolve(KDC_REQ_BODY.decode(message.body), client=None, server=self.web.name())
            )
            header = PAData(PadataType.TGS_REQ, self.client.ap_request(self.tgt, 7, checksum))
            request = attrs.evolve(message, message_type=12, padata=(header,), body=body)
            error = self.kdc.error(TGS_REQ.encode(request))
            self.assertEqual(error.code, Code.INAPPROPRIATE_CHECKSUM)


class AuthorizationTests(TGSTestCase):
    def sealed(self, *data: AuthorizationDatum) -> EncryptedData:
        cipher = self.tgt.key.seal(4, AUTHORIZATION_DATA.encode(data), bytes(16))
        return EncryptedData(self.tgt.key.etype, None, cipher)

    def test_client_adds(self) -> None:
        """What it likes, but nothing that only a KDC says."""
        inner = AUTHORIZATION_DATA.encode((AuthorizationDatum(96, b"forged"),))
        fine = AuthorizationDatum(1000, b"fine")
        for kind, content in ((96, b""), (97, b""), (128, b""), (1, inner), (1, b"senseless")):
            data = self.sealed(AuthorizationDatum(kind, content), fine)
            part = self.opened(self.service(authorization=data).ticket)
            self.assertIn(fine, part.authorization or ())
            self.assertEqual(len(part.authorization or ()), 2)  # and ours

    def test_added_to_the_first_ticket(self) -> None:
        """What a client had put into its own ticket-granting ticket does not count either."""
        inner = AUTHORIZATION_DATA.encode((AuthorizationDatum(97, b"0\0"),))
        self.assertEqual(unclaimed((AuthorizationDatum(1, inner),)), ())

    def test_does_not_open(self) -> None:
        data = EncryptedData(18, None, bytes(60))
        self.refused(lambda: self.service(authorization=data), Code.BAD_INTEGRITY)


class ForUserTests(TGSTestCase):
    """S4U2Self, by PA-FOR-USER and by PA-S4U-X509-USER; and with MIT's client in tests.testing."""

    def setUp(self) -> None:
        super().setUp()
        self.service_ticket = self.client.initial(
            self.web, lambda e: self.kdc.key_of(self.kdc.web, e)
        )

    def asked(
        self,
        user: str = "alice",
        key: bytes | None = None,
        target: Any = None,
        kind: int = -138,
    ) -> Credential:
        name = self.kdc.principal(user).name()
        covered = (1).to_bytes(4, "little") + f"{user}{REALM}Kerberos".encode()
        signer = self.service_ticket.key
        if key is not None:
            signer = attrs.evolve(signer, content=key)
        if kind == -138:
            checksum = Checksum(kind, hmac_md5_checksum(signer.content, 17, covered))
        else:
            checksum = Checksum(kind, signer.checksum(17, covered))
        content = PA_FOR_USER.encode(PAForUser(name, REALM, checksum, "Kerberos"))
        wanted = Wanted(int(Flag.FORWARDABLE), padata=(PAData(PadataType.FOR_USER, content),))
        return self.client.service(self.service_ticket, target or self.web, wanted)

    def test_to_oneself(self) -> None:
        """In the user's name, and not forwardable."""
        credential = self.asked()
        part = self.opened(credential.ticket)
        self.assertEqual(part.client.components, ("alice",))
        self.assertEqual(credential.client, self.alice)
        self.assertFalse(part.flags & Flag.FORWARDABLE)

    def test_checksum_of_the_key(self) -> None:
        """Heimdal's clients send that instead of HMAC-MD5."""
        self.assertEqual(self.asked(kind=16).client, self.alice)

    def by_user_id(
        self,
        user: Any,
        realm: str = REALM,
        nonce: int = 0,
        key: bytes | None = None,
        kind: int = 16,
    ) -> Code | None:
        """What a request with the newer padata is answered with; None is a ticket."""
        self.client.service(self.service_ticket, self.web)
        message = TGS_REQ.decode(self.kdc.requests[-1])
        body = KDC_REQ_BODY.decode(message.body)
        session = self.service_ticket.key
        user_id = S4U_USER_ID.encode(S4UUserID(body.nonce + nonce, user, realm, None, None))
        signer = session if key is None else attrs.evolve(session, content=key)
        content = PA_S4U_X509_USER.encode(
            PAS4UX509User(user_id, Checksum(kind, signer.checksum(26, user_id)))
        )
        checksum = Checksum(16, session.checksum(6, message.body))
        header = PAData(
            PadataType.TGS_REQ, self.client.ap_request(self.service_ticket, 7, checksum)
        )
        padata = (header, PAData(PadataType.S4U_X509_USER, content))
        self.kdc.exchange(TGS_REQ.encode(attrs.evolve(message, padata=padata)))
        return self.kdc.answers[-1].code

    def test_by_user_id(self) -> None:
        """The user, the realm and the request are those that the checksum is over."""
        alice = self.alice.name()
        self.assertIsNone(self.by_user_id(alice))
        self.assertEqual(self.by_user_id(alice, nonce=1), Code.MODIFIED)
        self.assertEqual(self.by_user_id(alice, key=bytes(32)), Code.MODIFIED)
        self.assertEqual(self.by_user_id(alice, kind=15), Code.INAPPROPRIATE_CHECKSUM)
        self.assertEqual(self.by_user_id(alice, realm="ELSE.WHERE"), Code.WRONG_REALM)
        self.assertEqual(self.by_user_id(None), Code.CLIENT_UNKNOWN)

    def test_refused(self) -> None:
        """For another service, of an unknown or disabled user, with another key's checksum."""
        self.refused(lambda: self.asked(target=self.kdc.host.principal), Code.BAD_OPTION)
        self.refused(lambda: self.asked("nobody"), Code.CLIENT_UNKNOWN)
        for kind in (-138, 16):
            forged = functools.partial(self.asked, key=bytes(32), kind=kind)
            self.refused(forged, Code.MODIFIED)
        for kind in (15, 7, 0):
            self.refused(functools.partial(self.asked, kind=kind), Code.INAPPROPRIATE_CHECKSUM)
        self.kdc.database.modify("alice", disabled=True)
        self.refused(self.asked, Code.CLIENT_REVOKED)
