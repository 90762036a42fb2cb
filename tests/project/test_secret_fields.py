"""What could be a secret is in no class's repr, in none that there is or will be."""

from __future__ import annotations

import base64
import datetime as dt
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import attrs
from twisted.trial.unittest import SynchronousTestCase

import kdc
from kdc.issuing.decisions import Output
from kdc.server.certificate import make_certificate
from kdc.store import Record
from kdc.store.sealed.masterkey import MasterKeys
from tests.support.disk import Disk
from tests.support.processes import KEY_FILES, key_lines

# What everybody may see: it goes over the wire in the open, or is the public half of a key.
PUBLIC = frozenset(
    (
        *("epoch_id", "nonce"),
        *("ephemeral", "first", "receiver_key", "verify_key", "new_verify_key"),
        *("signature", "old_signature", "new_signature"),
    )
)
# Bytes, and the keys that are a kind of them or hold them; not what is merely called so.
_BYTES = re.compile(
    r"\b(bytes|bytearray|memoryview|Digest|EpochSecret|ChannelBinding"
    r"|(Reply|Verify|Ticket|Session)Key|(X25519|Ed25519)PrivateKey)\b"
)


def classes() -> Iterator[type[Any]]:
    """All attrs classes of the package."""
    for found in pkgutil.walk_packages(kdc.__path__, "kdc."):
        module = importlib.import_module(found.name)
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__ == found.name and attrs.has(value):
                yield value


def shown_bytes(cls: type[Any]) -> list[str]:
    """The fields of ``cls`` that hold bytes and are in its repr."""
    return [
        f"{cls.__name__}.{field.name}"
        for field in attrs.fields(cls)
        if field.repr is not False
        and not str(field.type).startswith("Callable")
        and _BYTES.search(str(field.type))
    ]


def tuple_shows(cls: type[Any]) -> list[str]:
    """The same of a tuple whose places have names: all of them are shown."""
    return [name for name, kind in cls.__annotations__.items() if _BYTES.search(str(kind))]


class _CarelessTuple(NamedTuple):
    name: str
    key: bytes


@attrs.frozen
class _Careless:
    """What `shown_bytes` is there to find."""

    nonce: bytes
    hidden: bytes = attrs.field(repr=False)
    key: dict[str, bytes] | None = None


class SecretFieldTests(SynchronousTestCase):
    def test_no_bytes_are_shown(self) -> None:
        """Whoever adds a field of bytes has to say that it is public, or keep it out of repr."""
        found = list(classes())
        self.assertGreater(len(found), 80)
        self.assertIn(Record, found)
        for cls in found:
            for field in shown_bytes(cls):
                self.assertIn(field.rpartition(".")[2], PUBLIC, field)

    def test_the_search_finds(self) -> None:
        """A class that would show a key."""
        self.assertEqual(shown_bytes(_Careless), ["_Careless.nonce", "_Careless.key"])
        self.assertEqual(tuple_shows(_CarelessTuple), ["key"])

    def test_what_has_no_fields(self) -> None:
        """Other classes have the repr that Python gives them, or one that names no key."""
        for found in pkgutil.walk_packages(kdc.__path__, "kdc."):
            for value in vars(importlib.import_module(found.name)).values():
                if inspect.isclass(value) and value.__module__ == found.name:
                    own = vars(value).get("__repr__")
                    made = own is None or attrs.has(value) or issubclass(value, BaseException)
                    made = made or (issubclass(value, tuple) and not tuple_shows(value))
                    self.assertTrue(made, f"{value}: its repr has to be looked at")

    def test_key_files_are_known(self) -> None:
        """Tests with real processes look for a KDC's own keys: they know the files by heart."""
        private, certificate = make_certificate(["kdc.example"], dt.datetime.now(dt.UTC))
        self.assertTrue(private.startswith(KEY_FILES))
        lines = list(key_lines(private + certificate))
        self.assertEqual(len(lines), len(private.splitlines()) - 2)
        self.assertEqual([line for line in lines if line not in private], [])
        disk = Disk()
        MasterKeys({"a" * 16: b"?" * 32}).write(disk, "/pwd.txt.key")
        written = disk.names["/pwd.txt.key"].content
        self.assertTrue(written.startswith(KEY_FILES))
        self.assertEqual([*key_lines(written)], [base64.b64encode(b"?" * 32)])

    def test_what_goes_out(self) -> None:
        """What the issuer answers is not in the repr of its decision."""
        self.assertNotIn("kanarienvogel", repr(Output(b"kanarienvogel")))
