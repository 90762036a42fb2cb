"""``kinit`` and ``keytab``: what programs that speak Kerberos need, from the KDC over a channel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from twisted.python import usage

from kdc.channel.query import ask_resident
from kdc.client.client import RealmClient
from kdc.client.membership import make_client
from kdc.client.settings import absolute, client_settings
from kdc.commands.client.options import AskingOptions, run_client
from kdc.commands.options import seconds_of
from kdc.commands.private_file import write_private
from kdc.errors import ConfigurationError, NotReceiving, PeerUnavailable, UnknownPeer, malformed
from kdc.kerberos.ccache import Credential, ccache, read_ccache
from kdc.kerberos.keytab import read_keytab
from kdc.kerberos.names import Principal
from kdc.kerberos.realm import TGS
from kdc.protocol.kerberos import (
    KEYTAB,
    MAX_ANSWER,
    RECEIVER,
    TICKET,
    KeytabWanted,
    TicketWanted,
    decode_answer,
    encode_question,
)
from kdc.terminal import date, shown

__all__ = ["KeytabCommand", "KinitCommand"]

_MOST_SECONDS = 366 * 86_400


class KinitCommand(AskingOptions):
    """``kinit``"""

    synopsis = "kdcclient kinit -n NAME -a HOST -p PORT [-l TIME] [-r TIME] [-f] [-c FILE]"
    longdesc = (
        "Get a Kerberos ticket for programs that speak nothing else, and put it where they look:"
        " the file of KRB5CCNAME, or /tmp/krb5cc_UID.  Times are such as 30m, 10h or 7d."
    )
    optValues = {"cache": "file"}
    optParameters = [
        ["lifetime", "l", None, "how long it is to be good; as long as the KDC allows by default"],
        ["renewable", "r", None, "for how long it can be renewed; not at all by default"],
        ["cache", "c", None, "the file to write"],
    ]
    optFlags = [["forwardable", "f", "one that can be carried on to another machine"]]

    def run(self) -> int:
        from twisted.internet import reactor

        path = _cache(self["cache"])
        wanted = TicketWanted(
            _span(self["lifetime"], "--lifetime"),
            _span(self["renewable"], "--renewable"),
            bool(self["forwardable"]),
        )
        settings = client_settings(self)
        client = make_client(reactor, settings)

        async def get() -> int:
            content = await _asked(client, TICKET, wanted)
            credential = ticket_in(content, settings.name, settings.realm)
            write_private(path, ccache(credential.client, [credential]))
            self.print(
                {
                    "principal": str(credential.client),
                    "cache": str(path),
                    "end": credential.end_time if self["json"] else date(credential.end_time),
                }
            )
            return 0

        return run_client(reactor, get)


class KeytabCommand(AskingOptions):
    """``keytab``"""

    synopsis = "kdcclient keytab -n NAME -a HOST -p PORT -o FILE [--service SERVICE...]"
    longdesc = (
        "Get our own Kerberos keys, for a machine's services: all that are ours, or some.  The keys"
        " stay as they are however often that is done, unless others are asked for.  Another"
        " passphrase or key file ends them: then get them anew."
    )
    optValues = {"output": "file"}
    optRepeated: ClassVar[tuple[str, ...]] = ("service",)
    optParameters = [["output", "o", None, "the file to write (mode 0600)"]]
    optFlags = [["new-keys", None, "make new keys; the version before is still opened"]]

    def opt_service(self, value: str) -> None:
        """only this service, such as HTTP/web.example.org; may be repeated"""
        self["service"] = [*self.get("service", []), value]

    def run(self) -> int:
        from twisted.internet import reactor

        path = absolute(self["output"])
        if path is None:
            raise usage.UsageError("where to? -o FILE")
        wanted = KeytabWanted(self.get("service", ()), bool(self["new-keys"]))
        client = make_client(reactor, client_settings(self))

        async def get() -> int:
            content = await _asked(client, KEYTAB, wanted)
            try:
                entries = read_keytab(content)
            except ValueError as error:
                raise malformed(f"answer of Kerberos: {error}") from None
            write_private(path, content)
            names = list(dict.fromkeys(str(entry.principal) for entry in entries))
            self.print({"keytab": str(path), "principals": " ".join(names)})
            return 0

        return run_client(reactor, get)


async def _asked(client: RealmClient, service: str, wanted: TicketWanted | KeytabWanted) -> bytes:
    try:
        question = encode_question(wanted)
        return decode_answer(await ask_resident(client, RECEIVER, service, question, MAX_ANSWER))
    except (NotReceiving, UnknownPeer):
        raise PeerUnavailable(
            f"the KDC at {client.where} has no Kerberos: nobody answers there as {RECEIVER}",
            hint="that is the operator's to start, with kdc --kerberos",
        ) from None
    finally:
        client.close()


def ticket_in(content: bytes, name: str, realm: str) -> Credential:
    """The one ticket of an answer, which must be ours; raises `RemoteProtocolError`."""
    try:
        client, credentials = read_ccache(content)
    except ValueError as error:
        raise malformed(f"answer of Kerberos: {error}") from None
    own, tgs = Principal((name,), realm), Principal((TGS, realm), realm)
    if len(credentials) != 1 or client != own:
        raise malformed("answer of Kerberos: not one ticket of ours")
    (credential,) = credentials
    if credential.client != own or credential.server != tgs:
        raise malformed("answer of Kerberos: a ticket of somebody else, or for something else")
    return credential


def _cache(given: str | None) -> Path:
    """Where programs with Kerberos look for it."""
    text = given or os.environ.get("KRB5CCNAME") or f"/tmp/krb5cc_{os.getuid()}"  # noqa: S108
    kind, colon, rest = text.partition(":")
    if colon and kind == "FILE":
        text = rest
    elif colon and kind.isalpha() and kind.isupper():
        raise ConfigurationError(
            f"the ticket cache {text[:80]!r} is no file",
            hint="only caches of the kind FILE are written: give --cache FILE",
        )
    path = absolute(text)
    if path is None:
        raise ConfigurationError("the ticket cache has no name", hint="give --cache FILE")
    return path


def _span(text: str | None, option: str) -> int:
    """Seconds: of a number, or a time such as 30m, 10h or 7d; 0 if nothing was said."""
    if not text:
        return 0
    seconds = seconds_of(text if text[-1:].isalpha() else f"{text}s")
    if not seconds or seconds > _MOST_SECONDS:
        raise usage.UsageError(
            f"{option} is a time such as 30m, 10h or 7d, of a year at most, not {shown(text)}"
        )
    return seconds
