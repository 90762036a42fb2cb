"""k5test's interface, without k5test: with the machine's Kerberos programs, and without any."""

from __future__ import annotations

import inspect
import os
import shutil
import unittest
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError
from kdc.kerberos.ccache import read_ccache
from kdc.kerberos.keytab import read_keytab
from kdc.kerberos.names import parsed
from kdc.testing.k5 import CommandFailed, K5Realm, KerberosTestCase
from tests.support.realm_conformance import free

# The constructor, attributes and methods of k5test 0.10's MITRealm.
ARGUMENTS = (
    *("realm", "portbase", "krb5_conf", "kdc_conf", "create_kdb", "krbtgt_keysalt"),
    *("create_user", "get_creds", "create_host", "start_kdc", "start_kadmind", "existing"),
)
NAMES = (
    *("realm", "tmpdir", "user_princ", "admin_princ", "host_princ", "nfs_princ"),
    *("krbtgt_princ", "hostname", "keytab", "client_keytab", "ccache", "kadmin_ccache", "env"),
    *("portbase", "provider", "is_existing", "addprinc", "change_password", "extract_keytab"),
    *("kinit", "klist", "klist_keytab", "prep_kadmin", "run_kadmin", "run_kadminl", "run"),
    *("password", "special_env", "start_kdc", "stop_kdc", "start_kadmind", "stop_kadmind"),
    *("kprop_port", "server_port", "kill_daemons", "stop", "create_kdb"),
)


class K5TestCase(SynchronousTestCase):
    def made(self, **said: Any) -> K5Realm:
        realm = K5Realm(**said)
        self.addCleanup(realm.stop)
        return realm

    def without_programs(self) -> None:
        """This machine has no Kerberos programs from here on."""
        self.patch(os, "environ", {**os.environ, "PATH": "/nonexistent"})

    def client_of(self, realm: K5Realm) -> str:
        return str(read_ccache(Path(realm.ccache).read_bytes())[0])


class InterfaceTests(K5TestCase):
    def test_names(self) -> None:
        """Arguments in k5test's order, and everything that its realm has."""
        arguments = tuple(inspect.signature(K5Realm).parameters)
        self.assertEqual(arguments[: len(ARGUMENTS)], ARGUMENTS)
        realm = self.made(get_creds=False)
        for name in NAMES:
            self.assertTrue(hasattr(realm, name), name)
        self.assertRaises(TypeError, K5Realm, start_kcd=False)
        self.assertEqual(
            sorted(realm.env),
            [
                *("KRB5CCNAME", "KRB5RCACHEDIR", "KRB5_CLIENT_KTNAME", "KRB5_CONFIG"),
                *("KRB5_KDC_PROFILE", "KRB5_KTNAME"),
            ],
        )

    def test_configuration(self) -> None:
        """Both files have what is said, over what is there anyway; $names are filled in."""
        realm = self.made(
            get_creds=False,
            portbase=None,
            krb5_conf={
                "libdefaults": {"dns_lookup_kdc": None, "kdc_timesync": "0", "a": ["1", "2"]},
                "domain_realm": {".$hostname": "$realm"},
            },
            kdc_conf={"realms": {"$realm": {"max_life": "2h", "acl_file": "$tmpdir/acl"}}},
        )
        krb5, kdc = (
            Path(realm.env[name]).read_text("utf-8") for name in ("KRB5_CONFIG", "KRB5_KDC_PROFILE")
        )
        self.assertIn(f"kdc = 127.0.0.1:{realm.portbase}\n", krb5)
        self.assertIn("kdc_timesync = 0\n    a = 1\n    a = 2\n", krb5)
        self.assertIn(f".{realm.hostname} = KRBTEST.COM\n", krb5)
        self.assertNotIn("dns_lookup_kdc", krb5)
        self.assertIn("max_life = 2h\n        max_renewable_life = 7d\n", kdc)
        self.assertIn(f"acl_file = {realm.tmpdir}/acl\n", kdc)
        other = realm.special_env("other", True, {"libdefaults": {"clockskew": "60"}})
        self.assertIn("clockskew = 60", Path(other["KRB5_CONFIG"]).read_text("utf-8"))
        self.assertNotEqual(other["KRB5_KDC_PROFILE"], realm.env["KRB5_KDC_PROFILE"])
        none = realm.special_env("none", False)
        self.assertEqual(none["KRB5_KDC_PROFILE"], os.devnull)
        for bad in ({"a": {"b": "$nothing"}}, {"libdefaults": "text"}, {"a": {"b": 7}}):
            self.assertRaises(ConfigurationError, K5Realm, krb5_conf=bad)

    def test_ports(self) -> None:
        """Those of portbase, if that is said; free ones otherwise."""
        first = self.made(get_creds=False)
        self.assertEqual(len({first.portbase, first.kprop_port(), first.server_port()}), 3)
        self.assertTrue(free(first.server_port()))
        base = first.portbase
        first.stop()
        try:
            realm = self.made(portbase=base, get_creds=False)
        except ConfigurationError as error:  # somebody else was quicker
            self.assertIn(f"port {base} or {base + 2}", str(error))
        else:
            self.assertEqual((realm.portbase, realm.server_port()), (base, base + 5))

    def test_parts(self) -> None:
        """Whatever is left out can be made later, and not before that."""
        realm = self.made(create_kdb=False)
        self.assertTrue(free(realm.portbase))
        self.assertRaises(CommandFailed, realm.addprinc, "bob")
        realm.create_kdb()
        realm.addprinc("bob", "pw")
        self.assertRaises(ConfigurationError, realm.stop_kdc)
        realm.start_kdc()
        self.assertRaises(ConfigurationError, realm.start_kdc)
        self.assertFalse(free(realm.portbase))
        realm.kill_daemons()
        self.assertTrue(free(realm.portbase))
        directory = Path(realm.tmpdir)
        realm.stop()
        self.assertFalse(directory.exists())
        realm.stop()

    def test_existing(self) -> None:
        """Another one's realm, in the same places; it outlives who uses it."""
        realm = self.made()
        other = self.made(existing=realm.tmpdir, get_creds=False)
        self.assertTrue(other.is_existing)
        self.assertEqual((other.env, other.password("user")), (realm.env, realm.password("user")))
        other.stop()
        self.assertTrue(Path(realm.keytab).exists())
        self.assertRaises(CommandFailed, other.addprinc, "bob")

    def test_run(self) -> None:
        """What is printed comes back; another status than the expected is an error."""
        realm = self.made(get_creds=False)
        self.assertEqual(
            realm.run(["sh", "-c", "cat; echo $KRB5_CONFIG"], input="in\n"),
            f"in\n{realm.env['KRB5_CONFIG']}\n".encode(),
        )
        realm.run(["sh", "-c", "exit 7"], expected_code=7, env={})
        error = self.assertRaises(CommandFailed, realm.run, ["sh", "-c", "echo why; exit 7"])
        self.assertIn("why", error.hint or "")

    def test_for_unittest(self) -> None:
        """A class of tests has a realm, and ends it."""

        class Tests(KerberosTestCase):
            def test_it(self) -> None:
                assert os.path.exists(self.realm.ccache)

        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (1, [], []))
        self.assertFalse(os.path.exists(Tests.realm.tmpdir))


class PrincipalTests(K5TestCase):
    def setUp(self) -> None:
        self.realm = self.made(get_creds=False)

    def test_keys(self) -> None:
        """Keytabs, changed keys, the ticket-granting service's encryption type."""
        self.realm.addprinc("HTTP/web")
        self.realm.extract_keytab("HTTP/web", self.realm.keytab)
        web = parsed("HTTP/web", "KRBTEST.COM")

        def kvnos() -> set[int]:
            entries = read_keytab(Path(self.realm.keytab).read_bytes())
            return {entry.kvno for entry in entries if entry.principal == web}

        self.assertEqual(kvnos(), {1})
        self.realm.change_password("HTTP/web", keysalt="aes128-cts:normal")
        self.realm.extract_keytab("HTTP/web", self.realm.keytab)
        self.assertEqual(kvnos(), {1, 2})
        self.assertIn(b"vno 2, aes128-cts", self.realm.run_kadminl("getprinc HTTP/web"))
        old = self.made(krbtgt_keysalt="aes128-sha2:normal", get_creds=False)
        self.assertIn(b"aes128-cts-hmac-sha256", old.run_kadminl(["getprinc", old.krbtgt_princ]))

    def test_queries(self) -> None:
        """Their status is as it would be; no password is in an error."""
        printed = self.realm.run_kadminl("getprinc nobody", expected_code=1)
        self.assertIn(b"there is no principal nobody", printed)
        error = self.assertRaises(CommandFailed, self.realm.change_password, "nobody", "secret-1")
        self.assertNotIn("secret-1", f"{error} {error.hint}")

    def test_kadmin(self) -> None:
        """Is answered when kadmind runs and there is a ticket."""
        self.assertRaises(CommandFailed, self.realm.run_kadmin, "listprincs")
        self.realm.start_kadmind()
        self.assertRaises(ConfigurationError, self.realm.start_kadmind)
        self.assertRaises(CommandFailed, self.realm.run_kadmin, "listprincs")
        self.realm.prep_kadmin()
        self.assertIn(b"user/admin@KRBTEST.COM", self.realm.run_kadmin("listprincs"))
        self.realm.stop_kadmind()
        self.assertRaises(ConfigurationError, self.realm.stop_kadmind)

    def test_limits(self) -> None:
        """max_life and supported_enctypes of kdc_conf are the realm's."""
        self.without_programs()
        said = {"max_life": "2h", "supported_enctypes": "aes128-cts:normal aes256-sha2"}
        realm = self.made(kdc_conf={"realms": {"$realm": said}})
        (ticket,) = read_ccache(Path(realm.ccache).read_bytes())[1]
        self.assertEqual(ticket.end_time - ticket.start_time, 2 * 3600)
        self.assertEqual(ticket.key.etype, 17)


class WithoutProgramsTests(K5TestCase):
    def setUp(self) -> None:
        self.without_programs()
        self.realm = self.made()

    def test_tickets(self) -> None:
        """By password and by keytab, with the common options; the wrong password does not do."""
        self.assertEqual(self.client_of(self.realm), self.realm.user_princ)
        self.assertIn(b"krbtgt/KRBTEST.COM", self.realm.klist())
        self.realm.kinit(self.realm.host_princ, flags=["-k"])
        self.assertEqual(self.client_of(self.realm), self.realm.host_princ)
        self.assertIn(self.realm.host_princ.encode(), self.realm.klist_keytab())
        user, password = self.realm.user_princ, self.realm.password("user")
        self.realm.kinit(user, password, ["-l", "1h", "-r", "1d", "-c", self.realm.ccache, "-f"])
        (ticket,) = read_ccache(Path(self.realm.ccache).read_bytes())[1]
        # As long as that from when it was asked for; the KDC may count a second or more later.
        asked = ticket.end_time - 3600
        self.assertEqual(ticket.renew_till, asked + 86_400)
        self.assertIn(ticket.start_time, range(asked, asked + 600))
        self.realm.kinit(user, "wrong", expected_code=1)

    def test_refused(self) -> None:
        """What it cannot do is said."""
        user = self.realm.user_princ
        for flags in (["-R"], ["-l", "long"], ["-k"], ["-k", "-t", "/nonexistent"], []):
            error = self.assertRaises(CommandFailed, self.realm.kinit, user, None, flags)
            self.assertTrue(error.hint)
        self.assertRaises(CommandFailed, self.realm.klist, self.realm.kadmin_ccache)


class WithProgramsTests(K5TestCase):
    def test_programs(self) -> None:
        """The machine's own do it where it has them."""
        if shutil.which("kvno") is None:
            self.skipTest("this machine has no kvno (Debian: krb5-user)")
        realm = self.made()
        self.assertIn(realm.user_princ.encode(), realm.klist())
        realm.run(["kvno", realm.host_princ])
        realm.kinit(realm.host_princ, flags=["-k"])
        realm.kinit(realm.user_princ, "wrong", expected_code=1)
