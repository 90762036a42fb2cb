"""How fast things are sent on this machine, and with how much memory.

python -m bench.send_much [--size BYTES] [--files COUNT] [--directory DIR]
"""

from __future__ import annotations

import argparse
import filecmp
import os
import time
from pathlib import Path

from bench.realm import Process, Realm, realm
from kdc.terminal import amount


def report(what: str, seconds: float, size: int, *programs: Process) -> None:
    for program in programs:
        program.wait()
    used = ", ".join(
        f"{name} {amount(program.peak_bytes)} at most, {program.cpu_seconds:.2f} CPU s"
        for name, program in zip(("sender", "receiver"), programs, strict=True)
    )
    print(f"{what}: {seconds:.2f} s, {amount(size / seconds)}/s; {used}", flush=True)


def send(parties: Realm, path: Path, inbox: Path) -> tuple[float, Process, Process]:
    """Send ``path``, and return how long that took, and who did it."""
    receiver = parties.receiver("bob", "--inbox", str(inbox), "--once")
    began = time.monotonic()
    sender = parties.client("send", "alice", "bob", str(path))
    if sender.wait():
        raise RuntimeError(f"not sent: {sender.lines} {receiver.lines}")
    return time.monotonic() - began, sender, receiver


def one_large_file(parties: Realm, size: int) -> None:
    path, inbox = parties.directory / "large", parties.directory / "inbox"
    inbox.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    seconds, *programs = send(parties, path, inbox)
    if not filecmp.cmp(path, inbox / "large", shallow=False):
        raise RuntimeError("what arrived is something else")
    (inbox / "large").unlink()
    path.unlink()
    report(f"one file of {amount(size)}", seconds, size, *programs)


def many_small_files(parties: Realm, count: int) -> None:
    path, inbox = parties.directory / "many", parties.directory / "inbox"
    inbox.mkdir(exist_ok=True)
    total = 0
    for number in range(count):
        place = path / f"{number % 100:02d}"
        place.mkdir(parents=True, exist_ok=True)
        content = os.urandom(number % 8192)
        total += len(content)
        (place / f"file-{number}").write_bytes(content)
    seconds, *programs = send(parties, path, inbox)
    compared = filecmp.dircmp(path, inbox / "many")
    differing = [*compared.left_only, *compared.right_only, *compared.diff_files]
    for each in compared.subdirs.values():
        differing += [*each.left_only, *each.right_only, *each.diff_files]
    if differing:
        raise RuntimeError(f"what arrived is something else: {differing[:5]}")
    report(f"{count} files of {amount(total)} together", seconds, total, *programs)


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--directory", help="where to work; by default the temporary directory")
    parser.add_argument("--size", type=int, default=5 << 30, help="bytes of the large file")
    parser.add_argument("--files", type=int, default=10_000, help="number of small files")
    chosen = parser.parse_args()
    with realm(chosen.directory) as parties:
        many_small_files(parties, chosen.files)
        one_large_file(parties, chosen.size)


if __name__ == "__main__":
    main()
