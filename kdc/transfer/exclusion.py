"""What is left out of the directories that are sent: patterns, written as for ``.gitignore``.

The patterns are read by pathspec, which is installed with ``kdc-twisted[exclude]``:
whoever excludes nothing does without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdc.errors import ConfigurationError
from kdc.hostile_text import shown

__all__ = ["exclusion"]


def exclusion(patterns: Sequence[str]) -> Callable[[str, bool], bool]:
    """Return what says whether a path is left out; raises `ConfigurationError`.

    The path is below what is sent; the other argument is whether it is a directory.
    """
    try:
        from pathspec import GitIgnoreSpec
    except ImportError:
        raise ConfigurationError(
            "patterns of what is left out are read by the package pathspec, which is missing",
            hint="it comes with kdc-twisted[exclude]",
        ) from None
    for pattern in patterns:
        try:
            GitIgnoreSpec.from_lines([pattern])
        except ValueError:
            raise ConfigurationError(f"not a pattern as in .gitignore: {shown(pattern)}") from None
    spec = GitIgnoreSpec.from_lines(patterns)
    return lambda path, directory: spec.match_file(f"{path}/" if directory else path)
