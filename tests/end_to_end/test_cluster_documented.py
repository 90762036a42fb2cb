"""docs/cluster.md: what it has people type to replace and to restore, on a real etcd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.project.test_docs import blocks_of
from tests.project.test_packaging import TOP, load
from tests.support.processes import (
    KDC,
    PATIENCE_SECONDS,
    UNLIMITED,
    Program,
    ProgramTestCase,
    RunningKDC,
)

DOCUMENT = TOP / "docs" / "cluster.md"
RECORDERS = TOP / "docs" / "recorders"


class DocumentedTests(ProgramTestCase):
    """Three members as `make demo-cluster` starts them; the machines are loopback addresses."""

    def setUp(self) -> None:
        for program, package in (("etcd", "etcd-server"), ("etcdctl", "etcd-client")):
            if shutil.which(program) is None:
                self.skipTest(f"not installed: {program} (Debian: {package})")
        super().setUp()
        self.patch(sys, "path", [str(RECORDERS), *sys.path])
        self.demo: Any = load(RECORDERS / "demo_cluster.py")
        self.patch(self.demo, "show", lambda line="": None)
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)
        net = self.demo.Cluster(self.directory).addresses[0].rpartition(".")[0]
        self.addresses = [f"{net}.{number}" for number in range(1, 5)]
        self.run_shell(
            f"{TOP}/etc/etcd-certificates.sh certificates "
            + " ".join(f"{address},127.0.0.1" for address in self.addresses)
        )
        self.members = [self.member(number) for number in range(3)]
        for member in self.members:
            self.begin(member)
        for member in self.members:
            member.wait_for()

    def member(self, number: int) -> Any:
        # The sample names three; the fourth is told the others by the test.
        certificates = Path("certificates").absolute()
        return self.demo.Member(number, self.addresses, certificates)

    def begin(self, member: Any) -> None:
        member.start()
        self.addCleanup(member.kill)

    def run_shell(self, commands: str, again_after: str = "\0") -> str:
        """Run them, and again as long as what they say is that."""
        said = again_after
        deadline = time.monotonic() + PATIENCE_SECONDS
        while again_after in said and time.monotonic() < deadline:
            result = subprocess.run(
                ["sh", "-e", "-c", commands],
                capture_output=True,
                text=True,
                check=False,
                # What is slow here is the machine.
                env={**os.environ, "ETCDCTL_COMMAND_TIMEOUT": f"{PATIENCE_SECONDS}s"},
            )
            said = result.stderr if result.returncode else ""
        self.assertEqual(said, "", commands)
        return result.stdout

    def typed(self, containing: str, number: int = 0) -> str:
        """The document's block with that, after the first of its section, for this machine."""
        blocks = blocks_of(DOCUMENT.read_text(encoding="utf-8"))
        (first,) = [block for block in blocks if "export ETCDCTL_API" in block]
        (block,) = [block for block in blocks if f"etcdctl {containing}" in block]
        own = self.addresses[number]
        text = f"{first}\n{block}".replace("--name=kdc1", f"--name=kdc{number + 1}")
        text = text.replace(
            "advertise-peer-urls=https://kdc1.example", f"advertise-peer-urls=https://{own}"
        )
        for name, address in enumerate(self.addresses, 1):
            text = text.replace(f"kdc{name}.example", address)
        text = text.replace("/etc/kdc/etcd/", f"{self.directory}/certificates/{self.addresses[0]}/")
        text = text.replace("/var/lib/etcd/kdc", f"{self.directory}/etcd{number + 1}")
        text = text.replace("/var/backups/", f"{self.directory}/")
        return re.sub(r"(?m)^chown .*$", "", text)  # there is no such user here

    def start_kdc(self, *options: str) -> Program:
        (self.directory / "state").mkdir(exist_ok=True)
        own = f"certificates/{self.addresses[0]}"
        return self.scratch.start(
            *(*KDC, "-p", "0", "-o", "out.txt", "--state", "state", "--enrol", "open", *UNLIMITED),
            *("--store", f"etcd://{','.join(self.addresses[:3])}/", "--etcd-ca", f"{own}/ca.pem"),
            *("--etcd-certificate", f"{own}/kdc.pem", "--etcd-key", f"{own}/kdc-key.pem"),
            *options,
        )

    def known(self) -> list[str]:
        program = self.scratch.start(*KDC, "admin", "--state", "state", "list")
        self.assert_ends(program, 0)
        return [line.split()[0] for line in program.printed.splitlines()]

    def test_a_member_is_replaced(self) -> None:
        """The KDC goes on meanwhile; then the new one and one of the old are enough."""
        kdc = RunningKDC(self.start_kdc())
        self.register(kdc, "alice")
        self.members[2].kill()
        self.eventually("there is a leader", lambda: any(m.leads() for m in self.members[:2]))
        for command in ("member remove", "member add"):
            said = self.run_shell(self.typed(command), again_after="unhealthy cluster")
        self.register(kdc, "bob")
        new = self.member(3)
        printed = dict(re.findall(r'^(ETCD_\w+)="(.*)"$', said, re.MULTILINE))
        self.assertEqual(printed["ETCD_NAME"], "kdc4")
        self.assertEqual(printed["ETCD_INITIAL_CLUSTER_STATE"], "existing")
        new.settings.update(printed)
        self.begin(new)
        new.wait_for()
        self.members[1].kill()
        self.eventually("there is a leader", lambda: any(m.leads() for m in (self.members[0], new)))
        self.register(kdc, "carol")
        self.assertEqual(self.known(), ["alice", "bob", "carol"])

    def test_backup_and_restore(self) -> None:
        """All that was there then is back, and no KDC takes it for the newest unasked."""
        kdc = RunningKDC(self.start_kdc())
        self.register(kdc, "alice")
        self.run_shell(self.typed("snapshot save"))
        self.register(kdc, "bob")
        self.assertEqual(kdc.program.stop(), 0)
        for member in self.members:
            member.kill()
        for number in range(3):
            self.run_shell(self.typed("snapshot restore", number))
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_for()
        refused = self.start_kdc()
        self.assert_ends(refused, 7, "an older state was put back", "--accept-rollback")
        kdc = RunningKDC(self.start_kdc("--accept-rollback"))
        self.assertEqual(self.known(), ["alice"])
        self.register(kdc, "bob")
        self.assertEqual(kdc.program.stop(), 0)
        RunningKDC(self.start_kdc())
        self.assertEqual(self.known(), ["alice", "bob"])
