"""Each way in which reading a secret fails, with a secret that would be seen if it came out."""

from __future__ import annotations

import base64
import datetime as dt
import getpass
import os
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc import terminal
from kdc.client import configuration
from kdc.client.identity import Authority, ClientTLS
from kdc.client.secret import SecretSource, read_invitation
from kdc.errors import KDCError
from kdc.protocol.invitation import Invitation
from kdc.server.certificate import make_certificate
from tests.support.canaries import told
from tests.support.processes import key_lines

CANARY = "kanarienvogel"
PASSPHRASES = (
    f"{CANARY}\t".encode(),
    f"{CANARY}\n{CANARY}\n".encode(),
    f"{CANARY}\xff".encode("latin-1"),
    CANARY.encode() * 100,
    CANARY.encode() * 1000,
    f"{CANARY}\x00".encode(),
    f"{CANARY}\udc80".encode("utf-8", "surrogatepass"),
)
CODE = (CANARY + CANARY)[:21] + "g"  # as the last letter of 16 bytes can be
RAW = base64.b64decode(CODE + "==")
# A name so long that the code begins with a letter of its own.
INVITATION = Invitation("LOCAL", "bobby", "kdc.example", 88, "sha256:" + 64 * "a", RAW)
OLD = f"kdc-invite:1:LOCAL:bobby:kdc.example:88:{64 * 'a'}:{CODE}"
SHOWN = CODE[:-1]  # the last letter is of what follows, too


def broken_invitations(good: str) -> Iterator[str]:
    """The good one with each part changed, missing, twice; its code at other places; cut."""
    parts = good.split(":")
    for place in range(len(parts)):
        for other in ("", "\u00e9", "x" * 300, "-1", "A B"):
            yield ":".join([*parts[:place], other, *parts[place + 1 :]])
        yield ":".join(parts[:place] + parts[place + 1 :])
        yield ":".join([*parts[:place], parts[place], *parts[place:]])
        yield ":".join(parts[place:] + parts[:place])
        swapped = parts.copy()
        swapped[place], swapped[-1] = f"{CODE}!", "A" * 22
        yield ":".join(swapped)
    yield from (good[place:] for place in range(1, len(good) - len(CODE)))
    yield from (good[:place] + "!" + good[place:] for place in range(len(good)))
    yield from (good + more for more in ("!", "=", ":", "\n" + good, CODE * 100))


class CanaryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def file(self, content: bytes, mode: int = 0o600) -> Path:
        self.path.write_bytes(content)
        self.path.chmod(mode)
        return self.path

    def check(self, error: BaseException) -> None:
        """Nothing of it shows the canary, in any form in which an error is logged or printed."""
        text = told(error)
        self.assertNotIn(CANARY, text)
        self.assertNotIn(SHOWN, text)
        self.assertNotIn(RAW.hex(), text)

    def test_passphrases(self) -> None:
        """What is no passphrase is refused without it, from a file, a descriptor or a person."""
        self.patch(terminal, "has_terminal", lambda: True)
        for content in PASSPHRASES:
            reading, writing = os.pipe()
            os.write(writing, content)
            os.close(writing)
            typed = content.decode("utf-8", "surrogateescape")
            self.patch(getpass, "getpass", lambda prompt, typed=typed: typed)
            for source in (
                SecretSource(passphrase_file=self.file(content)),
                SecretSource(passphrase_fd=reading),
                SecretSource(),
            ):
                self.check(self.assertRaises(KDCError, source.keys, "LOCAL", "alice"))
        source = SecretSource(passphrase_file=self.file(PASSPHRASES[0], 0o644))
        self.check(self.assertRaises(KDCError, source.keys, "LOCAL", "alice"))

    def test_key_files(self) -> None:
        """What is no key file is refused without what it holds: it may be a passphrase, or cut."""
        for content in (
            *PASSPHRASES,
            *(
                f"kdc-key:{version}:{CODE}{end}".encode()
                for version in "12"
                for end in ("", "=", "!")
            ),
            f"kdc-key:1:{CANARY}\xff".encode("latin-1"),
        ):
            for mode in (0o600, 0o644):
                source = SecretSource(key_file=self.file(content, mode))
                self.check(self.assertRaises(KDCError, source.keys, "LOCAL", "alice"))

    def test_invitations(self) -> None:
        """What is no invitation is refused without its code; and a good one does not show it."""
        for good in (str(INVITATION), OLD):
            self.assertIn(SHOWN, good)
            refused = 0
            for text in broken_invitations(good):
                try:
                    invitation = read_invitation(self.file(text.encode()))
                except KDCError as error:
                    self.check(error)
                    refused += 1
                else:  # a part that may be otherwise
                    self.assertNotIn(SHOWN, repr(invitation))
            self.assertGreater(refused, len(good))
            self.assertNotIn(SHOWN, repr(Invitation.parse(good)))

    def test_a_key_as_authority(self) -> None:
        """Whoever names the private key where the certificates should be does not see it."""
        key, _ = make_certificate(["kdc.example"], dt.datetime.now(dt.UTC))
        for content in (key, key.replace(b"PRIVATE KEY-----", b"PRIVATE KEY!----", 1)):
            authority = Authority("kdc.example", str(self.file(content)))
            error = self.assertRaises(KDCError, ClientTLS, authority, "kdc.example")
            for line in key_lines(key):
                self.assertNotIn(line[:40].decode(), told(error))

    def test_a_secret_as_configuration(self) -> None:
        """Whoever names the wrong file, or has a secret in it, does not see it in the error."""
        for content in (
            *PASSPHRASES,
            f"kdc-key:1:{CODE}".encode(),
            str(INVITATION).encode(),
            OLD.encode(),
            f"passphrase = '{CANARY}'".encode(),
            f"port = ['{CANARY}']".encode(),
        ):
            self.check(self.assertRaises(KDCError, configuration.load, self.file(content)))
