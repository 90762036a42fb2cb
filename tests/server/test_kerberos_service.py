"""A whole KDC with Kerberos: its ports come and go with it, and what it counts can be seen."""

from __future__ import annotations

import functools
import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.threads import deferToThread

from kdc.errors import ConfigurationError, LocalIOError
from kdc.kerberos.keys import DEFAULT_ETYPES
from kdc.kerberos.keytab import read_keytab
from kdc.kerberos.names import Principal
from kdc.kerberos.profile import Key
from kdc.kerberos_store import keytab_of
from kdc.server.kerberos_settings import KerberosSettings
from kdc.server.service import KDCService
from kdc.store.opened import open_store
from kdc.testing.client import Client, TicketRefused, over_tcp
from kdc.watch.settings import StatusSettings
from tests.server.test_service import LOOPBACK
from tests.server.test_status import StatusTestCase

UDP = "udp:0:interface=127.0.0.1"
PLACES = KerberosSettings((UDP, LOOPBACK))


class KerberosServiceTests(StatusTestCase):
    def served(self, kerberos: KerberosSettings = PLACES, **how: Any) -> KDCService:
        status = StatusSettings(LOOPBACK)
        return self.start(self.settings(kerberos=kerberos, status=status), **how)

    async def machine(self, service: KDCService) -> tuple[Client, Principal, Any]:
        """A client of the real port, the principal of a machine, and its keys."""
        await self.registered(service, "web1")
        await self.admin("kerberos-enable")
        await self.admin("kerberos-services", "web1", add=["HTTP/web"])
        line = next(each for each in self.said if each.endswith("(TCP)"))
        client = Client("LOCAL", over_tcp("127.0.0.1", int(line.split()[-2])))
        record = service.store.get("web1")
        assert record is not None
        entries = read_keytab(keytab_of(record, "LOCAL", ["web1"]))
        keys: dict[int, Key] = {entry.key.etype: entry.key for entry in entries}
        self.assertEqual(set(keys), set(DEFAULT_ETYPES))
        return client, Principal(("web1",), "LOCAL"), keys.__getitem__

    async def test_figures(self) -> None:
        """What was asked, and what became of it; each ticket is a line of the log."""
        service = self.served()
        client, web1, keys = await self.machine(service)
        tgt = await deferToThread(client.initial, web1, keys)
        await deferToThread(client.service, tgt, Principal(("HTTP", "web"), "LOCAL"))
        nobody = Principal(("nobody",), "LOCAL")
        asked = deferToThread(client.initial, nobody, keys)
        await self.assertFailure(asked, TicketRefused)
        await self.logged("kerberos-issued client=web1", "HTTP/web", "kerberos-refused")
        found = await self.figures()
        for exchange, outcome in (
            ("as", "preauth_required"),
            ("as", "issued"),
            ("tgs", "issued"),
            ("as", "client_unknown"),
        ):
            name = f'kdc_kerberos_requests_total{{exchange="{exchange}",outcome="{outcome}"}}'
            self.assertEqual(found.get(name), 1, name)

    async def test_reload(self) -> None:
        """SIGHUP reads how long tickets are good; ports stay as they are."""
        settings = self.settings(kerberos=PLACES)
        shorter = KerberosSettings(PLACES.endpoints, life=600)
        service = self.start(
            settings, read_again=functools.partial(self.settings, kerberos=shorter)
        )
        client, web1, keys = await self.machine(service)
        before = await deferToThread(client.initial, web1, keys)
        service.reload()
        after = await deferToThread(client.initial, web1, keys)
        self.assertEqual(before.end_time - before.start_time, 36_000)
        self.assertEqual(after.end_time - after.start_time, 600)

    async def test_start_and_stop(self) -> None:
        """It says that it has no keys yet, and everything is given back when it stops."""
        service = self.served()
        self.assertTrue([line for line in self.said if "no keys for Kerberos yet" in line])
        await self.stop(service)
        self.said.clear()
        self.served()

    def test_cannot_start(self) -> None:
        """A place that is none or in use, or a name that is taken: no port is left behind."""
        for endpoints in (("udp:x",), (UDP, "tcp:x"), ("nonsense:1",)):
            self.refused(
                ConfigurationError, "no place|not an endpoint", kerberos=KerberosSettings(endpoints)
            )
        self.assertFalse(os.path.lexists(self.directory / "pwd.txt.kerberos"))
        any_reactor: Any = reactor
        port = any_reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        taken = f"udp:{port.getHost().port}:interface=127.0.0.1"
        self.refused(LocalIOError, taken, kerberos=KerberosSettings((LOOPBACK, taken)))
        bad_tickets = KerberosSettings((UDP, LOOPBACK), tickets="tcp:x")
        self.refused(ConfigurationError, "not an endpoint", kerberos=bad_tickets)
        # In a store that was there its name has been taken, and its key stays with it.
        open_store(self.directory / "pwd.txt", realm="LOCAL").close()
        self.refused(ConfigurationError, "not an endpoint", kerberos=bad_tickets)
        (self.directory / "pwd.txt.kerberos").unlink()
        self.refused(ConfigurationError, "is not the receiver of Kerberos's", kerberos=PLACES)
        self.refused(
            ConfigurationError,
            "capital letters",
            kerberos=PLACES,
            store=self.directory / "other",
            realm="Small",
        )
