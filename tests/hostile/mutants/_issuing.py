"""docs/protocol.md section 4.1: what the KDC decides."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *of(
        "kdc/issuing/_authentication.py",
        "tests.issuing",
        ("4.1", "one 311 a connection", "    session.spend()\n    wait", "    wait"),
        (
            "4.1",
            "only who is active",
            "keyed = record is not None and record.status is Status.ACTIVE",
            "keyed = record is not None",
        ),
        (
            "4.1",
            "the signature",
            "if record is None or not keyed or not genuine:",
            "if record is None or not keyed:",
        ),
        ("4.1", "guessing is slow", "    if wait:\n", "    if False:\n"),
        (
            "4.1",
            "failures count",
            "        realm.guesses.failed(request.name, session.prefix, now)\n",
            "",
        ),
        (
            "10",
            "connections of one principal",
            "if len(realm.connections_of(record.name)) >= realm.connections_per_principal:",
            "if False:",
        ),
    ),
    *of(
        "kdc/issuing/_keys.py",
        "tests.issuing",
        (
            "4.1",
            "the realm's policy on keys",
            "if request.peer == session.name or not realm.permits(session.name, request.peer):",
            "if request.peer == session.name:",
        ),
        (
            "4.1",
            "no key to oneself",
            "if request.peer == session.name or not realm.permits(session.name, request.peer):",
            "if not realm.permits(session.name, request.peer):",
        ),
        (
            "4.1",
            "an older epoch is told",
            "if older is not None and older.connection is not session:",
            "if False:",
        ),
    ),
    *of(
        "kdc/issuing/_registration.py",
        "tests.issuing",
        (
            "4.1",
            "the owner of the new key signs",
            "if not verified(VerifyKey(request.verify_key), request.signature, *signed):",
            "if False:",
        ),
        (
            "4.1",
            "an invitation is proved",
            "return proved and now.unix_seconds <= record.invitation_end_time",
            "return now.unix_seconds <= record.invitation_end_time",
        ),
        (
            "4.1",
            "an invitation ends",
            "return proved and now.unix_seconds <= record.invitation_end_time",
            "return proved",
        ),
        (
            "4.1",
            "a closed realm",
            "    if realm.enrolment is Enrolment.CLOSED:\n        return False\n",
            "",
        ),
        ("4.1", "an empty code invites nobody", ' and record.invitation != b""', ""),
        (
            "4.1",
            "302 again only for the same keys",
            "        and same(record.reply_key, request.reply_key)\n",
            "",
        ),
        (
            "4.1",
            "302 again only for the same verify key",
            "        and same(record.verify_key, request.verify_key)\n",
            "",
        ),
        (
            "4.1",
            "the old key signs a change",
            "        or not verified(VerifyKey(record.verify_key), request.old_signature, *signed)\n",
            "",
        ),
        (
            "4.1",
            "the new key signs a change",
            "            delete or verified(VerifyKey(request.new_verify_key), request.new_signature, *signed)\n",
            "            True\n",
        ),
        (
            "4.1",
            "the old key's connection ends",
            "    return Output(reply, close=True, others=others)",
            "    return Output(reply, others=others)",
        ),
        ("10", "registrations are counted", "    if wait:\n", "    if False:\n"),
    ),
    *of(
        "kdc/issuing/realm.py",
        "tests.issuing",
        (
            "4.3",
            "what relied on an older record ends",
            '        return self.drop(record.name, outdated, "record changed")',
            "        return ()",
        ),
        (
            "4.3",
            "an epoch ends with its connection",
            '        self._end_epoch(name, {connection}, "disconnected")\n',
            "",
        ),
    ),
    *of(
        "kdc/issuing/issuer.py",
        "tests.issuing",
        (
            "4.1",
            "no request before 311",
            "    (State.AUTHENTIC, KeyRequest): issue,\n",
            "    (State.AUTHENTIC, KeyRequest): issue,\n    (State.NEW, KeyRequest): issue,\n",
        ),
    ),
]
