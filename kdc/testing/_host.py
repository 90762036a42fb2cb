"""A realm at work: its principals, its KDC on a port, and what a test may do to both.

Everything here can be asked for by a name and values of JSON (`Host.call`), so that it is the
same whether the realm runs in a thread or in another process.
"""

from __future__ import annotations

import ipaddress
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import attrs

from kdc.errors import ConfigurationError
from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.kdc import KDC
from kdc.kerberos.keys import DEFAULT_ETYPES, Entry
from kdc.kerberos.kpasswd import Change, PasswordService, Result
from kdc.kerberos.messages import HostAddress
from kdc.kerberos.names import check_realm
from kdc.kerberos.realm import Policy, Realm
from kdc.testing import _kadmin, _statefile
from kdc.testing._database import Database, PasswordPolicy
from kdc.testing.loop import Loop, Service

__all__ = ["Host", "HostSettings"]

# How many of the latest decisions can be looked at.
_REMEMBERED = 1000
# RFC 4120 section 7.5.3.
_IPV4, _IPV6 = 2, 24


@attrs.frozen
class HostSettings:
    """What a realm is made of; values of JSON only."""

    realm: str
    host: str = "127.0.0.1"
    port: int = 0
    kpasswd_port: int = 0
    etypes: tuple[int, ...] = DEFAULT_ETYPES
    max_life: int = 24 * 3600
    max_renewable_life: int = 7 * 24 * 3600
    skew_seconds: int = 300
    advertise_fast: bool = False
    # A file that other processes change as well; without one the principals are in memory.
    state: str | None = None


class Host:
    """One realm.  `call` may come from any thread."""

    def __init__(self, settings: HostSettings) -> None:
        try:
            check_realm(settings.realm)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        self._settings = settings
        self._lock = threading.RLock()
        self._offset = 0.0
        self._failures: deque[int] = deque()
        self._decided: deque[str] = deque(maxlen=_REMEMBERED)
        self._database = Database(settings.realm, tuple(settings.etypes), clock=self._now)
        self._state = None if settings.state is None else Path(settings.state)
        self._seen: tuple[int, int] | None = None
        if self._state is None:
            self._database.create()
        else:
            self._reload()
        policy = Policy(
            max_life=settings.max_life,
            max_renewable_life=settings.max_renewable_life,
            skew_seconds=settings.skew_seconds,
            etypes=tuple(settings.etypes),
            advertise_fast=settings.advertise_fast,
        )
        realm = Realm(settings.realm, self._database.entries.get, os.urandom, policy)
        self._kdc = KDC(realm)
        self._loop: Loop | None = None
        self._port = settings.port
        self._kpasswd_port = settings.kpasswd_port
        address = HostAddress(_IPV6 if ":" in settings.host else _IPV4, _packed(settings.host))
        self._passwords = PasswordService(realm, self._change, address)
        self._paused = False

    def call(self, name: str, values: dict[str, Any]) -> Any:
        """Do what is called ``name``; raises `ConfigurationError` if it cannot be done."""
        if name in ("stop", "pause"):  # wait for the other thread, which may wait for the lock
            return getattr(self, f"do_{name}")(**values)
        with self._lock:
            return getattr(self, f"do_{name}")(**values)

    def close(self) -> None:
        """Answer no more; the port is free when this returns."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def _now(self) -> float:
        return time.time() + self._offset

    def _answer(self, request: bytes, datagram: bool) -> bytes:
        with self._lock:
            self._reload()
            if self._failures:
                code = Code(self._failures.popleft())
                error = KerberosError(code, "this answer was ordered by the test")
                answer = self._kdc.refusal(error, self._now())
            else:
                answer = self._kdc.answer(request, self._now(), datagram=datagram)
            code_text = "0" if answer.code is None else f"{answer.code:d}"
            self._decided.append(f"{code_text} {answer.text}")
            return answer.reply

    def _too_long(self) -> bytes:
        error = KerberosError(Code.FIELD_TOO_LONG, "the request is too long")
        return self._kdc.refusal(error, self._now()).reply

    def do_start(self) -> dict[str, int]:
        """Listen; on the same port as before, if there was one."""
        if self._loop is None:
            loop = Loop()
            try:
                self._bind(loop)
            except OSError as error:
                loop.close()
                where = f"{self._settings.host} port {self._port} or {self._kpasswd_port}"
                text = f"cannot listen on {where}: {error.strerror}"
                hint = "port 0 is any that is free"
                raise ConfigurationError(text, hint=hint) from None
            loop.pause(self._paused)
            loop.start()
            self._loop = loop
        return {"port": self._port, "kpasswd_port": self._kpasswd_port}

    def _bind(self, loop: Loop) -> None:
        host = self._settings.host
        self._port = loop.bind(host, self._port, Service(self._answer, self._too_long))
        service = Service(self._changed, lambda: None)
        self._kpasswd_port = loop.bind(host, self._kpasswd_port, service)

    def _changed(self, request: bytes, datagram: bool) -> bytes | None:
        with self._lock:
            if self._state is None:
                return self._passwords.answer(request, self._now())
            with _statefile.locked(self._state):
                self._reload()
                answer = self._passwords.answer(request, self._now())
                _statefile.save(self._database, self._state)
            return answer

    def _reload(self) -> None:
        """Have what others have changed in the file."""
        if self._state is not None:
            found = self._state.stat() if self._state.exists() else None
            mark = None if found is None else (found.st_ino, found.st_mtime_ns)
            if mark is None or mark != self._seen:
                self._seen = mark
                _statefile.load(self._database, self._state)

    def _change(self, change: Change) -> tuple[Result, str]:
        """RFC 3244: everybody his own, an administrator anybody's."""
        if change.client != change.target and change.client.components[1:] != ("admin",):
            return Result.ACCESS_DENIED, f"{change.client} may change its own password only"
        entry = self._database.entries.get(change.target)
        if entry is None:
            return Result.HARD_ERROR, f"there is no principal {change.target}"
        fault = self._database.fault(entry, change.password)
        if fault:
            return Result.SOFT_ERROR, fault
        self._database.change(str(change.target), change.password)
        return Result.SUCCESS, "the password has been changed"

    def do_pause(self, paused: bool) -> None:
        self._paused = paused
        if self._loop is not None:
            self._loop.pause(paused)

    def do_stop(self) -> None:
        self.close()

    def do_clock(self, offset: float) -> None:
        self._offset = offset

    def do_fail_next(self, error: int, times: int) -> None:
        try:
            self._failures.extend([Code(error)] * times)
        except ValueError:
            hint = f"there are {', '.join(f'{code:d}' for code in Code)}"
            raise ConfigurationError(f"this KDC has no error {error}", hint=hint) from None

    def do_decisions(self) -> list[str]:
        return list(self._decided)

    def do_add(
        self, name: str, password: str | None, etypes: list[int] | None, attributes: dict[str, Any]
    ) -> str:
        entry = self._database.add(name, password, _numbers(etypes), **attributes)
        return str(entry.principal)

    def do_change(
        self, name: str, password: str | None, etypes: list[int] | None, keep: bool
    ) -> int:
        return self._database.change(name, password, _numbers(etypes), keep=keep).kvno

    def do_modify(self, name: str, attributes: dict[str, Any]) -> None:
        self._database.modify(name, **attributes)

    def do_remove(self, name: str) -> None:
        self._database.remove(name)

    def do_query(self, query: str) -> str:
        return _kadmin.answered(self._database, query)

    def do_policy(self, name: str, attributes: dict[str, Any]) -> None:
        self._database.policies[name] = PasswordPolicy(**attributes)

    def do_names(self) -> list[str]:
        return sorted(map(str, self._database.entries))

    def do_show(self, name: str) -> dict[str, Any]:
        entry = self._database.get(name)
        shown = attrs.asdict(entry, filter=lambda field, _: field.name not in ("principal", "keys"))
        return {**shown, "principal": str(entry.principal), "kvno": entry.kvno}

    def do_keys(self, name: str) -> list[tuple[int, int, str]]:
        """Every key: version, type and hexadecimal content."""
        entry: Entry = self._database.get(name)
        return [
            (kvno, etype, keys.key(etype).content.hex())
            for kvno, keys in sorted(entry.keys.items())
            for etype in keys.etypes
        ]


def _packed(host: str) -> bytes:
    try:
        return ipaddress.ip_address(host).packed
    except ValueError:
        raise ConfigurationError(f"{host!r} is no address", hint="take 127.0.0.1") from None


def _numbers(etypes: list[int] | None) -> tuple[int, ...] | None:
    return None if etypes is None else tuple(etypes)
