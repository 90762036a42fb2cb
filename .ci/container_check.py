#!/usr/bin/env python3
"""Builds etc/Containerfile, and uses what comes of it: `container_check.py KDCCLIENT`.

With podman or docker where one answers, otherwise by following its instructions in copies of
this machine's own root (overlayfs, which takes root; without that it says so and does nothing).
What must hold: it runs as another user than root, on a root file system that is read-only; an
invitation made inside registers a client outside; what was registered is there after a restart;
pwd.txt mounted alone is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

TOP = Path(__file__).resolve().parent.parent
STATE = "/var/lib/kdc"
PATIENCE_SECONDS = 120
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # what an image begins with
ENGINES = ("podman", "docker")
_MOUNTS, _NETWORK = 0x00020000, 0x40000000  # CLONE_NEWNS, CLONE_NEWNET: unshare(2)


def fail(text: str) -> NoReturn:
    raise SystemExit(f"container-check: {text}")


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Return what it printed; its output matters otherwise only if it fails."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        fail(f"failed: {shlex.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def instructions() -> Iterator[tuple[str, str]]:
    """Yield each instruction and what follows it, joined lines as one."""
    text = re.sub(r"^#.*\n", "", (TOP / "etc/Containerfile").read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


class Stage:
    """A copy of this machine's root, on top of which the instructions are followed."""

    def __init__(self, scratch: Path, name: str) -> None:
        directory = scratch / name
        self.root = directory / "root"
        for part in ("upper", "work", "root"):
            (directory / part).mkdir(parents=True)
        layers = f"lowerdir=/,upperdir={directory}/upper,workdir={directory}/work"
        run("mount", "-t", "overlay", "overlay", "-o", layers, self.root)
        for shared in ("proc", "dev"):
            run("mount", "--rbind", f"/{shared}", self.root / shared)
        self.settings: dict[str, str] = {}
        self.environment = {"PATH": _PATH}

    def inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def copy(self, source: Path, target: str) -> None:
        """As COPY does: what is in a directory, not the directory."""
        to = self.inside(target)
        if source.is_dir():
            shutil.copytree(source, to, symlinks=True, dirs_exist_ok=True)
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to)

    def follow(self, word: str, rest: str, stages: dict[str, Stage]) -> None:
        match word:
            case "RUN":
                run(
                    "chroot",
                    self.root,
                    "sh",
                    "-c",
                    rest,
                    environment={**os.environ, **self.environment},
                )
            case "COPY":
                *words, target = shlex.split(rest)
                origin = TOP
                if words[0].startswith("--from="):
                    origin = stages[words.pop(0).partition("=")[2]].root
                for name in words:
                    self.copy(origin / name.lstrip("/"), target)
            case "ENV":
                key, _, value = rest.partition("=")
                self.environment[key] = value
            case "USER" | "WORKDIR" | "VOLUME" | "EXPOSE" | "ENTRYPOINT" | "CMD":
                self.settings[word] = rest
            case _:
                fail(f"what does {word} do?")


def built_here(scratch: Path) -> Stage:
    stages: dict[str, Stage] = {}
    for word, rest in instructions():
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            stages[name] = stage = Stage(scratch, name)
            # The base has neither: what is there of this machine's own must not be taken for it.
            shutil.rmtree(stage.inside("/opt"), ignore_errors=True)
        else:
            stage.follow(word, rest, stages)
    return stage


class ChrootContainer:
    """Runs a stage as a container is run with --read-only and one volume."""

    address, port = "127.0.0.1", 12345

    def __init__(self, stage: Stage, volume: Path) -> None:
        self.stage = stage
        self.user, _, self.group = stage.settings["USER"].partition(":")
        self.volume = volume
        volume.mkdir(mode=0o700)
        os.chown(volume, int(self.user), int(self.group))
        self.process: subprocess.Popen[bytes] | None = None
        self.log = volume.with_suffix(".log")

    def _command(self, words: Sequence[str], mount: Path, at: str) -> list[str]:
        root = str(self.stage.root)
        identity = ["setpriv", "--reuid", self.user, "--regid", self.group, "--clear-groups"]
        identity += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        place = 'cd "$0" && exec "$@"'
        inner = [*identity, "env", "-i"]
        inner += [f"{key}={value}" for key, value in self.stage.environment.items()]
        inner += ["sh", "-c", place, self.stage.settings["WORKDIR"], *words]
        script = (
            f"mount --rbind {shlex.quote(root)} {shlex.quote(root)}"
            f" && mount --bind {shlex.quote(str(mount))} {shlex.quote(root + at)}"
            f" && mount -o remount,bind,ro {shlex.quote(root)}"
            f' && exec chroot {shlex.quote(root)} "$@"'
        )
        return ["unshare", "--mount", "sh", "-c", script, "sh", *inner]

    def _default(self) -> list[str]:
        return [
            word for key in ("ENTRYPOINT", "CMD") for word in json.loads(self.stage.settings[key])
        ]

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(self._default(), self.volume, STATE), stdout=log, stderr=log
            )

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def logs(self) -> str:
        return self.log.read_text()

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def execute(self, *words: str) -> str:
        return run(*self._command(words, self.volume, STATE))

    def alone(self, file: Path) -> tuple[int, str]:
        """Return how it ends with only pwd.txt mounted."""
        os.chown(file, int(self.user), int(self.group))
        self.stage.inside(f"{STATE}/pwd.txt").touch()
        os.chown(self.stage.inside(f"{STATE}/pwd.txt"), int(self.user), int(self.group))
        done = subprocess.run(
            self._command(self._default(), file, f"{STATE}/pwd.txt"),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        return done.returncode, done.stdout + done.stderr

    def remove(self) -> None:
        if self.process is not None:
            self.process.kill()  # nothing, if it has ended


class EngineContainer:
    """The same by podman or docker."""

    address = "127.0.0.1"

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.tag = f"kdc-check-{secrets.token_hex(4)}"
        run(engine, "build", "--tag", self.tag, "--file", TOP / "etc/Containerfile", TOP)
        self._safe = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
        volume = ["--volume", f"{self.tag}:{STATE}", "--publish", f"{self.address}::12345"]
        run(engine, "create", "--name", self.tag, *self._safe, *volume, self.tag)

    @property
    def port(self) -> int:
        return int(run(self.engine, "port", self.tag, "12345/tcp").rpartition(":")[2])

    def start(self) -> None:
        run(self.engine, "start", self.tag)

    def stop(self) -> int:
        run(self.engine, "stop", self.tag)
        return int(run(self.engine, "inspect", "--format", "{{.State.ExitCode}}", self.tag))

    def logs(self) -> str:
        done = subprocess.run(
            [self.engine, "logs", self.tag], capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr

    def running(self) -> bool:
        state = run(self.engine, "inspect", "--format", "{{.State.Running}}", self.tag)
        return state.strip() == "true"

    def execute(self, *words: str) -> str:
        return run(self.engine, "exec", self.tag, *words)

    def alone(self, file: Path) -> tuple[int, str]:
        file.chmod(0o666)
        mount = ["--volume", f"{file}:{STATE}/pwd.txt"]
        done = subprocess.run(
            [self.engine, "run", "--rm", *self._safe, *mount, self.tag],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        return done.returncode, done.stdout + done.stderr

    def remove(self) -> None:
        for command in (("rm", "--force"), ("volume", "rm"), ("rmi",)):
            subprocess.run([self.engine, *command, self.tag], capture_output=True, check=False)


Container = ChrootContainer | EngineContainer


def until_it_runs(container: Container) -> str:
    """Return its fingerprint, from its log."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := re.search(r"sha256:[0-9a-f]{64}", logs := container.logs())):
        if not container.running() or time.monotonic() > deadline:
            fail(f"it did not start:\n{logs}")
        time.sleep(0.1)
    return found[0]


def check(container: Container, kdcclient: Path, scratch: Path) -> None:
    container.start()
    fingerprint = until_it_runs(container)
    if container.execute("id", "-u").strip() == "0":
        fail("it runs as root")
    if "read-only" not in container.execute("sh", "-c", "touch /opt/kdc/new 2>&1 || true").lower():
        fail("its root can be written")
    where = f"--kdc-address={container.address}", f"--kdc-port={container.port}"
    invitation = container.execute("kdc", "admin", "invite", "bob", *where)
    (code,) = re.findall(r"kdc\S{40,}", invitation) or fail(f"no invitation:\n{invitation}")
    (scratch / "invitation").touch(mode=0o600)
    (scratch / "invitation").write_text(code)
    environment = {**os.environ, "HOME": str(scratch)}
    bob = ["-n", "bob", "-a", container.address, "-p", str(container.port)]
    bob += ["--key-file", str(scratch / "bob.key"), "--kdc-fingerprint", fingerprint]
    run(kdcclient, "keygen", scratch / "bob.key", environment=environment)
    register = ["register", *bob, "--invitation-file", str(scratch / "invitation")]
    run(kdcclient, *register, environment=environment)
    if status := container.stop():
        fail(f"it ended with {status}:\n{container.logs()}")
    if " registered " not in container.logs():
        fail(f"its log is not the container's own:\n{container.logs()}")
    container.start()
    until_it_runs(container)
    bob[5] = str(container.port)  # another one after a restart, perhaps
    run(kdcclient, "whoami", *bob, environment=environment)
    if status := container.stop():
        fail(f"it ended with {status} the second time:\n{container.logs()}")
    (scratch / "pwd.txt").touch()
    status, said = container.alone(scratch / "pwd.txt")
    if not status or "mounted by itself" not in said:
        fail(f"pwd.txt mounted alone ended with {status}:\n{said}")


def engine_here() -> str | None:
    for engine in ENGINES:
        with contextlib.suppress(OSError):
            if not subprocess.run([engine, "info"], capture_output=True, check=False).returncode:
                return engine
    return None


def main(arguments: Sequence[str]) -> None:
    (kdcclient,) = arguments
    scratch = Path(tempfile.mkdtemp())
    try:
        if engine := engine_here():
            container = EngineContainer(engine)
            try:
                check(container, Path(kdcclient).absolute(), scratch)
            finally:
                container.remove()
            print(f"container-check: built by {engine}, used, restarted")
        elif os.geteuid():
            print("container-check: SKIPPED: no podman, no docker, and not root")
        else:
            in_copies(Path(kdcclient).absolute(), scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def in_copies(kdcclient: Path, scratch: Path) -> None:
    own(_MOUNTS)
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "tmpfs", scratch)
    try:
        stage = built_here(scratch)
        # Its port is the image's: that of another program on this machine must not matter.
        own(_NETWORK)
        run("ip", "link", "set", "lo", "up")
        container = ChrootContainer(stage, scratch / "volume")
        try:
            check(container, kdcclient, scratch)
        finally:
            container.remove()
    finally:
        subprocess.run(["umount", "--lazy", scratch], check=False)
    print("container-check: built in a copy of this machine's root, used, restarted")


def own(namespace: int) -> None:
    """Leave a namespace for a new one, which ends with this process; raises `OSError`."""
    if ctypes.CDLL(None, use_errno=True).unshare(namespace):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


if __name__ == "__main__":
    main(sys.argv[1:])
