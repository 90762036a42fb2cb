"""``--status`` of what runs for long beside the KDC: a receiver, tunnels, a relay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from twisted.python import usage

from kdc.client.settings import absolute
from kdc.commands.options import Command, host_of, status_endpoint
from kdc.terminal import say

if TYPE_CHECKING:
    from kdc.channel.figures import ChannelFigures
    from kdc.commands.twistd import Work
    from kdc.watch.figures import Sampled

__all__ = ["Side", "StatusOptions", "watched"]


class StatusOptions(Command):
    """Options of whatever can be watched."""

    optValues = {"status-token-file": "file"}
    optRepeated: ClassVar[tuple[str, ...]] = ("status-host",)
    optParameters = [
        [
            "status",
            None,
            None,
            (
                "port on 127.0.0.1, or a Twisted endpoint such as unix:/run/status.sock, where this"
                " is watched: a page, figures for Prometheus, whether it is ready"
            ),
        ],
        [
            "status-token-file",
            None,
            None,
            "what one must show there; needed where other machines can connect",
        ],
    ]

    def opt_status_host(self, value: str) -> None:
        """a name by which the status port is reached; may be repeated"""
        self["status-host"] = (*self.get("status-host", ()), host_of(value))


@attrs.frozen
class Side:
    """One side of what is watched: under which heading, its figures, and the same for people."""

    title: str
    figures: Sequence[Sampled]
    facts: Callable[[], Sequence[tuple[str, str]]]


def watched(
    options: Any,
    reactor: Any,
    work: Work,
    title: str,
    channels: Callable[[], ChannelFigures] | None,
    sides: Callable[[], Iterator[Side]],
) -> Work:
    """Return ``work`` with a status port, if that was asked for.

    ``channels`` is None where nobody comes: then there is no KDC that has to send anybody.
    Raises `usage.UsageError` or `KDCError`.
    """
    if not options["status"]:
        if options["status-token-file"] or options.get("status-host"):
            raise usage.UsageError("something about a status port, but no port: give --status")
        return work
    return _Watched(options, reactor, work, title, channels, list(sides()))


class _Watched:
    """The port is there before the work begins, and tells that it is not ready yet."""

    def __init__(
        self,
        options: Any,
        reactor: Any,
        work: Work,
        title: str,
        channels: Callable[[], ChannelFigures] | None,
        sides: list[Side],
    ) -> None:
        from kdc.watch.build import build_info
        from kdc.watch.figures import Figures
        from kdc.watch.page import FactsPage
        from kdc.watch.port import StatusPort
        from kdc.watch.receiver import channel_facts, channel_figures
        from kdc.watch.settings import StatusSettings
        from kdc.watch.view import Facts

        self._work = work
        checks: dict[str, Callable[[], str]] = {}
        if channels is not None:
            read = channels
            figures = list(channel_figures(read))
            sides = [Side("Channels", figures, lambda: channel_facts(read())), *sides]
            checks["kdc"] = lambda: "" if read().kdc_links else "no KDC sends anybody here"
        families = Figures()
        for side in sides:
            families.sampled(side.figures)
        families.sampled([build_info()])

        def facts() -> Facts:
            told: Mapping[str, Sequence[tuple[str, str]]] = {s.title: s.facts() for s in sides}
            return Facts(told, [(name, why) for name, check in checks.items() if (why := check())])

        self._port = StatusPort(
            StatusSettings(
                status_endpoint(options["status"]),
                absolute(options["status-token-file"]),
                tuple(options.get("status-host", ())),
            ),
            reactor,
            figures=families,
            checks=checks,
            page=FactsPage(title, facts),
            say=lambda line: say(f"{title}: {line}"),
        )
        self._open = False

    async def run(self) -> int:
        await self._port.listen()
        self._open = True
        self._port.start()
        try:
            return await self._work.run()
        finally:
            await self._end()

    async def close(self) -> None:
        await self._work.close()
        await self._end()

    async def _end(self) -> None:
        if self._open:
            self._open = False
            await self._port.stop()
