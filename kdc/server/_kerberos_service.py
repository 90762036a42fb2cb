"""The KDC's Kerberos, where it has one: its ports, and the receiver that gives tickets out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from kdc.client.client import KDCClient
from kdc.issuing.decisions import Audit, Now
from kdc.issuing.realm import Realm
from kdc.net.background import background
from kdc.server._kerberos import KerberosRealm
from kdc.server._kerberos_ports import KerberosPorts
from kdc.server._kerberos_receiver import KerberosReceiver
from kdc.server.kerberos_settings import KerberosSettings
from kdc.store import Change, Result, Store

__all__ = ["OwnKerberos"]


class OwnKerberos:
    """Runs from `start` to `stop`; its ports are taken when it is made, or `KDCError` raised.

    ``here`` is the address at which the KDC itself listens: without another place for it
    people come there for tickets, to whatever port is free.
    """

    def __init__(
        self,
        settings: KerberosSettings,
        client: KDCClient,
        here: str,
        *,
        store: Store,
        issuing: Realm,
        current: Callable[[Now], bool],
        write: Callable[[Change], Awaitable[Result]],
        tell: Callable[[Audit], None],
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._realm = KerberosRealm(
            settings, store=store, issuing=issuing, current=current, tell=tell
        )
        self._ports = KerberosPorts(self._realm, client.reactor)
        try:
            listen = settings.tickets or _anywhere(here)
            self._receiver = KerberosReceiver(client, listen, self._realm, write, say)
        except BaseException:
            background(self._ports.stop(), "giving up the ports for Kerberos")
            raise

    @property
    def counts(self) -> Mapping[tuple[str, ...], float]:
        """How many requests there were, by exchange and by what became of them."""
        return dict(self._realm.counts.items())

    def start(self) -> None:
        for where in self._ports.addresses:
            self._say(f"kdc: Kerberos at {where.host} port {where.port} ({where.type})")
        if not self._realm.enabled:
            self._say("kdc: this realm has no keys for Kerberos yet: an operator has to enable it")
        self._receiver.start()

    def govern(self, settings: KerberosSettings) -> None:
        """Go by other settings from now on; ports stay as they are."""
        self._realm.govern(settings)
        self._ports.govern()

    async def stop(self) -> None:
        await self._ports.stop()
        await self._receiver.stop()


def _anywhere(host: str) -> str:
    kind = "tcp6" if ":" in host else "tcp"
    return f"{kind}:0:interface={host.replace(':', chr(92) + ':')}"
