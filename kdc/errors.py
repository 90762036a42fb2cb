"""What can go wrong, by whose fault, and the exit status it ends in.

Texts are for people: what happened and why.  ``hint`` says what to do next.
No error ever carries a secret.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import attrs

from kdc.hostile_text import shown

__all__ = [
    "AuthenticationRefused",
    "ConfigurationError",
    "ErrorKind",
    "ExitStatus",
    "IntegrityError",
    "KDCError",
    "KDCUnreachable",
    "LocalIOError",
    "LocalProtocolError",
    "NameTaken",
    "NoRoom",
    "NotReceiving",
    "PeerUnavailable",
    "Refusal",
    "RefusedByPolicy",
    "RemoteProtocolError",
    "Superseded",
    "TooBusy",
    "TooLarge",
    "UnknownIdentity",
    "UnknownPeer",
    "WrongIdentity",
    "local_error",
    "malformed",
]


class ExitStatus(enum.IntEnum):
    """How a command ends; part of the command line's interface."""

    DONE = 0
    USAGE = 1
    KDC = 3
    AUTHENTICATION = 4
    PEER = 5
    INTEGRITY = 6
    LOCAL_IO = 7
    REFUSED = 8
    INCOMPLETE = 9  # sent, but not all of what was meant


class Refusal(enum.IntEnum):
    """Why the KDC refuses (message 399); a closed set, see docs/protocol.md."""

    MALFORMED = 1
    VERSION = 2
    NOT_AUTHENTIC = 3
    NAME_TAKEN = 4
    INVITATION = 5
    UNKNOWN_PRINCIPAL = 6
    NOT_RECEIVING = 7
    NOT_ALLOWED = 8
    RATE = 9
    INTERNAL = 10


class ErrorKind(enum.Enum):
    """Which error it is, where what to do next depends on how we were started.

    A library cannot say what to type: a command line has a table of these, and
    puts in the facts that come with the error.
    """

    ADDRESS_OF_KDC_UNKNOWN = enum.auto()
    CERTIFICATE_UNVERIFIED = enum.auto()
    FINGERPRINT_OF_KDC_UNKNOWN = enum.auto()
    INVITATION_NEEDED = enum.auto()
    INVITATION_SPENT = enum.auto()  # name
    KDC_PORT_IN_USE = enum.auto()
    NAME_OF_DIRECTORY_TAKEN = enum.auto()  # name
    NAME_OF_KERBEROS_TAKEN = enum.auto()  # name
    NAME_OF_RELAY_TAKEN = enum.auto()  # name
    NAME_TAKEN = enum.auto()  # name
    NEVER_MET = enum.auto()  # known_kdcs, line
    NO_SUCH_LIMIT = enum.auto()
    NO_SUCH_PRINCIPAL = enum.auto()
    NOTHING_SENDABLE = enum.auto()
    NOT_REMEMBERED = enum.auto()
    NOT_AN_INVITATION = enum.auto()
    NOT_A_KEY_FILE = enum.auto()
    NOT_REGISTERED = enum.auto()  # name
    OLDER_THAN_BEFORE = enum.auto()
    PASSPHRASE_SHORT = enum.auto()
    PASSPHRASE_UNKNOWN = enum.auto()
    PART_UNSENDABLE = enum.auto()
    PRINCIPAL_ACTIVE = enum.auto()
    PRINCIPAL_AS_WANTED = enum.auto()
    PRINCIPAL_DISABLED = enum.auto()
    PRINCIPAL_EXPIRED = enum.auto()
    RECEIVER_PORT_IN_USE = enum.auto()
    SETTINGS_THERE = enum.auto()
    SETTING_MISSING = enum.auto()  # key, path
    STATUS_NEEDS_TOKEN = enum.auto()
    STORE_DAMAGED = enum.auto()  # path
    STORE_OF_ANOTHER_REALM = enum.auto()  # realm
    STORE_OF_THE_ORIGINAL = enum.auto()
    TICKETS_LEFT = enum.auto()  # seconds


class KDCError(Exception):
    r"""Whatever this package raises on purpose.

    ``str()`` of it says what happened.  ``hint`` says what to do next, as far as
    that can be said without knowing what was typed; ``kind`` and ``facts`` are for
    whoever knows.  ``exit_status`` is what a command ends in.

    >>> try:
    ...     await alice.ask("nobody")
    ... except KDCError as error:
    ...     print(error, error.hint, int(error.exit_status), sep="\n")
    no key for nobody: the KDC knows nobody of that name
    check the spelling; the peer has to register first
    5
    """

    exit_status: ClassVar[ExitStatus] = ExitStatus.USAGE
    hint: str = ""
    kind: ErrorKind | None = None
    facts: Mapping[str, str] = {}

    def __init__(
        self,
        text: str,
        *,
        hint: str = "",
        kind: ErrorKind | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(text)
        self.hint = hint
        self.kind = kind
        self.facts = facts or {}


class LocalProtocolError(KDCError):
    """Our own code broke the protocol: a bug here, never the peer's fault."""


@attrs.define(init=False)
class RemoteProtocolError(KDCError):
    """The other side broke the protocol; say so once, then drop the connection.

    ``refusal`` may be sent to the other side.  ``detail`` is for our log only:
    it can name principals and times, so it never leaves this process.
    """

    exit_status = ExitStatus.INTEGRITY

    refusal: Refusal
    detail: str

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.refusal = refusal
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.refusal.name.lower().replace('_', ' ')}: {self.detail}"


class ConfigurationError(KDCError):
    """An option, file or name is not usable as given."""


class KDCUnreachable(KDCError):
    """No KDC answers there, or the connection to it was lost."""

    exit_status = ExitStatus.KDC


class UnknownIdentity(KDCError):
    """The KDC showed an identity that nobody has vouched for yet.

    ``fingerprint`` is what it showed: ``sha256:`` and 64 hexadecimal digits.
    """

    exit_status = ExitStatus.KDC

    def __init__(
        self,
        text: str,
        *,
        fingerprint: str,
        hint: str = "",
        kind: ErrorKind | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(text, hint=hint, kind=kind, facts=facts)
        self.fingerprint = fingerprint


class WrongIdentity(KDCError):
    """The KDC is not the one that was pinned, or its certificate does not verify."""

    exit_status = ExitStatus.KDC


class AuthenticationRefused(KDCError):
    """The KDC does not accept our proof: wrong secret, name taken, no invitation."""

    exit_status = ExitStatus.AUTHENTICATION


class NameTaken(AuthenticationRefused):
    """The name is registered already, with another secret."""


class PeerUnavailable(KDCError):
    """The peer is unknown, not receiving, unreachable, or did not answer in time."""

    exit_status = ExitStatus.PEER


class UnknownPeer(PeerUnavailable):
    """The KDC knows nobody of that name."""


class NotReceiving(PeerUnavailable):
    """The KDC knows the peer, but it has no receiver now."""


class IntegrityError(KDCError):
    """A stream was cut short or changed on its way; nothing of it counts."""

    exit_status = ExitStatus.INTEGRITY


class LocalIOError(KDCError):
    """A local file or socket failed: permission, space, the disk itself."""

    exit_status = ExitStatus.LOCAL_IO


class NoRoom(LocalIOError):
    """The disk, or our share of it, is too small; ``why`` is no secret."""

    def __init__(self, text: str, *, why: str, hint: str = "make room and try again") -> None:
        super().__init__(text, hint=hint)
        self.why = why


class RefusedByPolicy(KDCError):
    """The peer or the KDC understood and will not."""

    exit_status = ExitStatus.REFUSED


class TooLarge(RefusedByPolicy):
    """It has more bytes than are accepted."""


class Superseded(RefusedByPolicy):
    """Somebody began to receive under our name elsewhere."""


class TooBusy(RefusedByPolicy):
    """The KDC limits how often this may be asked; ``retry_after`` is in seconds."""

    def __init__(self, text: str, *, retry_after: int, hint: str = "") -> None:
        super().__init__(text, hint=hint)
        self.retry_after = retry_after


def local_error(path: Path, error: OSError) -> LocalIOError:
    """Return what to tell a person when the system refuses, by ``error``, to use ``path``.

    >>> error = local_error(Path("report.pdf"), OSError(28, "ENOSPC"))
    >>> print(error, error.hint, sep="; ")
    report.pdf: No space left on device; make room and try again

    Raises nothing.
    """
    hint = {
        errno.EACCES: "check the permissions of the file and its directory",
        errno.EPERM: "check the permissions of the file and its directory",
        errno.EROFS: "the file system is mounted read-only",
        errno.EBUSY: "if it is mounted by itself, mount the directory that it is in",
        errno.ENOENT: "check the path",
    }.get(error.errno or 0, "")
    if error.errno == errno.ENXIO:  # what the system says of a FIFO, a socket, a missing device
        return LocalIOError(f"{shown(str(path), 4096)} is not a regular file", hint=hint)
    why = os.strerror(error.errno or 0)
    text = f"{shown(str(path), 4096)}: {why}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoRoom(text, why=why)
    return LocalIOError(text, hint=hint)


def malformed(detail: str) -> RemoteProtocolError:
    """Return the error for what the other side sent and nobody can read; ``detail`` says where.

    Raises nothing.
    """
    return RemoteProtocolError(Refusal.MALFORMED, detail)
