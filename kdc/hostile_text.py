"""Text that others have chosen, made fit to be shown: it commands no terminal, and is not ours.

What stays as it is: ASCII, and letters, digits, accents and pictures that look like nothing in
ASCII.  Everything else is shown as what it is (``\\x1b``, ``\\u202e``): controls, line breaks,
what turns the direction of writing, what cannot be seen, punctuation that looks like ours, and
letters of one alphabet inside a word of another.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["cut", "harmless", "shown"]

_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./+@%=:,~-]+")
_WORD = re.compile(r"[^\W\d_]+")
# Of punctuation and symbols the pictures only: the rest look like brackets, slashes, quotes.
_KEPT = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "No", "So", "Sc"))
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_LIKE_PUNCTUATION = re.compile("[\u01c0-\u01c3\u02b0-\u02ff\u0300-\u036f\ua788-\ua78c]")
_ALIKE = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU")
_GAP = "..."


def harmless(text: str) -> str:
    """``text`` on one line, with what could mislead escaped; blanks and ASCII stay.

    Applied to its own result it changes nothing.
    """
    return "".join(_pieces(text))


def shown(text: str, columns: int = 60) -> str:
    """``text`` as a name inside a line of ours: at most ``columns`` wide.

    In quotes unless it is one plain word, so that its end can be seen.  What is too long loses
    its middle: the end of a file name says what it is.
    """
    if _PLAIN_WORD.fullmatch(text):
        pieces, quote = list(text), ""
    else:
        pieces = ["\\" + c if c in '"\\' else c for c in _pieces(text)]
        quote = '"'
    return quote + "".join(_fitting(pieces, columns - 2 * len(quote))) + quote


def cut(text: str, columns: int) -> str:
    """``text`` as `harmless` makes it, as far as it goes into so many columns."""
    return "".join(_taken(_pieces(text), columns))


def _pieces(text: str) -> list[str]:
    """The characters of ``text``, each as it is to be shown."""
    text = unicodedata.normalize("NFC", text)
    if text.isascii() and text.isprintable():
        return list(text)
    strange = {
        found.start() + place
        for found in _WORD.finditer(text)
        for place in _of_another_alphabet(found.group())
    }
    pieces: list[str] = []
    marks = 0
    for place, char in enumerate(text):
        marks = marks + 1 if unicodedata.combining(char) else 0
        kept = place not in strange and marks <= 2 and _can_be_shown(char)
        pieces.append(char if kept else char.encode("unicode_escape").decode())
    return pieces


def _can_be_shown(char: str) -> bool:
    if char.isascii():
        return char.isprintable()
    return (
        unicodedata.category(char) in _KEPT
        and char not in _UNSEEN
        and not _LIKE_PUNCTUATION.match(char)
        and not any(other.isascii() for other in unicodedata.normalize("NFKC", char))
    )


def _of_another_alphabet(word: str) -> list[int]:
    """Where a word of Latin letters has others that look like them."""
    names = [unicodedata.name(char, "") for char in word]
    if not any(name.startswith("LATIN") for name in names):
        return []
    return [place for place, name in enumerate(names) if name.startswith(_ALIKE)]


def _width(piece: str) -> int:
    """How many columns of a terminal it takes."""
    if len(piece) > 1:
        return len(piece)
    if unicodedata.combining(piece):
        return 0
    return 2 if unicodedata.east_asian_width(piece) in "WF" else 1


def _fitting(pieces: list[str], columns: int) -> list[str]:
    if sum(map(_width, pieces)) <= columns:
        return pieces
    room = max(columns - len(_GAP), 2)
    head = _taken(pieces, room - room // 2)
    tail = _taken(pieces[::-1], room // 2)
    return [*head, _GAP, *tail[::-1]]


def _taken(pieces: list[str], columns: int) -> list[str]:
    taken: list[str] = []
    for piece in pieces:
        columns -= _width(piece)
        if columns < 0:
            break
        taken.append(piece)
    return taken
