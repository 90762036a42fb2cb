"""What is sent: files, directories, pipes and texts as one stream of bytes."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError, KDCError, LocalIOError
from kdc.protocol.records import EVEN_DATA
from kdc.transfer import source as source_module
from kdc.transfer import survey as survey_module
from kdc.transfer._framing import Content, ItemReader
from kdc.transfer.messages import Held, Item, Kind, Offer
from kdc.transfer.source import CHUNK_BYTES, Outgoing
from kdc.transfer.survey import Thing, skipped_lines, survey, things_of
from tests.support.core import PROPERTY


class OutgoingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def file(self, name: str, content: bytes = b"x") -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def outgoing(self, *things: Thing, held: tuple[Held, ...] = ()) -> Outgoing:
        return Outgoing(things, survey(things), {each.name: each for each in held})

    def read(self, *things: Thing, held: tuple[Held, ...] = ()) -> list[tuple[Item, bytes]]:
        """What a receiver makes of it."""
        out = self.outgoing(*things, held=held)
        reader = ItemReader()
        list(reader.feed(survey(things).offer.encode()))
        found: list[tuple[Item, bytes]] = []
        while data := out.read():
            self.assertLessEqual(len(data), CHUNK_BYTES)
            for event in reader.feed(bytes(data)):
                if isinstance(event, Item):
                    found.append((event, b""))
                elif isinstance(event, Content):
                    found[-1] = found[-1][0], found[-1][1] + event.data
        list(reader.end())
        out.close()
        return found

    def names(self, *things: Thing) -> list[str]:
        return [item.name for item, _ in self.read(*things)]

    def refused(self, expected: type[KDCError], *paths: Path) -> str:
        error = self.assertRaises(expected, lambda: survey(things_of(paths)))
        return f"{error} {error.hint}"


class ThingsTests(OutgoingTestCase):
    """What a person names."""

    def test_names(self) -> None:
        """The receiver sees last components; two of one name are told apart."""
        paths = [self.file(name) for name in ("a/x.y", "b/x.y", "x (1).y", "c/x.y")]
        names = ["x.y", "x (1).y", "x (1) (1).y", "x (2).y"]
        self.assertEqual([t.name for t in things_of(paths)], names)
        self.assertEqual(things_of(paths[:1], "y")[0].name, "y")

    def test_not_to_be_sent(self) -> None:
        """What is not there, or has a name that no receiver takes, is refused at once."""
        self.assertIn("No such file", self.refused(LocalIOError, self.directory / "missing"))
        for name in (".hidden", "-rf", "a\nb", "a\\b"):
            self.assertIn("another name", self.refused(LocalIOError, self.file(name)))
        self.file("d/a\x1bb")
        text = self.refused(LocalIOError, self.directory / "d")
        self.assertIn("rename it", text)
        self.assertTrue(text.isprintable())

    def test_link(self) -> None:
        """A link that a person names is what it points to."""
        (self.directory / "link").symlink_to(self.file("file", b"content"))
        ((item, content),) = self.read(*things_of([self.directory / "link"]))
        self.assertEqual((item.name, content), ("link", b"content"))

    def test_pipe_in_the_middle(self) -> None:
        """What has no end but the last one's must come last."""
        os.mkfifo(self.directory / "pipe")
        self.assertIn(
            "only the last",
            self.refused(ConfigurationError, self.directory / "pipe", self.file("a")),
        )


class SurveyTests(OutgoingTestCase):
    """What is offered is what there is."""

    def test_counts(self) -> None:
        """Files, directories and bytes."""
        self.file("d/e/x", b"123")
        self.file("d/y", b"45")
        surveyed = survey(things_of([self.directory / "d", self.file("z", b"6")]))
        self.assertEqual(surveyed.offer, Offer(("d", "z"), 0, 5, 6))
        text = survey([Thing("note", text=b"hello")])
        self.assertEqual(text.offer, Offer(("note",), 0, 1, 5, True))

    def test_too_many_to_count(self) -> None:
        """A very large tree is not walked twice: its size is not known."""
        self.patch(survey_module, "_MAX_SURVEYED", 3)
        for number in range(5):
            self.file(f"d/{number}")
        things = things_of([self.directory / "d"])
        self.assertEqual(survey(things).offer, Offer(("d",)))
        self.assertEqual(len(self.read(*things)), 6)

    def test_many_names(self) -> None:
        """Of many things the first are named, and the others counted."""
        things = things_of([self.file(f"{number}") for number in range(20)])
        offer = survey(things).offer
        self.assertEqual((len(offer.names), offer.more), (16, 4))
        self.assertEqual(len(self.read(*things)), 20)

    def test_left_out(self) -> None:
        """Links, sockets, pipes and devices in a directory are left out, and named."""
        self.file("d/file")
        (self.directory / "d/link").symlink_to("/etc/passwd")
        (self.directory / "d/loop").symlink_to(".")
        os.mkfifo(self.directory / "d/pipe")
        with socket.socket(socket.AF_UNIX) as listening:
            here = os.getcwd()
            os.chdir(self.directory)  # such a name must be short
            self.addCleanup(os.chdir, here)
            listening.bind("d/socket")
        things = things_of([self.directory / "d"])
        self.assertEqual(
            set(survey(things).skipped),
            {
                "d/link (a symbolic link)",
                "d/loop (a symbolic link)",
                "d/pipe (a pipe)",
                "d/socket (a socket)",
            },
        )
        self.assertEqual(self.names(*things), ["d", "d/file"])
        self.assertEqual(len(skipped_lines(["x"] * 100)), 21)


class StreamTests(OutgoingTestCase):
    """The bytes behind the offer."""

    @PROPERTY
    @given(
        st.dictionaries(
            st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join),
            st.binary(max_size=100_000),
            max_size=8,
        )
    )
    def test_any_tree(self, files: dict[str, bytes]) -> None:
        """Whatever is in a directory comes out again: every file, its directories before it."""
        self.directory = Path(self.mktemp()).absolute()
        (self.directory / "d").mkdir(parents=True)
        kept = {
            path: content
            for path, content in files.items()
            if not any(other.startswith(path + "/") for other in files)
        }
        for path, content in kept.items():
            self.file(f"d/{path}", content)
        found = self.read(*things_of([self.directory / "d"]))
        got = {item.name: content for item, content in found if item.kind is Kind.FILE}
        self.assertEqual(got, {f"d/{path}": content for path, content in kept.items()})
        seen: set[str] = set()
        for item, _ in found:
            above = item.name.rpartition("/")[0]
            self.assertIn(above, {"", *seen})
            seen.add(item.name)

    def test_chunks(self) -> None:
        """Small files go together, and no small records are left over of large ones."""
        out = self.outgoing(*things_of([self.file("large", bytes(3 * CHUNK_BYTES))]))
        lengths = [len(out.read()) for _ in range(3)]
        self.assertEqual([length % EVEN_DATA for length in lengths], [0, 0, 0])
        for number in range(500):
            self.file(f"many/{number}", bytes(100))
        out = self.outgoing(*things_of([self.directory / "many"]))
        self.assertEqual(len(list(iter(out.read, b""))), 1)

    def test_executable(self) -> None:
        """Whether its owner can execute a file goes with it, and nothing else of its mode."""
        path = self.file("a")
        for mode, executable in ((0o755, True), (0o644, False), (0o4700, True), (0o011, False)):
            path.chmod(mode)
            if os.geteuid() and not mode & 0o400:
                continue
            ((item, _),) = self.read(*things_of([path]))
            self.assertEqual(item.executable, executable, oct(mode))

    def test_text(self) -> None:
        """A text goes as one."""
        self.assertEqual(
            self.read(Thing("note", text=b"hello")), [(Item(Kind.TEXT, "note", 5), b"hello")]
        )

    def test_pipe(self) -> None:
        """A pipe is read to its end, as it comes."""
        path = self.directory / "pipe"
        os.mkfifo(path)

        def write() -> None:
            with path.open("wb") as file:
                file.write(b"one")
                file.flush()
                file.write(b"two")

        writer = threading.Thread(target=write)
        writer.start()
        ((item, content),) = self.read(*things_of([path]))
        writer.join()
        self.assertEqual((item.size, content), (None, b"onetwo"))

    def test_stop(self) -> None:
        """Waiting for a pipe that says nothing can be ended."""
        path = self.directory / "pipe"
        os.mkfifo(path)
        fd = os.open(path, os.O_RDWR)
        self.addCleanup(os.close, fd)
        out = self.outgoing(*things_of([path]))
        timer = threading.Timer(0.05, out.stop)
        timer.start()
        while out.read():
            pass
        timer.join()
        out.close()

    def test_stop_before_anybody_writes(self) -> None:
        """So can waiting for a pipe that nobody has opened at the other end."""
        path = self.directory / "pipe"
        os.mkfifo(path)
        out = self.outgoing(*things_of([path]))

        def read() -> None:
            while out.read():
                pass

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        out.stop()
        reader.join(60)
        self.assertFalse(reader.is_alive())
        out.close()

    def test_grows(self) -> None:
        """A log that grows meanwhile is sent as long as it was; one that shrinks is an error."""
        path = self.file("log", b"12345")
        things = things_of([path])
        out = Outgoing(things, survey(things), {})
        path.write_bytes(b"1234567890")
        self.assertTrue(bytes(out.read()).endswith(b"12345"))
        # Nor does it go on behind its end, whatever the receiver has.
        held = Held("log", 10, hashlib.sha256(path.read_bytes()).hexdigest())
        out = Outgoing(things, attrs.evolve(survey(things), sizes={"log": 5}), {"log": held})
        self.assertTrue(bytes(out.read()).endswith(b"12345"))
        big = self.file("big", bytes(2 * CHUNK_BYTES))
        out = self.outgoing(*things_of([big]))
        out.read()
        os.truncate(big, 10)
        self.assertIn("shorter", str(self.assertRaises(LocalIOError, out.read)))

    def test_more_than_offered(self) -> None:
        """A directory that gets more while it is sent is not sent: it was offered otherwise."""
        self.file("d/a", b"1")
        things = things_of([self.directory / "d"])
        surveyed = survey(things)
        for name, content in (("d/b", b""), ("d/a", b"longer")):
            path = self.file(name, content)
            out = Outgoing(things, surveyed, {})
            self.assertIn("while it was sent", str(self.assertRaises(LocalIOError, out.read)))
            if name == "d/b":
                path.unlink()

    def test_swapped_for_a_link(self) -> None:
        """What was a file in a directory and is a link by now is not followed."""
        self.file("d/a", b"1")
        things = things_of([self.directory / "d"])
        surveyed, walked = survey(things), list(survey_module.walk(things[0], []))
        self.patch(source_module, "walk", lambda thing, skipped: iter(walked))
        (self.directory / "d/a").unlink()
        (self.directory / "d/a").symlink_to(self.file("secret", b"2"))
        self.assertRaises(LocalIOError, Outgoing(things, surveyed, {}).read)
        (self.directory / "d/a").unlink()
        os.mkfifo(self.directory / "d/a")
        self.assertRaises(LocalIOError, Outgoing(things, surveyed, {}).read)


class HeldTests(OutgoingTestCase):
    """What the receiver has already."""

    def test_left_out(self) -> None:
        """Only what it has proved to have is left out, and counts as done."""
        content = os.urandom(5000)
        thing = things_of([self.file("a", content)])[0]

        def digest(count: int) -> str:
            return hashlib.sha256(content[:count]).hexdigest()

        for held, start in (
            (Held("a", 3000, digest(3000)), 3000),
            (Held("a", 5000, digest(5000)), 5000),
            (Held("a", 3000, digest(2999)), 0),
            (Held("a", 5001, digest(5000)), 0),
            (Held("b", 3000, digest(3000)), 0),
        ):
            ((item, rest),) = self.read(thing, held=(held,))
            self.assertEqual((item.start, item.size, rest), (start, 5000, content[start:]))
            out = self.outgoing(thing, held=(held,))
            out.read()
            self.assertEqual((out.done, out.spared), (5000, start))
