"""impacket's programs that look for something to crack: there is nothing at the operator's realm.

Their own programs are run as they are, but for the port, which they cannot be told.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.test_kerberos import KerberosCase
from tests.support.processes import PATIENCE_SECONDS

# What a password cracker takes: hashes of John the Ripper and hashcat.
_HASH = re.compile(r"\$krb5(asrep|tgs|pa)\$\S+")
_AT_ANOTHER_PORT = (
    "import runpy, sys; from impacket.krb5 import kerberosv5;"
    " kerberosv5.sendReceive.__defaults__ = (int(sys.argv[1]),);"
    " sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


class RoastingTests(KerberosCase):
    def setUp(self) -> None:
        found = importlib.util.find_spec("impacket")
        scripts = [] if found is None else [Path(str(found.origin)).parent.parent / "bin"]
        self.scripts = [path for path in scripts if (path / "GetNPUsers.py").exists()]
        if not self.scripts:
            self.skipTest("this Python has no impacket; in CI it is there: .ci/oracles")
        super().setUp()
        self.users = self.file(
            "users", b"alice\nweb1\nkrbtgt\nkadmin\nkerberos\nHTTP/localhost\nnobody\n"
        )

    def attack(self, name: str, *words: str) -> str:
        """Run one of impacket's programs; return what it says."""
        argv = [sys.executable, "-c", _AT_ANOTHER_PORT, str(self.tcp)]
        done = subprocess.run(
            [*argv, str(self.scripts[0] / f"{name}.py"), *words, "-dc-ip", "127.0.0.1"],
            cwd=self.directory,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "KRB5CCNAME": str(self.directory / "cache"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return done.stdout

    def test_as_replies(self) -> None:
        """No reply comes without preauthentication, whoever it is asked for."""
        said = self.attack("GetNPUsers", "LOCAL/", "-no-pass", "-usersfile", str(self.users))
        self.assertIsNone(_HASH.search(said), said)
        # That it has asked, and was answered: otherwise this shows nothing.
        for name in ("alice", "web1"):
            self.assertIn(f"User {name} doesn't have UF_DONT_REQUIRE_PREAUTH set", said)

    def test_service_tickets(self) -> None:
        """Neither who has a ticket nor who has none gets what could be cracked."""
        self.kinit("-f")
        with_ticket = ("-k", "-no-pass", "LOCAL/alice", "-request")
        without = ("-no-preauth", "alice", "LOCAL/")
        for words in (with_ticket, without):
            said = self.attack(
                *("GetUserSPNs", *words, "-usersfile", str(self.users), "-dc-host", "127.0.0.1")
            )
            self.assertIsNone(_HASH.search(said), said)
            # It has asked, and was answered.
            for name in ("web1", "HTTP/localhost"):
                self.assertRegex(said, rf"Principal: {name} - Kerberos SessionError: K\w+")
