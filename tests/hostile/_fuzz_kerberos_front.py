"""The operator's realm: its ports, what is asked of its receiver, and what that answers."""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock

from kdc.errors import RefusedByPolicy, RemoteProtocolError
from kdc.kerberos.messages import KRB_ERROR, METHOD_DATA, PAData
from kdc.kerberos.padata import PadataType
from kdc.protocol.kerberos import (
    KeytabWanted,
    TicketWanted,
    decode_answer,
    decode_question,
    encode_question,
    file_answer,
    refusal_answer,
)
from kdc.server._kerberos_ports import _Connections
from kdc.testing.client import Client, Wanted
from tests.hostile._fuzz_target import Found, Target, defects_of
from tests.server.test_kerberos import as_req
from tests.server.test_kerberos_ports import Wire, framed
from tests.support.kerberos import REALM
from tests.support.kerberos_store import ADDRESS, StoreOfTest

__all__ = ["KERBEROS_FRONT"]

_MOST = 10**6


class _Realm:
    """A realm that limits nobody, and good requests to it."""

    def __init__(self) -> None:
        self.case = StoreOfTest(
            datagrams_per_second=_MOST,
            requests_per_second_per_address=_MOST,
            failures_per_minute=_MOST,
        )
        error = KRB_ERROR.decode(self.case.realm.datagram(as_req("web1"), ADDRESS) or b"")
        hints = METHOD_DATA.decode(error.details or b"")
        cookies = [each for each in hints if each.kind == PadataType.FX_COOKIE]
        self.requests = [as_req("web1"), as_req("alice"), as_req("web1", tuple(cookies))]
        client = Client(REALM, self._kept, lambda: self.case.now)
        web = self.case.principal("web1")
        wanted = Wanted(padata=(*cookies, PAData(PadataType.FX_COOKIE, b"")))
        ticket = client.initial(web, self.case.keys("web1"), wanted)
        client.service(ticket, self.case.principal("HTTP/bob"))

    def _kept(self, request: bytes) -> bytes:
        self.requests.append(request)
        return self.case.realm.request(request, ADDRESS)

    def datagram(self, data: bytes) -> None:
        """Nobody gets twice what he sends, who has not shown where he is."""
        elsewhere = "203.0.113.9"
        answers: list[bytes | None] = []
        defects_of(lambda: answers.append(self.case.realm.datagram(data, elsewhere)))
        if answers[0] is not None and len(answers[0]) >= 2 * len(data):
            raise Found("an answer to a stranger that is twice as long as what he sent")

    def connection(self, data: bytes) -> None:
        """Whatever comes, and however it is cut: it has an end, and leaves nothing."""
        clock: Any = MemoryReactorClock()

        def live() -> None:
            connection: Any = _Connections(self.case.realm, clock).buildProtocol(None)
            wire = Wire(peerAddress=IPv4Address("TCP", ADDRESS, 1))
            connection.makeConnection(wire)
            for at in range(0, len(data), 700):
                connection.dataReceived(data[at : at + 700])
                clock.advance(0)
            clock.advance(100)
            if not wire.disconnecting:
                raise Found("a connection that never ends")
            connection.connectionLost()
            if clock.getDelayedCalls():
                raise Found("a connection that leaves a timer behind")

        defects_of(live)


def _question(data: bytes) -> None:
    for kind in (TicketWanted, KeytabWanted):
        try:
            found: Any = decode_question(kind, data)  # type: ignore[type-var]
        except RemoteProtocolError:
            continue
        if encode_question(found) != data:
            raise Found("a question in two forms")


def _answer(data: bytes) -> None:
    with contextlib.suppress(RefusedByPolicy):  # as it says
        decode_answer(data)


_REALM = _Realm()
_QUESTIONS = (
    encode_question(TicketWanted(36_000, 604_800, True)),
    encode_question(KeytabWanted(("HTTP/web", "host/web"), True)),
)

KERBEROS_FRONT: dict[str, Target] = {
    "kerberos-datagram": Target(_REALM.datagram, tuple(_REALM.requests), ()),
    "kerberos-connection": Target(
        _REALM.connection, (b"".join(map(framed, _REALM.requests)), framed(as_req("web1"))), ()
    ),
    "kerberos-question": Target(_question, _QUESTIONS, ()),
    "kerberos-answer": Target(
        _answer, (file_answer(b"file"), refusal_answer("no", "ask")), (RemoteProtocolError,)
    ),
}
