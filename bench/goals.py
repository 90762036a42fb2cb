"""The goals, beside what came out; why one is not met is told by what was measured, too."""

from __future__ import annotations

import attrs

from bench.exchanges import (
    AT_A_TIME,
    BARE,
    CONNECT,
    DISK,
    EXCHANGES,
    ISSUE,
    KADMIN,
    KADMIN_LOCAL,
    LOGIN,
    NATIVE,
    NATIVE_LOGIN,
    OPENED,
    REGISTER,
    START,
    label,
    native,
)
from bench.figures import Results, number
from bench.floor import DIGEST
from bench.goal import Goal, bounded, known
from bench.goals_at_scale import goals_at_scale
from bench.transfers import FILES, MEMORY, SMALL, TUNNEL
from bench.ways import BARE_TLS, CHANNEL, COPY, IMPORTS, INTERPRETER, SEND, THROUGH, is_rival

__all__ = ["Goal", "goals"]


def goals(results: Results, principals: tuple[int, ...]) -> list[Goal]:
    """Of several runs: met if each of them meets it, with the figures of all."""
    each = [_of(run, principals) for run in results.runs or [results]]
    by_text = [{goal.text: goal for goal in found} for found in each]
    texts = dict.fromkeys(text for found in by_text for text in found)
    return [
        _all(tuple(found.get(text, Goal(text, "-", None)) for found in by_text)) for text in texts
    ]


def _all(found: tuple[Goal, ...]) -> Goal:
    if len(found) == 1:
        return found[0]
    verdicts = [goal.met for goal in found]
    met = False if False in verdicts else None if None in verdicts else True
    why = next((goal.why for goal in found if goal.met is False), found[-1].why)
    return Goal(found[0].text, "; ".join(goal.figure for goal in found), met, why)


def _of(results: Results, principals: tuple[int, ...]) -> list[Goal]:
    return [
        *(
            _against_krb5(results, principals, how, most)
            for how, most in (("1 in flight", 0.33), ("pipelined", 0.08))
        ),
        _flat_issue(results, principals),
        _connect(results, principals),
        _beside_login(results, principals),
        *(_register(results, n, *peer) for peer in _REGISTRARS for n in principals),
        _flat_registrations(results, principals),
        *_goodput(results),
        *_cost(results),
        *_small(results),
        *_start(results, principals),
        *goals_at_scale(results),
    ]


_CLIENTS_OF_KRB5 = (
    *("krb5kdc, UDP, 1 outstanding", "krb5kdc, UDP, 8 outstanding"),
    *map(native, NATIVE),
)


def _against_krb5(results: Results, principals: tuple[int, ...], how: str, most: float) -> Goal:
    """The worst size counts; one that is missing may be worse.  Of krb5kdc its best clients."""
    text = f"issue, {how}: server CPU at most {most} of krb5kdc's over UDP, the best of its clients"
    found = []
    for n in principals:
        rows = (label(clients, n) for clients in _CLIENTS_OF_KRB5)
        krb5 = min(filter(None, (results.median(ISSUE, row, "us") for row in rows)), default=None)
        ours = results.median(ISSUE, label(f"kdc, {how}", n), "us")
        if krb5 and ours:
            found.append((ours / krb5, ours, krb5))
    if not found:
        return Goal(text, "-", None)
    worst, ours, krb5 = max(found)
    floor = results.median(ISSUE, f"floor: tls alone, {how}", "us") or 0
    why = (
        f"{number(ours)} us, of which TCP and TLS in Twisted with nothing behind them are"
        f" {number(floor)} us; the goal is {number(most * krb5)} us"
    )
    if floor > most * krb5:
        why += ": less than that floor"
    met = worst <= most if len(found) == len(principals) or worst > most else None
    least = min(found)[0]
    figure = f"{worst:.3f}" if len(found) == 1 else f"{least:.3f} to {worst:.3f}"
    return Goal(text, f"{figure} of it", met, why)


def _overlap(results: Results, section: str, one: str, other: str) -> str:
    ranges = [sorted(results.samples[f"{section}|{row}|us"]) for row in (one, other)]
    apart = ranges[0][-1] < ranges[1][0] or ranges[1][-1] < ranges[0][0]
    return "the ranges of both do not overlap" if apart else "the ranges of both overlap"


def _flat_issue(results: Results, principals: tuple[int, ...]) -> Goal:
    text = f"issue: flat from {principals[0]:,} to {principals[-1]:,} principals"
    rows = [label("kdc, 1 in flight", n) for n in (principals[0], principals[-1])]
    ends = known(*(results.median(ISSUE, row, "us") for row in rows))
    if ends is None:
        return Goal(text, "-", None)
    grown = ends[-1] / ends[0]
    why = _overlap(results, ISSUE, rows[0], rows[1])
    return Goal(text, f"{grown:.2f} times", grown <= 1.25, why)


def _connect(results: Results, principals: tuple[int, ...]) -> Goal:
    text = "connect, log in, one key: at most 350 us above the bare TLS handshake"
    bare = results.median(CONNECT, BARE, "us")
    ours = known(*(results.median(CONNECT, label("kdc", n), "us") for n in principals))
    if bare is None or ours is None:
        return Goal(text, "-", None)
    above = max(ours) - bare
    exchanges = (results.median(CONNECT, EXCHANGES, "us") or bare) - bare
    verify = results.median("crypto", "all", "Ed25519 verification") or 0
    why = (
        f"two exchanges over TLS with nothing behind them add {number(exchanges)} us and one"
        f" Ed25519 verification {number(verify)} us; the other"
        f" {number(above - exchanges - verify)} us are the KDC's own work"
    )
    return Goal(text, f"{number(above)} us above {number(bare)} us", above <= 350, why)


def _beside_login(results: Results, principals: tuple[int, ...]) -> Goal:
    text = "connect, log in, one key: server CPU at most that of kinit and one ticket at krb5kdc"
    ratios = known(
        *(results.ratio(CONNECT, label("kdc", n), label(LOGIN, n), "us") for n in principals)
    )
    made = known(
        *(results.ratio(CONNECT, label("kdc", n), label(NATIVE_LOGIN, n), "us") for n in principals)
    )
    why = "of TLS and its handshake krb5kdc has none"
    if made:
        why += f"; with requests made before, as no client does it, {number(max(made))} of it"
    return bounded(text, max(ratios) if ratios else None, "of it", lambda value: value <= 1, why)


_REGISTRARS = ((KADMIN, 1.5), (KADMIN_LOCAL, 1.0))


def _register(results: Results, principals: int, peer: str, least: float) -> Goal:
    text = (
        f"register, connections open, 16 clients: at least {least} times the rate of {peer},"
        f" {principals:,} principals"
    )
    row = label(f"kdc, {AT_A_TIME[16]}{OPENED}", principals)
    rate = results.median(REGISTER, row, "per_second")
    theirs = results.median(REGISTER, label(peer, principals), "per_second")
    if rate is None or theirs is None:
        return Goal(text, "-", None)
    shown = f"{number(rate)}/s, {rate / theirs:.2f} times"
    why = _why_slower(results, principals, row, peer)
    return Goal(text, shown, rate >= least * theirs, why)


def _why_slower(results: Results, principals: int, row: str, peer: str) -> str:
    server, client = (results.median(REGISTER, row, name) or 0 for name in ("us", "client_us"))
    theirs = results.median(REGISTER, label(peer, principals), "us") or 0
    return (
        f"each takes {number(server)} us of the KDC and {number(client)} us of its client on the"
        f" same processors; {peer} takes {number(theirs)} us"
    )


def _flat_registrations(results: Results, principals: tuple[int, ...]) -> Goal:
    text = f"register: flat from {principals[0]:,} to {principals[-1]:,} principals"
    rows = [label(f"kdc, 16 at a time{OPENED}", n) for n in (principals[0], principals[-1])]
    ends = known(*(results.median(REGISTER, row, "us") for row in rows))
    if ends is None:
        return Goal(text, "-", None)
    grown = ends[-1] / ends[0]
    disk = results.text(REGISTER, DISK, "per_second")
    why = f"{_overlap(results, REGISTER, *rows)}; the disk alone did {disk} writes/s"
    return Goal(text, f"{grown:.2f} times the server CPU", grown <= 1.25, why)


@attrs.frozen
class _Transfer:
    """``least``: times the rate of the best rival; ``most``: CPU s per GiB."""

    section: str
    what: str
    ours: str
    least: float
    most: float


_TRANSFERS = (
    _Transfer(MEMORY, "memory to memory", CHANNEL, 1.0, 2.0),
    _Transfer(TUNNEL, "through a tunnel", THROUGH, 1.2, 2.0),
    _Transfer(FILES, "file to file", SEND, 1.0, 2.2),
)


def _goodput(results: Results) -> list[Goal]:
    found = []
    for transfer in _TRANSFERS:
        section = transfer.section
        text = (
            f"transfer, {transfer.what}: at least {transfer.least} times the rate of the best"
            " encrypted peer"
        )
        rate = results.median(section, transfer.ours, "MiB/s")
        rivals = filter(is_rival, results.rows(section))
        rates = ((results.median(section, row, "MiB/s"), row) for row in rivals)
        best = max(((value, row) for value, row in rates if value is not None), default=None)
        if rate is None or best is None:
            found.append(Goal(text, "-", None))
            continue
        ratio = rate / best[0]
        shown = f"{number(rate)} MiB/s, {ratio:.2f} times that of {best[1]}"
        found.append(Goal(text, shown, ratio >= transfer.least, _why_so_fast(results, section)))
    return found


def _why_so_fast(results: Results, section: str) -> str:
    channel, tls = (results.median(MEMORY, row, "MiB/s") or 0 for row in (CHANNEL, BARE_TLS))
    if section == FILES:
        disk = results.median(FILES, COPY, "MiB/s") or 0
        return (
            f"from memory to memory the channel moves {number(channel)} MiB/s, cp and fsync"
            f" {number(disk)} MiB/s; the start of the command is in it, too"
        )
    if section == TUNNEL:
        return f"the channel moves {number(channel)} MiB/s; a tunnel has a socket more at each end"
    return f"OpenSSL moves {number(tls)} MiB/s from memory to memory"


def _cost(results: Results) -> list[Goal]:
    found = []
    for transfer in _TRANSFERS:
        text = f"transfer, {transfer.what}: at most {transfer.most} CPU s per GiB for both ends"
        cpu = results.median(transfer.section, transfer.ours, "CPU s/GiB")
        channel = results.median(MEMORY, CHANNEL, "CPU s/GiB") or 0
        sealing = results.median("crypto", "all", "AES-256-GCM, 65,519 bytes") or 0
        why = (
            f"sealing and opening are {number(2 * sealing * (1 << 30) / 65_518 / 1e6)} CPU s of it,"
            f" the channel in all {number(channel)} CPU s"
        )
        if transfer.section == FILES:
            start = results.median(SMALL, SEND, "client CPU s") or 0
            digest = results.median("crypto", "all", DIGEST) or 0
            why += (
                f", the digest with which it goes on if it is cut"
                f" {number(digest * (1 << 30) / 65_519 / 1e6)} CPU s,"
                f" one start of the command {number(start)} CPU s"
            )
        most = transfer.most
        found.append(bounded(text, cpu, "CPU s", lambda value, most=most: value <= most, why))  # type: ignore[misc]
    return found


def _small(results: Results) -> list[Goal]:
    found = []
    for name, unit, floor in (("s", "s", "s"), ("client CPU s", "CPU s", "CPU s")):
        bare, imports = (results.median(SMALL, row, floor) or 0 for row in (INTERPRETER, IMPORTS))
        why = (
            f"the start of Python takes {number(bare)} {unit} of it, with the import of Twisted,"
            f" its TLS and the ciphers {number(imports)} {unit}"
        )
        text = f"small message with a key file: at most 0.20 {unit}"
        value = results.median(SMALL, SEND, name)
        found.append(bounded(text, value, unit, lambda value: value <= 0.2, why))
    return found


def _start(results: Results, principals: tuple[int, ...]) -> list[Goal]:
    row = label("kdc", principals[-1])
    found = []
    for name, most in (("CPU s", 3.0), ("MiB", 400.0)):
        text = f"start with {principals[-1]:,} principals: under {most:.0f} {name}"
        first = results.text(START, label("kdc", principals[0]), name)
        why = f"with {principals[0]:,} principals it takes {first} {name}"
        value = results.median(START, row, name)
        found.append(bounded(text, value, name, lambda value, most=most: value < most, why))  # type: ignore[misc]
    return found
