"""The principal database as everything above it sees it; see `kdc.store.interface`."""

from kdc.store.interface import (
    Change,
    Create,
    Delete,
    Outcome,
    Purge,
    Record,
    Replace,
    Result,
    Status,
    Store,
    StoreError,
    StoreLost,
    StoreUnavailable,
    StoreUncertain,
    change_record,
    no_such_principal,
)

__all__ = [
    "Change",
    "Create",
    "Delete",
    "Outcome",
    "Purge",
    "Record",
    "Replace",
    "Result",
    "Status",
    "Store",
    "StoreError",
    "StoreLost",
    "StoreUnavailable",
    "StoreUncertain",
    "change_record",
    "no_such_principal",
]
