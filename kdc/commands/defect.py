"""What is said of an error that nobody foresaw."""

from __future__ import annotations

import traceback

from kdc import __version__
from kdc.errors import ExitStatus
from kdc.terminal import say

__all__ = ["tell_defect"]


def tell_defect(program: str, error: BaseException) -> int:
    """Say in one line what and where, and what to do; return the exit status.

    Not what the error itself says: nobody has seen to it that no secret is in that.
    """
    error = error.__cause__ or error
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        place = f" in {frame.filename}, line {frame.lineno}"
    say(
        f"{program}: a defect of this program: {type(error).__name__}{place}\n"
        f"  please report this line, that version {__version__} said it, and what was typed"
    )
    return int(ExitStatus.USAGE)
