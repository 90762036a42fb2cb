"""docs/protocol.md sections 2 to 6: what each side checks, and what is in each derivation."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *of(
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
    *of(
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
    *of(
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
    *of(
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
    *of(
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
    *of(
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
]
