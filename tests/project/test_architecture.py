"""docs/architecture.md shows the tree as it is."""

from __future__ import annotations

import importlib.util
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.project.test_packaging import TOP, load

RECORDER = TOP / "docs" / "recorders" / "draw_packages.py"
PAGE = TOP / "docs" / "architecture.md"


class PictureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.recorder = load(RECORDER)

    def test_no_arrow_is_hidden(self) -> None:
        """One that would pass behind a box, as if it were that box's own, passes beside it."""
        draw = load(RECORDER)
        floors = [["a"], ["b"], ["c"]]
        arrows = {"c": {"b", "a"}, "b": {"a"}, "a": set[str]()}
        self.assertEqual(draw.hidden(draw.spread(floors, [0, 0, 0]), arrows), 1)
        self.assertEqual(draw.hidden(draw.arranged(floors, arrows), arrows), 0)

    def test_current(self) -> None:
        """The picture is of these imports.  If not: run docs/recorders/draw_packages.py."""
        self.assertEqual(self.recorder.PICTURE.read_text(encoding="utf-8"), self.recorder.today())

    def test_floors(self) -> None:
        """Each part stands above all that it imports; a circle is refused."""
        imports = {"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": set()}
        self.assertEqual(self.recorder.floors_of(imports), [["c", "d"], ["b"], ["a"]])
        self.assertRaises(SystemExit, self.recorder.floors_of, {"a": {"b"}, "b": {"a"}})

    def test_implied(self) -> None:
        """An arrow that goes the way of others is left out, and no other."""
        imports = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
        self.assertEqual(self.recorder.nearest(imports), {"a": {"b"}, "b": {"c"}, "c": set()})

    def test_every_package_is_explained(self) -> None:
        """The table of packages names each part of the picture."""
        text = PAGE.read_text(encoding="utf-8")
        table = text[text.index("| package |") : text.index("`tests/project/test_layers.py` is")]
        for part in self.recorder.imports_of(TOP, self.recorder.package_of):
            self.assertIn(f"`{part}`", table)


class WalkTests(SynchronousTestCase):
    """Who follows a walk finds every stop of it."""

    def test_every_name_exists(self) -> None:
        text = PAGE.read_text(encoding="utf-8")
        walks = text[text.index("## Six walks") : text.index("## Rules that")]
        names = re.findall(r"`(kdc\.[A-Za-z_.]+)`", walks)
        self.assertGreater(len(names), 30)
        for name in names:
            self.assertTrue(exists(name), name)

    def test_others_do_not(self) -> None:
        """A module, class or method that is gone would be noticed."""
        for name in ("kdc.nowhere", "kdc.store.Stor", "kdc.store.Store.aply"):
            self.assertFalse(exists(name), name)


def exists(name: str) -> bool:
    """Whether ``name`` is a module, or what can be reached from one by attributes."""
    module, parts = "", name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if _is_module(module):
            found: object = importlib.import_module(module)
            for part in parts[length:]:
                if not hasattr(found, part):
                    return False
                found = getattr(found, part)
            return True
    return False


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
