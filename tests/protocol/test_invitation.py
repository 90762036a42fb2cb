"""Invitations: one word, read back as it was made, and never quoted."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.client.secret import read_code
from kdc.errors import ConfigurationError
from kdc.protocol.invitation import Invitation
from tests.support.core import PROPERTY
from tests.support.samples import names

PRINT = "sha256:" + "1a" * 32
CODE = bytes(range(16, 48))
ONE = Invitation("LOCAL", "alice", "kdc.example", 88, PRINT, CODE)


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

    def test_anything_else(self) -> None:
        """Words that are not invitations are refused, and not quoted: they may be secret."""
        parts = str(ONE).split(":")
        wrong = ["", "secret", ":".join(parts[:-1]), str(ONE) + ":x", "kdc-invite:1:" + "x" * 100]
        for index, value in (
            (0, "kdc-invites"),
            (1, "2"),
            (2, "a realm"),
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
            (7, ""),
            (7, "AAAA"),
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
