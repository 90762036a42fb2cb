"""Invitations: one word, read back as it was made, and never quoted."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.client.secret import read_code
from kdc.errors import ConfigurationError
from kdc.protocol.invitation import IncompleteInvitation, Invitation, is_incomplete
from tests.support.core import PROPERTY
from tests.support.samples import names

PRINT = "sha256:" + "1a" * 32
CODE = bytes(range(16, 48))
ONE = Invitation("LOCAL", "alice", "kdc.example", 88, PRINT, CODE)
OLD_CODE = "h7RZxDipnS9VJjUg0Fabjw"
OLD = f"kdc-invite:1:LOCAL:bob:2001_db8__1:12345:{'1a' * 32}:{OLD_CODE}"
# What a value of the old form would have to be to count.
OLD_PARTS = ["kdc-invite", "1", "LOCAL", "bob", "192.0.2.1", "88", "1a" * 32, OLD_CODE]


def again(word: str, **changed: bytes) -> str:
    """An invitation with other bytes in the places that are named, and the check that fits."""
    content = bytearray(base64.urlsafe_b64decode(word[5:] + "=" * (-len(word[5:]) % 4))[:-3])
    for place, value in changed.items():
        at = int(place.removeprefix("at_"))
        content[at : at + len(value)] = value
    content += hashlib.sha256(b"kdc2" + content).digest()[:3]
    return "kdc2-" + base64.urlsafe_b64encode(content).decode().rstrip("=")


class InvitationTests(SynchronousTestCase):
    @PROPERTY
    @given(
        st.from_regex(r"[A-Za-z0-9.-]{1,64}", fullmatch=True),
        names,
        st.sampled_from(["kdc.example", "192.0.2.1", "2001:db8::1", "::1"]),
        st.integers(1, 65535),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=16, max_size=32),
    )
    def test_round_trip(
        self, realm: str, name: str, host: str, port: int, key: bytes, code: bytes
    ) -> None:
        """What was made is read back the same, with space around it too."""
        invitation = Invitation(realm, name, host, port, f"sha256:{key.hex()}", code)
        self.assertEqual(Invitation.parse(str(invitation)), invitation)
        self.assertEqual(Invitation.parse(f"  {invitation}\n"), invitation)
        self.assertEqual(len(str(invitation).split()), 1)

    @PROPERTY
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["kdc1.example", "192.0.2.1", "2001:db8::1"]), st.integers(1, 65535)
            ),
            min_size=1,
            max_size=15,
        )
    )
    def test_several(self, others: list[tuple[str, int]]) -> None:
        """Of several KDCs of a realm, all are in it."""
        invitation = attrs.evolve(ONE, others=tuple(others))
        word = str(invitation)
        self.assertTrue(word.startswith("kdc3-"))
        self.assertEqual(Invitation.parse(word), invitation)
        for at in range(len("kdc3-"), len(word), 7):
            self.assertRaises(IncompleteInvitation, Invitation.parse, word[:at])

    def test_several_at_most(self) -> None:
        """More than a realm has, and what is no place, is refused; so is one in this form."""
        for others in ((("kdc", 1),) * 16, (("a b", 1),), (("kdc", 0),)):
            self.assertRaises(ValueError, attrs.evolve, ONE, others=others)
        one, code = str(ONE), CODE
        content = base64.urlsafe_b64decode(one[5:] + "=" * (-len(one[5:]) % 4))[:-3]
        at = content.index(bytes([len(code)]) + code)
        for count in (b"\0", b"\x10", b"\xff"):
            changed = content[:at] + count + content[at:]
            changed += hashlib.sha256(b"kdc3" + changed).digest()[:3]
            wrong = "kdc3-" + base64.urlsafe_b64encode(changed).decode().rstrip("=")
            self.assertRaises(ConfigurationError, Invitation.parse, wrong)

    def test_short(self) -> None:
        """With an IPv4 address and the usual realm and code it has some 90 letters."""
        usual = Invitation("LOCAL", "alice", "192.0.2.10", 12345, PRINT, bytes(16))
        self.assertEqual(len(str(usual)), 93)
        other = attrs.evolve(usual, realm="LOCALS")
        self.assertEqual(Invitation.parse(str(other)), other)

    def test_wrapped(self) -> None:
        """Wherever a window has broken it, and whatever blanks that has put in."""
        word = str(ONE)
        for at in range(1, len(word)):
            for gap in ("\n", "\r\n  ", " "):
                self.assertEqual(Invitation.parse(word[:at] + gap + word[at:]), ONE)

    def test_its_end_is_missing(self) -> None:
        """However much of the end; more is waited for then, and only then."""
        for word in (str(ONE), OLD):
            for at in range(len("kdc-invite:1:"), len(word)):
                error = self.assertRaises(IncompleteInvitation, Invitation.parse, word[:at])
                self.assertIn("its end is missing", str(error))
                self.assertNotIn(word[5:at], f"{error}{error.hint}")
                self.assertTrue(is_incomplete(word[:at] + "\n"))
            self.assertFalse(is_incomplete(word))
            self.assertFalse(is_incomplete(word[1:]))
            self.assertFalse(is_incomplete(f"{word}AAAA"))

    def test_old_form(self) -> None:
        """What was printed before is read as ever."""
        code = base64.urlsafe_b64decode(f"{OLD_CODE}==")
        expected = Invitation("LOCAL", "bob", "2001:db8::1", 12345, PRINT, code)
        self.assertEqual(Invitation.parse(OLD), expected)
        self.assertEqual(Invitation.parse(OLD[:60] + "\n" + OLD[60:]), expected)
        self.assertEqual(Invitation.parse(":".join(OLD_PARTS)).code, code)

    def test_a_slip_of_the_fingers(self) -> None:
        """Any one letter that is another: no invitation, and no other KDC's either."""
        word = str(ONE)
        for at in range(len(word)):
            for letter in "Aa_!":
                if letter != word[at]:
                    changed = word[:at] + letter + word[at + 1 :]
                    self.assertRaises(ConfigurationError, Invitation.parse, changed)

    def test_content(self) -> None:
        """What no invitation would say is refused though the check fits."""
        word = str(Invitation("LOCAL", "alice", "192.0.2.1", 88, PRINT, CODE))
        self.assertEqual(again(word), word)
        realm, name, host, code = 34, 36, 41, 46
        for wrong in (
            again(word, at_32=bytes(2)),
            again(word, **{f"at_{name}": b"A"}),
            again(word, **{f"at_{name}": b"\xff"}),
            again(word, **{f"at_{host}": b"\x04....\x08"}),
            again(word, **{f"at_{code}": b"\x0f"}),
            again(word, **{f"at_{realm}": b"\x05LOCAL\x01x\x01y\x10"}),
            f"{word}AAAA",
            f"{word}=",
            word[:-1] + chr(ord(word[-1]) + 1),
        ):
            error = self.assertRaises(ConfigurationError, Invitation.parse, wrong)
            self.assertEqual(str(error), "that is not an invitation")

    def test_anything_else(self) -> None:
        """Words that are not invitations are refused, and not quoted: they may be secret."""
        parts = OLD_PARTS
        whole = ":".join(parts)
        wrong = ["", "secret", "kdc", f"{whole}:x", "kdc3-" + str(ONE)[5:], "kdc2-!"]
        for index, value in (
            (0, "kdc-invites"),
            (1, "2"),
            (2, "a_realm"),
            (2, ""),
            (3, "Alice"),
            (3, ""),
            (5, "0"),
            (5, "65536"),
            (5, "x"),
            (6, "1a" * 31),
            (6, "1A" * 32),
            (6, "0x" + "1a" * 31),
            (6, "1_" * 32),
            (7, "A" * 60),
            (7, parts[7] + "!"),
            (7, "é" * 30),
        ):
            wrong.append(":".join([*parts[:index], value, *parts[index + 1 :]]))
        for text in wrong:
            error = self.assertRaises(ConfigurationError, Invitation.parse, text)
            self.assertEqual(str(error), "that is not an invitation")
            self.assertNotIn(parts[7], error.hint)

    def test_secret(self) -> None:
        """The code shows in no repr."""
        self.assertNotIn(repr(CODE)[2:-1], repr(ONE))
        self.assertNotIn("code", repr(ONE))

    def test_file(self) -> None:
        """It is read from a file that is its owner's alone."""
        path = Path(self.mktemp())
        path.write_text(f"{ONE}\n")
        path.chmod(0o644)
        self.assertRaises(ConfigurationError, read_code, path)
        path.chmod(0o600)
        self.assertEqual(read_code(path), CODE)
        path.write_bytes(b"\xff\xfe")
        self.assertRaises(ConfigurationError, read_code, path)
