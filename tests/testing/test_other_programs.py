"""Programs that log in by Kerberos, against the realm: Heimdal's, curl, ssh, psql.

What this machine does not have is skipped.  Heimdal's programs cannot be installed beside
MIT's: `make heimdal` unpacks them into build/heimdal.
"""

from __future__ import annotations

import getpass
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from kdc.kerberos.profile import PROFILES
from tests.support.processes import TOP, reserved_port
from tests.support.realm_programs import RealmTestCase

HEIMDAL = TOP / "build" / "heimdal"
# The one that Debian's python3-gssapi is of.
PYTHON = "/usr/bin/python3"


class HeimdalTests(RealmTestCase):
    needs = ("kinit.heimdal", "klist.heimdal", "kgetcred")
    package = "heimdal-clients, by make heimdal"

    def path(self) -> str:
        return os.pathsep.join([super().path(), str(HEIMDAL / "usr" / "bin")])

    def heimdal(self, line: str, typed: str = "", status: int = 0) -> str:
        libraries = os.pathsep.join(glob.glob(f"{HEIMDAL}/usr/lib/*-linux-gnu*"))
        return self.run_program(line, typed, status, LD_LIBRARY_PATH=libraries)

    def test_password(self) -> None:
        """A ticket by password and one of a service; what is wrong is told."""
        password = self.realm.directory / "password"
        password.write_text("pw\n", "utf-8")
        self.heimdal(f"kinit.heimdal --password-file={password} alice")
        self.heimdal("kgetcred HTTP/localhost")
        self.assertIn("HTTP/localhost@KRBTEST.COM", self.heimdal("klist.heimdal klist"))
        self.heimdal("kgetcred HTTP/elsewhere", status=1)
        self.assertTrue(self.realm.decisions[-1].startswith("7 "))
        password.write_text("no\n", "utf-8")
        said = self.heimdal(f"kinit.heimdal --password-file={password} alice", status=1)
        self.assertIn("Password incorrect", said)

    def test_keytab(self) -> None:
        """By keytab, with each type that Heimdal has; renewed."""
        known = self.heimdal("kinit.heimdal --version")
        for etype in (18, 17) if "7." in known else PROFILES:
            self.realm = self.new_realm(etypes=(etype,))
            self.realm.service("HTTP/localhost")
            self.heimdal(f"kinit.heimdal -r 1d -k -t {self.realm.keytab} HTTP/localhost")
            self.heimdal("kinit.heimdal -R")
            self.heimdal("kgetcred HTTP/localhost")
            self.assertIn(PROFILES[etype].name, self.heimdal("klist.heimdal klist -v"))

    def test_our_cache(self) -> None:
        """What `User.kinit` writes, Heimdal reads and goes on with; also for somebody else."""
        self.alice.kinit()
        self.heimdal("kgetcred HTTP/localhost")
        self.heimdal(f"kinit.heimdal -k -t {self.realm.keytab} HTTP/localhost")
        out = self.realm.directory / "alice"
        line = f"kgetcred --out-cache={out} --impersonate=alice@KRBTEST.COM HTTP/localhost"
        self.heimdal(line)
        self.assertIn("alice@KRBTEST.COM", self.heimdal(f"klist.heimdal klist -c {out}"))


class CurlTests(RealmTestCase):
    needs = ("curl", PYTHON)
    package = "curl, python3-gssapi"

    def setUp(self) -> None:
        super().setUp()
        if "Kerberos" not in self.run_program("curl --version"):
            self.skipTest("this curl has no Kerberos")
        probe = subprocess.run([PYTHON, "-c", "import gssapi"], capture_output=True, check=False)
        if probe.returncode:
            self.skipTest("this machine has no gssapi for Python (Debian: python3-gssapi)")
        server = self.serve([PYTHON, str(TOP / "tests" / "support" / "negotiate_server.py")])
        self.url = f"http://localhost:{server.expect('port ([0-9]+)')[1]}/"

    def curl(self, *options: str) -> str:
        common = ("-sS", "--noproxy", "*", "-u", ":", "--negotiate", "-w", "%{http_code}")
        return self.run_argv(["curl", *common, *options, self.url])

    def test_negotiate(self) -> None:
        """Nobody without a ticket; with one it is alice; with delegation her ticket goes along."""
        self.assertEqual(self.curl(), "401")
        self.alice.kinit()
        self.assertEqual(self.curl(), "alice@KRBTEST.COM came\n200")
        said = self.curl("--delegation", "always")
        self.assertEqual(said, "alice@KRBTEST.COM came, and goes on as alice@KRBTEST.COM\n200")

    def test_delegation_by_policy(self) -> None:
        """Only to a service of which the realm says that it may have tickets."""
        self.alice.kinit()
        self.assertNotIn("goes on", self.curl("--delegation", "policy"))
        self.realm.modify("HTTP/localhost", ok_as_delegate=True)
        self.alice.kinit()
        self.assertIn("goes on", self.curl("--delegation", "policy"))


class SSHTests(RealmTestCase):
    needs = ("ssh", "ssh-keygen", "sshd", "klist", "kvno")
    package = "openssh-client, openssh-server, krb5-user"

    def path(self) -> str:
        return os.pathsep.join([super().path(), "/usr/sbin", "/sbin"])

    def test_delegation(self) -> None:
        """ssh -K: logged in by the ticket alone, and it is good for another on the far side."""
        realm = self.realm
        me = realm.user(getpass.getuser())
        realm.service("host/localhost")
        key = realm.directory / "host_key"
        self.run_argv(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
        port = reserved_port()
        config = realm.directory / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {key}\nPidFile none\nUsePAM no\n"
            "StrictModes no\nPermitRootLogin yes\nAuthorizedKeysFile none\n"
            "PasswordAuthentication no\nPubkeyAuthentication no\nGSSAPIAuthentication yes\n"
            "GSSAPIStrictAcceptorCheck no\n"  # it is host/localhost, whatever the machine is called
            f"SetEnv KRB5_CONFIG={realm.krb5_config}\n",
            "utf-8",
        )
        sshd = shutil.which("sshd", path=self.path()) or ""  # it wants to be called by its path
        server = self.serve(self.privately([sshd, "-D", "-e", "-f", str(config)]))
        server.expect("listening on")
        known = realm.directory / "known_hosts"
        public = " ".join(key.with_suffix(".pub").read_text("utf-8").split()[:2])
        known.write_text(f"[localhost]:{port} {public}\n", "utf-8")
        options = (
            *("-F", "/dev/null", "-p", str(port), "-o", f"UserKnownHostsFile={known}"),
            *("-o", "BatchMode=yes", "-o", "GSSAPIAuthentication=yes"),
        )
        # Without a ticket nobody gets in; with one, but not handed over, there is none there.
        self.run_argv(["ssh", *options, "localhost", "true"], status=255)
        me.kinit()
        self.run_argv(["ssh", *options, "localhost", "klist", "-s"], status=1)
        far = "echo $KRB5CCNAME; kvno HTTP/localhost && klist -f; kdestroy"
        said = self.run_argv(["ssh", "-K", *options, "localhost", far])
        self.assertRegex(said, f"Default principal: {me}")
        self.assertRegex(said, r"krbtgt/KRBTEST.COM@KRBTEST.COM\n[^\n]*Flags: \w*f")  # forwarded
        self.assertIn("HTTP/localhost@KRBTEST.COM: kvno = 1", said)

    def privately(self, serve: list[str]) -> list[str]:
        """As root sshd wants /run/sshd: it gets one that nobody else on this machine sees."""
        if os.geteuid() != 0 or Path("/run/sshd").is_dir():
            return serve
        own_run = "mount -t tmpfs none /run && mkdir -m 755 /run/sshd"
        if subprocess.run(["unshare", "--mount", "sh", "-c", own_run], check=False).returncode:
            self.skipTest("sshd has no /run/sshd, and may not have one of its own")
        return ["unshare", "--mount", "sh", "-c", f'{own_run} && exec "$0" "$@"', *serve]


class PostgresTests(RealmTestCase):
    needs = ("psql", "initdb", "postgres", "setpriv")
    package = "postgresql"

    def path(self) -> str:
        servers = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
        return os.pathsep.join([super().path(), *servers])

    def test_encrypted(self) -> None:
        """psql with gssencmode=require: alice is who the ticket says, and all is encrypted."""
        port = self.cluster()
        place = f"host=localhost port={port} dbname=postgres"
        line = ["psql", "-XAtq", f"{place} user=alice gssencmode=require", "-c"]
        query = "select gss_authenticated, principal, encrypted from pg_stat_gssapi"
        mine = f"{query} where pid = pg_backend_pid()"
        self.assertIn("GSSAPI", self.run_argv([*line, mine], status=2))
        self.alice.kinit()
        self.assertEqual(self.run_argv([*line, mine]), "t|alice@KRBTEST.COM|t\n")
        # As somebody else, or in the clear, she does not get in.
        for other in ("user=postgres gssencmode=require", "user=alice gssencmode=disable"):
            said = self.run_argv(["psql", "-XAtq", f"{place} {other}", "-c", mine], status=2)
            self.assertIn("FATAL", said)

    def cluster(self) -> int:
        """Start a cluster that takes nobody but by Kerberos; return its port."""
        self.realm.service("postgres/localhost")
        home = Path(tempfile.mkdtemp(prefix="kdc-postgres-"))
        self.addCleanup(shutil.rmtree, home, ignore_errors=True)
        account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        become: list[str] = []
        if os.geteuid() == 0:  # as which PostgreSQL does not run
            ids = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
            become = ["setpriv", *ids, "--"]
        for path in (self.realm.keytab, self.realm.krb5_config):
            shutil.copy(path, home)
        for path in (home, *home.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)
        data, how = str(home / "data"), "-U postgres -A reject -E UTF8 --no-sync --no-locale"
        self.run_argv([*become, "initdb", "-D", data, *how.split()])
        # alice has to be there before anybody can log in.
        single = [*become, "postgres", "--single", "-D", data, "postgres"]
        self.run_argv(single, "create role alice login\n")
        hba = home / "data" / "pg_hba.conf"
        hba.write_text("hostgssenc all all 127.0.0.1/32 gss include_realm=0\n", "utf-8")
        port = reserved_port()
        options = (f"krb_server_keyfile={home / 'krb5.keytab'}", "fsync=off")
        server = self.serve(
            [
                *(*become, "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1"),
                *("-k", str(home), *(word for option in options for word in ("-c", option))),
            ],
            KRB5_CONFIG=str(home / "krb5.conf"),
            KRB5RCACHEDIR=str(home),
        )
        server.expect("ready to accept connections")
        # Before its directory goes; killed, it would leave processes behind for a moment.
        self.addCleanup(server.wait)
        self.addCleanup(server.signal, signal.SIGQUIT)
        return port
