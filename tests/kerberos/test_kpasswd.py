"""Changing passwords by RFC 3244, without a network; with MIT's programs in tests.testing."""

from __future__ import annotations

import struct

import attrs

from kdc.kerberos.ccache import Credential
from kdc.kerberos.kpasswd import Change, PasswordService, Result
from kdc.kerberos.messages import (
    AP_REP,
    ENC_AP_REP_PART,
    ENC_KRB_PRIV_PART,
    KRB_ERROR,
    KRB_PRIV,
    PVNO,
    EncKRBPrivPart,
    EncryptedData,
    HostAddress,
    KRBPriv,
)
from kdc.kerberos.profile import Key
from kdc.kerberos.tickets import Flag
from kdc.testing.client import Wanted
from tests.kerberos.test_tgs_exchange import TGSTestCase
from tests.support.kerberos import NOW

CHANGE = ("kadmin", "changepw")


class PasswordTests(TGSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.changes: list[Change] = []
        self.service_ = PasswordService(self.kdc.realm, self.change, HostAddress(2, bytes(4)))
        self.ticket = self.client.initial(self.alice, "secret", service=CHANGE)
        self.subkey = Key(18, bytes(range(32)))

    def change(self, change: Change) -> tuple[Result, str]:
        self.changes.append(change)
        return Result.SUCCESS, "well"

    def request(
        self,
        password: bytes = b"new",
        version: int = 1,
        ticket: Credential | None = None,
        subkey: bool = True,
        sequence: int | None = None,
    ) -> bytes:
        used = self.subkey if subkey else None
        header = self.client.ap_request(ticket or self.ticket, 11, None, used)
        part = ENC_KRB_PRIV_PART.encode(EncKRBPrivPart(password, None, None, sequence, None, None))
        key = used or self.ticket.key
        private = KRB_PRIV.encode(
            KRBPriv(PVNO, 21, EncryptedData(18, None, key.seal(13, part, bytes(16))))
        )
        length = 6 + len(header) + len(private)
        return struct.pack(">HHH", length, version, len(header)) + header + private

    def result(self, request: bytes) -> tuple[int, str]:
        """What the answer says, sealed or not."""
        answer = self.service_.answer(request, NOW) or b""
        length, version, header_length = struct.unpack_from(">HHH", answer)
        self.assertEqual((length, version), (len(answer), 1))
        if header_length == 0:
            content = KRB_ERROR.decode(answer[6:]).details or b""
        else:
            header = AP_REP.decode(answer[6 : 6 + header_length])
            reply = ENC_AP_REP_PART.decode(self.ticket.key.open(12, header.part.cipher))
            sealed = KRB_PRIV.decode(answer[6 + header_length :]).part.cipher
            private = ENC_KRB_PRIV_PART.decode(self.subkey.open(13, sealed))
            self.assertEqual(private.sequence, reply.sequence)
            content = private.content
        return int.from_bytes(content[:2], "big"), content[2:].decode()

    def test_own_password(self) -> None:
        self.assertEqual(self.result(self.request()), (Result.SUCCESS, "well"))
        self.assertEqual(self.changes, [Change(self.alice, self.alice, "new")])
        self.assertNotIn("new", repr(self.changes))

    def test_not_with_another_ticket(self) -> None:
        """One for another service, one that came of another ticket, one that was changed."""
        code, _ = self.result(self.request(ticket=self.service()))
        self.assertEqual(code, Result.AUTHENTICATION_ERROR)
        lent = self.client.service(self.tgt, self.kdc.principal("kadmin/changepw"), Wanted(0))
        self.ticket = lent
        self.assertFalse(lent.flags & Flag.INITIAL)
        self.assertEqual(self.result(self.request())[0], Result.INITIAL_FLAG_NEEDED)
        self.ticket = attrs.evolve(lent, key=Key(18, bytes(32)))
        self.assertEqual(self.result(self.request())[0], Result.AUTHENTICATION_ERROR)
        self.assertEqual(self.changes, [])

    def test_not_twice(self) -> None:
        """The same request again changes nothing."""
        request = self.request()
        self.result(request)
        self.assertEqual(self.result(request)[0], Result.AUTHENTICATION_ERROR)
        self.assertEqual(len(self.changes), 1)

    def test_of_another_request(self) -> None:
        """A password that was sealed beside another authenticator."""
        self.assertEqual(self.result(self.request(sequence=7))[0], Result.AUTHENTICATION_ERROR)
        self.assertEqual(self.changes, [])

    def test_malformed(self) -> None:
        """No answer to what is nothing; an error to what is almost something."""
        for nothing in (b"", bytes(5), bytes(6), self.request()[:-1], self.request() + b"x"):
            self.assertIsNone(self.service_.answer(nothing, NOW))
        self.assertEqual(self.result(self.request(version=2))[0], Result.BAD_VERSION)
        self.assertEqual(self.result(self.request(b"\xff"))[0], Result.MALFORMED)
        self.assertEqual(self.result(self.request(b"x" * 2000))[0], Result.MALFORMED)
        self.assertEqual(self.result(self.request(b"0\0", 0xFF80))[0], Result.MALFORMED)
        without = self.result(self.request(subkey=False))
        self.assertEqual(without[0], Result.AUTHENTICATION_ERROR)
        self.assertEqual(self.changes, [])
