"""What is done to a cluster, a function for each fault; docs/cluster.md has the table."""

from __future__ import annotations

import time

import attrs

from bench.cluster_load import EVE
from bench.cluster_trial import SHORT_SECONDS, Fault, Found, Trial
from bench.population import name_of

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


@attrs.define
class _CutOff:
    """What a node did after somebody had been disabled of which it could not know."""

    late: list[float] = attrs.field(factory=list)  # how much later each key was asked for
    silent: int = 0  # rounds in which it did not come to say that it is to be tried later

    @property
    def last(self) -> float:
        return max(self.late, default=0.0)

    def told(self) -> str:
        return (
            f"{len(self.late)} keys given after that was acknowledged, the last asked for"
            f" {self.last:.1f} s later"
        )


def _cut_off(trial: Trial, rounds: int) -> Found:
    """A node is cut off, and somebody who is there all the time is disabled at another."""
    found, did = _keys_of_one_cut_off(trial, rounds)
    if did.last > trial.confirm_seconds:
        found.bad.append("keys of one who was disabled, asked for after the bound")
    if did.silent:
        found.bad.append("a node that was cut off did not say that it is to be tried later")
    found.besides.append(did.told())
    return found


def _cut_off_unchecked(trial: Trial, rounds: int) -> Found:
    """The same of KDCs that lack the check: it is what keeps the bound."""
    found, did = _keys_of_one_cut_off(trial, rounds)
    if did.last <= trial.confirm_seconds:
        found.bad.append("nothing was decided on what was too old: the check shows nothing")
    found.besides.append(did.told())
    return found


def _keys_of_one_cut_off(trial: Trial, rounds: int) -> tuple[Found, _CutOff]:
    trial.need_network()
    cluster, network, eve = trial.cluster, trial.cluster.network, name_of(EVE)
    did = _CutOff()

    def one(number: int, found: Found) -> None:
        machines = cluster.machines
        away, other = (machines[(number + n) % len(machines)] for n in range(2))
        trial.ask_alone(away)
        network.cut(away.number)
        cluster.admin(other, "disable", eve)
        disabled = time.monotonic()
        time.sleep(trial.confirm_seconds + 2.0)
        network.mend(away.number)
        # Back, it knows by itself.
        trial.settle()
        asked = trial.ask("no_more")
        did.late += [at - disabled for at in asked["begun"][0] if at > disabled]
        did.silent += "KDCUnreachable" not in {error for _, error in asked["refused"][0]}
        cluster.admin(other, "enable", eve)
        trial.gives_keys(away)

    return trial.rounds(rounds, one), did


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
