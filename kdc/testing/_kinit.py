"""``kinit`` and ``klist`` of a realm, for machines that have no such programs."""

from __future__ import annotations

import datetime as dt
import getopt
from collections.abc import Callable, Sequence
from pathlib import Path

from kdc.errors import ConfigurationError
from kdc.kerberos.ccache import Credential, ccache, read_ccache
from kdc.kerberos.keytab import read_keytab
from kdc.kerberos.names import Principal, parsed
from kdc.kerberos.profile import Key
from kdc.kerberos.tickets import Flag
from kdc.testing._kadmin import amount
from kdc.testing._private_files import write_private
from kdc.testing.client import Wanted
from kdc.testing.realm import Realm

__all__ = ["kinit", "klist", "klist_keytab", "path_of"]

_HINT = "install MIT's or Heimdal's client programs"


# The options of MIT's kinit that are understood here.
_OPTIONS = "VkifpFPl:r:s:c:t:S:"


def _said(flags: Sequence[str]) -> dict[str, str]:
    """Options by their letters."""
    try:
        options, rest = getopt.getopt(list(flags), _OPTIONS)
    except getopt.GetoptError as error:
        rest, why = [""], str(error)
    else:
        why = f"it does not know {rest}"
    if rest:
        raise ConfigurationError(f"kinit in Python cannot do it: {why}", hint=_HINT)
    return {name.removeprefix("-"): value for name, value in options}


def kinit(
    realm: Realm,
    name: str,
    password: str | None,
    flags: Sequence[str],
    files: tuple[Path, Path, Path],
) -> str:
    """Write a ticket-granting ticket; ``files`` are the cache, the keytab, the client's keytab."""
    said = _said(flags)
    cache, keytab, client_keytab = files
    client = parsed(name, realm.name)
    secret: str | Callable[[int], Key]
    if "k" in said:
        path = path_of(said["t"]) if "t" in said else client_keytab if "i" in said else keytab
        secret = _keys_of(client, path)
    elif password is None:
        raise ConfigurationError(f"no password is given for {client}", hint="give it, or -k")
    else:
        secret = password
    service = parsed(said["S"], realm.name).components if "S" in said else ()
    credential = realm.client().initial(client, secret, _wanted(realm, said), service)
    target = path_of(said["c"]) if "c" in said else cache
    write_private(target, ccache(client, [credential]))
    return f"Authenticated to Kerberos v5: {client}, in {target}\n"


def _wanted(realm: Realm, said: dict[str, str]) -> Wanted:
    now = int(realm.clock.now())
    start, life, renewable = (
        amount(said[letter]) if letter in said else None for letter in ("s", "l", "r")
    )
    options = 0 if "F" in said else Flag.FORWARDABLE
    options |= Flag.PROXIABLE if "p" in said and "P" not in said else 0
    options |= Flag.RENEWABLE if renewable is not None else Flag.RENEWABLE_OK
    if start is not None:
        options |= Flag.POSTDATED | Flag.MAY_POSTDATE
    return Wanted(
        options=int(options),
        start=None if start is None else now + start,
        till=0 if life is None else now + (start or 0) + life,
        renew_till=None if renewable is None else now + renewable,
        etypes=realm.etypes,
    )


def path_of(text: str) -> Path:
    return Path(text.removeprefix("FILE:"))


def _keys_of(client: Principal, path: Path) -> Callable[[int], Key]:
    entries = [e for e in read_keytab(_content(path)) if e.principal == client]

    def key(etype: int) -> Key:
        found = [entry for entry in entries if entry.key.etype == etype]
        if not found:
            hint = "extract its keys into that file"
            raise ConfigurationError(f"{path} has no such key of {client}", hint=hint)
        return max(found, key=lambda entry: entry.kvno).key

    return key


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", hint="get a ticket first") from None


def klist(path: Path) -> str:
    """Return what is in a credential cache; raises `ConfigurationError` if there is none."""
    client, credentials = read_ccache(_content(path))
    lines = [f"Ticket cache: FILE:{path}", f"Default principal: {client}", ""]
    return "\n".join((*lines, *map(_line, credentials), ""))


def _line(credential: Credential) -> str:
    times = [
        dt.datetime.fromtimestamp(at, dt.UTC).astimezone().strftime("%x %X")
        for at in (credential.start_time, credential.end_time)
    ]
    return f"{'  '.join(times)}  {credential.server}"


def klist_keytab(path: Path) -> str:
    """Return what is in a keytab; raises `ConfigurationError` if there is none."""
    entries = read_keytab(_content(path))
    lines = [f"{entry.kvno:4} {entry.principal}" for entry in entries]
    return "\n".join((f"Keytab name: FILE:{path}", "KVNO Principal", *lines, ""))
