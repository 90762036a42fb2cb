"""Two KDCs with one realm on a real etcd, as people start them."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

from tests.support.etcd_server import EtcdCluster, installed
from tests.support.processes import KDC, UNLIMITED, ProgramTestCase, RunningKDC


class ClusterTests(ProgramTestCase):
    def setUp(self) -> None:
        if installed() is None:
            self.skipTest("not installed: etcd (Debian: etcd-server)")
        super().setUp()
        self.cluster = EtcdCluster()
        self.addCleanup(self.cluster.end)
        (self.directory / "in").mkdir()
        members = ",".join(f"{host}:{port}" for host, port in self.cluster.members)
        self.url = f"etcd://{members}/"

    def options(self, node: str) -> tuple[str, ...]:
        state = self.directory / node
        state.mkdir(exist_ok=True)
        log = ("-o", f"{node}.txt")
        where = ("-p", "0", "--store", self.url, "--state", str(state))
        return (*KDC, *where, "--node", node, *log, *UNLIMITED)

    def node(self, node: str, *options: str) -> RunningKDC:
        return RunningKDC(self.scratch.start(*self.options(node), *options))

    def two(self, *options: str) -> tuple[RunningKDC, RunningKDC]:
        one = self.node("one", *options)
        self.copy_keys()
        return one, self.node("two", *options)

    def copy_keys(self, *ends: str) -> None:
        (self.directory / "two").mkdir(exist_ok=True)
        for end in ends or ("key", "tls"):
            shutil.copy(self.directory / "one" / f"kdc.{end}", self.directory / "two")

    def admin(self, node: str, *words: str, status: int = 0) -> str:
        state = str(self.directory / node)
        program = self.scratch.start(*KDC, "admin", "--state", state, *words)
        self.assert_ends(program, status)
        return program.printed

    def test_two_nodes_are_one_realm(self) -> None:
        """Who registers at one is known at the other; so is whoever was disabled; one may end."""
        one, two = self.two()
        self.assertEqual(one.fingerprint, two.fingerprint)
        self.register(one, "alice")
        self.eventually("the other knows alice", lambda: "alice" in self.admin("two", "list"))
        self.receiver(two, "bob", "--inbox", "in")
        path = self.file("in.txt", b"by the other node\n")
        self.send(two, "alice", "bob", path)
        self.admin("one", "disable", "alice")
        self.eventually("disabled", lambda: "disabled" in self.admin("two", "show", "alice"))
        one.program.kill()
        self.admin("two", "enable", "alice")
        self.send(two, "alice", "bob", path)

    def test_nodes(self) -> None:
        """Each is seen at each, with what is wrong; who ended is not there; a change is awaited."""
        one, two = self.two("--confirm-within", "3")
        self.eventually("both are there", lambda: len(self.nodes("one")) == 2)
        self.assertEqual(
            [(each["node"], each["this"], each["troubles"]) for each in self.nodes("two")],
            [("one", False, []), ("two", True, [])],
        )
        self.assertIn("started client=- address=- 0 principals, node one", self.log("one"))
        two.program.stop()
        self.assertEqual([each["node"] for each in self.nodes("one")], ["one"])
        two = self.node("two", "--enrol", "closed", "--confirm-within", "4")
        self.eventually("it is there again", lambda: len(self.nodes("one", 3)) == 2)
        self.register(one, "alice")
        words = ("disable", "alice", "--wait")
        program = self.scratch.start(*KDC, "admin", "--state", str(self.directory / "one"), *words)
        self.assert_ends(program, 0, "in force everywhere")

    def nodes(self, node: str, status: int = 0) -> list[Any]:
        state = str(self.directory / node)
        program = self.scratch.start(*KDC, "admin", "--state", state, "--json", "nodes")
        self.assertIn(program.wait(), (0, status))
        return [json.loads(line) for line in program.printed.splitlines()]

    def log(self, node: str) -> str:
        return (self.directory / f"{node}.txt").read_text(encoding="utf-8")

    def test_a_cut_off_node_decides_nothing(self) -> None:
        """Without etcd it says "later" after the bound, and goes on when etcd is back."""
        node = self.node("one", "--confirm-within", "3")
        self.register(node, "alice")
        self.cluster.stop(0)
        with contextlib.ExitStack() as stopped:
            stopped.callback(self.cluster.go_on, 0)
            self.eventually("refused", lambda: "not confirmed" in self.refused(node))
        self.receiver(node, "bob", "--inbox", "in")

    def refused(self, node: RunningKDC) -> str:
        """Try to log in; return what the KDC has noted."""
        key = self.key("alice")
        options = (*node.options, "-n", "alice", *key)
        self.client("whoami", *options).wait()
        return (self.directory / "one.txt").read_text(encoding="utf-8")

    def test_a_node_without_the_keys_of_the_others(self) -> None:
        """It does not start, says what to copy, and makes nothing that would be in the way."""
        self.node("one")
        program = self.scratch.start(*self.options("two"))
        self.assert_ends(program, 7, "kdc.key is missing")
        self.copy_keys("key")
        program = self.scratch.start(*self.options("two"))
        self.assert_ends(program, 1, "kdc.tls is missing")

    def test_options_that_do_not_go_together(self) -> None:
        """Each is a usage error, before anything is opened."""
        state = ("--state", str(self.directory))
        for words, text in (
            (("--store", self.url), "--store needs --state"),
            (("--store", self.url, "-f", "pwd.txt", *state), "exclude each other"),
            (("--store", "mysql://h/", *state), "--store is etcd://"),
            (("--store", "etcd://h:99999/", *state), "not a member"),
            (("--store", self.url, "--etcd-user", "kdc", *state), "go together"),
            (("--store", self.url, "--etcd-key", "kdc.pem", *state), "go together"),
            (("--store", self.url, "--confirm-within", "1", *state), "--confirm-within"),
            (state, "--state goes with --store"),
            (("--confirm-within", "5"), "goes with --store"),
            (("--node", "kdc1"), "goes with --store"),
            (("--store", self.url, "--node", "a b", *state), "not a principal's name"),
        ):
            program = self.scratch.start(*KDC, "-p", "0", *words)
            self.assert_ends(program, 1, text)

    def test_no_state_directory(self) -> None:
        """One that is not there is told of, with what to do; nothing is made in its place."""
        program = self.scratch.start(
            *(*KDC, "-p", "0", "--store", self.url, "--state", "nowhere", "-o", "out.txt")
        )
        program.expect("cannot lock .*nowhere/kdc.lock: No such file.*\n.*mode 0700")
        self.assertNotEqual(program.wait(), 0)
        self.assertFalse((self.directory / "nowhere").exists())

    def test_nothing_runs_there(self) -> None:
        """An operator's command says that no node runs, and makes no database."""
        state = self.directory / "none"
        state.mkdir()
        program = self.scratch.start(*KDC, "admin", "--state", str(state), "invite", "alice")
        self.assert_ends(program, 7, "no KDC runs with")
        self.assertEqual(list(Path(state).iterdir()), [])
