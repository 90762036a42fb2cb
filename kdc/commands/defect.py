"""What is said of an error that nobody foresaw."""

from __future__ import annotations

import traceback

from kdc import __version__
from kdc.errors import ExitStatus
from kdc.net.exit_status import Defect
from kdc.terminal import say

__all__ = ["tell_defect"]


def tell_defect(program: str, error: BaseException, *, verbose: bool = False) -> int:
    """Say in one line what and where, and what to do; return the exit status.

    With ``verbose`` how it came there stands before it: lines of the program, no values.
    Not what the error itself says: nobody has seen to it that no secret is in that.
    """
    if isinstance(error, Defect) and error.__cause__ is not None:
        error = error.__cause__
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        place = f" in {frame.filename}, line {frame.lineno}"
    if verbose:
        say("".join(traceback.format_tb(error.__traceback__)).rstrip())
    say(
        f"{program}: a defect of this program: {type(error).__name__}{place}\n"
        f"  please report this line, that version {__version__} said it, what was typed, and\n"
        "  what -v shows"
    )
    return int(ExitStatus.USAGE)
