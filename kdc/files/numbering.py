"""Another name for a second thing of one name: ``report.pdf`` becomes ``report (1).pdf``.  Pure."""

from __future__ import annotations

import os
import re

__all__ = ["MAX_NAME_BYTES", "numbered"]

MAX_NAME_BYTES = 255  # what Linux's file systems have room for
_SUFFIXED = re.compile(r"(.+?)((?:\.tar)?\.\w{1,16})", re.ASCII | re.DOTALL)


def numbered(name: str, number: int, *, directory: bool = False) -> str:
    """``name`` with ``number`` in front of its suffix, cut to what a file system takes.

    A directory has no suffix; 0 is the name itself.
    """
    if not number:
        return name
    found = None if directory else _SUFFIXED.fullmatch(name)
    stem, suffix = (name, "") if found is None else found.groups()
    ending = f" ({number}){suffix}"
    return _cut(stem, MAX_NAME_BYTES - len(os.fsencode(ending))) + ending


def _cut(text: str, most: int) -> str:
    """At most so many bytes of ``text``, and no part of a letter."""
    encoded = os.fsencode(text)
    if len(encoded) <= most:
        return text
    while most and encoded[most] & 0xC0 == 0x80:
        most -= 1
    return os.fsdecode(encoded[:most])
