"""A private Kerberos realm of MIT krb5 in a scratch directory, and real clients for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.figures import Figures
from bench.peers import Command, tool
from bench.population import name_of, sample
from bench.processes import Failed, Ran, Scratch, cpu_of, free_port, run

__all__ = ["Realm"]

_KRB5_CONF = """\
[libdefaults]
 default_realm = BENCH
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = {udp}
[realms]
 BENCH = {{
  kdc = 127.0.0.1:{port}
  admin_server = 127.0.0.1:{admin_port}
 }}
"""
# Without these a log-in writes into the database: when, and how often it failed.
_TUNED = """\
[dbmodules]
 BENCH = {{
  disable_last_success = true
  disable_lockout = true
 }}
"""
# Pre-authentication for everybody, and a log of what is issued, as any realm has it.
_KDC_CONF = """\
[realms]
 BENCH = {{
  database_name = {room}/principal
  key_stash_file = {room}/stash
  kdc_listen = 127.0.0.1:{port}
  kdc_tcp_listen = 127.0.0.1:{port}
  admin_keytab = {room}/kadm5.keytab
  acl_file = {room}/kadm5.acl
  kadmind_port = {admin_port}
  kpasswd_port = {password_port}
  default_principal_flags = +preauth
 }}
{more}[logging]
 kdc = FILE:{room}/kdc.log
"""
_CLIENT, _ADMIN = "client", "client/admin"


class Realm:
    """A KDC whose database has so many principals more than a fresh one."""

    def __init__(self, scratch: Scratch, principals: int) -> None:
        self.scratch = scratch
        self.principals = principals
        self.room = scratch.room(f"krb5-{principals}")
        self.port, self._admin_port = free_port(), free_port()
        for name, udp in (("krb5.conf", 1465), ("tcp.conf", 1)):
            text = _KRB5_CONF.format(port=self.port, udp=udp, admin_port=self._admin_port)
            (self.room / name).write_text(text)
        self._configure(tuned=False)
        (self.room / "kadm5.acl").write_text(f"{_ADMIN}@BENCH *\n")
        if not (self.room / "principal").exists():
            self._fill()
        self._start()

    def _configure(self, tuned: bool) -> None:
        (self.room / "kdc.conf").write_text(
            _KDC_CONF.format(
                room=self.room,
                port=self.port,
                admin_port=self._admin_port,
                password_port=free_port(),
                more=_TUNED.format() if tuned else "",
            )
        )

    def _start(self) -> None:
        self._child = self.scratch.start(
            [tool("krb5kdc"), "-n", "-P", self.room / "pid"], env=self.env(), port=self.port
        )

    @contextlib.contextmanager
    def tuned(self, tuned: bool = True) -> Iterator[None]:
        """The KDC with a log-in that writes nothing, while it lasts."""
        if not tuned:
            yield
            return
        self._restart(tuned=True)
        try:
            yield
        finally:
            self._restart(tuned=False)

    def _restart(self, tuned: bool) -> None:
        self.stop()
        self._configure(tuned)
        self._start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def env(self, udp: bool = True) -> dict[str, str]:
        return {
            "KRB5_CONFIG": str(self.room / ("krb5.conf" if udp else "tcp.conf")),
            "KRB5_KDC_PROFILE": str(self.room / "kdc.conf"),
            "KRB5CCNAME": f"FILE:{self.room}/ccache",
        }

    def stop(self) -> None:
        self.scratch.stop(self._child)

    def _admin(self, *queries: str) -> None:
        for query in queries:
            self._run("kadmin.local", "-q", query)

    def _run(self, name: str, *arguments: str | Path) -> bytes:
        return run([tool(name), *arguments], env=self.env()).output

    def _fill(self) -> None:
        """Copy one principal's line of a dump: names are not bound to keys there."""
        self._run("kdb5_util", "create", "-s", "-P", "only a measurement")
        for name in (_CLIENT, _ADMIN):
            self._admin(f"addprinc -randkey {name}", f"ktadd -norandkey -k {self.keytab} {name}")
        dump = self.room / "dump"
        self._run("kdb5_util", "dump", dump)
        lines = dump.read_text().splitlines()
        fields = next(line for line in lines if f"\t{_CLIENT}@BENCH\t" in line).split("\t")
        with dump.open("a") as file:
            for number in range(self.principals):
                fields[6] = f"{name_of(number)}@BENCH"
                fields[2] = str(len(fields[6]))
                file.write("\t".join(fields) + "\n")
        self._run("kdb5_util", "load", dump)
        dump.unlink()

    @property
    def keytab(self) -> Path:
        return self.room / "keytab"

    def login(self) -> None:
        """AS exchange with pre-authentication; the ticket-granting ticket is kept."""
        self._run("kinit", "-k", "-t", self.keytab, _CLIENT)

    def login_and_one_ticket(self, count: int, tuned: bool = False) -> Figures:
        """kinit, then one service ticket, ``count`` times."""
        with self.tuned(tuned):
            return self._logins(count)

    def _logins(self, count: int) -> Figures:
        cpu, begun = cpu_of(self.pid), time.monotonic()
        for number in sample(count, self.principals, 2):
            self.login()
            said = self._run("kvno", "--no-store", name_of(number))
            if b"kvno = " not in said:
                raise Failed(f"kvno: {said!r}")
        seconds = time.monotonic() - begun
        return {
            "us": (cpu_of(self.pid) - cpu) / count * 1e6,
            "per_second": count / seconds,
            "count": count,
        }

    def tickets(self, clients: int, each: int, udp: bool = True) -> Figures:
        """``clients`` processes at a time get ``each`` service tickets one after the other.

        Each request bears a fresh authenticator; the library opens each reply
        with the session key of the ticket-granting ticket.
        """
        self.login()
        services = [name_of(number) for number in sample(clients * each, self.principals, clients)]
        cpu, begun = cpu_of(self.pid), time.monotonic()
        running = []
        try:
            for at in range(clients):
                cache = self.room / f"ccache{at}"
                shutil.copy(self.room / "ccache", cache)
                wanted = services[at * each : (at + 1) * each]
                running.append(
                    subprocess.Popen(
                        [tool("kvno"), "--no-store", *wanted],
                        env={**os.environ, **self.env(udp), "KRB5CCNAME": f"FILE:{cache}"},
                        stdout=subprocess.PIPE,
                    )
                )
            outputs = [child.communicate(timeout=120)[0] for child in running]
        finally:
            for child in running:
                child.kill()
        seconds = time.monotonic() - begun
        count = sum(output.count(b": kvno = ") for output in outputs)
        if count != clients * each:
            raise Failed(f"{count} tickets instead of {clients * each}")
        return {
            "us": (cpu_of(self.pid) - cpu) / count * 1e6,
            "per_second": count / seconds,
            "count": count,
        }

    def native(
        self, kinds: Sequence[str], count: int, outstanding: int, tuned: bool = False
    ) -> Figures:
        """The same by requests that were made before, see `bench.kload`."""
        with self.tuned(tuned):
            settings = {
                "realm": "BENCH",
                "port": self.port,
                "pid": self.pid,
                "keytab": str(self.keytab),
                "client": _CLIENT,
                "kinds": kinds,
                "count": count,
                "principals": self.principals,
                "outstanding": outstanding,
            }
            done = run([sys.executable, "-m", "bench.kload", json.dumps(settings)])
        figures: Figures = json.loads(done.output)
        return figures

    def add_over_network(self, count: int, first: int) -> Figures:
        """The same by one ``kadmin`` over the network, from kadmind, which looks who asks."""
        script = "".join(f"addprinc -randkey far{n:08d}\n" for n in range(first, first + count))
        argv: Command = [tool("kadmind"), "-nofork", "-P", self.room / "kadmind.pid"]
        with (self.room / "script").open("w+b") as file:
            file.write(script.encode())
            file.seek(0)
            with self.scratch.running(argv, env=self.env(), port=self._admin_port) as server:
                cpu = cpu_of(server.pid)
                command: Command = [tool("kadmin"), "-p", _ADMIN, "-k", "-t", self.keytab]
                done = run(command, env=self.env(), stdin=file)
                cpu = cpu_of(server.pid) - cpu
        return self._made(done, count) | {"us": cpu / count * 1e6}

    def add_principals(self, count: int, first: int) -> Figures:
        """Durable registrations by one ``kadmin.local`` that is given one after the other."""
        script = "".join(f"addprinc -randkey new{n:08d}\n" for n in range(first, first + count))
        with (self.room / "script").open("w+b") as file:
            file.write(script.encode())
            file.seek(0)
            done = run([tool("kadmin.local")], env=self.env(), stdin=file)
        return self._made(done, count) | {"us": done.cpu_seconds / count * 1e6}

    def _made(self, done: Ran, count: int) -> Figures:
        created = done.output.count(b" created.")
        if created != count:
            raise Failed(f"{created} of {count} principals were made")
        return {"per_second": count / done.seconds, "count": count}
