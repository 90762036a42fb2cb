"""A private authority, and certificates from it that are as a test wants them."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority"]

_DAY = dt.timedelta(days=1)


class Authority:
    """Its own certificate is ``ca``; the others are put into ``directory``."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(str(directory))
        made = self._builder(self._key, self._name, dt.datetime.now(dt.UTC) + _DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.ca = self._write("ca.pem", _pem(made.sign(self._key, hashes.SHA256())))

    def issue(
        self,
        name: str,
        *,
        common_name: str = "",
        addresses: tuple[str, ...] = ("127.0.0.1",),
        expired: bool = False,
        passphrase: str = "",
    ) -> tuple[Path, Path]:
        """Return the files of a certificate for a server and a client, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (
            self._builder(key, _name(common_name), now + (-_DAY if expired else _DAY))
            .add_extension(x509.SubjectAlternativeName(names), critical=not common_name)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        sealed = (
            serialization.BestAvailableEncryption(passphrase.encode())
            if passphrase
            else serialization.NoEncryption()
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed
        )
        certificate = _pem(made.sign(self._key, hashes.SHA256()))
        return self._write(f"{name}.pem", certificate), self._write(f"{name}-key.pem", pem)

    def _builder(
        self, key: ec.EllipticCurvePrivateKey, name: x509.Name, until: dt.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - 3 * _DAY)
            .not_valid_after(until)
        )

    def _write(self, name: str, content: bytes) -> Path:
        path = self._directory / name
        path.touch(0o600)
        path.write_bytes(content)
        return path


def _name(common_name: str) -> x509.Name:
    given = [x509.NameAttribute(NameOID.COMMON_NAME, common_name[-64:])] if common_name else []
    return x509.Name(given)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
