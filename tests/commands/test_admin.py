"""``kdc admin``: what an operator types, sees, and gets as exit status."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.admin import principals as principals_module
from kdc.admin.wire import MAX_REQUEST, SocketPath, answer_line, end_line
from kdc.client.secret import SecretSource, write_key_file
from kdc.commands import main as main_module
from kdc.commands.admin.database import AdminStore
from kdc.commands.admin.invite import qr_code
from kdc.protocol.crypto import LongTermKeys
from kdc.protocol.invitation import Invitation
from kdc.server.certificate import TLSFiles
from kdc.store import Create, Record, Status, StoreInUse
from kdc.store.flatfile._store import FlatFileStore
from kdc.store.memory import MemoryStore
from kdc.store.portable import dump, fields_of
from tests.support.processes import KDC, TOP, ProgramTestCase, RunningKDC

PRINT = "sha256:" + "1a" * 32
WHERE = ("--kdc-address", "kdc.example", "--kdc-port", "88", "--kdc-fingerprint", PRINT)
TEXTBOOK = """\
:alice:10.4.5.11:35678:QUJDREVGRw==:
:Bob:10.4.5.12:35679:SElKS0xNTg==:

:alice:10.4.5.13:1:again=:
garbage
:eve:10.4.5.999:1:x=:
"""


class Terminal(io.StringIO):
    """Standard output of somebody who looks at it."""

    def isatty(self) -> bool:
        return True


class AdminTestCase(SynchronousTestCase):
    """The tool in this process, without a running KDC."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "pwd.txt"
        self.said = ""
        self.out: type[io.StringIO] = io.StringIO

    def run_admin(self, *argv: str) -> tuple[int, str]:
        """Return exit status and standard output; what it said on stderr is in ``said``."""
        out, err = self.out(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main_module._guarded(
                    "kdc admin", main_module._admin, ["-f", str(self.path), *argv]
                )
            except SystemExit as end:
                status = int(end.code or 0)
        self.said = err.getvalue()
        self.assertNotIn("Traceback", self.said)
        return status, out.getvalue()

    def admin(self, *argv: str) -> str:
        """It ends with 0; return what it prints."""
        status, printed = self.run_admin(*argv)
        self.assertEqual(status, 0, self.said)
        return printed

    def json(self, *argv: str) -> list[Any]:
        return [json.loads(line) for line in self.admin("--json", *argv).splitlines()]

    def fails(self, status: int, pattern: str, *argv: str) -> None:
        """It ends with ``status``, says why in a few lines, and changes nothing."""
        before = self.files()
        ended, printed = self.run_admin(*argv)
        self.assertEqual((ended, printed), (status, ""), (argv, self.said))
        self.assertRegex(self.said, rf"\Akdc admin: .*{pattern}", argv)
        self.assertLessEqual(len(self.said.splitlines()), 3)
        self.assertEqual(self.files(), before)

    def files(self) -> dict[str, bytes]:
        """Everything here, but for the number in the lock file and what an opened store folds."""
        return {
            path.name: path.read_bytes()
            for path in sorted(self.directory.iterdir())
            if path.is_file() and path.suffix not in (".lock", ".journal", ".generation")
        }

    def audit(self) -> list[str]:
        path = self.directory / "pwd.txt.audit"
        return [line.split("Z ", 1)[1] for line in path.read_text().splitlines()]

    def key(self, name: str = "key") -> Path:
        path = self.directory / name
        write_key_file(path)
        return path

    def keys_of(self, path: Path, name: str, realm: str = "LOCAL") -> LongTermKeys:
        return SecretSource(key_file=path).keys(realm, name)

    def record(self, name: str, realm: str = "LOCAL") -> Record:
        with contextlib.closing(FlatFileStore.open(self.path, realm=realm)) as store:
            record = store.get(name)
        if record is None:
            self.fail(f"no {name}")
        return record


class CommandTests(AdminTestCase):
    def test_log_format(self) -> None:
        """What is noted without a KDC is written as that would write it."""
        self.admin("add", "carol", "--key-file", str(self.key()), "--log-format", "json")
        self.admin("--log-format", "text", "disable", "carol")
        first, second = (self.directory / "pwd.txt.audit").read_text().splitlines()
        self.assertEqual(json.loads(first)["uid"], os.getuid())
        self.assertIn(" admin-disabled client=carol ", second)
        self.fails(1, "a log is text or json, not 'xml'", "--log-format", "xml", "enable", "carol")

    def test_a_life(self) -> None:
        """From an invitation to a name that is free again; each change is noted, by whom too."""
        self.admin("add", "carol", "--key-file", str(self.key()), "--address", "192.0.2.1")
        invitation = Invitation.parse(self.admin("invite", "bob", *WHERE, "--hours", "2"))
        self.assertEqual((invitation.name, invitation.host), ("bob", "kdc.example"))
        left = self.record("bob").invitation_end_time - time.time()
        self.assertTrue(7000 < left <= 7200, left)
        for command in ("disable", "enable", "delete"):
            self.assertEqual(self.admin(command, "carol"), "carol: done\n")
        self.admin("set-address", "bob", "2001:DB8::1", "77")
        self.admin("purge", "carol", "--force")
        self.admin("rotate-master-key")
        by = f"by uid {os.getuid()}"
        self.assertEqual(
            self.audit(),
            [
                f"admin-added client=carol address=local {by}",
                f"admin-invited client=bob address=local {by}",
                f"admin-disabled client=carol address=local {by}",
                f"admin-enabled client=carol address=local {by}",
                f"admin-deleted client=carol address=local {by}",
                f"admin-moved client=bob address=local 2001:db8::1 77 {by}",
                f"admin-purged client=carol address=local {by}",
                f"admin-rotated-master-key client=- address=local {by}",
            ],
        )
        self.assertEqual((self.directory / "pwd.txt.audit").stat().st_mode & 0o777, 0o600)
        self.assertNotIn(invitation.code, b"".join(self.files().values()))

    def test_list_and_show(self) -> None:
        """Lines for people, lines of JSON for programs."""
        self.admin("invite", "bob", *WHERE)
        self.admin("add", "alice", "--key-file", str(self.key()), "--port", "60000")
        lines = self.admin("list").splitlines()
        self.assertRegex(lines[0], r"^alice +active +- +-$")
        self.assertRegex(lines[1], r"^bob +invited +- +-$")
        self.assertEqual(self.admin("list", "--status", "invited"), lines[1] + "\n")
        self.assertEqual(self.admin("list", "--prefix", "al"), lines[0] + "\n")
        self.assertEqual([answer["name"] for answer in self.json("list")], ["alice", "bob"])
        shown = self.admin("show", "BOB")
        self.assertIn("\nstatus: invited\n", shown)
        self.assertRegex(shown, r"\ninvitation end: \d{4}-")
        self.assertEqual(self.json("show", "bob")[0], self.json("list")[1])
        self.assertIn("realm: LOCAL\nrecords: 2\nactive: 1\n", self.admin("stats"))
        self.assertEqual(self.json("list"), [json.loads(line) for line in self.behind("list")])
        self.assertEqual(self.json("stats")[0]["invited"], 1)

    def behind(self, *argv: str) -> list[str]:
        """The lines of an answer when all options stand behind the command."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = main_module._guarded(
                "kdc admin", main_module._admin, [*argv, "--json", "-f", str(self.path)]
            )
        self.assertEqual(status, 0)
        return out.getvalue().splitlines()

    def test_heading(self) -> None:
        """At a terminal there is a heading, and a line of ordinary names has at most 80 columns."""
        self.admin("add", "a-principal.of.22.chars", "--key-file", str(self.key()))
        self.admin("set-address", "a-principal.of.22.chars", "192.168.200.100", "60000")
        plain = self.admin("list")
        self.assertNotIn("NAME", plain)
        self.out = Terminal
        heading, line = self.admin("list").splitlines()
        self.assertRegex(heading, "^NAME +STATUS +SEEN +ADDRESS$")
        self.assertTrue(line.endswith(" 192.168.200.100:60000"), line)
        self.assertLessEqual(len(line), 80)

    def test_for_scripts(self) -> None:
        """What is so already is no error; what is otherwise than wanted is status 8."""
        key = str(self.key())
        for argv in (
            ("add", "bob", "--key-file", key, "--if-absent"),
            ("invite", "eve", "--if-absent", *WHERE),
            ("disable", "bob"),
            ("enable", "bob"),
            ("set-address", "bob", "192.0.2.1", "7"),
            ("delete", "eve"),
        ):
            self.admin(*argv)
            if argv[0] in ("disable", "enable"):
                continue
            before, noted = self.files(), self.audit()
            self.assertIn("nothing to do", self.admin(*argv), argv)
            self.assertEqual((self.files(), self.audit()), (before, noted))
            (answer,) = self.json(*argv)
            self.assertIs(answer["done"], False)
        self.fails(8, r"bob is there already \(active\)", "add", "bob", "--key-file", key)
        self.fails(8, "eve is there already", "invite", "eve", "--if-absent", *WHERE)
        other = str(self.key("other"))
        self.fails(8, "bob is there", "add", "bob", "--key-file", other, "--if-absent")

    def test_key_files(self) -> None:
        """A key file is made for a new principal, private; not if it would be of no use."""
        path = self.directory / "new"
        self.admin("add", "bob", "--key-file", str(path))
        self.assertIn("take it to bob", self.said)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.record("bob").verify_key, self.keys_of(path, "bob").verify_key)
        self.fails(8, "there already", "add", "bob", "--key-file", str(self.directory / "no"))
        self.assertFalse((self.directory / "no").exists())
        self.assertTrue(path.exists())
        path.chmod(0o640)
        self.fails(1, "can be read by others", "add", "eve", "--key-file", str(path))
        self.fails(7, "No such file", "add", "eve", "--key-file", "no/such/directory")

    def test_a_key_that_may_count(self) -> None:
        """If nobody knows whether a new key was taken, it is kept."""
        path = self.directory / "new"
        self.patch(AdminStore, "ask", _cut_short)
        status, _ = self.run_admin("add", "bob", "--key-file", str(path))
        self.assertEqual(status, 7)
        self.assertTrue(path.exists())

    def test_realm(self) -> None:
        """Keys are made for the realm of the database, whatever is typed or not."""
        key = self.key()
        self.admin("--realm", "EXAMPLE.ORG", "add", "bob", "--key-file", str(key))
        for name, realm in (("alice", ()), ("carol", ("--realm", "ELSEWHERE"))):
            self.admin(*realm, "add", name, "--key-file", str(key))
            expected = self.keys_of(key, name, "EXAMPLE.ORG")
            self.assertEqual(self.record(name, "EXAMPLE.ORG").verify_key, expected.verify_key)
        invitation = Invitation.parse(self.admin("invite", "dave", *WHERE))
        self.assertEqual((invitation.realm, invitation.name), ("EXAMPLE.ORG", "dave"))

    def test_expire(self) -> None:
        """A date, a time, so long from now, or never; it is shown, dumped and loaded again."""
        self.admin("add", "bob", "--key-file", str(self.key()))
        for argv, end in (
            (("--at", "2100-01-31"), 4_105_036_800),
            (("--at", "2100-01-31T18:00Z"), 4_105_101_600),
            (("--at", "2100-01-31T18:00:01Z"), 4_105_101_601),
        ):
            self.assertIn("bob: ends 2100-01-31T", self.admin("expire", "bob", *argv))
            self.assertEqual(self.record("bob").expiry_time, end)
        self.assertIn("expiry: 2100-01-31T18:00Z", self.admin("show", "bob"))
        self.admin("expire", "bob", "--in", "90d")
        record = self.record("bob")
        left = record.expiry_time - time.time()
        self.assertTrue(89 * 86_400 < left <= 90 * 86_400, left)
        self.assertEqual(record.renewal_seconds, 90 * 86_400)
        dumped = self.directory / "dumped"
        dumped.write_text(self.admin("dump", "--secrets"))
        other = str(self.directory / "other.txt")
        self.admin("-f", other, "load", str(dumped))
        self.assertIn(
            f'"expiry": {record.expiry_time}', self.admin("-f", other, "show", "bob", "--json")
        )
        self.assertNotIn("expired", self.admin("list"))
        self.admin("expire", "bob", "--at", "1999-12-31")
        self.assertRegex(self.admin("list"), "bob +expired ")
        self.admin("expire", "bob", "--never")
        self.assertNotIn("expiry", self.admin("show", "bob"))
        self.assertIn("nothing to do, it has no end", self.admin("expire", "bob", "--never"))

    def test_expire_what(self) -> None:
        """One end, and one that there is."""
        self.admin("add", "bob", "--key-file", str(self.key()))
        for argv, told in (
            (("bob",), "give one of --at, --in and --never"),
            (("bob", "--at", "2027-01-31", "--never"), "give one of"),
            (("bob", "--at", "tomorrow"), "--at is a date such as"),
            (("bob", "--at", "2027-02-30"), "--at is a date such as"),
            (("bob", "--at", "1969-01-01"), "--at is a date such as"),
            (("bob", "--in", "90"), "--in is a time such as"),
            (("bob", "--in", "0d"), "--in is a time such as"),
            (("--in", "90d"), "whom"),
            (("nobody", "--never"), "there is no nobody"),
        ):
            status, _ = self.run_admin("expire", *argv)
            self.assertNotEqual(status, 0)
            self.assertIn(told, self.said)

    def test_mistyped_path(self) -> None:
        """Nothing is begun where a path was mistyped."""
        for argv in (
            ("list",),
            ("show", "bob"),
            ("disable", "bob"),
            ("delete", "bob"),
            ("stats",),
            ("dump",),
            ("rotate-master-key",),
            ("rotate-tls",),
            ("check",),
        ):
            self.fails(7, "there is no .*pwd.txt", *argv)
        self.assertEqual(list(self.directory.iterdir()), [])
        self.path = self.directory / "no" / "pwd.txt"
        self.fails(7, "there is no .*pwd.txt", "list")
        self.fails(7, "No such file", "invite", "bob", *WHERE)

    def test_other_users_store(self) -> None:
        """Root makes no files that the KDC's user could not read."""
        self.admin("invite", "bob", *WHERE)
        uid = os.geteuid()
        self.patch(os, "geteuid", lambda: uid + 1)
        for argv in (("list",), ("delete", "bob"), ("repair",), ("invite", "eve", *WHERE)):
            self.fails(1, rf"belongs to another user \(uid {uid}\)", *argv)

    def test_where_is_it(self) -> None:
        """Without a KDC it must be said where it is; its fingerprint is known if it ran once."""
        self.admin("add", "alice", "--key-file", str(self.key()))
        self.fails(1, "not known where clients reach", "invite", "bob")
        self.fails(1, "fingerprint of this KDC is not known", "invite", "bob", *WHERE[:4])
        self.fails(1, "not a host, HOST:PORT", "invite", "bob", "--kdc-address", "a b", *WHERE[2:])
        shown = TLSFiles.beside(self.path).load_or_make().fingerprint
        invitation = Invitation.parse(self.admin("invite", "bob", *WHERE[:4]))
        self.assertEqual(invitation.fingerprint, shown)
        self.assertEqual(invitation.others, ())

    def test_where_they_are(self) -> None:
        """Of several KDCs each is said; those without a port of their own have the one that is."""
        words = ("--kdc-address", "[::1]:99", "--kdc-address", "kdc3.example", *WHERE[4:])
        for verb in ("invite", "reset"):
            invitation = Invitation.parse(self.admin(verb, "bob", *WHERE[:4], *words))
            self.assertEqual((invitation.host, invitation.port), ("kdc.example", 88))
            self.assertEqual(invitation.others, (("::1", 99), ("kdc3.example", 88)))
        self.fails(1, "not a host", "invite", "eve", *WHERE, "--kdc-address", "a b")
        many = [w for n in range(16) for w in ("--kdc-address", f"kdc{n}")]
        self.fails(1, "at most 16 addresses", "invite", "eve", *WHERE, *many)

    def test_rotate_tls(self) -> None:
        """The new fingerprint is told; a key that the KDC did not make is left alone."""
        self.admin("invite", "bob", *WHERE)
        self.fails(1, "the KDC was given its TLS key, it did not make it", "rotate-tls")
        old = TLSFiles.beside(self.path).load_or_make().fingerprint
        printed = self.admin("rotate-tls")
        new = TLSFiles.beside(self.path).load().fingerprint
        self.assertNotEqual(old, new)
        self.assertEqual(printed, f"the new fingerprint, for every client: {new}\n")
        self.assertTrue(self.audit()[-1].startswith("admin-rotated-tls client=- address=local sha"))

    def test_usage(self) -> None:
        """What cannot be meant is status 1, with the place to look."""
        self.admin("invite", "bob", *WHERE)
        for argv, pattern in (
            ((), "which command"),
            (("lost",), "Unknown command"),
            (("list", "--gone"), "gone"),
            (("show",), "whom\\? show NAME"),
            (("show", "a", "b"), ""),
            (("show", "a:b"), "not a principal's name"),
            (("list", "--status", "gone"), "no such status"),
            (("add", "eve"), "give --key-file"),
            (("add", "eve", "--key-file", "x", "--port", "x"), "a port is a number"),
            (("invite", "eve", "--hours", "0"), "--hours is a number"),
            (("invite", "eve", "--kdc-port", "0"), "a port is a number"),
            (("set-address", "bob", "192.0.2.1"), "say where to"),
            (("set-address", "bob", "kdc.example", "7"), "does not appear to be"),
            (("set-address", "bob", "fe80::1%lo", "7"), "a zone"),
            (("backup",), "name the directory"),
            (("load",), "name the file"),
            (("import",), "name the file"),
        ):
            self.fails(1, pattern, *argv)
        self.assertIn("see kdc admin import --help", self.said)
        status, printed = self.run_admin("--help")
        self.assertEqual(status, 0)
        self.assertIn("rotate-master-key", printed)

    def test_refusals(self) -> None:
        """Who is not there is status 5; what is not done is 8, and why."""
        self.admin("add", "bob", "--key-file", str(self.key()))
        self.fails(5, "there is no eve\n.*kdc admin list", "delete", "eve")
        self.fails(8, "bob is active\n.*delete it first", "purge", "bob")
        self.fails(8, "cannot be renamed.*\n.*invite the new name", "rename", "bob", "robert")
        self.admin("delete", "bob")
        self.fails(8, r"less than an hour ago.*\n.*try again in \d+ s", "purge", "bob")

    def test_a_log_that_cannot_be_written(self) -> None:
        """The change is made, and it is said that it is not noted."""
        log = self.directory / "folder"
        log.mkdir()
        self.admin("-o", str(log), "invite", "bob", *WHERE)
        self.assertIn("folder: Is a directory: the change is made, but not noted", self.said)
        self.admin("-o", str(self.directory / "out.txt"), "delete", "bob")
        self.assertIn(" admin-deleted client=bob ", (self.directory / "out.txt").read_text())

    def test_odd_times(self) -> None:
        """A time that is no date is shown as the number it is."""
        with contextlib.closing(FlatFileStore.open(self.path, realm="LOCAL")) as store:
            record = Record("bob", Status.DELETED, changed_time=10**18 - 1)
            store.apply([Create(record, bytes(16))])
        self.assertIn("changed: 999999999999999999", self.admin("show", "bob"))


def _cut_short(store: AdminStore, request: Any) -> Iterator[Any]:
    from kdc.errors import LocalIOError

    yield from ()
    raise LocalIOError("the running KDC ended the connection before it had answered")


class FilesTests(AdminTestCase):
    def filled(self, *names: str) -> None:
        for name in names:
            self.admin("add", name, "--key-file", str(self.key(f"{name}.key")))

    def test_check(self) -> None:
        """A good database is said to be good; a damaged one is told line by line, status 6."""
        self.filled("alice", "bob")
        self.assertEqual(self.admin("check"), "")
        self.assertIn("pwd.txt: good\n", self.said)
        lines = self.path.read_bytes().splitlines(keepends=True)
        lines[1] = lines[1].replace(b":active:", b":invited:")
        self.path.write_bytes(b"".join(lines))
        self.fails(7, "pwd.txt .*\n.*check", "list")
        status, printed = self.run_admin("check")
        self.assertEqual(status, 6)
        self.assertRegex(printed, r"pwd\.txt, line 2: ")
        self.assertIn("damaged; kdc admin repair", self.said)
        status, printed = self.run_admin("--json", "check")
        problem = json.loads(printed.splitlines()[0])
        self.assertEqual((problem["line"], problem["harmless"]), (2, False))

    def test_repair(self) -> None:
        """What is authentic is kept, what is not is put aside, the name reserved; it is noted."""
        self.filled("alice", "bob")
        self.fails(7, "nothing is wrong", "repair")
        lines = self.path.read_bytes().splitlines(keepends=True)
        self.path.write_bytes(b"".join([lines[0], lines[1][:-9] + b"x" * 8 + b"\n", *lines[2:]]))
        (self.directory / "pwd.txt.journal").unlink()
        (done,) = self.json("repair")
        self.assertEqual((done["kept"], done["reserved"]), (1, ["alice"]))
        self.assertIn(lines[1][:20], Path(done["quarantine"]).read_bytes())
        self.assertIn("alice: no line of it was authentic", self.said)
        statuses = {answer["name"]: answer["status"] for answer in self.json("list")}
        self.assertEqual(statuses, {"alice": "deleted", "bob": "active"})
        self.assertIn("admin-repaired client=- address=local 1 kept", self.audit()[-1])

    def test_beyond_repair(self) -> None:
        """What repair cannot do is said, and nothing is touched."""
        self.filled("alice")
        kept = self.path.rename(self.directory / "kept")
        self.assertEqual(self.run_admin("check")[0], 6)
        self.assertIn("cannot be opened nor repaired", self.said)
        self.fails(7, "missing or empty, and it was not always so", "invite", "bob")
        kept.rename(self.path)
        (self.directory / "pwd.txt.key").unlink()
        self.fails(7, "cannot be repaired: .*pwd.txt.key", "repair")
        self.assertEqual(self.run_admin("check")[0], 6)
        self.assertIn("cannot be opened nor repaired", self.said)
        self.path.write_text(TEXTBOOK)
        self.assertEqual(self.run_admin("check")[0], 6)
        self.fails(7, "format of the original program.*\n.*kdc admin import", "list")

    def test_backup(self) -> None:
        """A copy that was checked; with the key it can be used as it is."""
        self.filled("alice")
        target = self.directory / "backup"
        self.fails(7, "backup is not a directory", "backup", str(target))
        target.mkdir()
        printed = self.admin("backup", str(target), "--with-key").splitlines()
        self.assertIn(str(target / "pwd.txt.key"), printed)
        for path in target.iterdir():
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.fails(7, "is there already", "backup", str(target))
        self.path = target / "pwd.txt"
        self.assertEqual([answer["name"] for answer in self.json("list")], ["alice"])

    def test_backup_of_a_damaged_store(self) -> None:
        """It is said that the copy is no good."""
        self.filled("alice")
        self.path.write_bytes(self.path.read_bytes()[:-5])
        (self.directory / "backup").mkdir()
        status, _ = self.run_admin("backup", str(self.directory / "backup"))
        self.assertEqual(status, 7)
        self.assertIn("the backup is not good", self.said)

    def test_dump_and_load(self) -> None:
        """With secrets everybody is the same elsewhere; without, everybody is invited."""
        self.filled("alice", "bob")
        self.admin("delete", "bob")
        plain, whole = self.directory / "plain", self.directory / "whole"
        plain.write_text(self.admin("dump"))
        whole.write_text(self.admin("dump", "--secrets"))
        self.assertNotIn("verify_key", plain.read_text())
        self.assertIn("admin-dumped client=- address=local with secrets", self.audit()[-1])
        alice = self.record("alice")
        (self.directory / "new").mkdir()
        self.path = self.directory / "new" / "pwd.txt"
        self.assertEqual(self.admin("load", str(whole)), "")
        self.assertIn("2 added, 0 there already, 0 not taken", self.said)
        self.assertEqual(self.record("alice").verify_key, alice.verify_key)
        self.assertEqual(self.record("bob").status, Status.DELETED)
        noted = (self.directory / "new" / "pwd.txt.audit").read_text()
        self.assertIn(" admin-loaded client=alice address=local active by uid ", noted)
        before = self.files()
        self.admin("load", str(whole))
        self.assertIn("line 2 left out: alice: it is there already (active)\n", self.said)
        self.assertIn("0 added, 2 there already, 0 not taken", self.said)
        self.admin("disable", "alice")
        self.assertEqual(self.run_admin("load", str(whole)), (8, ""))
        self.assertIn("line 2 left out: alice: it is there already (disabled)\n", self.said)
        self.admin("enable", "alice")
        self.assertEqual(self.files().keys(), before.keys())

        (self.directory / "other").mkdir()
        self.path = self.directory / "other" / "pwd.txt"
        self.fails(1, "it is not known where clients reach this KDC", "load", str(plain))
        self.fails(1, "fingerprint of this KDC is not known", "load", str(plain), *WHERE[:4])
        self.assertEqual(list(self.path.parent.iterdir()), [])
        answer, deleted = self.json("load", str(plain), *WHERE, "--hours", "5")
        self.assertEqual(deleted, {"line": 3, "done": True, "name": "bob"})
        invitation = Invitation.parse(answer["invitation"])
        record = self.record("alice")
        self.assertEqual((record.status, record.invitation), (Status.INVITED, invitation.code))
        self.assertGreater(record.invitation_end_time, time.time() + 4 * 3600)

    def test_not_a_dump(self) -> None:
        """What is no dump, or one of another realm, is refused; so is what cannot be read."""
        self.filled("alice")
        file = self.directory / "dump"
        good = self.admin("dump", "--secrets")
        for text, pattern in (
            ("", "line 1 is not the first line of a dump"),
            ("\0\xff{", "line 1 is not the first line"),
            ('{"secrets": true}', "line 1 is not"),
            (good.replace("LOCAL", "OTHER", 1), "is of realm 'OTHER'"),
            (good + "{}\n", "line 3 of the dump is not a principal's\n.*read the file again"),
            (good + "[" * 100_000, "line 3 of the dump"),
        ):
            file.write_text(text)
            self.fails(7, pattern, "load", str(file))
        self.fails(7, "missing: No such file", "load", "missing")
        self.fails(7, "Is a directory", "load", str(self.directory))

    def test_a_dump_with_a_bad_line(self) -> None:
        """What was sent before it stays; mended, the file can be read again."""
        self.filled("zoe")
        names = [f"p{number:04}" for number in range(1200)]
        lines = [json.dumps({"format": "kdc-dump", "version": 1, "realm": "LOCAL", "secrets": 0})]
        lines += [json.dumps({"name": name, "status": "deleted"}) for name in names]
        file = self.directory / "dump"
        file.write_text("\n".join([*lines[:1101], "garbage", *lines[1101:]]))
        status, _ = self.run_admin("load", str(file))
        self.assertEqual(status, 7)
        self.assertIn("line 1102 of the dump is not a principal's", self.said)
        there = self.json("stats")[0]["records"] - 1
        self.assertTrue(600 < there <= 1100, there)
        file.write_text("\n".join(lines))
        self.assertEqual(len(self.json("load", str(file))), 1200)
        self.assertIn(f"{1200 - there} added, {there} there already, 0 not taken", self.said)

    def test_the_store_is_opened_once(self) -> None:
        """However many requests a file takes; and each fits what the KDC reads."""
        place = ("2001:db8:1111:2222:3333:4444:5555:6666", 65535)
        longest = attrs.evolve(
            Record("x" * 60, Status.ACTIVE, *place, b"k" * 32, b"k" * 32),
            expiry_time=10**18 - 1,
            renewal_seconds=10**18 - 1,
        )
        lines = [json.dumps({"format": "kdc-dump", "version": 1, "realm": "LOCAL", "secrets": 1})]
        lines += [
            json.dumps({**fields_of(longest, secrets=True), "name": f"{longest.name}{n:04}"})
            for n in range(1000)
        ]
        file = self.directory / "dump"
        file.write_text("\n".join(lines))
        opened: list[bool] = []
        sizes: list[int] = []
        how = AdminStore.opened

        def note_opened(store: AdminStore, *, create: bool) -> Any:
            opened.append(create)
            return how(store, create=create)

        def note_size(generator: Any) -> Any:
            def begin(store: Any, request: Any, context: Any) -> Any:
                sizes.append(len(json.dumps(request)))
                return generator(store, request, context)

            return begin

        self.patch(AdminStore, "opened", note_opened)
        self.patch(principals_module, "administer", note_size(principals_module.administer))
        self.admin("load", str(file), "--kdc-address", ".".join(["x" * 63] * 3 + ["x" * 61]))
        self.assertEqual(opened, [True])
        self.assertGreater(len(sizes), 5)
        self.assertLess(max(sizes), MAX_REQUEST)

    def test_import(self) -> None:
        """Names and addresses become invitations; the digests count nothing, and that is said."""
        old = self.directory / "old"
        old.write_text(TEXTBOOK)
        self.assertEqual(self.run_admin("import", str(old))[0], 1)
        self.assertIn("not known where clients reach", self.said)
        self.assertEqual(list(self.directory.iterdir()), [old])
        status, printed = self.run_admin("--json", "import", str(old), *WHERE)
        self.assertEqual(status, 8)
        answers = [json.loads(line) for line in printed.splitlines()]
        self.assertIn("the old digests are of no use here", self.said)
        self.assertIn("2 added, 1 there already, 2 not taken", self.said)
        whys = {answer["line"]: answer["why"] for answer in answers if not answer["done"]}
        for line, reason in ((4, "already"), (5, "not of the form"), (6, "10.4.5.999")):
            self.assertIn(reason, whys.pop(line))
        self.assertEqual(whys, {})
        invitations = [Invitation.parse(one["invitation"]) for one in answers if one["done"]]
        self.assertEqual([one.name for one in invitations], ["alice", "bob"])
        for one in invitations:
            record = self.record(one.name)
            self.assertEqual((record.status, record.invitation), (Status.INVITED, one.code))
            self.assertGreater(record.invitation_end_time, time.time() + 29 * 86_400)
        self.assertEqual(self.record("alice").address, "10.4.5.11")
        self.assertEqual(sum("admin-imported client=" in line for line in self.audit()), 2)
        digests = self.path.read_bytes() + (self.directory / "pwd.txt.journal").read_bytes()
        self.assertNotIn(b"QUJDREVGRw", digests)
        old.write_text("".join(TEXTBOOK.splitlines(keepends=True)[:3]))
        self.assertEqual(self.admin("import", str(old), *WHERE), "")
        self.assertRegex(self.said, r"line 1 left out: alice: it is there already \(invited\)\n")


class ProcessTests(ProgramTestCase):
    """The command as a process."""

    def admin(self, *argv: str, **how: Any) -> Any:
        return self.scratch.start(*KDC, "admin", *argv, **how)

    def silent_kdc(self) -> socket.socket:
        """Something that listens where the KDC would."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        path = SocketPath(self.directory / "pwd.txt")
        listening.bind(path.open())
        path.close()
        listening.listen()
        return listening

    def many(self, count: int) -> None:
        path = self.directory / "pwd.txt"
        with contextlib.closing(FlatFileStore.open(path, realm="LOCAL")) as store:
            records = [Record(f"p{number:06}", Status.DELETED) for number in range(count)]
            for at in range(0, count, store.most_changes):
                some = records[at : at + store.most_changes]
                store.apply([Create(record, bytes(16)) for record in some])

    def test_head(self) -> None:
        """A reader that has seen enough ends the command quietly."""
        self.many(5000)
        for argv in (("list",), ("--json", "list"), ("dump",)):
            with subprocess.Popen(
                [*KDC, "admin", *argv],
                cwd=self.directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PYTHONPATH": str(TOP), "HOME": str(self.scratch.home)},
            ) as process:
                if process.stdout is None or process.stderr is None:
                    self.fail("no pipes")
                self.assertTrue(process.stdout.readline())
                process.stdout.close()
                self.assertEqual(process.stderr.read(), b"")
            self.assertEqual(process.returncode, 128 + signal.SIGPIPE)

    def test_full_disk(self) -> None:
        """An answer that cannot be written is an error, status 7."""
        self.many(10)
        with open("/dev/full", "wb") as full:
            ended = subprocess.run(
                [*KDC, "admin", "list"],
                cwd=self.directory,
                stdout=full,
                stderr=subprocess.PIPE,
                env={"PYTHONPATH": str(TOP), "HOME": str(self.scratch.home)},
                check=False,
            )
        self.assertEqual(ended.returncode, 7)
        self.assertEqual(
            ended.stderr, b"kdc admin: cannot write the answer: No space left on device\n"
        )

    def test_control_c(self) -> None:
        """Ctrl-C ends it with 130 and without a word."""
        listening = self.silent_kdc()
        program = self.admin("list")
        connected, _ = listening.accept()
        with connected:
            program.signal(signal.SIGINT)
            self.assert_ends(program, 130)
        self.assertEqual(program.said, "")

    def test_a_kdc_that_ends(self) -> None:
        """If the KDC ends in the middle, that is said; nobody knows what was done."""
        listening = self.silent_kdc()
        program = self.admin("disable", "bob")
        connected, _ = listening.accept()
        connected.recv(1000)
        connected.close()
        self.assert_brief(program, 7, "ended the connection before it had answered")

    def test_five_at_once(self) -> None:
        """Without a KDC they take their turns: each makes its invitation, and none is lost."""
        names = [f"p{number}" for number in range(5)]
        programs = [self.admin("invite", name, *WHERE) for name in names]
        for name, program in zip(names, programs, strict=True):
            self.assert_ends(program, 0)
            self.assertEqual(Invitation.parse(program.printed).name, name)
        listed = self.admin("list")
        self.assert_ends(listed, 0)
        self.assertEqual([line.split()[0] for line in listed.printed.splitlines()], names)

    def test_running_kdc(self) -> None:
        """Beside a running KDC: through it, or refused with its number; the same store after."""
        kdc = self.kdc()
        self.register(kdc, "alice")
        program = self.admin("--json", "disable", "alice")
        self.assert_ends(program, 0)
        self.assertEqual(program.printed, '{"done": true, "name": "alice"}\n')
        refused = self.client("whoami", "-n", "alice", *kdc.options, *self.key("alice"))
        dumped, listed = self.admin("dump"), self.admin("list")
        repaired, checked = self.admin("repair"), self.admin("check")
        self.assert_ends(refused, 4)
        self.assert_brief(repaired, 7, f"in use by process {kdc.program.pid}")
        for program in (dumped, listed, checked):
            self.assert_ends(program, 0)
        self.assertEqual(len(dumped.printed.splitlines()), 2)
        socket_mode = (self.directory / "pwd.txt.admin").stat().st_mode
        self.assertTrue(stat.S_ISSOCK(socket_mode))
        self.assertEqual(socket_mode & 0o777, 0o600)
        self.one_transfer(kdc)
        self.assertEqual(kdc.program.stop(), 0)
        program = self.admin("show", "alice")
        self.assert_ends(program, 0)
        self.assertIn("status: disabled", program.printed)
        log = (self.directory / "out.txt").read_text()
        self.assertRegex(
            log, rf"Z admin-disabled client=alice address=local by uid {os.getuid()}\n"
        )
        self.assertFalse((self.directory / "pwd.txt.audit").exists())

    def test_who_is_there(self) -> None:
        """Beside a running KDC the list tells who receives, and when others were there."""
        kdc = self.kdc("--enrol", "open")
        options = (*kdc.options, *self.key("bob"))
        receiver = self.client("receive", "-n", "bob", *options, "--inbox", ".", "--listen", "0")
        receiver.expect("receiving on")
        self.assert_ends(listed := self.admin("list"), 0)
        self.assertRegex(listed.printed, r"(?m)^bob +active +online +127\.0\.0\.1:\d+$")
        receiver.signal(signal.SIGTERM)
        self.assert_ends(receiver, 143)
        self.assert_ends(listed := self.admin("list"), 0)
        self.assertRegex(listed.printed, r"(?m)^bob +active +\d{4}-\d\d-\d\dT\d\d:\d\dZ ")

    def test_load_beside_a_running_kdc(self) -> None:
        """Who is loaded from a file can log in at once; who is imported has an invitation to it."""
        kdc = self.kdc("--enrol", "invite")
        key = self.directory / "alice.key"
        write_key_file(key)
        keys = SecretSource(key_file=key).keys("LOCAL", "alice")
        alice = Record("alice", Status.ACTIVE, "", 0, keys.verify_key, keys.reply_key)
        there = MemoryStore()
        there.apply([Create(alice, bytes(16))])
        names = [Record(f"p{number:04}", Status.DELETED) for number in range(600)]
        there.apply([Create(record, bytes(16)) for record in names])
        self.file("dump", "\n".join(dump(there, secrets=True)).encode())
        self.file("old", TEXTBOOK.encode())
        loaded = self.admin("load", "dump")
        self.assert_ends(loaded, 0, "601 added, 0 there already, 0 not taken")
        imported = self.admin("import", "old")
        self.assert_ends(imported, 8, "1 added, 2 there already, 2 not taken")
        known = self.client("whoami", "-n", "alice", *kdc.options, "--key-file", str(key))
        self.assert_ends(known, 0)
        self.file("bob.invitation", imported.printed.encode()).chmod(0o600)
        options = (*kdc.options, *self.key("bob"), "--invitation-file", "bob.invitation")
        self.assert_ends(self.client("register", "-n", "bob", *options), 0, "registered bob")
        by = f"address=local {{}} by uid {os.getuid()}"
        log = self.directory / "out.txt"
        for line in (
            "admin-loaded client=alice " + by.format("active"),
            "admin-imported client=bob " + by.format("invited"),
        ):
            self.eventually(line, lambda line=line: line in log.read_text())  # type: ignore[misc]
        self.assertFalse((self.directory / "pwd.txt.audit").exists())

    def test_killed_while_loading(self) -> None:
        """Every invitation that is in the store has been written, but for those under way."""
        listening = self.silent_kdc()
        self.file("old", "".join(f":p{n:04}::0:x:\n" for n in range(600)).encode())
        program = self.admin("import", "old")
        listening.accept()[0].close()
        connected, _ = listening.accept()
        with connected, connected.makefile("rb") as request:
            names = [record["name"] for record in json.loads(request.readline())["records"]]
            for name in names:
                connected.sendall(
                    answer_line({"done": True, "name": name, "invitation": f"to-{name}"})
                )
            connected.sendall(end_line())
        with listening.accept()[0]:
            program.signal(signal.SIGKILL)
            self.assert_ends(program, -signal.SIGKILL)
        self.assertEqual(program.printed.split(), [f"to-{name}" for name in names])

    def test_load_when_the_kdc_stops(self) -> None:
        """What was taken stays, and it is said that the rest is still to be done."""
        listening = self.silent_kdc()
        lines = [json.dumps({"format": "kdc-dump", "version": 1, "realm": "LOCAL", "secrets": 0})]
        lines += [json.dumps({"name": f"p{n:04}", "status": "deleted"}) for n in range(600)]
        self.file("dump", "\n".join(lines).encode())
        program = self.admin("load", "dump")
        listening.accept()[0].close()
        connected, _ = listening.accept()
        with connected, connected.makefile("rb") as request:
            records = json.loads(request.readline())["records"]
            listening.close()
            for record in records:
                connected.sendall(answer_line({"done": True, "name": record["name"]}))
            connected.sendall(end_line())
        self.assert_brief(program, 7, "the KDC was stopped in the middle")
        self.assertFalse((self.directory / "pwd.txt").exists())


class TurnTests(AdminTestCase):
    """A store that another command has just now."""

    def setUp(self) -> None:
        super().setUp()
        self.held = FlatFileStore.open(self.path, realm="LOCAL")
        self.addCleanup(self.held.close)
        self.pauses: list[float] = []

    def listed(self, tries: int, pause: Callable[[float], None]) -> list[Any]:
        store = AdminStore(self.path, tries=tries, pause=pause)
        return list(store.ask({"command": "list"}))

    def test_it_is_waited_for(self) -> None:
        """What is done in between is there when the turn has come."""

        def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            if len(self.pauses) == 3:
                self.held.apply([Create(Record("bob", Status.DELETED), bytes(16))])
                self.held.close()

        (bob,) = self.listed(10, pause)
        self.assertEqual((bob["name"], len(self.pauses)), ("bob", 3))

    def test_not_for_ever(self) -> None:
        """At last it is said who has it."""
        error = self.assertRaises(StoreInUse, self.listed, 3, self.pauses.append)
        self.assertIn(f"in use by process {os.getpid()}", str(error))
        self.assertEqual(len(self.pauses), 2)


class SeveralTests(AdminTestCase):
    """Several invitations at once."""

    def invited(self, printed: str) -> list[str]:
        return [Invitation.parse(line).name for line in printed.splitlines()]

    def test_several(self) -> None:
        """A line for each name, in their order, from the command line and from a file."""
        names = self.directory / "names"
        names.write_text("# the others\ndave\n\n  Erin  # with a capital\n")
        printed = self.admin("invite", "carol", "bob", "--names", str(names), *WHERE)
        self.assertEqual(self.invited(printed), ["carol", "bob", "dave", "erin"])
        self.assertEqual(
            [each["name"] for each in self.json("list")], sorted(self.invited(printed))
        )

    def test_some_in_vain(self) -> None:
        """Those that cannot be are named with the reason, and keep nobody from his own."""
        self.admin("add", "bob", "--key-file", str(self.directory / "bob.key"))
        status, printed = self.run_admin("invite", "alice", "bob", "carol", *WHERE)
        self.assertEqual(status, 8)
        self.assertEqual(self.invited(printed), ["alice", "carol"])
        self.assertIn("kdc admin: bob: bob is there already (active)\n  ", self.said)

    def test_no_names(self) -> None:
        """A name that is none, or a file that is none, is told before anybody is invited."""
        names = self.directory / "names"
        names.write_text("alice\nb/b\n")
        self.fails(1, "names line 2: ", "invite", "bob", "--names", str(names), *WHERE)
        self.fails(7, "missing: No such file", "invite", "--names", str(names.with_name("missing")))
        names.write_text("# nobody\n")
        self.fails(1, "whom. invite NAME", "invite", "--names", str(names), *WHERE)

    def test_without_a_kdc(self) -> None:
        """That none is running is the reason why its address is not known."""
        self.fails(
            1,
            "not known where clients reach this KDC, as none is running\n.*--kdc-address",
            "invite",
            "bob",
        )


class InvitationTests(ProgramTestCase):
    """From the operator's hand to a registered name."""

    def invitation(self, name: str, **request: Any) -> str:
        """Return the file with an invitation, made through the running KDC."""
        store = AdminStore(self.directory / "pwd.txt")
        (answer,) = store.ask({"command": "invite", "name": name, **request})
        path = self.directory / f"{name}.invitation"
        path.touch(mode=0o600)
        path.write_text(answer["invitation"] + "\n")
        return str(path)

    def register_by(self, kdc: RunningKDC, name: str, path: str, key: str = "") -> Any:
        options = (*kdc.options, *self.key(key or name), "--invitation-file", path)
        return self.client("register", "-n", name, *options)

    def test_qr_code(self) -> None:
        """Beside the word, for a camera; without the package nothing is reserved."""
        self.kdc()
        program = self.scratch.start(*KDC, "admin", "invite", "carol", "--qr")
        self.assert_ends(program, 0)
        word, *code = program.printed.splitlines()
        self.assertEqual(Invitation.parse(word).name, "carol")
        self.assertEqual(qr_code(word).splitlines(), code)
        self.assertGreater(len(code), 20)
        self.assertEqual({len(line) for line in code}, {len(code[0])})
        (self.directory / "segno.py").write_text("raise ImportError\n")
        program = self.scratch.start(
            *(*KDC, "admin", "invite", "dave", "--qr"),
            environment={"PYTHONPATH": str(self.directory)},
        )
        self.assert_brief(program, 1, r"segno\n.*pip install 'kdc-twisted\[qr\]'")
        both = self.scratch.start(*KDC, "admin", "--json", "invite", "dave", "--qr")
        self.assert_ends(both, 1, "give one of --json and --qr")
        listed = self.scratch.start(*KDC, "admin", "list")
        self.assert_ends(listed, 0)
        self.assertNotIn("dave", listed.printed)

    def test_invitations(self) -> None:
        """Good once, for one name, until its end; the old one not after a new one was made."""
        kdc = self.kdc("--enrol", "invite")
        program = self.scratch.start(*KDC, "admin", "invite", "bob")
        self.assert_ends(program, 0)
        bob = self.directory / "bob.invitation"
        bob.touch(mode=0o600)
        bob.write_text(program.printed)
        late, end_time = self.invitation("late", valid_seconds=1), time.time() + 1
        stale = self.invitation("stale")
        self.invitation("gone")
        old = self.file("old.invitation", Path(stale).read_bytes())
        old.chmod(0o600)
        fresh = self.invitation("stale")
        list(AdminStore(self.directory / "pwd.txt").ask({"command": "purge", "name": "gone"}))

        none = self.client("register", "-n", "eve", *kdc.options, *self.key("eve"))
        other = self.register_by(kdc, "eve", str(bob))
        replaced = self.register_by(kdc, "stale", str(old))
        purged = self.register_by(kdc, "gone", str(self.directory / "gone.invitation"))
        for program in (none, other, replaced, purged):
            self.assert_brief(program, 4, "invitation")
        used = self.register_by(kdc, "bob", str(bob))
        self.assert_ends(used, 0, "registered bob")
        newest = self.register_by(kdc, "stale", fresh)
        again = self.register_by(kdc, "bob", str(bob), "eve")
        self.eventually("too late", lambda: time.time() > end_time + 1)
        expired = self.register_by(kdc, "late", late)
        self.assert_ends(newest, 0)
        self.assert_brief(again, 4)
        self.assert_brief(expired, 4)
        listed = {a["name"]: a["status"] for a in self.listed()}
        self.assertEqual(listed, {"bob": "active", "late": "invited", "stale": "active"})

    def listed(self) -> list[Any]:
        return list(AdminStore(self.directory / "pwd.txt").ask({"command": "list"}))
