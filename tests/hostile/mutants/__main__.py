"""Run the tests that are named for each mutant, some mutants at a time.

A mutant that was seen killed is not tried again as long as its file and the
tests named for it are as they were: what was cut short goes on where it
stopped.  First each set of tests is run with nothing taken out: tests that
fail anyway show nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.hostile.mutants import MUTANTS, TOP, Mutant, mutated, with_table

# A mutant that hangs is noticed as well.
_SECONDS = 300
_PAGE = TOP / "docs" / "security.md"
_SEEN = TOP / "build" / "mutants.json"


class Tree:
    """A copy of all of it, in which one file at a time is changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = 0
        ignored = shutil.ignore_patterns(".git", ".venv", "_trial_temp*", "__pycache__", "build")
        shutil.copytree(TOP, path, ignore=ignored)

    def fails(self, tests: str) -> bool:
        """Run them; whether one failed."""
        ran = subprocess.Popen(
            [sys.executable, "-m", "twisted.trial", "--exitfirst", *tests.split()],
            cwd=self._path,
            env={**os.environ, "PYTHONPATH": str(self._path), "TEST_SECONDS": "120"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return ran.wait(_SECONDS) != 0
        except subprocess.TimeoutExpired:
            return True
        finally:
            # Whatever the tests have started goes with them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ran.pid, signal.SIGKILL)
            ran.wait()

    def kills(self, mutant: Mutant) -> bool:
        """Whether the mutant's tests notice it."""
        path = self._path / mutant.path
        original = path.read_text(encoding="utf-8")
        self._write(path, mutated(mutant, original))
        try:
            return self.fails(mutant.tests)
        finally:
            self._write(path, original)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        # Python takes compiled code for that of a file with the same second and size.
        self._stamp += 1
        os.utime(path, (self._stamp, self._stamp))


def _digest(mutant: Mutant) -> str:
    """Of the mutant, its file and its tests."""
    state = hashlib.sha256(repr(mutant).encode())
    state.update((TOP / mutant.path).read_bytes())
    for name in mutant.tests.split():
        path = TOP.joinpath(*name.split(".")[:3])
        files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        for each in files:
            state.update(each.read_bytes())
    return state.hexdigest()


def _seen() -> set[str]:
    try:
        return set(json.loads(_SEEN.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return set()


def _remember(seen: set[str]) -> None:
    _SEEN.parent.mkdir(exist_ok=True)
    new = _SEEN.with_suffix(".new")
    new.write_text(json.dumps(sorted(seen)), encoding="utf-8")
    new.replace(_SEEN)


@contextlib.contextmanager
def _trees(count: int) -> Iterator[queue.SimpleQueue[Tree]]:
    free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(count):
            free.put(Tree(Path(scratch) / str(number)))
        yield free


def _run(mutants: dict[Mutant, str], jobs: int, seen: set[str]) -> dict[Mutant, str]:
    """Try each of them; return those that are not known to be noticed, and why."""
    wrong: dict[Mutant, str] = {}
    with _trees(jobs) as free, ThreadPoolExecutor(jobs) as pool:

        def in_a_tree(work: Callable[[Tree], bool]) -> bool:
            tree = free.get()
            try:
                return work(tree)
            finally:
                free.put(tree)

        broken = set()
        sets = sorted({mutant.tests for mutant in mutants})
        outcomes = [
            pool.submit(in_a_tree, functools.partial(Tree.fails, tests=tests)) for tests in sets
        ]
        for tests, outcome in zip(sets, outcomes, strict=True):
            fails = outcome.result()
            print(f"{'BROKEN' if fails else 'sound':6}  {tests}", flush=True)
            broken |= {tests} if fails else set()
        # Tests that fail anyway show nothing.
        wrong |= {mutant: "NOT RUN" for mutant in mutants if mutant.tests in broken}
        running = {
            pool.submit(in_a_tree, functools.partial(Tree.kills, mutant=mutant)): mutant
            for mutant in mutants
            if mutant not in wrong
        }
        for done in as_completed(running):
            mutant = running[done]
            killed = done.result()
            _say("killed" if killed else "ALIVE", mutant)
            if killed:
                seen.add(mutants[mutant])
                _remember(seen)
            else:
                wrong[mutant] = "ALIVE"
    return wrong


def _say(verdict: str, mutant: Mutant) -> None:
    print(f"{verdict:7} {mutant.section:8} {mutant.defence} ({mutant.path})", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.mutants")
    parser.add_argument("--only", default="", help="mutants of files whose path contains this")
    parser.add_argument("--jobs", type=int, default=2, help="so many at a time")
    parser.add_argument("--again", action="store_true", help="those that were seen killed, too")
    parser.add_argument("--table", action="store_true", help="bring docs/security.md up to date")
    options = parser.parse_args()
    if options.table:
        _PAGE.write_text(with_table(_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.path]
    seen = set() if options.again else _seen()
    # Of the code as it is copied now, whatever becomes of it meanwhile.
    digests = {mutant: _digest(mutant) for mutant in chosen}
    new = {mutant: digest for mutant, digest in digests.items() if digest not in seen}
    wrong = _run(new, options.jobs, seen)
    print(f"{len(chosen)} mutants, {len(chosen) - len(new)} seen before, {len(wrong)} not killed")
    for mutant, verdict in wrong.items():
        _say(verdict, mutant)
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
