"""The goals, beside what came out."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from bench.exchanges import CONNECT, ISSUE, REGISTER, START, label
from bench.figures import Results, number
from bench.transfers import FILES, MEMORY, SMALL

__all__ = ["Goal", "goals"]


@attrs.frozen
class Goal:
    """``met`` is None where something needed for it could not be measured."""

    text: str
    figure: str
    met: bool | None
    why: str = ""


def goals(results: Results, principals: tuple[int, ...]) -> list[Goal]:
    found = [
        *(
            _against_krb5(results, principals, how, most)
            for how, most in (("1 in flight", 1 / 3), ("pipelined", 1 / 10))
        ),
        _flat(results, principals),
        _connect(results, principals),
        *(_register(results, n) for n in principals),
        *_transfer(results),
        *_small(results),
        *_start(results, principals),
    ]
    return [goal for goal in found if goal is not None]


def _known(*values: float | None) -> list[float] | None:
    present = [value for value in values if value is not None]
    return present if len(present) == len(values) else None


def _against_krb5(results: Results, principals: tuple[int, ...], how: str, most: float) -> Goal:
    ratios = []
    for n in principals:
        krb5 = results.median(ISSUE, label("krb5kdc, UDP, 8 outstanding", n), "us")
        ours = results.median(ISSUE, label(f"kdc, {how}", n), "us")
        if krb5 and ours:
            ratios.append(ours / krb5)
    text = f"issue, {how}: server CPU at most 1/{1 / most:.0f} of krb5kdc over UDP"
    if not ratios:
        return Goal(text, "krb5kdc could not be measured", None)
    floor = results.median(ISSUE, f"floor: tls alone, {how}", "us")
    shown = f"{min(ratios):.2f} to {max(ratios):.2f} of it"
    why = f"TCP and TLS in Twisted, with nothing behind them, take {number(floor or 0)} us of it"
    return Goal(text, shown, max(ratios) <= most, why)


def _flat(results: Results, principals: tuple[int, ...]) -> Goal:
    text = f"issue: flat from {principals[0]:,} to {principals[-1]:,} principals"
    ends = _known(*(results.median(ISSUE, label("kdc, 1 in flight", n), "us") for n in principals))
    if ends is None:
        return Goal(text, "-", None)
    grown = ends[-1] / ends[0]
    why = "a dictionary lookup does not grow; what differs is noise and cache misses"
    return Goal(text, f"{grown:.2f} times", grown <= 1.25, why)


def _connect(results: Results, principals: tuple[int, ...]) -> Goal:
    text = "connect: at most 150 us above the bare TLS handshake"
    bare = results.median(CONNECT, "floor: bare TLS", "us")
    ours = _known(*(results.median(CONNECT, label("kdc", n), "us") for n in principals))
    if bare is None or ours is None:
        return Goal(text, "-", None)
    above = min(ours) - bare
    exchange = results.median(ISSUE, "floor: tls alone, 1 in flight", "us") or 0
    verify = results.median("crypto", "all", "Ed25519 verification") or 0
    why = (
        f"two exchanges over TLS ({number(2 * exchange)} us with nothing behind them), one Ed25519"
        f" verification ({number(verify)} us), the key's own cost and three lines of log are the"
        " part that is known; the rest is not explained yet"
    )
    return Goal(text, f"{number(above)} us above {number(bare)} us", above <= 150, why)


def _register(results: Results, principals: int) -> Goal:
    text = f"register: faster than kadmin.local from 16 clients on, {principals:,} principals"
    peer = results.median(REGISTER, label("kadmin.local", principals), "per_second")
    ours = _known(
        *(
            results.median(REGISTER, label(f"kdc, {clients} at a time", principals), "per_second")
            for clients in (16, 64)
        )
    )
    if peer is None or ours is None:
        return Goal(text, "-", None)
    why = (
        "each of ours is a TLS handshake of its own by a client on the same two processors, whose"
        " CPU time bounds the rate; kadmin.local writes into the database without any network"
    )
    shown = f"{number(ours[0])} and {number(ours[1])}/s, beside {number(peer)}/s"
    return Goal(text, shown, min(ours) > peer, why)


def _transfer(results: Results) -> list[Goal]:
    found = []
    for section, what, ours in (
        (MEMORY, "memory to memory", "kdc channel"),
        (FILES, "file to file", "kdcclient send, receive"),
    ):
        rate, cpu = (results.median(section, ours, name) for name in ("MiB/s", "CPU s/GiB"))
        best = max(
            (
                (value, row)
                for row in results.rows(section)
                if row != ours and "plain" not in row and "cp and" not in row
                if (value := results.median(section, row, "MiB/s")) is not None
            ),
            default=None,
        )
        text = f"transfer, {what}: 1.5 times the goodput of the best encrypted peer"
        if rate is None or best is None:
            found.append(Goal(text, "-", None))
        else:
            ratio = rate / best[0]
            shown = f"{number(rate)} MiB/s, {ratio:.2f} times that of {best[1]}"
            plain = results.median(section, "socat, plain TCP", "MiB/s")
            why = f"without any encryption socat reaches {number(plain or 0)} MiB/s here"
            found.append(Goal(text, shown, ratio >= 1.5, why))
        text = f"transfer, {what}: at most 2 CPU s per GiB for both ends"
        met = None if cpu is None else cpu <= 2
        channel = results.median(MEMORY, "kdc channel", "CPU s/GiB")
        started = results.median(SMALL, "kdcclient send, receive", "client CPU s")
        why = (
            f"the channel alone takes {number(channel or 0)} CPU s per GiB and the start of the"
            f" command {number(started or 0)} CPU s each time; the rest is files, and handing"
            " pieces to threads"
        )
        found.append(Goal(text, f"{number(cpu or 0)} CPU s", met, why))
    return found


def _small(results: Results) -> list[Goal]:
    found = []
    for name, unit, most in (("s", "s", 0.5), ("client CPU s", "CPU s", 0.4)):
        value = results.median(SMALL, "kdcclient send, receive", name)
        met = None if value is None else value < most
        text = f"small message with a key file: under {most} {unit}"
        why = "nearly all of it is the start of Python and the import of Twisted and OpenSSL"
        found.append(Goal(text, f"{number(value or 0)} {unit}", met, why))
    return found


def _start(results: Results, principals: tuple[int, ...]) -> list[Goal]:
    row = label("kdc", principals[-1])
    wanted: list[tuple[str, float, Callable[[float], str]]] = [
        ("CPU s", 3.0, lambda v: f"{number(v)} CPU s"),
        ("MiB", 400.0, lambda v: f"{number(v)} MiB"),
    ]
    found = []
    for name, most, show in wanted:
        value = results.median(START, row, name)
        if value is not None:
            text = f"start with {principals[-1]:,} principals: under {most:.0f} {name}"
            found.append(Goal(text, show(value), value < most, "interpreter and imports included"))
    return found
