"""The receiver ``kerberos``: people get tickets there, machines their keytabs.

Whoever opens a channel to it has proved who he is as everywhere in kdp/1, so nobody needs a
Kerberos password: nothing can be guessed off line.  It lives in the KDC's process, as the
directory does.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, cast

import attrs
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kdc.channel.transport import ChannelTransport
from kdc.client.client import KDCClient
from kdc.errors import KDCError, RefusedByPolicy, TooBusy
from kdc.issuing.decisions import Audit
from kdc.kerberos.ccache import ccache
from kdc.kerberos.initial import initial_ticket
from kdc.kerberos.names import Principal
from kdc.kerberos_store import keytab_of, live_part, made_anew
from kdc.net import clock
from kdc.net.background import background
from kdc.net.log import Logger
from kdc.net.waiting import Deadline
from kdc.protocol.kerberos import (
    KEYTAB,
    MAX_QUESTION,
    TICKET,
    KeytabWanted,
    TicketWanted,
    decode_question,
    file_answer,
    refusal_answer,
)
from kdc.server._kerberos import KerberosRealm
from kdc.server._residents import QuestionPort
from kdc.store import Change, Outcome, Record, Replace, Result

__all__ = ["KerberosReceiver"]

ANSWER_SECONDS = 60.0
_MAX_OPEN = 256
# What it is charged to its principal, in 305s: about what it costs us.
_CHARGE = 5
# Clocks of machines that share a store differ a little.
_SKEW_SECONDS = 300


class KerberosReceiver:
    """From `start` to `stop`; its port is taken when it is made, or `KDCError` raised.

    ``write`` makes a change durable.
    """

    log = Logger()

    def __init__(
        self,
        client: KDCClient,
        listen: str,
        realm: KerberosRealm,
        write: Callable[[Change], Awaitable[Result]],
        say: Callable[[str], None],
    ) -> None:
        self.timers = client.reactor
        self.realm = realm
        self._write = write
        self._asking: set[_Answering] = set()
        answers = {TICKET: self._ticket, KEYTAB: self._keytab}
        self._port = QuestionPort(
            client,
            listen,
            {name: _Answers(self, self._asking, answer) for name, answer in answers.items()},
            self._asking,
            most_open=_MAX_OPEN,
            what="the receiver of Kerberos",
            log=self.log,
            say=say,
        )

    def start(self) -> None:
        """Be reachable from now on."""
        self._port.start()

    async def stop(self) -> None:
        """Leave the KDC, and break off the answers that are being given."""
        await self._port.stop()

    def charge(self, client: str) -> int:
        """Count a question of ``client``; after how many seconds it could be asked."""
        work = self.realm.issuing.work_rate
        return math.ceil(work.charge(client, _CHARGE, clock.milliseconds()) / 1000)

    async def _ticket(self, client: str, question: bytes) -> bytes:
        wanted = decode_question(TicketWanted, question)
        record = self._standing(client)
        now = int(self.realm.wall())
        if 0 < record.changed_time - now <= _SKEW_SECONDS:
            now = record.changed_time
        principal = Principal((client,), self.realm.store.realm)
        credential = initial_ticket(
            self.realm.realm,
            principal,
            now,
            life_seconds=wanted.life,
            renewable_seconds=wanted.renewable,
            forwardable=wanted.forwardable,
        )
        self.realm.counts["kinit", "issued"] += 1
        self.realm.tell(Audit("kerberos-issued", client, "", str(self.realm.realm.tgs)))
        return ccache(principal, [credential])

    async def _keytab(self, client: str, question: bytes) -> bytes:
        wanted = decode_question(KeytabWanted, question)
        record = self._standing(client)
        strange = set(wanted.services) - set(record.services)
        if strange:
            raise RefusedByPolicy(
                f"{min(strange)[:80]} is no service of {client}",
                hint="whoever runs the KDC says whose a service is; another key of ours ends that",
            )
        if wanted.new_keys or live_part(record) is None:
            record = await self._with_new_keys(record)
        names = wanted.services or (client, *record.services)
        self.realm.tell(Audit("kerberos-keytab", client, "", " ".join(names)))
        return keytab_of(record, self.realm.store.realm, names)

    async def _with_new_keys(self, record: Record) -> Record:
        part = made_anew(record, int(self.realm.wall()), self.realm.random)
        change = Replace(attrs.evolve(record, kerberos=part), record.generation)
        result = await self._write(change)
        if result.outcome is not Outcome.DONE or result.record is None:
            raise TooBusy(
                "our record is being changed by somebody else", retry_after=1, hint="try again"
            )
        return result.record

    def _standing(self, client: str) -> Record:
        """The record of who asks, who is in good standing now; raises `KDCError`."""
        if not self.realm.enabled:
            raise RefusedByPolicy(
                "this realm has no keys for Kerberos", hint="whoever runs the KDC has to make them"
            )
        record = self.realm.store.get(client)
        if record is None or not self.realm.is_current:
            raise TooBusy("the KDC does not know just now", retry_after=5, hint="try again")
        # Disabled or expired meanwhile: as an exchange would have it.
        name = Principal((client,), self.realm.store.realm).name()
        self.realm.realm.client(name, int(self.realm.wall()))
        return record


Answer = Callable[[str, bytes], Awaitable[bytes]]


class _Answers(Factory["_Answering"]):
    noisy = False

    def __init__(self, receiver: KerberosReceiver, among: set[_Answering], answer: Answer) -> None:
        self._receiver = receiver
        self._among = among
        self._answer = answer

    def buildProtocol(self, addr: Any) -> _Answering:
        return _Answering(self._receiver, self._among, self._answer, addr.name)


@implementer(IHalfCloseableProtocol)
class _Answering(Protocol):
    """One client's question and the answer, which is small."""

    def __init__(
        self, receiver: KerberosReceiver, among: set[_Answering], answer: Answer, client: str
    ) -> None:
        self.client = client
        self._receiver = receiver
        self._among = among
        self._answer = answer
        self._question = bytearray()
        self._late = Deadline(receiver.timers)

    @property
    def _channel(self) -> ChannelTransport:
        return cast(ChannelTransport, self.transport)

    def connectionMade(self) -> None:
        self._among.add(self)
        self._late.within(ANSWER_SECONDS, self.drop)

    def dataReceived(self, data: bytes) -> None:
        self._question += data
        if len(self._question) > MAX_QUESTION:
            self.drop()

    def readConnectionLost(self) -> None:
        background(self._answered(), "a question to the receiver of Kerberos")

    def writeConnectionLost(self) -> None:
        """The client has it all."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._among.discard(self)
        self._late.cancel()

    def drop(self) -> None:
        self._channel.abortConnection()

    async def _answered(self) -> None:
        # Whatever is asked, and whatever becomes of it.
        wait = self._receiver.charge(self.client)
        try:
            if wait:
                raise TooBusy(
                    "that is asked too often", retry_after=wait, hint=f"try again in {wait} s"
                )
            answer = file_answer(await self._answer(self.client, bytes(self._question)))
        except KDCError as error:
            answer = refusal_answer(str(error), error.hint)
        if self in self._among:
            self._channel.write(answer)
            self._channel.loseConnection()
