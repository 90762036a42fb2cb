"""Kill the store's process at random moments during registrations, again and again.

    python bench/store_kill9.py [--rounds 200] [--seed N]

Each round: a child registers names in batches and reports each batch once it is
acknowledged; it is killed with SIGKILL after a random time.  Then the store is
opened here: every acknowledged name must be there with the keys it registered,
what was under way may be there or not, and registering it again with the same
token must succeed.  Folds run all the time, so that many kills hit one.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

from kdc.store import Create, Outcome, Record, Status
from kdc.store.flatfile._store import FlatFileStore, Folding
from kdc.store.flatfile.check import check

_BATCH = 5


def record(number: int) -> Record:
    text = f"{number:032d}".encode()
    return Record(f"user{number:07d}", Status.ACTIVE, "127.0.0.1", 35678, text, text[::-1])


def token(number: int) -> bytes:
    return number.to_bytes(16, "big")


def register(path: str, first: int) -> None:
    """Register until killed; print the first number that is not yet acknowledged."""
    store = FlatFileStore.open(path, realm="LOCAL", folding=Folding(20_000))
    print("open", flush=True)
    while True:
        numbers = range(first, first + _BATCH)
        results = store.apply([Create(record(n), token(n)) for n in numbers])
        if any(result.outcome is not Outcome.DONE for result in results):
            sys.exit(f"refused: {results}")
        first += _BATCH
        print(first, flush=True)


def one_round(path: str, first: int, wait: float) -> int:
    """Return the number of names that the killed child had acknowledged."""
    with subprocess.Popen(
        [sys.executable, __file__, "--register", path, str(first)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        if child.stdout is None or child.stdout.readline() != "open\n":
            sys.exit("the store did not open after a kill")
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        # A line that the kill cut in two was not yet said.
        said = [line for line in child.stdout.read().splitlines(keepends=True) if line[-1] == "\n"]
    return int(said[-1]) if said else first


def verify(path: str, acknowledged: int) -> tuple[int, bool]:
    """Open the store, and finish what was under way; return how much of that was stored."""
    fatal = [problem for problem in check(path) if not problem.harmless]
    if fatal:
        sys.exit(f"damaged by a kill: {fatal[0]}")
    store = FlatFileStore.open(path, realm="LOCAL")
    for number in range(acknowledged):
        found = store.get(f"user{number:07d}")
        if found is None or found.verify_key != record(number).verify_key:
            sys.exit(f"acknowledged and lost: user{number:07d}")
    more = len(store) - acknowledged
    if not 0 <= more <= _BATCH:
        sys.exit(f"{more} records more than were acknowledged")
    retries = [Create(record(n), token(n)) for n in range(acknowledged, acknowledged + _BATCH)]
    if any(result.outcome is not Outcome.DONE for result in store.apply(retries)):
        sys.exit("a retried registration was refused")
    torn = any("left out" in note for note in store.notes)
    # Half of the time the next child finds a closed store, otherwise one as left here.
    store.close()
    return more, torn


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--register", nargs=2, metavar=("PATH", "FIRST"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.register:
        register(options.register[0], int(options.register[1]))
    seed = options.seed if options.seed is not None else random.randrange(1 << 30)
    dice = random.Random(seed)
    acknowledged = torn_rounds = stored_rounds = 0
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "pwd.txt")
        for _ in range(options.rounds):
            acknowledged = one_round(path, acknowledged, dice.uniform(0, 0.1))
            more, torn = verify(path, acknowledged)
            stored_rounds += more > 0
            torn_rounds += torn
            acknowledged += _BATCH
    print(
        f"{options.rounds} rounds (seed {seed}): {acknowledged} registrations acknowledged, "
        f"none lost, every store opened, every retry succeeded"
    )
    print(
        f"killed between storing and acknowledging in {stored_rounds} rounds, "
        f"in the middle of an append in {torn_rounds}"
    )


if __name__ == "__main__":
    main()
