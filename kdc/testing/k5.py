"""`K5Realm`: what suites written for k5test use, without k5test and without a KDC on the machine.

``from kdc.testing.k5 import K5Realm`` takes the place of ``from k5test import K5Realm``.  Where
it differs: ports are free ones unless ``portbase`` is given; nothing is left behind when the test
is killed; ``kdc.conf`` is written, but of it only what `K5Realm` names counts; there is no kadmin
protocol, so that `K5Realm.run_kadmin` is answered as `K5Realm.run_kadminl` is.
"""

from __future__ import annotations

import functools
import shlex
import shutil
import subprocess
import unittest
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdc.errors import ConfigurationError
from kdc.testing import _kinit
from kdc.testing._k5_places import KDC_PORT, KPASSWD_PORT, Places
from kdc.testing._private_files import write_private
from kdc.testing._profiles import Profile, profile_text
from kdc.testing.realm import Realm

__all__ = ["CommandFailed", "K5Realm", "KerberosTestCase"]

_PROGRAMS = ("kdb5_util", "krb5kdc", "kadmin", "kadmin.local", "kadmind", "kprop", "kinit", "klist")


class CommandFailed(ConfigurationError):
    """A program has ended with another status than it should; the text has what it printed."""


class _ConfiguredRealm(Realm):
    """A realm whose krb5.conf has another text."""

    def __init__(self, text: Callable[[Realm], str], name: str, **settings: Any) -> None:
        self._text = text
        super().__init__(name, **settings)

    def krb5_conf(self) -> str:
        return self._text(self)


class K5Realm(Places):
    """A Kerberos realm of k5test's interface; see its documentation for what is not said here.

    Of ``kdc_conf``, in the realm's section, these count: ``max_life``, ``max_renewable_life``,
    ``supported_enctypes``.  ``$realm``, ``$tmpdir``, ``$hostname`` and ``$port0`` to ``$port9``
    are filled in.
    """

    def __init__(
        self,
        realm: str = "KRBTEST.COM",
        portbase: int | None = None,
        krb5_conf: Profile | None = None,
        kdc_conf: Profile | None = None,
        create_kdb: bool = True,
        krbtgt_keysalt: str | None = None,
        create_user: bool = True,
        get_creds: bool = True,
        create_host: bool = True,
        start_kdc: bool = True,
        start_kadmind: bool = False,
        existing: str | None = None,
        **paths: str,
    ) -> None:
        unknown = sorted(set(paths) - set(_PROGRAMS))
        if unknown:
            raise TypeError(f"K5Realm() has no argument {unknown[0]!r}")
        super().__init__(realm, portbase, krb5_conf, kdc_conf)
        self.is_existing = existing is not None
        self._paths = paths
        self._has_kdb = self._runs = self._has_kadmind = False
        self._realm: Realm | None = None
        if existing is not None:
            self.tmpdir = existing
        else:
            self._begin()
            try:
                self._fill(create_kdb, krbtgt_keysalt, create_user, create_host)
                if start_kdc and create_kdb:
                    self.start_kdc()
                if start_kadmind and create_kdb:
                    self.start_kadmind()
            except BaseException:
                self.stop()
                raise
        self.env = self._environment("krb5.conf", "kdc.conf")
        if get_creds and (self.is_existing or (create_kdb and create_user and start_kdc)):
            self.kinit(self.user_princ, self.password("user"))
            self.klist()

    def _begin(self) -> None:
        port, kpasswd_port = (
            0 if self._portbase is None else self._portbase + number
            for number in (KDC_PORT, KPASSWD_PORT)
        )
        self._realm = _ConfiguredRealm(
            self._configured, self.realm, port=port, kpasswd_port=kpasswd_port, **self._settings()
        )
        self._realm.stop()
        text = profile_text(self._kdc_conf, self._names())
        write_private(Path(self._path("kdc.conf")), text.encode())

    def _configured(self, started: Realm) -> str:
        """The text of krb5.conf, when the ports are known."""
        self.tmpdir = str(started.directory)
        self._ports[KDC_PORT], self._ports[KPASSWD_PORT] = started.port, started.kpasswd_port
        return profile_text(self._krb5_conf, self._names())

    def _fill(self, kdb: bool, keysalt: str | None, user: bool, host: bool) -> None:
        if not kdb:
            return
        self.create_kdb()
        if keysalt:
            self.change_password(self.krbtgt_princ, keysalt=keysalt)
        if user:
            self.addprinc(self.user_princ, self.password("user"))
            self.addprinc(self.admin_princ, self.password("admin"))
        if host:
            self.addprinc(self.host_princ)
            self.extract_keytab(self.host_princ, self.keytab)

    # Programs

    def run(
        self,
        args: Sequence[str],
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        expected_code: int = 0,
    ) -> bytes:
        """Run a program in the realm; return all that it prints.  Raises `CommandFailed`."""
        done = subprocess.run(  # noqa: S603 - what a test runs
            list(args),
            input=(input or "").encode(),
            env=dict(self.env if env is None else env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return _judged(shlex.join(args), done.returncode, done.stdout, expected_code)

    def kinit(
        self,
        princname: str,
        password: str | None = None,
        flags: Sequence[str] | None = None,
        verbose: bool = True,
        **keywords: Any,
    ) -> bytes:
        """Get a ticket by the machine's ``kinit``; by a smaller one in Python if it has none."""
        options = list(flags or ())
        program = self._program("kinit")
        if program is None:
            files = (Path(self.ccache), Path(self.keytab), Path(self.client_keytab))
            act = functools.partial(
                _kinit.kinit, self._started(), princname, password, options, files
            )
            return _here("kinit", act, keywords)
        command = [program]
        if self.provider == "heimdal":
            command += ["--password-file=STDIN"] if password else []
        else:
            command += ["-V"] if verbose else []
        typed = f"{password}\n" if password else None
        return self.run([*command, *options, princname], input=typed, **keywords)

    def klist(self, ccache: str | None = None, **keywords: Any) -> bytes:
        path, program = ccache or self.ccache, self._program("klist")
        if program is None:
            return _here("klist", lambda: _kinit.klist(_kinit.path_of(path)), keywords)
        option = ["-c"] if self.provider == "heimdal" else []
        return self.run([program, *option, path], **keywords)

    def klist_keytab(self, keytab: str | None = None, **keywords: Any) -> bytes:
        path, program = keytab or self.keytab, self._program("klist")
        if program is None or self.provider == "heimdal":
            return _here("klist", lambda: _kinit.klist_keytab(_kinit.path_of(path)), keywords)
        return self.run([program, "-k", path], **keywords)

    def _program(self, name: str) -> str | None:
        return self._paths.get(name) or shutil.which(name)

    # The database

    def create_kdb(self) -> None:
        """Make the database; until then there is none to ask."""
        self._has_kdb = True

    def addprinc(self, princname: str, password: str | None = None) -> None:
        self.run_kadminl(["addprinc", *_new_keys(password), princname])

    def change_password(
        self, principal: str, password: str | None = None, keysalt: str | None = None
    ) -> None:
        types = ["-e", keysalt] if keysalt else []
        self.run_kadminl(["cpw", *_new_keys(password), *types, principal])

    def extract_keytab(self, princname: str, keytab: str) -> None:
        self.run_kadminl(["ktadd", "-k", keytab, "-norandkey", princname])

    def run_kadminl(self, query: str | list[str], **keywords: Any) -> bytes:
        """Do what ``kadmin.local -q`` would; return what it would print."""
        text = query if isinstance(query, str) else shlex.join(query)
        return _here(_named("kadmin.local", text), lambda: self._asked(text), keywords)

    def prep_kadmin(
        self,
        princname: str | None = None,
        pw: str | None = None,
        flags: Sequence[str] | None = None,
    ) -> bytes:
        """Get the ticket that `run_kadmin` asks with."""
        if princname is None:
            princname, pw = self.admin_princ, self.password("admin")
        options = ["-S", "kadmin/admin", "-c", self.kadmin_ccache, *(flags or ())]
        return self.kinit(princname, pw, options)

    def run_kadmin(self, query: str, **keywords: Any) -> bytes:
        """As `run_kadminl`, once `prep_kadmin` has got a ticket and kadmind has been started."""

        def act() -> str:
            if not self._has_kadmind:
                raise ConfigurationError("kadmind does not run", hint="start it")
            _kinit.klist(Path(self.kadmin_ccache))
            return self._asked(query)

        return _here(_named("kadmin", query), act, keywords)

    def _asked(self, query: str) -> str:
        if not self._has_kdb:
            raise ConfigurationError("there is no database", hint="create it")
        return self._started().query(query) + "\n"

    # Daemons

    def start_kdc(self, args: object = None, env: object = None) -> None:
        """Answer on the realm's ports; what krb5kdc would be told is not needed."""
        if self._runs:
            raise ConfigurationError("the KDC has been started already", hint="stop it first")
        self._started().start()
        self._runs = True

    def stop_kdc(self) -> None:
        if not self._runs:
            raise ConfigurationError("the KDC does not run", hint="start it first")
        self._started().stop()
        self._runs = False

    def start_kadmind(self, env: object = None) -> None:
        """Have `run_kadmin` answered.  Passwords are changed at the KDC as long as it runs."""
        if self._has_kadmind:
            raise ConfigurationError("kadmind has been started already", hint="stop it first")
        self._has_kadmind = True

    def stop_kadmind(self) -> None:
        if not self._has_kadmind:
            raise ConfigurationError("kadmind does not run", hint="start it first")
        self._has_kadmind = False

    def kill_daemons(self) -> None:
        """Stop whatever runs."""
        if self._runs:
            self.stop_kdc()
        if self._has_kadmind:
            self.stop_kadmind()

    def stop(self) -> None:
        """End it, and remove its directory unless that was there before."""
        self._runs = self._has_kadmind = False
        if self._realm is not None:
            self._realm.close()

    def _started(self) -> Realm:
        if self._realm is None:
            hint = "ask where it was made, or install Kerberos programs"
            raise ConfigurationError("this realm is another process's", hint=hint)
        return self._realm


class KerberosTestCase(unittest.TestCase):
    """One `K5Realm` for all tests of a class."""

    realm: K5Realm

    @classmethod
    def setUpClass(cls) -> None:
        cls.realm = K5Realm()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.realm.stop()


def _new_keys(password: str | None) -> list[str]:
    return ["-randkey"] if password is None else ["-pw", password]


def _named(program: str, query: str) -> str:
    """For error texts: what is behind the first word can be a password."""
    return f"{program} -q {query.partition(' ')[0]}"


def _here(command: str, act: Callable[[], str], keywords: dict[str, Any]) -> bytes:
    """Do in this process what a program would; the keywords are those of `K5Realm.run`."""
    try:
        status, printed = 0, act()
    except (ConfigurationError, ValueError) as error:
        status, printed = 1, f"{error}\n"
    return _judged(command, status, printed.encode(), keywords.get("expected_code", 0))


def _judged(command: str, status: int, printed: bytes, expected: int) -> bytes:
    if status != expected:
        text = f"{command} ended with status {status}, not {expected}"
        hint = "see what it printed: " + printed.decode("utf-8", "replace").strip()
        raise CommandFailed(text, hint=hint)
    return printed
