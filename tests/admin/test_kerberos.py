"""What an operator does to the realm's Kerberos."""

from __future__ import annotations

import base64
import contextlib

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError, KDCError, PeerUnavailable, RefusedByPolicy
from kdc.kerberos.keytab import read_keytab
from kdc.kerberos_store import live_part, tgs_part
from kdc.store import Create, Purge, Status
from kdc.store.memory import MemoryStore
from tests.support.kerberos import REALM
from tests.support.kerberos_store import StoreOfTest
from tests.support.store_conformance import active, part, token


class KerberosTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.case = StoreOfTest()

    def refused(self, kind: type[KDCError], command: str, **request: object) -> str:
        before = list(self.case.store)
        error = self.assertRaises(kind, self.case.ask, command, **request)
        self.assertEqual(list(self.case.store), before)
        return str(error)

    def test_enable(self) -> None:
        """The realm's own names are taken, with keys for one of them; twice is once."""
        part = tgs_part(self.case.store)
        assert part is not None
        self.assertEqual({key.etype for key in part.keys}, {17, 18, 19, 20})
        for name in ("krbtgt", "kadmin"):
            record = self.case.record(name)
            self.assertEqual((record.status, record.verify_key), (Status.DISABLED, b""))
        (answer,) = self.case.ask("kerberos-enable")
        self.assertFalse(answer["done"])
        self.assertEqual(tgs_part(self.case.store), part)

    def test_enable_where_the_name_is_taken(self) -> None:
        """Whoever is called so goes first; nothing is half done."""
        for name in ("krbtgt", "kadmin"):
            self.case.store = MemoryStore(REALM)
            self.case.store.apply([Create(active(name), token(1))])
            text = self.refused(RefusedByPolicy, "kerberos-enable")
            self.assertIn(name, text)
        self.case.store = MemoryStore("Example")
        self.refused(ConfigurationError, "kerberos-enable")

    def test_cut_short(self) -> None:
        """What was enabled by half is made whole by doing it again."""
        record = self.case.record("krbtgt")
        self.case.change("krbtgt", kerberos=None)
        self.assertIsNone(tgs_part(self.case.store))
        (answer,) = self.case.ask("kerberos-enable")
        self.assertTrue(answer["done"])
        self.assertNotEqual(tgs_part(self.case.store), record.kerberos)

    def test_the_realms_own(self) -> None:
        """Nobody becomes the realm: its names are not enabled, invited or given an address."""
        for command in ("enable", "reset", "invite", "set-address", "expire", "disable"):
            for name in ("krbtgt", "kadmin"):
                self.assertIn("realm's own", self.refused(RefusedByPolicy, command, name=name))
        self.case.ask("show", name="krbtgt")
        self.case.ask("delete", name="krbtgt")
        self.assertFalse(self.case.realm.enabled)

    def test_services(self) -> None:
        """Each is one principal's; what is no name of a service is refused."""
        (answer,) = self.case.ask("kerberos-services", name="web1", remove=["host/web"])
        self.assertEqual(answer["services"], ["HTTP/web"])
        (answer,) = self.case.ask("kerberos-services", name="alice", add=["host/web"])
        self.assertEqual((answer["services"], answer["version"]), (["host/web"], 1))
        text = self.refused(RefusedByPolicy, "kerberos-services", name="bob", add=["host/web"])
        self.assertIn("another principal's", text)
        for bad in ("HTTP", "HTTP/", "/web", "HTTP/a/b", "HTTP/a b", "HTTP/a@B", "krbtgt/X", "é/a"):
            self.refused(ConfigurationError, "kerberos-services", name="bob", add=[bad])
        self.refused(ConfigurationError, "kerberos-services", name="bob", add="HTTP/x")
        self.refused(PeerUnavailable, "kerberos-services", name="nobody", add=["HTTP/x"])
        many = [f"HTTP/{'x' * 200}{number}" for number in range(30)]
        self.refused(RefusedByPolicy, "kerberos-services", name="bob", add=many)
        self.case.change("carol", status=Status.DISABLED)
        self.refused(RefusedByPolicy, "kerberos-services", name="carol", add=["HTTP/x"])

    def test_as_many_services_as_leave_room_for_other_keys(self) -> None:
        """Whoever has services can have new keys, again and again; and is told if not."""
        with contextlib.suppress(RefusedByPolicy):
            for number in range(1000):
                self.case.ask("kerberos-services", name="bob", add=[f"HTTP/{number}"])
        self.assertGreater(len(self.case.record("bob").services), 300)
        for _ in range(3):
            self.case.ask("kerberos-keytab", name="bob", new_keys=True)
        # An older version let there be more.
        before = self.case.record("bob").kerberos
        assert before is not None
        keys = tuple(key for key in before.keys if key.kvno == before.kvno)
        services = [*before.services, *(f"HTTP/{'x' * 50}{number}" for number in range(2))]
        self.case.change("bob", kerberos=attrs.evolve(before, keys=keys, services=tuple(services)))
        text = self.refused(RefusedByPolicy, "kerberos-keytab", name="bob", new_keys=True)
        self.assertIn("bob has too many services", text)

    def test_services_as_they_are(self) -> None:
        """To say what is so already changes nothing."""
        before = self.case.record("bob")
        self.case.ask("kerberos-services", name="bob", add=["HTTP/bob"])
        self.assertEqual(self.case.record("bob"), before)

    def test_keytab(self) -> None:
        """It holds what there is, as often as it is asked for; new keys only if wanted."""
        (first,) = self.case.ask("kerberos-keytab", name="web1")
        (again,) = self.case.ask("kerberos-keytab", name="web1")
        self.assertEqual(first, again)
        entries = read_keytab(base64.b64decode(first["keytab"]))
        names = {str(entry.principal) for entry in entries}
        self.assertEqual(names, {f"{name}@{REALM}" for name in ("web1", "HTTP/web", "host/web")})
        self.assertEqual({entry.kvno for entry in entries}, {1})
        (new,) = self.case.ask("kerberos-keytab", name="web1", services=["HTTP/web"], new_keys=True)
        entries = read_keytab(base64.b64decode(new["keytab"]))
        self.assertEqual([entry.kvno for entry in entries], [2] * 4 + [1] * 4)
        self.assertEqual({str(entry.principal) for entry in entries}, {f"HTTP/web@{REALM}"})
        self.refused(RefusedByPolicy, "kerberos-keytab", name="web1", services=["HTTP/bob"])
        (plain,) = self.case.ask("kerberos-keytab", name="alice")
        self.assertEqual(len(read_keytab(base64.b64decode(plain["keytab"]))), 4)

    def test_keytab_after_another_key(self) -> None:
        """The numbers of keys go on, though the keys are gone: no ticket fits two keys."""
        self.case.change("web1", verify_key=b"n" * 32)
        self.assertIsNone(live_part(self.case.record("web1")))
        self.case.ask("kerberos-keytab", name="web1")
        part = live_part(self.case.record("web1"))
        assert part is not None
        self.assertEqual((part.kvno, part.services), (2, ()))

    def test_rotate(self) -> None:
        """Each time another version; those of which no ticket can be left go."""
        for number in range(2, 5):
            self.case.now += 31 * 86_400
            (answer,) = self.case.ask("kerberos-rotate")
            self.assertEqual(answer["version"], number)
        part = tgs_part(self.case.store)
        assert part is not None
        self.assertEqual({key.kvno for key in part.keys}, {2, 3, 4})
        self.case.now += 31 * 86_400 + 1
        self.case.ask("kerberos-rotate")
        part = tgs_part(self.case.store)
        assert part is not None
        self.assertEqual({key.kvno for key in part.keys}, {4, 5})
        self.case.ask("kerberos-rotate", drop=True)
        part = tgs_part(self.case.store)
        assert part is not None
        self.assertEqual({key.kvno for key in part.keys}, {6})

    def test_rotate_for_ever(self) -> None:
        """More versions than a record can hold are refused, with what there is as it was."""
        for _ in range(100):
            try:
                self.case.ask("kerberos-rotate")
            except RefusedByPolicy as error:
                self.assertIn("wait", error.hint)
                break
        else:
            self.fail("there is no bound")
        self.assertTrue(self.case.realm.enabled)
        self.case.ask("kerberos-rotate", drop=True)

    def test_without(self) -> None:
        """Before it is enabled there is nothing to ask for, and it says so."""
        self.case.store = MemoryStore(REALM)
        self.case.store.apply([Create(active("alice"), token(1))])
        for command in ("rotate", "services", "keytab"):
            text = self.refused(RefusedByPolicy, f"kerberos-{command}", name="alice")
            self.assertIn("no keys for Kerberos", text)
        self.refused(ConfigurationError, "kerberos-nonsense")

    def test_the_log(self) -> None:
        """Each change is a line, and so is each time that keys go out; none shows a key."""
        self.case.ask("kerberos-keytab", name="web1")
        self.case.ask("kerberos-rotate")
        events = [event for event, _, _ in self.case.audited]
        for event in ("enabled", "services", "keytab", "rotated"):
            self.assertIn(f"admin-kerberos-{event}", events)
        count = len(events)
        self.case.ask("kerberos-show", name="web1")
        self.assertEqual(len(self.case.audited), count)
        part = live_part(self.case.record("web1"))
        assert part is not None
        self.assertNotIn(part.keys[0].content.hex(), str(self.case.audited))

    def test_a_free_name(self) -> None:
        """Whoever registers a name of the realm's own that was freed is not the realm."""
        self.case.ask("delete", name="krbtgt")
        record = self.case.record("krbtgt")
        self.case.store.apply(
            [Purge("krbtgt", record.generation), Create(active("krbtgt"), token(9))]
        )
        self.assertFalse(self.case.realm.enabled)
        # Nor with Kerberos keys of his own.
        self.case.change("krbtgt", kerberos=part(self.case.record("krbtgt")))
        self.assertIsNotNone(live_part(self.case.record("krbtgt")))
        self.assertFalse(self.case.realm.enabled)
        self.assertIsNone(self.case.realm.principals(self.case.realm.realm.tgs))
        self.assertIsNone(self.case.realm.principals(self.case.principal("krbtgt")))
