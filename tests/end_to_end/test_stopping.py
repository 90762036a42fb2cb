"""A KDC that is told to end does, whatever is in its way, and frees what it had."""

from __future__ import annotations

import signal

from tests.support.processes import KDC, TWISTD, UNLIMITED, ProgramTestCase, RunningKDC

# Says so, and then never finishes writing what was begun.
_HANGS = """
import sys
from twisted.internet.defer import Deferred
from kdc.server._store_writer import StoreWriter
def drain(self):
    print("draining", file=sys.stderr, flush=True)
    return Deferred()
StoreWriter.drain = drain
"""
_LIMIT = 200_000


class StoppingTests(ProgramTestCase):
    def begins_again(self, *names: str) -> None:
        """The next KDC gets the store at once, and everybody in it."""
        again = self.kdc()
        for name in names:
            known = self.client("whoami", "-n", name, *again.options, *self.key(name))
            self.assert_ends(known, 0)
        self.assertEqual(again.program.stop(), 0)

    def test_without_its_socket(self) -> None:
        """The operators' socket was removed: it ends well, and says so."""
        kdc = self.kdc()
        self.register(kdc, "alice")
        (self.directory / "pwd.txt.admin").unlink()
        self.assertEqual(kdc.program.stop(), 0)
        self.assertIn("kdc: stopping: ", kdc.program.said)
        self.begins_again("alice")

    def test_with_a_full_log(self) -> None:
        """Nothing can be written to the log any more: names are registered, and it ends well."""
        (self.directory / "out.txt").write_bytes(b"x" * _LIMIT)
        kdc = self.kdc(file_limit=_LIMIT)
        self.register(kdc, "alice")
        self.assertEqual(kdc.program.stop(), 0)
        self.assertIn("kdc: cannot write the activity log", kdc.program.said)
        self.assertEqual(len((self.directory / "out.txt").read_bytes()), _LIMIT)
        (self.directory / "out.txt").unlink()
        self.begins_again("alice")

    def test_twice(self) -> None:
        """A second signal ends it at once, while it waits for what does not come."""
        options = ("-p", "0", "-f", "pwd.txt", "-o", "out.txt", *UNLIMITED)
        twistd = ("-n", "--pidfile", "kdc.pid", "kdc")
        for name, start in (("alice", (*KDC,)), ("bob", (*TWISTD, *twistd))):
            *python, code = start[:3]
            program = self.scratch.start(*python, _HANGS + code, *start[3:], *options, merged=True)
            self.register(RunningKDC(program), name)
            program.signal(signal.SIGTERM)
            program.expect("draining")
            self.assertIsNone(program.process.poll())
            program.signal(signal.SIGTERM)
            self.assertEqual(program.wait(), -signal.SIGTERM)
        self.begins_again("alice", "bob")
