"""A test that a document names as showing something is there."""

from __future__ import annotations

import ast
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.project.test_packaging import TOP

PAGES = (*sorted((TOP / "docs").glob("*.md")), *TOP.glob("*.md"))
_NAMED = re.compile(r"\btests(?:\.\w+)+")


def exists(name: str) -> bool:
    """Whether there is such a package, module, class or method."""
    path, parts = TOP, name.split(".")
    while parts and (path / parts[0]).is_dir():
        path /= parts.pop(0)
    if not parts:
        return True
    module = (path / parts.pop(0)).with_suffix(".py")
    if not module.is_file():
        return False
    body = ast.parse(module.read_text(encoding="utf-8")).body
    for part in parts:
        found = [each for each in body if getattr(each, "name", "") == part]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


class EvidenceTests(SynchronousTestCase):
    def test_every_test_exists(self) -> None:
        """The threats' page and all others: whoever looks a test up finds it."""
        named = {
            (page.name, name)
            for page in PAGES
            for name in _NAMED.findall(page.read_text(encoding="utf-8"))
        }
        self.assertGreater(len(named), 40)
        self.assertEqual([each for each in sorted(named) if not exists(each[1])], [])

    def test_others_do_not(self) -> None:
        """What is not there is noticed: at each depth."""
        here = "tests.project.test_evidence"
        for name in ("tests", "tests.project", here, f"{here}.EvidenceTests.test_others_do_not"):
            self.assertTrue(exists(name), name)
        for name in ("tests.nothing", f"{here}.Nothing", f"{here}.EvidenceTests.test_nothing"):
            self.assertFalse(exists(name), name)
