"""Whose a directory is, and who could put another file in the place of what is kept there."""

from __future__ import annotations

import grp
import os
import pwd
import re
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.errors import ConfigurationError
from kdc.files.directory import check_directory, mounted_alone, owners_of

_SOMEBODY = 65534


class DirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(mode=0o755)
        self.path = self.directory / "pwd.txt"

    def fine(self, path: Path) -> None:
        try:
            check_directory(path)
        except ConfigurationError as error:
            self.fail(f"{error}")

    def refused(self) -> ConfigurationError:
        error = self.assertRaises(ConfigurationError, check_directory, self.path)
        self.assertIn(str(self.directory), str(error))
        self.assertTrue(error.hint)
        return error

    def test_its_owners_alone(self) -> None:
        """Whoever can only read it can do no harm, and what is not there is for others to miss."""
        for mode in (0o700, 0o711, 0o755, 0o1755):
            self.directory.chmod(mode)
            self.fine(self.path)
        self.fine(self.directory / "missing" / "pwd.txt")

    def test_everybodys(self) -> None:
        """One that everybody can write is refused, with what to do about it."""
        for mode in (0o777, 0o757, 0o733, 0o702):
            self.directory.chmod(mode)
            self.assertIn("can be written by others", str(self.refused()))
            self.assertIn(f"chmod go-w {self.directory}", self.refused().hint)
        self.directory.chmod(0o1777)
        self.assertIn("a directory of its own", self.refused().hint)

    def test_a_groups(self) -> None:
        """So is one that a group can write, unless its owner is alone in it."""
        self.directory.chmod(0o775)
        me = pwd.getpwuid(os.geteuid())
        own = grp.struct_group((me.pw_name, "x", me.pw_gid, []))
        members: list[str] = []
        self.patch(grp, "getgrgid", lambda gid: grp.struct_group((*own[:3], members)))
        self.fine(self.path)
        members.append(me.pw_name)
        self.fine(self.path)
        members.append("mallory")
        self.refused()
        self.patch(grp, "getgrgid", lambda gid: grp.struct_group(("staff", "x", gid, [])))
        self.refused()

        def nobody_knows(gid: int) -> grp.struct_group:
            raise KeyError(gid)

        self.patch(grp, "getgrgid", nobody_knows)
        self.refused()

    def test_another_users(self) -> None:
        """One of another user is refused, unless what is in it is his, too."""
        if os.geteuid():
            raise SkipTest("to be another user takes root")
        os.chown(self.directory, _SOMEBODY, -1)
        self.assertIn(f"belongs to another user (uid {_SOMEBODY})", str(self.refused()))
        self.path.touch()
        self.refused()
        os.chown(self.path, _SOMEBODY, -1)
        self.fine(self.path)
        self.assertEqual(owners_of(self.path), {0, _SOMEBODY})
        self.directory.chmod(0o777)
        self.refused()


class MountTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.mounts = self.directory / "mountinfo"

    def says(self, *points: Path | str) -> None:
        """As proc_pid_mountinfo(5) writes it: blanks and the like as three octal digits."""
        escaped = (
            re.sub(r"[\s\\]", lambda found: f"\\{ord(found[0]):03o}", str(p)) for p in points
        )
        lines = (f"36 35 98:0 /from {point} rw,noatime - ext3 /dev/root rw" for point in escaped)
        self.mounts.write_text("".join(f"{line}\n" for line in lines))

    def test_which(self) -> None:
        """A file that is a mount point, and no other; a link to its directory hides nothing."""
        for name in ("pwd.txt", "with a blank", "back\\slash", "tab\there"):
            path = self.directory / name
            self.says("/", self.directory, path)
            self.assertTrue(mounted_alone(path, self.mounts), name)
            self.assertFalse(mounted_alone(self.directory / f"{name}.journal", self.mounts))
        link = self.directory / "link"
        link.symlink_to(self.directory)
        self.assertTrue(mounted_alone(link / name, self.mounts))
        around = self.directory / "around"
        around.symlink_to(around)
        self.assertFalse(mounted_alone(around / name, self.mounts))
        self.says("/", self.directory)
        self.assertFalse(mounted_alone(path, self.mounts))

    def test_of_this_system(self) -> None:
        """What the system says is read; where it says nothing, nothing is refused."""
        self.assertFalse(mounted_alone(self.directory / "pwd.txt"))
        self.assertFalse(mounted_alone(self.directory / "pwd.txt", self.directory / "missing"))
        if not Path("/proc/self/mountinfo").exists():
            raise SkipTest("this system does not say what is mounted")
        self.assertTrue(mounted_alone(Path("/proc")))
