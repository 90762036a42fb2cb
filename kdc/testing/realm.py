"""`Realm`: a Kerberos realm for tests, and what is in it."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from kdc.kerberos.ccache import Credential, ccache
from kdc.kerberos.keys import DEFAULT_ETYPES
from kdc.kerberos.keytab import KeytabEntry, keytab
from kdc.kerberos.krb5conf import ClientConfiguration, krb5_conf
from kdc.kerberos.names import Principal, parsed
from kdc.kerberos.profile import Key
from kdc.kerberos.tickets import Flag
from kdc.testing._backends import Backend, Child, Thread
from kdc.testing._host import HostSettings
from kdc.testing._private_files import write_private
from kdc.testing.client import Client, Wanted, over_tcp

__all__ = ["Clock", "Realm", "Service", "User"]


class Realm:
    """A realm with a KDC on a free port of this machine, for as long as the test wants it.

    It begins with its ticket-granting service only.  `environment` is what programs need to
    find it; with `environ` that is set in this process.  ``in_process`` has it run in a thread:
    it starts at once, and a test that is killed leaves a directory behind.
    """

    def __init__(
        self,
        name: str = "KRBTEST.COM",
        *,
        in_process: bool = False,
        directory: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        kpasswd_port: int = 0,
        etypes: tuple[int, ...] = DEFAULT_ETYPES,
        max_life: int = 24 * 3600,
        max_renewable_life: int = 7 * 24 * 3600,
        skew_seconds: int = 300,
        advertise_fast: bool = False,
        libdefaults: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.etypes = etypes
        self._libdefaults = dict(libdefaults or {})
        settings = HostSettings(
            name,
            host,
            port,
            kpasswd_port,
            etypes,
            max_life,
            max_renewable_life,
            skew_seconds,
            advertise_fast,
        )
        given = directory is not None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="kdc-realm-"))
        self._keytab: list[KeytabEntry] = []
        self._closed = False
        kind = Thread if in_process else Child
        self._backend: Backend = kind(settings, None if given else self.directory)
        atexit.register(self.close)
        try:
            self.clock = Clock(self._backend)
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Realm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and remove its directory unless that was given."""
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            self._backend.close()

    @property
    def pid(self) -> int:
        """The process that answers; with ``in_process`` it is this one."""
        return self._backend.pid

    def start(self) -> None:
        """Answer again after `stop`, on the same port."""
        ports = self._call("start")
        self.port, self.kpasswd_port = ports["port"], ports["kpasswd_port"]
        self._write("krb5.conf", self.krb5_conf().encode())
        self._write("krb5.keytab", keytab(self._keytab))

    def stop(self) -> None:
        """Free the port.  The principals stay."""
        self._call("stop")

    def pause(self) -> None:
        """Leave requests unanswered, as if packets were lost; the port stays open."""
        self._call("pause", paused=True)

    def resume(self) -> None:
        self._call("pause", paused=False)

    def fail_next(self, error: int, times: int = 1) -> None:
        """Answer the next requests with that error of RFC 4120 section 7.5.9."""
        self._call("fail_next", error=error, times=times)

    @property
    def decisions(self) -> list[str]:
        """What was answered lately: the number of the error, or 0, and a text."""
        return list(self._call("decisions"))

    # Principals

    def user(self, name: str, password: str | None = None, **attributes: Any) -> User:
        """Add somebody with a password, a random one unless it is given.

        ``preauth=False`` lets anybody have what is sealed with it; the other ``attributes``
        are those of `kdc.kerberos.keys.Entry`.
        """
        secret = secrets.token_urlsafe(12) if password is None else password
        principal = self.add(name, secret, **attributes)
        return User(self, principal, secret)

    def service(self, name: str, **attributes: Any) -> Service:
        """Add a service with random keys, and put them into `keytab`."""
        principal = self.add(name, None, **attributes)
        self._keytab += self.keytab_entries(str(principal))
        self._write("krb5.keytab", keytab(self._keytab))
        return Service(self, principal)

    def add(
        self,
        name: str,
        password: str | None,
        *,
        etypes: tuple[int, ...] | None = None,
        preauth: bool = True,
        **attributes: Any,
    ) -> Principal:
        """Add a principal with a password, or with random keys if that is None."""
        said = {"needs_preauth": preauth, **attributes}
        added = self._call("add", name=name, password=password, etypes=etypes, attributes=said)
        return parsed(added, self.name)

    def modify(self, name: str, **attributes: Any) -> None:
        """Change attributes, for example ``disabled=True``."""
        self._call("modify", name=name, attributes=attributes)

    def remove(self, name: str) -> None:
        self._call("remove", name=name)

    def change_password(self, name: str, password: str | None, *, keep: bool = False) -> int:
        """Give a principal new keys; return their version.  ``keep`` leaves the old ones good."""
        kvno: int = self._call("change", name=name, password=password, etypes=None, keep=keep)
        return kvno

    def show(self, name: str) -> dict[str, Any]:
        """Return what the realm knows of a principal, without its keys."""
        return dict(self._call("show", name=name))

    @property
    def principals(self) -> list[str]:
        return list(self._call("names"))

    def policy(self, name: str, **attributes: int) -> None:
        """Add or replace a policy for passwords: see `kdc.testing._database.PasswordPolicy`."""
        self._call("policy", name=name, attributes=attributes)

    def query(self, text: str) -> str:
        """Do what ``kadmin.local -q`` would; return what it would print."""
        return str(self._call("query", query=text))

    # Files

    @property
    def krb5_config(self) -> Path:
        return self.directory / "krb5.conf"

    @property
    def keytab(self) -> Path:
        """The keys of every service that was made by `service`."""
        return self.directory / "krb5.keytab"

    @property
    def ccache(self) -> Path:
        """Where `User.kinit` puts tickets."""
        return self.directory / "ccache"

    @property
    def environment(self) -> dict[str, str]:
        """What programs have to be started with."""
        return {
            "KRB5_CONFIG": str(self.krb5_config),
            "KRB5CCNAME": f"FILE:{self.ccache}",
            "KRB5_KTNAME": f"FILE:{self.keytab}",
            "KRB5_CLIENT_KTNAME": f"FILE:{self.directory / 'client.keytab'}",
            "KRB5RCACHEDIR": str(self.directory),
        }

    @contextlib.contextmanager
    def environ(self) -> Iterator[dict[str, str]]:
        """Have the environment of this process be that of the realm, and put it back."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            yield self.environment
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def krb5_conf(self) -> str:
        """Return the text of `krb5_config`."""
        return krb5_conf(
            ClientConfiguration(
                realm=self.name,
                kdc=f"{self.host}:{self.port}",
                kpasswd=f"{self.host}:{self.kpasswd_port}",
                etypes=self.etypes,
                settings=self._libdefaults,
                hosts=("localhost", ".localhost"),
            )
        )

    def keytab_entries(self, name: str) -> list[KeytabEntry]:
        """Return every key of a principal; no new ones are made."""
        principal = parsed(name, self.name)
        return [
            KeytabEntry(principal, kvno, Key(etype, bytes.fromhex(content)))
            for kvno, etype, content in self._call("keys", name=name)
        ]

    def write_keytab(self, path: Path, *names: str) -> Path:
        """Write the keys of these principals where only the owner can read them."""
        write_private(path, keytab(e for name in names for e in self.keytab_entries(name)))
        return path

    def write_passwords(self, users: Iterable[User]) -> Path:
        """Write a line ``NAME PASSWORD`` for each user, where only the owner can read it."""
        lines = "".join(f"{user.principal} {user.password}\n" for user in users)
        self._write("passwords", lines.encode())
        return self.directory / "passwords"

    def client(self) -> Client:
        """Return a client of this realm in Python; it follows `clock`."""
        return Client(self.name, over_tcp(self.host, self.port), self.clock.now)

    def _write(self, name: str, content: bytes) -> None:
        write_private(self.directory / name, content)

    def _call(self, command: str, /, **values: Any) -> Any:
        return self._backend.call(command, values)


class Clock:
    """The realm's clock: ahead of this machine's, or behind, by as much as the test wants."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.offset = 0.0

    def advance(self, seconds: float = 0, *, minutes: float = 0, hours: float = 0) -> None:
        """Move it on, or back by less than nothing."""
        self.offset += seconds + 60 * minutes + 3600 * hours
        self._backend.call("clock", {"offset": self.offset})

    def reset(self) -> None:
        self.offset = 0.0
        self.advance()

    def now(self) -> float:
        return time.time() + self.offset


@attrs.frozen
class Service:
    """A service of a realm; its keys are in the realm's keytab."""

    realm: Realm
    principal: Principal

    def __str__(self) -> str:
        return str(self.principal)

    def write_keytab(self, path: Path) -> Path:
        """Write the keys of this service only."""
        return self.realm.write_keytab(path, str(self.principal))


@attrs.frozen
class User:
    """Somebody with a password."""

    realm: Realm
    principal: Principal
    password: str = attrs.field(repr=False)

    def __str__(self) -> str:
        return str(self.principal)

    def kinit(
        self,
        path: Path | None = None,
        *,
        life: float | None = None,
        renewable: float | None = None,
        start: float | None = None,
        forwardable: bool = True,
    ) -> Credential:
        """Get a ticket-granting ticket into the realm's credential cache, or into ``path``.

        ``life`` and ``renewable`` are how long it is good and can be renewed, ``start`` how
        long from now it begins, in seconds.  No Kerberos program is needed for it.
        """
        now = self.realm.clock.now()
        options = Flag.PROXIABLE | (Flag.FORWARDABLE if forwardable else 0)
        if renewable is not None:
            options |= Flag.RENEWABLE
        if start is not None:
            options |= Flag.POSTDATED | Flag.MAY_POSTDATE
        wanted = Wanted(
            options=int(options),
            start=None if start is None else int(now + start),
            till=0 if life is None else int(now + (start or 0) + life),
            renew_till=None if renewable is None else int(now + renewable),
            etypes=self.realm.etypes,
        )
        credential = self.realm.client().initial(self.principal, self.password, wanted)
        self.write_ccache(credential, path=path)
        return credential

    def write_ccache(self, *credentials: Credential, path: Path | None = None) -> Path:
        """Write a credential cache with these tickets."""
        target = self.realm.ccache if path is None else path
        write_private(target, ccache(self.principal, credentials))
        return target
