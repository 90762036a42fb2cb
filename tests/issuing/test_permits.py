"""The realm's policy on keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.issuing.permits import Permits
from tests.support.core import PROPERTY

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)


class PermitsTests(SynchronousTestCase):
    def test_no_rules(self) -> None:
        """Without rules everybody may reach everybody."""
        self.assertTrue(Permits()("alice", "bob"))

    def test_rules(self) -> None:
        """The first rule that fits the receiver decides, whatever those after it say."""
        permits = Permits(
            {
                "db-main": ["app-*", "alice"],
                "db-*": ["*"],
                "vault": [],
                "*-inner": ["*-inner"],
            }
        )
        for client, receiver, allowed in (
            ("alice", "db-main", True),
            ("app-1", "db-main", True),
            ("app-", "db-main", True),
            ("app", "db-main", False),
            ("alice2", "db-main", False),
            ("an-alice", "db-main", False),
            ("bob", "db-main", False),
            ("bob", "db-replica", True),
            ("alice", "vault", False),
            ("a-inner", "b-inner", True),
            ("a", "b-inner", False),
            ("a", "b-inner2", True),
            ("anybody", "anything", True),
        ):
            self.assertIs(permits(client, receiver), allowed, (client, receiver))

    def test_last_rule_for_all(self) -> None:
        """With ``*`` as the last receiver nothing is open that is not named."""
        permits = Permits({"db": ["alice"], "*": ["root"]})
        self.assertTrue(permits("alice", "db"))
        self.assertFalse(permits("root", "db"))
        self.assertFalse(permits("alice", "anything"))
        self.assertTrue(permits("root", "anything"))

    def test_a_dot_is_a_dot(self) -> None:
        """Only ``*`` is special in a pattern."""
        permits = Permits({"db.a": []})
        self.assertFalse(permits("x", "db.a"))
        self.assertTrue(permits("x", "db-a"))

    def test_patterns_that_fit_nobody(self) -> None:
        """What could never fit a name is refused: somebody meant something else by it."""
        for pattern in ("", "Alice", "a b", "a?", "[ab]", "a" * 65, "ä", "a\n"):
            self.assertRaises(ValueError, Permits, {pattern: []})
            self.assertRaises(ValueError, Permits, {"bob": [pattern]})

    @PROPERTY
    @given(NAMES, NAMES, st.lists(NAMES, max_size=3))
    def test_names_are_patterns_of_themselves(
        self, client: str, receiver: str, others: list[str]
    ) -> None:
        """A rule of plain names lets in exactly those."""
        permits = Permits({receiver: others})
        self.assertIs(permits(client, receiver), client in others)
        self.assertIs(permits(client, receiver), client in others, "asked again")

    def test_equal(self) -> None:
        """Two sets of rules are the same if they decide the same, and their order counts."""
        one, other = Permits({"a": [], "*": ["b"]}), Permits({"*": ["b"], "a": []})
        self.assertNotEqual(one, other)
        self.assertEqual(one, Permits({"a": [], "*": ["b"]}))
        self.assertEqual(hash(one), hash(Permits({"a": [], "*": ["b"]})))
