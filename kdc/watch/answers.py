"""What is asked of the status port, and what is answered.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["SECURITY_HEADERS", "Answer", "Query", "text_answer"]

# Nothing but our own files, in no frame, read as what it says it is, and told to nobody.
SECURITY_HEADERS = (
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
            " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
    ),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


@attrs.frozen
class Query:
    """One request, as far as anybody looks at it.  ``words`` are those behind the question mark."""

    method: str
    path: str
    words: Mapping[str, str] = attrs.field(factory=dict)
    host: str = ""
    authorization: str = attrs.field(default="", repr=False)
    cookie: str = attrs.field(default="", repr=False)
    body: bytes = attrs.field(default=b"", repr=False)
    address: str = ""


@attrs.frozen
class Answer:
    status: int
    body: bytes = attrs.field(repr=False)
    kind: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def text_answer(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, text.encode() + b"\n", headers=headers)
