"""Fixtures for pytest: ``krb5_realm``, one for the whole run, and ``krb5_realm_fresh``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kdc.testing.realm import Realm

__all__ = ["krb5_realm", "krb5_realm_fresh"]


@pytest.fixture(scope="session")
def krb5_realm() -> Iterator[Realm]:
    """A Kerberos realm that all tests share: kdc.testing.Realm."""
    from kdc.testing.realm import Realm

    with Realm() as realm:
        yield realm


@pytest.fixture
def krb5_realm_fresh() -> Iterator[Realm]:
    """A Kerberos realm for one test: kdc.testing.Realm."""
    from kdc.testing.realm import Realm

    with Realm() as realm:
        yield realm
