"""Defences taken out one at a time: each must fail a test.  ``make mutants``.

``MUTANTS`` is the list: where docs/protocol.md or docs/store.md asks for it, what
it defends, the file, the code as it is, the code without it, and the tests that
ought to notice.  The code must stand in its file exactly once; the tests check
that, so that the list follows the code.  ``python -m tests.hostile.mutants``
copies the tree, and runs those tests once for each mutant.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs

__all__ = ["MUTANTS", "TOP", "Mutant", "mutated"]

TOP = Path(__file__).parent.parent.parent
# A mutant that hangs is noticed as well.
_SECONDS = 300


@attrs.frozen
class Mutant:
    """One defence less."""

    section: str
    defence: str
    path: str
    old: str
    new: str
    tests: str


def _of(path: str, tests: str, *each: tuple[str, str, str, str]) -> list[Mutant]:
    return [Mutant(section, what, path, old, new, tests) for section, what, old, new in each]


MUTANTS: list[Mutant] = [
    *_of(
        "kdc/protocol/handshake.py",
        "tests.protocol.test_handshake tests.protocol.test_epochs tests.protocol.test_vectors",
        (
            "5.3",
            "a ticket ends",
            "if now_milliseconds - self._began > ticket.end_milliseconds:",
            "if False:",
        ),
        ("5.4", "a ticket is used once", "if ticket.ticket_id in self._used:", "if False:"),
        ("5.9", "a used ticket is remembered", "        self._used.add(ticket)", "        pass"),
        (
            "5.9",
            "as many tickets as can be remembered",
            "if self._used.full(now_milliseconds - self._began):",
            "if False:",
        ),
        (
            "5.6",
            "the ephemeral key is the one asked for",
            "if not same(present.first[:32], ticket.ephemeral):",
            "if False:",
        ),
        (
            "5.7",
            "nobody presents himself to himself",
            "if sender == self._receiver or not allow(sender):",
            "if not allow(sender):",
        ),
        (
            "5.7",
            "the receiver's own policy",
            "if sender == self._receiver or not allow(sender):",
            "if sender == self._receiver:",
        ),
        (
            "5.1",
            "the proof of an application's ticket",
            "if not same(proof, keys.proof):",
            "if False:",
        ),
        (
            "5.8",
            "message 1 carries nothing",
            "if noise.read_first(present.first):",
            "if noise.read_first(present.first) and False:",
        ),
        (
            "5.8",
            "message 2 carries nothing",
            "if self._noise.read_second(second):",
            "if self._noise.read_second(second) and False:",
        ),
        ("5.1", "the version of 309", "if body[2:3] != bytes([VERSION]):", "if False:"),
        (
            "5",
            "the ticket is in the prologue",
            "        epoch_id,\n        ticket,\n    )",
            "        epoch_id,\n    )",
        ),
        (
            "5",
            "the sender is in the prologue",
            "        sender.encode(),\n        receiver.encode(),\n        epoch_id,\n        ticket,",
            "        receiver.encode(),\n        epoch_id,\n        ticket,",
        ),
        (
            "5",
            "the realm is in the prologue",
            "        realm.encode(),\n        bytes([VERSION]),",
            "        bytes([VERSION]),",
        ),
        ("4.3", "retired epochs are forgotten", "if now_milliseconds <= until]", "]"),
        (
            "4.3",
            "keys are forgotten when another receives",
            "        self._current = None\n        self._retired.clear()",
            "        self._current = None",
        ),
        (
            "4.3",
            "an epoch ends with its connection",
            "            self._retired.append((self._current, until))\n            self._current = None",
            "            self._retired.append((self._current, until))",
        ),
    ),
    *_of(
        "kdc/protocol/noise.py",
        "tests.protocol.test_noise tests.protocol.test_handshake",
        (
            "6.1",
            "keys are replaced on schedule",
            "            self._rekey()\n",
            "            pass\n",
        ),
        (
            "6.1",
            "a public key of low order",
            '        except ValueError:  # the all-zero result of a low-order point\n            raise _not_authentic("a public key of low order") from None',
            "        except ValueError:\n            shared = bytes(32)",
        ),
        ("6.1", "the nonce counts", "        self._count = count + 1\n", ""),
        (
            "6.1",
            "the transcript binds the receiver's key",
            "        self.mix_hash(responder_static)\n",
            "",
        ),
        ("6.1", "the prologue is in the transcript", "        self.mix_hash(prologue)\n", ""),
        (
            "6.1",
            "the session key is in the handshake",
            "        self._mix_key_and_hash(psk)\n",
            "        self._mix_key_and_hash(bytes(32))\n",
        ),
        (
            "6.1",
            "an ephemeral key is mixed, as a psk needs",
            "        self.mix_key(public)  # because a psk is used [9.2]\n",
            "",
        ),
        ("6.1", "the counter ends", "if count >= _LAST_NONCE:", "if False:"),
    ),
    *_of(
        "kdc/protocol/records.py",
        "tests.protocol.test_records",
        (
            "6.2",
            "END counts what came",
            "if (end.total_bytes, end.records) != (count.total_bytes, count.records):",
            "if False:",
        ),
        (
            "6.2",
            "ACK counts what was sent",
            "if (ack.total_bytes, ack.records) != (count.total_bytes, count.records):",
            "if False:",
        ),
        (
            "6.2",
            "no data after END",
            '        if self._received.ended:\n            raise malformed("data after the end")\n',
            "",
        ),
        (
            "6.2",
            "one END",
            '        if count.ended:\n            raise malformed("a second end")\n',
            "",
        ),
        ("6.2", "an ACK answers an END", "if not count.ended or count.acknowledged:", "if False:"),
        ("6.2", "the first failure is final", "            self._failed = True\n", ""),
    ),
    *_of(
        "kdc/protocol/kdc_exchange.py",
        "tests.protocol.test_kdc_exchange tests.protocol.test_epochs tests.protocol.test_handshake",
        (
            "4.2",
            "plain 399 only before 312",
            "if number == Refused.TYPE and not self._authenticated:",
            "if number == Refused.TYPE:",
        ),
        (
            "4.2",
            "plain 302 only before 312",
            "if number == Registered.TYPE and not self._authenticated:",
            "if number == Registered.TYPE:",
        ),
        (
            "4.2",
            "a reply answers its own request",
            "if expected is None or number != expected.TYPE:",
            "if expected is None:",
        ),
        (
            "4.2",
            "306 is for the peer that was asked for",
            '        peer = request.peer if isinstance(request, KeyRequest) else ""',
            '        peer = ""',
        ),
        (
            "4.2",
            "a reply answers a request once",
            "request = self._pending.pop(nonce, None)",
            "request = self._pending.get(nonce)",
        ),
        (
            "4.2",
            "a key is used once",
            "        ephemeral, self._ephemeral = self._ephemeral, None\n",
            "        ephemeral = self._ephemeral\n",
        ),
    ),
    *_of(
        "kdc/protocol/crypto.py",
        "tests.protocol.test_crypto tests.protocol.test_kdc_exchange tests.protocol.test_vectors",
        (
            "3",
            "replies depend on the connection",
            'ReplyCipher(hkdf(binding, reply_key, b"kdp/1 replies"))',
            'ReplyCipher(hkdf(b"", reply_key, b"kdp/1 replies"))',
        ),
        (
            "3",
            "replies are counted",
            "        self._count += 1\n        return nonce\n",
            "        return nonce\n",
        ),
        (
            "3",
            "tickets depend on the epoch's secret",
            "return TicketKey(hkdf(reply_key, secret, purpose))",
            "return TicketKey(hkdf(reply_key, bytes(32), purpose))",
        ),
        (
            "3",
            "signing and reply keys differ",
            'reply_key=ReplyKey(hkdf(digest, owner, b"kdp/1 reply"))',
            'reply_key=ReplyKey(hkdf(digest, owner, b"kdp/1 sign"))',
        ),
    ),
    *_of(
        "kdc/protocol/tickets.py",
        "tests.protocol.test_tickets tests.protocol.test_handshake tests.protocol.test_vectors",
        ("5.2", "a ticket is of one epoch", "receiver.encode(), epoch_id)", "receiver.encode())"),
        (
            "5.2",
            "a ticket is for one receiver",
            "realm.encode(), receiver.encode(), epoch_id)",
            "realm.encode(), epoch_id)",
        ),
    ),
    *_of(
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
    *_of(
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
    *_of(
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
    *_of(
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
    *_of(
        "kdc/issuing/issuer.py",
        "tests.issuing",
        (
            "4.1",
            "no request before 311",
            "    (State.AUTHENTIC, KeyRequest): issue,\n",
            "    (State.AUTHENTIC, KeyRequest): issue,\n    (State.NEW, KeyRequest): issue,\n",
        ),
    ),
    *_of(
        "kdc/store/flatfile/lines.py",
        "tests.store.test_flatfile tests.store.test_damage",
        (
            "store 2",
            "a line is of one name",
            'return enc(b"kdp/1 store", self._realm, name, generation,',
            'return enc(b"kdp/1 store", self._realm, generation,',
        ),
        (
            "store 2",
            "a line is of one generation",
            "self._realm, name, generation, address",
            "self._realm, name, address",
        ),
        (
            "store 2",
            "the status is sealed",
            "address, port, status, *times)",
            "address, port, *times)",
        ),
        (
            "store 2",
            "base64 in its one form",
            "if binascii.b2a_base64(sealed, newline=False) != digest:",
            "if False:",
        ),
        ("store 2", "a line is of one store", "self._realm, store_id.encode())", "self._realm)"),
    ),
    *_of(
        "kdc/store/flatfile/files.py",
        "tests.store.test_flatfile tests.store.test_faults",
        (
            "store 3",
            "a new file is synced before its name",
            "            files.fsync(fd)\n        finally:\n            files.close(fd)\n        (rename or files.rename)",
            "            pass\n        finally:\n            files.close(fd)\n        (rename or files.rename)",
        ),
        (
            "store 3",
            "a new name is synced",
            "        raise\n    files.sync_directory(path)",
            "        raise",
        ),
        (
            "store 3",
            "only regular files are read",
            "if not stat.S_ISREG(files.fstat(fd).st_mode):",
            "if False:",
        ),
    ),
    *_of(
        "kdc/store/flatfile/store.py",
        "tests.store.test_flatfile tests.store.test_faults",
        ("store 3", "a batch is bounded", "if len(changes) > self.most_changes:", "if False:"),
        (
            "store 4",
            "the old journal takes no change under a new key",
            "        self._journal.sound = False\n        self._files",
            "        self._files",
        ),
        (
            "store 3",
            "the names are synced before the old key goes",
            "        self._files.sync_directory(self._paths.base)\n        self._renew_journal()",
            "        self._renew_journal()",
        ),
        (
            "store 3",
            "a folded journal is synced",
            "                    journal.sync(data_only=True)\n",
            "",
        ),
        ("store 4", "the generation is kept", "        self._keep_generation()\n", ""),
    ),
    *_of(
        "kdc/channel/channel.py",
        "tests.channel.test_channel tests.channel.test_idle tests.hostile.test_between.ChannelTests.test_a_record_that_never_ends",
        (
            "6.2",
            "only what is authentic is a sign of life",
            "        self._silent_beats = 0\n        if isinstance",
            "        if isinstance",
        ),
        (
            "6.2",
            "a silent peer is given up",
            "if self._silent_beats > _MOST_SILENT_BEATS:",
            "if False:",
        ),
        (
            "6.2",
            "data nobody took is not acknowledged",
            "        if self._ending in LOST:  # nobody has consumed that, and the peer must not think so\n            self._acknowledge(AckStatus.NOT_ALLOWED)\n            return\n",
            "",
        ),
    ),
    *_of(
        "kdc/server/connections.py",
        "tests.server.test_connections",
        ("2", "ALPN", "if transport.negotiatedProtocol != ALPN:", "if False:"),
    ),
    *_of(
        "kdc/transfer/messages.py",
        "tests.transfer.test_messages",
        (
            "sending",
            "a path leads nowhere else",
            """if name in (".", "..") or "/" in name or "\\\\" in name or not name.isprintable():""",
            "if not name.isprintable():",
        ),
        ("sending", "a name commands no terminal", " or not name.isprintable():", ":"),
        (
            "sending",
            "a name is no option and not hidden",
            """    if name.startswith((".", "-")):\n        raise ValueError(f"not a safe file name: {shown(name)}")\n""",
            "",
        ),
    ),
]


def mutated(mutant: Mutant, text: str) -> str:
    """Return the file without that defence; it must stand there exactly once."""
    count = text.count(mutant.old)
    if count != 1:
        raise ValueError(f"{mutant.path}: {count} times: {mutant.old!r}")
    return text.replace(mutant.old, mutant.new)


def _killed(mutant: Mutant, tree: Path) -> bool:
    path = tree / mutant.path
    original = path.read_text(encoding="utf-8")
    path.write_text(mutated(mutant, original), encoding="utf-8")
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "twisted.trial", "--exitfirst", *mutant.tests.split()],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
        return ran.returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(original, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.mutants")
    parser.add_argument("--only", default="", help="mutants of files whose path contains this")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.path]
    alive = 0
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        ignored = shutil.ignore_patterns(".git", ".venv", "_trial_temp*", "__pycache__", "build")
        shutil.copytree(TOP, tree, ignore=ignored)
        for mutant in chosen:
            killed = _killed(mutant, tree)
            alive += not killed
            verdict = "killed" if killed else "ALIVE"
            print(f"{verdict:6}  {mutant.section:8} {mutant.defence} ({mutant.path})", flush=True)
    print(f"{len(chosen)} mutants, {alive} alive")
    return min(alive, 1)


if __name__ == "__main__":
    sys.exit(main())
