"""The end of a channel that asked the KDC for it."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime

from kdc.channel._channel import Channel
from kdc.channel.services import ServiceStatus
from kdc.channel.transport import PrincipalAddress
from kdc.errors import KDCError, PeerUnavailable, Refusal, RefusedByPolicy, RemoteProtocolError
from kdc.net import clock
from kdc.net.sockets import host_of
from kdc.protocol.codec import FrameBuffer
from kdc.protocol.handshake import SECOND_BYTES, Presentation
from kdc.protocol.kdc_exchange import Grant

__all__ = ["SenderChannel"]

ANSWER_SECONDS = 10.0


class SenderChannel(Channel):
    """The side that asked the KDC.

    ``opened`` fires with the application's protocol once the receiver has
    accepted the service, and fails if it does not: until then there is no
    application.
    """

    def __init__(
        self, grant: Grant, service: str, factory: IProtocolFactory, timers: IReactorTime
    ) -> None:
        super().__init__(timers, FrameBuffer(SECOND_BYTES, SECOND_BYTES))
        self._receiver = grant.receiver
        self._realm = grant.realm
        # Until it is connected: a key of which nothing was sent is good for another try.
        self._grant: Grant | None = grant
        self._presentation: Presentation | None = None
        self._service = service
        self._factory = factory
        self.opened: Deferred[IProtocol] = Deferred()

    def connectionMade(self) -> None:
        super().connectionMade()
        self._within(ANSWER_SECONDS, self._unanswered)
        grant, self._grant = self._grant, None
        self._presentation = presentation = cast(Grant, grant).presentation()
        try:
            presentation.require_in_time(clock.milliseconds())
            cast(Any, self.transport).write(presentation.present())
        except (PeerUnavailable, RemoteProtocolError) as error:
            self.fail(error)

    def _shake(self, body: bytes) -> None:
        # The session key goes with it: what it protected is not to be had any more.
        presentation, self._presentation = self._presentation, None
        self._stream = cast(Presentation, presentation).finish(body)
        self._write(self._stream.send_data(self._service.encode()))

    def _first_data(self, data: bytes) -> None:
        if data != bytes([ServiceStatus.ACCEPTED]):
            self.fail(self._refused(data))
            return
        self._deadline.cancel()
        raw = cast(Any, self.transport).getPeer()
        peer = PrincipalAddress(self._receiver, self._realm, host_of(raw), getattr(raw, "port", 0))
        application = self._factory.buildProtocol(peer)
        if application is None:
            self.fail(RefusedByPolicy(f"our own side does not want a channel to {peer.name}"))
            return
        self._open(application, peer)
        self.opened.callback(application)

    def _refused(self, status: bytes) -> KDCError:
        peer, service = self._receiver, self._service or "its default service"
        if status == bytes([ServiceStatus.NOT_ALLOWED]):
            return RefusedByPolicy(f"{peer} does not allow us to use {service}")
        if status == bytes([ServiceStatus.NO_SERVICE]):
            return RefusedByPolicy(
                f"{peer} does not offer {service}", hint="ask what its receiver was started for"
            )
        return RemoteProtocolError(Refusal.MALFORMED, "the peer's first word is not a status")

    def _never_opened(self, error: BaseException) -> None:
        if not self.opened.called:
            self.opened.errback(error)

    def _unanswered(self) -> None:
        self.fail(
            PeerUnavailable(
                f"{self._receiver} did not answer within {ANSWER_SECONDS:.0f} s",
                hint="what listens at its address may be another program",
            )
        )

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self.fail(PeerUnavailable("given up"))
