"""Who is believed at the other end of the operators' socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.admin.wire import answer_line, ask, connect, end_line
from kdc.errors import ConfigurationError, LocalIOError

# Becomes another user, listens, says so, and ends when its input does.
_LISTEN = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
print(flush=True)
sys.stdin.read()
"""
_SOMEBODY = 65534


class PeerTests(SynchronousTestCase):
    def setUp(self) -> None:
        # Where everybody may go to, which is not so of where tests run.
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.store = self.directory / "pwd.txt"
        self.store.touch()

    def listener(self, user: int) -> None:
        """Another process of ``user`` listens, who could write the directory once."""
        self.directory.chmod(0o777)
        child = subprocess.Popen(
            [sys.executable, "-c", _LISTEN, f"{self.store}.admin", str(user)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        self.addCleanup(child.communicate)
        self.directory.chmod(0o755)

    def test_our_own(self) -> None:
        """A KDC of our own user is asked."""
        self.listener(os.geteuid())
        self.assert_asked()

    def assert_asked(self, uid: int | None = None) -> None:
        connected = connect(self.store) if uid is None else connect(self.store, lambda _: uid)
        self.assertIsNotNone(connected)
        if connected is not None:
            connected.close()

    def test_another_users(self) -> None:
        """Another's is not, whoever says who he is; that of the store's owner is."""
        self.listener(os.geteuid())
        error = self.assertRaises(LocalIOError, connect, self.store, lambda _: _SOMEBODY)
        self.assertIn(f"another user (uid {_SOMEBODY}) listens there", str(error))
        for uid in (0, os.geteuid()):
            self.assert_asked(uid)

    def test_another_users_process(self) -> None:
        """So it is with a real one, about whom the kernel says the truth."""
        if os.geteuid():
            raise SkipTest("to be another user takes root")
        self.listener(_SOMEBODY)
        error = self.assertRaises(LocalIOError, connect, self.store)
        self.assertIn(f"another user (uid {_SOMEBODY}) listens there", str(error))
        os.chown(self.store, _SOMEBODY, -1)
        self.assert_asked()

    def test_where_anybody_could_listen(self) -> None:
        """While others can write the directory nobody is asked, and none is said to be absent."""
        self.directory.chmod(0o777)
        self.assertRaises(ConfigurationError, connect, self.store)
        self.listener(os.geteuid())
        self.directory.chmod(0o777)
        self.assertRaises(ConfigurationError, connect, self.store)


class BoundTests(SynchronousTestCase):
    def answered(self, content: bytes) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(60)
        with theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            theirs.settimeout(60)
            theirs.sendall(content)
            theirs.shutdown(socket.SHUT_WR)
            self.answers = list(ask(ours, {}))

    def test_deep_and_long(self) -> None:
        """An answer that no KDC gives is refused, however deep it is; a long one is not."""
        self.assertRaises(LocalIOError, self.answered, b"[" * 60_000 + b"\n")
        self.answered(answer_line({"name": "x" * 60_000}) + end_line())
        self.assertEqual(len(self.answers[0]["name"]), 60_000)
