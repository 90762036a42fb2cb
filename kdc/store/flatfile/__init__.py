"""The principal database in one flat text file: one implementation of `kdc.store`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdc.store.flatfile._store import FlatFileStore

__all__ = ["FlatFileStore"]

_MODULES = {"FlatFileStore": "_store"}


def __getattr__(name: str) -> Any:
    """Import what is asked for, then: most commands need one thing, and should start at once."""
    if name not in _MODULES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
