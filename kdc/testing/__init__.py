"""A Kerberos realm for other people's tests: docs/testing-kerberos.md.  Imports no Twisted.

What is promised are the names below.  They are loaded when they are used: pytest loads this
package in every run on a machine that has it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdc.testing.client import TicketRefused as TicketRefused
    from kdc.testing.realm import Realm as Realm
    from kdc.testing.realm import Service as Service
    from kdc.testing.realm import User as User

__all__ = ["Realm", "Service", "TicketRefused", "User"]

_WHERE = {"TicketRefused": "client", "Realm": "realm", "Service": "realm", "User": "realm"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
