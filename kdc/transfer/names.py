"""Which names of files and directories may be sent: docs/protocol.md, section 6.4.

The rule is written out here and depends on no table of Unicode's, or two versions
of Python would disagree over the wire.  Refused is only what leads elsewhere, and
what a terminal obeys; what merely cannot be seen is a name, and shown escaped.
Pure: no I/O.
"""

from __future__ import annotations

import re

from kdc.files.numbering import MAX_NAME_BYTES
from kdc.hostile_text import shown

__all__ = ["MAX_NAME_BYTES", "MAX_PATH_BYTES", "OBEYED", "UnsafeName", "safe_name", "safe_path"]

MAX_PATH_BYTES = 4096
_MAX_DEPTH = 64
# Controls, line and paragraph separators, embeddings, overrides and isolates of direction.
_OBEYED = "\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
OBEYED = re.compile(f"[{_OBEYED}]")
# In one expression: there may be very many names, and nearly all of them have none of it.
_REFUSED = re.compile(rf"[/\\{_OBEYED}\ud800-\udfff]")


class UnsafeName(ValueError):
    """A name that is not taken; ``why`` is for people."""

    def __init__(self, what: str, name: str, why: str) -> None:
        super().__init__(f"not a safe {what}: {shown(name)}: {why}")
        self.why = why


def _component(name: str) -> str:
    """One component of a path: nothing that leads elsewhere, or that a terminal would obey."""
    why = ""
    if not name:
        why = "a name has at least one letter"
    elif name in (".", ".."):
        why = "it leads elsewhere"
    elif found := _REFUSED.search(name):
        why = _why_refused(found.group())
    elif (length := len(name.encode())) > MAX_NAME_BYTES:
        why = f"it has {length} bytes, and {MAX_NAME_BYTES} is the most"
    if why:
        raise UnsafeName("file name", name, why)
    return name


def _why_refused(letter: str) -> str:
    if letter in "/\\":
        return f"it has a {letter} in it, which leads elsewhere"
    if "\ud800" <= letter <= "\udfff":
        return "it is not UTF-8"
    return f"it has U+{ord(letter):04X} in it, which a terminal would obey"


def safe_name(name: str) -> str:
    """Return ``name`` if it may appear in somebody's directory; raises `UnsafeName`.

    One component, nothing hidden, nothing that a command would take for an
    option where the shell expands ``*``.
    """
    if name.startswith((".", "-")):
        raise UnsafeName("file name", name, f"it begins with {name[0]}")
    return _component(name)


def safe_path(path: str) -> tuple[str, ...]:
    """Return the components of a relative path that is safe to create; raises `UnsafeName`."""
    length = len(path.encode("utf-8", "surrogatepass"))
    if length > MAX_PATH_BYTES:
        why = f"it has {length} bytes, and {MAX_PATH_BYTES} is the most"
        raise UnsafeName("path", path, why)
    top, *below = path.split("/")
    if len(below) >= _MAX_DEPTH:
        raise UnsafeName("path", path, f"it is more than {_MAX_DEPTH} directories deep")
    return (safe_name(top), *map(_component, below))
