"""What can be said against a new passphrase.  One that counts already is nobody's business."""

from __future__ import annotations

__all__ = ["LEAST_LETTERS", "remark_on", "weakness_of"]

LEAST_LETTERS = 8
_MOST_LOOKED_AT = 72  # it takes long over more, and more is never weak
_STRONG = 3  # of 0 to 4: 10**8 guesses and more


def weakness_of(passphrase: str, least: int = LEAST_LETTERS) -> str:
    """Why it is too short to begin with, or nothing."""
    if len(passphrase) >= least:
        return ""
    return f"a new passphrase has at least {least} characters, and this one {len(passphrase)}"


def remark_on(passphrase: str, name: str) -> str:
    """What a person should know about it, or nothing: so if zxcvbn is not installed.

    Nothing of the passphrase is in it.
    """
    try:
        from zxcvbn import zxcvbn
    except ImportError:
        return ""
    found = zxcvbn(passphrase[:_MOST_LOOKED_AT], user_inputs=[name])
    if found["score"] >= _STRONG:
        return ""
    guesses = min(int(found["guesses"]), 10**15)
    advice = found["feedback"]["warning"] or " ".join(found["feedback"]["suggestions"][:1])
    return f"that passphrase is found after some {guesses:,} guesses: {advice}".rstrip(": ")
