"""Three machines with a member of etcd and a KDC each, and ways to hurt them."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench.network import Network
from bench.processes import HERE, Failed, Scratch, free_port, run, until
from kdc.store.etcd.api import EtcdError, EtcdSettings, Gateway

__all__ = ["KDC", "Cluster", "Machine", "Tls"]

COUNT = 3
_PATIENCE_SECONDS = 60.0
KDC = (sys.executable, "-c", "from kdc.commands.main import kdc_main; kdc_main()")
# What protects from strangers would be in the way of clients that all come from here.
_LIMITS = {
    "keys-per-second": 1_000_000,
    "keys-burst": 1_000_000,
    "registrations-per-minute": 1_000_000,
    "unauthenticated-per-address": 256,
    "arrivals-per-second": 1_000_000,
    "arrivals-per-second-per-address": 1_000_000,
}


class Tls:
    """A private authority, and one certificate without a common name for every address."""

    def __init__(self, directory: Path, addresses: Iterable[str]) -> None:
        self.ca, self.certificate, self.key = (
            directory / name for name in ("ca.pem", "member.pem", "member-key.pem")
        )
        authority, member = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        hosts = [x509.IPAddress(ipaddress.ip_address(a)) for a in sorted({*addresses, "127.0.0.1"})]
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        ca = _certificate("authority", authority).add_extension(
            x509.BasicConstraints(True, 0), True
        )
        ours = (
            _certificate("member", member)
            .add_extension(x509.SubjectAlternativeName(hosts), False)
            .add_extension(x509.ExtendedKeyUsage(uses), False)
        )
        pem = serialization.Encoding.PEM
        self.ca.write_bytes(ca.sign(authority, hashes.SHA256()).public_bytes(pem))
        self.certificate.write_bytes(ours.sign(authority, hashes.SHA256()).public_bytes(pem))
        self.key.touch(mode=0o600)
        self.key.write_bytes(
            member.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def settings(self, *members: tuple[str, int]) -> EtcdSettings:
        return EtcdSettings(members, self.ca, self.certificate, self.key)


def _certificate(whose: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(whose))
        .issuer_name(_name("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
    )


def _name(whose: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, whose)])


@attrs.define
class Machine:
    """One of them: where its member of etcd and its KDC are, and the processes."""

    number: int
    address: str
    room: Path
    member_port: int = attrs.field(factory=free_port)
    peer_port: int = attrs.field(factory=free_port)
    kdc_port: int = attrs.field(factory=free_port)
    etcd: subprocess.Popen[bytes] | None = None
    kdc: subprocess.Popen[bytes] | None = None

    @property
    def member(self) -> tuple[str, int]:
        return self.address, self.member_port


class Cluster:
    """All of it, running.  ``options`` are more words for each member of etcd."""

    def __init__(self, scratch: Scratch, network: Network, *options: str) -> None:
        self.scratch = scratch
        self.network = network
        self.machines = [
            Machine(number, address, scratch.room(f"machine{number}"))
            for number, address in enumerate(network.addresses)
        ]
        self.tls = Tls(scratch.directory, [*network.addresses, network.here])
        self._options = options
        self.pin = ""
        for machine in self.machines:
            self.start_etcd(machine)
        self.wait_for_leader()

    # etcd

    def start_etcd(self, machine: Machine) -> None:
        tls = self.tls
        client, peer = (
            f"https://{machine.address}:{port}" for port in (machine.member_port, machine.peer_port)
        )
        every = ",".join(f"m{m.number}=https://{m.address}:{m.peer_port}" for m in self.machines)
        files = ("--cert-file", tls.certificate, "--key-file", tls.key, "--trusted-ca-file", tls.ca)
        argv: list[object] = [
            *("etcd", "--name", f"m{machine.number}", "--data-dir", machine.room / "etcd"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", every, *files, "--client-cert-auth"),
            *(str(word).replace("--", "--peer-", 1) for word in files),
            *("--peer-client-cert-auth", *self._options),
        ]
        machine.etcd = self.scratch.start(
            self.network.inside(machine.number, argv), log=machine.room / "etcd.log"
        )

    def link(self, *machines: Machine) -> Gateway:
        """Our own way to etcd, as whoever has its keys has one."""
        settings = self.tls.settings(*(m.member for m in machines or self.machines))
        return Gateway(settings, settings.context())

    def ask(self, path: str, body: dict[str, Any], machine: Machine | None = None) -> Any:
        """Ask one member, or all in turn until one answers; raises `EtcdError`."""
        link = self.link(*([machine] if machine else []))
        left = 1 if machine else 2 * COUNT
        with contextlib.closing(link):
            while True:
                left -= 1
                try:
                    return link.post(path, body, 2.0)
                except EtcdError:
                    if not left:
                        raise
                    time.sleep(0.1)

    def leader(self) -> Machine | None:
        """Who leads, as it says itself."""
        for machine in self.machines:
            if machine.etcd is not None and machine.etcd.poll() is None:
                with contextlib.suppress(EtcdError):
                    status = self.ask("/v3/maintenance/status", {}, machine)
                    if status.get("leader") == status["header"]["member_id"]:
                        return machine
        return None

    def wait_for_leader(self) -> Machine:
        found: list[Machine] = []

        def leads() -> bool:
            leader = self.leader()
            found.extend([] if leader is None else [leader])
            return leader is not None

        until(leads, "etcd elects a leader", _PATIENCE_SECONDS)
        return found[-1]

    # KDCs

    def start_kdc(
        self,
        machine: Machine,
        *,
        confirm_seconds: int = 10,
        program: Path = HERE,
        members: Iterable[tuple[str, int]] = (),
    ) -> None:
        """Start it; ``program`` is the tree it is started from, ``members`` the etcd it knows."""
        state = machine.room / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        first = self.machines[0].room / "state"
        for name in ("kdc.key", "kdc.tls"):
            if state != first and not (state / name).exists():
                shutil.copy(first / name, state)
        order = [machine, *(m for m in self.machines if m is not machine)]
        hosts = ",".join(f"{host}:{port}" for host, port in members or [m.member for m in order])
        log = machine.room / "kdc.log"
        log.unlink(missing_ok=True)
        argv: list[object] = [
            *KDC,
            *("-p", f"tcp:{machine.kdc_port}:interface={machine.address}"),
            *("--store", f"etcd://{hosts}/", "--etcd-ca", self.tls.ca),
            *("--etcd-certificate", self.tls.certificate, "--etcd-key", self.tls.key),
            *("--state", state, "-o", machine.room / "out.txt"),
            *("--confirm-within", str(confirm_seconds), "--enrol", "open"),
            *(f"--limit={name}={value}" for name, value in _LIMITS.items()),
        ]
        machine.kdc = kdc = self.scratch.start(
            self.network.inside(machine.number, argv),
            cwd=program,
            env={"PYTHONPATH": str(program)},
            log=log,
        )

        def said() -> re.Match[str] | None:
            if kdc.poll() is not None:
                raise Failed(f"a KDC ended: {log.read_text()[-500:]}")
            return re.search(r"fingerprint (sha256:[0-9a-f]{64})", log.read_text())

        until(said, "a KDC starts", _PATIENCE_SECONDS)
        self.pin = said()[1]  # type: ignore[index] # just seen

    def start_kdcs(self, confirm_seconds: int = 10, program: Path = HERE) -> None:
        """Start all of them anew."""
        for machine in self.machines:
            self.stop_kdc(machine)
            self.start_kdc(machine, confirm_seconds=confirm_seconds, program=program)

    def stop_kdc(self, machine: Machine) -> None:
        if machine.kdc is not None:
            self.scratch.stop(machine.kdc)
            machine.kdc = None

    def kill(self, child: subprocess.Popen[bytes] | None) -> None:
        """As a power cut would."""
        if child is not None:
            child.kill()
            self.scratch.stop(child)

    @contextlib.contextmanager
    def stopped(self, child: subprocess.Popen[bytes] | None) -> Iterator[None]:
        """It is there, and does nothing."""
        assert child is not None
        os.kill(child.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(child.pid, signal.SIGCONT)

    def admin(self, machine: Machine, *words: str) -> list[dict[str, Any]]:
        """What an operator asks of the KDC there; raises `Failed`."""
        command, *rest = words
        state = machine.room / "state"
        done = run([*KDC, "admin", "--json", "--state", state, command, *rest])
        return [json.loads(line) for line in done.output.splitlines()]

    def names(self, machine: Machine) -> set[str]:
        """Who is active, as the KDC there knows."""
        return {row["name"] for row in self.admin(machine, "list", "--status", "active")}
