"""What is done to a cluster, a function for each fault; docs/cluster.md has the table."""

from __future__ import annotations

import time

from bench.cluster_load import EVE
from bench.cluster_trial import SHORT_SECONDS, Fault, Found, Trial
from bench.population import name_of
from bench.processes import Failed

__all__ = ["BREAKS"]

_BEFORE_SECONDS = 1.0
_LEADERLESS_SECONDS = 5.0
_KDC_SECONDS = 3.0


def _leader_killed(trial: Trial, rounds: int) -> Found:
    cluster = trial.cluster

    def one(number: int, found: Found) -> None:
        leader = cluster.wait_for_leader()
        time.sleep(_BEFORE_SECONDS)
        cluster.kill(leader.etcd)
        time.sleep(_LEADERLESS_SECONDS)
        cluster.start_etcd(leader)

    return trial.rounds(rounds, one)


def _leader_stopped(trial: Trial, rounds: int) -> Found:
    cluster = trial.cluster

    def one(number: int, found: Found) -> None:
        leader = cluster.wait_for_leader()
        time.sleep(_BEFORE_SECONDS)
        with cluster.stopped(leader.etcd):
            time.sleep(_LEADERLESS_SECONDS)

    return trial.rounds(rounds, one)


def _leader_cut(trial: Trial, rounds: int) -> Found:
    trial.need_network()
    network = trial.cluster.network

    def one(number: int, found: Found) -> None:
        leader = trial.cluster.wait_for_leader()
        time.sleep(_BEFORE_SECONDS)
        network.cut(leader.number)
        time.sleep(_LEADERLESS_SECONDS)
        network.mend(leader.number)

    return trial.rounds(rounds, one)


def _kdc_killed(trial: Trial, rounds: int) -> Found:
    cluster = trial.cluster

    def one(number: int, found: Found) -> None:
        machine = cluster.machines[number % len(cluster.machines)]
        time.sleep(_BEFORE_SECONDS)
        cluster.kill(machine.kdc)
        time.sleep(_KDC_SECONDS)
        cluster.start_kdc(machine)

    return trial.rounds(rounds, one)


def _kdc_stopped(trial: Trial, rounds: int) -> Found:
    cluster = trial.cluster

    def one(number: int, found: Found) -> None:
        machine = cluster.machines[number % len(cluster.machines)]
        time.sleep(_BEFORE_SECONDS)
        with cluster.stopped(machine.kdc):
            time.sleep(2 * _KDC_SECONDS)

    return trial.rounds(rounds, one)


def _cut_off(trial: Trial, rounds: int) -> Found:
    """A node is cut off, and somebody who is there all the time is disabled at another."""
    found, given, latest = _keys_of_one_cut_off(trial, rounds)
    if latest > trial.confirm_seconds:
        found.bad.append("keys of one who was disabled, asked for after the bound")
    found.besides.append(
        f"{given} keys given after that was acknowledged, the last asked for {latest:.1f} s later"
    )
    return found


def _cut_off_unchecked(trial: Trial, rounds: int) -> Found:
    """The same of KDCs that lack the check: it is what keeps the bound."""
    found, given, latest = _keys_of_one_cut_off(trial, rounds)
    if latest <= trial.confirm_seconds:
        found.bad.append("nothing was decided on what was too old: the check shows nothing")
    found.besides.append(
        f"{given} keys given after that was acknowledged, the last asked for {latest:.1f} s later"
    )
    return found


def _keys_of_one_cut_off(trial: Trial, rounds: int) -> tuple[Found, int, float]:
    """Return how many keys the node gave later, and how long later it was asked for the last."""
    trial.need_network()
    cluster, network, eve = trial.cluster, trial.cluster.network, name_of(EVE)
    late: list[float] = []

    def one(number: int, found: Found) -> None:
        machines = cluster.machines
        away, other = (machines[(number + n) % len(machines)] for n in range(2))
        trial.ask("alone", at=[away.number])
        time.sleep(_BEFORE_SECONDS)
        network.cut(away.number)
        cluster.admin(other, "disable", eve)
        disabled = time.monotonic()
        time.sleep(trial.confirm_seconds + 2.0)
        network.mend(away.number)
        # Back, it knows by itself.
        trial.settle()
        (begun,) = trial.ask("no_more")["begun"]
        if not begun or begun[0] > disabled:
            raise Failed("there were no keys even before")
        late.extend(at - disabled for at in begun if at > disabled)
        cluster.admin(other, "enable", eve)
        trial.gives_keys(away)

    found = trial.rounds(rounds, one)
    return found, len(late), max(late, default=0.0)


BREAKS = (
    Fault(
        "leader-killed",
        "the leader of etcd is killed",
        "0 lost, 0 wrongly refused; registrations wait < 6 s, channels do not",
        _leader_killed,
        short=True,
    ),
    Fault(
        "leader-stopped",
        "the leader of etcd is stopped (SIGSTOP)",
        "the same",
        _leader_stopped,
    ),
    Fault("leader-cut", "the leader's machine is cut off from the others", "the same", _leader_cut),
    Fault(
        "kdc-killed",
        "a KDC is killed, to which senders stick",
        "channels wait < 0.5 s, no error",
        _kdc_killed,
    ),
    Fault(
        "kdc-stopped",
        "a KDC is stopped, to which senders stick",
        "channels wait < 1.5 s, no error",
        _kdc_stopped,
    ),
    Fault(
        "cut-off",
        "a node is cut off, and somebody is disabled elsewhere",
        "no key that was asked for more than 3 s later, the KDCs' bound",
        _cut_off,
        confirm_seconds=SHORT_SECONDS,
        short=True,
    ),
    Fault(
        "cut-off-unchecked",
        "the same, with the check taken out of the KDCs",
        "such keys: without them the row above would show nothing",
        _cut_off_unchecked,
        confirm_seconds=SHORT_SECONDS,
        checked=False,
        times=0.2,
        short=True,
    ),
)
