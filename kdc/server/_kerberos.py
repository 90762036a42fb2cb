"""The Kerberos port: datagrams and TCP in front of `kdc.kerberos`, for a store's principals.

Everything that comes here is a stranger's.  Where a datagram is from proves nothing until a
cookie of ours has come back from there: before that an address is not held to account, and
gets no answer that is twice as long as what it sent.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kdc.issuing.decisions import Audit, Now
from kdc.issuing.realm import Realm as Issuing
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.kdc import KDC, Answer, Asked
from kdc.kerberos.keys import Entry
from kdc.kerberos.realm import Policy, Realm
from kdc.kerberos_store import Principals, check_upper, tgs_part
from kdc.limits import TokenBuckets, address_prefix
from kdc.net import clock
from kdc.server.kerberos_settings import KerberosSettings
from kdc.store import Store

__all__ = ["Cookies", "KerberosRealm"]

_COOKIE_SECONDS = 300
_NONCE_BYTES = 12
_MAX_NAME = 100


class Cookies:
    """What says that an address has got an answer of ours: sealed, so that nothing is kept."""

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._aead = AESGCM(random(32))

    def made(self, address: str, now: float) -> bytes:
        nonce = self._random(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, int(now).to_bytes(8, "big"), address.encode())

    def good(self, cookie: bytes, address: str, now: float) -> bool:
        """Whether we gave it to this address a short time ago."""
        if len(cookie) != _NONCE_BYTES + 8 + 16:
            return False
        nonce, sealed = cookie[:_NONCE_BYTES], cookie[_NONCE_BYTES:]
        try:
            made = int.from_bytes(self._aead.decrypt(nonce, sealed, address.encode()), "big")
        except InvalidTag:
            return False
        return abs(now - made) <= _COOKIE_SECONDS


class KerberosRealm:
    """Answers requests, whichever way they came.  ``wall`` is the clock on the wall.

    ``tell`` gets a line of the activity log for each ticket and each refusal.
    """

    def __init__(
        self,
        settings: KerberosSettings,
        *,
        store: Store,
        issuing: Issuing,
        current: Callable[[Now], bool],
        tell: Callable[[Audit], None],
        wall: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.settings = settings
        self.store = store
        self.issuing = issuing
        self.wall = wall
        self.random = random
        self.tell = tell
        self.counts: Counter[tuple[str, str]] = Counter()
        self._current = current
        self._cookies = Cookies(random)
        self.principals = Principals(
            store, check_upper(store.realm), wall, random, settings.renewable_life
        )
        realm = Realm(store.realm, self.principals, random, _policy(settings), self._permits)
        self._kdc = KDC(realm)
        self.govern(settings)

    def govern(self, settings: KerberosSettings) -> None:
        """Go by these from now on, and count from nothing."""
        self.settings = settings
        self.principals.keep_seconds = settings.renewable_life
        self._kdc.realm = attrs.evolve(self.realm, policy=_policy(settings))
        self._datagrams = TokenBuckets(settings.datagrams, capacity=1)
        # Of datagrams that say where they are from, and of connections that are from there:
        # whoever says that he is somebody else takes nothing of what that one has.
        self._said_from = TokenBuckets(settings.of_address)
        self._of_address = TokenBuckets(settings.of_address)
        self._failures = TokenBuckets(settings.failures)

    @property
    def realm(self) -> Realm:
        """As the exchanges see it."""
        return self._kdc.realm

    @property
    def enabled(self) -> bool:
        """Whether the realm has keys for Kerberos."""
        return tgs_part(self.store) is not None

    @property
    def is_current(self) -> bool:
        """Whether what is in memory is new enough to decide by."""
        return self._current(Now(clock.milliseconds(), int(self.wall())))

    def datagram(self, request: bytes, address: str) -> bytes | None:
        """Return the answer to a datagram that says it is from ``address``; None is no answer."""
        milliseconds = clock.milliseconds()
        prefix = address_prefix(address)
        if self._said_from.take(prefix, milliseconds) or self._datagrams.take(0, milliseconds):
            self.counts["datagram", "dropped"] += 1
            return None
        now = self.wall()
        answer = self._answered(request, now, datagram=True, cookie=self._cookies.made(prefix, now))
        asked = answer.asked
        if asked is None and answer.code is Code.GENERIC:
            return None  # it is no request, and who sent it may be anybody
        proved = asked is not None and self._cookies.good(asked.cookie, prefix, now)
        answer = self._judged(answer, address, now, proved=proved)
        return answer.reply if proved else self._short_enough(answer, 2 * len(request), now)

    def may_ask(self, address: str) -> bool:
        """Whether one more request is taken from who has a connection from there."""
        return not self._of_address.take(address_prefix(address), clock.milliseconds())

    def request(self, request: bytes, address: str) -> bytes:
        """Return the answer to a request that came over a connection."""
        now = self.wall()
        answer = self._answered(request, now, datagram=False, cookie=b"")
        return self._judged(answer, address, now, proved=True).reply

    def too_long(self) -> bytes:
        """The answer to who announces more than is ever read."""
        error = KerberosError(Code.FIELD_TOO_LONG, "the request is too long")
        return self._kdc.refusal(error, self.wall()).reply

    def _permits(self, client: Entry, server: Entry) -> bool:
        return client.owner == server.owner or self.issuing.permits(client.owner, server.owner)

    def _answered(self, request: bytes, now: float, *, datagram: bool, cookie: bytes) -> Answer:
        if self.is_current:
            return self._kdc.answer(request, now, datagram=datagram, cookie=cookie)
        text = "this KDC is cut off from the others"
        return self._kdc.refusal(KerberosError(Code.SERVICE_UNAVAILABLE, text), now)

    def _judged(self, answer: Answer, address: str, now: float, *, proved: bool) -> Answer:
        """Count it, tell of it; who fails too often is not told whether he still does."""
        asked = answer.asked
        if proved and asked is not None and asked.initial:
            milliseconds = clock.milliseconds()
            bucket = asked.client, address_prefix(address)
            if self._failures.wait(bucket, milliseconds):
                error = KerberosError(Code.SERVICE_UNAVAILABLE, "too many failures from there")
                answer = self._kdc.refusal(error, now)
            elif answer.code is Code.PREAUTH_FAILED and not answer.again:
                self._failures.take(bucket, milliseconds)
        self._count(answer, asked)
        self._tell(answer, asked, address, proved=proved)
        return answer

    def _count(self, answer: Answer, asked: Asked | None) -> None:
        exchange = "other" if asked is None else "as" if asked.initial else "tgs"
        outcome = "issued" if answer.code is None else answer.code.name.lower()
        if answer.again:
            outcome = "repeated"
        self.counts[exchange, outcome] += 1

    def _tell(self, answer: Answer, asked: Asked | None, address: str, *, proved: bool) -> None:
        if asked is None or answer.again or answer.code is Code.PREAUTH_REQUIRED:
            return  # the same again, no request at all, or the first half of one
        owner = self.principals.owner_of(asked.client) if asked.client else None
        known = owner is not None and self.store.get(owner) is not None
        server = _shown(asked.server)
        if answer.code is None:
            line = Audit("kerberos-issued", owner or "", address, server)
        else:
            code = answer.code.name.lower().replace("_", "-")
            detail = f"{code} {server}".strip()
            name = (owner or "") if known else ""
            line = Audit("kerberos-refused", name, address, detail, unproven=True)
        self.tell(line)

    def _short_enough(self, answer: Answer, limit: int, now: float) -> bytes | None:
        """What is sent to who may be somebody else: less than twice what came, or nothing."""
        if len(answer.reply) < limit:
            return answer.reply
        errors = [KerberosError(Code.TOO_BIG, "")]
        if answer.error is not None:
            errors.insert(0, answer.error)
        for error in errors:
            brief = self._kdc.refusal(error, now, brief=True).reply
            if len(brief) < limit:
                return brief
        return None


def _policy(settings: KerberosSettings) -> Policy:
    return Policy(
        max_life=settings.life,
        max_renewable_life=settings.renewable_life,
        advertise_fast=settings.advertise_fast,
        password_advice=settings.advice,
    )


def _shown(components: tuple[str, ...]) -> str:
    """A name from the network, as a word of a log."""
    text = "/".join(components)
    return ascii(text)[1:-1].replace(" ", "\\x20")[:_MAX_NAME]
