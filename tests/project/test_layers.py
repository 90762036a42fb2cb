"""Who may import whom: the packages in their order, and a rule a line for the rest."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeGuard

from twisted.trial.unittest import SynchronousTestCase

TOP = Path(__file__).parent.parent.parent

# From the bottom up: each package (or module of kdc/ itself) imports from rows above its own
# only.  docs/architecture.md says what is in each.
PACKAGES = (
    ("kdc",),
    ("kdc.hostile_text",),
    ("kdc.errors", "kdc.constant_time"),
    ("kdc.limits", "kdc.terminal", "kdc.files", "kdc.protocol", "kdc.kerberos"),
    ("kdc.net",),
    ("kdc.store",),
    ("kdc.kerberos_store",),
    ("kdc.issuing", "kdc.admin", "kdc.client"),
    ("kdc.channel",),
    ("kdc.transfer", "kdc.tunnel", "kdc.relay"),
    ("kdc.watch",),
    ("kdc.server", "kdc.api", "kdc.aio"),
    ("kdc.endpoint_strings", "kdc.testing"),
    ("kdc.commands",),
    ("kdc.__main__",),
)
# (these, never import those, why)
RULES = (
    (
        (
            *("kdc.hostile_text", "kdc.errors", "kdc.constant_time", "kdc.limits"),
            *("kdc.protocol", "kdc.kerberos", "kdc.issuing"),
        ),
        ("twisted", "zope"),
        "decisions are functions of bytes, time and randomness that they are given",
    ),
    (
        ("kdc.terminal", "kdc.files", "kdc.store", "kdc.admin"),
        ("twisted", "zope"),
        "what blocks leaves threads to its callers",
    ),
    (
        ("kdc.testing",),
        (
            *("twisted", "zope", "kdc.store", "kdc.kerberos_store", "kdc.issuing", "kdc.client"),
            "kdc.server",
        ),
        "other people's tests start in milliseconds, and have a realm of nothing but Kerberos",
    ),
    (
        (
            "kdc.client",
            "kdc.channel",
            "kdc.transfer",
            "kdc.tunnel",
            "kdc.relay",
            "kdc.api",
            "kdc.commands.client",
        ),
        ("kdc.store", "kdc.issuing", "kdc.admin", "kdc.server", "kdc.commands.admin"),
        "a client does not load, and so cannot run, what only the KDC needs",
    ),
    (
        ("kdc.issuing", "kdc.admin"),
        ("kdc.store.flatfile", "kdc.store.sealed", "kdc.store.etcd"),
        "what the KDC decides does not depend on which store there is",
    ),
    (
        ("kdc.transfer", "kdc.tunnel", "kdc.relay"),
        (
            *("kdc.protocol.messages", "kdc.protocol.tickets", "kdc.protocol.noise"),
            *("kdc.protocol.handshake", "kdc.protocol.kdc_exchange"),
        ),
        "applications know nothing of tickets, however their channel came to be",
    ),
    (
        ("kdc.store",),
        (
            *("kdc.protocol.messages", "kdc.protocol.tickets", "kdc.protocol.noise"),
            *("kdc.protocol.handshake", "kdc.protocol.kdc_exchange"),
        ),
        "the store keeps records, whatever is said on the wire",
    ),
)
# Bytes, `now` and randomness come in as arguments, bytes and decisions come out: what could
# read a clock, a file, a socket or a global generator is not in this list.
PURE = frozenset(
    (
        *("__future__", "abc", "collections", "enum", "types", "typing", "attrs"),
        *("bisect", "functools", "heapq", "itertools", "math", "operator"),
        *("base64", "binascii", "fnmatch", "ipaddress", "json", "re", "struct", "unicodedata"),
        *("cryptography", "hashlib", "hmac"),
    )
)
PURE_PACKAGES = (
    *("kdc.limits", "kdc.protocol", "kdc.issuing", "kdc.kerberos", "kdc.kerberos_store"),
)


def parse(source: str, module: str, package: bool, known: Iterable[str]) -> set[str]:
    """Return the modules that ``source`` imports anywhere, functions included.

    ``from kdc import server`` is an import of `kdc.server` if that is a known
    module, of `kdc` otherwise.  What others have we do not know: there it is
    always the longer name.
    """
    known = set(known)
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                above = module.split(".")[: len(module.split(".")) + package - node.level]
                origin = ".".join([*above, *filter(None, [origin])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                ours = within(origin, ["kdc"])
                imported.add(inner if inner in known or not ours else origin)
    return imported


def module_level(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk over what runs when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from module_level(node)


def draws_randomness(node: ast.AST) -> TypeGuard[ast.Call]:
    """Say whether this calls what makes keys in `cryptography`, from random bytes of its own."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    nothing_given = not node.args and not node.keywords
    name = node.func.attr
    return name in ("generate_key", "generate_private_key") or (
        name == "generate" and nothing_given
    )


def compares_secrets(node: ast.AST) -> bool:
    """Say whether this compares with ``==`` what is called a proof, a code or a secret key."""
    if not isinstance(node, ast.Compare):
        return False
    if not any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops):
        return False
    sides = [node.left, *node.comparators]
    if any(isinstance(side, ast.Constant) for side in sides):
        return False  # whether there is one at all
    return any(
        word in (getattr(side, "attr", "") or getattr(side, "id", "")).lower()
        for side in sides
        for word in ("proof", "invitation", "secret", "reply_key", "session_key", "mac")
    )


def sources() -> dict[str, Path]:
    """Return every module of the package and where it is."""
    found = {}
    for path in sorted((TOP / "kdc").rglob("*.py")):
        parts = path.relative_to(TOP).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def within(module: str, packages: Iterable[str]) -> bool:
    """Say whether ``module`` is one of ``packages`` or inside one."""
    return any(module == package or module.startswith(package + ".") for package in packages)


def package_of(module: str) -> str:
    """Return what stands for ``module`` in the list: the first name below kdc."""
    return ".".join(module.split(".")[:2])


def upward(imports: Mapping[str, set[str]], packages: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return the imports that do not go from a later row to an earlier one, as text."""
    row_of = {package: number for number, row in enumerate(packages) for package in row}
    last = len(packages)
    return [
        f"{module} imports {other}"
        for module, others in sorted(imports.items())
        for other in sorted(others)
        if within(other, ["kdc"])
        and package_of(other) != package_of(module)
        and row_of.get(package_of(other), last) >= row_of.get(package_of(module), last)
    ]


def circles(imports: Mapping[str, set[str]]) -> list[str]:
    """Return the modules that import themselves, by way of others or not."""
    reach = {module: set(others) & set(imports) for module, others in imports.items()}
    for _ in imports:
        for found in reach.values():
            found.update(*(reach[other] for other in list(found)))
    return sorted(module for module, found in reach.items() if module in found)


def private(imports: Mapping[str, set[str]]) -> list[str]:
    """Return the imports of a module that begins with ``_`` from outside its package."""
    return [
        f"{module} imports {other}"
        for module, others in sorted(imports.items())
        for other in sorted(others)
        if within(other, ["kdc"])
        and (hidden := other.find("._")) >= 0
        and not within(module, [other[:hidden]])
    ]


class LayersTests(SynchronousTestCase):
    """The direction of every import in the package."""

    def setUp(self) -> None:
        self.paths = sources()
        self.imports = {
            module: parse(
                path.read_text(encoding="utf-8"), module, path.name == "__init__.py", self.paths
            )
            for module, path in self.paths.items()
        }

    def modules_in(self, *packages: str) -> list[str]:
        """Return the modules that exist in these packages."""
        return [module for module in self.paths if within(module, packages)]

    def offenders(self, modules: Iterable[str], *packages: str) -> list[str]:
        """Return which of ``modules`` import something in ``packages``, as text."""
        return [
            f"{module} imports {other}"
            for module in modules
            for other in sorted(self.imports[module])
            if within(other, packages)
        ]

    def test_every_package_is_placed(self) -> None:
        """The list names what is directly below kdc/, each once."""
        placed = [package for row in PACKAGES for package in row]
        self.assertEqual(sorted(placed), sorted({package_of(module) for module in self.paths}))

    def test_one_direction(self) -> None:
        """Imports between packages go from a row of the list to rows before it only."""
        self.assertEqual(upward(self.imports, PACKAGES), [])

    def test_no_circle(self) -> None:
        """Inside a package, too, everything can be read in some order."""
        self.assertEqual(circles(self.imports), [])

    def test_private(self) -> None:
        """What begins with ``_`` is the business of its own package."""
        self.assertEqual(private(self.imports), [])

    def test_rules(self) -> None:
        """Each rule names packages that exist, and is kept."""
        for these, those, why in RULES:
            for package in these:
                self.assertIn(package, self.paths)
            self.assertEqual(self.offenders(self.modules_in(*these), *those), [], why)

    def test_pure(self) -> None:
        """What decides has no I/O, no clock and no randomness of its own."""
        for module in self.modules_in(*PURE_PACKAGES):
            foreign = {name for name in self.imports[module] if not within(name, ["kdc"])}
            self.assertEqual({name.split(".")[0] for name in foreign} - PURE, set(), module)
            tree = ast.parse(self.paths[module].read_text(encoding="utf-8"))
            self.assertEqual([n.lineno for n in ast.walk(tree) if draws_randomness(n)], [], module)

    def test_secrets_are_compared_in_one_place(self) -> None:
        """What could be guessed byte by byte is compared by `same`, in constant time."""
        for module, path in self.paths.items():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if module != "kdc.constant_time":
                self.assertNotIn("compare_digest", path.read_text(encoding="utf-8"), module)
            found = [ast.unparse(node) for node in ast.walk(tree) if compares_secrets(node)]
            self.assertEqual(found, [], module)

    def test_options_stay_at_the_top(self) -> None:
        """Command lines are parsed in the commands, which make settings of them."""
        modules = set(self.paths) - set(self.modules_in("kdc.commands"))
        self.assertEqual(self.offenders(modules, "twisted.python.usage", "argparse"), [])

    def test_no_reactor_at_import(self) -> None:
        """The reactor is an argument: importing a module of ours installs none."""
        for module, path in self.paths.items():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {
                alias.name
                for node in module_level(tree)
                if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in node.names
            }
            self.assertNotIn("reactor", names, module)
            self.assertNotIn("twisted.internet.reactor", names, module)


class ParseTests(SynchronousTestCase):
    """The tests above see every way of importing."""

    def test_every_form(self) -> None:
        """Absolute, relative, of a module by name, and inside a function."""
        known = ["kdc", "kdc.server", "kdc.store", "kdc.store.files", "kdc.store.memory"]
        for source, module, package, expected in (
            ("import os.path, kdc.server", "kdc.cli", False, {"os.path", "kdc.server"}),
            ("from kdc.server import f", "kdc.cli", False, {"kdc.server"}),
            ("from kdc import server, __version__", "kdc.cli", False, {"kdc.server", "kdc"}),
            ("from . import server", "kdc.cli", False, {"kdc.server"}),
            ("from .files import f", "kdc.store.memory", False, {"kdc.store.files"}),
            ("from .files import f", "kdc.store", True, {"kdc.store.files"}),
            ("from ..server import f", "kdc.store.memory", False, {"kdc.server"}),
            ("from .. import server", "kdc.store", True, {"kdc.server"}),
            ("from twisted.python import usage", "kdc.cli", False, {"twisted.python.usage"}),
            ("def f():\n import socket", "kdc.cli", False, {"socket"}),
            ("if TYPE_CHECKING:\n import kdc.server", "kdc.cli", False, {"kdc.server"}),
        ):
            self.assertEqual(parse(source, module, package, known), expected, source)

    def test_wrong_direction(self) -> None:
        """An import of a later row or of the same row is found; those inside a package are not."""
        packages = (("kdc.a", "kdc.b"), ("kdc.c",))
        found = upward(
            {"kdc.a.x": {"kdc.a.y", "kdc.b.y", "kdc.c", "os"}, "kdc.c": {"kdc.a.x"}}, packages
        )
        self.assertEqual(found, ["kdc.a.x imports kdc.b.y", "kdc.a.x imports kdc.c"])

    def test_circles(self) -> None:
        """A circle of any length is found; a module outside it is not blamed."""
        imports = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}, "e": {"os"}}
        self.assertEqual(circles(imports), ["b", "c", "d"])

    def test_private_names(self) -> None:
        """A package sees its own private modules, and those of the packages around it."""
        imports = {
            "kdc.a.x": {"kdc.a._y", "kdc.b._y"},
            "kdc.a.b.x": {"kdc.a._y"},
            "kdc.c": {"kdc.a.b._z"},
        }
        found = private(imports)
        self.assertEqual(found, ["kdc.a.x imports kdc.b._y", "kdc.c imports kdc.a.b._z"])

    def test_randomness(self) -> None:
        """A key made out of nothing is found; one made from bytes that were given is not."""
        for source, drawn in (
            ("X25519PrivateKey.generate()", True),
            ("AESGCM.generate_key(256)", True),
            ("ec.generate_private_key(curve=c)", True),
            ("Epoch.generate(random)", False),
            ("X25519PrivateKey.from_private_bytes(b)", False),
        ):
            found = any(draws_randomness(node) for node in ast.walk(ast.parse(source)))
            self.assertEqual(found, drawn, source)

    def test_comparisons(self) -> None:
        """A comparison of secrets is found; one of lengths, or with nothing, is not."""
        for source, secret in (
            ("expected == request.invitation", True),
            ("proof != other", True),
            ("if a.reply_key == b.reply_key: pass", True),
            ("record.invitation != b''", False),
            ("len(proof) == 32", False),
            ("record.verify_key != key", False),
        ):
            found = any(compares_secrets(node) for node in ast.walk(ast.parse(source)))
            self.assertEqual(found, secret, source)

    def test_module_level(self) -> None:
        """Code in a class or a condition runs at import; code in a function does not."""
        tree = ast.parse("if x:\n import a\nclass C:\n import b\n def f(self):\n  import c\n")
        names = [n.names[0].name for n in module_level(tree) if isinstance(n, ast.Import)]
        self.assertEqual(names, ["a", "b"])
