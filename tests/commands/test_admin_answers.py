"""What ``kdc admin`` makes of answers that hold more than a KDC would say."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kdc.admin.wire import SocketPath, answer_line, end_line
from kdc.commands import main
from kdc.errors import KDCError
from kdc.hostile_text import harmless

_ESCAPES = "\x1b[2J\x1b]0;root\x07\x9b2J\r\nkdc admin: all is well\u202e"
_COMMANDS = (
    ("reset", "bob"),
    *(("list",), ("show", "bob"), ("add", "bob", "--key-file", "bob.key"), ("invite", "bob")),
    *(("disable", "bob"), ("enable", "bob"), ("delete", "bob"), ("purge", "bob")),
    *(
        ("set-address", "bob", "192.0.2.1", "1"),
        ("rename", "a", "b"),
        ("expire", "bob", "--never"),
        ("rotate-master-key",),
    ),
    *(("rotate-tls",), ("dump",), ("load", "dump.txt"), ("import", "old.txt"), ("stats",)),
)


class AnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)
        (self.directory / "old.txt").write_text(":bob:192.0.2.1:1:x:\n")
        header = {"format": "kdc-dump", "version": 1, "realm": "LOCAL", "secrets": False}
        record = {"name": "bob", "status": "deleted"}
        (self.directory / "dump.txt").write_text(f"{json.dumps(header)}\n{json.dumps(record)}\n")
        (self.directory / "pwd.txt").touch()

    def answering(self, content: bytes) -> None:
        """Say ``content`` to whoever connects, whatever he asks, until the test ends."""
        where = SocketPath(self.directory / "pwd.txt")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(where.open())
        where.close()
        listening.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connected, _ = listening.accept()
                    with connected, connected.makefile("rb") as request:
                        # `load` and `import` only look first whether somebody is there.
                        if request.readline():
                            connected.sendall(content)

        thread = threading.Thread(target=serve)
        thread.start()

        def stop() -> None:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            listening.close()
            where.path.unlink()

        self.addCleanup(stop)

    def said(self, *argv: str) -> str:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main._guarded("kdc admin", main._admin, list(argv))
        return out.getvalue() + err.getvalue()

    def test_terminals(self) -> None:
        """Nothing in an answer or an error commands the operator's terminal, nor makes a line."""
        fields = ("name", "status", "address", "port", "invitation", "why", "fingerprint", "line")
        hostile: dict[str, Any] = {**dict.fromkeys(fields, _ESCAPES), "changed": 1}
        error = KDCError(f"no{_ESCAPES}", hint=f"go{_ESCAPES}")
        for done in (True, False):
            self.answering(answer_line({**hostile, "done": done}) + end_line())
            for argv in _COMMANDS:
                for more in ((), ("--json",)):
                    self.check(argv, self.said(*more, *argv))
            self.doCleanups()
            self.setUp()
        self.answering(end_line(error))
        for argv in _COMMANDS:
            said = self.said(*argv)
            self.check(argv, said)
            self.assertIn("no", said)

    def check(self, argv: tuple[str, ...], said: str) -> None:
        self.assertTrue(said, argv)
        for line in said.split("\n"):
            self.assertEqual(line, harmless(line), argv)
            self.assertFalse(line.startswith("kdc admin: all is well"), argv)
