"""What every exchange needs to know: the realm's name, policy, principals, and random bytes."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kdc.kerberos.errors import Code, KerberosError
from kdc.kerberos.keys import DEFAULT_ETYPES, Entry, Lookup
from kdc.kerberos.messages import PrincipalName
from kdc.kerberos.names import NameType, Principal, parsed

__all__ = ["TGS", "Policy", "Realm"]

TGS = "krbtgt"


@attrs.frozen
class Policy:
    """What a realm allows.  Times are in seconds."""

    max_life: int = 24 * 3600
    max_renewable_life: int = 7 * 24 * 3600
    skew_seconds: int = 300
    etypes: tuple[int, ...] = DEFAULT_ETYPES
    # Whether AS replies say that there is FAST here: a client then uses it for every request.
    advertise_fast: bool = False
    # What is typed to get a ticket where nobody has a password; said where one is asked for.
    password_advice: str = ""


def everybody(client: Entry, server: Entry) -> bool:
    return True


@attrs.frozen
class Realm:
    """One realm.  ``random`` returns so many random bytes.

    ``permits`` says whether that client may have a ticket to that service.
    """

    name: str
    lookup: Lookup
    random: Callable[[int], bytes]
    policy: Policy = Policy()
    permits: Callable[[Entry, Entry], bool] = everybody
    tgs: Principal = attrs.field(init=False)

    @tgs.default
    def _tgs(self) -> Principal:
        return Principal((TGS, self.name), self.name)

    def entry(self, components: tuple[str, ...]) -> Entry | None:
        """Return the principal of this realm with that name."""
        try:
            return self.lookup(Principal(components, self.name))
        except ValueError:
            return None

    def client(self, name: PrincipalName | None, now: int) -> Entry:
        """Return who asks for a ticket, in good standing."""
        if name is None:
            raise KerberosError(Code.CLIENT_UNKNOWN, "the request names no client")
        components = name.components
        if name.name_type == NameType.ENTERPRISE and len(components) == 1:
            try:
                # RFC 6806 section 5: one component that holds a whole name.
                meant = parsed(components[0], self.name)
            except ValueError:
                meant = Principal(("",), "?")
            components = meant.components if meant.realm == self.name else ()
        entry = self.entry(components)
        if entry is None:
            raise KerberosError(Code.CLIENT_UNKNOWN, "no such client in this realm")
        _standing(entry, now, Code.CLIENT_EXPIRED)
        return entry

    def server(self, name: PrincipalName | None, now: int) -> Entry:
        """Return whom a ticket is for, in good standing."""
        entry = None if name is None else self.entry(name.components)
        if entry is None:
            raise KerberosError(Code.SERVER_UNKNOWN, "no such service in this realm")
        _standing(entry, now, Code.SERVER_EXPIRED)
        return entry

    def check_since(self, client: Entry, auth_time: int) -> None:
        """Raise `KerberosError` for a ticket of who had the client's name, or its key, before."""
        if client.since is not None and auth_time < client.since:
            text = f"the ticket is from before {client.principal} was what it is now"
            raise KerberosError(Code.TICKET_EXPIRED, text)

    def check_permitted(self, client: Entry, server: Entry) -> None:
        """Raise `KerberosError` unless the realm lets that client have a ticket there."""
        if server.principal != self.tgs and not self.permits(client, server):
            text = f"{client.principal} may not have a ticket for {server.principal}"
            raise KerberosError(Code.POLICY, text)

    def session_etype(self, wanted: tuple[int, ...], server: Entry) -> int:
        """Return the first type that the client wants and that realm and service have."""
        for etype in wanted:
            if etype in self.policy.etypes and etype in server.current.etypes:
                return etype
        raise KerberosError(Code.NO_ETYPE, "the client offers no encryption type that is good here")


def _standing(entry: Entry, now: int, expired: Code) -> None:
    if entry.disabled:
        raise KerberosError(Code.CLIENT_REVOKED, f"{entry.principal} is disabled")
    if entry.expiration is not None and entry.expiration <= now:
        raise KerberosError(expired, f"{entry.principal} has expired")
