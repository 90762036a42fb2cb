"""Two KDCs with one realm on a real etcd, as people start them."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

from tests.support.etcd_server import EtcdCluster, installed
from tests.support.processes import KDC, UNLIMITED, ProgramTestCase, RunningKDC


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class ClusterCase(ProgramTestCase):
    """Nodes called one and two on one member of etcd."""

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

    def nodes(self, node: str, status: int = 0) -> list[Any]:
        state = str(self.directory / node)
        program = self.scratch.start(*KDC, "admin", "--state", state, "--json", "nodes")
        self.assertIn(program.wait(), (0, status))
        return [json.loads(line) for line in program.printed.splitlines()]

    def log(self, node: str) -> str:
        return (self.directory / f"{node}.txt").read_text(encoding="utf-8")


class ClusterTests(ClusterCase):
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
        one, two = self.two("--confirm-within", "30")
        self.eventually("both are there", lambda: len(self.nodes("one")) == 2)
        self.assertEqual(
            [(each["node"], each["this"], each["troubles"]) for each in self.nodes("two")],
            [("one", False, []), ("two", True, [])],
        )
        self.eventually("noted", lambda: " 0 principals, node one" in self.log("one"))
        self.eventually("in top, too", lambda: "two: " in self.admin("one", "top"))
        self.assertIn("one (this one): ", self.admin("one", "top"))
        two.program.stop()
        self.assertEqual([each["node"] for each in self.nodes("one")], ["one"])
        two = self.node("two", "--enrol", "closed", "--confirm-within", "40")
        self.eventually("it is there again", lambda: len(self.nodes("one", 3)) == 2)
        self.register(one, "alice")
        words = ("disable", "alice", "--wait")
        program = self.scratch.start(*KDC, "admin", "--state", str(self.directory / "one"), *words)
        self.assert_ends(program, 0, "in force everywhere")

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

    def test_without_a_running_node(self) -> None:
        """What an operator does on etcd itself, every node knows; what is of files is refused."""
        one = self.node("one")
        self.register(one, "alice")
        one.program.stop()
        where = ("--store", self.url)
        self.admin("one", *where, "disable", "alice")
        self.assertRegex(self.admin("one", *where, "list"), "alice +disabled")
        self.assertIn("status: disabled", self.admin("one", *where, "show", "alice"))
        kdc = ("--kdc-address", "kdc.example", "--kdc-port", "1")
        self.assertIn("kdc2-", self.admin("one", *where, "invite", "bob", *kdc))
        (self.directory / "dump").write_text(self.admin("one", *where, "dump"), encoding="utf-8")
        self.admin("one", *where, "purge", "bob")
        self.admin("one", *where, "load", str(self.directory / "dump"), *kdc)
        self.admin("one", *where, "set-address", "bob", "192.0.2.1", "5")
        self.admin("one", *where, "expire", "bob", "--in", "1h")
        self.admin("one", *where, "reset", "bob", *kdc)
        self.admin("one", *where, "delete", "bob")
        self.assertIn("generation:", self.admin("one", *where, "stats"))
        self.assertEqual(self.admin("one", *where, "nodes"), "")
        self.admin("one", *where, "check")
        self.assertIn("admin-disabled client=alice", self.audit())
        for words in (("repair",), ("backup", str(self.directory))):
            self.admin("one", *where, *words, status=1)
        self.copy_keys()
        two = self.node("two")
        self.assertRegex(self.admin("two", "list"), "alice +disabled.*\nbob +deleted")
        # Through the running node, though etcd is named, too.
        self.admin("two", *where, "enable", "alice")
        self.eventually("noted", lambda: "admin-enabled client=alice" in self.log("two"))
        # Beside it, by another state directory; and it sees it at once.
        self.admin("one", *where, "disable", "alice")
        self.eventually("it knows", lambda: "disabled" in self.admin("two", "show", "alice"))
        self.admin("two", *where, "check")
        two.program.stop()

    def audit(self) -> str:
        return (self.directory / "one" / "kdc.audit").read_text(encoding="utf-8")

    def test_damage_is_found_without_a_node(self) -> None:
        """A line that somebody changed in etcd is what ``check`` is for; nothing is changed."""
        one = self.node("one")
        self.register(one, "alice")
        one.program.stop()
        self.cluster.post("/v3/kv/put", {"key": coded("/kdc/LOCAL/p/alice"), "value": coded("x")})
        program = self.scratch.start(*KDC, "admin", *self.direct("one"), "check")
        self.assert_ends(program, 6, "damaged; restore a snapshot")
        program = self.scratch.start(*KDC, "admin", *self.direct("one"), "list")
        self.assert_ends(program, 7, "cannot be opened")

    def test_no_such_store(self) -> None:
        """A realm that nobody has made is not made by an operator's command."""
        state = self.directory / "one"
        state.mkdir()
        where = ("--kdc-address", "kdc.example", "--kdc-port", "1")
        program = self.scratch.start(*KDC, "admin", *self.direct("one"), "invite", "bob", *where)
        self.assert_ends(program, 7, "there is no store of LOCAL in etcd")
        self.assertEqual([path.name for path in state.iterdir()], ["kdc.lock"])

    def direct(self, node: str) -> tuple[str, ...]:
        return "--state", str(self.directory / node), "--store", self.url

    def test_by_configuration(self) -> None:
        """The table store is as good as the options, for a node and for an operator."""
        state, config = self.directory / "one", self.directory / "kdc.toml"
        state.mkdir()
        config.write_text(
            f'enrol = "open"\n[store]\nurl = "{self.url}"\nstate = "{state}"\n'
            'node = "first"\nconfirm-within = 3\n',
            encoding="utf-8",
        )
        own = ("-p", "0", "-c", str(config), "-o", "one.txt", *UNLIMITED)
        node = RunningKDC(self.scratch.start(*KDC, *own))
        self.register(node, "alice")
        self.eventually("noted", lambda: " 0 principals, node first" in self.log("one"))
        listed = self.scratch.start(*KDC, "admin", "-c", str(config), "list")
        self.assert_ends(listed, 0)
        self.assertIn("alice", listed.printed)
        node.program.stop()
        listed = self.scratch.start(*KDC, "admin", "-c", str(config), "list")
        self.assert_ends(listed, 0)
        self.assertIn("alice", listed.printed)
        for words in (("admin", "-f", "pwd.txt", "-c", str(config), "list"), ("-f", "p", *own)):
            program = self.scratch.start(*KDC, *words)
            self.assert_ends(program, 1, "exclude each other")

    def test_another_master_key(self) -> None:
        """Not before every node has it; nobody notices; the old key opens nothing any more."""
        one, two = self.two()
        self.register(one, "alice")
        self.admin("one", "new-master-key")
        program = self.scratch.start(
            *KDC, "admin", "--state", str(self.directory / "one"), "rotate-master-key"
        )
        self.assert_ends(program, 8, "not every node has the new master key")
        old = (self.directory / "two" / "kdc.key").read_bytes()
        self.copy_keys("key")
        both = (self.directory / "one" / "kdc.key").read_bytes()
        self.assertIn(old, both)
        two.program.signal(signal.SIGHUP)
        new = both.split(b":")[2].decode()
        self.eventually("it is known", lambda: self.admin("one", "nodes", "--json").count(new) == 2)
        self.admin("one", "rotate-master-key")
        self.assertNotIn(old, (self.directory / "one" / "kdc.key").read_bytes())
        self.register(two, "bob")
        self.admin("two", "rotate-master-key")
        for node in "one", "two":
            path = self.directory / node / "kdc.key"
            self.assertNotIn(old, path.read_bytes())
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
            self.assertIn("bob", self.admin(node, "list"))
        (self.directory / "two" / "kdc.key").write_bytes(old)
        self.assertEqual(two.program.stop(), 0)
        program = self.scratch.start(*self.options("two"))
        self.assert_ends(program, 7, "under master key")

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
