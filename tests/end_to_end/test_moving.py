"""``kdc admin move`` with a real etcd, as people type it; and killed in the middle."""

from __future__ import annotations

import base64
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdc.store import Create
from kdc.store.flatfile import FlatFileStore
from tests.support.etcd_server import EtcdCluster, installed
from tests.support.processes import KDC, UNLIMITED, Program, ProgramTestCase, RunningKDC
from tests.support.store_conformance import active, token

_MANY = 3000


class MoveTests(ProgramTestCase):
    def setUp(self) -> None:
        if installed() is None:
            self.skipTest("not installed: etcd (Debian: etcd-server)")
        super().setUp()
        self.cluster = EtcdCluster()
        self.addCleanup(self.cluster.end)
        ((host, port),) = self.cluster.members
        self.url = f"etcd://{host}:{port}/"
        self.state = self.directory / "state"
        self.state.mkdir(0o700)

    def admin(self, *words: str, **how: Any) -> Program:
        return self.scratch.start(*KDC, "admin", *words, **how)

    def done(self, *words: str) -> str:
        program = self.admin(*words)
        self.assert_ends(program, 0)
        return program.printed

    def there(self, **how: Any) -> Program:
        return self.admin("move", "--to", self.url, "--state", str(self.state), **how)

    def back(self, **how: Any) -> Program:
        return self.admin("move", "--from", self.url, "--state", str(self.state), **how)

    def node(self) -> RunningKDC:
        options = ("--store", self.url, "--state", str(self.state), "-o", "node.txt")
        return RunningKDC(self.scratch.start(*KDC, "-p", "0", *options, *UNLIMITED))

    def keys(self) -> int:
        """How many keys there are in etcd."""
        first, last = (base64.b64encode(key).decode() for key in (b"/kdc/", b"/kdc0"))
        asked = {"key": first, "range_end": last, "count_only": True}
        return int(self.cluster.post("/v3/kv/range", asked).get("count", "0"))

    def test_one_kdc_becomes_a_node_and_a_kdc_again(self) -> None:
        """Clients notice nothing: identity, keys and names are the same; nothing is lost."""
        kdc = self.kdc()
        self.register(kdc, "alice")
        program = self.there()
        self.assert_ends(program, 7, "is in use by process")
        fingerprint = kdc.fingerprint
        kdc.program.stop()
        program = self.there()
        self.assert_ends(program, 0, r"kdc\.key, kdc\.tls")
        self.assertIn("1 principal in etcd, at generation 1", program.printed)
        # A pipe is told what came of it, and not how far it is.
        self.assertNotIn("\r", program.said)
        for end in (".key", ".tls", ".generation"):
            path = self.state / f"kdc{end}"
            self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)
        self.assert_ends(self.scratch.start(*KDC, "-p", "0", "-o", "out.txt"), 7, "were moved into")

        node = self.node()
        self.assertEqual(node.fingerprint, fingerprint)
        (self.directory / "in").mkdir()
        self.receiver(node, "bob", "--inbox", "in")
        self.send(node, "alice", "bob", self.file("in.txt", b"by the node\n"))
        self.assert_ends(self.there(), 7, "another process runs this node")
        program = self.back()
        self.assert_ends(program, 0, "--confirm-within")
        self.assertIn("2 principals in", program.printed)
        node.program.expect("moved away")
        self.assertNotEqual(node.program.wait(), 0)
        self.assertIn("cannot be opened: the store was moved away", self.node_refused())

        kdc = self.kdc()
        self.assertEqual(kdc.fingerprint, fingerprint)
        self.assertIn("bob", self.done("list"))
        noted = (self.directory / "pwd.txt.audit").read_text(encoding="utf-8")
        self.assertEqual(noted.count("admin-moved-store"), 2)

    def node_refused(self) -> str:
        options = ("--store", self.url, "--state", str(self.state), "-o", "node.txt")
        program = self.scratch.start(*KDC, "-p", "0", *options)
        self.assertNotEqual(program.wait(), 0)
        return program.said

    def filled(self) -> None:
        store = FlatFileStore.open(self.directory / "pwd.txt", realm="LOCAL")
        for first in range(0, _MANY, 1000):
            batch = range(first, first + 1000)
            store.apply([Create(active(f"u{number}"), token(number)) for number in batch])
        store.close()

    def dump_of(self, file: str) -> str:
        return self.done("dump", "--secrets", "-f", file)

    def test_killed_in_the_middle(self) -> None:
        """Whatever was done by then, the same command completes it; nothing is lost."""
        self.filled()
        before = self.dump_of("pwd.txt")
        moved = self.directory / "pwd.txt.moved"
        seen: tuple[Callable[[], bool], ...] = (
            lambda: self.keys() > 0,
            lambda: self.keys() > 500,
            lambda: self.keys() > 2500,
            moved.exists,
        )
        for reached in seen:
            self.killed(self.there(), reached)
        self.assert_ends(self.there(), 0)
        self.assertEqual(self.keys(), _MANY + 1)
        for reached in (lambda: "closed" in self.head(), (self.directory / "pwd.txt").exists):
            self.killed(self.back(), reached)
        self.assert_ends(self.back(), 0)
        self.assertEqual(self.dump_of("pwd.txt"), before)

    def killed(self, program: Program, reached: Callable[[], bool]) -> None:
        """Kill it once ``reached``, unless it has done its work before."""
        while not reached() and program.process.poll() is None:
            pass
        program.kill()

    def head(self) -> str:
        key = base64.b64encode(b"/kdc/LOCAL/head").decode()
        (pair,) = self.cluster.post("/v3/kv/range", {"key": key})["kvs"]
        return base64.b64decode(pair["value"]).decode()

    def test_a_full_etcd(self) -> None:
        """It is said that there is no room; the KDC goes on with its file."""
        self.cluster.end()
        self.cluster = EtcdCluster(1, "--quota-backend-bytes", "1000000")
        self.addCleanup(self.cluster.end)
        ((host, port),) = self.cluster.members
        self.url = f"etcd://{host}:{port}/"
        self.fill_etcd()
        self.filled()
        self.assert_ends(self.there(), 7, "database space exceeded", "goes on where it was")
        self.register(self.kdc(), "alice")

    def fill_etcd(self) -> None:
        """Until it takes nothing more, which it notices only after some time."""
        for number in itertools.count():
            key, value = base64.b64encode(b"%d" % number).decode(), "A" * 100_000
            if "error" in self.cluster.post("/v3/kv/put", {"key": key, "value": value}):
                return

    def test_how_far_it_is(self) -> None:
        """On a terminal one line says it, and is empty at the end."""
        self.filled()
        program = self.there(terminal=True, environment={"TERM": "xterm"})
        self.assert_ends(program, 0, f"moving: [0-9]+ of {_MANY} principals", "reading back: ")

    def test_options_that_do_not_go_together(self) -> None:
        """Each is a usage error, before anything is opened."""
        for words, text in (
            ((), "where to, or where from"),
            (("--to", self.url, "--from", self.url), "where to, or where from"),
            (("--to", self.url), "--to needs --state"),
            (("--to", "mysql://h/", "--state", "state"), "--to is etcd://"),
            (("--from", "etcd://h:99999/"), "not a member"),
            (("--from", "etcd://h/", "--etcd-user", "kdc"), "go together"),
        ):
            self.assert_ends(self.admin("move", *words), 1, text)
        self.assertFalse(Path(self.directory / "pwd.txt").exists())

    def test_without_tls_elsewhere(self) -> None:
        """Anybody on the way could be etcd: refused, as for the KDC itself."""
        self.filled()
        program = self.admin("move", "--to", "etcd://192.0.2.1/", "--state", str(self.state))
        self.assert_ends(program, 1, "without TLS anybody")

    def test_the_state_directory_is_lost(self) -> None:
        """Without it the keys beside the file are taken, where they are still good."""
        self.filled()
        self.assert_ends(self.there(), 0)
        shutil.rmtree(self.state)
        self.assert_ends(self.admin("move", "--from", self.url), 0)
        self.assertIn("u2999", self.done("show", "u2999"))
