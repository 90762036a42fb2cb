"""What goes to the log: whatever others have chosen of it commands no terminal, and forges no line.

The only way: `tests.project.test_logs` finds any other.
"""

from __future__ import annotations

from typing import Any, cast

from kdc.hostile_text import harmless
from twisted import logger

__all__ = ["Logger"]


class Logger(logger.Logger):
    """Twisted's, with every text and error that is put into a line made harmless."""

    def __get__(self, instance: Any, owner: type | None = None) -> Logger:
        return cast(Logger, super().__get__(instance, owner))

    def emit(self, level: logger.LogLevel, format: str | None = None, **values: Any) -> None:
        made = {name: _harmless(name, value) for name, value in values.items()}
        super().emit(level, format, **made)


def _harmless(name: str, value: Any) -> Any:
    if name.startswith("log_"):  # Twisted's own
        return value
    return harmless(str(value)) if isinstance(value, str | BaseException) else value
