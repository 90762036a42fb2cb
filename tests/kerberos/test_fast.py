"""Requests inside of FAST: RFC 6113 section 5.4."""

from __future__ import annotations

from typing import Any

import attrs

from kdc.kerberos import fast
from kdc.kerberos.der import tlv
from kdc.kerberos.errors import Code
from kdc.kerberos.messages import (
    AS_REP,
    AS_REQ,
    CHECKSUM,
    ENC_AS_REP_PART,
    ENC_TGS_REP_PART,
    ENCRYPTED_DATA,
    KDC_REQ_BODY,
    KRB_ERROR,
    METHOD_DATA,
    PA_ENC_TIMESTAMP,
    PVNO,
    TGS_REP,
    TGS_REQ,
    TICKET,
    Checksum,
    EncryptedData,
    KDCReq,
    KDCReqBody,
    KRBError,
    PAData,
    PAEncTimestamp,
)
from kdc.kerberos.padata import PadataType
from kdc.kerberos.profile import Key, combined
from kdc.kerberos.tickets import Flag
from tests.kerberos.test_tgs_exchange import TGSTestCase
from tests.support.kerberos import NOW, random_of


class FastTestCase(TGSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.got(0, etypes=(18,))
        self.body = KDC_REQ_BODY.decode(AS_REQ.decode(self.kdc.requests[-1]).body)
        self.random = random_of("fast")
        self.armour = self.new_armour()

    def new_armour(self) -> tuple[bytes, Key]:
        """An AP-REQ with a subkey, and the key that both make."""
        subkey = Key(18, self.random(32))
        header = self.client.ap_request(self.tgt, 11, None, subkey)
        return header, combined(subkey, self.tgt.key, b"subkeyarmor", b"ticketarmor")

    def stamp(self, password: str = "secret", usage: int = 54) -> PAData:
        own = Key(
            18, self.kdc.alice.current.key(18).profile.string_to_key(password, "EXAMPLE.ORGalice")
        )
        key = combined(self.armour[1], own, b"clientchallengearmor", b"challengelongterm")
        plain = PA_ENC_TIMESTAMP.encode(PAEncTimestamp(int(NOW), 0))
        cipher = key.seal(usage, plain, self.random(16))
        content = ENCRYPTED_DATA.encode(EncryptedData(18, None, cipher))
        return PAData(PadataType.ENCRYPTED_CHALLENGE, content)

    def request(
        self,
        *padata: PAData,
        options: int = 0,
        checksum_type: int = 16,
        inside: KDCReqBody | None = None,
        **outer: Any,
    ) -> bytes:
        header, key = self.armour
        inner = fast._FastReq(options, padata, inside or self.body)
        outer_body = KDC_REQ_BODY.encode(attrs.evolve(self.body, **outer))
        sealed = EncryptedData(18, None, key.seal(51, fast.FAST_REQ.encode(inner), self.random(16)))
        covered = KDC_REQ_BODY.encode(self.body)
        request = fast._ArmouredReq(
            fast._Armour(1, header), Checksum(checksum_type, key.checksum(50, covered)), sealed
        )
        content = tlv(0xA0, fast.ARMOURED_REQ.encode(request))
        return AS_REQ.encode(KDCReq(PVNO, 10, (PAData(PadataType.FX_FAST, content),), outer_body))

    def response(self, padata: tuple[PAData, ...] | None, key: Key) -> Any:
        (content,) = [p.content for p in padata or () if p.kind == PadataType.FX_FAST]
        reply = fast.ARMOURED_REP.decode(fast._chosen(content))
        return fast.RESPONSE.decode(key.open(52, reply.part.cipher))

    def inner_error(self, request: bytes) -> tuple[KRBError, dict[int, bytes]]:
        outer = self.kdc.error(request)
        response = self.response(METHOD_DATA.decode(outer.details or b""), self.armour[1])
        found = {each.kind: each.content for each in response.padata}
        inner = KRB_ERROR.decode(found[PadataType.FX_ERROR])
        self.assertEqual(inner.code, outer.code)
        return inner, found


class ArmouredTests(FastTestCase):
    def test_challenge(self) -> None:
        """Error 25 inside, then a ticket under a strengthened key; the KDC shows that it knows."""
        inner, found = self.inner_error(self.request())
        self.assertEqual(inner.code, Code.PREAUTH_REQUIRED)
        self.assertEqual(found[PadataType.ENCRYPTED_CHALLENGE], b"")
        self.assertIn(PadataType.FX_COOKIE, found)
        self.assertNotIn(PadataType.ENC_TIMESTAMP, found)
        asks = PAData(PadataType.REQ_ENC_PA_REP, b"")
        reply = AS_REP.decode(self.kdc.exchange(self.request(asks, self.stamp())))
        response = self.response(reply.padata, self.armour[1])
        self.assertEqual(response.nonce, self.body.nonce)
        own = self.kdc.key_of(self.kdc.alice)
        strengthen = Key(18, response.strengthen_key.content)
        key = combined(strengthen, own, b"strengthenkey", b"replykey")
        part = ENC_AS_REP_PART.decode(key.open(3, reply.part.cipher))
        self.assertEqual(part.nonce, self.body.nonce)
        # MIT's client wants this under the strengthened key.
        (whole,) = part.padata or ()
        self.assertEqual(
            CHECKSUM.decode(whole.content).content, key.checksum(56, self.kdc.requests[-1])
        )
        ticket = TICKET.encode(reply.ticket)
        finished = response.finished
        self.assertEqual(finished.ticket_checksum.content, self.armour[1].checksum(53, ticket))
        self.assertEqual(finished.client.components, ("alice",))
        (proof,) = [p.content for p in response.padata if p.kind == PadataType.ENCRYPTED_CHALLENGE]
        kdc = combined(self.armour[1], own, b"kdcchallengearmor", b"challengelongterm")
        stamp = PA_ENC_TIMESTAMP.decode(kdc.open(55, ENCRYPTED_DATA.decode(proof).cipher))
        self.assertEqual(stamp.moment, int(NOW))

    def test_wrong_password(self) -> None:
        inner, _ = self.inner_error(self.request(self.stamp("wrong")))
        self.assertEqual(inner.code, Code.PREAUTH_FAILED)
        inner, _ = self.inner_error(self.request(self.stamp(usage=55)))
        self.assertEqual(inner.code, Code.PREAUTH_FAILED)

    def test_outer_request_counts_for_nothing(self) -> None:
        """What is inside decides; the outside only has to be what the checksum is over."""
        error = self.kdc.error(self.request(self.stamp(), till=1))
        self.assertEqual(error.code, Code.MODIFIED)

    def test_other_checksum(self) -> None:
        """One of another type than the armour's key."""
        error = self.kdc.error(self.request(checksum_type=15))
        self.assertEqual(error.code, Code.INAPPROPRIATE_CHECKSUM)

    def test_other_realm(self) -> None:
        """Inside is a request for this realm, too."""
        inside = attrs.evolve(self.body, realm="ELSE.WHERE")
        self.assertEqual(self.kdc.error(self.request(inside=inside)).code, Code.WRONG_REALM)

    def test_unknown_option(self) -> None:
        """5.4.2: the first sixteen are for those who know them."""
        for bit in (31, 30, 16):
            error = self.kdc.error(self.request(options=1 << bit))
            self.assertEqual(error.code, Code.UNKNOWN_FAST_OPTION)
        inner, _ = self.inner_error(self.request(options=1 << 15))
        self.assertEqual(inner.code, Code.PREAUTH_REQUIRED)

    def test_armour(self) -> None:
        """A ticket of another service, without subkey, or one that has expired is none."""
        self.tgt, tgt = self.service(), self.tgt
        self.armour = self.new_armour()
        self.assertEqual(self.kdc.error(self.request()).code, Code.NOT_US)
        self.tgt = tgt
        self.armour = self.client.ap_request(tgt, 11), self.armour[1]
        self.assertEqual(self.kdc.error(self.request()).code, Code.PREAUTH_FAILED)
        self.armour = self.new_armour()[0], Key(18, bytes(32))
        self.assertEqual(self.kdc.error(self.request()).code, Code.MODIFIED)

    def test_malformed(self) -> None:
        for content in (b"\xa0\0", b"\xa1\x02\x30\0", b"\xa0\x02\x30\0", b"\x30\0"):
            padata = (PAData(PadataType.FX_FAST, content),)
            request = KDCReq(PVNO, 10, padata, KDC_REQ_BODY.encode(self.body))
            self.assertEqual(self.kdc.error(AS_REQ.encode(request)).code, Code.GENERIC)


class TGSTests(FastTestCase):
    def asked(self, options: int = 0, outer_options: int = 0) -> tuple[bytes, Key, Key]:
        """A request for a ticket in the armour of the one it comes with, which is sent."""
        subkey = Key(18, self.random(32))
        armour = combined(subkey, self.tgt.key, b"subkeyarmor", b"ticketarmor")
        body = attrs.evolve(self.body, client=None, server=self.web.name(), options=options)
        outer = KDC_REQ_BODY.encode(attrs.evolve(body, options=outer_options))
        checksum = Checksum(16, self.tgt.key.checksum(6, outer))
        header = self.client.ap_request(self.tgt, 7, checksum, subkey)
        inner = fast.FAST_REQ.encode(fast._FastReq(0, (), body))
        request = fast._ArmouredReq(
            None,
            Checksum(16, armour.checksum(50, header)),
            EncryptedData(18, None, armour.seal(51, inner, self.random(16))),
        )
        content = tlv(0xA0, fast.ARMOURED_REQ.encode(request))
        padata = (PAData(PadataType.TGS_REQ, header), PAData(PadataType.FX_FAST, content))
        message = TGS_REQ.encode(KDCReq(PVNO, 12, padata, outer))
        return self.kdc.exchange(message), subkey, armour

    def test_granted(self) -> None:
        """The ticket is the one asked for inside, under a strengthened key."""
        answer, subkey, armour = self.asked()
        reply = TGS_REP.decode(answer)
        response = self.response(reply.padata, armour)
        strengthen = Key(18, response.strengthen_key.content)
        key = combined(strengthen, subkey, b"strengthenkey", b"replykey")
        part = ENC_TGS_REP_PART.decode(key.open(9, reply.part.cipher))
        self.assertEqual(part.server.components, ("HTTP", "web"))

    def test_options_outside(self) -> None:
        """They open nothing: not a ticket of another service, nor one that is not yet valid."""
        options = int(Flag.RENEW | Flag.VALIDATE)
        self.tgt, tgt = self.service(), self.tgt
        self.asked(outer_options=options)
        self.assertEqual(self.kdc.answers[-1].code, Code.NOT_US)
        postdated = int(Flag.POSTDATED | Flag.MAY_POSTDATE)
        self.tgt = self.got(postdated, start=int(NOW) + 400)
        self.kdc.now += 500
        self.asked(outer_options=options)
        self.assertEqual(self.kdc.answers[-1].code, Code.TICKET_NOT_YET_VALID)
        self.tgt = tgt


class AdvertisedTests(TGSTestCase):
    def test_when_told_to(self) -> None:
        """A reply says that there is FAST only if the realm's policy is so."""
        for advertise in (False, True):
            policy = attrs.evolve(self.kdc.realm.policy, advertise_fast=advertise)
            self.kdc.kdc.realm = attrs.evolve(self.kdc.realm, policy=policy)
            self.got(0)
            key = self.kdc.key_of(self.kdc.alice)
            reply = AS_REP.decode(self.kdc.answers[-1].reply)
            part = ENC_AS_REP_PART.decode(key.open(3, reply.part.cipher))
            kinds = [each.kind for each in part.padata or ()]
            self.assertEqual(PadataType.FX_FAST in kinds, advertise)
            self.assertTrue(CHECKSUM.decode((part.padata or ())[0].content))
