"""krb5.conf for clients of one realm that is found without DNS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from kdc.kerberos.profile import PROFILES

__all__ = ["ClientConfiguration", "krb5_conf"]


@attrs.frozen
class ClientConfiguration:
    realm: str
    kdc: str  # HOST:PORT
    kpasswd: str | None = None
    etypes: tuple[int, ...] = ()
    # Lines of [libdefaults] beside ours, or in place of them.
    settings: Mapping[str, str] = attrs.field(factory=dict)
    hosts: Iterable[str] = ()


def krb5_conf(configuration: ClientConfiguration) -> str:
    """Return the text of the file.  Nothing in it makes a client ask a name server."""
    realm = configuration.realm
    settings = {
        "default_realm": realm,
        "dns_lookup_kdc": "false",
        "dns_lookup_realm": "false",
        "dns_canonicalize_hostname": "false",
        "rdns": "false",
        "forwardable": "true",
        **configuration.settings,
    }
    if configuration.etypes:
        settings["permitted_enctypes"] = " ".join(
            PROFILES[etype].name for etype in configuration.etypes
        )
    lines = ["[libdefaults]", *(f"    {name} = {value}" for name, value in settings.items())]
    lines += ["", "[realms]", f"    {realm} = {{", f"        kdc = {configuration.kdc}"]
    if configuration.kpasswd is not None:
        lines.append(f"        kpasswd_server = {configuration.kpasswd}")
    lines += ["    }", "", "[domain_realm]"]
    lines += [f"    {host} = {realm}" for host in configuration.hosts]
    return "\n".join((*lines, ""))
