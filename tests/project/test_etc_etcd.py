"""The samples in etc/ for etcd: its settings, and the script that makes certificates."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.trial.unittest import SynchronousTestCase

from tests.project.test_etc import ETC
from tests.support.etcd_server import installed

SCRIPT = ETC / "etcd-certificates.sh"


class CertificateTests(SynchronousTestCase):
    def setUp(self) -> None:
        if shutil.which("openssl") is None:
            self.skipTest("not installed: openssl")
        self.directory = Path(self.mktemp()).absolute()

    def make(self, *machines: str, status: int = 0) -> str:
        result = subprocess.run(
            [str(SCRIPT), str(self.directory), *machines],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(result.returncode, status, result.stderr)
        return result.stderr if status else result.stdout

    def certificate(self, path: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.directory / path).read_bytes())

    def test_what_they_are(self) -> None:
        """From the authority, for the names, without a common name; the KDC's are no server's."""
        self.make("kdc1.example,192.0.2.1,::1", "kdc2.example")
        authority = self.certificate("ca.pem")
        for host, names, addresses in (
            ("kdc1.example", ["kdc1.example"], ["192.0.2.1", "::1"]),
            ("kdc2.example", ["kdc2.example"], []),
        ):
            for name, usages in (
                ("member", [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                ("kdc", [ExtendedKeyUsageOID.CLIENT_AUTH]),
            ):
                certificate = self.certificate(f"{host}/{name}.pem")
                certificate.verify_directly_issued_by(authority)
                self.assertEqual(
                    certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME), []
                )
                extensions = certificate.extensions
                found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                self.assertEqual(found.get_values_for_type(x509.DNSName), names)
                found_addresses = map(str, found.get_values_for_type(x509.IPAddress))
                self.assertEqual(list(found_addresses), addresses)
                usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
                self.assertEqual(list(usage), usages)
                basic = extensions.get_extension_for_class(x509.BasicConstraints).value
                self.assertFalse(basic.ca)
                key = certificate.public_key()
                assert isinstance(key, EllipticCurvePublicKey)
                self.assertIsInstance(key.curve, SECP256R1)
                context = ssl.create_default_context(cafile=self.directory / host / "ca.pem")
                own, key_file = (self.directory / host / f"{name}{end}.pem" for end in ("", "-key"))
                context.load_cert_chain(own, key_file)

    def test_only_the_owner_reads_them(self) -> None:
        """Every key; and it is said what goes where."""
        said = self.make("kdc1.example")
        keys = sorted(self.directory.rglob("*-key.pem"))
        self.assertEqual(len(keys), 3)
        for path in keys:
            self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)
        self.assertIn("copy it to kdc1.example", said)
        self.assertIn("ca-key.pem: keep it", said)

    def test_one_more(self) -> None:
        """Run again it adds a machine, under the same authority, and touches nothing."""
        self.make("kdc1.example")
        before = {path: path.read_bytes() for path in self.directory.rglob("*.pem")}
        self.make("kdc4.example")
        self.assertEqual(before, {path: path.read_bytes() for path in before})
        self.certificate("kdc4.example/member.pem").verify_directly_issued_by(
            self.certificate("ca.pem")
        )

    def test_nothing_is_written_over(self) -> None:
        """A machine that is there is refused, and then none is made; nor is an authority."""
        self.make("kdc1.example")
        before = sorted(self.directory.rglob("*"))
        refused = self.make("kdc2.example", "kdc1.example", status=1)
        self.assertIn("kdc1.example is there: move it away", refused)
        (self.directory / "ca.pem").unlink()
        refused = self.make("kdc2.example", status=1)
        self.assertIn("without ca.pem", refused)
        left = [path for path in before if path.name != "ca.pem" or path.parent != self.directory]
        self.assertEqual(sorted(self.directory.rglob("*")), left)

    def test_an_authority_without_its_key(self) -> None:
        """It cannot sign, and says so."""
        self.make("kdc1.example")
        (self.directory / "ca-key.pem").unlink()
        self.assertIn("ca-key.pem is missing", self.make("kdc2.example", status=1))

    def test_names(self) -> None:
        """What is no name could be an extension of its own, or a path."""
        for name in ("../kdc", "a b", "kdc1,", "kdc1\nkeyUsage=keyCertSign", "-x", "a/b", ""):
            self.assertIn("not a name or an address", self.make("kdc1", name, status=1))
        self.assertFalse(self.directory.exists())


class SettingsTests(SynchronousTestCase):
    """etc/etcd.conf; tests/end_to_end/test_demo_cluster.py runs members with it."""

    def test_etcd_knows_them(self) -> None:
        """Each setting is one of its options', once."""
        program = installed()
        if program is None:
            self.skipTest("not installed: etcd (Debian: etcd-server)")
        said = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
        known = set(re.findall(r"^\s+--([a-z0-9-]+)", said.stdout + said.stderr, re.MULTILINE))
        text = (ETC / "etcd.conf").read_text(encoding="utf-8")
        settings = re.findall(r"^ETCD_(\w+)=", text, re.MULTILINE)
        self.assertNotEqual(settings, [])
        self.assertEqual(len(settings), len(set(settings)))
        for setting in settings:
            self.assertIn(setting.lower().replace("_", "-"), known)
