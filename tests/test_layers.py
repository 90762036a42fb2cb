"""Who may import whom.  A new module has to be placed here before the tests pass."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeGuard

from twisted.trial.unittest import SynchronousTestCase

TOP = Path(__file__).parent.parent

# From the bottom up: a module imports from rows above its own in this listing, never from its
# own or from what follows.  So there is no circle, and everything can be read in this order.
CORE = (
    (
        "kdc",
        "kdc.issuing",
        "kdc.net",
        "kdc.files",
        "kdc.protocol",
    ),
    ("kdc.errors", "kdc.protocol.names"),
    ("kdc.protocol.codec",),
    ("kdc.protocol.crypto",),
    (
        "kdc.protocol.messages",
        "kdc.protocol.noise",
        "kdc.issuing.permits",
        "kdc.limits",
        "kdc.protocol.tickets",
    ),
    ("kdc.protocol.records",),
    ("kdc.protocol.handshake",),
    ("kdc.protocol.kdc_exchange",),
)
SECRET_FILES = (("kdc.files.private",),)
STORE = (
    ("kdc.store.interface",),
    ("kdc.store",),
    (
        "kdc.store.flatfile.files",
        "kdc.store.flatfile.lines",
        "kdc.store.memory",
        "kdc.store.portable",
    ),
    (
        "kdc.store.flatfile.batch",
        "kdc.store.flatfile.generation",
        "kdc.store.flatfile.masterkey",
        "kdc.store.flatfile.table",
    ),
    ("kdc.store.flatfile.base", "kdc.store.flatfile.content"),
    ("kdc.store.flatfile.journal",),
    ("kdc.store.flatfile.opening",),
    ("kdc.store.flatfile.check", "kdc.store.flatfile.store"),
    ("kdc.store.flatfile",),
    ("kdc.store.flatfile.backup", "kdc.store.flatfile.repair"),
)
DECISIONS = (("kdc.issuing.issuer",),)
LOCAL = (
    (
        *("kdc.files.tree", "kdc.rlimits", "kdc.items", "kdc.files.atomic"),
        *("kdc.protocol.directory", "kdc.progress", "kdc.terminal"),
    ),
    ("kdc.itemstream", "kdc.unfinished"),
    ("kdc.config", "kdc.deposit", "kdc.outgoing", "kdc.secret"),
    ("kdc.protocol.invitation", "kdc.redelivery"),
)
OPERATION = (
    ("kdc.adminrequest", "kdc.adminsocket"),
    ("kdc.newcomers",),
    ("kdc.administration",),
)
EDGE = (
    ("kdc.aio", "kdc.net.background", "kdc.net.clock", "kdc.limiter"),
    ("kdc.net.batching", "kdc.net.exit_status", "kdc.net.sockets", "kdc.net.tls"),
    ("kdc.adminserver", "kdc.auditlog", "kdc.known", "kdc.storewriter", "kdc.tlsfiles"),
    ("kdc.client", "kdc.server"),
    ("kdc.channel_services", "kdc.channel_transport"),
    ("kdc.channel",),
    ("kdc.channel_receiver", "kdc.channel_sender"),
    ("kdc.endpoints",),
    ("kdc.listening",),
)
APPLICATIONS = (("kdc.asking", "kdc.hook", "kdc.receiving", "kdc.sending", "kdc.tunnel"),)
SERVICES = (("kdc.policy", "kdc.directory"), ("kdc.service",))
CLIENT_COMMANDS = (
    *("kdc.asking_commands", "kdc.identity_commands"),
    *("kdc.transfer_commands", "kdc.tunnel_commands"),
)
# What people type, command lines and endpoint strings, becomes settings here.
COMMANDS = (
    ("kdc.options", "kdc.optiontable"),
    ("kdc.completion",),
    ("kdc.client_options",),
    ("kdc.client_app", "kdc.consent", "kdc.doctor"),
    ("kdc.api", "kdc.receive_app", "kdc.send_app", "kdc.tunnel_app", "kdc.who_app"),
    ("kdc.transfer_options", "kdc.tunnel_options"),
    ("kdc.client_tap", "kdc.endpoint_strings", "kdc.tap"),
    ("kdc.adminstore",),
    ("kdc.adminfiles",),
    ("kdc.adminload",),
    ("kdc.admin", *CLIENT_COMMANDS),
    ("kdc.commands",),
    ("kdc.cli",),
)
LAYERS = (
    *(CORE + SECRET_FILES + STORE + DECISIONS + LOCAL + OPERATION),
    *(EDGE + APPLICATIONS + SERVICES + COMMANDS),
)


def modules_of(*parts: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return the modules of these parts of the table."""
    return [module for rows in parts for row in rows for module in row]


# Bytes, `now` and randomness come in as arguments, bytes and decisions come out: what could
# read a clock, a file, a socket or a global generator is not in this list.
PURE = frozenset(
    (
        *("__future__", "abc", "collections", "enum", "types", "typing", "attrs"),
        *("bisect", "functools", "heapq", "itertools", "math", "operator"),
        *("base64", "binascii", "fnmatch", "ipaddress", "re", "struct", "unicodedata"),
        *("cryptography", "hashlib", "hmac"),
    )
)
PROTOCOL = frozenset(
    (
        "kdc.protocol.messages",
        "kdc.protocol.tickets",
        "kdc.protocol.noise",
        "kdc.protocol.handshake",
        "kdc.protocol.kdc_exchange",
        "kdc.issuing.issuer",
    )
)
SERVER_SIDE = frozenset(
    (
        *("kdc.issuing.issuer", "kdc.server", "kdc.auditlog", "kdc.storewriter", "kdc.service"),
        *("kdc.adminrequest", "kdc.newcomers", "kdc.administration", "kdc.tlsfiles"),
        *("kdc.adminsocket", "kdc.adminserver", "kdc.adminstore", "kdc.adminfiles"),
        *("kdc.adminload", "kdc.admin", "kdc.tap", "kdc.directory"),
    )
)
CLIENT_SIDE = frozenset(
    (
        *("kdc.known", "kdc.client", "kdc.channel", "kdc.channel_receiver", "kdc.channel_sender"),
        *("kdc.channel_services", "kdc.channel_transport", "kdc.endpoints", "kdc.listening"),
        *("kdc.client_options", "kdc.client_app", "kdc.tunnel_app", "kdc.api"),
        *("kdc.consent", "kdc.receive_app", "kdc.send_app", "kdc.who_app"),
        *("kdc.transfer_options", "kdc.tunnel_options"),
        *("kdc.client_tap", "kdc.endpoint_strings", *CLIENT_COMMANDS, "kdc.commands"),
    )
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


def upward(imports: Mapping[str, set[str]], layers: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return the imports that do not go from a later row to an earlier one, as text."""
    row_of = {module: number for number, row in enumerate(layers) for module in row}
    last = len(layers)
    return [
        f"{module} imports {other}"
        for module, others in sorted(imports.items())
        for other in sorted(others)
        if within(other, ["kdc"]) and row_of.get(other, last) >= row_of.get(module, last)
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

    def offenders(self, modules: Iterable[str], *packages: str) -> list[str]:
        """Return which of ``modules`` import something in ``packages``, as text."""
        return [
            f"{module} imports {other}"
            for module in modules
            for other in sorted(self.imports[module])
            if within(other, packages)
        ]

    def test_every_module_is_placed(self) -> None:
        """The table names the modules that exist, each once."""
        placed = modules_of(LAYERS)
        self.assertEqual(sorted(set(self.paths) - set(placed)), [], "place these in the table")
        self.assertEqual(sorted(set(placed) - set(self.paths)), [], "these are gone")
        self.assertEqual(len(placed), len(set(placed)), "a module has one place")

    def test_one_direction(self) -> None:
        """Imports go from a row of the table to rows before it only."""
        self.assertEqual(upward(self.imports, LAYERS), [])

    def test_core_is_pure(self) -> None:
        """The protocol has no I/O, no clock and no randomness of its own."""
        for module in modules_of(CORE, DECISIONS):
            foreign = {name for name in self.imports[module] if not within(name, ["kdc"])}
            self.assertEqual({name.split(".")[0] for name in foreign} - PURE, set(), module)
            tree = ast.parse(self.paths[module].read_text(encoding="utf-8"))
            self.assertEqual([n.lineno for n in ast.walk(tree) if draws_randomness(n)], [], module)

    def test_store_is_ordinary_blocking_code(self) -> None:
        """The store knows neither Twisted nor the protocol."""
        modules = [module for module in self.paths if within(module, ["kdc.store"])]
        self.assertEqual(self.offenders(modules, "twisted", "zope", *PROTOCOL), [])

    def test_local_files_without_twisted(self) -> None:
        """What works on files blocks, and leaves threads to its callers."""
        modules = modules_of(LOCAL, OPERATION)
        self.assertEqual(self.offenders(modules, "twisted", "zope", *PROTOCOL), [])

    def test_decisions_see_the_interface_of_the_store(self) -> None:
        """What the KDC decides does not depend on which store there is."""
        stores = set(modules_of(STORE)) - {"kdc.store", "kdc.store.portable"}
        modules = modules_of(DECISIONS, OPERATION, EDGE, APPLICATIONS)
        self.assertEqual(self.offenders(modules, *stores), [])

    def test_applications_know_nothing_of_tickets(self) -> None:
        """What people do over a channel is the same however the channel came to be."""
        self.assertEqual(self.offenders(modules_of(LOCAL, APPLICATIONS), *PROTOCOL), [])

    def test_client_side_does_without_the_server(self) -> None:
        """A client does not load, and so cannot run, what only the KDC needs."""
        modules = [*CLIENT_SIDE, *modules_of(LOCAL, APPLICATIONS)]
        self.assertEqual(self.offenders(modules, "kdc.store", *SERVER_SIDE), [])

    def test_nobody_imports_a_tap(self) -> None:
        """The taps are where options end; only the console commands reach them."""
        modules = set(self.paths) - {"kdc.cli", "kdc.commands", *CLIENT_COMMANDS}
        self.assertEqual(self.offenders(modules, "kdc.tap", "kdc.client_tap", "kdc.cli"), [])

    def test_options_stay_at_the_top(self) -> None:
        """Command lines are parsed in the commands, which make settings of them."""
        modules = set(self.paths) - set(modules_of(COMMANDS))
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
        """An import of a later row, of the same row or of itself is found; others are not."""
        layers = (("kdc.a", "kdc.b"), ("kdc.c",))
        found = upward({"kdc.a": {"kdc.b", "kdc.c", "os"}, "kdc.c": {"kdc.a", "kdc.c"}}, layers)
        self.assertEqual(
            found, ["kdc.a imports kdc.b", "kdc.a imports kdc.c", "kdc.c imports kdc.c"]
        )

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

    def test_module_level(self) -> None:
        """Code in a class or a condition runs at import; code in a function does not."""
        tree = ast.parse("if x:\n import a\nclass C:\n import b\n def f(self):\n  import c\n")
        names = [n.names[0].name for n in module_level(tree) if isinstance(n, ast.Import)]
        self.assertEqual(names, ["a", "b"])
