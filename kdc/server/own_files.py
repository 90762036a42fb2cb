"""The keys that a KDC makes for itself beside its store, by the endings of their files."""

from __future__ import annotations

__all__ = ["KEY_ENDS"]

# Its TLS key, and the keys of those that live in it: directory, relay, Kerberos.
KEY_ENDS = (".tls", ".directory", ".relay", ".kerberos")
