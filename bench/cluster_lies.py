"""What a KDC is not told by etcd, or told that no KDC wrote, a function for each fault."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from bench.cluster import Machine
from bench.cluster_load import EVE
from bench.cluster_trial import Fault, Found, Trial, text
from bench.cluster_writer import KilledWriter
from bench.etcd_proxy import EtcdProxy
from bench.population import REALM, name_of
from bench.processes import until
from kdc.store.etcd.wire import Keys

__all__ = ["LIES"]

_BEFORE_SECONDS = 1.0
_AWAY_SECONDS = 4.0
_KEYS = Keys(REALM)


@contextlib.contextmanager
def _behind_a_proxy(trial: Trial, machine: Machine) -> Iterator[EtcdProxy]:
    """The KDC there knows no etcd but through it."""
    cluster = trial.cluster
    proxy = EtcdProxy(cluster.tls, cluster.network.here, machine.member)
    try:
        cluster.stop_kdc(machine)
        cluster.start_kdc(machine, confirm_seconds=trial.confirm_seconds, members=[proxy.place])
        trial.settle()
        yield proxy
    finally:
        proxy.close()
        cluster.stop_kdc(machine)
        cluster.start_kdc(machine, confirm_seconds=trial.confirm_seconds)
        trial.settle()


def _reloads(trial: Trial, machine: Machine) -> int:
    (answer,) = trial.cluster.admin(machine, "top")
    return int(dict(answer["facts"]["Store"])["etcd reloads"].replace(",", ""))


def _event_lost(trial: Trial, rounds: int) -> Found:
    """Somebody is disabled, and the node to which she is connected is not told of it."""
    cluster, eve = trial.cluster, name_of(EVE)
    other, machine = cluster.machines[:2]
    late: list[float] = []
    with _behind_a_proxy(trial, machine) as proxy:

        def one(number: int, found: Found) -> None:
            trial.ask_alone(machine)
            before, proxy.lose = proxy.lost, 1
            cluster.admin(other, "disable", eve)
            disabled = time.monotonic()
            until(lambda: _refused(trial, "AuthenticationRefused"), "she is refused there")
            until(lambda: proxy.lost > before, "an event was lost")
            (begun,) = trial.ask("no_more")["begun"]
            late.append(max(0.0, begun[-1] - disabled))
            if late[-1] > trial.confirm_seconds:
                found.bad.append("a key of one who was disabled, asked for after the bound")
            cluster.admin(other, "enable", eve)
            trial.gives_keys(machine)

        found = trial.rounds(rounds, one)
        again = _reloads(trial, machine)
    found.besides.append(
        f"refused at most {max(late):.1f} s later; everything was read again {again} times"
    )
    return found


def _refused(trial: Trial, kind: str) -> bool:
    asked = trial.ask("asked")
    return all(any(error == kind for _, error in each) for each in asked["refused"])


def _compacted(trial: Trial, rounds: int) -> Found:
    """A node is away, and what it would have to be told of is compacted away meanwhile."""
    cluster = trial.cluster
    machine = cluster.machines[1]
    with _behind_a_proxy(trial, machine) as proxy:
        before = _reloads(trial, machine)

        def one(number: int, found: Found) -> None:
            time.sleep(_BEFORE_SECONDS)
            with proxy.away():
                _change_eve(trial)
                time.sleep(_AWAY_SECONDS)
                head = cluster.ask("/v3/kv/range", {"key": text(_KEYS.head)})
                revision = head["header"]["revision"]
                cluster.ask("/v3/kv/compaction", {"revision": revision, "physical": True})
            trial.gives_keys(machine)

        found = trial.rounds(rounds, one)
        found.besides.append(f"read again {_reloads(trial, machine) - before} times")
    return found


# What etcd's owner writes.


def _line_deleted(trial: Trial) -> tuple[bytes, bytes | None]:
    return _KEYS.line(name_of(EVE).encode()), None


def _old_line(trial: Trial) -> tuple[bytes, bytes | None]:
    key = _KEYS.line(name_of(EVE).encode())
    old = trial.value(key)
    _change_eve(trial)
    return key, old


def _old_head(trial: Trial) -> tuple[bytes, bytes | None]:
    old = trial.value(_KEYS.head)
    _change_eve(trial)
    return _KEYS.head, old


def _change_eve(trial: Trial) -> None:
    for word in ("disable", "enable"):
        trial.cluster.admin(trial.cluster.machines[0], word, name_of(EVE))


def _written(what: Callable[[Trial], tuple[bytes, bytes | None]]) -> Callable[[Trial, int], Found]:
    def run_it(trial: Trial, rounds: int) -> Found:
        found = Found()
        late: list[float] = []
        for _ in range(rounds):
            late.append(_one_written(trial, found, *what(trial)))
            found.rounds += 1
        trial.look(found)
        found.besides.append(f"the last key was asked for {max(late):.1f} s later")
        return found

    return run_it


def _one_written(trial: Trial, found: Found, key: bytes, value: bytes | None) -> float:
    """Return how much later the last key was asked for; then it is put right."""
    machines = trial.cluster.machines
    good = trial.value(key)
    trial.ask_alone(*machines)
    trial.put(key, value)
    written = time.monotonic()
    until(lambda: _refused(trial, "KDCUnreachable"), "every KDC refuses")
    time.sleep(_BEFORE_SECONDS)
    asked = trial.ask("no_more")
    trial.only_later(asked, found)
    for begun, refused in zip(asked["begun"], asked["refused"], strict=True):
        if begun[-1] > refused[0][0]:
            found.bad.append("a KDC gave a key after it had noticed")
    trial.put(key, good)
    trial.gives_keys(*machines)
    return max(0.0, *(begun[-1] - written for begun in asked["begun"]))


# A node that writes.


def _writer_killed(trial: Trial, rounds: int) -> Found:
    writer, found = KilledWriter(trial.cluster, rounds), Found(rounds=rounds)
    for _ in range(rounds):
        found.bad += writer.round()
    found.bad += writer.close()
    found.registrations = writer.acknowledged
    found.lost = sum(text.startswith("lost") for text in found.bad)
    found.wrong = len(found.bad) - found.lost
    found.besides.append(f"in {writer.stored} it was killed between storing and acknowledging")
    return found


_REFUSE = "every KDC refuses within 2 s, and goes on when it has been put right"
LIES = (
    Fault(
        "event-lost",
        "somebody is disabled, and that event of a node's watch is lost",
        "refused there, too, within the bound",
        _event_lost,
        times=0.6,
    ),
    Fault(
        "compacted",
        "history is compacted while a node is away from etcd",
        "0 lost; the node reads everything again",
        _compacted,
        times=0.6,
    ),
    Fault(
        "line-deleted",
        "a line is deleted in etcd",
        _REFUSE,
        _written(_line_deleted),
        times=0.4,
        short=True,
    ),
    Fault("old-line", "an old line is put back in etcd", _REFUSE, _written(_old_line), times=0.4),
    Fault("old-head", "an old head is put back in etcd", _REFUSE, _written(_old_head), times=0.4),
    Fault(
        "writer-killed",
        "a node that writes is killed",
        "0 lost, 0 wrongly refused",
        _writer_killed,
        times=10,
    ),
)
