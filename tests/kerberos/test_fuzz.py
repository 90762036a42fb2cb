"""Whatever comes: an answer, and from the readers of files their value or a `ValueError`."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs
from hypothesis import given
from hypothesis import strategies as st

from kdc.kerberos import messages
from kdc.kerberos.authdata import unclaimed
from kdc.kerberos.ccache import ccache, read_ccache
from kdc.kerberos.der import DERError
from kdc.kerberos.keytab import KeytabEntry, keytab, read_keytab
from kdc.kerberos.layout import Layout
from kdc.kerberos.messages import AuthorizationDatum
from kdc.kerberos.names import Principal, parsed
from kdc.kerberos.profile import Key
from tests.kerberos.test_tgs_exchange import TGSTestCase
from tests.support.kerberos import REALM

LAYOUTS = [value for value in vars(messages).values() if isinstance(value, Layout)]
CHANGES = 400


def changed(data: bytes, chance: random.Random) -> bytes:
    """``data`` with a byte or a few of it other, gone, or there twice."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(len(result)) if result else 0
        action = chance.randrange(4)
        if action == 0:
            result[at : at + 1] = bytes((chance.choice((0, 1, 0x7F, 0x80, 0x84, 0xFF)),))
        elif action == 1:
            del result[at : at + chance.choice((1, 4, 60))]
        elif action == 2:
            result[at:at] = result[at : at + chance.choice((1, 8, 60))]
        else:
            result[at : at + 1] = bytes((chance.randrange(256),))
    return bytes(result)


class FuzzTests(TGSTestCase):
    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """A layout returns what writes the same bytes, or raises `DERError`."""
        for layout in LAYOUTS:
            try:
                value = layout.decode(data)
            except DERError:
                continue
            self.assertEqual(layout.encode(value), data)

    def test_almost_right(self) -> None:
        """Changed requests are answered, and what of them can be read has one encoding."""
        self.service()
        chance = random.Random(1)
        for request in list(self.kdc.requests):
            for _ in range(CHANGES):
                data = changed(request, chance)
                self.assertTrue(self.kdc.exchange(data))
                layout = messages.AS_REQ if data[:1] == b"\x6a" else messages.TGS_REQ
                try:
                    message = layout.decode(data)
                except DERError:
                    continue
                self.assertEqual(layout.encode(message), data)

    def test_changed_bodies(self) -> None:
        """Who has a ticket can say what he likes: it is never more than an error."""
        chance = random.Random(2)
        self.service()
        asked = messages.TGS_REQ.decode(self.kdc.requests[-1])
        for _ in range(CHANGES):
            body = changed(asked.body, chance)
            try:
                messages.KDC_REQ_BODY.decode(body)
            except DERError:
                continue
            checksum = messages.Checksum(16, self.tgt.key.checksum(6, body))
            header = messages.PAData(1, self.client.ap_request(self.tgt, 7, checksum))
            request = attrs.evolve(asked, padata=(header,), body=body)
            self.assertTrue(self.kdc.exchange(messages.TGS_REQ.encode(request)))

    @given(st.binary(max_size=60), st.integers(-600, 600))
    def test_authorization_data(self, content: bytes, kind: int) -> None:
        data = (AuthorizationDatum(kind, content), AuthorizationDatum(1, content))
        self.assertLessEqual(set(unclaimed(data)), set(data))

    def test_nested_authorization_data(self) -> None:
        """However deep it is, looking into it ends, and a claim inside is found."""
        datum = AuthorizationDatum(1000, b"")
        for depth in range(400):
            inner = messages.AUTHORIZATION_DATA.encode((datum,))
            datum = AuthorizationDatum(1, inner)
            self.assertEqual(len(unclaimed((datum,))), depth < 7)

    def files(self) -> list[tuple[bytes, Callable[[bytes], object]]]:
        key = self.kdc.key_of(self.kdc.web)
        entries = [KeytabEntry(self.web, kvno, key, 1, 1) for kvno in (1, 300)]
        return [
            (keytab(entries), read_keytab),
            (ccache(self.alice, [self.tgt, self.service()]), read_ccache),
        ]

    def test_files(self) -> None:
        """Keytabs and credential caches that are almost right."""
        chance = random.Random(3)
        for whole, read in self.files():
            for cut in range(len(whole)):
                self.tried(read, whole[:cut])
            for _ in range(CHANGES):
                self.tried(read, changed(whole, chance))

    def tried(self, read: Callable[[bytes], object], data: bytes) -> None:
        try:
            read(data)
        except ValueError:
            return

    def test_files_come_back(self) -> None:
        """What was written is read; a hole and a type that is not used here are passed over."""
        key = self.kdc.key_of(self.kdc.web)
        entries = [KeytabEntry(self.web, kvno, key, 7, 3) for kvno in (1, 255, 256, 70_000)]
        data = keytab(entries)
        self.assertEqual(read_keytab(data), entries)
        hole = b"\xff\xff\xff\xf6" + bytes(10)
        self.assertEqual(read_keytab(data[:2] + hole + data[2:]), entries)
        weak = keytab([KeytabEntry(self.web, 1, Key(17, b"k" * 16), 0, 1)]).replace(
            b"\x00\x11\x00\x10k", b"\x00\x17\x00\x10k"
        )
        self.assertEqual(read_keytab(weak), [])
        tickets = [self.tgt, self.service()]
        self.assertEqual(read_ccache(ccache(self.alice, tickets)), (self.alice, tickets))

    @given(st.text(max_size=40))
    def test_names(self, text: str) -> None:
        """A name is read back as it is shown, or refused by a `ValueError`."""
        try:
            principal = parsed(text, REALM)
        except ValueError:
            return
        self.assertEqual(parsed(str(principal), "OTHER"), principal)

    def test_principals(self) -> None:
        """Every kind of character has a way to be typed."""
        for typed, parts in (
            ("a/b@R", ("a", "b")),
            (r"a\/b@R", ("a/b",)),
            (r"a\@b", ("a@b",)),
            (r"a\\\n\t\bx", ("a\\\n\t\bx",)),
        ):
            self.assertEqual(parsed(typed, "R"), Principal(parts, "R"))
            self.assertEqual(parsed(str(parsed(typed, "R")), "Q"), Principal(parts, "R"))
        for wrong in ("a@b@c", "a\\", "a@", "@R R", "a@R/S", "a@R\n", "x/" * 17, "a" * 2000):
            self.assertRaises(ValueError, parsed, wrong, "R")
