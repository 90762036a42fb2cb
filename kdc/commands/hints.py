"""What to type next: the one table of it, for errors of a library that cannot know."""

from __future__ import annotations

from kdc import terminal
from kdc.errors import ErrorKind, KDCError

__all__ = ["HINTS", "complain", "hint_of"]

# The facts of an error are put in where their names stand.
HINTS = {
    ErrorKind.ADDRESS_OF_KDC_UNKNOWN: (
        "give --kdc-address and --kdc-port: they become part of the invitation"
    ),
    ErrorKind.CERTIFICATE_UNVERIFIED: "give its CA with --kdc-ca, or pin its fingerprint",
    ErrorKind.FINGERPRINT_OF_KDC_UNKNOWN: (
        "start the KDC once, or give --kdc-fingerprint: it prints it when it starts"
    ),
    ErrorKind.INVITATION_NEEDED: "ask its operator for one: kdc admin invite NAME",
    ErrorKind.INVITATION_SPENT: (
        "if you have used it yourself, go on with the key or passphrase of then; otherwise the"
        " KDC's log says which it is: ask its operator for a new one, kdc admin invite {name}"
    ),
    ErrorKind.KDC_PORT_IN_USE: "is another program, or another KDC, using that port?",
    ErrorKind.NAME_OF_DIRECTORY_TAKEN: (
        "see kdc admin show {name}; free the name, or give --directory-name"
    ),
    ErrorKind.NAME_OF_KERBEROS_TAKEN: "see kdc admin show {name}; free the name",
    ErrorKind.NAME_OF_RELAY_TAKEN: "see kdc admin show {name}; free the name",
    ErrorKind.NAME_TAKEN: (
        "try again; if it is right, or forgotten, ask the operator, who sees in kdc admin show"
        " {name} what is wrong, and resets it with kdc admin reset {name}"
    ),
    ErrorKind.NEVER_MET: (
        "compare the fingerprint with what the KDC prints when it starts; if it is the same,"
        " give --kdc-fingerprint, or add this line to {known_kdcs}:\n  {line}"
    ),
    ErrorKind.NO_SUCH_LIMIT: "see kdc --help-limits",
    ErrorKind.NO_SUCH_PRINCIPAL: "see kdc admin list",
    ErrorKind.NOTHING_SENDABLE: (
        "nothing was sent: check the path, or send it under another name with --as"
    ),
    ErrorKind.NOT_REMEMBERED: (
        "name another file with --known-kdcs, or give --kdc-fingerprint, which the KDC prints when"
        " it starts: then nothing has to be remembered"
    ),
    ErrorKind.NOT_AN_INVITATION: (
        "it is one word that begins with kdc2- and was made by kdc admin invite"
    ),
    ErrorKind.NOT_A_KEY_FILE: "make one with: kdcclient keygen FILE",
    ErrorKind.NOT_REGISTERED: (
        "a daemon cannot ask: register first with kdcclient register -n {name}"
    ),
    ErrorKind.OLDER_THAN_BEFORE: (
        "find the newer files; if this is meant, start once with --accept-rollback"
    ),
    ErrorKind.PASSPHRASE_SHORT: (
        "a sentence is easier to remember, and harder to guess; --short-passphrase takes this one"
    ),
    ErrorKind.PASSPHRASE_UNKNOWN: "give --passphrase-file, --passphrase-fd or --key-file",
    ErrorKind.PART_UNSENDABLE: "nothing was sent: rename it, or have it left out with --skip",
    ErrorKind.PRINCIPAL_ACTIVE: (
        "see kdc admin show; an owner changes its key by kdcclient passwd, and one who has lost"
        " it needs kdc admin reset"
    ),
    ErrorKind.PRINCIPAL_AS_WANTED: "--if-absent makes that no error",
    ErrorKind.PRINCIPAL_DISABLED: "kdc admin enable lets it in again",
    ErrorKind.PRINCIPAL_EXPIRED: (
        "ask its operator: kdc admin expire NAME --in 90d; before its end, kdcclient renew does it"
        " for a key file if the operator allows that"
    ),
    ErrorKind.RECEIVER_PORT_IN_USE: (
        "is another receiver using that port? choose one with --listen"
    ),
    ErrorKind.SETTINGS_THERE: "--force replaces it; --config names another file",
    ErrorKind.SETTING_MISSING: (
        "give it with --{key}, or put it into {path}; kdcclient init writes that from an invitation"
    ),
    ErrorKind.STATUS_NEEDS_TOKEN: (
        "listen on this machine only (tcp:127.0.0.1:9464), or give --status-token-file"
    ),
    ErrorKind.STORE_DAMAGED: "nothing was changed; see: kdc admin -f {path} check",
    ErrorKind.STORE_OF_ANOTHER_REALM: "start with --realm {realm}, or name another file",
    ErrorKind.STORE_OF_THE_ORIGINAL: (
        "move it away, start anew, and read it with: kdc admin import"
    ),
    ErrorKind.TICKETS_LEFT: (
        "try again in {seconds} s; --force does not wait, and who has such a ticket takes a new"
        " owner of the name for the old one"
    ),
}


def hint_of(error: KDCError) -> str:
    """What to do about ``error``: the table's words, or its own."""
    words = None if error.kind is None else HINTS.get(error.kind)
    try:
        return error.hint if words is None else words.format_map(error.facts)
    except KeyError:  # a KDC of another version has told us of it
        return error.hint


def complain(program: str, error: KDCError) -> int:
    """Say what went wrong and what to type next; return the exit status."""
    return terminal.complain(program, error, hint_of(error))
