"""Every error of the table: what brings it about, and that its text says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from kdc.kerberos.errors import ADVICE, Code
from kdc.kerberos.kdc import MAX_DATAGRAM
from kdc.kerberos.messages import (
    AS_REQ,
    KDC_REQ_BODY,
    KRB_ERROR,
    HostAddress,
    KRBError,
)
from kdc.testing import TicketRefused
from tests.kerberos.test_tgs_exchange import TGSTestCase
from tests.support.kerberos import NOW, REALM


class ErrorTests(TGSTestCase):
    def asked(self, **body: Any) -> int:
        """The code of an AS request that is changed in its body."""
        self.got(0)
        message = AS_REQ.decode(self.kdc.requests[-1])
        changed = attrs.evolve(KDC_REQ_BODY.decode(message.body), **body)
        return self.sent(attrs.evolve(message, body=KDC_REQ_BODY.encode(changed)))

    def sent(self, message: Any, layout: Any = AS_REQ) -> int:
        return self.kdc.error(layout.encode(message)).code

    def caught(self, call: Callable[[], object]) -> int:
        return self.assertRaises(TicketRefused, call).code

    def test_every_code(self) -> None:
        """Each is what it should be, and none has been forgotten."""
        database = self.kdc.database
        bodies: tuple[tuple[Code, dict[str, Any]], ...] = (
            (Code.CLIENT_UNKNOWN, {"client": self.kdc.principal("nobody").name()}),
            (Code.CLIENT_UNKNOWN, {"client": None}),
            (Code.SERVER_UNKNOWN, {"server": self.kdc.principal("no/thing").name()}),
            (Code.SERVER_UNKNOWN, {"server": None}),
            (Code.CANNOT_POSTDATE, {"start_time": int(NOW) + 3600}),
            (Code.NEVER_VALID, {"till": int(NOW) - 1}),
            (Code.NO_ETYPE, {"etypes": (23, 3)}),
            (Code.NO_ETYPE, {"etypes": ()}),
            (Code.WRONG_REALM, {"realm": "ELSE.WHERE"}),
            *((Code.BAD_OPTION, {"options": 1 << bit}) for bit in (0, 1, 3, 27, 29)),
        )
        for code, of in bodies:
            self.assertEqual(self.asked(**of), code, of)
        standings: tuple[tuple[Code, dict[str, Any]], ...] = (
            (Code.CLIENT_REVOKED, {"disabled": True}),
            (Code.CLIENT_EXPIRED, {"disabled": False, "expiration": int(NOW)}),
            (Code.KEY_EXPIRED, {"expiration": None, "needs_change": True}),
        )
        for code, attributes in standings:
            database.modify("alice", **attributes)
            self.assertEqual(self.caught(lambda: self.got(0)), code)
        database.modify("alice", needs_change=False)
        database.modify("HTTP/web", expiration=int(NOW))
        self.assertEqual(self.caught(self.service), Code.SERVER_EXPIRED)

    def test_messages_of_another_kind(self) -> None:
        """Other versions, types and tags; nonsense; too much."""
        self.got(0)
        message = AS_REQ.decode(self.kdc.requests[-1])
        self.assertEqual(self.sent(attrs.evolve(message, version=4)), Code.BAD_VERSION)
        self.assertEqual(self.sent(attrs.evolve(message, message_type=12)), Code.GENERIC)
        self.assertEqual(self.sent(attrs.evolve(message, body=b"0\0")), Code.GENERIC)
        for nonsense in (b"", b"\x6a", b"\x6a\0", b"\x6c\x02\x30\0", b"GET / HTTP/1.0\r\n\r\n"):
            self.assertEqual(self.kdc.error(nonsense).code, Code.GENERIC)
        self.assertEqual(self.kdc.error(bytes(65_536)).code, Code.FIELD_TOO_LONG)

    def test_too_big(self) -> None:
        """What does not fit into a datagram is asked for by TCP, and then there."""
        addresses = tuple(HostAddress(24, bytes((n, *bytes(15)))) for n in range(250))
        self.got(0)
        message = AS_REQ.decode(self.kdc.requests[-1])
        body = attrs.evolve(KDC_REQ_BODY.decode(message.body), addresses=addresses)
        request = AS_REQ.encode(attrs.evolve(message, body=KDC_REQ_BODY.encode(body)))
        answer = self.kdc.kdc.answer(request, NOW, datagram=True)
        self.assertEqual(answer.code, Code.TOO_BIG)
        self.assertLess(len(answer.reply), MAX_DATAGRAM)
        self.assertGreater(len(self.kdc.kdc.answer(request, NOW).reply), MAX_DATAGRAM)

    def test_none_is_forgotten(self) -> None:
        """The names of all the codes are in these tests."""
        here = Path(__file__).parent.parent
        paths = [path for name in ("kerberos", "support") for path in (here / name).glob("*.py")]
        texts = "".join(path.read_text("utf-8") for path in paths)
        self.assertEqual([code for code in Code if f"Code.{code.name}" not in texts], [])

    def test_texts(self) -> None:
        """Each error has the KDC's time, and says what to do."""
        self.assertEqual(set(ADVICE), set(Code))
        for code in Code:
            self.assertRegex(ADVICE[code], r"^[a-z][^.]+[^.]$")
        answer = self.kdc.kdc.answer(b"?", NOW)
        error: KRBError = KRB_ERROR.decode(answer.reply)
        self.assertEqual((error.moment, error.microseconds), (int(NOW), 250_000))
        self.assertEqual(error.realm, REALM)
        self.assertTrue((error.text or "").endswith(ADVICE[Code.GENERIC]))
        self.assertNotIn("secret", error.text or "")
