"""What is promised to other programs is documented, and what the documentation says is so."""

from __future__ import annotations

import ast
import builtins
import contextlib
import doctest
import enum
import functools
import importlib
import inspect
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CoroutineType, FunctionType, ModuleType
from typing import Any

import attrs
from twisted.internet import error, reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.wire import Echo
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, providedBy
from zope.interface.verify import verifyObject

from kdc import errors
from kdc.api import ANYBODY, Client, Reactor
from kdc.client import known_kdcs
from kdc.client.secret import SecretSource, write_key_file
from kdc.errors import Refusal
from kdc.issuing import issuer as issuer_module
from kdc.protocol.messages import Authenticate
from kdc.server.certificate import ServerTLS
from kdc.store import Create, Delete, Record, Status
from tests.channel.test_api import ClientTestCase
from tests.support.edge import KDC, KDC_PORT, HalfRecorder, Recorder, certificate, factory_of

PROMISED = ("kdc.api", "kdc.aio", "kdc.errors")
# What is never called by others: how they come by one is in the docstring.
MADE_BY_US = ("Client", "ListeningPrincipal")
Function = Callable[..., Any]
_DEF = ast.FunctionDef | ast.AsyncFunctionDef


def promised(module: ModuleType) -> dict[str, Any]:
    """Return what a module promises, by name."""
    return {name: getattr(module, name) for name in module.__all__}


def functions(module: ModuleType) -> Iterator[tuple[str, Function]]:
    """Yield the functions and methods that a module promises, each with its name."""
    for name, thing in promised(module).items():
        if isinstance(thing, FunctionType):
            yield name, thing
        elif isinstance(thing, type) and thing is not Reactor:
            for own, member in vars(thing).items():
                method = getattr(member, "fget", getattr(member, "__func__", member))
                here = inspect.isfunction(method) and method.__module__ == module.__name__
                if here and not own.startswith("_"):
                    yield f"{name}.{own}", method


def raised_by(docstring: str) -> list[str]:
    """Return what follows ``Raises`` in the docstring: classes, and methods that raise the same.

    ``Raises nothing`` is an empty list; to say neither is a fault.
    """
    said = re.findall(r"\bRaises\b(.*?)(?:\n\n|\Z)", inspect.cleandoc(docstring), re.DOTALL)
    if not said:
        raise ValueError("no word of what it raises")
    names = [name for text in said for name in re.findall(r"(?<!:)`{1,2}(\w+)`{1,2}", text)]
    if not names and not said[0].strip().startswith("nothing"):
        raise ValueError(f"raises {said[0]}, which is no name")
    return names


def documented(cls: type, method: str, seen: tuple[str, ...] = ()) -> set[str]:
    """Return the names of the errors that a method's docstring, or one it refers to, names."""
    found: set[str] = set()
    arguments = parameters(getattr(cls, method))
    for name in raised_by(getattr(cls, method).__doc__):
        if name[0].isupper():
            found.add(name)
        elif name not in seen and name not in arguments:
            found |= documented(cls, name, (*seen, method))
    return found


def parameters(function: Function) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def raises(tree: ast.AST, called: str) -> set[str]:
    """Return the classes that a function raises, itself or in what it calls in its module."""
    functions = {node.name: node for node in ast.iter_child_nodes(tree) if isinstance(node, _DEF)}
    methods = {node.name: node for node in ast.walk(tree) if isinstance(node, _DEF)}
    found: set[str] = set()
    left, seen = [methods[called]], set()
    while left:
        body = left.pop()
        if body in seen:
            continue
        seen.add(body)
        for node in ast.walk(body):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                found.add(ast.unparse(node.exc.func))
            # What is public has a docstring of its own.
            elif isinstance(node, ast.Name) and node.id in functions and node.id[0] == "_":
                left.append(functions[node.id])
            elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("self._"):
                inner = None if node.attr in functions else methods.get(node.attr)
                left += [] if inner is None else [inner]
    return found


def types_in(function: Function) -> list[ast.AST]:
    return [
        node
        for text in function.__annotations__.values()
        for node in ast.walk(ast.parse(str(text), mode="eval"))
    ]


class ReferenceTests(SynchronousTestCase):
    """The docstrings of kdc.api, kdc.aio and kdc.errors, from which ``make docs`` is made."""

    def setUp(self) -> None:
        # Not kdc.aio first: it is there to be imported before the reactor.
        self.modules = [importlib.import_module(name) for name in PROMISED]
        self.names = {name for module in self.modules for name in promised(module)}

    def each(self) -> Iterator[tuple[str, Function, ModuleType]]:
        for module in self.modules:
            for name, function in functions(module):
                yield name, function, module

    def test_all_are_seen(self) -> None:
        """Each module promises something, and the tests below look at it."""
        seen = {name for name, _, _ in self.each()}
        self.assertLessEqual(
            {"run", "wait", "running_reactor", "Client.open", "Client.name", "malformed"}, seen
        )
        for module in self.modules:
            public = {
                name
                for name, thing in vars(module).items()
                if getattr(thing, "__module__", "") == module.__name__ and name[0] != "_"
            }
            self.assertEqual(public - set(module.__all__) - {"T"}, set(), module.__name__)

    def test_documented(self) -> None:
        """Everything says what it is; every function names its arguments and what it raises."""
        for module in self.modules:
            for name, thing in promised(module).items():
                self.assertTrue(inspect.getdoc(thing), name)
        for name, function, _ in self.each():
            text = function.__doc__ or ""
            self.assertTrue(text, name)
            for parameter in parameters(function):
                self.assertIn(f"``{parameter}``", text, name)
            try:
                raised_by(text)
            except ValueError as problem:
                self.fail(f"{name}: {problem}")

    def test_errors_exist(self) -> None:
        """What a docstring says is raised is an error, of ours or of Python's or Twisted's."""
        for name, function, _ in self.each():
            for raised in raised_by(function.__doc__ or ""):
                if raised[0].isupper():
                    places = (errors, builtins, error)
                    found = [getattr(place, raised, None) for place in places]
                    self.assertTrue(
                        any(inspect.isclass(e) and issubclass(e, BaseException) for e in found),
                        f"{name}: {raised}",
                    )

    def test_what_the_source_raises(self) -> None:
        """A ``raise`` in a function, or in a helper that it calls, is in the docstring."""
        seen = 0
        for name, function, module in self.each():
            source = raises(ast.parse(inspect.getsource(module)), name.rpartition(".")[2])
            said = set(raised_by(function.__doc__ or ""))
            self.assertEqual(source - said, set(), name)
            seen += len(source)
        self.assertGreater(seen, 4)

    def test_types(self) -> None:
        """No type is ``Any``, and none is a class of ours that is not promised."""
        for name, function, module in self.each():
            self.assertEqual(
                set(function.__annotations__) - {"return"}, set(parameters(function)), name
            )
            self.assertIn("return", function.__annotations__, name)
            for node in types_in(function):
                if isinstance(node, ast.Name):
                    self.assertNotEqual(node.id, "Any", name)
                    found = vars(module).get(node.id)
                    ours = isinstance(found, type) and found.__module__.startswith("kdc.")
                    self.assertTrue(not ours or node.id in self.names, f"{name}: {node.id}")

    def test_attributes(self) -> None:
        """The docstring of a class, or of one it derives from, names each public attribute."""
        for module in self.modules:
            for name, cls in promised(module).items():
                if not isinstance(cls, type) or issubclass(cls, enum.Enum) or name in MADE_BY_US:
                    continue
                ours = [base for base in cls.__mro__ if base.__module__.startswith("kdc.")]
                text = "".join(base.__doc__ or "" for base in ours)
                public = {n for base in ours for n in inspect.get_annotations(base) if n[0] != "_"}
                public |= {n for n in parameters(cls) if issubclass(cls, errors.KDCError)}
                for attribute in public - {"text"}:
                    self.assertIn(f"``{attribute}``", text, name)

    def test_faults_are_found(self) -> None:
        """A docstring without a word of errors, and an error it does not name, are noticed."""
        self.assertRaises(ValueError, raised_by, "Return it.")
        self.assertRaises(ValueError, raised_by, "Return it.  Raises an error.")
        self.assertEqual(raised_by("Return it.  Raises nothing."), [])
        self.assertEqual(raised_by("X.\n\nRaises `A` if,\nor ``B``.\n\n`C`"), ["A", "B"])
        tree = ast.parse(
            "def f():\n _g()\ndef _g():\n raise E(1)\ndef h():\n f()\n raise F('x') from None\n"
        )
        self.assertEqual((raises(tree, "f"), raises(tree, "h")), ({"E"}, {"F"}))

    def test_reactors(self) -> None:
        """Twisted's reactor is what the type says."""
        for interface in Reactor.__bases__:
            self.assertTrue(verifyObject(interface, reactor), interface)


@attrs.frozen
class _Pool:
    """Threads of a reactor in memory: what is called has returned at once."""

    def callInThreadWithCallback(self, done: Function, call: Function, *args: Any) -> None:
        try:
            result = call(*args)
        except Exception as problem:  # noqa: BLE001  it goes where a thread's would
            done(False, Failure(problem))
        else:
            done(True, result)


class RealmTestCase(ClientTestCase):
    """A realm in memory that a whole `Client.open` works in, and alice's key file."""

    def setUp(self) -> None:
        super().setUp()
        self.home = Path(self.mktemp())
        self.home.mkdir()
        self.patch(os, "environ", {"HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home)})
        before = os.getcwd()
        os.chdir(self.home)
        self.addCleanup(os.chdir, before)
        write_key_file(Path("alice.key"))
        keys = SecretSource(key_file=Path("alice.key")).keys("LOCAL", "alice")
        record = Record(
            "alice", Status.ACTIVE, verify_key=keys.verify_key, reply_key=keys.reply_key
        )
        self.kdc.apply(Create(record, bytes(16)))
        self.bob = self.principal("bob")
        self.echo = Factory.forProtocol(Echo)

    def open(self, reactor: Any = None, **options: Any) -> Any:
        given = {
            "name": "alice",
            "key_file": "alice.key",
            "address": "192.0.2.88",
            "port": 88,
            "kdc_fingerprint": self.kdc.tls.fingerprint,
        }
        return Client.open(reactor or self.reactor(), **{**given, **options})

    def reactor(self) -> Any:
        host: Any = self.host()
        host.getThreadPool = _Pool
        host.callFromThread = lambda call, *args: host.callLater(0, call, *args)
        host.nameResolver = self
        directlyProvides(host, IReactorPluggableNameResolver, providedBy(host))
        return host

    def resolveHostName(
        self, receiver: Any, host: str, portNumber: int, *args: Any, **kw: Any
    ) -> Any:
        """Every name is an address already."""
        receiver.resolutionBegan(None)
        receiver.addressResolved(IPv4Address("TCP", host, portNumber))
        receiver.resolutionComplete()
        return receiver


class ExampleTests(RealmTestCase):
    """The examples in docstrings, which say ``await`` as ``python -m asyncio`` lets one."""

    def test_examples(self) -> None:
        """Each shows what it says that it shows."""
        self.do(self.bob.listen(self.echo))
        run = 0
        for name in PROMISED:
            for test in doctest.DocTestFinder(recurse=True).find(importlib.import_module(name)):
                names = {
                    **vars(importlib.import_module(name)),
                    "Echo": Echo,
                    "Factory": Factory,
                    "alice": self.do(self.open()),
                    "bob": self.bob,
                    "fingerprint": self.kdc.tls.fingerprint,
                    "reactor": self.reactor(),
                }
                run += sum(self.show(example, names, test.name) for example in test.examples)
                self.do(names["alice"].close())
        self.assertGreater(run, 15)

    def show(self, example: doctest.Example, names: dict[str, Any], where: str) -> bool:
        shown = self.shown(example.source, names)
        self.assertEqual(shown, example.want, f"{where}: {example.source}")
        return True

    def shown(self, source: str, names: dict[str, Any]) -> str:
        """Return what a console would show of ``source``."""
        code = compile(source, "", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            result = eval(code, names)  # noqa: S307  the examples are ours
            if isinstance(result, CoroutineType):
                self.do(result)
        return shown.getvalue()

    def test_wrong_examples(self) -> None:
        """An example that shows something else is noticed."""
        names = {"bob": self.bob}
        self.assertEqual(self.shown("bob.name\n", names), "'bob'\n")
        wrong = doctest.Example("bob.name\n", "'alice'\n")
        self.assertRaises(self.failureException, self.show, wrong, names, "x")


def ends_in_its_error(way: Callable[[RaisedTests], BaseException]) -> Callable[[RaisedTests], None]:
    """Make a test of what raises the error that is the last word of its name."""

    @functools.wraps(way)
    def test(case: RaisedTests) -> None:
        raised = way(case)
        public = [c.__name__ for c in type(raised).__mro__ if c.__name__ in errors.__all__]
        case.assertEqual([*public, ""][0], way.__name__.rpartition("_")[2], repr(raised))

    return test


class RaisedTests(RealmTestCase):
    """Each error that a method of `Client` is said to raise is raised."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.do(self.open())

    def test_all_are_shown(self) -> None:
        """For each method and each error that its docstring names, there is a test below."""
        methods = [name for name in vars(Client) if name[0] != "_" and name != "name"]
        self.assertEqual(len(methods), 9)
        for method in methods:
            said = documented(Client, method)
            if method in ("ask", "serve"):  # their first step is another method
                said -= documented(Client, "connect" if method == "ask" else "listen")
            for name in said:
                self.assertTrue(hasattr(self, f"test_{method}_{name}"), f"{method} {name}")

    def of(self, work: Any) -> BaseException:
        """Return the error in which ``work`` ends, in a minute at most."""
        running = self.begin(work)
        if not running.called:
            self.network.advance(60)
        return self.failureResultOf(running).value

    def refusing(self, refusal: Refusal) -> None:
        """Have the KDC refuse all that is asked."""

        def refuse(session: Any, request: Any, now: object) -> Any:
            return session.refuse(refusal, request.nonce, "", 1)

        self.patch(
            issuer_module,
            "EXCHANGES",
            {
                each: do if each[1] is Authenticate else refuse
                for each, do in issuer_module.EXCHANGES.items()
            },
        )

    # open

    @ends_in_its_error
    def test_open_ConfigurationError(self) -> BaseException:
        return self.of(self.open(name="b ob"))

    @ends_in_its_error
    def test_open_LocalIOError(self) -> BaseException:
        return self.of(self.open(key_file="none.key"))

    @ends_in_its_error
    def test_open_KDCUnreachable(self) -> BaseException:
        return self.of(self.open(port=89))

    @ends_in_its_error
    def test_open_UnknownIdentity(self) -> BaseException:
        self.patch(known_kdcs, "look", lambda host, port: self.kdc.tls.fingerprint)
        return self.of(self.open(kdc_fingerprint=None))

    @ends_in_its_error
    def test_open_WrongIdentity(self) -> BaseException:
        return self.of(self.open(kdc_fingerprint=f"sha256:{64 * '0'}"))

    @ends_in_its_error
    def test_open_AuthenticationRefused(self) -> BaseException:
        write_key_file(Path("another.key"))
        return self.of(self.open(key_file="another.key"))

    @ends_in_its_error
    def test_open_TooBusy(self) -> BaseException:
        write_key_file(Path("another.key"))
        reactor = self.reactor()
        for _ in range(20):
            found = self.of(self.open(reactor, key_file="another.key"))
        return found

    # connect, and with it ask

    def connecting(self) -> BaseException:
        return self.of(self.alice.connect("bob", factory_of(Recorder())))

    @ends_in_its_error
    def test_connect_ConfigurationError(self) -> BaseException:
        return self.of(self.alice.connect("b ob", factory_of()))

    @ends_in_its_error
    def test_connect_KDCUnreachable(self) -> BaseException:
        self.kdc.stop()
        return self.connecting()

    @ends_in_its_error
    def test_connect_PeerUnavailable(self) -> BaseException:
        self.do(self.bob.listen(self.echo))
        listening = next(wire for wire in self.network.ports if wire[1] != KDC_PORT)
        del self.network.ports[listening]
        return self.connecting()

    @ends_in_its_error
    def test_connect_UnknownPeer(self) -> BaseException:
        return self.of(self.alice.connect("nobody", factory_of()))

    @ends_in_its_error
    def test_connect_NotReceiving(self) -> BaseException:
        return self.connecting()

    @ends_in_its_error
    def test_connect_RefusedByPolicy(self) -> BaseException:
        self.do(self.bob.listen(self.echo, service="web"))
        return self.connecting()

    @ends_in_its_error
    def test_connect_TooBusy(self) -> BaseException:
        self.refusing(Refusal.RATE)
        return self.connecting()

    @ends_in_its_error
    def test_connect_RemoteProtocolError(self) -> BaseException:
        self.do(self.bob.listen(self.echo))
        connecting = Deferred.fromCoroutine(self.alice.connect("bob", factory_of(Recorder())))
        while not (here := [w for w in self.network.wires if w.host.port == 40000]):
            Clock.advance(self.network, 0)
            moved = [wire.step() for wire in self.network.wires]
            self.assertTrue(any(moved))
        here[0].tamper = lambda data: data[:-1] + bytes([data[-1] ^ 1])
        self.network.advance(60)
        return self.failureResultOf(connecting).value

    @ends_in_its_error
    def test_ask_TooLarge(self) -> BaseException:
        self.do(self.bob.listen(self.echo))
        return self.of(self.alice.ask("bob", b"1234", limit=3))

    @ends_in_its_error
    def test_ask_IntegrityError(self) -> BaseException:
        self.do(self.bob.listen(factory_of(far := HalfRecorder())))
        asking = self.begin(self.alice.ask("bob", b"question"))
        far.out.abortConnection()
        self.network.settle()
        return self.failureResultOf(asking).value

    @ends_in_its_error
    def test_endpoint_ConfigurationError(self) -> BaseException:
        return self.assertRaises(errors.ConfigurationError, self.alice.endpoint, "b ob")

    # listen, and with it serve

    def listening(self) -> BaseException:
        return self.of(self.alice.listen(self.echo))

    @ends_in_its_error
    def test_listen_ConfigurationError(self) -> BaseException:
        return self.of(self.alice.listen(self.echo, listen="nothing:1"))

    @ends_in_its_error
    def test_listen_LocalIOError(self) -> BaseException:
        self.network.listen(self.alice._client.reactor.address, 7000, factory_of())
        return self.of(self.alice.listen(self.echo, listen="tcp:7000"))

    @ends_in_its_error
    def test_listen_WrongIdentity(self) -> BaseException:
        self.kdc.stop()
        self.kdc = KDC(self.network, tls=ServerTLS(*certificate("another")))
        return self.listening()

    @ends_in_its_error
    def test_listen_AuthenticationRefused(self) -> BaseException:
        record = self.kdc.store.get("alice")
        assert record is not None
        self.kdc.apply(Delete("alice", record.generation))
        return self.listening()

    @ends_in_its_error
    def test_serve_Superseded(self) -> BaseException:
        serving = self.begin(self.alice.serve(self.echo))
        self.do(self.do(self.open()).listen(self.echo))
        return self.failureResultOf(serving).value

    # keys

    def asking(self) -> BaseException:
        return self.of(self.alice.session_key("bob"))

    @ends_in_its_error
    def test_session_key_ConfigurationError(self) -> BaseException:
        return self.of(self.alice.session_key("b ob"))

    @ends_in_its_error
    def test_session_key_KDCUnreachable(self) -> BaseException:
        self.kdc.stop()
        return self.asking()

    @ends_in_its_error
    def test_session_key_UnknownPeer(self) -> BaseException:
        return self.of(self.alice.session_key("nobody"))

    @ends_in_its_error
    def test_session_key_NotReceiving(self) -> BaseException:
        return self.asking()

    @ends_in_its_error
    def test_session_key_RefusedByPolicy(self) -> BaseException:
        return self.of(self.alice.session_key("alice"))

    @ends_in_its_error
    def test_session_key_TooBusy(self) -> BaseException:
        self.refusing(Refusal.RATE)
        return self.asking()

    @ends_in_its_error
    def test_open_ticket_ConfigurationError(self) -> BaseException:
        self.do(self.bob.listen(self.echo))
        key = self.do(self.alice.session_key("bob"))
        return self.assertRaises(
            errors.ConfigurationError,
            self.alice.open_ticket,
            *(key.epoch_id, key.ticket, key.proof),
            allow=ANYBODY,
        )

    @ends_in_its_error
    def test_open_ticket_RemoteProtocolError(self) -> BaseException:
        self.do(self.bob.listen(self.echo))
        key = self.do(self.alice.session_key("bob"))
        return self.assertRaises(
            errors.RemoteProtocolError,
            self.bob.open_ticket,
            *(key.epoch_id, key.ticket, bytes(32)),
            allow=ANYBODY,
        )
