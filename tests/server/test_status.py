"""A KDC that is watched: the figures are those of what was done, and nothing else is told."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from kdc.errors import ConfigurationError, ErrorKind, PeerUnavailable, TooBusy
from kdc.issuing.decisions import Audit
from kdc.limits import Limits
from kdc.server.service import KDCService
from kdc.watch.settings import StatusSettings
from tests.server.test_service import LOOPBACK, PUBLIC, ServiceTestCase
from tests.support.processes import PATIENCE_SECONDS

TOKEN = "0123456789abcdef0123"


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    """Ask, and trust whatever certificate there is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Not by way of a proxy that this machine may have.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own port
        with opener.open(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


class StatusTestCase(ServiceTestCase):
    def url(self, path: str) -> str:
        line = next(line for line in self.said if "status at" in line)
        return line.split()[-1].rstrip("/").replace("0.0.0.0", "127.0.0.1") + path

    def get(self, path: str, **headers: str) -> Deferred[tuple[int, bytes]]:
        return deferToThread(fetch, self.url(path), **headers)

    def watched(self, endpoint: str = LOOPBACK, **more: Any) -> KDCService:
        return self.start(self.settings(status=StatusSettings(endpoint, **more)))

    async def figures(self) -> dict[str, float]:
        status, text = await self.get("/metrics")
        if status == 503:
            raise SkipTest("prometheus-client is not installed")
        rows = re.findall(r"(?m)^([a-z][^ ]*) (\S+)$", text.decode())
        return {name: float(number) for name, number in rows}


class FiguresTests(StatusTestCase):
    async def test_exact(self) -> None:
        """So many keys, so many refusals, so many names: neither more nor less."""
        service = self.watched()
        alice = await self.registered(service, "alice")
        bob = await self.registered(service, "bob")
        await bob.receive_under(PUBLIC, "127.0.0.1", 60000)
        for _ in range(7):
            await alice.request_key("bob")
        for name in ("alice2", "nobody"):
            asked = Deferred.fromCoroutine(alice.request_key(name))
            await self.assertFailure(asked, PeerUnavailable)
        found = await self.figures()
        for name, number in {
            "kdc_keys_issued_total": 7,
            'kdc_requests_total{kind="issue",outcome="done"}': 7,
            'kdc_requests_total{kind="issue",outcome="refused"}': 2,
            'kdc_requests_total{kind="register",outcome="done"}': 2,
            'kdc_request_seconds_count{kind="issue"}': 9,
            'kdc_request_seconds_count{kind="register"}': 2,
            'kdc_refusals_total{code="unknown_principal"}': 2,
            'kdc_refusals_total{code="not_authentic"}': 0,
            "kdc_registrations_total": 2,
            "kdc_authentications_total": 2,
            "kdc_epochs": 1,
            "kdc_principals": 2,
            'kdc_connections{state="proved"}': 2,
            'kdc_connections{state="unproved"}': 0,
            "kdc_store_generation": 2,
            "kdc_store_up": 1,
            "kdc_log_up": 1,
        }.items():
            self.assertEqual(found.get(name), number, name)
        self.assertGreaterEqual(found["kdc_store_write_seconds_count"], 1)
        self.assertGreaterEqual(found["kdc_store_sync_seconds_count"], 1)
        self.assertEqual(found["kdc_certificate_expiry_timestamp_seconds"], service.tls.end_time)

    async def test_turned_away(self) -> None:
        """Who has to go for a limit is counted under its name, once."""
        limits = Limits(
            connections_per_principal=1, unauthenticated_per_address=2, tls_seconds=PATIENCE_SECONDS
        )
        service = self.start(self.settings(status=StatusSettings(LOOPBACK), limits=limits))
        await self.registered(service, "alice")
        asked = Deferred.fromCoroutine(self.client(service, "alice").login())
        await self.assertFailure(asked, TooBusy)
        factory = service.factory
        await self.eventually("alice's other has gone", lambda: factory.connected == 1)
        strangers = [socket.create_connection(("127.0.0.1", self.port(service))) for _ in range(3)]
        for stranger in strangers:
            self.addCleanup(stranger.close)
        await self.eventually(
            "one has gone", lambda: service.factory.turned_away["unauthenticated"]
        )
        found = await self.figures()
        for limit, count in {
            "arrivals": 0,
            "unauthenticated": 1,
            "connections_per_principal": 1,
            "keys_per_second": 0,
        }.items():
            name = f'kdc_connections_refused_total{{limit="{limit}"}}'
            self.assertEqual(found.get(name), count, name)
        self.assertEqual(found['kdc_connections{state="unproved"}'], 2)
        self.assertEqual(found['kdc_refusals_total{code="rate"}'], 1)

    async def test_store_and_log(self) -> None:
        """What is on the disk is told as it is there; folds, and lines, one by one."""
        service = self.start(self.settings(status=StatusSettings(LOOPBACK), fold_seconds=3600.0))
        before = await self.figures()
        self.assertEqual(before["kdc_store_journal_bytes"], 0)
        await self.registered(service, "alice")
        found = await self.figures()
        journal = self.store.with_name("pwd.txt.journal").stat().st_size
        self.assertGreater(found["kdc_store_journal_bytes"], 0)
        self.assertLessEqual(found["kdc_store_journal_bytes"], journal)
        self.assertEqual(found["kdc_store_folds_total"], before["kdc_store_folds_total"])
        await deferToThread(service.store.fold)
        folded = await self.figures()
        self.assertEqual(folded["kdc_store_journal_bytes"], 0)
        (record,) = [x for x in self.store.read_bytes().splitlines(True) if b":alice:" in x]
        self.assertEqual(folded["kdc_store_database_bytes"], len(record))
        self.assertEqual(folded["kdc_store_folds_total"], before["kdc_store_folds_total"] + 1)
        self.assertEqual(folded["kdc_store_failed_folds_total"], 0)
        await service.audit.flush()
        self.assertEqual((await self.figures())["kdc_log_queue_lines"], 0)
        for _ in range(300):
            service.audit.add(Audit("refused", "", "192.0.2.1", "MALFORMED", unproven=True))
        suppressed = service.audit.suppressed
        self.assertGreater(suppressed, 0)
        self.assertEqual((await self.figures())["kdc_log_suppressed_lines_total"], suppressed)

    async def test_no_names(self) -> None:
        """The figures name nobody."""
        service = self.watched()
        await self.registered(service, "alice-of-wonderland")
        _, text = await self.get("/metrics")
        self.assertNotIn(b"wonderland", text)
        self.assertNotIn(b"127.0.0.1", text)

    def test_unwatched(self) -> None:
        """Without a status port nothing stands between a request and its answer."""
        service = self.start()
        self.assertIsNone(service._measured)
        self.assertEqual(type(service.factory.issuer).__name__, "Issuer")


class HealthTests(StatusTestCase):
    async def test_ready(self) -> None:
        """It is ready; with a log that cannot be written it is not, and says why."""
        service = self.watched()
        self.assertEqual((await self.get("/readyz"))[0], 200)
        self.assertEqual((await self.get("/healthz"))[0], 200)
        full, log = os.open("/dev/full", os.O_WRONLY), service.audit._file
        assert log is not None
        os.dup2(full, log)
        os.close(full)
        status = 200
        while status == 200:
            service.audit.add(Audit("told", "", ""))
            await service.audit.flush()
            status, body = await self.get("/readyz")
        self.flushLoggedErrors()
        self.assertEqual(status, 503)
        self.assertIn("No space left", json.loads(body)["checks"]["log"])
        self.assertEqual((await self.get("/healthz"))[0], 200)


class PlaceTests(StatusTestCase):
    def test_in_the_open(self) -> None:
        """Where other machines could look it does not start without a token."""
        error = self.refused(
            ConfigurationError, "needs a token", status=StatusSettings("tcp:0:interface=0.0.0.0")
        )
        self.assertEqual(error.kind, ErrorKind.STATUS_NEEDS_TOKEN)
        bad = StatusSettings("tcp:x:interface=127.0.0.1")
        self.refused(ConfigurationError, "not an endpoint", status=bad)

    async def test_with_a_token(self) -> None:
        """There it speaks TLS with the KDC's certificate, and wants the token."""
        path = self.directory / "token"
        path.write_text(TOKEN + "\n")
        path.chmod(0o600)
        self.watched("tcp:0:interface=0.0.0.0", token_file=path)
        self.assertTrue(self.url("/").startswith("https://"))
        self.assertEqual((await self.get("/readyz"))[0], 401)
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        self.assertEqual((await self.get("/readyz", **bearer))[0], 200)

    async def test_rebinding(self) -> None:
        """A page of somebody else's whose name leads here is told nothing."""
        self.watched(hosts=("kdc.example.org",))
        self.assertEqual((await self.get("/readyz", Host="evil.example"))[0], 421)
        self.assertEqual((await self.get("/readyz", Host="kdc.example.org"))[0], 200)

    async def test_ends(self) -> None:
        """It goes when the KDC goes, and its port is free again."""
        service = self.watched()
        port = service._status._port.getHost().port  # type: ignore[union-attr]
        await self.stop(service)
        self.said.clear()
        self.watched(f"tcp:{port}:interface=127.0.0.1")
        self.assertEqual((await self.get("/healthz"))[0], 200)
