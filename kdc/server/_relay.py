"""The KDC's own relay, where it has one: it knows whose an epoch is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from kdc.client.client import KDCClient
from kdc.errors import KDCError
from kdc.issuing.realm import Realm
from kdc.net.log import Logger
from kdc.relay.limits import RelayLimits, RelaySettings
from kdc.relay.relay import Figures, Relay
from kdc.server._residents import at_once
from kdc.store import Record, Status

__all__ = ["OwnRelay"]


class OwnRelay:
    """Runs from `start` to `stop`; the port is taken when it is made, or `KDCError` raised."""

    log = Logger()

    def __init__(
        self,
        client: KDCClient,
        settings: RelaySettings,
        *,
        realm: Realm,
        say: Callable[[str], None],
    ) -> None:
        def owns(principal: str, epoch_id: bytes) -> bool:
            epoch = realm.epoch_of(principal)
            return epoch is not None and epoch.epoch_id == epoch_id

        self._name, self._say = client.keys.name, say
        self._relay = Relay(client, settings, owns=owns, status=self._status)
        self._running: Deferred[Any] | None = None
        at_once(self._relay.bind())

    @property
    def figures(self) -> Figures:
        return self._relay.figures

    def start(self) -> None:
        self._running = Deferred.fromCoroutine(self._run()).addErrback(
            lambda failure: self.log.failure("the relay has ended", failure)
        )

    def limit(self, limits: RelayLimits) -> None:
        """Use other limits from now on."""
        self._relay.limit(limits)

    def record_changed(self, record: Record) -> None:
        """Whoever may not receive any more is not linked, either; what is open goes on."""
        if record.status is not Status.ACTIVE:
            self._relay.unlink(record.name)

    async def stop(self) -> None:
        await self._relay.close()
        if self._running is not None:
            await self._running

    def _status(self, line: str) -> None:
        self._say(f"kdc: {self._name}: {line}")

    async def _run(self) -> None:
        try:
            await self._relay.run()
        except KDCError as error:
            self.log.error("the relay has ended: {error}", error=error)
            self._status(f"has ended: {error}")
            await self._relay.close()
