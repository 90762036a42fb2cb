"""The text of krb5.conf and kdc.conf from nested dicts, as suites written for k5test give them."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import Any

from kdc.errors import ConfigurationError

__all__ = ["Profile", "merged", "profile_text"]

# Sections, relations, subsections: a value is a text, several texts, or a subsection.
Profile = Mapping[str, Any]


def merged(one: Profile, other: Profile | None) -> dict[str, Any]:
    """Return ``one`` with what ``other`` says in its place; None takes a relation out."""
    result = dict(one)
    for name, value in (other or {}).items():
        before = result.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[name] = merged(before, value)
        elif isinstance(before, Mapping) and value is not None:
            hint = "give a dict for a section"
            raise ConfigurationError(f"{name!r} is a section of the configuration", hint=hint)
        else:
            result[name] = value
    return result


def profile_text(profile: Profile, names: Mapping[str, str]) -> str:
    """Return the file's text; ``$NAME`` and ``${NAME}`` become what ``names`` says."""
    lines: list[str] = []
    for section, contents in profile.items():
        lines.append(f"[{section}]")
        lines += _lines(contents, names, "    ")
    return "\n".join((*lines, ""))


def _lines(contents: Profile, names: Mapping[str, str], indent: str) -> Iterator[str]:
    for raw, value in contents.items():
        name = _filled(raw, names)
        if isinstance(value, Mapping):
            yield f"{indent}{name} = {{"
            yield from _lines(value, names, indent + "    ")
            yield f"{indent}}}"
        elif value is not None:
            for each in value if isinstance(value, list) else [value]:
                yield f"{indent}{name} = {_filled(each, names)}"


def _filled(value: Any, names: Mapping[str, str]) -> str:
    if not isinstance(value, str):
        hint = "give texts, lists of texts and dicts"
        raise ConfigurationError(f"{value!r} cannot stand in a configuration file", hint=hint)
    try:
        return string.Template(value).substitute(names)
    except (KeyError, ValueError):
        hint = f"there are {', '.join(f'${name}' for name in names)}"
        raise ConfigurationError(f"{value!r} has a $name that nothing is", hint=hint) from None
