"""No secret is in anything that can end up in a log, a traceback or on a screen.

A whole realm at work, from registration to acknowledgement, with refusals on
the way.  Whatever it made is turned into text, and the text is searched for all
secrets there were, in every spelling bytes have.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import attrs

from kdc.errors import KDCError, RemoteProtocolError
from kdc.issuing.decisions import Enrolment
from kdc.protocol.codec import frame
from kdc.protocol.crypto import (
    Digest,
    EpochSecret,
    hkdf,
    long_term_keys,
    ticket_key,
)
from kdc.protocol.kdc_exchange import Grant, Sent
from kdc.protocol.messages import KeyReply, decode_request
from kdc.protocol.records import AckStatus
from tests.support.canaries import shown_in, spellings, told
from tests.support.core import (
    Connection,
    CoreTestCase,
    Realm,
    Receiver,
    bodies,
    ephemeral_of,
    keys_of,
    opened,
)

CODE = b"the invitation's secret code"
CONTENT = b"the content of a private file, as it was read from the disk"


class SecrecyTests(CoreTestCase):
    def setUp(self) -> None:
        self.realm = Realm(enrolment=Enrolment.INVITE)
        self.realm.invite("alice", CODE, 2**40)
        self.made: list[object] = []
        self.secrets: dict[str, bytes] = {"invitation code": CODE, "content": CONTENT}
        self.digests = {
            "alice": b"the digest of alice".ljust(32, b"."),
            "bobby": b"bobby has another digest".ljust(32, b"."),
        }

    def test_nothing_shows(self) -> None:
        """Messages, records, tickets, errors, audit lines: names and times, never a secret."""
        self.work()
        text = "\n".join(self.texts())
        self.assertIn("alice", text)
        self.assertIn("not authentic", text)
        self.assertGreater(len(self.secrets), 25)
        for name, secret in self.secrets.items():
            self.assertGreaterEqual(len(secret), 12, name)
            self.assertIs(shown_in(text, secret), None, name)

    def test_the_search_finds(self) -> None:
        """The search would find a secret, however it is spelled."""
        secret = keys_of("alice").reply_key
        for shown in (
            repr(secret),
            secret.hex(),
            base64.b64encode(secret).decode(),
            base64.b64encode(b"x" + secret).decode(),
            base64.b64encode(b"xy" + secret).decode(),
            repr({"key": bytes(secret)}),
            f"{list(secret)}",
        ):
            self.assertIn(shown_in(shown, secret), spellings(secret), shown)

    def work(self) -> None:
        """Register, receive, send, acknowledge, fail, change, delete; keep all that was made."""
        alice = self.registered("alice", CODE)
        bob = self.receiving()
        grant = self.granted(alice)
        present = self.send(bob, grant)
        self.fail_in_many_ways(alice, bob, present)
        self.change(alice)

    def keys(self, name: str) -> Connection:
        digest = self.digests[name]
        self.secrets[f"digest of {name}"] = digest
        keys = long_term_keys(Digest(digest), "LOCAL", name)
        self.secrets[f"reply key of {name}"] = keys.reply_key
        self.secrets[f"signing key of {name}"] = keys._signing_key.private_bytes_raw()
        connection = self.realm.connect(keys)
        self.secrets[f"connection key of {name}"] = hkdf(
            connection.binding, keys.reply_key, b"kdp/1 replies"
        )
        self.made += [keys, connection.exchange, connection.session]
        return connection

    def ask(self, connection: Connection, sent: Sent) -> object:
        """Ask, and keep the request, its output and the answer in every form they take."""
        (body,) = bodies(sent.data)
        request = decode_request(body)
        output = self.realm.issuer.receive(connection.session, body, self.realm.now)
        self.made += [sent, request, output.write, output.others]
        if output.write is not None:
            self.made.append(output.write.change)
        self.realm.perform(connection.session, output)
        answer = connection.answer()
        self.made += [answer, answer.message]
        return answer.message

    def registered(self, name: str, code: bytes = b"") -> Connection:
        connection = self.keys(name)
        sent = connection.exchange.register("", 1, code)
        request = decode_request(*bodies(sent.data))
        self.secrets["proof of invitation"] = getattr(request, "invitation", b"")
        self.ask(connection, sent)
        self.ask(connection, connection.exchange.authenticate())
        return connection

    def receiving(self) -> Receiver:
        connection = self.keys("bobby")
        self.realm.add(connection.keys)
        self.ask(connection, connection.exchange.authenticate())
        bob = Receiver(connection)
        epoch = bob.begin()
        secret = self.realm.random.given[-1]
        key = ticket_key(
            connection.keys.reply_key, EpochSecret(secret), "LOCAL", "bobby", epoch.epoch_id
        )
        self.secrets |= {
            "epoch secret": secret,
            "ticket key": key,
            "epoch's private key": epoch._static.private_bytes_raw(),
        }
        self.made += [epoch, bob.epochs, self.realm.issuer.realm.epoch_of("bobby")]
        return bob

    def granted(self, alice: Connection) -> Grant:
        sent, grant = alice.exchange.request_key("bobby")
        reply = self.ask(alice, sent)
        if not isinstance(reply, KeyReply):
            self.fail(f"{reply}")
        granted = grant(reply, 0)
        keys = attrs.evolve(granted).application_keys()
        self.secrets |= {
            "session key": reply.session_key,
            "ticket": reply.ticket,
            "sealed part of the ticket": reply.ticket[12:],
            "sender's ephemeral": ephemeral_of(granted).private_bytes_raw(),
            "application root": keys._root,
            "application proof": keys.proof,
            "exported key": keys.derive("test"),
        }
        self.made += [granted, reply, keys]
        return granted

    def send(self, bob: Receiver, grant: Grant) -> bytes:
        presentation = grant.presentation()
        present = presentation.present()
        epoch = bob.epochs.current
        if epoch is None:
            self.fail("no epoch")
        ticket = epoch._tickets.open(grant.reply.ticket)
        self.secrets["ticket id"] = ticket.ticket_id
        accepted = bob.accept(present)
        self.secrets["receiver's ephemeral"] = bob.random.given[-1]
        a, b = presentation.finish(*bodies(accepted.answer)), accepted.stream
        self.secrets["key there"] = a._sending._key
        self.secrets["key back"] = a._receiving._key
        self.made += [presentation, ticket, accepted, a, b, epoch._used]
        self.made += opened(b, *a.send_data(CONTENT), a.send_end())
        self.made += opened(a, b.send_ack(AckStatus.STORED))
        return present

    def fail_in_many_ways(self, alice: Connection, bob: Receiver, present: bytes) -> None:
        later = alice.grant("bobby")
        self.secrets["later session key"] = later.reply.session_key
        unused = later.presentation().present()
        for body in (
            present,  # a replay
            frame(b"\x01\x35" + bytes(100)),
            frame(present[2:-1]),
            frame(present[2:] + CONTENT),
            unused[:-1] + bytes([unused[-1] ^ 1]),
        ):
            self.made.append(self.assertRaises(RemoteProtocolError, bob.accept, body))
        self.made.append(self.assertRaises(RemoteProtocolError, bob.accept, unused, later=10**6))
        self.made.append(
            self.assertRaises(RemoteProtocolError, bob.accept, unused, allow=lambda sender: False)
        )
        (body,) = bodies(alice.exchange.request_key("bobby")[0].data)
        self.made.append(self.assertRaises(RemoteProtocolError, alice.exchange.take, body))
        a, b = self.realm.channel("carol", bob)
        a.send_data(CONTENT)
        self.made.append(self.assertRaises(RemoteProtocolError, opened, b, *a.send_data(CONTENT)))
        for secret in self.secrets.values():
            session = self.realm.connect(keys_of("dave")).session
            self.realm.issuer.receive(session, b"\x01\x2d" + secret, self.realm.now)

    def change(self, alice: Connection) -> None:
        new_digest = b"the second digest of alice".ljust(32, b".")
        new = long_term_keys(Digest(new_digest), "LOCAL", "alice")
        self.secrets |= {
            "second digest": new_digest,
            "second reply key": new.reply_key,
            "second signing key": new._signing_key.private_bytes_raw(),
        }
        self.ask(alice, alice.exchange.change(new, "", 1))
        again = self.realm.login(new)
        self.ask(again, again.exchange.delete())

    def texts(self) -> Iterator[str]:
        for thing in [*self.made, *self.realm.audit, *self.realm.store]:
            yield repr(thing)
            yield str(thing)
            if isinstance(thing, KDCError):
                yield told(thing)


class ErrorTests(CoreTestCase):
    def test_keys_refused_are_not_quoted(self) -> None:
        """A key of the wrong length is an error that does not show it."""
        secret = b"a key that is too short"
        error = self.assertRaises(ValueError, long_term_keys, Digest(secret), "LOCAL", "alice")
        self.assertIs(shown_in(told(error), secret), None)
