"""The receiver's side of a relay: a link to it, and connections that are made when it calls.

    KDC     <-  the epoch, and where senders are to go
    relay   <-  the link: which epochs are ours; calls come back over it
    relay   <-  a connection for each call, on which the sender's 309 arrives

What arrives goes to the same listener as what comes to our own port: a relay
is a piece of the network, and nothing that it says is believed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.protocol import Factory

from kdc.channel.reach import Place, is_loopback, place_of_relay
from kdc.channel.receiver import ChannelListener
from kdc.channel.relay_link import NONCE_BYTES, VERIFY_SECONDS, Link
from kdc.client.client import RealmClient
from kdc.errors import (
    KDCError,
    PeerUnavailable,
    RefusedByPolicy,
    TooBusy,
    UnknownPeer,
    malformed,
)
from kdc.net.background import background
from kdc.net.log import Logger
from kdc.net.retry import backoff
from kdc.net.sockets import tcp_endpoint
from kdc.net.waiting import Deadline, Waiters
from kdc.protocol.relay import (
    Call,
    Claimed,
    Dialled,
    Message,
    Reach,
    Verdict,
    Verify,
    dial_back,
    show_token,
)

__all__ = ["Relayed"]

# So long it may take to find out how we can be reached before the KDC is told something.
READY_SECONDS = 5.0
_COME_SECONDS = 10.0
_MOST_PAUSE_SECONDS = 60.0
# There is no relay for us: it may be started one day.
_NO_RELAY_SECONDS = 900.0
_LONG_AGO = 20
# So many calls are answered at a time: what calls may be anybody's program.
_MOST_COMING = 64


class _NoRelay(PeerUnavailable):
    """The realm has none for us, says the KDC; one that does not take us now is another matter."""


class Relayed:
    """The `Way` of a receiver in a realm that may have a relay.

    ``address`` and ``port`` are our own; an address was given by a person, and is
    told as it is.  With `Reach.AUTO` they are told if the relay can reach us
    there, or if there is no relay, and the link is the second way.  ``changed``
    is called when another place is to be told.
    """

    log = Logger()

    def __init__(
        self,
        client: RealmClient,
        listener: ChannelListener,
        reach: Reach,
        *,
        address: str,
        port: int,
        relay: str,
        status: Callable[[str], None] = lambda line: None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._client = client
        self._listener = listener
        self._reach = reach
        self._own = address, port
        self._relay = relay
        self._status = status
        self._random = random
        self._found: Place | None = None
        self._open: bool | None = None  # whether our own port can be reached, if that is known
        self._placed: Place | None = None  # what was the place when somebody was told last
        self._link: Link | None = None
        self._held: list[bytes] = []
        self._running = self._stopped = self._hurried = self._known = False
        self._told = ""
        self._coming = 0
        self._settled = Waiters()
        self._late = Deadline(client.reactor)
        self._wake = Waiters()
        self._alarm = Deadline(client.reactor)
        self._nonce = b""
        self._verified = Waiters()
        self._verifying = Deadline(client.reactor)

    @property
    def place(self) -> Place:
        through = self._reach is Reach.RELAY or (self._open is False and not self._own[0])
        if through and self._found is not None:
            return self._found
        if self._reach is Reach.RELAY:
            raise PeerUnavailable(
                f"the realm's relay cannot be used at the moment: {self._told or 'no answer'}",
                hint="whether the realm has one is its operator's to say",
            )
        return self._own

    @property
    def links(self) -> int:
        return int(self._link is not None and self._link.alive)

    def _place_if_any(self) -> Place | None:
        try:
            return self.place
        except PeerUnavailable:
            return None

    async def ready(self) -> None:
        if self._stopped:
            return
        self._known = False
        if not self._running:
            self._running = True
            background(self._run(), "keeping a link to the relay")
        else:
            # Where we are may be another place than before, and the old link dead.
            if self._link is not None:
                self._hurried = True
                self._link.drop()
            self._wake.release()
        if not self._known:
            self._late.within(READY_SECONDS, self._settle)
            try:
                await self._settled.wait()
            finally:
                self._late.cancel()
        # Whoever has waited looks now: only what is another place later has to be told.
        self._placed = self._place_if_any()

    def _settle(self) -> None:
        self._known = True
        self._settled.release()

    def holds(self, epoch_ids: list[bytes]) -> None:
        before, self._held = self._held, epoch_ids
        if self._link is not None:
            self._link.tell(before, epoch_ids)

    def stop(self) -> None:
        self._stopped = True
        if self._link is not None:
            self._link.leave()
        for waiting in (self._wake, self._settled, self._verified):
            waiting.release()

    # the link, again and again

    async def _run(self) -> None:
        self._listener.dialled.append(self._dialled)
        try:
            await self._keep_linked()
        finally:
            self._listener.dialled.remove(self._dialled)

    async def _keep_linked(self) -> None:
        attempt = 0
        while not self._stopped:
            pause = backoff(attempt, first=0.5, most=_MOST_PAUSE_SECONDS)
            attempt += 1
            try:
                # One that takes us and cuts us off at once is asked ever more seldom, too.
                if await self._linked() > _MOST_PAUSE_SECONDS:
                    pause, attempt = backoff(0, first=0.5), 1
            except _NoRelay as error:
                self._lost(error, quietly=self._reach is Reach.AUTO)
                pause, attempt = backoff(_LONG_AGO, most=_NO_RELAY_SECONDS), 0
            except KDCError as error:
                self._lost(error)
            if self._stopped or self._hurried:
                self._hurried = False
                continue
            await self._sleep(pause)

    async def _sleep(self, seconds: float) -> None:
        self._alarm.within(seconds, self._wake.release)
        try:
            await self._wake.wait()
        finally:
            self._alarm.cancel()

    async def _linked(self) -> float:
        """Be linked; return when that has ended, how many seconds it was."""
        client = self._client
        if self._reach is Reach.AUTO and is_loopback((await client.link()).address):
            raise _NoRelay("on the KDC's own machine there is no need for a relay")
        try:
            place = await place_of_relay(client, self._relay)
        except TooBusy:
            raise
        except (UnknownPeer, RefusedByPolicy) as error:
            raise _NoRelay(str(error)) from None
        link = Link(self.take, self.unlinked)
        await link.open(client, self._relay, place)
        if self._stopped:
            link.leave()
            return 0
        since = client.reactor.seconds()
        self._link, self._found, self._told = link, place, ""
        link.tell([], self._held)
        try:
            await self._find_out(link)
            await link.lost()
        finally:
            self._link = None
        return cast(float, client.reactor.seconds() - since)

    async def _find_out(self, link: Link) -> None:
        """How others are to come to us."""
        if self._reach is Reach.AUTO and not self._own[0]:
            seen = await self._verify(link)
            if not link.alive or self._stopped:
                return
            self._open = seen
        self._say_how()
        self._settle()
        # The relay may have moved, too.
        before, self._placed = self._placed, self._place_if_any()
        if before != self._placed:
            self.changed()

    async def _verify(self, link: Link) -> bool:
        """Whether the relay can reach our own port, seen at that port."""
        if not self._own[1]:
            return False
        self._nonce = self._random(NONCE_BYTES)
        link.say(Verify(self._own[1], self._nonce))
        self._verifying.within(VERIFY_SECONDS, self._verified.release)
        try:
            await self._verified.wait()
        finally:
            self._verifying.cancel()
        seen, self._nonce = not self._nonce, b""
        return seen

    def _dialled(self, body: bytes) -> bool:
        """Whether this first message is the relay's, who wants to show that it gets here."""
        if not self._nonce or body != dial_back(self._nonce)[2:]:
            return False
        self._nonce = b""
        self._verified.release()
        return True

    def _say_how(self) -> None:
        host, number = cast(Place, self._found)
        relay = f"the relay at {host} port {number}"
        if self.place == self._found:
            why = "" if self._open is None else f", as it cannot reach our port {self._own[1]}"
            self._status(f"others reach us through {relay}{why}")
        else:
            self._status(f"others reach us directly, or else through {relay}")

    def _lost(self, error: KDCError, *, quietly: bool = False) -> None:
        if self._told != str(error) and not quietly:
            self._status(f"no link to the relay: {error}")
        self._told = str(error)
        self._settle()

    # what comes over it

    def unlinked(self) -> None:
        """Nothing more will."""
        self._verified.release()

    def take(self, message: Message) -> None:
        """Raises `RemoteProtocolError`."""
        if isinstance(message, Call):
            if message.epoch_id in self._held and self._coming < _MOST_COMING:
                background(self._come(message), "coming to a call of the relay")
        elif isinstance(message, Dialled):
            if message.nonce == self._nonce and not message.connected:
                self._verified.release()
        elif isinstance(message, Claimed):
            if message.verdict != Verdict.YES:
                self.log.info("the relay does not send us those who want our epoch")
        else:
            raise malformed(f"a relay does not say {type(message).__name__}")

    async def _come(self, call: Call) -> None:
        """Connect to the relay, and to nowhere else, and have the listener take what comes."""
        if self._found is None:
            return
        host, port = self._found
        source = (IPv6Address if ":" in call.address else IPv4Address)(
            "TCP", call.address, call.port
        )
        factory = _Coming(self._listener, source)
        self._coming += 1
        try:
            channel: Any = await tcp_endpoint(
                self._client.reactor, host, port, _COME_SECONDS
            ).connect(factory)
        except (ConnectError, ConnectionClosed, TimeoutError, OSError) as error:
            self.log.info("a call of the relay came to nothing: {error}", error=error)
        else:
            channel.transport.write(show_token(call.token))
        finally:
            self._coming -= 1


class _Coming(Factory[Any]):
    """Makes the listener's end of a connection that is ours to make."""

    noisy = False

    def __init__(self, listener: ChannelListener, source: IPv4Address | IPv6Address) -> None:
        self._listener = listener
        self._source = source

    def buildProtocol(self, addr: Any) -> Any:
        return self._listener.buildProtocol(self._source)
