"""``kdc admin -f pwd.txt COMMAND``: the operator's tool.

It asks the running KDC through its local socket; if none is running it takes
the store's lock and does the same by itself.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.python import usage

from kdc.administration import Answer, Context, Request, administer
from kdc.adminserver import SocketPath
from kdc.auditlog import format_line
from kdc.errors import ExitStatus, KDCError, LocalIOError
from kdc.invitation import Invitation
from kdc.issuer import Audit
from kdc.options import Command, absolute, realm_of, whole_number
from kdc.partial import local_error
from kdc.principal import fold_name
from kdc.running import say
from kdc.secret import SecretSource, write_key_file
from kdc.service import KDCSettings, load_tls, renew_tls
from kdc.store.base import Header
from kdc.store.check import check
from kdc.store.flatfile import FlatFileStore
from kdc.store.portable import Imported, backup, dump, import_textbook, load
from kdc.store.repair import repair

__all__ = ["AdminOptions"]

_SECONDS = 60.0
_MAX_LINE = 1024


class _Sub(Command):
    """One command of ``kdc admin``."""

    parent: AdminOptions

    def run(self) -> int:
        raise NotImplementedError


class _Simple(_Sub):
    """A command that is one request to the store."""

    command = ""

    def request(self) -> Request:
        return {"name": self["principal"]} if "principal" in self else {}

    def run(self) -> int:
        for answer in self.parent.ask({"command": self.command, **self.request()}):
            self.parent.show(answer, self.line(answer))
        return 0

    def line(self, answer: Answer) -> str:
        if answer.get("done") is False:
            return f"{answer['name']}: nothing to do, {answer['why']}"
        return f"{answer.get('name', self.command)}: done"


class _Named(_Simple):
    """A command about one principal."""

    def parseArgs(self, name: str = "") -> None:
        self["principal"] = _name(name)


class _List(_Simple):
    """``list``"""

    synopsis = "kdc admin list [--status STATUS] [--prefix TEXT]"
    command = "list"
    optParameters = [
        ["status", None, None, "only those that are active, disabled, invited or deleted"],
        ["prefix", None, None, "only names that begin so"],
    ]

    def request(self) -> Request:
        return {"status": self["status"], "prefix": self["prefix"]}

    def line(self, answer: Answer) -> str:
        return _principal_line(answer)


class _Show(_Named):
    """``show NAME``"""

    synopsis = "kdc admin show NAME"
    command = "show"

    def line(self, answer: Answer) -> str:
        return _principal_line(answer)


class _Placed(_Named):
    optParameters = [
        ["address", None, "", "the principal's IP address"],
        ["port", None, "0", "the port of its receiver"],
    ]
    optFlags = [["if-absent", None, "no error if the name is there already"]]

    def request(self) -> Request:
        return {
            "name": self["principal"],
            "address": self["address"],
            "port": whole_number(self["port"], 0, 65535, "a port"),
            "if_absent": bool(self.get("if-absent")),
        }


class _Add(_Placed):
    """``add NAME --key-file FILE``"""

    synopsis = "kdc admin add NAME --key-file FILE [options]"
    longdesc = "Add a principal that has a key file; the file is made if it is not there."
    command = "add"
    optParameters = [["key-file", None, None, "the principal's key file"]]

    def request(self) -> Request:
        path = absolute(self["key-file"])
        if path is None:
            raise usage.UsageError("give --key-file, or invite the principal instead")
        if not path.exists():
            write_key_file(path)
            say(f"{path}: a new key; take it to {self['principal']} by a safe way")
        keys = SecretSource(key_file=path).keys(self.parent.realm, self["principal"])
        return {
            **super().request(),
            "verify_key": keys.verify_key.hex(),
            "reply_key": keys.reply_key.hex(),
        }


class _Invite(_Placed):
    """``invite NAME``"""

    synopsis = "kdc admin invite NAME [options]"
    longdesc = "Reserve a name for whoever holds the invitation, which is printed."
    command = "invite"
    optParameters = [
        ["kdc-address", None, None, "where clients reach the KDC, if it does not know"],
        ["kdc-port", None, None, "its port"],
        ["hours", None, "72", "how long the invitation is good"],
    ]

    def request(self) -> Request:
        port = self["kdc-port"]
        return {
            **super().request(),
            "kdc_host": self["kdc-address"],
            "kdc_port": None if port is None else whole_number(port, 1, 65535, "a port"),
            "valid_seconds": 3600 * whole_number(self["hours"], 1, 8760, "--hours"),
        }

    def line(self, answer: Answer) -> str:
        return answer.get("invitation") or super().line(answer)


class _Disable(_Named):
    """``disable NAME``"""

    synopsis = "kdc admin disable NAME"
    command = "disable"


class _Enable(_Named):
    """``enable NAME``"""

    synopsis = "kdc admin enable NAME"
    command = "enable"


class _Delete(_Named):
    """``delete NAME``"""

    synopsis = "kdc admin delete NAME"
    longdesc = "Delete a principal; its name stays reserved until it is purged."
    command = "delete"


class _Purge(_Named):
    """``purge NAME``"""

    synopsis = "kdc admin purge NAME"
    longdesc = "Free the name of a deleted principal or of an invitation."
    command = "purge"
    optFlags = [["force", None, "do not wait for an hour after the deletion"]]

    def request(self) -> Request:
        return {**super().request(), "force": bool(self["force"])}


class _SetAddress(_Simple):
    """``set-address NAME ADDRESS PORT``"""

    synopsis = "kdc admin set-address NAME ADDRESS PORT"
    command = "set-address"

    def parseArgs(self, name: str = "", address: str = "", port: str = "0") -> None:
        self["principal"], self["address"] = _name(name), address
        self["port"] = whole_number(port, 0, 65535, "a port")

    def request(self) -> Request:
        return {"name": self["principal"], "address": self["address"], "port": self["port"]}


class _Rename(_Simple):
    """``rename OLD NEW``"""

    synopsis = "kdc admin rename OLD NEW"
    longdesc = "Refused, and says why."
    command = "rename"

    def parseArgs(self, *names: str) -> None:
        """Whatever they are."""


class _RotateMasterKey(_Simple):
    """``rotate-master-key``"""

    synopsis = "kdc admin rotate-master-key"
    longdesc = "Seal the database under a new master key.  Older backups need the old one."
    command = "rotate-master-key"


class _RotateTLS(_Simple):
    """``rotate-tls``"""

    synopsis = "kdc admin rotate-tls"
    longdesc = "Make a new TLS key.  Every client that has pinned the old one must be told."
    command = "rotate-tls"

    def line(self, answer: Answer) -> str:
        return f"the new fingerprint, for every client: {answer['fingerprint']}"


class _Stats(_Simple):
    """``stats``"""

    synopsis = "kdc admin stats"
    command = "stats"

    def line(self, answer: Answer) -> str:
        return "\n".join(f"{key.replace('_', ' ')}: {value}" for key, value in answer.items())


class _Check(_Sub):
    """``check``"""

    synopsis = "kdc admin check"
    longdesc = "Look at every line of the database; say what is wrong, change nothing."

    def run(self) -> int:
        problems = check(self.parent.path, **self.parent.companions)
        for problem in problems:
            self.parent.show(
                {
                    "file": problem.file,
                    "line": problem.line,
                    "problem": problem.text,
                    "harmless": problem.harmless,
                },
                str(problem),
            )
        if all(problem.harmless for problem in problems):
            say(f"{self.parent.path}: good")
            return 0
        say(f"{self.parent.path}: damaged; kdc admin repair keeps what is authentic")
        return int(ExitStatus.INTEGRITY)


class _Repair(_Sub):
    """``repair``"""

    synopsis = "kdc admin repair"
    longdesc = "Keep every authentic line and put the others aside.  The KDC must be stopped."

    def run(self) -> int:
        done = repair(self.parent.path, now=int(time.time()), **self.parent.companions)
        self.parent.audit("admin-repaired", "", f"{done.kept} kept, {done.quarantined} aside")
        self.parent.show(
            {
                "kept": done.kept,
                "quarantined": done.quarantined,
                "reserved": done.reserved,
                "quarantine": done.quarantine,
            },
            f"kept {done.kept} principals; {done.quarantined} lines are in {done.quarantine}",
        )
        for name in done.reserved:
            say(f"{name}: no line of it was authentic; the name is reserved by a tombstone")
        return 0


class _Backup(_Sub):
    """``backup DIRECTORY``"""

    synopsis = "kdc admin backup DIRECTORY"
    longdesc = "Copy the database to an existing directory and check the copy."
    optFlags = [["with-key", None, "copy the master key too: the copy is then as precious"]]

    def parseArgs(self, directory: str = "") -> None:
        if not directory:
            raise usage.UsageError("name the directory: backup DIRECTORY")
        self["directory"] = directory

    def run(self) -> int:
        target = absolute(self["directory"]) or Path()
        if not target.is_dir():
            raise LocalIOError(f"{target} is not a directory", hint="make it first")
        copies = backup(self.parent.path, target, with_key=bool(self["with-key"]))
        for copy in copies:
            self.parent.show({"file": copy}, copy)
        return 0


class _Dump(_Sub):
    """``dump``"""

    synopsis = "kdc admin dump [--secrets]"
    longdesc = "Write the database as portable text to standard output.  The KDC must be stopped."
    optFlags = [["secrets", None, "with the keys: whoever reads it can guess every passphrase"]]

    def run(self) -> int:
        with self.parent.opened() as store:
            for line in dump(store, secrets=bool(self["secrets"])):
                print(line)
        return 0


class _FromFile(_Sub):
    """A command that reads a file of principals, and may print invitations."""

    optParameters = [
        ["kdc-address", None, None, "where clients reach the KDC, for the invitations"],
        ["kdc-port", None, None, "its port"],
    ]

    def parseArgs(self, file: str = "") -> None:
        if not file:
            raise usage.UsageError("name the file to read")
        self["source"] = absolute(file)

    def lines(self) -> list[str]:
        path: Path = self["source"]
        try:
            return path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise local_error(path, error) from None

    def where(self) -> tuple[str, int]:
        """Where the invitations lead."""
        if not self["kdc-address"] or not self["kdc-port"]:
            raise usage.UsageError("invitations need --kdc-address and --kdc-port")
        return self["kdc-address"], whole_number(self["kdc-port"], 1, 65535, "a port")

    def tell(self, done: Imported) -> int:
        if done.invited:
            (host, port), fingerprint = self.where(), self.parent.fingerprint
        for invited in done.invited:
            invitation = str(
                Invitation(self.parent.realm, invited.name, host, port, fingerprint, invited.code)
            )
            self.parent.audit("admin-invited", invited.name, "")
            self.parent.show({"name": invited.name, "invitation": invitation}, invitation)
        for skipped in done.skipped:
            say(f"line {skipped.line} skipped: {skipped.reason}")
        return int(ExitStatus.DONE)


class _Load(_FromFile):
    """``load FILE``"""

    synopsis = "kdc admin load FILE"
    longdesc = "Add what dump has written.  The KDC must be stopped."

    def run(self) -> int:
        with self.parent.opened() as store:
            return self.tell(load(store, self.lines(), random=os.urandom))


class _Import(_FromFile):
    """``import FILE``"""

    synopsis = "kdc admin import FILE"
    longdesc = (
        "Read a database of the textbook format (:alice:10.4.5.11:35678:DIGEST=:) as names to be"
        " claimed by invitation.  The KDC must be stopped."
    )
    optParameters = [["hours", None, "720", "how long the invitations are good"]]

    def run(self) -> int:
        now = int(time.time())
        hours = whole_number(self["hours"], 1, 8760, "--hours")
        self.where()
        with self.parent.opened() as store:
            done = import_textbook(
                store,
                self.lines(),
                random=os.urandom,
                now=now,
                invitation_end_time=now + 3600 * hours,
            )
        say("the old digests are of no use here: each name waits for its owner to claim it")
        return self.tell(done)


class AdminOptions(Command):
    """Options of ``kdc admin``."""

    synopsis = "kdc admin [-f pwd.txt] COMMAND [options]"
    longdesc = "Look after the principal database, beside the running KDC or without it."
    optParameters = [
        ["file", "f", "pwd.txt", "the principal database"],
        [
            "output",
            "o",
            None,
            (
                "the activity log for changes made without a running KDC; by default"
                " beside the database, with the ending .audit"
            ),
        ],
        ["realm", None, "LOCAL", "the realm of a database that is yet to be made"],
        ["master-key", None, None, "the key file of the database, if it is not beside it"],
        ["generation-file", None, None, "its generation file, if that is not beside it"],
    ]
    optFlags = [["json", None, "answer in lines of JSON"]]
    subCommands = [
        ["list", None, _List, "all principals"],
        ["show", None, _Show, "one principal"],
        ["add", None, _Add, "add a principal that has a key file"],
        ["invite", None, _Invite, "make an invitation for a new principal"],
        ["disable", None, _Disable, "let a principal get no keys"],
        ["enable", None, _Enable, "let it again"],
        ["delete", None, _Delete, "delete a principal"],
        ["purge", None, _Purge, "free the name of a deleted principal"],
        ["set-address", None, _SetAddress, "note another address"],
        ["rename", None, _Rename, "refused"],
        ["rotate-master-key", None, _RotateMasterKey, "seal the database under a new key"],
        ["rotate-tls", None, _RotateTLS, "give the KDC a new identity"],
        ["check", None, _Check, "look for damage"],
        ["repair", None, _Repair, "put damaged lines aside"],
        ["backup", None, _Backup, "copy the database"],
        ["dump", None, _Dump, "write it as portable text"],
        ["load", None, _Load, "add what dump wrote"],
        ["import", None, _Import, "take over names of the textbook format"],
        ["stats", None, _Stats, "counts, and what the running KDC does"],
    ]

    def postOptions(self) -> None:
        if self.subCommand is None:
            raise usage.UsageError("which command?")

    @property
    def path(self) -> Path:
        return absolute(self["file"]) or Path("pwd.txt")

    @property
    def fingerprint(self) -> str:
        """Of the KDC's TLS key, which is made if there is none yet."""
        return load_tls(KDCSettings(self.path, ())).fingerprint

    @property
    def companions(self) -> dict[str, Any]:
        key, generation = absolute(self["master-key"]), absolute(self["generation-file"])
        return {
            "key_path": None if key is None else str(key),
            "generation_path": None if generation is None else str(generation),
        }

    @property
    def realm(self) -> str:
        """The database's own, or for one that is yet to be made the one that was given."""
        try:
            with self.path.open("rb") as file:
                header = Header.parse(file.readline(_MAX_LINE).rstrip(b"\n"))
        except FileNotFoundError:
            header = None
        except OSError as error:
            raise local_error(self.path, error) from None
        return header.realm if header is not None else realm_of(self)

    def run(self) -> int:
        status: int = self.subOptions.run()
        return status

    def show(self, answer: Answer, line: str) -> None:
        print(json.dumps(answer) if self["json"] else line)

    def ask(self, request: Request) -> Iterator[Answer]:
        """Have the running KDC do it, or do it ourselves.  Raises `KDCError`."""
        connected = _connect(self.path)
        if connected is not None:
            yield from _converse(connected, request)
            return
        with self.opened() as store:
            yield from administer(store, request, self._context(store))

    def opened(self) -> _Opened:
        """The store, locked; raises `StoreError` if a KDC is running."""
        return _Opened(FlatFileStore.open(self.path, realm=self.realm, **self.companions))

    def audit(self, event: str, name: str, detail: str) -> None:
        """Note a change that no running KDC has noted."""
        path = absolute(self["output"]) or self.path.with_name(f"{self.path.name}.audit")
        line = format_line(Audit(event, name, f"uid {os.getuid()}", detail), time.time())
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags, 0o600), "w") as file:
                file.write(line + "\n")
        except OSError as error:
            say(f"{local_error(path, error)}: the change is made, but not noted there")

    def _context(self, store: FlatFileStore) -> Context:
        settings = KDCSettings(self.path, ())
        return Context(
            now=int(time.time()),
            random=os.urandom,
            audit=self.audit,
            where=lambda: ("", 0, self.fingerprint),
            rotate_tls=lambda: renew_tls(settings).fingerprint,
            rotate_master_key=store.rotate_master_key,
        )


class _Opened:
    """A store that is closed whatever happens."""

    def __init__(self, store: FlatFileStore) -> None:
        self._store = store

    def __enter__(self) -> FlatFileStore:
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()


def _connect(store: Path) -> socket.socket | None:
    """Return a connection to the running KDC, or None if there is none."""
    path = SocketPath(store)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(_SECONDS)
    try:
        connected.connect(path.usable)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connected.close()
        return None
    except OSError as error:
        connected.close()
        raise local_error(path.path, error) from None
    finally:
        path.close()
    return connected


def _converse(connected: socket.socket, request: Request) -> Iterator[Answer]:
    with connected, connected.makefile("rw", encoding="utf-8") as stream:
        try:
            stream.write(json.dumps(request) + "\n")
            stream.flush()
            for line in stream:
                answer = json.loads(line)
                if "status" in answer and "name" not in answer:
                    if answer["status"]:
                        raise _Answered(answer)
                    return
                yield answer
        except (OSError, ValueError) as error:
            raise LocalIOError(f"the running KDC did not answer: {error}") from None
    raise LocalIOError("the running KDC ended before it had answered", hint="see its log")


class _Answered(KDCError):
    """An error that the running KDC found."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer.get("error")), hint=str(answer.get("hint") or ""))
        self.exit_status = ExitStatus(answer["status"])  # type: ignore[misc]


def _name(typed: str) -> str:
    try:
        return fold_name(typed)
    except ValueError as error:
        raise usage.UsageError(str(error)) from None


def _principal_line(answer: Answer) -> str:
    place = answer["address"] or "-"
    changed = time.strftime("%Y-%m-%d %H:%M", time.gmtime(answer["changed"]))
    return f"{answer['name']:<24} {answer['status']:<9} {place:<22} {answer['port']:>5}  {changed}"
