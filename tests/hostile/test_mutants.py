"""The list of mutants is of the code as it is."""

from __future__ import annotations

import ast

from twisted.trial.unittest import SynchronousTestCase

from tests.hostile.mutants import MUTANTS, TOP, mutated, with_table


class MutantTests(SynchronousTestCase):
    def test_each_fits(self) -> None:
        """Each takes one thing out of code that is there, once, and leaves what can be read."""
        self.assertGreaterEqual(len(MUTANTS), 60)
        for mutant in MUTANTS:
            text = (TOP / mutant.path).read_text(encoding="utf-8")
            changed = mutated(mutant, text)
            self.assertNotEqual(ast.dump(ast.parse(changed)), ast.dump(ast.parse(text)), mutant)

    def test_each_is_another(self) -> None:
        """No defence is listed twice."""
        self.assertEqual(len({(m.path, m.old, m.new) for m in MUTANTS}), len(MUTANTS))

    def test_its_tests_exist(self) -> None:
        """What ought to notice is there to be run."""
        for name in {name for mutant in MUTANTS for name in mutant.tests.split()}:
            path = TOP.joinpath(*name.split(".")[:3])
            self.assertTrue(path.is_dir() or path.with_suffix(".py").is_file(), name)

    def test_documented(self) -> None:
        """docs/security.md has the whole list; ``-m tests.hostile.mutants --table`` mends it."""
        page = (TOP / "docs" / "security.md").read_text(encoding="utf-8")
        self.assertEqual(with_table(page), page)
