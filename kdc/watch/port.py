"""The status port: what is asked there, and who answers it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory

from kdc.errors import ConfigurationError
from kdc.net import clock
from kdc.net.sockets import listen_at
from kdc.net.tls_listening import ListeningTLSFactory
from kdc.watch import health
from kdc.watch._http import HTTPLimits, StatusFactory, Subscribe
from kdc.watch.answers import Answer, Query, text_answer
from kdc.watch.figures import Figures
from kdc.watch.guard import Guard
from kdc.watch.heart import Heart
from kdc.watch.prometheus import CONTENT_TYPE, MISSING, exposition
from kdc.watch.settings import StatusSettings

__all__ = ["Page", "StatusPort"]


class Page(Protocol):
    """What people look at, beside what machines read."""

    @property
    def paths(self) -> Iterable[str]:
        """What is his to answer."""

    def answer(self, query: Query) -> Awaitable[Answer | Subscribe]:
        """Answer what is asked below one of ``paths``."""

    def beat(self) -> None:
        """A second has gone by."""


class StatusPort:
    """From `listen` to `stop`.

    ``tls`` is for ports that others can reach, unless the endpoint brings its own.
    """

    def __init__(
        self,
        settings: StatusSettings,
        reactor: Any,
        *,
        figures: Figures,
        checks: health.Checks,
        page: Page | None = None,
        tls: IOpenSSLServerConnectionCreator | None = None,
        say: Callable[[str], None] = lambda line: None,
        limits: HTTPLimits | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._checks = checks
        self._page = page
        self._tls = None if settings.local or settings.has_tls else tls
        self._say = say
        self._exposition = exposition(figures)
        self._port: Any = None
        token = settings.token()
        if not (settings.local or settings.has_tls or tls):
            raise ConfigurationError(
                f"{settings.endpoint}: a status port that other machines reach needs TLS",
                hint="listen on this machine only, or at an endpoint that begins with ssl:",
            )
        secure = self._tls is not None or settings.has_tls
        self._guard = Guard(token, hosts=settings.hosts, secure=secure, random=random)
        self._http = StatusFactory(self._answer, reactor, limits)
        lags = figures.histogram(
            "kdc_reactor_lag_seconds", "How late a timer of the reactor came, each second."
        )
        self._heart = Heart(reactor, lags, page.beat if page is not None else lambda: None)
        self._machine: Mapping[str, Callable[[], Answer]] = {
            "/metrics": self._metrics,
            "/healthz": lambda: health.alive(self._heart.lag_seconds),
            "/readyz": lambda: health.ready(self._checks),
        }

    async def listen(self) -> None:
        """Take the port; raises `LocalIOError` or `ConfigurationError`."""
        factory: IProtocolFactory = self._http
        if self._tls is not None:
            factory = ListeningTLSFactory(self._http, self._tls, self._reactor)
        hint = "is another program using that port?"
        self._port = await listen_at(self._reactor, self._settings.endpoint, factory, hint=hint)

    @property
    def where(self) -> str:
        """Where one looks, for people."""
        scheme = "https" if self._tls is not None or self._settings.has_tls else "http"
        bound = self._port.getHost()
        if not hasattr(bound, "port"):
            return f"{scheme} on {self._settings.endpoint}"
        host = f"[{bound.host}]" if ":" in bound.host else bound.host
        return f"{scheme}://{host}:{bound.port}/"

    def start(self) -> None:
        self._heart.start()
        self._say(f"status at {self.where}")
        if self._exposition is None:
            self._say(MISSING)

    async def stop(self) -> None:
        self._heart.stop()
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()
        self._http.close_all()

    async def _answer(self, query: Query) -> Answer | Subscribe:
        refusal = self._guard.refusal(query, clock.milliseconds())
        if refusal is not None:
            return refusal
        machine = self._machine.get(query.path)
        if machine is not None:
            return machine()
        if self._page is not None and query.path in self._page.paths:
            return await self._page.answer(query)
        return text_answer(404, "there is /metrics, /healthz and /readyz")

    def _metrics(self) -> Answer:
        if self._exposition is None:
            return text_answer(503, MISSING)
        return Answer(200, self._exposition(), CONTENT_TYPE)
