"""The KDC's unit under systemd itself: a manager of this test's own, in a namespace of its own."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.project.test_etc import KDC_UNIT, directives
from tests.support.processes import PATIENCE_SECONDS, TOP, TWISTD, ProgramTestCase

MANAGER = Path("/usr/lib/systemd/systemd")
NAMESPACE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")

# What is looked at is printed with what it is of; whatever fails ends it.
STEPS = """
set -eu
mount -t tmpfs none /run
mkdir -p /run/systemd/system /run/user/me
export XDG_RUNTIME_DIR=/run/user/me
{manager} --user >/dev/null 2>&1 &
until systemctl --user show-environment >/dev/null 2>&1; do sleep 0.1; done
show() {{ echo "$1: $(systemctl --user show kdc --value -p $2)"; }}
systemctl --user start kdc
show started ActiveState
show status StatusText
systemctl --user reload kdc
until grep -q ' reloaded ' out.txt; do sleep 0.1; done
show reloaded ActiveState
kill -STOP $(systemctl --user show kdc --value -p MainPID)
until [ $(systemctl --user show kdc --value -p NRestarts) -gt 0 ]; do sleep 0.1; done
until [ $(systemctl --user is-active kdc) = active ]; do sleep 0.1; done
systemctl --user stop kdc
show stopped ActiveState
show result Result
tail -n 1 out.txt
"""


class SystemdTests(ProgramTestCase):
    def setUp(self) -> None:
        super().setUp()
        if not MANAGER.exists() or not shutil.which("unshare"):
            raise SkipTest("not installed: systemd, unshare")
        tried = subprocess.run(
            (*NAMESPACE, "mount", "-t", "tmpfs", "none", "/run"),
            check=False,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
        )
        if tried.returncode:
            raise SkipTest("no namespace for a systemd of our own: it takes root")

    def unit(self) -> str:
        """Our unit as far as it is about being watched; a manager of users has no sandbox."""
        own = directives(KDC_UNIT)
        kept = {key: own[key][-1] for key in ("Type", "ExecReload", "Restart")}
        self.assertIn("WatchdogSec", own)
        words = (*TWISTD, "-n", "--pidfile=", "kdc", "-p", "0", "-f", "pwd.txt", "-o", "out.txt")
        lines = [f"{key}={value}" for key, value in kept.items()]
        lines += [
            "WatchdogSec=8",
            "RestartSec=0",
            f"WorkingDirectory={self.directory}",
            f"Environment=PYTHONPATH={TOP}",
            "ExecStart=" + " ".join(f'"{word}"' for word in words),
        ]
        return "\n".join(["[Service]", *lines, ""])

    def test_a_life(self) -> None:
        """Started when it is ready, reloaded, killed and begun anew when it hangs, stopped."""
        units = self.scratch.home / ".config" / "systemd" / "user"
        units.mkdir(parents=True)
        (units / "kdc.service").write_text(self.unit())
        steps = STEPS.format(manager=shlex.quote(str(MANAGER)))
        program = self.scratch.start(*NAMESPACE, "bash", "-c", steps, merged=True)
        self.assertEqual(program.wait(), 0, program.said)
        for line in (
            *("started: active", "status: 0 principals", "reloaded: active"),
            *("stopped: inactive", "result: success"),
        ):
            self.assertIn(f"{line}\n", program.said)
        self.assertRegex(program.said, r"Z stopped client=- address=-\n\Z")
