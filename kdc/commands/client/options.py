"""What every client command has to know: who am I, which KDC, how do I know it."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from kdc.commands.hints import complain
from kdc.commands.options import Command, server_endpoints, whole_number
from kdc.terminal import answer as answer_line
from kdc.terminal import harmless

__all__ = [
    "DEFAULT_LISTEN_PORT",
    "LISTEN_OPTIONS",
    "PROGRAM",
    "AskingOptions",
    "ClientOptions",
    "listen_endpoint",
    "listen_endpoints",
    "run_client",
]

PROGRAM = "kdcclient"
DEFAULT_LISTEN_PORT = 60_000
LISTEN_OPTIONS = [
    [
        "listen",
        None,
        None,
        (
            "port or Twisted endpoint to listen on; by default port 60000, or one that is free,"
            " on this machine only if the KDC is on it too"
        ),
    ],
    ["advertise", None, "", "the address to tell peers, if it is not the one the KDC sees"],
]


def run_client(reactor: Any, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run until ``work`` is done; what goes wrong is worded as a command line can."""
    from kdc.net.exit_status import run_to_end  # what only reads options needs no reactor

    return run_to_end(PROGRAM, reactor, work, complain=complain)


class ClientOptions(Command):
    """Options that all client commands share."""

    optValues = {
        "passphrase-file": "file",
        "key-file": "file",
        "kdc-ca": "file",
        "known-kdcs": "file",
        "config": "file",
    }
    optRepeated: ClassVar[tuple[str, ...]] = ("address",)
    optParameters = [
        ["name", "n", None, "our name, as registered with the KDC"],
        ["port", "p", None, "port of the KDC"],
        ["realm", None, None, "the realm, LOCAL by default; must be the same at the KDC"],
        ["passphrase-file", None, None, "read the passphrase from this file (mode 0600)"],
        ["passphrase-fd", None, None, "read the passphrase from this descriptor"],
        ["key-file", None, None, "use this key file (see keygen) instead of a passphrase"],
        ["kdc-fingerprint", None, None, "the KDC's identity: sha256:..., as it prints itself"],
        [
            "kdc-ca",
            None,
            None,
            "PEM file of the CA of the KDC's certificate, or 'system' for the system's CAs",
        ],
        [
            "reach",
            None,
            None,
            (
                "how others are reached, and we by them: direct, relay (the realm's, through"
                " which those are reached whom nobody can connect to), or auto, which is both;"
                " relay=NAME or auto=NAME for another relay than the one named relay"
            ),
        ],
        ["known-kdcs", None, None, "the file of KDCs met before, instead of the user's own"],
        ["config", None, None, "the file with defaults for these, instead of the user's own"],
    ]
    optFlags = [
        ["accept-new", None, "trust a KDC that was never met before, and remember it"],
        ["short-passphrase", None, "take a new passphrase of less than 8 characters"],
    ]

    def opt_address(self, value: str) -> None:
        """the KDC: HOST, HOST:PORT or [IPV6]:PORT; by default 127.0.0.1; may be repeated where
        a realm has several KDCs"""
        self["address"] = (*self.get("address", ()), value)

    opt_a = opt_address


class AskingOptions(ClientOptions):
    """Options of a command that prints an answer."""

    optFlags = [["json", None, "answer in JSON"]]

    def print(self, answer: dict[str, Any]) -> None:
        if self["json"]:
            answer_line(json.dumps(answer))
        else:
            for key, value in answer.items():
                answer_line(f"{key}: {harmless(str(value))}")


def listen_endpoints(text: str | None, loopback: bool, ipv6: bool) -> tuple[str, str]:
    """Where to listen; and where, if no port was given and that one is in use."""
    free = "" if text is not None else listen_endpoint("0", loopback, ipv6)
    return listen_endpoint(text, loopback, ipv6), free


def listen_endpoint(text: str | None, loopback: bool, ipv6: bool) -> str:
    """The endpoint that was given, or its port on the interface that suits the KDC's address."""
    if text is not None and ":" in text:
        return server_endpoints(text)
    port = DEFAULT_LISTEN_PORT if text is None else whole_number(text, 0, 65535, "a port")
    kind = "tcp6" if ipv6 else "tcp"
    if not loopback:
        return f"{kind}:{port}"
    return f"{kind}:{port}:interface=" + ("\\:\\:1" if ipv6 else "127.0.0.1")
