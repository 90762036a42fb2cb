"""magic-wormhole with its own two servers, in an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from bench.peers import Command, Sent, synced
from bench.processes import HERE, Failed, Scratch, cpu_of, free_port, run

__all__ = ["Wormhole", "install", "transit_relay", "version"]

_PLACE = HERE / ".venv" / "wormhole"
_READY = _PLACE / "ready"
_VERSIONS = Path(__file__).with_name("wormhole.txt")


def install() -> bool:
    """Make the environment if it is not there; whether it is then."""
    wanted = _VERSIONS.read_text()
    if _READY.exists() and _READY.read_text() == wanted:
        return True
    print("bench: installing magic-wormhole", file=sys.stderr)
    shutil.rmtree(_PLACE, ignore_errors=True)
    venv.create(_PLACE, with_pip=True)
    python = str(_PLACE / "bin" / "python")
    words = ["--disable-pip-version-check", "install", "--quiet", "--no-deps", "--requirement"]
    done = subprocess.run(
        [python, "-m", "pip", *words, str(_VERSIONS)],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode == 0:
        _READY.write_text(wanted)
    return done.returncode == 0


def version() -> str:
    if not _READY.exists():
        return "not installed"
    try:
        return run([_PLACE / "bin" / "wormhole", "--version"]).output.decode().strip()
    except Failed:
        return "does not start"  # its rows will say why; everything else can be measured


def transit_relay(scratch: Scratch, port: int) -> subprocess.Popen[bytes]:
    """The relay alone, at that port."""
    if not _READY.exists():
        raise Failed("magic-wormhole is not installed")
    return _serve(scratch, scratch.room("wormhole"), "transitrelay", port)


def _serve(
    scratch: Scratch, room: Path, name: str, port: int, *more: str
) -> subprocess.Popen[bytes]:
    twistd = str(_PLACE / "bin" / "twistd")
    where = f"--port=tcp:{port}:interface=127.0.0.1"
    argv = [twistd, "--nodaemon", "--pidfile=", name, *more, where]
    return scratch.start(argv, cwd=room, port=port)


class Wormhole:
    """Both servers run until the scratch directory is left; the CPU time is that of all four."""

    def __init__(self, scratch: Scratch) -> None:
        if not _READY.exists():
            raise Failed("magic-wormhole is not installed")
        self._scratch = scratch
        self._room = scratch.room("wormhole")
        self._code = 0
        mailbox, relay = free_port(), free_port()
        database = f"--channel-db={self._room}/mailbox.sqlite"
        self._servers = [
            _serve(scratch, self._room, "wormhole-mailbox", mailbox, database).pid,
            _serve(scratch, self._room, "transitrelay", relay).pid,
        ]
        self._common: Command = [
            *(_PLACE / "bin" / "wormhole", "--relay-url", f"ws://127.0.0.1:{mailbox}/v1"),
            *("--transit-helper", f"tcp:127.0.0.1:{relay}"),
        ]

    def file(self, source: Path, target: Path) -> Sent:
        return self._both(["--hide-progress", source], ["--accept-file", "-o", target], target)

    def text(self, text: str, target: Path) -> Sent:
        """A message on the command line; ``target`` is what the receiver prints."""
        return self._both(["--text", text], ["--only-text"], target)

    def _both(self, send: Command, receive: Command, target: Path) -> Sent:
        """Start both ends at once: the code is agreed on, as if one had told the other."""
        self._code += 1
        code = f"{self._code}-bench-{self._code}"
        before = sum(cpu_of(pid) for pid in self._servers)
        said = self._room / "said"
        with said.open("wb") as output:
            receiver = self._scratch.start(
                [*self._common, "receive", "--hide-progress", *receive, code],
                stdout=output,
                cwd=self._room,
            )
        try:
            sent = run([*self._common, "send", "--code", code, *send], cwd=self._room)
            try:
                status = receiver.wait(60)
            except subprocess.TimeoutExpired:
                raise Failed("wormhole receive does not end") from None
        finally:
            cpu = self._scratch.stop(receiver)
        if status:
            raise Failed(f"wormhole receive: status {status}")
        if "--only-text" in receive:
            shutil.copy(said, target)
        cpu += sum(cpu_of(pid) for pid in self._servers) - before
        return Sent(sent.seconds + synced(target), sent.cpu_seconds + cpu)
