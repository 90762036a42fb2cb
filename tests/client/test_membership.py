"""Joining and coming in: what a refusal means, and what is never done by mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdc.client import membership as membership_module
from kdc.client.membership import NOT_REGISTERED, enter, join, renew
from kdc.client.secret import SecretSource
from kdc.client.settings import ClientSettings
from kdc.errors import AuthenticationRefused, ConfigurationError, ErrorKind, TooBusy
from kdc.issuing.decisions import Enrolment
from kdc.store import Create, Record, Status
from tests.support.core import keys_of
from tests.support.edge import KDC, EdgeTestCase

CODE = b"an invitation code"


class MembershipTestCase(EdgeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(membership_module, "has_terminal", lambda: False)

    def settings(self, name: str = "alice", **how: Any) -> ClientSettings:
        return ClientSettings(name, "kdc.example", 88, secret=SecretSource(**how))

    def names(self) -> list[str]:
        return [record.name for record in self.kdc.store]

    def by_invitation_only(self) -> None:
        self.kdc.stop()
        self.kdc = KDC(self.network, enrolment=Enrolment.INVITE)

    def invite(self, name: str, code: bytes) -> None:
        end = 10**11
        record = Record(name, Status.INVITED, invitation=code, invitation_end_time=end)
        self.kdc.store.apply([Create(record, bytes(16))])


class EnterTests(MembershipTestCase):
    """Nobody can be asked here: these are daemons, or have their secret in a file."""

    def test_mistyped(self) -> None:
        """Of a name that is registered: that is what is said, and nobody is asked."""
        self.kdc.add("alice")
        client = self.client("alice", secret="mistyped")
        error = self.failure(AuthenticationRefused, enter(client, self.settings(), 0))
        self.assertEqual(
            str(error), "alice is registered; that is not the passphrase or key of alice"
        )
        self.assertIs(error.kind, ErrorKind.NAME_TAKEN)

    def test_free(self) -> None:
        """To find out whether a name is taken takes no name."""
        error = self.failure(AuthenticationRefused, enter(self.client("alice"), self.settings(), 0))
        self.assertIs(error.kind, ErrorKind.NOT_REGISTERED)
        self.assertEqual(self.names(), [])

    def test_by_invitation_only(self) -> None:
        """That KDC does not tell who is registered: taken or free, it looks the same."""
        self.by_invitation_only()
        self.kdc.add("alice")
        texts = set()
        for name in ("alice", "carol"):
            client = self.client(name, secret="mistyped")
            error = self.failure(AuthenticationRefused, enter(client, self.settings(name), 0))
            texts.add(str(error).replace(name, "X"))
        self.assertEqual(len(texts), 1)

    def test_from_a_file(self) -> None:
        """Whoever has the secret in a file is not asked; a short one is no new one."""
        settings = self.settings(passphrase_file=Path("x"))
        client = self.client("alice")
        client.weakness = "too short"
        error = self.failure(ConfigurationError, enter(client, settings, 0))
        self.assertIs(error.kind, ErrorKind.PASSPHRASE_SHORT)
        self.assertEqual(self.names(), [])
        client.weakness = ""
        told: list[str] = []
        self.do(enter(client, settings, 0, told.append))
        self.assertEqual(self.names(), ["alice"])
        client.weakness = "too short"
        self.do(enter(client, settings, 0, told.append))
        self.assertEqual(len(told), 1)


class JoinTests(MembershipTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.remembered = 0

    def remember(self) -> None:
        self.remembered += 1

    def refused(self, name: str, code: bytes, secret: str = "first") -> AuthenticationRefused:
        client = self.client(name, secret=secret)
        error = self.failure(AuthenticationRefused, join(client, 0, code, self.remember))
        self.assertIn(error.kind, NOT_REGISTERED)
        self.assertEqual(self.remembered, 0)
        return error

    def test_spent(self) -> None:
        """Used by another, replaced, or ended: one sentence, with what to do."""
        self.by_invitation_only()
        self.invite("alice", CODE)
        self.kdc.add("carol")
        for name, code in (("alice", b"the one before it"), ("carol", CODE), ("dave", CODE)):
            error = self.refused(name, code, "another")
            self.assertIs(error.kind, ErrorKind.INVITATION_SPENT)
            self.assertRegex(
                str(error), f"for {name} .any more.: it was used, its time is over, or a newer"
            )
            self.assertEqual(error.facts, {"name": name})

    def test_used_where_names_are_free(self) -> None:
        """There the KDC tells that the name is taken."""
        self.kdc.add("carol")
        error = self.refused("carol", CODE, "another")
        self.assertIs(error.kind, ErrorKind.INVITATION_SPENT)
        self.assertIn("carol is registered already, with another key", str(error))

    def test_used_by_ourselves(self) -> None:
        """With the key of then it is no error."""
        self.by_invitation_only()
        self.invite("alice", CODE)
        for times in (1, 2):
            self.do(join(self.client("alice"), 0, CODE, self.remember))
            self.assertEqual(self.remembered, times)

    def test_not_known_whether(self) -> None:
        """A KDC that has no time now is no refusal that would make a key useless."""
        self.by_invitation_only()
        client = self.client("alice")
        for _ in range(5):
            self.failure(AuthenticationRefused, join(client, 0, CODE, self.remember))
        error = self.failure(TooBusy, join(client, 0, CODE, self.remember))
        self.assertNotIn(error.kind, NOT_REGISTERED)


class RenewTests(MembershipTestCase):
    def test_cut_short_at_any_point(self) -> None:
        """Before the KDC had the new key, or behind that: the same again completes it."""
        self.kdc.add("alice")
        new = keys_of("alice", "second")
        for _ in range(2):  # the second time the KDC has it already
            self.do(renew(self.client("alice"), new))
            record = self.kdc.store.get("alice")
            self.assertEqual(record and record.verify_key, new.verify_key)

    def test_neither(self) -> None:
        """If the KDC knows neither key, that is said."""
        self.kdc.add("alice")
        client = self.client("alice", secret="other")
        error = self.failure(AuthenticationRefused, renew(client, keys_of("alice", "third")))
        self.assertIn("wrong passphrase or key", str(error))
