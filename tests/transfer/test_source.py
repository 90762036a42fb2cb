"""What is sent: files, directories, pipes and texts as one stream of bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError, KDCError, LocalIOError
from kdc.hostile_text import shown
from kdc.protocol.records import EVEN_DATA
from kdc.transfer._framing import Content, ItemReader
from kdc.transfer.exclusion import exclusion
from kdc.transfer.messages import Held, Item, Kind, Offer, Omitted, Remark, Why
from kdc.transfer.source import CHUNK_BYTES, Outgoing
from kdc.transfer.survey import Survey, Thing, Unsendable, lines_of, survey, things_of
from kdc.transfer.walk import Choice, Problem
from tests.support.core import PROPERTY
from tests.support.rereading import ReadLater


@attrs.define
class Sent:
    """What is there at the end, by name, and what was said not to be."""

    items: dict[str, tuple[Item, bytes]] = attrs.field(factory=dict)
    omitted: list[Omitted] = attrs.field(factory=list)

    @property
    def contents(self) -> dict[str, bytes]:
        return {name: content for name, (_, content) in self.items.items()}


_AGAIN = OSError(errno.EAGAIN, "it is not in memory")
_NOT_SUPPORTED = OSError(errno.EOPNOTSUPP, "this file system does not know")


class Cached:
    """In the place of `os.preadv`: so many bytes are in memory, or none; in the end, all are."""

    def __init__(self, *answers: int | OSError) -> None:
        self._answers = iter(answers)

    def __call__(self, fd: int, rooms: list[memoryview], at: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        answer = next(self._answers, len(rooms[0]))
        if isinstance(answer, OSError):
            raise answer
        data = os.pread(fd, min(answer, len(rooms[0])), at)
        rooms[0][: len(data)] = data
        return len(data)


class OutgoingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def file(self, name: str, content: bytes = b"x") -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def outgoing(self, *things: Thing, held: tuple[Held, ...] = (), **how: Any) -> Outgoing:
        return Outgoing(survey(things), {each.name: each for each in held}, **how)

    def sent(
        self,
        out: Outgoing,
        offer: Offer,
        between: Callable[[int], object] = lambda n: None,
        *,
        at_once: bool = False,
    ) -> Sent:
        """What a receiver makes of it; ``between`` is called after each chunk that was read."""
        reader = ItemReader()
        list(reader.feed(offer.encode()))
        found = Sent()
        count = 0
        while data := (at_once and out.read_at_once()) or out.read():
            for event in reader.feed(bytes(data)):
                if isinstance(event, Item):
                    found.items[event.name] = event, b""
                elif isinstance(event, Content):
                    item, content = found.items.popitem()[1]
                    found.items[item.name] = item, content + event.data
                elif isinstance(event, Omitted):
                    found.items.pop(event.name, None)
                    found.omitted.append(event)
            between(count)
            count += 1
        list(reader.end())
        out.close()
        return found

    def read(
        self, *things: Thing, held: tuple[Held, ...] = (), **how: Any
    ) -> list[tuple[Item, bytes]]:
        """The same, of what does not change."""
        sent = self.sent(self.outgoing(*things, held=held, **how), survey(things).offer)
        self.assertEqual(sent.omitted, [])
        return list(sent.items.values())

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

    def test_names_that_cannot_be_looked_at(self) -> None:
        """The survey says what is wrong, not whoever gives them their names."""
        path = self.directory / ("x" * 300)
        self.assertFalse(things_of([path])[0].is_directory)
        self.assertIn("255 is the most", self.refused(LocalIOError, path))

    def test_not_to_be_sent(self) -> None:
        """What is not there, or has a name that no receiver takes, is refused at once."""
        self.assertIn("No such file", self.refused(Unsendable, self.directory / "missing"))
        for name in (".hidden", "-rf", "a\nb", "a\\b"):
            self.assertIn("another name", self.refused(Unsendable, self.file(name)))
        self.assertIn("no name of its own", self.refused(Unsendable, Path("/")))
        with socket.socket(socket.AF_UNIX) as listening:
            here = os.getcwd()
            self.addCleanup(os.chdir, here)
            os.chdir(self.directory)
            listening.bind("socket")
            self.assertIn("is a socket", self.refused(Unsendable, self.directory / "socket"))

    def test_all_of_them(self) -> None:
        """Each name that cannot be sent is told, with the rule it breaks; the rest can be."""
        odd = {
            "Icon\r": "U+000D",
            "a\tb": "U+0009",
            "a\nb": "U+000A",
            "a\\b": "leads elsewhere",
            os.fsdecode(b"caf\xe9"): "not UTF-8",
        }
        for name in odd:
            self.file(f"d/{name}")
            self.file(f"d/{name}-directory/with a good one")
        self.file("d/ok", b"1")
        missing = self.directory / "missing"
        surveyed = survey(things_of([self.directory / "d", missing, self.file(".hidden")]))
        told = {problem.name: problem.why for problem in surveyed.problems}
        for name, why in odd.items():
            self.assertIn(why, told.pop(f"d/{name}"))
            self.assertIn(why, told.pop(f"d/{name}-directory"))
        self.assertEqual(told.keys(), {str(missing), str(self.directory / ".hidden")})
        self.assertEqual(surveyed.offer, Offer(("d",), 0, 2, 1))
        out = Outgoing(surveyed, {}, remarks={Remark.OMISSIONS})
        sent = self.sent(out, surveyed.offer)
        self.assertEqual(sent.contents, {"d": b"", "d/ok": b"1"})
        self.assertEqual((out.left_out, sent.omitted), ({}, []))
        for problem in surveyed.problems:
            self.assertTrue(str(problem).isprintable())

    def test_deep_and_long(self) -> None:
        """So is what lies too deep, or has too long a path."""
        self.file("d/" + "x/" * 62 + "deep enough")
        self.file("d/" + "x/" * 63 + "too deep")
        # By its whole path nobody can remove it.
        self.addCleanup(shutil.rmtree, self.directory / "e")
        self.file("e/" + ("y" * 250 + "/") * 15 + "long enough")
        fd = os.open(self.directory / ("e/" + ("y" * 250 + "/") * 15), os.O_RDONLY)
        self.addCleanup(os.close, fd)
        os.mkdir("z" * 255, dir_fd=fd)
        os.close(os.open("z" * 255 + "/w", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        surveyed = survey(things_of([self.directory / "d", self.directory / "e"]))
        deep, long = surveyed.problems
        self.assertIn("directories deep", deep.why)
        self.assertIn("too long", long.why)

    def test_in_their_order(self) -> None:
        """All that cannot be sent is told in the order of the names, whatever the disk's is."""
        names = [f"{letter}\t" for letter in "qxaznb"]
        for name in names:
            self.file(f"d/{name}")
        told = [problem.name for problem in survey(things_of([self.directory / "d"])).problems]
        self.assertEqual(told, [f"d/{name}" for name in sorted(names)])

    def test_made_when_it_is_read(self) -> None:
        """A file that says that it is empty, and is not, is read to its end."""
        ((item, content),) = self.read(*things_of([Path("/proc/version")]))
        self.assertEqual((item.size, content), (None, Path("/proc/version").read_bytes()))
        ((item, content),) = self.read(*things_of([self.file("empty", b"")]))
        self.assertEqual((item.size, content), (0, b""))

    def test_made_when_it_is_read_in_a_directory(self) -> None:
        """There its length has to be known: that it came without its content is told."""
        out = self.outgoing(*things_of([Path("/proc/sys/kernel/random")]))
        while out.read():
            pass
        out.close()
        self.assertIn("made when it is read", out.left_out["random/uuid"].why)

    def test_may_not_be_read(self) -> None:
        """What cannot be read is told before anything is sent."""
        self.file("d/secret").chmod(0)
        self.file("d/ok")
        real = os.access
        self.patch(os, "access", lambda path, mode: "secret" not in str(path) and real(path, mode))
        surveyed = survey(things_of([self.directory / "d"]))
        self.assertEqual(surveyed.problems, (Problem("d/secret", "Permission denied"),))
        sent = self.sent(Outgoing(surveyed, {}), surveyed.offer)
        self.assertEqual(sent.items.keys(), {"d", "d/ok"})

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
        for number in range(5):
            self.file(f"d/{number}")
        things = things_of([self.directory / "d"])
        surveyed = survey(things, most=3)
        self.assertEqual(surveyed.offer, Offer(("d",)))
        self.file("d/another")  # nobody knows whether it has come since
        self.assertEqual(len(self.sent(Outgoing(surveyed, {}), surveyed.offer).items), 7)

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
        self.assertEqual(len(lines_of("left out", ["x"] * 100)), 21)


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

    def test_at_once(self) -> None:
        """What is in memory is read without waiting; and nothing but the middle of a file."""
        content = os.urandom(5 * CHUNK_BYTES + 9)
        for answers in ((), (9, CHUNK_BYTES - 10), (_AGAIN,), (_NOT_SUPPORTED, 9, _AGAIN)):
            self.patch(os, "preadv", Cached(*answers))
            out = self.outgoing(*things_of([self.file("large", content)]))
            self.assertIsNone(out.read_at_once())
            chunks, read_at_once = [bytes(out.read())], 0
            while True:
                chunk = out.read_at_once()
                read_at_once += chunk is not None
                chunk = out.read() if chunk is None else chunk
                if not chunk:
                    break
                chunks.append(bytes(chunk))
            self.assertGreater(read_at_once, 2)
            stream = b"".join(chunks)
            self.assertEqual(stream[-len(content) :], content)
            self.assertEqual(out.done, len(content))
            self.assertLess(len(stream) - len(content), EVEN_DATA)
            self.assertIsNone(out.read_at_once())

    def test_at_once_after_the_one_before(self) -> None:
        """While one chunk is sent another is read, whoever reads it."""
        self.patch(os, "preadv", Cached(_AGAIN))
        content = os.urandom(4 * CHUNK_BYTES)
        out = self.outgoing(*things_of([self.file("large", content)]))
        first = out.read()
        before = bytes(first)
        self.assertIsNone(out.read_at_once())
        second = out.read()
        self.assertEqual(bytes(first), before)
        after = bytes(second)
        self.assertIsNotNone(out.read_at_once())
        self.assertEqual(bytes(second), after)

    def test_at_once_but_shorter(self) -> None:
        """It has become shorter: that is told as if it had been read otherwise."""
        path = self.file("large", bytes(5 * CHUNK_BYTES))
        self.patch(os, "preadv", Cached())
        surveyed = survey(things_of([path]))
        out = Outgoing(surveyed, {}, remarks={Remark.OMISSIONS})

        def shorten(count: int) -> None:
            if not count:
                os.truncate(path, 10)

        found = self.sent(out, surveyed.offer, shorten, at_once=True)
        self.assertEqual(found.contents, {"large": bytes(10)})
        self.assertEqual(found.omitted, [Omitted("large", Why.CHANGED, again=True)])

    def test_no_more_than_is_needed(self) -> None:
        """What is little takes little memory, and what is much no more than a chunk."""
        for size, room in ((0, 1), (10_000, 1), (100_000, 2), (10_000_000, 8)):
            out = self.outgoing(*things_of([self.file(f"of {size}", bytes(size))]))
            chunk: Any = out.read().obj
            self.assertEqual(len(chunk), room * EVEN_DATA, size)
            out.close()

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


class ChoiceTests(OutgoingTestCase):
    """What of directories is sent, and how."""

    def chosen(self, **choice: Any) -> tuple[Sent, Survey]:
        surveyed = survey(things_of([self.directory / "d"]), Choice(**choice))
        out = Outgoing(surveyed, {}, remarks=set(Remark))
        sent = self.sent(out, surveyed.offer)
        self.assertEqual((sent.omitted, out.left_out), ([], {}))
        return sent, surveyed

    def test_times_and_modes(self) -> None:
        """They go with files and directories: permissions only, and only if they shall."""
        path = self.file("d/e/run", b"1")
        path.chmod(0o6754)
        os.utime(path, ns=(5, -1_500_000_000_123_456_789))
        path.parent.chmod(0o1777)
        os.utime(path.parent, ns=(5, 77))
        sent, _ = self.chosen()
        item, _ = sent.items["d/e/run"]
        self.assertEqual((item.mode, item.modified), (0o754, -1_500_000_000_123_456_789))
        item, _ = sent.items["d/e"]
        self.assertEqual((item.mode, item.modified), (0o777, 77))
        sent, _ = self.chosen(preserve=False)
        for item, _ in sent.items.values():
            self.assertEqual((item.mode, item.modified), (None, None))
        # Nor to a receiver that knows nothing of them.
        surveyed = survey(things_of([self.directory / "d"]))
        for item, _ in self.sent(Outgoing(surveyed, {}), surveyed.offer).items.values():
            self.assertEqual(item.details, {})

    def test_holes(self) -> None:
        """That a file has holes is said of those that have."""
        self.file("d/full", bytes(200_000))
        os.truncate(self.file("d/holes", b"1"), 1 << 20)
        sent, _ = self.chosen()
        self.assertEqual(
            {name: item.sparse for name, (item, _) in sent.items.items()},
            {"d": False, "d/full": False, "d/holes": True},
        )
        self.assertEqual(sent.contents["d/holes"], b"1" + bytes((1 << 20) - 1))

    def test_links(self) -> None:
        """A link is what it points to, if that is in the same tree, and nothing goes round."""
        self.file("d/e/file", b"1")
        self.file("outside", b"2")
        for name, target in (
            *(("d/to file", "e/file"), ("d/to directory", "e"), ("d/e/up", "to file")),
            *(("d/e/here", "."), ("d/e/top", ".."), ("d/out", "../outside"), ("d/etc", "/etc")),
            *(("d/nothing", "nowhere"), ("d/loop", "loop"), ("d/top", str(self.directory / "d"))),
        ):
            (self.directory / name).symlink_to(target)
        (self.directory / "d/e/up").unlink()
        (self.directory / "d/e/up").symlink_to("../to file")
        os.mkfifo(self.directory / "d/pipe")
        (self.directory / "d/to pipe").symlink_to("pipe")
        sent, surveyed = self.chosen(follow=True)
        below = {"file": b"1", "up": b"1"}
        self.assertEqual(
            sent.contents,
            {
                "d": b"",
                "d/e": b"",
                "d/to directory": b"",
                "d/to file": b"1",
                **{f"d/e/{name}": content for name, content in below.items()},
                **{f"d/to directory/{name}": content for name, content in below.items()},
            },
        )
        self.assertEqual(
            set(surveyed.skipped),
            {
                "d/pipe (a pipe)",
                '"d/to pipe" (a pipe)',
                *(f"d/{name} (a symbolic link that leads out)" for name in ("out", "etc")),
                "d/nothing (a symbolic link to nothing)",
                "d/loop (a symbolic link to nothing)",
                "d/top (a symbolic link to a directory that it is in)",
                *(
                    f"{shown(f'd/{directory}/{name}')}"
                    " (a symbolic link to a directory that it is in)"
                    for directory in ("e", "to directory")
                    for name in ("here", "top")
                ),
            },
        )

    def test_two_that_lead_to_each_other(self) -> None:
        """Two directories whose links lead to each other do not go on for ever."""
        self.file("d/a/x", b"1")
        self.file("d/b/y", b"2")
        (self.directory / "d/a/b").symlink_to("../b")
        (self.directory / "d/b/a").symlink_to("../a")
        sent, _ = self.chosen(follow=True)
        self.assertEqual(sent.contents["d/a/b/y"], b"2")
        self.assertNotIn("d/a/b/a", sent.items)

    def test_excluded(self) -> None:
        """What a pattern names does not exist for us; nor does what is in it."""
        for name in ("a.o", "keep.o", "src/b.o", "build/x", "src/build/y", "src/c.c", "build.c"):
            self.file(f"d/{name}", b"1")
        (self.directory / "d/build/odd\n").mkdir()
        excluded = exclusion(["*.o", "!keep.o", "/build/", "# no pattern"])
        sent, surveyed = self.chosen(excluded=excluded)
        self.assertEqual(surveyed.problems, ())
        self.assertEqual(
            {name for name, (item, _) in sent.items.items() if item.kind is Kind.FILE},
            {"d/keep.o", "d/src/c.c", "d/src/build/y", "d/build.c"},
        )
        error = self.assertRaises(ConfigurationError, exclusion, ["a", "!"])
        self.assertIn(".gitignore", str(error))

    def test_excluded_behind_links(self) -> None:
        """What is left out does not come under another name, by a link to it or around it."""
        for name in ("secret/key", "open/deep/key", "open/file"):
            self.file(f"d/{name}", b"1")
        for name, target in (
            *(("to secret", "secret"), ("to key", "secret/key"), ("to open", "open")),
            *(("to deep", "open/deep"), ("to file", "open/file")),
        ):
            (self.directory / "d" / name).symlink_to(target)
        excluded = exclusion(["/secret/", "/open/deep/key"])
        sent, surveyed = self.chosen(follow=True, excluded=excluded)
        self.assertEqual(
            {name for name, (item, _) in sent.items.items() if item.kind is Kind.FILE},
            {"d/open/file", "d/to open/file", "d/to file"},
        )
        self.assertEqual(
            set(surveyed.skipped),
            {f'"d/to {name}" (a symbolic link to what is left out)' for name in ("secret", "key")},
        )

    def test_without_pathspec(self) -> None:
        """Where the package is missing, that is said, and how to get it."""
        exclusion(["a"])
        there = sys.modules["pathspec"]
        self.addCleanup(sys.modules.__setitem__, "pathspec", there)
        sys.modules["pathspec"] = None  # type: ignore[assignment]
        error = self.assertRaises(ConfigurationError, exclusion, ["a"])
        self.assertIn("pathspec", str(error))
        self.assertIn("kdc-twisted[exclude]", error.hint)


class ChangingTests(OutgoingTestCase):
    """What is sent changes while it is read: nothing that never was arrives, and all is told."""

    CHUNK = 1000

    def changing(
        self, change: Callable[[int], object], *names: str, **how: Any
    ) -> tuple[Sent, dict[str, Problem]]:
        """Send these; ``change`` is called with -1 after the survey, then after each chunk."""
        things = things_of([self.directory / name for name in names])
        surveyed = survey(things)
        change(-1)
        how = {"remarks": {Remark.OMISSIONS}, "chunk_bytes": self.CHUNK, **how}
        out = Outgoing(surveyed, how.pop("held", {}), **how)
        return self.sent(out, surveyed.offer, change), out.left_out

    def test_grows_before(self) -> None:
        """A log that has grown since the survey is sent as long as it was, and that is told."""
        self.file("d/log", b"12345")
        self.file("d/other", b"o")

        def grow(step: int) -> None:
            self.file("d/log", b"1234567890")

        for omissions in (True, False):
            self.file("d/log", b"12345")
            sent, left_out = self.changing(
                grow, "d", remarks={Remark.OMISSIONS} if omissions else ()
            )
            self.assertEqual(sent.contents, {"d": b"", "d/log": b"12345", "d/other": b"o"})
            self.assertEqual(sent.omitted, [])
            self.assertEqual(left_out.keys(), {"d/log"})
            self.assertIn("first 5 bytes", left_out["d/log"].why)

    def test_comes_meanwhile(self) -> None:
        """What comes into a directory after it was looked into is left out, and told."""
        self.file("d/a", bytes(5000))
        self.file("d/e/b", b"1")

        def come(step: int) -> None:
            if step == 1:
                self.file("d/new", b"1")
                self.file("d/more/new", b"1")
                self.file("d/e/odd\n", b"1")

        sent, left_out = self.changing(come, "d")
        self.assertEqual(sent.items.keys(), {"d", "d/a", "d/e", "d/e/b"})
        self.assertEqual(left_out.keys(), {"d/new", "d/more", "d/e/odd\n"})
        self.assertIn("it came while", left_out["d/more"].why)

    def test_held_is_read_once(self) -> None:
        """To compare it with what the receiver has, and to know whether it changes later."""
        whole = os.urandom(300_000)
        (thing,) = things_of([self.file("log", whole)])
        held = Held("log", 200_000, hashlib.sha256(whole[:200_000]).hexdigest())
        read, count = os.read, [0]

        def counted(fd: int, most: int) -> bytes:
            data = read(fd, most)
            count[0] += len(data)
            return data

        self.patch(os, "read", counted)
        out = self.outgoing(thing, held=(held,))
        while out.read():
            pass
        self.assertEqual(out.spared, held.size)
        self.assertEqual(count, [held.size])

    def compared_later(self, thing: Thing, held: Held) -> tuple[Outgoing, Sent]:
        """What is held is read when some of the rest has gone."""
        later = ReadLater()
        how: dict[str, Any] = {"remarks": {Remark.OMISSIONS}, "rereading": lambda: later}
        out = self.outgoing(thing, held=(held,), chunk_bytes=50_000, long_bytes=200_000, **how)
        done: list[int] = []

        def between(count: int) -> None:
            done.append(out.done)
            later.read()

        sent = self.sent(out, survey([thing]).offer, between)
        self.assertGreater(done[0], held.size)
        return out, sent

    def test_long_is_compared_later(self) -> None:
        """The rest goes at once; whether what is held is right is known before the end."""
        whole = os.urandom(300_000)
        (thing,) = things_of([self.file("log", whole)])
        for wrong in (False, True):
            digest = hashlib.sha256(whole[wrong:][:200_000]).hexdigest()
            out, sent = self.compared_later(thing, Held("log", 200_000, digest))
            item, content = sent.items["log"]
            self.assertEqual(item.start, 0 if wrong else 200_000)
            self.assertEqual(content, whole[item.start :])
            again = [Omitted("log", Why.CHANGED, again=True)]
            self.assertEqual(sent.omitted, again if wrong else [])
            self.assertEqual((out.spared, out.done), (item.start, len(whole)))
            self.assertEqual(out.left_out, {})

    def test_long_is_compared_first(self) -> None:
        """Where nothing can be withdrawn, or nothing is left to send, or it has grown since."""
        whole = os.urandom(300_000)
        path = self.file("log", whole)
        (thing,) = things_of([path])
        for size, remarks in ((200_000, ()), (300_000, (Remark.OMISSIONS,))):
            for wrong in (False, True):
                held = Held("log", size, hashlib.sha256(whole[wrong:][:size]).hexdigest())
                read = self.read(thing, held=(held,), remarks=remarks, long_bytes=1)
                start = 0 if wrong else size
                self.assertEqual(
                    [(item.start, data) for item, data in read], [(start, whole[start:])]
                )
        held = Held("log", 200_000, hashlib.sha256(whole[1:][:200_000]).hexdigest())
        out = self.outgoing(thing, held=(held,), remarks={Remark.OMISSIONS}, long_bytes=1)
        offer = survey([thing]).offer
        path.write_bytes(whole + b"more")
        found = self.sent(out, offer)
        self.assertEqual((found.contents, found.omitted), ({"log": whole}, []))

    def test_long_and_given_up(self) -> None:
        """Who waits for it to be compared goes on when it is stopped; nothing stays open."""
        before = len(os.listdir("/proc/self/fd"))
        whole = os.urandom(100_000)
        (thing,) = things_of([self.file("log", whole)])
        held = Held("log", 90_000, hashlib.sha256(b"").hexdigest())
        out = self.outgoing(thing, held=(held,), remarks={Remark.OMISSIONS}, long_bytes=1)
        self.assertTrue(out.read())
        out.stop()
        out.read()
        out.close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_held_behind_the_end(self) -> None:
        """It does not go on behind its end of then, whatever the receiver has."""
        whole = b"1234567890"
        held = {"log": Held("log", 10, hashlib.sha256(whole).hexdigest())}
        self.file("log", whole[:5])
        sent, _ = self.changing(lambda n: self.file("log", whole), "log", held=held)
        self.assertEqual(sent.contents, {"log": whole[:5]})

    def test_grows_meanwhile(self) -> None:
        """A log that is written to all the time arrives as it was: it is not taken for changed."""
        path = self.file("d/log", bytes(range(200)) * 25)
        before = path.read_bytes()

        def grow(step: int) -> None:
            with path.open("ab") as file:
                file.write(b"another line\n")

        sent, left_out = self.changing(grow, "d")
        self.assertEqual(sent.contents["d/log"], before)
        self.assertEqual(left_out.keys(), {"d/log"})

    def test_in_place(self) -> None:
        """A file that is written over while it is read is read again: no mixture arrives."""
        old, new = b"a" * 5000, b"b" * 5000
        path = self.file("d/file", old)
        self.file("d/x", b"next")

        def write(step: int) -> None:
            if step == 1:
                path.write_bytes(new)

        sent, left_out = self.changing(write, "d")
        self.assertEqual(sent.contents, {"d": b"", "d/file": new, "d/x": b"next"})
        self.assertEqual(sent.omitted, [Omitted("d/file", Why.CHANGED, again=True)])
        self.assertEqual(left_out, {})

    def test_in_place_again_and_again(self) -> None:
        """One that never holds still is read three times, then left out by its name."""
        path = self.file("d/file", bytes(5000))
        self.file("d/x", b"next")
        sent, left_out = self.changing(lambda n: path.write_bytes(os.urandom(5000)), "d")
        self.assertEqual(sent.contents, {"d": b"", "d/x": b"next"})
        again = Omitted("d/file", Why.CHANGED, again=True)
        self.assertEqual(sent.omitted, [again, again, attrs.evolve(again, again=False)])
        self.assertEqual(left_out["d/file"].why, "it changed while it was read")

    def test_all_that_there_is(self) -> None:
        """If nothing is left to be sent that is an error, with its name."""
        path = self.file("file", bytes(5000))

        def change(step: int) -> None:
            path.write_bytes(os.urandom(5000))

        self.assertIn("file", str(self.assertRaises(Unsendable, self.changing, change, "file")))
        path.write_bytes(bytes(10))
        self.assertRaises(Unsendable, self.changing, lambda n: path.unlink(True), "file")

    def test_to_one_that_cannot_forget(self) -> None:
        """A receiver that takes nothing back gets no mixture for a file, but no end."""
        path = self.file("file", bytes(5000))

        def change(step: int) -> None:
            path.write_bytes(bytes(2000) + os.urandom(3000))

        error = self.assertRaises(Unsendable, self.changing, change, "file", remarks=())
        self.assertIn("changed while it was read", str(error))
        # But what is touched or grows, and is what it was, comes to its end.
        path.write_bytes(bytes(5000))
        sent, _ = self.changing(lambda n: os.utime(path), "file", remarks=())
        self.assertEqual(sent.contents, {"file": bytes(5000)})

    def test_shorter(self) -> None:
        """A file that is cut while it is read is read again; what was announced comes first."""
        path = self.file("d/file", b"a" * 5000)

        def cut(step: int) -> None:
            if step == 1:
                os.truncate(path, 10)

        sent, left_out = self.changing(cut, "d")
        self.assertEqual((sent.contents["d/file"], left_out), (b"a" * 10, {}))
        self.file("d/file", b"a" * 5000)
        self.assertRaises(Unsendable, self.changing, cut, "d", remarks=())

    def test_cannot_be_read(self) -> None:
        """A disk that fails in one file costs that file."""
        self.file("d/bad", bytes(5000))
        self.file("d/good", b"1")
        real = os.readv

        def failing(fd: int, rooms: Any) -> int:
            if os.readlink(f"/proc/self/fd/{fd}").endswith("bad"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(fd, rooms)

        self.patch(os, "readv", failing)
        sent, left_out = self.changing(lambda n: None, "d")
        self.assertEqual(sent.contents, {"d": b"", "d/good": b"1"})
        self.assertEqual(sent.omitted, [Omitted("d/bad", Why.UNREADABLE)])
        self.assertIn("cannot be read", left_out["d/bad"].why)

    def test_comes_and_goes(self) -> None:
        """What comes is left out, what is gone is told; the rest arrives."""
        for name in ("a", "b/x", "b/y", "z"):
            self.file(f"d/{name}", b"1")

        def change(step: int) -> None:
            if step == -1:
                shutil.rmtree(self.directory / "d/b")
                (self.directory / "d/a").unlink()
                self.file("d/new", b"2")
                self.file("d/c/new", b"3")

        for omissions in (True, False):
            for name in ("a", "b/x", "b/y", "z"):
                self.file(f"d/{name}", b"1")
            shutil.rmtree(self.directory / "d/c", ignore_errors=True)
            (self.directory / "d/new").unlink(missing_ok=True)
            sent, left_out = self.changing(
                change, "d", remarks={Remark.OMISSIONS} if omissions else ()
            )
            self.assertEqual(sent.contents, {"d": b"", "d/z": b"1"})
            self.assertEqual(left_out.keys(), {"d/a", "d/b", "d/new", "d/c"})
            self.assertIn("gone", left_out["d/a"].why)
            self.assertIn("came", left_out["d/new"].why)
            gone = [Omitted("d/a", Why.GONE), Omitted("d/b", Why.GONE)]
            self.assertEqual(sent.omitted, gone if omissions else [])

    def test_gone_at_the_top(self) -> None:
        """Of several things one may go; one that takes nothing back is not sent the others."""
        for name in ("a", "b", "c"):
            self.file(name, b"1")

        def change(step: int) -> None:
            (self.directory / "b").unlink(missing_ok=True)

        sent, left_out = self.changing(change, "a", "b", "c")
        self.assertEqual(sent.contents, {"a": b"1", "c": b"1"})
        self.assertEqual((sent.omitted, left_out.keys()), ([Omitted("b", Why.GONE)], {"b"}))
        self.file("b", b"1")
        self.assertRaises(Unsendable, self.changing, change, "a", "b", "c", remarks=())

    def test_gone_between_two_readings(self) -> None:
        """What is to be read again and is not there is gone."""
        path = self.file("d/file", bytes(5000))

        def change(step: int) -> None:
            if step == 1:
                path.unlink()
                path.write_bytes(b"other")
            if step >= 1:
                path.unlink(missing_ok=True)

        self.file("d/hold", b"")
        os.link(path, self.directory / "hold")  # so that ctime changes
        sent, left_out = self.changing(change, "d")
        self.assertEqual(sent.contents, {"d": b"", "d/hold": b""})
        self.assertEqual(sent.omitted[-1], Omitted("d/file", Why.GONE))
        self.assertEqual(left_out.keys(), {"d/file"})

    def test_another_kind(self) -> None:
        """What is a link, a pipe or a directory by now, and was a file, is not sent."""
        secret = self.file("secret", b"s")
        for swap in (
            lambda path: path.symlink_to(secret),
            os.mkfifo,
            lambda path: path.mkdir(),
        ):
            path = self.file("d/a", b"1")
            self.file("d/ok", b"1")

            def change(step: int, swap: Any = swap, path: Path = path) -> None:
                if step == -1:
                    path.unlink()
                    swap(path)

            sent, left_out = self.changing(change, "d")
            self.assertEqual(sent.contents, {"d": b"", "d/ok": b"1"})
            self.assertIn("d/a", left_out)
            shutil.rmtree(self.directory / "d")

    def test_swapped_for_a_link(self) -> None:
        """Even if it becomes one between being found and being opened."""
        self.file("d/a", b"1")
        self.file("d/ok", b"1")
        secret = self.file("secret", b"s")
        real = os.open

        def opened(path: Any, flags: int, *args: Any, **named: Any) -> int:
            if str(path).endswith("d/a") and not os.path.islink(path):
                os.unlink(path)
                os.symlink(secret, path)
            return real(path, flags, *args, **named)

        self.patch(os, "open", opened)
        sent, _ = self.changing(lambda n: None, "d")
        self.assertEqual(sent.contents, {"d": b"", "d/ok": b"1"})
        self.assertEqual(sent.omitted, [Omitted("d/a", Why.CHANGED)])

    def happens(self, path: Path, how: str, at: int) -> bytes:
        """Do that to a file; return what is in it then."""
        content = path.read_bytes() if path.exists() else b""
        if how in ("remove", "replace"):
            path.unlink(missing_ok=True)
        if how == "remove":
            return b""
        after = {
            "append": content + bytes([at + 100]) * 700,
            "cut": content[: len(content) // 2],
            "touch": content,
        }.get(how, bytes([at + 150]) * (len(content) or 1500))
        path.write_bytes(after)
        return after

    @PROPERTY
    @given(
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 4000), min_size=1),
        st.lists(
            st.tuples(
                st.integers(-1, 20),
                st.sampled_from("abcd"),
                st.sampled_from(("append", "over", "cut", "touch", "remove", "replace")),
            ),
            max_size=6,
        ),
    )
    def test_any_changes(self, files: dict[str, int], changes: list[tuple[int, str, str]]) -> None:
        """Whatever happens, a file that arrives is one that was there, or the beginning of one
        that is told; and everything that was there arrives or is told."""
        self.directory = Path(self.mktemp()).absolute()
        versions: dict[str, list[bytes]] = {}
        for name, size in files.items():
            content = bytes([len(versions) + 1]) * size
            self.file(f"d/{name}", content)
            versions[name] = [content]

        def change(step: int) -> None:
            for at, name, how in changes:
                if at == step:
                    content = self.happens(self.directory / "d" / name, how, at)
                    versions.setdefault(name, []).append(content)

        sent, left_out = self.changing(change, "d")
        self.assertLessEqual(sent.contents.keys(), {"d", *(f"d/{name}" for name in files)})
        for name, content in sent.contents.items():
            if name == "d":
                continue
            was = versions[name.removeprefix("d/")]
            if name in left_out:
                self.assertTrue(any(each.startswith(content) for each in was), (name, content[:9]))
            else:
                self.assertIn(content, was)
        for name in files:
            self.assertTrue(f"d/{name}" in sent.contents or f"d/{name}" in left_out, name)


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
