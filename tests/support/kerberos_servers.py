"""Servers that let in whoever comes with a Kerberos ticket: of the web, sshd, PostgreSQL.

They are those of the machine, with a keytab and a krb5.conf of a test's realm; what this
machine does not have is skipped.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from unittest import SkipTest

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import TOP, Program, reserved_port
from tests.support.sshd import privately

__all__ = ["PYTHON", "Machine", "need", "negotiating", "postgres", "programs_path", "sshd"]

# The one that Debian's python3-gssapi is of.
PYTHON = "/usr/bin/python3"


def programs_path() -> str:
    """Where programs are looked for: servers are not everybody's."""
    postgres = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", *postgres])


def need(*names: str, package: str, path: str = "") -> None:
    """Skip the test unless these programs are there."""
    missing = [name for name in names if shutil.which(name, path=path or programs_path()) is None]
    if missing:
        raise SkipTest(f"this machine has no {', '.join(missing)} (Debian: {package})")


@attrs.frozen
class Machine:
    """What programs of a machine that is in a realm see; ``environment`` names the two files."""

    case: SynchronousTestCase
    directory: Path
    krb5_config: Path
    keytab: Path
    environment: Mapping[str, str]

    def run(self, argv: list[str], typed: str = "", status: int = 0) -> str:
        """Run a program; return all that it printed."""
        done = subprocess.run(
            argv,
            input=typed,
            cwd=self.directory,
            env=dict(self.environment),
            text=True,
            errors="replace",  # Heimdal's notices have been seen with bytes that are no text
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        self.case.assertEqual(done.returncode, status, f"{argv}: {done.stdout}")
        return done.stdout

    def serve(self, argv: list[str], **more: str) -> Program:
        """Start what serves until the test ends."""
        environment = {**self.environment, **more}
        program = Program(argv, directory=self.directory, environment=environment, merged=True)
        self.case.addCleanup(program.end)
        return program


def negotiating(machine: Machine) -> list[str]:
    """Start a web server for HTTP/localhost; return the beginning of a line of curl."""
    need("curl", PYTHON, package="curl, python3-gssapi")
    if "Kerberos" not in machine.run(["curl", "--version"]):
        raise SkipTest("this curl has no Kerberos")
    probe = subprocess.run([PYTHON, "-c", "import gssapi"], capture_output=True, check=False)
    if probe.returncode:
        raise SkipTest("this machine has no gssapi for Python (Debian: python3-gssapi)")
    server = machine.serve([PYTHON, str(TOP / "tests" / "support" / "negotiate_server.py")])
    url = f"http://localhost:{server.expect('port ([0-9]+)')[1]}/"
    return ["curl", url, *("-sS", "--noproxy", "*", "-u", ":", "--negotiate", "-w", "%{http_code}")]


def sshd(machine: Machine) -> list[str]:
    """Start one for host/localhost that takes tickets only; return the options of ssh for it."""
    need("ssh", "ssh-keygen", "sshd", package="openssh-client, openssh-server")
    key = machine.directory / "host_key"
    machine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    port = reserved_port()
    config = machine.directory / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {key}\nPidFile none\nUsePAM no\n"
        "StrictModes no\nPermitRootLogin yes\nAuthorizedKeysFile none\n"
        "PasswordAuthentication no\nPubkeyAuthentication no\nGSSAPIAuthentication yes\n"
        "GSSAPIStrictAcceptorCheck no\n"  # it is host/localhost, whatever the machine is called
        f"SetEnv KRB5_CONFIG={machine.krb5_config}\n",
        "utf-8",
    )
    path = shutil.which("sshd", path=programs_path()) or ""  # it wants to be called by its path
    server = machine.serve([*privately([path, "-D", "-e", "-f", str(config)])])
    server.expect("listening on")
    known = machine.directory / "known_hosts"
    public = " ".join(key.with_suffix(".pub").read_text("utf-8").split()[:2])
    known.write_text(f"[localhost]:{port} {public}\n", "utf-8")
    return [
        *("-F", "/dev/null", "-p", str(port), "-o", f"UserKnownHostsFile={known}"),
        *("-o", "BatchMode=yes", "-o", "GSSAPIAuthentication=yes"),
    ]


def postgres(machine: Machine) -> int:
    """Start a cluster for postgres/localhost in which alice may log in by Kerberos, and nobody
    otherwise; return its port.
    """
    need("psql", "initdb", "postgres", "setpriv", package="postgresql")
    home = Path(tempfile.mkdtemp(prefix="kdc-postgres-"))
    machine.case.addCleanup(shutil.rmtree, home, ignore_errors=True)
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    become: list[str] = []
    if os.geteuid() == 0:  # as which PostgreSQL does not run
        ids = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
        become = ["setpriv", *ids, "--"]
    config, keytab = home / "krb5.conf", home / "krb5.keytab"
    for ours, its in ((machine.krb5_config, config), (machine.keytab, keytab)):
        shutil.copy(ours, its)
    for path in (home, config, keytab):
        os.chown(path, account.pw_uid, account.pw_gid)
    data, how = str(home / "data"), "-U postgres -A reject -E UTF8 --no-sync --no-locale"
    there = attrs.evolve(machine, directory=home)
    there.run([*become, "initdb", "-D", data, *how.split()])
    # alice has to be there before anybody can log in.
    single = [*become, "postgres", "--single", "-D", data, "postgres"]
    there.run(single, "create role alice login\n")
    hba = home / "data" / "pg_hba.conf"
    hba.write_text("hostgssenc all all 127.0.0.1/32 gss include_realm=0\n", "utf-8")
    port = reserved_port()
    options = (f"krb_server_keyfile={keytab}", "fsync=off")
    server = there.serve(
        [
            *(*become, "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1"),
            *("-k", str(home), *(word for option in options for word in ("-c", option))),
        ],
        KRB5_CONFIG=str(config),
        KRB5RCACHEDIR=str(home),
    )
    server.expect("ready to accept connections")
    # Before its directory goes; killed, it would leave processes behind for a moment.
    machine.case.addCleanup(server.wait)
    machine.case.addCleanup(server.signal, signal.SIGQUIT)
    return port
