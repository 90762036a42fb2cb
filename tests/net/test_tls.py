"""Fingerprints: how one is read, and what it stays the same for."""

from __future__ import annotations

import datetime as dt
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import (
    ConfigurationError,
)
from kdc.net.tls import fingerprint_lines, fingerprint_of, parse_fingerprint
from tests.support.edge import (
    NOW,
    certificate,
)


def _key(pem: bytes) -> Any:
    return serialization.load_pem_private_key(pem, None)


class FingerprintTests(SynchronousTestCase):
    def test_fingerprints(self) -> None:
        """A fingerprint is read in either case, and in groups; anything else is refused."""
        canonical = "sha256:" + "ab" * 32
        self.assertEqual(parse_fingerprint(f"  SHA256:{'AB' * 32} "), canonical)
        for shown in (canonical, fingerprint_lines(canonical)):
            self.assertEqual(parse_fingerprint(shown), canonical)
        self.assertLessEqual(max(map(len, fingerprint_lines(canonical).splitlines())), 45)
        for typed in (
            "",
            "ab" * 32,
            "sha256:" + "ab" * 31,
            "sha256:" + "ag" * 32,
            "sha256:" + "ab" * 33,
            f"{canonical} {canonical}",
            "sha1:" + "ab" * 32,
        ):
            error = self.assertRaises(ConfigurationError, parse_fingerprint, typed)
            self.assertIn("sha256:", error.hint)

    def test_renewal_keeps_it(self) -> None:
        """A new certificate for the same key has the same fingerprint."""
        _, chain = certificate()
        first = x509.load_pem_x509_certificate(chain)
        key = _key(certificate()[0])
        renewed = (
            x509.CertificateBuilder()
            .subject_name(first.subject)
            .issuer_name(first.subject)
            .public_key(key.public_key())
            .serial_number(77)
            .not_valid_before(NOW)
            .not_valid_after(NOW + dt.timedelta(days=2))
            .sign(key, hashes.SHA256())
        )
        self.assertEqual(fingerprint_of(renewed), fingerprint_of(first))
