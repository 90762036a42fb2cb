"""What several KDCs on etcd do when something fails: a table, as in docs/cluster.md.

    python -m bench.cluster_faults [--rounds N] [--only FAULT] [--short] [--write]

Three members of etcd and three KDCs, as processes, each on a machine of its own where this
system has network namespaces; clients register and open channels all the time.  Status 1 if
anything was lost, wrongly refused, or decided on what was too old.  How long anything took is
told, and judged by nobody: that depends on the machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time

from bench.cluster import Cluster
from bench.cluster_breaks import BREAKS
from bench.cluster_damage import DAMAGE, QUOTA_BYTES
from bench.cluster_lies import LIES
from bench.cluster_moving import MOVES
from bench.cluster_trial import Fault, Found, Skipped, Trial
from bench.figures import table
from bench.network import ALONE, Network, isolate
from bench.processes import HERE, Failed, Scratch, run
from kdc.store.etcd.api import EtcdError

_DOCUMENT = HERE / "docs" / "cluster.md"
_BEGIN, _END = "<!-- faults: begin -->\n", "<!-- faults: end -->\n"
_ROUNDS = 3
FAULTS = (*BREAKS, *DAMAGE, *LIES, *MOVES)
# As docs/cluster.md has it, only less of everything.
_ETCD = (
    *("--auto-compaction-mode", "revision", "--auto-compaction-retention", "1000"),
    *("--quota-backend-bytes", str(QUOTA_BYTES)),
)
_HEAD = [
    *(
        "what happens",
        "rounds",
        "registered",
        "lost",
        "wrongly refused",
        "none for / one for, s",
    ),
    *("channels", "errors", "none for, s", "what must hold", "seen besides"),
]


def row_of(fault: Fault, found: Found) -> list[str]:
    def seconds(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    return [
        fault.title,
        str(found.rounds),
        f"{found.registrations:,}",
        str(found.lost),
        str(found.wrong),
        "-"
        if found.registration_gap is None
        else f"{seconds(found.registration_gap)} / {found.registration_wait:.1f}",
        f"{found.channels:,}",
        str(found.errors),
        seconds(found.channel_gap),
        fault.must,
        "; ".join(found.besides) or "-",
    ]


def with_rows(page: str, rows: list[list[str]], how: str) -> str:
    """Return the document with these rows, and those of other faults as they were."""
    before, begin, rest = page.partition(_BEGIN)
    old, end, after = rest.partition(_END)
    if not begin or not end:
        raise Failed(f"no place for the table in {_DOCUMENT.name}")
    kept = {row[0]: row for row in map(_cells, old.splitlines()) if len(row) == len(_HEAD)}
    kept |= {row[0]: row for row in rows}
    found = [kept[fault.title] for fault in FAULTS if fault.title in kept]
    return f"{before}{begin}{table(_HEAD, found)}\n{how}\n{end}{after}"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _how() -> str:
    """On what it was measured."""
    version = run(["etcd", "--version"]).output.decode().split()[2]
    return (
        f"Three members of etcd {version}, three KDCs and all clients on {os.cpu_count()}"
        f" processors, which {os.getloadavg()[0]:.1f} processes wanted at the end."
    )


def _tell(text: str) -> None:
    print(f"cluster-faults: {text}", file=sys.stderr, flush=True)


def _run(faults: list[Fault], rounds: int, apart: bool) -> tuple[list[list[str]], bool]:
    """Return the rows, and whether all is as it must be."""
    rows, good = [], True
    with Scratch() as scratch:
        trial = Trial(Cluster(scratch, Network(3, apart), *_ETCD), scratch)
        for fault in faults:
            begun = time.monotonic()
            try:
                trial.kdcs(fault.confirm_seconds, fault.checked)
                found = fault.run(trial, max(1, round(rounds * fault.times)))
            except Skipped as why:
                _tell(f"{fault.key}: skipped: {why}")
                continue
            rows.append(row_of(fault, found))
            good = good and not found.bad
            verdict = "; ".join(found.bad[:5]) or "as it must be"
            _tell(f"{fault.key}: {verdict}, in {time.monotonic() - begun:.0f} s")
    return rows, good


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cluster_faults", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="of each fault")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[f.key for f in FAULTS],
        metavar="FAULT",
        help=f"this one; may be repeated: {', '.join(f.key for f in FAULTS)}",
    )
    parser.add_argument("--short", action="store_true", help="one round, of those that matter most")
    parser.add_argument("--write", action="store_true", help="put the table into docs/cluster.md")
    return parser.parse_args()


def main() -> int:
    alone = isolate("bench.cluster_faults")
    options = _options()
    # SIGTERM unwinds, so that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if alone:
        _tell(f"{ALONE}: {alone}")
    if shutil.which("etcd") is None:
        _tell("skipped: etcd is not installed (Debian: etcd-server)")
        return 0
    faults = [
        fault
        for fault in FAULTS
        if (fault.key in options.only if options.only else fault.short or not options.short)
    ]
    try:
        rows, good = _run(faults, 1 if options.short else options.rounds, not alone)
    except (Failed, EtcdError) as error:
        _tell(str(error))
        return 1
    print(table(_HEAD, rows))
    if options.write:
        page = _DOCUMENT.read_text(encoding="utf-8")
        _DOCUMENT.write_text(with_rows(page, rows, _how()), encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
