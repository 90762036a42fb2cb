"""Names, ports and files of a `kdc.testing.k5.K5Realm`."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from kdc.testing._kadmin import amount, etypes_of
from kdc.testing._private_files import write_private
from kdc.testing._profiles import Profile, merged, profile_text
from kdc.testing.loop import free_port

__all__ = ["KDC_PORT", "KPASSWD_PORT", "Places"]

_PORTS = 10
KDC_PORT, KPASSWD_PORT, _KPROP_PORT, _SERVER_PORT = 0, 2, 3, 5
_KRB5_CONF: Profile = {
    "libdefaults": {
        "default_realm": "$realm",
        "dns_lookup_kdc": "false",
        "dns_lookup_realm": "false",
    },
    "realms": {
        "$realm": {
            "kdc": "127.0.0.1:$port0",
            "admin_server": "127.0.0.1:$port1",
            "kpasswd_server": "127.0.0.1:$port2",
        }
    },
}
_KDC_CONF: Profile = {
    "realms": {
        "$realm": {
            "kdc_ports": "$port0",
            "kdc_tcp_ports": "$port0",
            "kadmind_port": "$port1",
            "kpasswd_port": "$port2",
            "max_life": "1d",
            "max_renewable_life": "7d",
        }
    }
}


class Places:
    """What follows of a realm's name, its directory, its ports and its configuration."""

    def __init__(
        self,
        realm: str,
        portbase: int | None,
        krb5_conf: Profile | None,
        kdc_conf: Profile | None,
    ) -> None:
        self.realm = realm
        self.tmpdir = ""
        self._portbase = portbase
        self._ports: dict[int, int] = {}
        self._krb5_conf = merged(_KRB5_CONF, krb5_conf)
        self._kdc_conf = merged(_KDC_CONF, kdc_conf)

    def _settings(self) -> dict[str, Any]:
        """What ``kdc_conf`` says that this KDC has."""
        sections = self._kdc_conf.get("realms", {})
        said = merged(sections.get("$realm", {}), sections.get(self.realm))
        settings: dict[str, Any] = {
            name: amount(said[name])
            for name in ("max_life", "max_renewable_life")
            if said.get(name) is not None
        }
        if said.get("supported_enctypes") is not None:
            settings["etypes"] = etypes_of(said["supported_enctypes"])
        return settings

    @property
    def provider(self) -> str:
        """Whose programs and library the machine has: ``mit`` or ``heimdal``."""
        return _provider()

    @property
    def hostname(self) -> str:
        return _hostname()

    @property
    def portbase(self) -> int:
        """The KDC's port."""
        return self._port(KDC_PORT)

    @property
    def user_princ(self) -> str:
        return f"user@{self.realm}"

    @property
    def admin_princ(self) -> str:
        return f"user/admin@{self.realm}"

    @property
    def host_princ(self) -> str:
        return f"host/{self.hostname}@{self.realm}"

    @property
    def nfs_princ(self) -> str:
        return f"nfs/{self.hostname}@{self.realm}"

    @property
    def krbtgt_princ(self) -> str:
        return f"krbtgt/{self.realm}@{self.realm}"

    @property
    def keytab(self) -> str:
        return self._path("keytab")

    @property
    def client_keytab(self) -> str:
        return self._path("client_keytab")

    @property
    def ccache(self) -> str:
        return self._path("ccache")

    @property
    def kadmin_ccache(self) -> str:
        return self._path("kadmin_ccache")

    def _path(self, name: str) -> str:
        return os.path.join(self.tmpdir, name)

    def kprop_port(self) -> int:
        """A port for a test's own use."""
        return self._port(_KPROP_PORT)

    def server_port(self) -> int:
        """A port for a test's own use."""
        return self._port(_SERVER_PORT)

    def _port(self, number: int) -> int:
        if number not in self._ports:
            taken = free_port() if self._portbase is None else self._portbase + number
            self._ports[number] = taken
        return self._ports[number]

    def password(self, name: str) -> str:
        """Return the password of ``name``, the same in each call."""
        return name + os.path.basename(self.tmpdir)

    # Files and environment

    def _names(self) -> dict[str, str]:
        names = {"realm": self.realm, "tmpdir": self.tmpdir, "hostname": self.hostname}
        return {**names, **{f"port{number}": str(self._port(number)) for number in range(_PORTS)}}

    def _environment(self, krb5_conf: str, kdc_conf: str | None) -> dict[str, str]:
        return {
            "KRB5_CONFIG": self._path(krb5_conf),
            "KRB5_KDC_PROFILE": os.devnull if kdc_conf is None else self._path(kdc_conf),
            "KRB5CCNAME": self.ccache,
            "KRB5_KTNAME": self.keytab,
            "KRB5_CLIENT_KTNAME": self.client_keytab,
            "KRB5RCACHEDIR": self.tmpdir,
        }

    def special_env(
        self,
        name: str,
        has_kdc_conf: bool,
        krb5_conf: Profile | None = None,
        kdc_conf: Profile | None = None,
    ) -> dict[str, str]:
        """Return an environment whose configuration files are others."""
        names = self._names()
        files = [(f"krb5.conf.{name}", merged(self._krb5_conf, krb5_conf))]
        if has_kdc_conf:
            files.append((f"kdc.conf.{name}", merged(self._kdc_conf, kdc_conf)))
        for file, profile in files:
            write_private(Path(self._path(file)), profile_text(profile, names).encode())
        return self._environment(files[0][0], files[1][0] if has_kdc_conf else None)


@functools.cache
def _hostname() -> str:
    return "localhost" if sys.platform == "darwin" else socket.getfqdn()


@functools.cache
def _provider() -> str:
    program = shutil.which("krb5-config")
    if program is None:
        return "mit"
    said = subprocess.run(  # noqa: S603 - the machine's own
        [program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    is_heimdal = b"heimdal" in said.stdout.lower() or (
        sys.platform == "darwin" and program == "/usr/bin/krb5-config"
    )
    return "heimdal" if is_heimdal else "mit"
