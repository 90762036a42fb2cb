"""Programs that know nothing of us, through tunnels; what arrives is compared byte by byte.

A program that is not installed skips its test.  With ``KDC_TEST_PROGRAMS=required``
that is a failure, for where the tests have to be complete; with ``skip`` none runs.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pwd
import random
import shlex
import shutil
import signal
import tempfile
from pathlib import Path

from tests.support.processes import CLIENT, RunningKDC, reserved_port
from tests.support.sshd import account, privately
from tests.support.tunnels import TunnelTestCase

# Servers are where an ordinary user's PATH does not look.
ELSEWHERE = [*sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True), "/usr/sbin", "/sbin"]
HOST = "127.0.0.1"


class RealProgramTests(TunnelTestCase):
    def find(self, *names: str) -> list[str]:
        """Return where these programs are."""
        wanted = os.environ.get("KDC_TEST_PROGRAMS", "")
        if wanted == "skip":
            self.skipTest("KDC_TEST_PROGRAMS=skip")
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), *ELSEWHERE])
        found = {name: shutil.which(name, path=path) for name in names}
        missing = ", ".join(name for name, where in found.items() if where is None)
        if missing and wanted == "required":
            self.fail(f"not installed: {missing}")
        if missing:
            self.skipTest(f"not installed: {missing}")
        return [where for where in found.values() if where is not None]

    def done(self, *argv: str, status: int = 0, directory: Path | None = None) -> str:
        """Run a program to its end; return what it printed."""
        program = self.scratch.start(*argv, directory=directory or self.directory)
        self.assert_ends(program, status)
        return program.printed

    def through(self, service: str, port: int) -> str:
        """The port of a tunnel that leads to ``port``."""
        return str(self.tunnel(self.shared_kdc(), service, f"tcp:{HOST}:{port}"))

    # databases

    def postgres(self) -> int:
        """Start a cluster of our own; return its port."""
        initdb, server = self.find("initdb", "postgres")
        home = Path(tempfile.mkdtemp(prefix="kdc-postgres-"))
        self.addCleanup(shutil.rmtree, home, ignore_errors=True)
        become: list[str] = []
        if os.geteuid() == 0:  # as which PostgreSQL does not run
            (setpriv,) = self.find("setpriv")
            account = pwd.getpwnam("postgres")
            os.chown(home, account.pw_uid, account.pw_gid)
            ids = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
            become = [setpriv, *ids, "--"]
        common = ("-D", str(home / "data"))
        how = "-U postgres -A trust -E UTF8 --no-sync --no-locale".split()
        self.done(*become, initdb, *common, *how, directory=home)
        port = reserved_port()
        cluster = self.scratch.start(
            *(*become, server, *common, "-p", str(port), "-h", HOST, "-k", str(home)),
            *("-c", "fsync=off"),
            directory=home,
        )
        cluster.expect("ready to accept connections")
        # Before its directory goes; killed, it would leave processes behind for a moment.
        self.addCleanup(cluster.wait)
        self.addCleanup(cluster.signal, signal.SIGQUIT)
        return port

    def test_psql(self) -> None:
        """A query of 200,000 rows, and as many copied in."""
        (psql,) = self.find("psql")
        direct = self.postgres()
        port = self.through("postgres", direct)

        def query(port: object, text: str) -> str:
            options = ("-h", HOST, "-p", str(port), "-U", "postgres", "-XAtq", "-c", text)
            return self.done(psql, *options)

        rows = "".join(
            f"{n}|{hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest()}\n"
            for n in range(1, 200_001)
        )
        self.assertEqual(
            query(port, "select n, md5(n::text) from generate_series(1, 200000) n"), rows
        )
        query(port, "create table t (n int, digest text)")
        path = self.file("rows", rows.replace("|", "\t").encode())
        query(port, f"\\copy t from '{path}'")
        self.assertEqual(query(direct, "select * from t order by n"), rows)

    def test_redis(self) -> None:
        """Values of some megabytes both ways, 50,000 commands at once, and fifty clients."""
        cli, benchmark, server = self.find("redis-cli", "redis-benchmark", "redis-server")
        direct = reserved_port()
        running = self.scratch.start(
            *(server, "--port", str(direct), "--bind", HOST, "--save", "", "--logfile", "redis.log")
        )
        self.eventually("redis is there", lambda: "Ready" in self.text("redis.log"))
        port = self.through("redis", direct)
        content = random.Random(1).randbytes(5_000_000).hex()
        self.file("value", content.encode())
        self.shell(f"{cli} -p {port} -x set big < value")
        self.assertEqual(self.done(cli, "-p", str(direct), "--raw", "get", "big"), content + "\n")
        self.assertEqual(self.done(cli, "-p", port, "--raw", "get", "big"), content + "\n")
        self.file("commands", b"".join(b"RPUSH list %d\r\n" % n for n in range(50_000)))
        self.assertIn("replies: 50000", self.shell(f"{cli} -p {port} --pipe < commands"))
        numbers = self.done(cli, "-p", str(direct), "--raw", "lrange", "list", "0", "-1")
        self.assertEqual(numbers, "".join(f"{n}\n" for n in range(50_000)))
        load = "-n 20000 -c 50 -P 10 -t set,get,lrange_100 -q".split()
        said = self.done(benchmark, "-p", port, *load)
        self.assertEqual(said.count("requests per second"), 4, said)
        self.assertIs(running.process.poll(), None)

    # files

    def test_curl(self) -> None:
        """A file of 100 MB, and a part of it."""
        (curl,) = self.find("curl")
        path = self.directory / "www" / "file"
        path.parent.mkdir()
        path.write_bytes(random.Random(2).randbytes(100_000_000))
        direct = reserved_port()
        listen = f"tcp:{direct}:interface={HOST}"
        self.twistd("-n", "--pidfile=", "web", "--path", str(path.parent), "--listen", listen)
        self.listens(direct)
        url = f"http://{HOST}:{self.through('web', direct)}/file"
        self.done(curl, "-sS", "--fail", "-o", "copy", url)
        self.assert_same(path, self.directory / "copy")
        # Closing early is a client's good right.
        self.shell(f"{curl} -sS {url} | head -c 1000000 > part", status=0)
        self.assertEqual((self.directory / "part").read_bytes(), path.read_bytes()[:1_000_000])
        self.done(curl, "-sS", "--fail", "-o", "copy", url)
        self.assert_same(path, self.directory / "copy")

    def test_rsync(self) -> None:
        """A tree, and then what has changed in it; both ways."""
        (rsync,) = self.find("rsync")
        tree, copy, back = (self.directory / name for name in ("tree", "copy", "back"))
        self.plant(tree)
        back.mkdir()
        direct = reserved_port()
        self.file(
            "rsyncd.conf",
            f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\nlog file = rsyncd.log\n"
            f"[tree]\npath = {tree}\n[back]\npath = {back}\nread only = no\n".encode(),
        )
        self.scratch.start(
            *(rsync, "--daemon", "--no-detach", "--config=rsyncd.conf"),
            *(f"--port={direct}", f"--address={HOST}"),
        )
        self.listens(direct)
        url = f"rsync://{HOST}:{self.through('rsync', direct)}"
        self.done(rsync, "-a", f"{url}/tree/", "copy/")
        self.assert_same_tree(tree, copy)
        with (tree / "0" / "7").open("r+b") as file:
            file.seek(1000)
            file.write(b"changed")
        (tree / "1" / "3").unlink()
        self.done(rsync, "-a", "--delete", "--no-whole-file", f"{url}/tree/", "copy/")
        self.assert_same_tree(tree, copy)
        self.done(rsync, "-a", "copy/", f"{url}/back/")
        self.assert_same_tree(tree, back)

    def test_git(self) -> None:
        """A clone with all its history."""
        (git,) = self.find("git")
        origin = self.directory / "origin"
        self.plant(origin)
        person = ("-c", "user.name=Alice", "-c", "user.email=alice@example.org")
        self.done(git, "init", "-q", directory=origin)
        for number in range(5):
            (origin / "0" / "0").write_bytes(b"%d" % number)
            self.done(git, "add", ".", directory=origin)
            self.done(git, *person, "commit", "-qm", f"change {number}", directory=origin)
        direct = reserved_port()
        # Itself, not as a child of git, which would outlive its parent's end.
        daemon = self.done(git, "--exec-path").strip() + "/git-daemon"
        self.scratch.start(
            *(daemon, "--export-all", f"--base-path={self.directory}", "--reuseaddr"),
            *(f"--listen={HOST}", f"--port={direct}"),
        )
        self.listens(direct)
        port = self.through("git", direct)
        self.done(git, "clone", "-q", f"git://{HOST}:{port}/origin", "clone")
        clone = self.directory / "clone"
        self.done(git, "fsck", "--strict", directory=clone)
        for argv in (("rev-parse", "HEAD"), ("log", "--format=%H %s"), ("ls-tree", "-r", "HEAD")):
            told = [self.done(git, *argv, directory=where) for where in (origin, clone)]
            self.assertEqual(told[0], told[1])
        shutil.rmtree(origin / ".git")
        shutil.rmtree(clone / ".git")
        self.assert_same_tree(origin, clone)

    def test_ssh(self) -> None:
        """ssh with `pipe` as its ProxyCommand: a command, and 20 MB each way."""
        self.ssh(self.shared_kdc())

    def test_ssh_through_a_relay(self) -> None:
        """The same to somebody whom nobody can connect to."""
        kdc = self.kdc("--relay", "0")
        kdc.program.expect(r"kdc: relay: receiving on")
        self.ssh(kdc, "--reach", "relay")

    def ssh(self, kdc: RunningKDC, *way: str) -> None:
        ssh, sshd, keygen = self.find("ssh", "sshd", "ssh-keygen")
        for name in ("host_key", "user_key"):
            self.done(keygen, "-q", "-t", "ed25519", "-N", "", "-f", name)
        direct = reserved_port()
        self.file(
            "sshd_config",
            f"ListenAddress {HOST}\nPort {direct}\nHostKey {self.directory}/host_key\n"
            f"AuthorizedKeysFile {self.directory}/user_key.pub\nStrictModes no\nPidFile none\n"
            "UsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n".encode(),
        )
        server = self.scratch.start(
            *privately((sshd, "-D", "-e", "-f", str(self.directory / "sshd_config")))
        )
        server.expect("listening on")
        alice, bob = self.name("alice"), self.name("bob")
        self.exposer(kdc, bob, f"ssh=tcp:{HOST}:{direct}", *way)
        us = ("-n", alice, *kdc.options, *self.key(alice), *way)
        proxy = shlex.join([*CLIENT, "pipe", *us, bob, "ssh"])
        host_key = self.text("host_key.pub").split()[:2]
        self.file("known_hosts", f"bob {' '.join(host_key)}\n".encode())
        self.file(
            "ssh_config",
            f"Host bob\nUser {account()}\nProxyCommand {proxy}\n"
            f"IdentityFile {self.directory}/user_key\nIdentitiesOnly yes\nBatchMode yes\n"
            f"UserKnownHostsFile {self.directory}/known_hosts\n"
            f"GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n".encode(),
        )
        content = random.Random(3).randbytes(20_000_000)
        path = self.file("content", content)
        command = f"{ssh} -F ssh_config bob"
        self.assertEqual(self.shell(f"{command} 'echo here; exit 7'", status=7), "here\n")
        digest = self.shell(f"{command} sha256sum < content")
        self.assertEqual(digest.split()[0], hashlib.sha256(content).hexdigest())
        self.shell(f"{command} cat {path} > fetched")
        self.assert_same(path, self.directory / "fetched")

    # what they have in common

    def text(self, name: str) -> str:
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    def shell(self, line: str, status: int = 0) -> str:
        return self.done("bash", "-c", line, status=status)

    def listens(self, port: int) -> None:
        """Wait until a program that does not say so listens."""
        wanted = f":{port:04X} 00000000:0000 0A"
        self.eventually(f"port {port}", lambda: wanted in Path("/proc/net/tcp").read_text())

    def plant(self, top: Path) -> None:
        """Make a tree of files of all sizes, some of them empty, one of them large."""
        numbers = random.Random(4)
        for branch in range(10):
            (top / str(branch)).mkdir(parents=True)
            for leaf in range(20):
                size = 0 if leaf == 5 else int(2 ** numbers.uniform(0, 18))
                (top / str(branch) / str(leaf)).write_bytes(numbers.randbytes(size))
        (top / "large").write_bytes(numbers.randbytes(10_000_000))
        (top / "a name with spaces and \N{SNOWMAN}").write_bytes(b"x")

    def assert_same(self, one: Path, other: Path) -> None:
        self.assertTrue(one.read_bytes() == other.read_bytes(), f"{one} is not {other}")

    def assert_same_tree(self, one: Path, other: Path) -> None:
        names = [sorted(p.relative_to(top) for p in top.rglob("*")) for top in (one, other)]
        self.assertEqual(names[0], names[1])
        for name in names[0]:
            if (one / name).is_file():
                self.assert_same(one / name, other / name)
