"""What a KDC refuses, in one table: the number, and what whoever gets it can do about it.

Numbers and names are those of RFC 4120 section 7.5.9, RFC 6113 and RFC 6806.
"""

from __future__ import annotations

import enum

from kdc.errors import ExitStatus, KDCError

__all__ = ["ADVICE", "Code", "KerberosError"]


class Code(enum.IntEnum):
    """Error codes that this KDC sends."""

    CLIENT_EXPIRED = 1
    SERVER_EXPIRED = 2
    BAD_VERSION = 3
    CLIENT_UNKNOWN = 6
    SERVER_UNKNOWN = 7
    CANNOT_POSTDATE = 10
    NEVER_VALID = 11
    POLICY = 12
    BAD_OPTION = 13
    NO_ETYPE = 14
    PADATA_TYPE = 16
    CLIENT_REVOKED = 18
    KEY_EXPIRED = 23
    PREAUTH_FAILED = 24
    PREAUTH_REQUIRED = 25
    SERVER_NOMATCH = 26
    MUST_USE_USER_TO_USER = 27
    SERVICE_UNAVAILABLE = 29
    BAD_INTEGRITY = 31
    TICKET_EXPIRED = 32
    TICKET_NOT_YET_VALID = 33
    REPEATED = 34
    NOT_US = 35
    BAD_MATCH = 36
    SKEW = 37
    MODIFIED = 41
    BAD_KEY_VERSION = 44
    INAPPROPRIATE_CHECKSUM = 50
    TOO_BIG = 52
    GENERIC = 60
    FIELD_TOO_LONG = 61
    WRONG_REALM = 68
    UNKNOWN_FAST_OPTION = 93


# Said behind what happened: the next step of whoever reads it in a log or on a terminal.
ADVICE = {
    Code.CLIENT_EXPIRED: "have whoever runs the realm give it another end",
    Code.SERVER_EXPIRED: "have whoever runs the realm give it another end",
    Code.BAD_VERSION: "use a client that speaks Kerberos 5",
    Code.CLIENT_UNKNOWN: "check the spelling and the realm, or have the principal added",
    Code.SERVER_UNKNOWN: "check the host name that the client made it from, or have it added",
    Code.CANNOT_POSTDATE: "ask for a ticket that begins now",
    Code.NEVER_VALID: "ask for an end that is later than the start, and not past",
    Code.POLICY: "have whoever runs the realm allow it",
    Code.BAD_OPTION: "get a ticket with that flag first, or ask without the option",
    Code.NO_ETYPE: "let the client offer one of aes256-cts, aes128-cts, aes256-sha2, aes128-sha2",
    Code.PADATA_TYPE: "send a TGS request with an AP-REQ in its padata",
    Code.CLIENT_REVOKED: "have whoever runs the realm enable the principal",
    Code.KEY_EXPIRED: "change the password, by the service kadmin/changepw",
    Code.PREAUTH_FAILED: "check the password or the keytab",
    Code.PREAUTH_REQUIRED: "send an encrypted timestamp",
    Code.SERVER_NOMATCH: "ask for the principal that the additional ticket is for",
    Code.MUST_USE_USER_TO_USER: "ask with the service's own ticket, user to user",
    Code.SERVICE_UNAVAILABLE: "try again later",
    Code.BAD_INTEGRITY: "get a new ticket",
    Code.TICKET_EXPIRED: "get a new ticket",
    Code.TICKET_NOT_YET_VALID: "wait until it begins, and have it validated",
    Code.REPEATED: "make a new authenticator for each request",
    Code.NOT_US: "use a ticket for this realm's ticket-granting service",
    Code.BAD_MATCH: "get a new ticket",
    Code.SKEW: "set the clock of the machine that is wrong",
    Code.MODIFIED: "look for what changes packets on their way",
    Code.BAD_KEY_VERSION: "get a new ticket",
    Code.INAPPROPRIATE_CHECKSUM: "send a keyed checksum of the type that goes with the key",
    Code.TOO_BIG: "ask by TCP",
    Code.GENERIC: "look into the KDC's log",
    Code.FIELD_TOO_LONG: "send requests of less than 64 KiB",
    Code.WRONG_REALM: "ask the KDC of that realm",
    Code.UNKNOWN_FAST_OPTION: "ask without that option",
}


class KerberosError(KDCError):
    """A request is refused: ``code`` goes out with the text and the advice that belongs to it.

    ``details`` is the e-data, whose form depends on the code.
    """

    exit_status = ExitStatus.REFUSED

    def __init__(self, code: Code, text: str, details: bytes | None = None) -> None:
        super().__init__(text, hint=ADVICE[code])
        self.code = code
        self.details = details

    @property
    def whole_text(self) -> str:
        """What happened and what to do, as it goes into e-text."""
        return f"{self}: {self.hint}"
