"""The programs whose transfers and tunnels ours are compared with, each in a private corner.

For every measurement the servers are started afresh; their CPU time is that from
when they listen to their end, with all processes they have started, and the
clients' that of their whole life.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from bench.processes import Failed, Scratch, cpu_of, cpu_of_all, free_port, run
from bench.stream import send

__all__ = [
    "SSH",
    "Command",
    "Haproxy",
    "OpenSSL",
    "Sent",
    "SocatTLS",
    "Spiped",
    "Stunnel",
    "bare_tls",
    "socat",
    "synced",
    "through",
    "tool",
]

SSH_CIPHERS = {
    "AES-256-GCM": "aes256-gcm@openssh.com",
    "ChaCha20": "chacha20-poly1305@openssh.com",
}
TLS_CIPHERS = {"AES-256-GCM": "TLS_AES_256_GCM_SHA384", "ChaCha20": "TLS_CHACHA20_POLY1305_SHA256"}
# OpenSSL takes a bare pre-shared key for one of SHA-256, so AES has shorter keys here than above.
PSK_CIPHERS = {"AES-128-GCM": "TLS_AES_128_GCM_SHA256", "ChaCha20": TLS_CIPHERS["ChaCha20"]}
Command = Sequence[str | Path]


def tool(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise Failed(f"{name} is not installed")
    return path


@attrs.frozen
class Sent:
    """One transfer."""

    seconds: float
    cpu_seconds: float

    def figures(self, count: int) -> dict[str, float]:
        gib = count / (1 << 30)
        return {
            "MiB/s": gib * 1024 / self.seconds,
            "CPU s/GiB": self.cpu_seconds / gib,
            "s": self.seconds,
            "CPU s": self.cpu_seconds,
        }


def _stream(*arguments: str) -> Command:
    return [sys.executable, "-m", "bench.stream", *arguments]


def _piped(scratch: Scratch, count: int, source: Path | None, command: Command) -> Sent:
    """source | command, the CPU time of ``command``."""
    if source is not None:
        with source.open("rb") as file:
            done = run(command, stdin=file)
        return Sent(done.seconds, done.cpu_seconds)
    making = scratch.start(_stream("source", str(count)), stdout=subprocess.PIPE)
    try:
        done = run(command, stdin=making.stdout)
    finally:
        scratch.stop(making)
    return Sent(done.seconds, done.cpu_seconds)


def synced(path: Path) -> float:
    """Wait for the disk, as ours does; return how long that took."""
    begun = time.monotonic()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return time.monotonic() - begun


def _pipeline(
    scratch: Scratch, count: int, server: Command, client: Command, port: int, files: Files
) -> Sent:
    """source | client -> server | drain; or < file and > file."""
    source, target = files
    drain = None
    if target is not None:
        with target.open("wb") as output:
            far = scratch.start(server, stdin=subprocess.PIPE, stdout=output, port=port)
    else:
        far = scratch.start(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, port=port)
        assert far.stdout is not None
        drain = scratch.start(_stream("drain", str(count)), stdin=far.stdout)
    cpu = -cpu_of(far.pid)  # to start a server is no part of it
    try:
        sent = _piped(scratch, count, source, client)
        begun = time.monotonic()
        if drain is not None and drain.wait(60):
            raise Failed(f"{server[0]} lost some of it")
        if target is not None:
            while target.stat().st_size < count and time.monotonic() < begun + 60:
                time.sleep(0.001)
            synced(target)
        more = time.monotonic() - begun
    finally:
        cpu += scratch.stop(far)
        if drain is not None:
            scratch.stop(drain)
    return Sent(sent.seconds + more, sent.cpu_seconds + cpu)


Files = tuple[Path | None, Path | None]


class SSH:
    """An sshd of our own user, with keys of its own."""

    def __init__(self, scratch: Scratch, cipher: str) -> None:
        self.scratch = scratch
        self.room = scratch.room("ssh")
        self.cipher = cipher
        self.port = free_port()
        if not (self.room / "host").exists():
            for name in ("host", "user"):
                run([tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", self.room / name])
            shutil.copy(self.room / "user.pub", self.room / "authorized")
        kind, key = (self.room / "host.pub").read_text().split(" ", 2)[:2]
        (self.room / "known").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        (self.room / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.room}/host\n"
            f"PidFile none\nAuthorizedKeysFile {self.room}/authorized\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
            "MaxStartups 200\nSubsystem sftp internal-sftp\n"
        )
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)

    def _with_daemon(self, command: Command, count: int, files: Files) -> Sent:
        source, target = files
        daemon = self.scratch.start(
            [tool("sshd"), "-D", "-e", "-f", self.room / "config"], port=self.port
        )
        cpu = -cpu_of(daemon.pid)
        try:
            sent = _piped(self.scratch, count, source, command)
            more = synced(target) if target is not None else 0.0
        finally:
            time.sleep(0.05)  # for sshd to see the connection's end, and its process's
            cpu += self.scratch.stop(daemon)
        return Sent(sent.seconds + more, sent.cpu_seconds + cpu)

    def _command(self, program: str, *more: str | Path) -> list[str | Path]:
        room = self.room
        options: list[str | Path] = [
            *(tool(program), "-q", "-F", "/dev/null", "-i", f"{room}/user"),
            *("-o", f"UserKnownHostsFile={room}/known", "-o", "BatchMode=yes"),
            *("-o", f"Ciphers={SSH_CIPHERS[self.cipher]}"),
        ]
        return [*options, *more]

    @property
    def _host(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1"

    def stream(self, count: int) -> Sent:
        """ssh, with a command at the other end that throws it all away."""
        port = str(self.port)
        command = self._command("ssh", "-p", port, self._host, "cat >/dev/null")
        return self._with_daemon(command, count, (None, None))

    def ends(self, near: int, between: int, far: int) -> list[tuple[Command, int]]:
        """ssh -L: a port here that leads to one there."""
        del between  # the daemon has its own port
        forward = f"127.0.0.1:{near}:127.0.0.1:{far}"
        client = self._command("ssh", "-N", "-L", forward, "-p", str(self.port), self._host)
        daemon: Command = [tool("sshd"), "-D", "-e", "-f", self.room / "config"]
        return [(daemon, self.port), (client, near)]

    def scp(self, source: Path, target: Path) -> Sent:
        command = self._command("scp", "-P", str(self.port), source, f"{self._host}:{target}")
        return self._with_daemon(command, 0, (Path("/dev/null"), target))

    def sftp(self, source: Path, target: Path) -> Sent:
        batch = self.room / "batch"
        batch.write_text(f"put -f {source} {target}\n")
        command = self._command("sftp", "-b", batch, "-P", str(self.port), self._host)
        return self._with_daemon(command, 0, (Path("/dev/null"), target))


class OpenSSL:
    """s_server and s_client, TLS 1.3."""

    def __init__(self, scratch: Scratch, cipher: str) -> None:
        self.scratch = scratch
        self.room = scratch.room("openssl")
        self.suite = TLS_CIPHERS[cipher]
        if not (self.room / "key").exists():
            how: list[str | Path] = [
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ]
            pair: list[str | Path] = [
                "-keyout",
                self.room / "key",
                "-out",
                self.room / "certificate",
            ]
            run([tool("openssl"), "req", "-x509", *how, "-subj", "/CN=localhost", *pair])

    def stream(self, count: int, files: Files = (None, None)) -> Sent:
        port = free_port()
        server: Command = [
            tool("openssl"),
            *("s_server", "-quiet", "-naccept", "1", "-tls1_3"),
            *("-accept", f"127.0.0.1:{port}", "-cert", self.room / "certificate"),
            *("-key", self.room / "key", "-ciphersuites", self.suite),
        ]
        client: Command = [
            tool("openssl"),
            *("s_client", "-quiet", "-no_ign_eof", "-tls1_3"),
            *("-connect", f"127.0.0.1:{port}", "-CAfile", self.room / "certificate"),
            "-verify_return_error",
        ]
        return _pipeline(self.scratch, count, server, client, port, files)


def bare_tls(scratch: Scratch, count: int) -> Sent:
    """From memory to memory as our channel does it, by the same OpenSSL: no pipes, no start."""
    pem = scratch.room("openssl") / "both"
    if not pem.exists():
        OpenSSL(scratch, "AES-256-GCM")  # makes them
        pem.write_bytes(b"".join((pem.parent / n).read_bytes() for n in ("key", "certificate")))
    port = free_port()
    with scratch.running(_stream("sink", str(port), str(pem)), port=port) as sink:
        done = run(_stream("send", str(port), str(count), str(pem), str(sink.pid)))
    figures = json.loads(done.output)
    return Sent(figures["s"], figures["CPU s"])


def socat(scratch: Scratch, count: int, files: Files = (None, None)) -> Sent:
    """No protection at all: what the machine can do."""
    port = free_port()
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1"
    server: Command = [tool("socat"), "-u", "-b", "65536", listen, "STDOUT"]
    client: Command = [tool("socat"), "-u", "-b", "65536", "STDIN", f"TCP:127.0.0.1:{port}"]
    return _pipeline(scratch, count, server, client, port, files)


class Spiped:
    """A pair of spiped: AES-256-CTR with HMAC-SHA256 under a shared key."""

    def __init__(self, scratch: Scratch) -> None:
        self.key = scratch.room("spiped") / "key"
        self.key.write_bytes(os.urandom(32))

    def ends(self, near: int, between: int, far: int) -> list[tuple[Command, int]]:
        common: list[str | Path] = ["-k", self.key, "-F", "-p", "/dev/null"]
        here = "[127.0.0.1]:"
        return [
            (
                [tool("spiped"), "-d", "-s", f"{here}{between}", "-t", f"{here}{far}", *common],
                between,
            ),
            (
                [tool("spiped"), "-e", "-s", f"{here}{near}", "-t", f"{here}{between}", *common],
                near,
            ),
        ]


class Stunnel:
    """A pair of stunnel: TLS 1.3 with a pre-shared key."""

    def __init__(self, scratch: Scratch, cipher: str) -> None:
        self.room = scratch.room("stunnel")
        self.suite = PSK_CIPHERS[cipher]
        secrets = self.room / "secrets"
        secrets.touch(mode=0o600)
        secrets.write_text(f"bench:{os.urandom(32).hex()}\n")

    def ends(self, near: int, between: int, far: int) -> list[tuple[Command, int]]:
        found: list[tuple[Command, int]] = []
        for side, accept, connect in (("no", between, far), ("yes", near, between)):
            path = self.room / f"{side}.conf"
            path.write_text(
                f"foreground = yes\npid =\ndebug = err\n[bench]\nclient = {side}\n"
                f"accept = 127.0.0.1:{accept}\nconnect = 127.0.0.1:{connect}\n"
                f"PSKsecrets = {self.room}/secrets\nciphers = PSK\n"
                f"ciphersuites = {self.suite}\nsslVersionMin = TLSv1.3\n"
            )
            found.append(([tool("stunnel"), path], accept))
        return found


class Haproxy:
    """A pair of haproxy: TLS 1.3 with a certificate."""

    def __init__(self, scratch: Scratch, cipher: str) -> None:
        self.room = scratch.room("haproxy")
        self.cipher = cipher
        self.openssl = OpenSSL(scratch, cipher)

    def ends(self, near: int, between: int, far: int) -> list[tuple[Command, int]]:
        room = self.openssl.room
        pem = self.room / "both.pem"
        pem.write_bytes(b"".join((room / name).read_bytes() for name in ("certificate", "key")))
        how = f"ciphersuites {TLS_CIPHERS[self.cipher]} ssl-min-ver TLSv1.3"
        check = f" ssl verify required ca-file {room}/certificate verifyhost localhost {how}"
        found: list[tuple[Command, int]] = []
        for name, accept, listening_how, connect, connecting_how in (
            ("far", between, f" ssl crt {pem} {how}", far, ""),
            ("near", near, "", between, check),
        ):
            path = self.room / f"{name}.cfg"
            path.write_text(
                "defaults\n mode tcp\n timeout connect 10s\n timeout client 5m\n"
                " timeout server 5m\n"
                f"listen bench\n bind 127.0.0.1:{accept}{listening_how}\n"
                f" server far 127.0.0.1:{connect}{connecting_how}\n"
            )
            found.append(([tool("haproxy"), "-q", "-db", "-f", path], accept))
        return found


class SocatTLS:
    """A pair of socat: TLS 1.3 with a certificate; a process for each connection."""

    def __init__(self, scratch: Scratch) -> None:
        self.openssl = OpenSSL(scratch, "AES-256-GCM")

    def ends(self, near: int, between: int, far: int) -> list[tuple[Command, int]]:
        room = self.openssl.room
        size = ["-b", "65536"]
        listen = (
            f"OPENSSL-LISTEN:{between},bind=127.0.0.1,fork,reuseaddr,verify=0,"
            f"cert={room}/certificate,key={room}/key"
        )
        connect = f"OPENSSL:127.0.0.1:{between},cafile={room}/certificate,commonname=localhost"
        return [
            ([tool("socat"), *size, listen, f"TCP:127.0.0.1:{far}"], between),
            (
                [tool("socat"), *size, f"TCP-LISTEN:{near},bind=127.0.0.1,fork,reuseaddr", connect],
                near,
            ),
        ]


def through(
    scratch: Scratch, count: int, ends: list[tuple[Command, int]], near: int, sink: int
) -> Sent:
    """Send ``count`` bytes through a tunnel to the sink.

    The CPU time is that of the tunnel's processes, with those that they start for a connection.
    """
    running = []
    try:
        for command, port in ends:
            child = scratch.start(command, port=port)
            running.append(child)
        send(near, 1)  # all of the way is there
        before = sum(cpu_of_all(child.pid) for child in running)
        begun = time.monotonic()
        send(near, count)
        seconds = time.monotonic() - begun
        cpu = sum(cpu_of_all(child.pid) for child in running) - before
    finally:
        for child in reversed(running):
            scratch.stop(child)
    return Sent(seconds, cpu)
