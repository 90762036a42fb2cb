"""The encryption types, by the vectors of their RFCs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.kerberos.hmac_md5 import hmac_md5_checksum
from kdc.kerberos.nfold import nfold
from kdc.kerberos.profile import (
    PROFILES,
    IntegrityFailure,
    Key,
    Stealing,
    combined,
)


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


class NFoldTests(SynchronousTestCase):
    def test_vectors(self) -> None:
        """RFC 3961 appendix A.1."""
        for text, size, folded in (
            ("012345", 8, "be072631276b1955"),
            ("password", 7, "78a07b6caf85fa"),
            ("Rough Consensus, and Running Code", 8, "bb6ed30870b7f0e0"),
            ("password", 21, "59e4a8ca7c0385c3c37b3f6d2000247cb6e6bd5b3e"),
            (
                "MASSACHVSETTS INSTITVTE OF TECHNOLOGY",
                24,
                "db3b0d8f0b061e603282b308a50841229ad798fab9540c1b",
            ),
            ("Q", 21, "518a54a215a8452a518a54a215a8452a518a54a215"),
            ("ba", 21, "fb25d531ae8974499f52fd92ea9857c4ba24cf297e"),
            ("kerberos", 8, "6b65726265726f73"),
            ("kerberos", 16, "6b65726265726f737b9b5b2b93132b93"),
            ("kerberos", 21, "8372c236344e5f1550cd0747e15d62ca7a5a3bcea4"),
            (
                "kerberos",
                32,
                "6b65726265726f737b9b5b2b93132b935c9bdcdad95c9899c4cae4dee6d6cae4",
            ),
        ):
            self.assertEqual(nfold(text.encode(), size).hex(), folded, text)


class StringToKeyTests(SynchronousTestCase):
    def test_sha1(self) -> None:
        """RFC 3962 appendix B."""
        raeburn = "ATHENA.MIT.EDUraeburn"
        for count, password, salt, short, long in (
            (
                *(1, "password", raeburn, "42263c6e89f4fc28b8df68ee09799f15"),
                "fe697b52bc0d3ce14432ba036a92e65bbb52280990a2fa27883998d72af30161",
            ),
            (
                *(2, "password", raeburn, "c651bf29e2300ac27fa469d693bdda13"),
                "a2e16d16b36069c135d5e9d2e25f896102685618b95914b467c67622225824ff",
            ),
            (
                *(1200, "password", raeburn, "4c01cd46d632d01e6dbe230a01ed642a"),
                "55a6ac740ad17b4846941051e1e8b0a7548d93b0ab30a8bc3ff16280382b8c2a",
            ),
            (
                *(5, "password", "\x124VxxV4\x12", "e9b23d52273747dd5c35cb55be619d8e"),
                "97a4e786be20d81a382d5ebc96d5909cabcdadc87ca48f574504159f16c36e31",
            ),
            (
                *(1200, "X" * 64, "pass phrase equals block size"),
                "59d1bb789a828b1aa54ef9c2883f69ed",
                "89adee3608db8bc71f1bfbfe459486b05618b70cbae22092534e56c553ba4b34",
            ),
            (
                *(1200, "X" * 65, "pass phrase exceeds block size"),
                "cb8005dc5f90179a7f02104c0018751d",
                "d78c5c9cb872a8c9dad4697f0bb5b2d21496c82beb2caeda2112fceea057401b",
            ),
            (
                *(50, "\U0001d11e", "EXAMPLE.COMpianist", "f149c1f2e154a73452d43e7fe62a56e5"),
                "4b6d9839f84406df1f09cc166db4b83c571848b784a3d6bdc346589a3e393f9e",
            ),
        ):
            self.assertEqual(PROFILES[17].string_to_key(password, salt, count).hex(), short)
            self.assertEqual(PROFILES[18].string_to_key(password, salt, count).hex(), long)

    def test_sha2(self) -> None:
        """RFC 8009 appendix A."""
        salt = hexed("10df9dd783e5bc8acea1730e74355f61") + b"ATHENA.MIT.EDUraeburn"
        text = salt.decode("utf-8", "surrogateescape")
        self.assertEqual(
            PROFILES[19].string_to_key("password", text, 32768).hex(),
            "089bca48b105ea6ea77ca5d2f39dc5e7",
        )
        self.assertEqual(
            PROFILES[20].string_to_key("password", text, 32768).hex(),
            "45bd806dbf6a833a9cffc1c94589a222367a79bc21c413718906e9f578a78467",
        )

    def test_iterations_are_bounded(self) -> None:
        """Nobody is made to derive for minutes."""
        for count in (0, -1, (1 << 17) + 1, 1 << 32):
            self.assertRaises(ValueError, PROFILES[18].string_to_key, "p", "s", count)


class CTSTests(SynchronousTestCase):
    def test_vectors(self) -> None:
        """RFC 3962 appendix B."""
        text = b"I would like the General Gau's Chicken, please, and wonton soup."
        for length, sealed in (
            (17, "c6353568f2bf8cb4d8a580362da7ff7f97"),
            (31, "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5"),
            (32, "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584"),
            (
                47,
                (
                    "97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e"
                    "39312523a78662d5be7fcbcc98ebf5"
                ),
            ),
            (
                48,
                (
                    "97687268d6ecccc0c07b25e25ecfe5849dad8bbb96c4cdc03bc103e1a194bbd8"
                    "39312523a78662d5be7fcbcc98ebf5a8"
                ),
            ),
            (
                64,
                (
                    "97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a8"
                    "4807efe836ee89a526730dbc2f7bc8409dad8bbb96c4cdc03bc103e1a194bbd8"
                ),
            ),
        ):
            cipher = Stealing(b"chicken teriyaki")
            for _ in range(3):  # what it did before does not show
                self.assertEqual(cipher.encrypt(text[:length]).hex(), sealed)
                self.assertEqual(cipher.decrypt(hexed(sealed)), text[:length])


BASE = {
    19: hexed("3705d96080c17728a0e800eab6e0d23c"),
    20: hexed("6d404d37faf79f9df0d33568d320669800eb4836472ea8a026d16b7182460c52"),
}


class SHA2Tests(SynchronousTestCase):
    """RFC 8009 appendix A."""

    def test_derived_keys(self) -> None:
        for etype, purpose, derived in (
            (19, 0x99, "b31a018a48f54776f403e9a396325dc3"),
            (19, 0xAA, "9b197dd1e8c5609d6e67c3e37c62c72e"),
            (19, 0x55, "9fda0e56ab2d85e1569a688696c26a6c"),
            (20, 0x99, "ef5718be86cc84963d8bbb5031e9f5c4ba41f28faf69e73d"),
            (20, 0xAA, "56ab22bee63d82d7bc5227f6773f8ea7a5eb1c825160c38312980c442e5c7e49"),
            (20, 0x55, "69b16514e3cd8e56b82010d5c73012b622c4d00ffc23ed1f"),
        ):
            self.assertEqual(PROFILES[etype].derived(BASE[etype], 2, purpose)[0].hex(), derived)

    def test_prf(self) -> None:
        for etype, drawn in (
            (19, "9d188616f63852fe86915bb840b4a886ff3e6bb0f819b49b893393d393854295"),
            (
                20,
                (
                    "9801f69a368c2bf675e59521e177d9a07f67efe1cfde8d3c8d6f6a0256e3b17d"
                    "b3c1b62ad1b8553360d17367eb1514d2"
                ),
            ),
        ):
            self.assertEqual(Key(etype, BASE[etype]).prf(b"test").hex(), drawn)

    def test_checksums(self) -> None:
        for etype, checksum in (
            (19, "d78367186643d67b411cba9139fc1dee"),
            (20, "45ee791567eefca37f4ac1e0222de80d43c3bfa06699672a"),
        ):
            self.assertEqual(Key(etype, BASE[etype]).checksum(2, bytes(range(21))).hex(), checksum)

    def test_sealed(self) -> None:
        for etype, length, confounder, sealed in (
            (
                *(19, 0, "7e5895eaf2672435bad817f545a37148"),
                "ef85fb890bb8472f4dab20394dca781dad877eda39d50c870c0d5a0a8e48c718",
            ),
            (
                *(19, 6, "7bca285e2fd4130fb55b1a5c83bc5b24"),
                "84d7f30754ed987bab0bf3506beb09cfb55402cef7e6877ce99e247e52d16ed4421dfdf8976c",
            ),
            (
                *(19, 16, "56ab21713ff62c0a1457200f6fa9948f"),
                (
                    "3517d640f50ddc8ad3628722b3569d2ae07493fa8263254080ea65c1008e8fc2"
                    "95fb4852e7d83e1e7c48c37eebe6b0d3"
                ),
            ),
            (
                *(19, 21, "a7a4e29a4728ce10664fb64e49ad3fac"),
                (
                    "720f73b18d9859cd6ccb4346115cd336c70f58edc0c4437c5573544c31c813bc"
                    "e1e6d072c186b39a413c2f92ca9b8334a287ffcbfc"
                ),
            ),
            (
                *(20, 0, "f764e9fa15c276478b2c7d0c4e5f58e4"),
                "41f53fa5bfe7026d91faf9be959195a058707273a96a40f0a01960621ac612748b9bbfbe7eb4ce3c",
            ),
            (
                *(20, 6, "b80d3251c1f6471494256ffe712d0b9a"),
                (
                    "4ed7b37c2bcac8f74f23c1cf07e62bc7b75fb3f637b9f559c7f664f69eab7b60"
                    "92237526ea0d1f61cb20d69d10f2"
                ),
            ),
            (
                *(20, 16, "53bf8a0d105265d4e276428624ce5e63"),
                (
                    "bc47ffec7998eb91e8115cf8d19dac4bbbe2e163e87dd37f49beca92027764f6"
                    "8cf51f14d798c2273f35df574d1f932e40c4ff255b36a266"
                ),
            ),
            (
                *(20, 21, "763e65367e864f02f55153c7e3b58af1"),
                (
                    "40013e2df58e8751957d2878bcd2d6fe101ccfd556cb1eae79db3c3ee86429f2"
                    "b2a602ac86fef6ecb647d6295fae077a1feb517508d2c16b4192e01f62"
                ),
            ),
        ):
            key, plain = Key(etype, BASE[etype]), bytes(range(length))
            self.assertEqual(key.seal(2, plain, hexed(confounder)).hex(), sealed)
            self.assertEqual(key.open(2, hexed(sealed)), plain)


class KeyTests(SynchronousTestCase):
    def keys(self) -> list[Key]:
        return [Key(etype, bytes(range(p.key_size))) for etype, p in PROFILES.items()]

    def test_combined(self) -> None:
        """RFC 6113 appendix A."""
        for etype, made in (
            (17, "97df97e4b798b29eb31ed7280287a92a"),
            (18, "4d6ca4e629785c1f01baf55e2e548566b9617ae3a96868c337cb93b5e72b1c7b"),
        ):
            one, other = (
                Key(etype, PROFILES[etype].string_to_key(text, text)) for text in ("key1", "key2")
            )
            self.assertEqual(combined(one, other, b"a", b"b").content.hex(), made)

    @given(st.binary(max_size=200), st.integers(0, 1100))
    def test_round_trip(self, plain: bytes, usage: int) -> None:
        """What is sealed opens, for the same use."""
        for key in self.keys():
            self.assertEqual(key.open(usage, key.seal(usage, plain, bytes(16))), plain)

    def test_every_bit_counts(self) -> None:
        """One changed bit, one byte more or less, another use, another key: nothing opens."""
        for key in self.keys():
            sealed = key.seal(3, b"plain text", bytes(range(16)))
            for bit in range(8 * len(sealed)):
                changed = bytearray(sealed)
                changed[bit // 8] ^= 1 << bit % 8
                self.assertRaises(IntegrityFailure, key.open, 3, bytes(changed))
            for other in (sealed[:-1], sealed + b"\0", b"", sealed[:20]):
                self.assertRaises(IntegrityFailure, key.open, 3, other)
            self.assertRaises(IntegrityFailure, key.open, 4, sealed)
            another = Key(key.etype, bytes(len(key.content)))
            self.assertRaises(IntegrityFailure, another.open, 3, sealed)

    def test_no_other_types(self) -> None:
        """DES, 3DES, RC4 and Camellia are not there, and a key fits its type."""
        for etype in (1, 2, 3, 16, 23, 24, 25, 26, 0, -1):
            self.assertRaises(ValueError, Key, etype, bytes(16))
        self.assertRaises(ValueError, Key, 17, bytes(32))
        self.assertNotIn("0102", repr(Key(17, b"\1\2" * 8)))

    def test_hmac_md5(self) -> None:
        """RFC 4757 section 4: as OpenSSL computes its two steps."""
        import hashlib
        import hmac

        signing = hmac.new(b"k" * 16, b"signaturekey\0", hashlib.md5).digest()
        inner = hashlib.new("md5", b"\x11\0\0\0covered", usedforsecurity=False).digest()
        expected = hmac.new(signing, inner, hashlib.md5).digest()
        self.assertEqual(hmac_md5_checksum(b"k" * 16, 17, b"covered"), expected)
