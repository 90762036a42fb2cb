"""Run a command with the realm that pyspnego's tests want, of whatever KDC is on the PATH.

It is made by k5test, so that MIT's KDC and ours are asked for the same things.
"""

import json
import os
import subprocess
import sys

import k5test

REALM = "PYSPNEGO.TEST"
HOST = "host.pyspnego.test"
CLIENTS = {
    "libdefaults": {"dns_canonicalize_hostname": "false"},
    "domain_realm": {HOST: REALM},
}


def prepared(realm: k5test.K5Realm) -> dict[str, str]:
    """What the tests read: a user with ticket and keytab, a service to delegate to."""
    user, service, account = realm.user_princ, f"host/{HOST}@{REALM}", f"service@{REALM}"
    keytab = os.path.join(realm.tmpdir, "user.keytab")
    realm.extract_keytab(user, keytab)
    for name in (service, account):
        realm.addprinc(name)
        realm.extract_keytab(name, realm.keytab)
    realm.run_kadminl(f"modprinc +ok_as_delegate {service}")
    realm.kinit(user, flags=["-f", "-k", "-t", keytab])
    return {
        "realm": REALM,
        "hostname": HOST,
        "service": "host",
        "username": user,
        "password": realm.password("user"),
        "client_keytab": keytab,
        "acceptor_username": account,
        "acceptor_keytab": realm.keytab,
        "ccache": f"FILE:{realm.ccache}",
    }


def main() -> int:
    realm = k5test.K5Realm(realm=REALM, krb5_conf=CLIENTS)
    try:
        told = {"PYSPNEGO_TEST_KERBEROS": json.dumps(prepared(realm))}
        return subprocess.call(sys.argv[1:], env={**os.environ, **realm.env, **told})
    finally:
        realm.stop()


if __name__ == "__main__":
    sys.exit(main())
