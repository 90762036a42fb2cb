"""A real etcd with TLS, certificates and users: who gets in, and what the others are told."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import KDCError
from kdc.net import clock
from kdc.store import Create, StoreUnavailable, StoreUncertain
from kdc.store.etcd.api import Denied, EtcdSettings, Gateway
from kdc.store.etcd.opening import EtcdFiles, connected, open_etcd
from kdc.store.etcd.store import EtcdStore
from kdc.store.etcd.wire import Answer
from tests.store.test_etcd_real import eventually
from tests.support.authority import Authority
from tests.support.etcd_server import EtcdCluster, installed
from tests.support.store_conformance import active, token

PASSWORD = "a-password-for-etcd"
ROOT = {"name": "root", "password": "root-password"}
EMPTY = {"key": "YQ=="}


def permission(first: str, last: str) -> Answer:
    first, last = (base64.b64encode(each.encode()).decode() for each in (first, last))
    return {"permType": "READWRITE", "key": first, "range_end": last}


class TLSServer:
    """One that has a certificate, and nothing to say: etcd does not start with one that is old."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._socket.accept()
                with contextlib.suppress(OSError), accepted:
                    self._context.wrap_socket(accepted, server_side=True)

    def __enter__(self) -> tuple[str, int]:
        self._thread.start()
        host, port = self._socket.getsockname()
        return host, port

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


class SecureCase(SynchronousTestCase):
    """One member, with TLS, that wants certificates of ``self.authority``."""

    def start_etcd(self, *options: str) -> EtcdCluster:
        if installed() is None:
            self.skipTest("not installed: etcd (Debian: etcd-server)")
        self.directory = Path(self.mktemp()).absolute()
        self.authority = Authority(self.directory / "authority")
        own = self.authority.issue("member")
        self.kdc = self.authority.issue("kdc")
        cluster = EtcdCluster(1, *options, tls=(self.authority.ca, *own))
        self.addCleanup(cluster.end)
        return cluster

    def settings(self, cluster: EtcdCluster) -> EtcdSettings:
        return EtcdSettings(cluster.members, self.authority.ca, *self.kdc)

    @staticmethod
    def showing(settings: EtcdSettings, certificate: Path, key: Path) -> EtcdSettings:
        return attrs.evolve(settings, certificate=certificate, key=key)

    def open(self, settings: EtcdSettings, node: str = "node") -> EtcdStore:
        directory = self.directory / node
        directory.mkdir(exist_ok=True)
        store = open_etcd(connected(settings), EtcdFiles.of(directory / "kdc"), realm="LOCAL")
        store.start()
        self.addCleanup(store.close)
        return store

    def refused(self, settings: EtcdSettings, *said: str) -> None:
        """It does not open, and says why and what to do; nothing secret."""
        error = self.assertRaises(KDCError, self.open, settings)
        text = f"{error}\n{error.hint}"
        for each in said:
            self.assertIn(each, text)
        self.assertNotIn(PASSWORD, text)
        self.assertNotEqual(error.hint, "")
        self.assertEqual(list((self.directory / "node").glob("*.key")), [])


class CertificatesTests(SecureCase):
    def test_ours(self) -> None:
        """With the right ones it opens, writes, and follows."""
        cluster = self.start_etcd()
        store = self.open(self.settings(cluster))
        (result,) = store.apply([Create(active("alice"), token(1))])
        assert result.record is not None
        self.assertEqual(len(store), 1)

    def test_not_ours(self) -> None:
        """Each that does not fit is refused by one of the two, in words that help."""
        cluster = self.start_etcd()
        other = Authority(self.directory / "other")
        good = self.settings(cluster)
        elsewhere = attrs.evolve(good, members=(("localhost", cluster.ports[0]),))
        for settings, said in (
            (attrs.evolve(good, ca=other.ca), ("its certificate is not good", "the authority")),
            (elsewhere, ("its certificate is not good", "for the name that it has in our list")),
            # etcd says so, or just ends the connection.
            (self.showing(good, *other.issue("stranger")), ("certificate has to be from etcd's",)),
            (self.showing(good, *self.authority.issue("old", expired=True)), ("not expired",)),
            (attrs.evolve(good, user="kdc", password=PASSWORD), ("asks nobody", "auth enable")),
        ):
            self.refused(settings, *said)

    def test_none(self) -> None:
        """Without a certificate of its own a KDC gets nothing."""
        cluster = self.start_etcd()
        self.refused(EtcdSettings(cluster.members, self.authority.ca), "certificate has to be from")

    def test_a_member_whose_certificate_has_expired(self) -> None:
        """It is not taken for etcd, and the hint is about time."""
        if installed() is None:
            self.skipTest("not installed: etcd (Debian: etcd-server)")
        self.directory = Path(self.mktemp()).absolute()
        self.authority = Authority(self.directory / "authority")
        certificate, key = self.authority.issue("old", expired=True)
        with TLSServer(certificate, key) as member:
            settings = EtcdSettings((member,), self.authority.ca)
            self.refused(settings, "certificate has expired", "new certificate", "clock")


class UserTests(SecureCase):
    """An etcd that wants users; ours may use the prefixes of the KDC only."""

    def start_with_users(self, *options: str) -> EtcdCluster:
        cluster = self.start_etcd(*options)
        for what, body in (
            ("user/add", ROOT),
            ("role/add", {"name": "root"}),
            ("user/grant", {"user": "root", "role": "root"}),
            ("user/add", {"name": "kdc", "password": PASSWORD}),
            ("role/add", {"name": "kdc"}),
            ("role/grant", {"name": "kdc", "perm": permission("/kdc/", "/kdc0")}),
            ("role/grant", {"name": "kdc", "perm": permission("/kdc-nodes/", "/kdc-nodes0")}),
            ("user/grant", {"user": "kdc", "role": "kdc"}),
            ("user/add", {"name": "other", "password": PASSWORD}),
            ("enable", {}),
        ):
            cluster.post(f"/v3/auth/{what}", body)
        return cluster

    def as_root(self, cluster: EtcdCluster, path: str, body: dict[str, Any]) -> Answer:
        given = cluster.post("/v3/auth/authenticate", ROOT)["token"]
        return cluster.post(path, body, token=given)

    def settings(self, cluster: EtcdCluster) -> EtcdSettings:
        return attrs.evolve(super().settings(cluster), user="kdc", password=PASSWORD)

    def test_the_right_one(self) -> None:
        """It opens and writes within its prefixes; others it may not even read."""
        cluster = self.start_with_users()
        settings = self.settings(cluster)
        self.open(settings).apply([Create(active("alice"), token(1))])
        gateway = Gateway(settings, settings.context())
        self.addCleanup(gateway.close)
        refused = self.assertRaises(Denied, gateway.post, "/v3/kv/range", EMPTY, 10)
        self.assertIn("/kdc/", refused.hint)

    def test_the_wrong_ones(self) -> None:
        """No user, another password, and a user without the role, each in words that help."""
        cluster = self.start_with_users()
        good = self.settings(cluster)
        for settings, said in (
            (attrs.evolve(good, user="", password=""), ("the user that we were given",)),
            (attrs.evolve(good, password="wrong"), ("does not take our user and password",)),
            (attrs.evolve(good, user="other"), ("the role of other", "/kdc/", "/kdc-nodes/")),
            # etcd looks for users in certificates, too, but not behind its gateway.
            (
                self.showing(good, *self.authority.issue("named", common_name="kdc")),
                ("has a common name", "alternative"),
            ),
        ):
            self.refused(settings, *said)

    def two(self, cluster: EtcdCluster) -> tuple[EtcdStore, EtcdStore]:
        one = self.open(self.settings(cluster), "one")
        two = self.directory / "two"
        two.mkdir()
        (two / "kdc.key").touch(0o600)
        (two / "kdc.key").write_bytes((self.directory / "one" / "kdc.key").read_bytes())
        return one, self.open(self.settings(cluster), "two")

    def assert_goes_on(self, one: EtcdStore, two: EtcdStore, number: int) -> None:
        """What one writes the other hears of, and both confirm that they lack nothing."""
        change = Create(active(f"u{number}"), token(number))

        def written() -> bool:
            try:
                return one.apply([change])[0].record is not None
            except (StoreUnavailable, StoreUncertain):
                return False

        began = clock.milliseconds()
        eventually("written", written)
        eventually("the other has it", lambda: two.get(f"u{number}") is not None)
        for store in one, two:
            self.assert_confirmed(store, began)

    def assert_confirmed(self, store: EtcdStore, began: int) -> None:
        eventually("confirmed", lambda: (store.confirmed_milliseconds or 0) > began)
        self.assertEqual(store.trouble, "")

    def test_tokens_end(self) -> None:
        """Nodes go on when etcd has forgotten their tokens: ended by it, or with it."""
        cluster = self.start_with_users()
        one, two = self.two(cluster)
        for number in range(2):
            same = {"name": "kdc", "password": PASSWORD}
            self.as_root(cluster, "/v3/auth/user/changepw", same)  # ends all of that user's
            self.assert_goes_on(one, two, number)
        cluster.kill(0)
        cluster.restart(0)
        self.assert_goes_on(one, two, 2)

    def with_signed_tokens(self, lifetime: str) -> EtcdCluster:
        """An etcd that keeps no tokens: each says itself whose it is, and how long it is good."""
        key = rsa.generate_private_key(65537, 2048)
        files = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        private, public = serialization.PrivateFormat, serialization.PublicFormat
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        files[0].write_bytes(key.private_bytes(pem, private.TraditionalOpenSSL, plain))
        files[1].write_bytes(key.public_key().public_bytes(pem, public.SubjectPublicKeyInfo))
        return self.start_with_users(
            "--auth-token",
            f"jwt,pub-key={files[1]},priv-key={files[0]},sign-method=RS256,ttl={lifetime}",
        )

    def test_tokens_expire(self) -> None:
        """However they are used, they are good for so long; nodes log in again each time."""
        cluster = self.with_signed_tokens("2s")
        one, two = self.two(cluster)
        first = cluster.post("/v3/auth/authenticate", ROOT)["token"]
        self.assert_goes_on(one, two, 0)
        eventually(
            "the first is refused",
            lambda: cluster.post("/v3/kv/range", EMPTY, token=first).get("code") == 16,
        )
        self.assert_goes_on(one, two, 1)

    def test_users_are_changed(self) -> None:
        """Tokens from before are refused in other words then; they log in again."""
        cluster = self.with_signed_tokens("1h")
        one, two = self.two(cluster)
        for number in range(2):
            new = {"name": f"new{number}", "password": PASSWORD}
            self.as_root(cluster, "/v3/auth/user/add", new)
            self.assert_goes_on(one, two, number)
