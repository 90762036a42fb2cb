"""Sending as a whole: what, to whom, how often it is tried, what is said of it."""

from __future__ import annotations

import errno
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import attrs
from twisted.internet.defer import DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from kdc.channel.endpoint import ChannelClientEndpoint
from kdc.client.client import RealmClient
from kdc.client.membership import enter
from kdc.client.settings import ClientSettings
from kdc.errors import (
    ConfigurationError,
    ErrorKind,
    ExitStatus,
    KDCError,
    KDCUnreachable,
    NotReceiving,
    PeerUnavailable,
    RefusedByPolicy,
    TooBusy,
    local_error,
)
from kdc.net.exit_status import complain, say
from kdc.net.pace import Pace
from kdc.net.retry import backoff
from kdc.net.threads import in_thread
from kdc.terminal import amount, confirm, counted, shown
from kdc.transfer.messages import SERVICE, Held, Remark
from kdc.transfer.progress import Progress
from kdc.transfer.sender import Delivery, Interrupted, SendProtocol, Unconfirmed, send_factory
from kdc.transfer.source import Outgoing
from kdc.transfer.survey import Survey, Thing, Unsendable, lines_of, survey, things_of
from kdc.transfer.walk import EVERYTHING, Choice

__all__ = ["SendSettings", "plain_file", "send"]

# After a cut it is tried again for so long without getting on; a receiver may be restarting.
# And for so long if it has too many newcomers, or the KDC has.
PATIENCE_SECONDS = 60.0
_MOST_PAUSE_SECONDS = 8.0
_MOST_WAIT_SECONDS = 15.0
_AT_A_TIME = 8
_ONCE_SECONDS = 10.0  # by who does not try again
_TELL_SECONDS = 2.0
_REST = "Send the rest? [y/N] "


@attrs.frozen
class SendSettings:
    """What to send, and to whom.

    ``wait``: until the receiver receives, and has room for us.  ``retry``: go on after a cut.
    ``wait_seconds``: no longer than that.  ``bytes_per_second``: no faster, to all together.
    ``skip``: what cannot be sent is left out, and the rest is sent; ``ask``: if a person
    at the terminal says so.  ``choice``: what of directories is sent, and how.
    """

    client: ClientSettings
    receivers: tuple[str, ...]
    things: tuple[Thing, ...]
    wait: bool = False
    retry: bool = False
    wait_seconds: float | None = None
    bytes_per_second: int | None = None
    skip: bool = False
    ask: bool = False
    choice: Choice = EVERYTHING

    @property
    def patience_seconds(self) -> float:
        """How long it is tried when the receiver, or the KDC, has no room for us."""
        if self.wait:
            return math.inf if self.wait_seconds is None else self.wait_seconds
        return PATIENCE_SECONDS if self.retry else _ONCE_SECONDS


def plain_file(path: Path) -> tuple[Thing, ...]:
    """One file, and nothing else; raises `LocalIOError`."""
    (thing,) = things_of([path])
    if thing.is_directory:
        raise local_error(path, OSError(errno.EISDIR, ""))
    return (thing,)


Complain: TypeAlias = Callable[[str, KDCError], int]


async def send(client: RealmClient, settings: SendSettings, complain: Complain = complain) -> int:
    """Send everything to everybody; return once all have confirmed it.

    With one receiver what goes wrong is raised, with several ``complain`` tells
    it of each, and the worst is the result.
    """
    run = in_thread(client.reactor)
    if len(client.nodes) == 1:  # of several the next one is asked
        client.nodes[0].patience_seconds = settings.patience_seconds
        client.nodes[0].held_up = _HeldUp(client.reactor, say).tell
    try:
        surveyed: Survey = await run(survey, settings.things, settings.choice)
        await _require_all(surveyed, settings, run)
        if surveyed.once and len(settings.receivers) > 1:
            raise ConfigurationError(
                "a pipe can be read only once", hint="send it to one receiver at a time"
            )
        for line in lines_of("left out", surveyed.skipped):
            say(line)
        await enter(client, settings.client, 0)
        size = surveyed.offer.size
        many = len(settings.receivers)
        progress = Progress(
            f"to {', '.join(settings.receivers)}:", None if size is None else size * many
        )
        try:
            return await _send_to_all(client, settings, surveyed, progress, complain)
        finally:
            progress.close()
    finally:
        client.close()


async def _require_all(surveyed: Survey, settings: SendSettings, run: Any) -> None:
    """Raises `Unsendable` if something cannot be sent and nobody says that the rest shall be."""
    problems = surveyed.problems
    for line in lines_of("cannot be sent", problems):
        say(line)
    if not problems or settings.skip or (settings.ask and await _rest_is_wanted(run)):
        return
    raise Unsendable(
        problems,
        hint="nothing was sent: rename it, or have it left out",
        kind=ErrorKind.PART_UNSENDABLE,
    )


async def _rest_is_wanted(run: Any) -> bool:
    given_up = threading.Event()
    try:
        return bool(await run(confirm, lambda columns: _REST, given_up.is_set))
    finally:
        given_up.set()


async def _send_to_all(
    client: RealmClient,
    settings: SendSettings,
    surveyed: Survey,
    progress: Progress,
    complain: Complain,
) -> int:
    done: dict[str, int] = {}
    limit = settings.bytes_per_second
    pace = None if limit is None else Pace(limit, client.reactor)

    def sending(receiver: str) -> _Sending:
        def got_on(count: int, name: str) -> None:
            done[receiver] = count
            progress.update(sum(done.values()), name)

        return _Sending(client, settings, surveyed, receiver, got_on, progress, pace)

    if len(settings.receivers) == 1:
        return await sending(settings.receivers[0]).run()
    turns = DeferredSemaphore(_AT_A_TIME)
    works = [turns.run(sending(receiver).run) for receiver in settings.receivers]
    results = await DeferredList(works, consumeErrors=True)
    return max(
        (
            _status(receiver, result, complain)
            for receiver, (_, result) in zip(settings.receivers, cast(Any, results), strict=True)
        ),
        default=0,
    )


def _status(receiver: str, result: Any, complain: Complain) -> int:
    """Tell what went wrong with one of several."""
    if isinstance(result, int):
        return result
    if isinstance(result.value, KDCError):
        return complain(f"to {receiver}", result.value)
    result.raiseException()
    return 1


class _HeldUp:
    """Says once why nothing goes on, if that lasts."""

    def __init__(self, clock: IReactorTime, say: Callable[[str], None]) -> None:
        self._clock = clock
        self._say = say
        self._since: float | None = None
        self._told = False

    def tell(self, error: KDCError) -> None:
        now = self._clock.seconds()
        if self._since is None:
            self._since = now
        elif not self._told and now - self._since > _TELL_SECONDS:
            self._told = True
            self._say(f"{error}; it may be busy: trying on")


class _Sending:
    """To one receiver, as often as it takes."""

    def __init__(
        self,
        client: RealmClient,
        settings: SendSettings,
        surveyed: Survey,
        receiver: str,
        got_on: Any,
        progress: Progress,
        pace: Pace | None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._surveyed = surveyed
        self._receiver = receiver
        self._got_on = got_on
        self._progress = progress
        self._pace = pace
        self._stream: Outgoing | None = None
        self._spared = 0
        self._continued = False
        self._cut: Interrupted | None = None
        self._waiting = False
        self._held_up = _HeldUp(client.reactor, lambda line: self._say(f"{receiver}: {line}"))
        self._wait_until = math.inf
        self._deadline = 0.0
        self._once = surveyed.once

    async def run(self) -> int:
        """Return the exit status; raises `KDCError`."""
        attempt = 0
        while True:
            try:
                delivery = await self._try()
            except Interrupted as error:
                if not self._settings.retry or self._once:
                    raise
                if self._got_further():
                    attempt = 0
                if not isinstance(self._cut, Unconfirmed):
                    self._cut = error
                pause = self._pause_after(error, attempt)
            except (PeerUnavailable, KDCUnreachable, TooBusy) as error:
                pause = self._pause_after(error, attempt)
            except RefusedByPolicy as error:
                if not isinstance(self._cut, Unconfirmed):
                    raise
                again = f"{self._cut}; then: {error}"
                raise Unconfirmed(again, hint="the first has been stored, or nothing") from None
            else:
                return self._tell(delivery)
            attempt += 1
            await deferLater(self._client.reactor, pause)

    async def _try(self) -> Delivery:
        reactor = self._client.reactor
        factory = send_factory(
            self._surveyed.offer,
            self._open,
            run=in_thread(reactor),
            timers=reactor,
            progress=self._on_progress,
            pace=self._pace,
        )
        endpoint = ChannelClientEndpoint(
            self._client,
            self._receiver,
            SERVICE,
            patience_seconds=self._settings.patience_seconds,
            held_up=self._held_up.tell,
        )
        sending = cast(SendProtocol, await endpoint.connect(factory))
        self._waiting = False
        self._progress.wait(f"waiting for {self._receiver} to accept")
        return await sending.done

    def _on_progress(self, done: int) -> None:
        stream = self._stream
        if stream is None:
            return
        if stream.spared and not self._continued:
            self._continued = True
            if self._progress.shown:
                self._say(f"{shown(stream.name)} continues at {amount(stream.spared)}")
        self._got_on(done, stream.name)

    def _open(self, held: Mapping[str, Held], remarks: frozenset[Remark]) -> Outgoing:
        self._stream = Outgoing(self._surveyed, held, remarks=remarks)
        self._continued = False
        return self._stream

    def _got_further(self) -> bool:
        """Whether the receiver has kept more than before: then it is worth going on."""
        spared = 0 if self._stream is None else self._stream.spared
        further = self._cut is None or spared > self._spared
        self._spared = max(self._spared, spared)
        if further:
            self._deadline = self._client.reactor.seconds() + PATIENCE_SECONDS
        return further

    def _pause_after(self, error: KDCError, attempt: int) -> float:
        """How long until it is tried again; raises ``error`` if it is not."""
        if isinstance(error, TooBusy) and self._waiting:
            return self._wait(error, float(error.retry_after))
        if isinstance(error, TooBusy) and self._cut:
            return float(error.retry_after)
        if self._settings.wait and (isinstance(error, NotReceiving) or self._waiting):
            return self._wait(error, backoff(attempt, first=1.0, most=_MOST_WAIT_SECONDS))
        if self._cut is None:
            raise error
        pause = backoff(attempt, first=0.5, most=_MOST_PAUSE_SECONDS)
        if self._client.reactor.seconds() + pause > self._deadline:
            raise self._cut
        self._say(f"{error}; trying again in {pause:.1f} s")
        return pause

    def _wait(self, error: KDCError, pause: float) -> float:
        """Return how long to wait for the receiver; raises ``error`` if that was long enough."""
        now: float = self._client.reactor.seconds()
        if not self._waiting:
            self._say(f"{self._receiver} is not receiving yet; waiting")
            self._waiting = True
            if self._settings.wait_seconds is not None:
                self._wait_until = min(self._wait_until, now + self._settings.wait_seconds)
        if now >= self._wait_until:
            raise error
        return min(pause, self._wait_until - now)

    def _tell(self, delivery: Delivery) -> int:
        names = ", ".join(_names(self._surveyed.things))
        spared = "" if self._stream is None else _spared(self._stream.spared)
        where = "who has passed it on" if delivery.passed_on else "who has it on disk"
        size = counted(delivery.total_bytes, "byte")
        self._say(f"sent {names} ({size}{spared}) to {delivery.receiver}, {where}")
        left_out = [] if self._stream is None else list(self._stream.left_out.values())
        for line in lines_of("not sent as it was", left_out):
            say(line)
        for line in lines_of("left out", self._surveyed.problems):
            say(line)
        complete = not left_out and not self._surveyed.problems
        return ExitStatus.DONE if complete else ExitStatus.INCOMPLETE

    def _say(self, line: str) -> None:
        self._progress.close()
        say(line)


def _names(things: Sequence[Thing]) -> list[str]:
    names = [shown(thing.name) for thing in things[:10]]
    return names if len(things) <= 10 else [*names, f"{len(things) - 10} more"]


def _spared(count: int) -> str:
    return f", {count} of them were there already" if count else ""
