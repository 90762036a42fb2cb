"""The same again, after a cut between the end and its acknowledgement: stored once."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from kdc.errors import IntegrityError, RefusedByPolicy
from kdc.transfer import _inbox as inbox_module
from kdc.transfer import _partials as partials_module
from kdc.transfer import receiver as receiver_module
from kdc.transfer import sender as sender_module
from kdc.transfer._framing import Content, Finished
from kdc.transfer._parts import DIRECTORY
from kdc.transfer.deposit import Anew, Stored
from kdc.transfer.messages import Item, Kind, Offer, Omitted, Why
from kdc.transfer.redelivery import OnceDeposit
from kdc.transfer.sender import Interrupted, Phase, SendProtocol, Unconfirmed
from kdc.transfer.survey import Thing
from tests.support.core import PROPERTY
from tests.support.edge import Wire
from tests.transfer.test_transfer import TransferTestCase

CONTENT = bytes(range(256)) * 8192


class OnceTestCase(TransferTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.receive()

    def receive(self, process: str = "first", **options: Any) -> Any:
        def deposit(sender: str, offer: Offer) -> OnceDeposit:
            return OnceDeposit(self.there, sender, offer, process=process)

        return super().receive(**{"deposit": deposit, **options})

    def shown(self) -> list[str]:
        return sorted(name for name in os.listdir(self.there) if name[0] != ".")

    def send_unheard(self, *things: Thing) -> tuple[SendProtocol, Wire]:
        """Send everything; what the receiver says to that does not arrive."""
        protocol, _, wire = self.send(*things, settle=False)
        self.step_until(lambda: protocol.phase is not Phase.OFFERED)
        wire.peer.stalled = True
        self.network.settle()
        self.assertNoResult(protocol.done)
        return protocol, wire

    def send_and_cut(self, *things: Thing) -> None:
        """Send, and cut when everything is shown and the sender has not heard of it."""
        told = len(self.received)
        protocol, wire = self.send_unheard(*things)
        self.assertEqual(len(self.received), told + len(things))
        wire.abortConnection()
        self.network.settle()
        self.failed(Unconfirmed, protocol)

    def assert_once(self, thing: Thing, *, again: bool = True) -> Stored:
        """It is sent again, recognised without its content, and nothing is left of all that."""
        before = self.arrived().keys() - {p for p in self.arrived() if p[0] == "."}
        protocol, _, wire = self.send(thing)
        self.successResultOf(protocol.done)
        self.assertLess(len(wire.sent), 3000)
        self.assertEqual(self.arrived().keys(), before)
        self.assertEqual(self.received[-1][1].again, again)
        self.assertFalse((self.there / DIRECTORY).exists())
        self.assert_quiet()
        return self.received[-1][1]

    def assert_new(self, *things: Thing) -> None:
        """It is stored as something new, and nothing is left but what is shown."""
        self.delivered(*things)
        self.assertFalse(self.received[-1][1].again)
        self.assertFalse((self.there / DIRECTORY).exists())

    def assert_anew(self, *things: Thing) -> None:
        """It is not what was sent before: the sender has to begin anew, and then it is stored."""
        protocol, _, _ = self.send(*things)
        self.failed(Interrupted, protocol)
        self.assert_new(*things)


class OnceTests(OnceTestCase):
    def test_once(self) -> None:
        """After a cut behind its end a file that is sent again is there once."""
        thing = self.file("a", CONTENT)
        self.send_and_cut(thing)
        stored = self.assert_once(thing)
        self.assertEqual(self.arrived(), {"a": CONTENT})
        expected = Stored(Kind.FILE, "a", self.there / "a", len(CONTENT), 1, again=True)
        self.assertEqual(stored, expected)

    def test_known_is_new(self) -> None:
        """A sender that knows of the first means a second when it sends it again."""
        thing = self.file("a", CONTENT)
        for _ in range(2):
            self.assert_new(thing)
        self.assertEqual(self.arrived(), {"a": CONTENT, "a (1)": CONTENT})
        self.send_and_cut(thing)
        self.assert_once(thing)
        self.assert_new(thing)
        self.assertEqual(self.shown(), ["a", "a (1)", "a (2)", "a (3)"])

    def test_cut_again(self) -> None:
        """However often that happens."""
        thing = self.file("a", CONTENT)
        self.send_and_cut(thing)
        for _ in range(3):
            self.send_and_cut(thing)
        self.assert_once(thing)
        self.assertEqual(self.arrived(), {"a": CONTENT})

    def test_cut_in_the_second(self) -> None:
        """A second try that does not come to its end changes nothing for the third."""
        thing = self.file("a", CONTENT)
        self.send_and_cut(thing)
        protocol, _, wire = self.send(thing, settle=False)
        wire.cut_after = 400
        self.network.settle()
        self.failed(IntegrityError, protocol)
        self.assert_once(thing)

    def test_text(self) -> None:
        """Texts, too."""
        thing = Thing("message.txt", text=b"hello " * 300)
        self.send_and_cut(thing)
        self.assert_once(thing)
        self.send_and_cut(thing)
        self.assert_anew(Thing("message.txt", text=b"hallo " * 300))
        self.assertEqual(self.shown(), ["message (1).txt", "message (2).txt", "message.txt"])

    def tree(self) -> Thing:
        top = self.here / "d"
        for path in ("empty", ".git", "deep/er"):
            (top / path).mkdir(parents=True)
        for path in (".git/config", "deep/er/b", "deep/er/c"):
            (top / path).write_bytes(path.encode() * 1000)
        (top / "deep/nothing").touch()
        (top / "deep/er/run").write_bytes(b"#!/bin/sh")
        (top / "deep/er/run").chmod(0o755)
        return Thing("d", top)

    def test_tree(self) -> None:
        """A directory is the same if everything in it is: names, kinds, contents, modes."""
        thing = self.tree()
        self.send_and_cut(thing)
        self.assertEqual(self.assert_once(thing).files, 5)
        self.assertEqual(self.arrived()["d/.git/config"], b".git/config" * 1000)
        self.assertTrue((self.there / "d/empty").is_dir())

    def test_tree_that_has_changed(self) -> None:
        """Otherwise it is another one, which comes whole, and the first stays as it was."""
        changes = (
            lambda top: (top / "deep/er/c").write_bytes(b"changed"),
            lambda top: (top / "deep/er/c").open("ab").write(b"more"),
            lambda top: (top / "deep/er/b").chmod(0o700),
            lambda top: (top / "deep/er/b").unlink(),
            lambda top: (top / "deep/new").write_bytes(b""),
            lambda top: (top / "another").mkdir(),
            lambda top: (top / "empty").rmdir(),
            lambda top: (top / "deep/nothing").unlink() or (top / "deep/nothing").mkdir(),
        )
        for change in changes:
            self.setUp()
            thing = self.tree()
            self.send_and_cut(thing)
            first = self.arrived()
            change(self.here / "d")
            self.assert_anew(thing)
            self.assertEqual(self.shown(), ["d", "d (1)"])
            for path, content in self.arrived().items():
                top, _, below = path.partition("/")
                expected = first[path] if top == "d" else (self.here / "d" / below).read_bytes()
                self.assertEqual(content, expected, path)
            sent = sorted(str(p.relative_to(self.here / "d")) for p in (self.here / "d").rglob("*"))
            came = self.there / "d (1)"
            self.assertEqual(sorted(str(p.relative_to(came)) for p in came.rglob("*")), sent)

    def test_several(self) -> None:
        """Several things are the same together, or new together."""
        things = [self.file(name, name.encode() * 1000) for name in ("a", "b", "c")]
        self.send_and_cut(*things)
        self.delivered(*things)
        self.assertEqual(self.shown(), ["a", "b", "c"])
        self.assertEqual([stored.again for _, stored in self.received], [False] * 3 + [True] * 3)
        self.send_and_cut(*things)
        self.file("c", b"other")
        self.assert_anew(*things)
        self.assertEqual(self.arrived()["a (2)"], b"a" * 1000)
        self.assertEqual(self.arrived()["c (2)"], b"other")

    @PROPERTY
    @given(*(st.dictionaries(st.sampled_from("abcde"), st.sampled_from([b"", b"1", b"12"])),) * 2)
    def test_any_two(self, first: dict[str, bytes], second: dict[str, bytes]) -> None:
        """Of two directories of one name there is one in the end if they are equal, else both."""
        self.setUp()
        top = self.here / "d"
        for content in (first, second):
            shutil.rmtree(top, ignore_errors=True)
            top.mkdir()
            for name, data in content.items():
                (top / name).write_bytes(data)
            if content is first:
                self.send_and_cut(Thing("d", top))
            elif first == second:
                self.delivered(Thing("d", top))
            else:
                self.assert_anew(Thing("d", top))
        expected = {f"d/{name}": data for name, data in first.items()}
        if first != second:
            expected |= {f"d (1)/{name}": data for name, data in second.items()}
        self.assertEqual(self.arrived(), expected)
        self.assertEqual(self.shown(), ["d"] if first == second else ["d", "d (1)"])


class InboxTests(OnceTestCase):
    """What becomes of the inbox meanwhile."""

    def setUp(self) -> None:
        super().setUp()
        self.thing = self.file("a", CONTENT)
        self.send_and_cut(self.thing)

    def test_moved_within(self) -> None:
        """Under another name it is the same."""
        (self.there / "a").rename(self.there / "kept")
        self.assertEqual(self.assert_once(self.thing).path, self.there / "kept")

    def test_nothing_of_it_shows(self) -> None:
        """Whatever was done with what had arrived, its sender is told what it has sent itself."""

        def replace() -> None:
            (self.there / "a").rename(self.here / "elsewhere")
            (self.there / "a").symlink_to(self.here / "elsewhere")

        def edit() -> None:
            with (self.there / "a").open("r+b") as file:
                file.write(b"edited")

        changes: tuple[Callable[[], Any], ...] = (
            lambda: None,
            (self.there / "a").unlink,
            edit,
            lambda: (self.there / "a").write_bytes(b"short"),
            lambda: (self.there / "a").chmod(0o700),
            lambda: os.link(self.there / "a", self.here / "link"),
            replace,
        )
        heard = set()
        for change in changes:
            change()
            before = self.shown()
            protocol, _, wire = self.send(self.thing)
            self.successResultOf(protocol.done)
            heard.add((tuple(protocol._held.of.items()), len(wire.peer.sent), len(wire.sent)))
            self.assertEqual(self.shown(), before)
            for path in (self.there / "a", self.here / "link"):
                path.unlink(missing_ok=True)
            self.send_and_cut(self.thing)
        self.assertEqual(len(heard), 1)

    def test_spying(self) -> None:
        """Who repeats an offer learns nothing of files that others have put beside what it sent."""
        (self.here / "d").mkdir()
        (self.here / "d" / "mine").write_bytes(b"mine")
        thing = Thing("d", self.here / "d")
        self.send_and_cut(thing)
        (self.there / "d" / "mine").write_bytes(b"edited")
        (self.there / "d" / "secret").write_bytes(b"secret")
        alice = self.talk(Offer(("d",), items=2, size=4).encode())
        told = bytes(alice.received)
        self.assertIn(b'"name":"d/mine","size":4', told)
        self.assertIn(hashlib.sha256(b"mine").hexdigest().encode(), told)
        held = [each for each in told.split(b'"answer":"have"') if b'"name":"d/' in each]
        self.assertEqual(len(held), 1)
        alice.out.abortConnection()
        self.network.settle()

    def test_killed_before_it_was_shown(self) -> None:
        """A note of what was about to be shown is not taken for true."""

        def killed(*args: Any) -> str:
            raise SystemExit

        self.delivered(self.thing)
        self.patch(inbox_module, "move_to_free_name", killed)
        deposit = OnceDeposit(self.there, "alice", Offer(("a",), 0, 1, 1), process="first")
        deposit.prepare()
        deposit.take([Item(Kind.FILE, "a", 1), Content(b"1"), Finished()])
        self.assertRaises(SystemExit, deposit.show)
        again = OnceDeposit(self.there, "alice", Offer(("a",), 0, 1, 1), process="second")
        self.addCleanup(again.discard)
        (note,) = self.there.glob(".kdc-partial/*/showing")
        os.close(deposit._new._required._fd)  # as the system does for who is killed
        self.assertEqual([held.size for held in again.prepare()], [1])
        again.take([Item(Kind.FILE, "a", 1), Content(b"2"), Finished()])
        self.assertTrue(note.exists())

    def test_killed_when_it_was_shown(self) -> None:
        """A note that nobody could confirm any more is true if nothing is left to be shown."""
        (note,) = self.there.glob(".kdc-partial/*/shown")
        note.rename(note.with_name("showing"))
        (note.parent / "1").mkdir()
        self.assert_once(self.thing)

    def test_too_late(self) -> None:
        """After an hour it is something new; so it is when the clock was set."""
        for seconds in (partials_module.NOTE_SECONDS + 60, -partials_module.NOTE_SECONDS - 60):
            (note,) = self.there.glob(".kdc-partial/*/shown")
            then = time.time() - seconds
            os.utime(note, (then, then))
            self.assert_new(self.thing)
            self.send_and_cut(self.thing)

    def test_a_note_that_is_none(self) -> None:
        """What is no note, or has no receipts, is none."""
        (note,) = self.there.glob(".kdc-partial/*/shown")
        good = note.read_bytes()
        bad = (b"", b"{", b"[]", b'{"process":1,"attempt":1,"tops":1}', good[:-1])
        for text in (
            *bad,
            good.replace(b'"a"', b'"b"'),
            good.replace(b'"attempt": 1', b'"attempt": 2'),
        ):
            note.write_bytes(text)
            self.assert_new(self.thing)
            (self.there / "a (1)").unlink()
            (self.there / "a").unlink()
            self.send_and_cut(self.thing)
            (note,) = self.there.glob(".kdc-partial/*/shown")

    def test_another_sender(self) -> None:
        """Carol's file of that name and content is hers."""
        protocol = self.send_as("carol", self.thing)
        self.successResultOf(protocol.done)
        self.assertEqual(self.arrived()["a (1)"], CONTENT)
        self.assert_once(self.thing)

    def send_as(self, name: str, thing: Thing) -> SendProtocol:
        sender = self.sender
        self.patch(self, "sender", lambda *args: sender(*args, name=name))
        protocol, _, _ = self.send(thing)
        self.patch(self, "sender", sender)
        return protocol

    def test_changed_at_the_sender(self) -> None:
        """Other content of the same name and size is something new; longer content, too."""
        for content in (CONTENT[1:] + b"x", CONTENT + b"more", CONTENT[:-1]):
            self.file("a", content)
            self.assert_anew(self.thing)
            (path,) = self.there.glob("a (*")
            self.assertEqual(path.read_bytes(), content)
            self.assertEqual((self.there / "a").read_bytes(), CONTENT)
            path.unlink()
            (self.there / "a").unlink()
            self.file("a", CONTENT)
            self.send_and_cut(self.thing)

    def test_restarted(self) -> None:
        """A receiver that was started anew cannot know who has been told of it: it tells again."""
        self.receive(process="second")
        self.assert_once(self.thing, again=False)

    def test_not_shown_after_all(self) -> None:
        """Where a name cannot be given, nothing is noted."""
        self.delivered(self.thing)

        def full(*args: Any) -> str:
            raise OSError(28, "")

        self.patch(inbox_module, "move_to_free_name", full)
        protocol, _, _ = self.send(self.thing)
        self.failed(RefusedByPolicy, protocol)
        self.assertEqual(os.listdir(self.there), ["a"])


class OmittedTests(OnceTestCase):
    """What did not come the first time, or has changed since."""

    def deposit(self) -> OnceDeposit:
        offer = Offer(("d",), items=3, size=10)
        deposit = OnceDeposit(self.there, "alice", offer, process="first")
        self.addCleanup(deposit.discard)
        deposit.prepare()
        deposit.take([Item(Kind.DIRECTORY, "d", 0), Finished()])
        return deposit

    def item(self, name: str, start: int = 0) -> list[Any]:
        content = [Content(b"12345"[start:])] if start < 5 else []
        return [Item(Kind.FILE, name, 5, start=start), *content, Finished()]

    def test_the_same(self) -> None:
        """What was omitted both times, or withdrawn the first time, is no difference."""
        for first in ([], [*self.item("d/b"), Omitted("d/b", Why.CHANGED)]):
            deposit = self.deposit()
            deposit.take([*self.item("d/a"), *first, Omitted("d/b", Why.GONE)])
            (stored,) = deposit.show()
            self.assertEqual((stored.files, stored.size, stored.again), (1, 5, False))
            deposit = self.deposit()
            deposit.take([*self.item("d/a", 5), Omitted("d/b", Why.GONE)])
            self.assertEqual(deposit.show(), [attrs.evolve(stored, again=True)])
            deposit.settled()
            self.assertEqual(self.arrived(), {"d/a": b"12345"})
            shutil.rmtree(self.there / "d")

    def test_otherwise(self) -> None:
        """What has come then, and is omitted now, has to be sent anew."""
        for again in ([], self.item("d/b", 5)):
            deposit = self.deposit()
            deposit.take([*self.item("d/a"), *self.item("d/b")])
            deposit.show()
            deposit = self.deposit()
            arrivals = [*self.item("d/a", 5), *again, Omitted("d/b", Why.GONE)]
            self.assertRaises(Anew, deposit.take, arrivals)
            deposit.discard()
            shutil.rmtree(self.there / "d")


class WhileTests(OnceTestCase):
    """The sender comes again before the first is over."""

    def test_being_stored(self) -> None:
        """It waits until the first is durable, and is the same."""
        waiting: list[Any] = []

        def run(call: Any, *args: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            if getattr(call, "__name__", "") == "show" and not self.shown():
                waiting.append(lambda: done.callback(call(*args)))
            else:
                done.callback(call(*args))
            return done

        self.receive(run=run)
        thing = self.file("a", CONTENT)
        first, _, wire = self.send(thing)
        self.assertEqual(len(waiting), 1)
        wire.abortConnection()
        self.network.settle()
        self.failed(Unconfirmed, first)
        second, _, wire = self.send(thing)
        self.network.advance(60)
        self.assertNoResult(second.done)
        waiting.pop()()
        self.network.settle()
        self.successResultOf(second.done)
        self.assertLess(len(wire.sent), 3000)
        self.assertEqual(self.arrived(), {"a": CONTENT})
        self.assert_quiet()

    def test_ghost(self) -> None:
        """The receiver has not noticed that the connection is gone."""
        thing = self.file("a", CONTENT)
        first, ghost = self.send_unheard(thing)
        ghost.stalled = True
        second, _, wire = self.send(thing)
        self.network.advance(receiver_module.SILENT_SECONDS + 1)
        self.successResultOf(second.done)
        self.assertLess(len(wire.sent), 3000)
        self.assertEqual(self.arrived(), {"a": CONTENT})
        ghost.abortConnection()
        self.network.settle()
        self.failed(Unconfirmed, first)
        self.assertFalse((self.there / DIRECTORY).exists())

    def test_farewell(self) -> None:
        """A sender that has the acknowledgement tells of it soon, though the rest never comes."""
        protocol, _, wire = self.send(self.file("a", CONTENT), settle=False)
        self.step_until(lambda: protocol.phase is Phase.DELIVERED)
        wire.peer.stalled = wire.stalled = True
        self.network.settle()
        self.network.advance(sender_module.FAREWELL_SECONDS)
        self.successResultOf(protocol.done)
        wire.abortConnection()
        self.network.settle()


class HostileTests(OnceTestCase):
    """A sender that lies about what it recognises cheats itself only."""

    def setUp(self) -> None:
        super().setUp()
        self.offer_of_d = Offer(("d",), items=3, size=8)
        (self.here / "d").mkdir()
        for name in "ab":
            (self.here / "d" / name).write_bytes(name.encode() * 4)
        self.send_and_cut(Thing("d", self.here / "d"))
        self.deposit = OnceDeposit(self.there, "alice", self.offer_of_d, process="first")
        self.addCleanup(self.deposit.discard)
        self.assertEqual({held.name for held in self.deposit.prepare()}, {"d/a", "d/b"})
        self.deposit.take([Item(Kind.DIRECTORY, "d", 0), Finished()])

    def item(self, name: str, size: int = 4, start: int = 4) -> list[Any]:
        return [Item(Kind.FILE, name, size, start=start), Finished()]

    def test_otherwise(self) -> None:
        """A name twice, less or more than was told of, any content: it has to begin anew."""
        wrong: tuple[list[Any], ...] = (
            self.item("d/a") * 2,
            self.item("d/a", 4, 3),
            self.item("d/a", 3, 3),
            self.item("d/c"),
            [Item(Kind.FILE, "d/b", 4), Content(b"bbbb"), Finished()],
        )
        for arrivals in wrong:
            self.assertRaises(Anew, self.deposit.take, arrivals)
            self.assertEqual(list(self.there.glob(".kdc-partial/*/shown")), [])
            self.deposit.discard()
            self.deposit = OnceDeposit(self.there, "alice", self.offer_of_d, process="first")
            self.addCleanup(self.deposit.discard)
            self.assertEqual(self.deposit.prepare(), [])
            self.deposit.discard()
            self.setUp()

    def test_less(self) -> None:
        """Nor is a part of it all of it."""
        self.deposit.take(self.item("d/a"))
        self.assertRaises(Anew, self.deposit.show)
