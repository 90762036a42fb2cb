"""What systemd is told, and when."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kdc.net.notify import Notify


class NotifyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.path = f"/tmp/kdc-notify-{os.getpid()}"
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.listening.bind(self.path)
        self.addCleanup(os.unlink, self.path)
        self.addCleanup(self.listening.close)

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.listening.recv(4096).decode())
            except BlockingIOError:
                return found

    def test_life(self) -> None:
        """Ready, alive at half the time that it has, reloading, ready again, stopping."""
        notify = Notify(self.path, self.clock, 10)
        notify.ready("all is well")
        self.assertEqual(self.heard(), ["READY=1\nSTATUS=all is well", "WATCHDOG=1"])
        self.clock.advance(4)
        self.assertEqual(self.heard(), [])
        self.clock.advance(1)
        self.assertEqual(self.heard(), ["WATCHDOG=1"])
        notify.reloading()
        self.assertRegex(self.heard()[0], r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
        notify.ready()
        self.assertEqual(self.heard(), ["READY=1\nSTATUS="])
        notify.stopping()
        self.assertEqual(self.heard(), ["STOPPING=1"])
        self.clock.advance(100)
        self.assertEqual((self.heard(), self.clock.getDelayedCalls()), ([], []))

    def test_environment(self) -> None:
        """It is used once: what we start must not speak for us."""
        environment = {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "2000000", "HOME": "/"}
        notify = Notify.from_environment(environment, self.clock)
        self.assertEqual(environment, {"HOME": "/"})
        assert notify is not None
        notify.ready()
        self.heard()
        self.clock.advance(1)
        self.assertEqual(self.heard(), ["WATCHDOG=1"])
        notify.stopping()

    def test_not_for_us(self) -> None:
        """Without a socket there is nothing to tell; another process's watchdog is not ours."""
        self.assertIsNone(Notify.from_environment({"WATCHDOG_USEC": "5"}, self.clock))
        self.assertIsNone(Notify.from_environment({"NOTIFY_SOCKET": "vsock:1"}, self.clock))
        for more in ({"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "0"}):
            told = {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "5", **more}
            notify = Notify.from_environment(told, self.clock)
            assert notify is not None
            notify.ready()
            self.assertEqual(self.heard(), ["READY=1\nSTATUS="])

    def test_nobody_there(self) -> None:
        """A socket that is gone, or full, is no reason not to serve."""
        notify = Notify("/nonexistent/socket", self.clock)
        notify.ready()
        full = Notify(self.path, self.clock)
        for _ in range(10_000):
            full.ready()
        self.assertGreater(len(self.heard()), 0)

    def test_abstract(self) -> None:
        """A name that begins with @ is no file."""
        name = f"kdc-notify-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(f"\0{name}")
            Notify(f"@{name}", self.clock).ready()
            self.assertEqual(other.recv(100), b"READY=1\nSTATUS=")
