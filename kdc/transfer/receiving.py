"""Receiving as a whole: where to listen, where things go, who may send them, what is said of it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from kdc.channel.figures import ChannelFigures
from kdc.channel.listening import Listening
from kdc.channel.services import DEFAULT_SERVICE, Service
from kdc.client.client import RealmClient
from kdc.client.membership import NEW_SECRET_SECONDS, enter
from kdc.client.settings import ClientSettings
from kdc.errors import (
    AuthenticationRefused,
    ConfigurationError,
    KDCError,
    LocalIOError,
    RefusedByPolicy,
    local_error,
)
from kdc.files.opening import open_regular
from kdc.files.streams import is_stream
from kdc.net.background import background
from kdc.net.exit_status import complain
from kdc.net.pace import Pace
from kdc.net.threads import in_thread
from kdc.protocol.crypto import LongTermKeys
from kdc.terminal import counted, harmless, shown
from kdc.transfer._screen import Screen
from kdc.transfer.consent import Consent
from kdc.transfer.deposit import Deposit, FileDeposit, Recorded, Stored, StreamDeposit
from kdc.transfer.hook import Hook
from kdc.transfer.messages import SERVICE, Kind, Offer, Omitted, Why
from kdc.transfer.receiver import Broken, Inbox, TransferFigures
from kdc.transfer.redelivery import OnceDeposit

__all__ = ["STDOUT", "ReceiveSettings", "Receiver", "check_places"]

STDOUT = Path("-")
_SHOWN_BYTES = 4096
_LOOK_SECONDS = 1.0
_WHY = {
    Why.CHANGED: "it changed while it was read",
    Why.GONE: "it is gone there",
    Why.UNREADABLE: "it cannot be read there",
}


@attrs.frozen
class ReceiveSettings:
    """Where to listen, and where things go.

    ``otherwise``: where to listen if that port is in use.
    ``output``: a file, or `STDOUT`; it ``passes_on`` what it gets if it is that, or a FIFO
    or device: then nothing can be taken back, and ``once`` has to be true.
    ``allow``: only these senders may open a channel, ``accept_from``: only from these is
    anything taken, if any is named.
    ``hook``: a command to run for each thing that was received.
    ``bytes_per_second``: all senders together are read no faster.
    """

    client: ClientSettings
    listen: str
    otherwise: str = ""
    output: Path | None = None
    passes_on: bool = False
    inbox: Path | None = None
    records: Path | None = None
    once: bool = False
    allow: frozenset[str] = frozenset()
    advertise: str = ""
    accept_from: frozenset[str] = frozenset()
    max_bytes: int | None = None
    force: bool = False
    preserve: bool = True
    hook: tuple[str, ...] = ()
    ask: bool = False
    bytes_per_second: int | None = None


def check_places(settings: ReceiveSettings) -> None:
    """Find out before anybody sends that something could not be kept.  Blocking.

    Raises `LocalIOError` or `ConfigurationError`.
    """
    if settings.inbox is not None:
        _check_directory(settings.inbox, settings.inbox)
    for path in (settings.output, settings.records):
        if path is not None and path != STDOUT:
            _check_file(path, stream=path == settings.output)
    if settings.hook and shutil.which(settings.hook[0]) is None:
        raise ConfigurationError(
            f"the hook {shown(settings.hook[0], 4096)} is not a command that can be run",
            hint="give its whole path, and chmod +x the file",
        )


def _check_file(path: Path, *, stream: bool) -> None:
    """A file that can be made or replaced; if ``stream``, also what passes on what it gets."""
    if os.path.isdir(path):
        raise local_error(path, OSError(errno.EISDIR, os.strerror(errno.EISDIR)))
    try:
        passes_on = is_stream(path)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise local_error(path, error) from None
        passes_on, stream = True, False
    if not passes_on:
        _check_directory(path.parent, path)
    elif not stream:
        raise ConfigurationError(
            f"{shown(str(path), 4096)} is no regular file, and is not replaced by one",
            hint="name another file",
        )
    elif not os.access(path, os.W_OK):
        raise local_error(path, OSError(errno.EACCES, os.strerror(errno.EACCES)))


def _check_directory(directory: Path, path: Path) -> None:
    """It has to be one, and open to us; ``path`` is what was asked for."""
    number = errno.EACCES
    try:
        if not stat.S_ISDIR(os.stat(directory).st_mode):
            number = errno.ENOTDIR
        elif os.access(directory, os.W_OK | os.X_OK):
            return
    except OSError as error:
        raise local_error(path, error) from None
    raise local_error(path, OSError(number, os.strerror(number)))


class Receiver:
    """Receives until it is stopped, or has received once."""

    def __init__(
        self,
        client: RealmClient,
        settings: ReceiveSettings,
        complain: Callable[[str, KDCError], int] = complain,
    ) -> None:
        self._complain = complain
        self._client = client
        self._settings = settings
        self._done: Deferred[None] = Deferred()
        self._taken = False
        self._screen = Screen()
        self._closing = threading.Event()
        self._process = secrets.token_hex(8)
        self._run = in_thread(client.reactor)
        self._hook = Hook(client.reactor, settings.hook, self._status)
        self._consent = Consent(
            client.reactor, settings.accept_from, settings.ask, screen=self._screen
        )
        limit = settings.bytes_per_second
        pace = None if limit is None else Pace(limit, client.reactor)
        self._inbox = inbox = Inbox(
            run=self._run,
            timers=client.reactor,
            deposit=self._deposit,
            consent=self._consent,
            max_bytes=settings.max_bytes,
            capture=settings.records is not None,
            received=self._received,
            broken=self._broken,
            incomplete=self._incomplete,
            pace=pace,
            watch=self._screen.watch,
        )
        service = Service(inbox, self._allowed)
        self._listening = Listening(
            client,
            {DEFAULT_SERVICE: service, SERVICE: service},
            settings.listen,
            otherwise=settings.otherwise,
            advertise=settings.advertise,
            status=self._status,
            ending=self._status,
        )

    @property
    def name(self) -> str:
        return self._client.keys.name

    @property
    def channels(self) -> ChannelFigures:
        return self._listening.figures

    @property
    def figures(self) -> TransferFigures:
        return self._inbox.figures

    async def run(self) -> int:
        """Listen, register if we are new, and receive.  Raises `KDCError`."""
        # The port first: an occupied one is known before anything else happens.
        await self._listening.bind()
        self._warn_of_link()
        try:
            await enter(self._client, self._settings.client, self._listening.port_number)
            await self._receive()
        finally:
            await self.close()
        return 0

    def _warn_of_link(self) -> None:
        output = self._settings.output
        if output is not None and not self._settings.passes_on and output.is_symlink():
            name = shown(str(output), 4096)
            self._status(f"{name} is a link: what is received takes its place, not its target's")

    async def close(self) -> None:
        """Take no more senders."""
        self._closing.set()
        self._consent.close()
        self._screen.close()
        await self._listening.close()
        self._client.close()

    async def _receive(self) -> None:
        receiving = Deferred.fromCoroutine(self._stay_reachable())
        if not self._settings.once:
            await receiving
            return
        ended: Deferred[None] = receiving.addErrback(self._give_up)
        await self._done
        self._listening.leave()
        await ended
        # The sender is still to read that its file was stored.
        await self._listening.when_idle()
        await self._hook.when_idle()

    async def _stay_reachable(self) -> None:
        """As long as our secret is good, or a new one can be read where the old one was."""
        while True:
            try:
                await self._listening.run()
            except AuthenticationRefused:
                new = await self._new_keys()
                if new is None:
                    raise AuthenticationRefused(
                        f"the KDC no longer accepts our secret: {self._client.keys.name} has a"
                        " new one, or is not registered any more",
                        hint="restart this receiver with the new secret; if you have not changed"
                        " it, ask the KDC's operator who has",
                    ) from None
                self._status("the KDC no longer accepts our secret; its file has another: trying")
                self._client.keys = new
            else:
                return

    async def _new_keys(self) -> LongTermKeys | None:
        """What stands where our secret is from, now or soon: a file is changed after the KDC."""
        source, keys = self._settings.client.secret, self._client.keys
        reactor = self._client.reactor
        path = source.key_file or source.passphrase_file
        if path is None:
            return None
        self._status(f"the KDC no longer accepts our secret; looking for another one in {path}")
        deadline = reactor.seconds() + NEW_SECRET_SECONDS
        while True:
            try:
                found: LongTermKeys = await self._run(source.keys, keys.realm, keys.name)
            except KDCError as error:  # it may be in the middle of being replaced
                if reactor.seconds() >= deadline:
                    self._complain(keys.name, error)
                    return None
            else:
                if found.verify_key != keys.verify_key:
                    return found
                if reactor.seconds() >= deadline:
                    return None
            await deferLater(reactor, _LOOK_SECONDS)

    def _give_up(self, failure: Any) -> None:
        if not self._done.called:
            self._done.errback(failure)

    def _allowed(self, sender: str) -> bool:
        return not self._settings.allow or sender in self._settings.allow

    def _deposit(self, sender: str, offer: Offer) -> Deposit:
        settings = self._settings
        if settings.output is not None and settings.passes_on:
            if self._taken:
                raise RefusedByPolicy("it is taking something else at the moment")
            self._taken = True
            where = 1 if settings.output == STDOUT else settings.output
            deposit: Deposit = StreamDeposit(where, offer, self._closing.is_set)
        elif settings.output is not None:
            deposit = FileDeposit(settings.output, offer)
        elif settings.inbox is not None:
            deposit = OnceDeposit(
                settings.inbox,
                sender,
                offer,
                process=self._process,
                force=settings.force,
                preserve=settings.preserve,
            )
        else:
            raise LocalIOError("this receiver has no place to store anything")
        return deposit if settings.records is None else Recorded(deposit, settings.records)

    def _status(self, line: str) -> None:
        self._screen.say(f"{self._client.keys.name}: {line}")

    def _received(self, sender: str, stored: Stored) -> None:
        what = shown(stored.name)
        if stored.again:
            self._status(f"{sender} had not heard that {what} has arrived, and knows it now")
            return
        files = ""
        if stored.kind is Kind.DIRECTORY:
            files = f" and {counted(stored.files, 'file')}"
        where = "standard output" if stored.path == STDOUT else shown(str(stored.path), 4096)
        if stored.kind is Kind.TEXT and not stored.passed_on:
            background(self._show(sender, stored), "showing a text")
        size = counted(stored.size, "byte")
        self._status(f"received {what} from {sender}: {size}{files} in {where}")
        if self._settings.hook:
            self._hook.run(
                {
                    "KDC_SENDER": sender,
                    "KDC_NAME": stored.name,
                    "KDC_KIND": stored.kind.value,
                    "KDC_PATH": str(stored.path),
                    "KDC_SIZE": str(stored.size),
                }
            )
        if self._settings.once and not self._done.called:
            self._done.callback(None)

    async def _show(self, sender: str, stored: Stored) -> None:
        """A text is for a person; but a terminal obeys what it is given."""
        text = (await self._run(_beginning, stored.path)).decode(errors="replace")
        for line in text.splitlines() or [""]:
            self._status(f"{sender} says: {harmless(line)}")
        if stored.size > _SHOWN_BYTES:
            self._status(f"{sender} says more: see {shown(str(stored.path), 4096)}")

    def _incomplete(self, sender: str, some: Sequence[Omitted], count: int) -> None:
        """Told behind what was received: it is not all that was offered."""
        for each in some:
            self._status(f"{sender} did not send {shown(each.name)}: {_WHY[each.why]}")
        if count > len(some):
            self._status(f"{sender} did not send {count - len(some)} more")

    def _broken(self, broken: Broken) -> None:
        settings, error = self._settings, broken.error
        what = f"nothing was kept of what {broken.sender} sent"
        if broken.kept:
            what = f"{broken.sender} was cut off; what came is kept, for the same to go on with it"
        # Another try can only be made of what has an inbox; what is not wanted is no try.
        final = isinstance(error, LocalIOError) or (broken.accepted and settings.inbox is None)
        if settings.once and final and not self._done.called:
            self._status(what)  # why is said by whoever ends us
            self._done.errback(error)
        else:
            self._screen.tell(lambda: self._complain(f"{self._client.keys.name}: {what}", error))


def _beginning(path: Path) -> bytes:
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            return file.read(_SHOWN_BYTES)
    except OSError:
        return b""
