"""What a person is told on stderr.  Without Twisted, which takes longer to load than to speak."""

from __future__ import annotations

import contextlib
import sys

from kdc.errors import KDCError

__all__ = ["complain", "say"]


def say(line: str) -> None:
    """One line for the person; a closed terminal or pipe is not our concern."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def complain(program: str, error: KDCError) -> int:
    """Say what went wrong and what to do next; return the exit status."""
    say(f"{program}: {error}" + (f"\n  {error.hint}" if error.hint else ""))
    return int(error.exit_status)
