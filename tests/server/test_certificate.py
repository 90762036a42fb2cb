"""The KDC's TLS key and certificate on the disk: what is said of them, and how they lie there."""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError, KDCError
from kdc.server.certificate import ServerTLS, TLSFiles, make_certificate
from tests.support.canaries import told
from tests.support.edge import certificate, strange_certificate
from tests.support.processes import key_lines

KEY, CERTIFICATE = make_certificate(["kdc.example"], dt.datetime.now(dt.UTC))
OTHER, _ = make_certificate(["kdc.example"], dt.datetime.now(dt.UTC))


def broken_keys() -> Iterator[bytes]:
    """The good one changed and cut at each of its bytes, of another form, not the certificate's."""
    for at in range(len(KEY) - 1):
        yield KEY[:at] + (b"!" if KEY[at : at + 1] != b"!" else b"?") + KEY[at + 1 :]
        yield KEY[:at]
    yield from (OTHER, KEY.replace(b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"), CERTIFICATE)


class TLSKeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def file(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        path = self.path.with_name(name)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def assert_nothing(self, error: BaseException, *keys: bytes) -> None:
        text = told(error)
        for line in (line for key in keys for line in key_lines(key)):
            for part in (line[:40], line[-40:]):
                self.assertNotIn(part.decode("latin-1"), text)

    def test_a_key_that_is_broken_is_not_quoted(self) -> None:
        """Whether both are in one file or each in its own."""
        certificate = self.file("certificate", CERTIFICATE)
        for broken in broken_keys():
            for files in (
                TLSFiles(self.file("own", broken + CERTIFICATE)),
                TLSFiles(self.path, self.file("key", broken), certificate),
            ):
                try:
                    tls = files.load()
                except KDCError as error:
                    self.assert_nothing(error, KEY, OTHER)
                else:  # what stands before or behind a key does not matter
                    self.assertEqual(tls.fingerprint, ServerTLS(KEY, CERTIFICATE).fingerprint)

    def test_a_key_that_others_can_read_is_not_quoted(self) -> None:
        """It is refused, with what to do."""
        for mode in (0o604, 0o640, 0o660):
            error = self.assertRaises(KDCError, TLSFiles(self.file("own", KEY, mode)).load)
            self.assertIn("can be read by others", str(error))
            self.assert_nothing(error, KEY)

    def test_made_for_its_owner_alone(self) -> None:
        """What is made here, and made anew, is 0600; the old one too."""
        files = TLSFiles(self.path)
        first = files.load_or_make().fingerprint
        self.assertNotEqual(files.renew().fingerprint, first)
        for path in (self.path, self.path.with_name(f"{self.path.name}.old")):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(files.load().fingerprint, files.load_or_make().fingerprint)


class PairTests(SynchronousTestCase):
    def test_not_a_pair(self) -> None:
        """Key and certificate that do not belong together are refused before anything starts."""
        key, chain = certificate()
        other, _ = certificate("somebody.else")
        strange = strange_certificate()
        for pair in (
            *((other, chain), (key, key), (chain, chain), (b"", chain), (key, b"garbage")),
            (key, strange),
        ):
            error = self.assertRaises(ConfigurationError, ServerTLS, *pair)
            self.assertNotIn("PRIVATE", str(error))
