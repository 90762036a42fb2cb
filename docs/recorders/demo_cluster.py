"""One realm on three KDCs and three members of etcd, and what is left of it when some are killed.

`make demo-cluster` runs it, all on this machine, in a temporary directory and with an
empty home; nothing is left behind.  The exit status is 0 only if nothing was lost.
docs/cluster.md has the same steps for three machines.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from demo import DemoError, Program, check, heading, run, sha256, show, undivided

ETC = Path(__file__).absolute().parent.parent.parent / "etc"
PATIENCE_SECONDS = 180.0
FILE_BYTES = 1 << 20
# Who sends a file, one wave after the other.  All are new to the realm.
WAVES = (("anna", "ben", "carl"), ("dora", "emil", "fay"), ("gus", "hana", "ivo"), ("jana", "kurt"))
NEEDED = {"etcd": "etcd-server", "openssl": "openssl"}


class Member:
    """A member of etcd on a loopback address of its own; what it says goes to a file."""

    def __init__(self, number: int, addresses: list[str], certificates: Path) -> None:
        self.title = f"etcd{number + 1}"
        self._address = addresses[number]
        self._own = certificates / self._address
        self.settings = self._sample(number, addresses)
        self._process: subprocess.Popen[bytes] | None = None

    def _sample(self, number: int, addresses: list[str]) -> dict[str, str]:
        """What the sample for machines says, for this one."""
        text = (ETC / "etcd.conf").read_text(encoding="utf-8")
        own, data = f"{self._own}/", str(Path(self.title).absolute())
        text = text.replace("/etc/etcd/", own).replace("/var/lib/etcd/kdc", data)
        text = text.replace("192.0.2.1:", f"{self._address}:")
        first, rest = text.split("\nETCD_INITIAL_CLUSTER=")
        first = first.replace("kdc1", f"kdc{number + 1}")
        text = f"{first}\nETCD_INITIAL_CLUSTER={rest}"
        for name, address in enumerate(addresses, 1):
            text = text.replace(f"kdc{name}.example", address)
        return dict(re.findall(r"^(ETCD_\w+)=(.*)$", text, re.MULTILINE))

    def start(self) -> None:
        with Path(f"{self.title}.log").open("ab") as log, undivided():
            self._process = subprocess.Popen(
                ["etcd"],
                env={**os.environ, **self.settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        show(f"  {self.title:>5} | started, at {self._address} port 2379")

    def leads(self) -> bool | None:
        """Whether it is the leader; None if it knows of none."""
        context = ssl.create_default_context(cafile=str(self._own / "ca.pem"))
        context.load_cert_chain(self._own / "kdc.pem", self._own / "kdc-key.pem")
        connection = http.client.HTTPSConnection(self._address, 2379, timeout=2, context=context)
        with contextlib.closing(connection), contextlib.suppress(OSError, ValueError):
            connection.request("POST", "/v3/maintenance/status", "{}")
            status: dict[str, Any] = json.loads(connection.getresponse().read())
            if status.get("leader"):
                return bool(status["leader"] == status["header"]["member_id"])
        return None

    def wait_for(self) -> None:
        """Raises `DemoError` if it does not find a leader."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self.leads() is None:
            if (
                self._process is None
                or self._process.poll() is not None
                or time.monotonic() > until
            ):
                show(Path(f"{self.title}.log").read_text(encoding="utf-8")[-2000:])
                raise DemoError(f"{self.title} does not work; its last words are above")
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Cluster:
    """All of it; the current directory holds what belongs to it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        # Nobody else's, as likely as not: so the ports can be the usual ones.
        net = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        self.addresses = [f"{net}.{number}" for number in (1, 2, 3)]
        self.members: list[Member] = []
        self.kdcs: list[Program] = []
        self.fingerprint = ""
        self._started: list[Program | Member] = []

    def make_certificates(self) -> None:
        # Members see each other come from 127.0.0.1, whichever address they have.
        machines = [f"{address},127.0.0.1" for address in self.addresses]
        self._start("you", str(ETC / "etcd-certificates.sh"), "certificates", *machines).end()

    def start_etcd(self) -> None:
        for number in range(3):
            member = Member(number, self.addresses, Path("certificates").absolute())
            self.members.append(member)
            self._started.append(member)
            member.start()
        for member in self.members:
            member.wait_for()
        self.leader()
        check(sum(member.leads() is True for member in self.members) <= 1, "they have a leader")

    def leader(self) -> Member:
        """The member that leads, once one does; raises `DemoError`."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            for member in self.members:
                if member.leads():
                    return member
            time.sleep(0.05)
        raise DemoError("no member of etcd leads")

    def start_kdc(self, number: int) -> Program:
        """Its own member first in the list, as on a machine of its own."""
        certificates = f"certificates/{self.addresses[number]}"
        order = [*self.addresses[number:], *self.addresses[:number]]
        program = self._start(
            f"kdc{number + 1}",
            *("kdc", "-p", f"tcp:12345:interface={self.addresses[number]}"),
            *("--store", f"etcd://{','.join(order)}/", "--etcd-ca", f"{certificates}/ca.pem"),
            *("--etcd-certificate", f"{certificates}/kdc.pem"),
            *("--etcd-key", f"{certificates}/kdc-key.pem"),
            *("--state", f"kdc{number + 1}", "-o", f"kdc{number + 1}.txt"),
            # Whoever comes may register here, and all come from one address at the same time.
            *("--enrol", "open", "--limit", "registrations-per-minute=1000"),
        )
        fingerprint = program.wait_for(r"fingerprint (sha256:[0-9a-f]{64})")[1]
        program.wait_for(r"principals? in")
        if self.fingerprint not in ("", fingerprint):
            raise DemoError("the KDCs show different fingerprints")
        self.fingerprint = fingerprint
        return program

    def start_kdcs(self) -> None:
        for number in range(3):
            state = Path(f"kdc{number + 1}")
            state.mkdir(mode=0o700)
            if number:
                for name in ("kdc.key", "kdc.tls"):
                    shutil.copy(f"kdc1/{name}", state)
                show(f"  kdc1/kdc.key and kdc1/kdc.tls copied into {state}/")
            self.kdcs.append(self.start_kdc(number))

    def make_keys(self) -> None:
        names = [name for wave in WAVES for name in wave]
        self._start("you", "kdcclient", "keygen", "bob.key").end()
        show(f"        (the same for {', '.join(names)})")
        for name in names:
            self._start("you", "kdcclient", "keygen", f"{name}.key", shown=False).end()
        for name in names:
            Path(f"{name}.bin").write_bytes(os.urandom(FILE_BYTES))

    def start_receiver(self) -> Program:
        Path("inbox").mkdir()
        flags = ("--listen", "0", "--inbox", "inbox", "--yes")
        bob = self._client("bob", "receive", *flags, typed=True)
        bob.wait_for(r"receiving on .*\(3 of 3 KDCs\)")
        return bob

    def send(self, name: str, *, typed: bool) -> Program:
        """Start to send ``name``'s file; it is registered with that, too."""
        return self._client(name, "send", "bob", f"{name}.bin", typed=typed)

    def _client(self, name: str, word: str, *flags: str, typed: bool) -> Program:
        places = [part for address in self.addresses for part in ("-a", f"{address}:12345")]
        who = ("-n", name, "--key-file", f"{name}.key", "--kdc-fingerprint", self.fingerprint)
        return self._start(name, "kdcclient", word, *places, *who, *flags, typed=typed)

    def known_at(self, number: int) -> list[str]:
        """Whom that KDC knows: names and states; who was seen when is each KDC's own."""
        program = self._start("you", "kdc", "admin", "--state", f"kdc{number + 1}", "list")
        program.end()
        return [" ".join(line.split()[:2]) for line in program.lines]

    def _start(self, title: str, *command: str, typed: bool = True, shown: bool = True) -> Program:
        with undivided():
            program = Program(title, self._home, *command, typed=typed and shown, shown=shown)
            self._started.append(program)
        return program

    def close(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # impatience must not leave any behind
        for started in self._started:
            started.kill()


def demonstrate(home: Path) -> None:
    cluster = Cluster(home)
    try:
        _set_up(cluster)
        heading("Bob receives files; he knows all three KDCs")
        bob = cluster.start_receiver()
        _send_and_kill(cluster)
        _compare(cluster, bob)
    finally:
        cluster.close()


def _set_up(cluster: Cluster) -> None:
    heading("Certificates for etcd, from an authority that is made for this alone")
    cluster.make_certificates()
    heading("Three members of etcd, with the settings of etc/etcd.conf")
    cluster.start_etcd()
    heading("Three KDCs; the first has made the realm's keys, the others get copies")
    cluster.start_kdcs()
    heading("A key file for everybody")
    cluster.make_keys()


def _send_and_kill(cluster: Cluster) -> None:
    heading("Files go to Bob, each from somebody whom no KDC knows yet")
    _wave(cluster, WAVES[0])
    heading("More files go, and meanwhile the leader of etcd is killed (kill -9)")
    leader = cluster.leader()
    _wave(cluster, WAVES[1], leader)
    heading("More files go, and meanwhile the first KDC is killed (kill -9)")
    _wave(cluster, WAVES[2], cluster.kdcs[0])
    heading("Both are started again")
    leader.start()
    leader.wait_for()
    cluster.kdcs[0] = cluster.start_kdc(0)
    _wave(cluster, WAVES[3])


def _wave(cluster: Cluster, names: Iterable[str], victim: Program | Member | None = None) -> None:
    """Let all send at the same time; kill ``victim`` while they do."""
    senders = [cluster.send(name, typed=not number) for number, name in enumerate(names)]
    if victim is not None:
        senders[0].wait_for("registered")
        victim.kill()
        show(f"  {victim.title:>5} | (killed)")
    for sender in senders:
        sender.end()


def _compare(cluster: Cluster, bob: Program) -> None:
    heading("What was lost")
    names = sorted(name for wave in WAVES for name in wave)
    for name in names:
        arrived = Path("inbox", f"{name}.bin")
        same = arrived.exists() and arrived.read_bytes() == Path(f"{name}.bin").read_bytes()
        if not same:
            raise DemoError(f"{arrived} is not what {name} has sent")
        show(f"  sha256 {sha256(str(arrived))}  {arrived}")
    # Bob's notes of what was under way go a moment later, and are shown to nobody.
    arrived_too = sum(not path.name.startswith(".") for path in Path("inbox").iterdir())
    check(arrived_too == len(names), f"{len(names)} files were sent; all are there, and equal")
    known = [cluster.known_at(number) for number in range(3)]
    check(known[0] == known[1] == known[2], "all three KDCs know the same names")
    expected = [f"{name} active" for name in sorted({*names, "bob"})]
    check(known[0] == expected, f"all {len(expected)} registrations are there")
    bob.kill()


def main() -> int:
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            print(f"demo: {program} is missing (Debian: apt install {package})", file=sys.stderr)
            return 1
    return run(demonstrate, "Nothing was lost")


if __name__ == "__main__":
    raise SystemExit(main())
