"""Kerberos programs of the machine against a KDC that people started with ``--kerberos``."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from kdc.kerberos.ccache import Credential, read_ccache
from kdc.kerberos.errors import Code
from kdc.kerberos.messages import KRB_ERROR
from kdc.kerberos.names import Principal
from kdc.testing.client import Client, TicketRefused, Wanted, over_tcp
from tests.end_to_end.test_hostile import answer_to, connected
from tests.net.test_sockets import ACTIVATE
from tests.server.test_kerberos import as_req
from tests.support.kerberos_servers import need, programs_path
from tests.support.processes import (
    KDC,
    PATIENCE_SECONDS,
    UNLIMITED,
    Program,
    ProgramTestCase,
    RunningKDC,
    reserved_port,
)

_ADMIN = (*KDC, "admin")
_HERE = "interface=127.0.0.1"
_GSS = """
import sys
import gssapi
name = gssapi.Name("HTTP@localhost", gssapi.NameType.hostbased_service)
client = gssapi.SecurityContext(name=name, usage="initiate")
accepting = gssapi.Credentials(usage="accept", store={"keytab": sys.argv[1]})
server = gssapi.SecurityContext(creds=accepting, usage="accept")
token = None
while not (client.complete and server.complete):
    token = client.step(token)
    if token:
        token = server.step(token)
sealed = client.wrap(b"hello", True).message
print(server.initiator_name, server.unwrap(sealed).message.decode())
"""


class KerberosCase(ProgramTestCase):
    """alice, and the machine web1, whose services are ``HTTP/localhost`` and ``host/localhost``."""

    needs: tuple[str, ...] = ()

    def setUp(self) -> None:
        super().setUp()
        need(*self.needs, package="krb5-user")
        self.start("-p", str(reserved_port()))
        self.admin("enable", "--yes")
        for name in ("alice", "web1"):
            self.register(self.running, name)
        self.admin("services", "web1", "--add", "HTTP/localhost", "--add", "host/localhost")
        self.assert_ends(self.mine("web1", "keytab", "-o", "web1.keytab"), 0)

    def start(self, *options: str) -> None:
        places = f"udp:0:{_HERE},tcp:0:{_HERE}"
        self.running: RunningKDC = self.kdc(*options, "--kerberos", places)
        found = [
            self.running.program.expect(rf"Kerberos at 127\.0\.0\.1 port (\d+) \({kind}\)\n")
            for kind in ("UDP", "TCP")
        ]
        self.udp, self.tcp = (int(match[1]) for match in found)
        self.running.program.expect(r"kdc: kerberos: receiving on 127\.0\.0\.1 port \d+\n")
        for name, port in (("udp.conf", self.udp), ("tcp.conf", self.tcp)):
            self.file(
                name,
                (
                    "[libdefaults]\n default_realm = LOCAL\n dns_lookup_kdc = false\n"
                    " dns_canonicalize_hostname = false\n rdns = false\n"
                    f" udp_preference_limit = {1 if name == 'tcp.conf' else 65_000}\n"
                    f"[realms]\n LOCAL = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
                ).encode(),
            )

    def admin(self, *words: str) -> None:
        self.operate("kerberos", *words)

    def operate(self, *words: str) -> None:
        self.assert_ends(self.scratch.start(*_ADMIN, "-f", "pwd.txt", *words), 0)

    def mine(self, name: str, word: str, *options: str) -> Program:
        return self.client(word, "-n", name, *self.running.options, *self.key(name), *options)

    def kinit(self, *options: str) -> Path:
        """Alice gets a ticket; return her cache."""
        self.assert_ends(self.mine("alice", "kinit", "-c", "cache", *options), 0)
        return self.directory / "cache"

    def ticket(self, tgt: Credential, service: Principal) -> Credential:
        """What a client of ours gets at the real port."""
        client = Client("LOCAL", over_tcp("127.0.0.1", self.tcp))
        return client.service(tgt, service, Wanted(options=0))

    def surroundings(self, conf: str) -> dict[str, str]:
        """The environment of somebody else's program."""
        return {
            **os.environ,
            "PATH": programs_path(),
            "KRB5_CONFIG": str(self.directory / conf),
            "KRB5CCNAME": f"FILE:{self.directory / 'cache'}",
            "KRB5_KTNAME": str(self.directory / "web1.keytab"),
            "KRB5RCACHETYPE": "none",
            "LC_ALL": "C",
        }

    def theirs(self, line: str, typed: str = "", status: int = 0, conf: str = "udp.conf") -> str:
        """Run somebody else's program; return all that it printed."""
        done = subprocess.run(
            line.split(),
            input=typed,
            cwd=self.directory,
            env=self.surroundings(conf),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, status, f"{line}: {done.stdout}")
        return done.stdout


class OwnClientTests(KerberosCase):
    def test_from_beginning_to_end(self) -> None:
        """A ticket by a channel, one for a service by TCP; both outlive the KDC's sudden end."""
        cache = self.kinit("-l", "1h")
        self.assertEqual(cache.stat().st_mode & 0o777, 0o600)
        _, (tgt,) = read_ccache(cache.read_bytes())
        web = Principal(("HTTP", "localhost"), "LOCAL")
        self.ticket(tgt, web)
        self.running.program.kill()
        self.start("-p", str(self.running.port))
        self.assertEqual(self.ticket(tgt, web).server, web)
        self.assert_ends(self.mine("web1", "keytab", "-o", "again.keytab"), 0)
        files = [self.directory / name for name in ("web1.keytab", "again.keytab")]
        self.assertEqual(*(path.read_bytes() for path in files))

    def test_disabled(self) -> None:
        """From then on there is nothing for a ticket that is out there."""
        _, (tgt,) = read_ccache(self.kinit().read_bytes())
        self.operate("disable", "alice")
        web = Principal(("HTTP", "localhost"), "LOCAL")
        error = self.assertRaises(TicketRefused, self.ticket, tgt, web)
        self.assertEqual(error.code, Code.CLIENT_REVOKED)
        self.assert_brief(self.mine("alice", "kinit", "-c", "cache"), 4)

    def test_refusals(self) -> None:
        """Each says in a line or two what is wrong, and leaves no file."""
        program = self.mine("alice", "keytab", "-o", "mine", "--service", "HTTP/localhost")
        self.assert_brief(program, 8, "no service of alice")
        other = self.kdc(port=0, directory=self.elsewhere())
        self.register(other, "alice")
        program = self.client(
            *("kinit", "-n", "alice", *other.options, *self.key("alice"), "-c", "none")
        )
        self.assert_brief(program, 5, "has no Kerberos", "kdc --kerberos")
        program = self.scratch.start(*_ADMIN, "-f", "pwd.txt", "kerberos", "enable")
        self.assert_ends(program, 8, "nothing to roast", "--yes")
        self.assert_nothing_kept("mine", "none")

    def elsewhere(self) -> Path:
        path = self.directory / "other"
        path.mkdir(mode=0o700)
        return path

    def test_a_socket_of_systemd(self) -> None:
        """Datagrams at a socket that was handed over; what comes while the KDC is away waits."""
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
        ):
            held.bind(("127.0.0.1", 0))
            asking.connect(held.getsockname())
            asking.settimeout(PATIENCE_SECONDS)
            self.running.program.kill()
            asking.send(as_req("web1"))
            where = f"127\\.0\\.0\\.1 port {held.getsockname()[1]} \\(UDP\\)"
            running = self.activated(held, "udp:systemd=kdc")
            running.expect(f"Kerberos at {where}\n")
            error = KRB_ERROR.decode(asking.recv(65_535))
            self.assertEqual(error.code, Code.WRONG_REALM)  # which is what it asked for
            running.kill()
            program = self.activated(held, "udp:systemd=other")
            self.assert_ends(program, 1, "has not handed over a socket for 'other'")
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
            program = self.activated(held, "udp:systemd=kdc")
            self.assert_ends(program, 1, "'kdc' is no UDP socket", "ListenDatagram=")

    def activated(self, held: socket.socket, place: str) -> Program:
        """Start the KDC as systemd would, with that socket, which is called ``kdc``."""
        return self.scratch.start(
            *(*ACTIVATE, str(held.fileno()), *KDC, "-p", str(reserved_port()), *UNLIMITED),
            *("-f", "pwd.txt", "-o", "out.txt", "--kerberos", place),
            pass_fds=(held.fileno(),),
        )

    def test_strangers(self) -> None:
        """Rubbish, silence, floods and half of a request; afterwards everything still works."""
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(connected(self.tcp)) for _ in range(40)]
            silent[-1].sendall(b"\0\0")
            for data in (b"\xff" * 4, b"\x80\0\0\1x", b"\0\1\0\0" + b"x" * 70_000):
                answer = answer_to(self.tcp, data)
                self.assertEqual(KRB_ERROR.decode(answer[4:]).code, Code.FIELD_TOO_LONG)
            self.flood(2000)
            self.ours_works()
        self.one_transfer(self.running)

    def flood(self, count: int) -> None:
        """Datagrams of all kinds; of the answers none is twice as long as what it answers."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.connect(("127.0.0.1", self.udp))
            sending.settimeout(PATIENCE_SECONDS)
            request = as_req("web1")
            sending.send(request)
            self.assertLess(len(sending.recv(65_535)), 2 * len(request))
            for number in range(count):
                sending.send((b"", b"x" * 1400, b"\x6a" + os.urandom(60), request)[number % 4])
            sending.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.assertLess(len(sending.recv(65_535)), 2 * len(request))

    def ours_works(self) -> None:
        _, (tgt,) = read_ccache(self.kinit().read_bytes())
        self.ticket(tgt, Principal(("host", "localhost"), "LOCAL"))


class MITTests(KerberosCase):
    needs = ("kinit", "kvno", "klist")

    def both(self, act: Callable[[str], None]) -> None:
        for conf in ("udp.conf", "tcp.conf"):
            act(conf)

    def test_a_person(self) -> None:
        """MIT's programs go on with the ticket: services, renewal, what klist shows."""

        def act(conf: str) -> None:
            self.kinit("-r", "7d", "-f")
            self.assertIn("Flags: FPRIA", self.theirs("klist -f", conf=conf))
            self.theirs("kvno -k web1.keytab HTTP/localhost", conf=conf)
            self.theirs("kinit -R", conf=conf)
            self.theirs("kvno host/localhost", conf=conf)
            self.assertIn("not found", self.theirs("kvno nfs/localhost", status=1, conf=conf))

        self.both(act)

    def test_a_machine(self) -> None:
        """By its keytab, under each name in it; not by a password, and nobody by one."""

        def act(conf: str) -> None:
            for name in ("web1", "HTTP/localhost", "host/localhost"):
                self.theirs(f"kinit -k -t web1.keytab {name}", conf=conf)
            self.theirs("kvno host/localhost", conf=conf)
            for name in ("alice", "web1"):
                said = self.theirs(f"kinit {name}", "password\n", 1, conf=conf)
                self.assertIn("incorrect", said)

        self.both(act)
        self.assertIn("aes256-cts", self.theirs("klist -k -e web1.keytab"))

    def test_new_keys(self) -> None:
        """The realm's are changed under tickets that go on; a machine's once without loss."""
        self.kinit()
        self.admin("rotate")
        self.theirs("kvno -k web1.keytab HTTP/localhost")
        self.admin("keytab", "web1", "--new-keys", "-k", "new.keytab")
        self.theirs("kinit -k -t web1.keytab web1", status=1)
        self.theirs("kinit -k -t new.keytab web1")
        self.admin("rotate", "--drop")
        self.theirs("kvno host/localhost", status=1)

    def test_gssapi(self) -> None:
        """python-gssapi of the machine: alice to web1, with something sealed."""
        python = "/usr/bin/python3"
        found = subprocess.run(
            [python, "-c", "import gssapi.raw"], capture_output=True, check=False
        )
        if found.returncode:
            self.skipTest("this machine has no python3-gssapi")
        self.kinit()
        self.file("talk.py", _GSS.encode())
        printed = self.theirs(f"{python} talk.py {self.directory / 'web1.keytab'}")
        self.assertEqual(printed, "alice@LOCAL hello\n")
