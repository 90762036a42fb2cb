"""What a status page shows, as plain values: whoever is watched fills it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from kdc.watch.history import Minute

__all__ = ["Facts", "Filter", "Found", "Live", "LogLine", "Principal", "Receiver"]


@attrs.frozen
class Receiver:
    """Who can be reached, and where, and for how long already."""

    name: str
    place: str
    seconds: int


@attrs.frozen
class LogLine:
    """One line of the activity log."""

    time: str
    event: str
    client: str
    address: str
    detail: str


@attrs.frozen
class Principal:
    name: str
    status: str
    place: str
    changed: str


@attrs.frozen
class Found:
    """Some principals; ``more``: behind which name others may follow, empty if none do."""

    principals: Sequence[Principal]
    more: str = ""


@attrs.frozen
class Filter:
    """What of the principals and of the log is wanted, as it was typed."""

    name: str = ""
    status: str = ""
    after: str = ""
    client: str = ""
    event: str = ""


@attrs.frozen
class Facts:
    """``facts``: tables by their headings; ``troubles``: what is not well, and why."""

    facts: Mapping[str, Sequence[tuple[str, str]]]
    troubles: Sequence[tuple[str, str]]


@attrs.frozen
class Live(Facts):
    """What changes while one looks."""

    receivers: Sequence[Receiver]
    receiving: int
    minutes: Sequence[Minute]
    refusals: Sequence[tuple[str, int]]
