"""What the figures were measured on and with, and the peers' packages."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import ssl
import subprocess
import sys
import sysconfig
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend

from bench import wormhole

__all__ = ["facts", "install_peers", "python_built"]

# A program of each package, by which it is known to be there.
_PACKAGES = {
    "haproxy": "haproxy",
    "krb5-kdc": "krb5kdc",
    "krb5-admin-server": "kadmin.local",
    "krb5-user": "kvno",
    "openssh-client": "sftp",
    "openssh-server": "sshd",
    "openssl": "openssl",
    "socat": "socat",
    "spiped": "spiped",
    "stunnel4": "stunnel",
}
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _missing() -> list[str]:
    return [name for name, tool in _PACKAGES.items() if shutil.which(tool, path=_PATH) is None]


def install_peers() -> list[str]:
    """Install what is missing where that is allowed; return what still is."""
    return [*_install_packages(), *([] if wormhole.install() else ["magic-wormhole"])]


def _install_packages() -> list[str]:
    missing = _missing()
    apt = shutil.which("apt-get")
    if not missing or apt is None:
        return missing
    command = [apt, "-qq", "-o", "DPkg::Lock::Timeout=120"]
    if os.getuid():
        sudo = shutil.which("sudo")
        if sudo is None:
            return missing
        command = [sudo, "-n", *command]
    print(f"bench: installing {' '.join(missing)}", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        done = subprocess.run(
            [*command, *words], env=environment, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            break
    return _missing()


def _first_line(*command: str) -> str:
    found = shutil.which(command[0], path=_PATH)
    if found is None:
        return "not installed"
    done = subprocess.run([found, *command[1:]], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return next((line for line in lines if any(map(str.isdigit, line))), "?").strip()[:100]


def python_built() -> str:
    """How this Python was built: one that was not optimised costs up to 1.4 times as much."""
    if sys.base_prefix == "/usr":
        return "the distribution's"
    words = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = "--enable-optimizations" in words and "--with-lto" in words
    return f"self-built, {'with' if optimised else 'without'} PGO and LTO"


def facts() -> dict[str, str]:
    """Nothing that names the machine, only what it can do."""
    cpus = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = next(iter(Path("/proc/meminfo").read_text().splitlines())).split()[1]
    versions = {name: importlib.metadata.version(name) for name in ("Twisted", "cryptography")}
    return {
        "processor": f"{len(os.sched_getaffinity(0))} x {cpus[0] if cpus else platform.machine()}",
        "memory": f"{int(memory) / (1 << 20):.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()}, {python_built()}, {ssl.OPENSSL_VERSION}",
        **versions,
        "OpenSSL of cryptography": backend.openssl_version_text(),
        "MIT krb5": _first_line("klist", "-V"),
        "OpenSSH": _first_line("ssh", "-V"),
        "OpenSSL": _first_line("openssl", "version"),
        "haproxy": _first_line("haproxy", "-v"),
        "stunnel": _first_line("stunnel", "-version"),
        "spiped": _first_line("spiped", "-v"),
        "socat": _first_line("socat", "-V"),
        "magic-wormhole": wormhole.version(),
    }
