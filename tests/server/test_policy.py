"""The KDC's configuration file: what it may say, and that anything else is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError, LocalIOError
from kdc.issuing.decisions import Enrolment
from kdc.issuing.permits import Permits
from kdc.limits import Limits
from kdc.server.kerberos_settings import SETTINGS, KerberosSettings
from kdc.server.policy import LIMITS, Policy, read_policy
from tests.support.core import PROPERTY


class PolicyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def read(self, text: str | bytes) -> Policy:
        self.path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_policy(self.path)

    def refused(self, text: str | bytes, pattern: str) -> ConfigurationError:
        error = self.assertRaises(ConfigurationError, self.read, text)
        self.assertRegex(str(error), f"^{self.path}: .*{pattern}")
        self.assertTrue(
            error.hint
            or "is a" in str(error)
            or "is open" in str(error)
            or "is text" in str(error)
            or "is answer" in str(error),
            error,
        )
        return error

    def test_where_the_store_is(self) -> None:
        """Texts, absolute paths and one number; anything else names what is wrong."""
        text = '[store]\nurl = "etcd://h/"\nstate = "/s"\nnode = "kdc1"\nconfirm-within = 5\n'
        policy = self.read(text)
        wanted = {"url": "etcd://h/", "state": "/s", "node": "kdc1", "confirm-within": 5}
        self.assertEqual(policy.store, wanted)
        self.assertEqual(Policy(store={"node": "x"}).over(policy).store, {**wanted, "node": "x"})
        for line, pattern in (
            ('state = "s"', "state of store begins with a /"),
            ('password-file = "~/p"', "password-file of store begins"),
            ("url = 5", "url of store is a text"),
            ('user = ""', "user of store is a text"),
            ('key = "/a\\u0000b"', "key of store is a text"),
            ("confirm-within = 2", "confirm-within is a whole number from 3 to 60"),
            ('confirm-within = "5"', "confirm-within is a whole number"),
            ('colour = "red"', "store has no 'colour'"),
        ):
            with self.subTest(line=line):
                error = self.assertRaises(ConfigurationError, self.read, f"[store]\n{line}\n")
                self.assertRegex(str(error), pattern)
        self.assertRegex(
            str(self.assertRaises(ConfigurationError, self.read, "store = 5")), "store is a table"
        )

    def test_everything(self) -> None:
        """Enrolment, lifetime and every limit."""
        lines = [f"{name} = {number}" for number, name in enumerate(LIMITS, 7)]
        policy = self.read('enrol = "invite"\nlifetime = 60\n[limits]\n' + "\n".join(lines))
        self.assertEqual(policy.enrolment, Enrolment.INVITE)
        self.assertEqual(policy.lifetime_seconds, 60)
        numbers = {field.name: number for number, field in enumerate(LIMITS.values(), 7)}
        self.assertEqual(policy.limits, numbers)
        self.assertEqual(Limits(**policy.limits), Limits(**numbers))
        self.assertIsNone(policy.permits)

    def test_log_format(self) -> None:
        """How the log is written; what is typed counts more."""
        policy = self.read('log-format = "json"')
        self.assertEqual(policy.log_format, "json")
        self.assertEqual(Policy(log_format="text").over(policy).log_format, "text")
        self.assertEqual(Policy().over(policy).log_format, "json")
        for wrong in ('"xml"', "1", '["json"]', '""'):
            self.refused(f"log-format = {wrong}", "log-format is text or json")

    def test_permit(self) -> None:
        """Who may reach whom, in the order of the file."""
        permits = self.read('[permit]\n"db-*" = ["app-*", "alice"]\n"*" = ["*"]').permits
        self.assertEqual(permits, Permits({"db-*": ["app-*", "alice"], "*": ["*"]}))
        self.assertEqual(Policy().over(Policy(permits=permits)).permits, permits)
        self.assertEqual(self.read("[permit]").permits, Permits())

    def test_nothing(self) -> None:
        """An empty file says nothing, and changes nothing."""
        self.assertEqual(self.read(""), Policy())
        policy = Policy(Enrolment.CLOSED, 60, {"keys_burst": 5})
        self.assertEqual(policy.over(Policy()), policy)
        self.assertEqual(Policy().over(policy), policy)

    def test_over(self) -> None:
        """What is typed counts more than the file, setting by setting, limit by limit."""
        typed = Policy(Enrolment.CLOSED, None, {"keys_burst": 5})
        file = Policy(Enrolment.OPEN, 60, {"keys_burst": 9, "keys_per_second": 3})
        self.assertEqual(
            typed.over(file),
            Policy(Enrolment.CLOSED, 60, {"keys_burst": 5, "keys_per_second": 3}),
        )

    def test_wrong(self) -> None:
        """A mistake is named, in the file that it is in."""
        for text, pattern in (
            ("enroll = 'open'", "there is no setting 'enroll'"),
            ("enrol = 'everybody'", "enrol is open, invite or closed"),
            ("enrol = 7", "enrol is open"),
            ("enrol = []", "enrol is open"),
            ("lifetime = 9", "lifetime is a whole number from 10 to 3600"),
            ("lifetime = 3601", "lifetime is a whole number"),
            ("lifetime = 60.0", "lifetime is a whole number"),
            ("lifetime = true", "lifetime is a whole number"),
            ("lifetime = '60'", "lifetime is a whole number"),
            ("limits = 7", "limits is a table"),
            ("[limits]\nkeys = 7", "no limit is called 'keys'"),
            ("[limits]\nkeys-burst = 0", "keys-burst is a whole number from 1"),
            ("[limits]\nkeys-burst = 1000000001", "keys-burst is a whole number"),
            ("[limits]\nkeys_burst = 7", "no limit is called 'keys_burst'"),
            ("permit = 7", "permit is a table of lists"),
            ("[permit]\ndb = 'alice'", "permit is a table of lists"),
            ("[permit]\ndb = ['Alice']", "permit: not a name, .*'Alice'"),
            ("[permit]\ndb = [7]", "permit: not a name"),
            ("[permit]\n'd b' = []", "permit: not a name, .*'d b'"),
            ("enrol = 'open", "[Ii]nvalid|[Uu]nterminated|[Ee]xpected|[Ii]llegal"),
            (b"\xff\xfe", "decode"),
            ("a = " + "[" * 30_000, ""),
            ("# " + "x" * 65_536, "too long"),
        ):
            self.refused(text, pattern)

    def test_hints(self) -> None:
        """What to do is said too."""
        self.assertIn("enrol, lifetime", self.refused("x = 1", "no setting").hint)
        self.assertIn("idle-seconds", self.refused("[limits]\nx = 1", "no limit").hint)

    def test_kerberos(self) -> None:
        """Its table has the settings that it has, within bounds."""
        self.path.write_text(
            "[kerberos]\nlife = 60\nrenewable-life = 120\nfast = 'advertise'\nconnections = 7"
        )
        policy = read_policy(self.path)
        self.assertEqual(
            policy.kerberos,
            {"life": 60, "renewable_life": 120, "advertise_fast": True, "connections": 7},
        )
        self.assertEqual(KerberosSettings(**policy.kerberos).life, 60)  # type: ignore[arg-type]
        over = Policy.of({"kerberos": {"life": 61, "fast": "answer"}}).over(policy)
        self.assertEqual(over.kerberos, {**policy.kerberos, "life": 61, "advertise_fast": False})
        for name in SETTINGS:
            self.assertIn(name.replace("-", "_"), attrs.fields_dict(KerberosSettings))
        for text, pattern in (
            ("kerberos = 7", "kerberos is a table"),
            ("[kerberos]\nlife = 59", "life is a whole number from 60"),
            ("[kerberos]\nlife = '60'", "life is a whole number"),
            ("[kerberos]\nfast = true", "fast, in the table kerberos, is answer"),
            ("[kerberos]\nskew = 3", "kerberos has no 'skew'"),
        ):
            self.refused(text, pattern)

    def test_cannot_be_read(self) -> None:
        """A file that is not there or is none is a local error, with its path."""
        for path in (self.path / "missing", Path(self.mktemp()).parent):
            error = self.assertRaises(LocalIOError, read_policy, path)
            self.assertIn(str(path), str(error))


class PropertyTests(SynchronousTestCase):
    @PROPERTY
    @given(
        st.dictionaries(
            st.one_of(
                st.sampled_from(["enrol", "lifetime", "limits", "permit"]), st.text(max_size=9)
            ),
            st.recursive(
                st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
                lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner),
                max_leaves=4,
            ),
        )
    )
    def test_any_values(self, values: dict[str, Any]) -> None:
        """Any values give a policy that the KDC can work with, or are refused."""
        try:
            policy = Policy.of(values)
        except ConfigurationError:
            return
        Limits(**policy.limits)
        self.assertIn(policy.lifetime_seconds, (None, *range(10, 3601)))
