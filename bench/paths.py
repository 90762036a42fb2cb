"""How far each path is above what cannot be saved: transport, TLS, cryptography alone."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from bench.exchanges import (
    AT_A_TIME,
    BARE,
    CONNECT,
    DISK,
    EXCHANGES,
    ISSUE,
    OPENED,
    REGISTER,
    label,
)
from bench.figures import Results, number, table
from bench.floor import DIGEST
from bench.transfers import FILES, MEMORY, SMALL
from bench.ways import BARE_TLS, CHANNEL, IMPORTS, INTERPRETER, PLAIN, SEND

__all__ = ["Path", "paths", "shown"]

_RECORDS = (1 << 30) / 65_518  # of a GiB


@attrs.frozen
class Path:
    """``parts``: what it is made of, without our own work, and what each takes alone."""

    name: str
    unit: str
    ours: float
    parts: tuple[tuple[str, float], ...]

    @property
    def floor(self) -> float:
        return sum(value for _, value in self.parts)


def paths(results: Results, principals: int) -> list[Path]:
    """Those that could be measured whole."""
    return [
        Path(name, unit, ours, tuple((text, value) for text, value in parts if value is not None))
        for name, unit, ours, parts in _all(results, principals)
        if ours is not None and all(value is not None for _, value in parts)
    ]


Part = tuple[str, float | None]


def _all(results: Results, n: int) -> Iterator[tuple[str, str, float | None, list[Part]]]:
    def crypto(name: str, times: float = 1.0) -> float | None:
        found = results.median("crypto", "all", name)
        return None if found is None else found * times

    def us(section: str, row: str) -> float | None:
        return results.median(section, row, "us")

    def more(value: float | None, than: float | None) -> float | None:
        return None if value is None or than is None else max(0.0, value - than)

    # The reply and the ticket are sealed; a key, an id and a nonce are drawn.
    one_key: list[Part] = [
        ("2 x AES-GCM", crypto("AES-256-GCM, 200 bytes", 2)),
        ("3 x random bytes", crypto("12 random bytes", 3)),
    ]
    for how in ("1 in flight", "pipelined"):
        tcp, tls = (us(ISSUE, f"floor: {kind} alone, {how}") for kind in ("tcp", "tls"))
        parts: list[Part] = [("TCP in Twisted", tcp), ("TLS", more(tls, tcp)), *one_key]
        yield f"issue, {how}", "us of the KDC", us(ISSUE, label(f"kdc, {how}", n)), parts
    bare, exchanges = us(CONNECT, BARE), us(CONNECT, EXCHANGES)
    verify: Part = ("Ed25519 verification", crypto("Ed25519 verification"))
    parts = [("TCP and TLS handshake", bare), ("2 exchanges", more(exchanges, bare)), verify]
    yield "connect", "us of the KDC", us(CONNECT, label("kdc", n)), [*parts, *one_key]
    one_exchange = us(ISSUE, "floor: tls alone, 1 in flight")
    parts = [("1 exchange over TLS", one_exchange), verify, ("fdatasync", us(REGISTER, DISK))]
    for text in (AT_A_TIME[1], AT_A_TIME[64]):
        ours = us(REGISTER, label(f"kdc, {text}{OPENED}", n))
        yield f"register, {text}{OPENED}", "us of the KDC", ours, parts
    sealing = crypto("AES-256-GCM, 65,519 bytes", 2 * _RECORDS / 1e6)
    yield from _transfers(results, sealing, crypto(DIGEST, _RECORDS / 1e6))


def _transfers(
    results: Results, sealing: float | None, digest: float | None
) -> Iterator[tuple[str, str, float | None, list[Part]]]:
    def cpu(section: str, row: str, name: str = "CPU s/GiB") -> float | None:
        return results.median(section, row, name)

    unit = "CPU s per GiB, both ends"
    parts: list[Part] = [("TCP through socat", cpu(MEMORY, PLAIN)), ("AES-GCM, twice", sealing)]
    yield "channel", unit, cpu(MEMORY, CHANNEL), parts
    parts = [("TLS by OpenSSL, memory to memory", cpu(MEMORY, BARE_TLS))]
    yield "channel, beside TLS", unit, cpu(MEMORY, CHANNEL), parts
    bare, imports = cpu(SMALL, INTERPRETER, "CPU s"), cpu(SMALL, IMPORTS, "CPU s")
    rest = None if bare is None or imports is None else imports - bare
    start = [("start of Python", bare), ("import of Twisted, TLS, ciphers", rest)]
    parts = [
        ("files and TCP through socat", cpu(FILES, PLAIN)),
        ("AES-GCM, twice", sealing),
        ("SHA-256, once", digest),
        *start,
    ]
    yield "file to file", unit, cpu(FILES, SEND), parts
    yield "small message", "CPU s of the sender", cpu(SMALL, SEND, "client CPU s"), start


def shown(found: list[Path]) -> str:
    rows = []
    for path in found:
        parts = "; ".join(f"{text} {number(value)}" for text, value in path.parts)
        above = f"{number(path.ours - path.floor)} above"
        if path.floor:
            above += f", {path.ours / path.floor:.2f} times"
        rows.append((path.name, path.unit, number(path.ours), number(path.floor), parts, above))
    heads = ("path", "in", "ours", "floor", "which is", "so far above it")
    return table(heads, rows, words=True)
