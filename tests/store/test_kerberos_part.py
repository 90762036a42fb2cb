"""The Kerberos part of a record: its one form, its bounds, what it is good beside."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.store import KerberosKey, KerberosPart, part_owner
from tests.support.core import PROPERTY
from tests.support.store_conformance import active, part

NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255)
KVNOS = st.integers(1, 0xFFFF_FFFF)
KEYS = st.builds(
    KerberosKey,
    KVNOS,
    st.integers(1, 0xFFFF),
    st.binary(min_size=1, max_size=64),
    st.integers(0, 10**18 - 1),
)
PARTS = st.builds(
    KerberosPart,
    st.just(0xFFFF_FFFF),
    st.lists(KEYS, max_size=8).map(tuple),
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.integers(0, 0xFFFF_FFFF),
    st.lists(NAMES, max_size=8).map(tuple),
    st.sampled_from([b"", b"o" * 16]),
)


class KerberosPartTests(SynchronousTestCase):
    @PROPERTY
    @given(PARTS)
    def test_the_inverse(self, given: KerberosPart) -> None:
        """What is written is what is read."""
        self.assertEqual(KerberosPart.decoded(given.encoded()), given)

    @PROPERTY
    @given(st.binary(max_size=400))
    def test_anything(self, data: bytes) -> None:
        """Whatever is read is in the one form that a part has."""
        for padded in (data, data.ljust(320, b"\0")):
            try:
                found = KerberosPart.decoded(padded)
            except ValueError as error:
                self.assertEqual(str(error), "not a Kerberos part")
            else:
                self.assertEqual(found.encoded(), padded)

    def test_other_forms(self) -> None:
        """Nothing is read that was not written: longer, shorter, out of order, twice."""
        good = part(active("a"), "HTTP/a", "HTTP/b").encoded()
        bad = [good + b"\0", good[:-1], good[:40], b"", bytes(5000)]
        bad.append(good.replace(b"HTTP/a", b"HTTP/c"))
        bad.append(good.replace(b"HTTP/a", b"HTTP/b"))
        bad.append(good.replace(b"HTTP/a", b"HTTP/\xff"))
        for data in bad:
            self.assertRaises(ValueError, KerberosPart.decoded, data)

    def test_bounds(self) -> None:
        """What could not be stored is refused, and no key is quoted by it."""
        for bad in (
            {"services": ("",)},
            {"services": ("a" * 256,)},
            {"services": ("caf\u00e9",)},
            {"services": ("a\n",)},
            {"services": tuple(f"HTTP/{number:0250}" for number in range(17))},
            {"owner": b"o" * 15},
            {"kvno": -1},
            {"kvno": 1 << 32},
            {"flags": 1 << 32},
            {"keys": (KerberosKey(2, 18, b"k" * 32),), "kvno": 1},
            {"keys": (KerberosKey(1, 18, b"k" * 32),) * 300, "kvno": 1},
            {"salt": "s" * 5000},
        ):
            error = self.assertRaises(ValueError, KerberosPart, **bad)
            self.assertNotIn("kkk", str(error))
        for kvno, etype, content in ((0, 18, b"k"), (1, 0, b"k"), (1, 18, b""), (1, 18, b"k" * 65)):
            self.assertRaises(ValueError, KerberosKey, kvno, etype, content)

    def test_owner(self) -> None:
        """It is of one key, also of none; what is left of one is of no key at all."""
        record = active("a")
        self.assertTrue(part(record).is_of(record.verify_key))
        self.assertFalse(part(record).is_of(active("b").verify_key))
        self.assertFalse(part(record).is_of(b""))
        self.assertTrue(KerberosPart(1, owner=part_owner(b"")).is_of(b""))
        self.assertFalse(KerberosPart(1).is_of(b""))
        self.assertEqual(len(part_owner(b"")), 16)

    def test_no_key_is_shown(self) -> None:
        """Whoever prints one shows no key."""
        self.assertNotIn("kkk", repr(part(active("a"))).lower())
