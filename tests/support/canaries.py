"""Looking for secrets in whatever can end up in a log, a traceback or on a screen."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Iterator

from twisted.python.failure import Failure

__all__ = ["shown_in", "spellings", "told"]


def spellings(secret: bytes) -> list[str]:
    """How bytes show in text, long enough a part of them to be no accident."""
    part = secret[:12]
    encoded = [base64.b64encode(bytes(shift) + secret).decode() for shift in range(3)]
    return [
        repr(part)[2:-1],
        part.hex(),
        part.hex().upper(),
        part.hex(":"),
        *(text[4 * (shift > 0) :][:12] for shift, text in enumerate(encoded)),
        base64.urlsafe_b64encode(secret).decode()[:12],
        str(list(part))[1:-1],
        str(int.from_bytes(secret, "big"))[:20],
    ]


def shown_in(text: str, secret: bytes) -> str | None:
    """The spelling in which ``secret`` is in ``text``, if it is."""
    return next((spelling for spelling in spellings(secret) if spelling in text), None)


def told(error: BaseException) -> str:
    """All that an error says in any form in which it is logged, printed or looked at.

    What it was raised from is included, and what it hides with ``from None``: a
    debugger and a crash report follow these.
    """
    return "\n".join(line for each in _chain(error) for line in _forms(each))


def _chain(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [other for other in (each.__cause__, each.__context__) if other is not None]


def _forms(error: BaseException) -> Iterator[str]:
    yield from (str(error), repr(error), repr(error.args), repr(getattr(error, "__dict__", "")))
    yield from traceback.format_exception(error)
    failure = Failure(error)
    yield from (failure.getTraceback(), failure.getBriefTraceback(), repr(failure))
