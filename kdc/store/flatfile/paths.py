"""Where a store's files are."""

from __future__ import annotations

import os

import attrs

__all__ = ["Paths"]


@attrs.frozen
class Paths:
    """pwd.txt, and what lies beside it; all absolute."""

    base: str
    key: str
    generation: str

    @classmethod
    def of(
        cls,
        base: str | os.PathLike[str],
        key_path: str | os.PathLike[str] | None = None,
        generation_path: str | os.PathLike[str] | None = None,
    ) -> Paths:
        # Absolute: the daemon changes its directory after this.
        base = os.path.abspath(os.fspath(base))
        return cls(
            base,
            os.path.abspath(key_path or base + ".key"),
            os.path.abspath(generation_path or base + ".generation"),
        )

    @property
    def journal(self) -> str:
        return self.base + ".journal"

    @property
    def lock(self) -> str:
        return self.base + ".lock"

    @property
    def moved(self) -> str:
        """What pwd.txt is called once its principals are elsewhere."""
        return self.base + ".moved"

    def temporary(self) -> list[str]:
        return [
            path + end
            for path in (self.base, self.journal, self.key, self.generation)
            for end in (".new", ".fold")
        ]
