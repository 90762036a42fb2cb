"""A load for krb5kdc that costs it as little as can be: ``python -m bench.kload SETTINGS``.

`kvno` and `kinit` take longer for a request than the server does, so the server sleeps and wakes
for each.  Here all requests are made before the clock starts, each with an authenticator or a
timestamp of its own, and so many are always outstanding on one socket.  A request depends on
nothing but the time and random bytes: some answers are checked afterwards, by making their
requests again and giving them to the client.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from bench.population import name_of, sample
from bench.processes import Failed, cpu_of
from kdc.kerberos.ccache import Credential
from kdc.kerberos.keytab import KeytabEntry, read_keytab
from kdc.kerberos.messages import (
    ENCRYPTED_DATA,
    PA_ENC_TIMESTAMP,
    EncryptedData,
    PAData,
    PAEncTimestamp,
)
from kdc.kerberos.names import parsed
from kdc.kerberos.padata import PadataType
from kdc.testing.client import Client, Wanted

__all__ = ["PROOF", "TICKET", "UNPROVED", "initial_with_proof", "over_udp"]

# What is asked: a log-in that will be refused, one with a proof, a ticket for a service.
UNPROVED, PROOF, TICKET = "unproved", "proof", "ticket"
_FIRST_BYTE = {UNPROVED: 0x7E, PROOF: 0x6B, TICKET: 0x6D}
_CHECKED = 101  # at most; odd, so that each kind of question has its share
_USAGE_TIMESTAMP = 1
_ETYPE = 18
_SECONDS = 10.0


def over_udp(place: tuple[str, int], request: bytes) -> bytes:
    """One question on a socket of its own, as Kerberos' libraries do it; raises `Failed`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(_SECONDS)
        datagrams.connect(place)
        try:
            datagrams.send(request)
            return datagrams.recv(1 << 16)
        except OSError as error:
            raise Failed(f"no answer at port {place[1]}: {error}") from None


def initial_with_proof(client: Client, entry: KeytabEntry) -> Credential:
    """An AS exchange with the proof at once, so that nothing is refused first."""
    key, now = entry.key, client.now()
    stamp = PA_ENC_TIMESTAMP.encode(PAEncTimestamp(int(now), int(now % 1 * 1_000_000)))
    cipher = key.seal(_USAGE_TIMESTAMP, stamp, client.random(16))
    content = ENCRYPTED_DATA.encode(EncryptedData(key.etype, None, cipher))
    proof = (PAData(PadataType.ENC_TIMESTAMP, content),)
    return client.initial(entry.principal, lambda _: key, Wanted(padata=proof))


class _Made(Exception):
    """The request is there, and is not sent yet."""


@attrs.frozen
class _Request:
    """One question, made from a time and a seed, and made again from them."""

    kind: str
    ask: Callable[[Client], object]
    realm: str
    now: float
    seed: int

    def _client(self, exchange: Callable[[bytes], bytes]) -> Client:
        dice = random.Random(self.seed)
        return Client(self.realm, exchange, now=lambda: self.now, random=dice.randbytes)

    def content(self) -> bytes:
        made: list[bytes] = []

        def keep(request: bytes) -> bytes:
            made.append(request)
            raise _Made

        try:
            self.ask(self._client(keep))
        except _Made:
            return made[0]
        raise AssertionError("nothing was asked")

    def check(self, answer: bytes) -> None:
        """Raises what the client raises at an answer that is not its own."""
        if self.kind != UNPROVED:
            self.ask(self._client(lambda request: answer))


def _requests(settings: dict[str, Any]) -> Iterator[_Request]:
    """In the order in which a client would ask."""
    realm = settings["realm"]
    entries = read_keytab(Path(settings["keytab"]).read_bytes())
    entry = next(
        entry
        for entry in entries
        if entry.key.etype == _ETYPE and entry.principal.components == (settings["client"],)
    )
    plain = Client(realm, partial(over_udp, ("127.0.0.1", settings["port"])))
    granting = initial_with_proof(plain, entry)
    for number in sample(settings["count"], settings["principals"], settings["outstanding"]):
        service = parsed(name_of(number), realm)
        asks: dict[str, Callable[[Client], object]] = {
            UNPROVED: lambda client: client.initial(entry.principal, lambda _: entry.key),
            PROOF: lambda client: initial_with_proof(client, entry),
            TICKET: lambda client, service=service: client.service(granting, service),  # type: ignore[misc]
        }
        for kind in settings["kinds"]:
            seed = int.from_bytes(os.urandom(8), "big")
            yield _Request(kind, asks[kind], realm, time.time(), seed)


def _asked(port: int, contents: list[bytes], outstanding: int) -> list[bytes]:
    """All answers, in the order in which they come: krb5kdc answers one after the other."""
    answers: list[bytes] = []
    waiting = iter(contents)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(_SECONDS)
        datagrams.connect(("127.0.0.1", port))
        for _, content in zip(range(outstanding), waiting, strict=False):
            datagrams.send(content)
        while len(answers) < len(contents):
            answers.append(datagrams.recv(1 << 16))
            content = next(waiting, b"")
            if content:
                datagrams.send(content)
    return answers


def load(settings: dict[str, Any]) -> dict[str, float]:
    """Ask all of it; the figures are of each of ``count`` services."""
    requests = list(_requests(settings))
    contents = [request.content() for request in requests]
    cpu, begun = cpu_of(settings["pid"]), time.monotonic()
    answers = _asked(settings["port"], contents, settings["outstanding"])
    seconds, cpu = time.monotonic() - begun, cpu_of(settings["pid"]) - cpu
    for request, answer in zip(requests, answers, strict=True):
        if answer[0] != _FIRST_BYTE[request.kind]:
            raise Failed(f"{request.kind}: another answer: {answer[:200]!r}")
    every = -(-len(requests) // _CHECKED)
    for request, answer in zip(requests[::every], answers[::every], strict=True):
        request.check(answer)
    count = settings["count"]
    return {"us": cpu / count * 1e6, "per_second": count / seconds, "count": count}


if __name__ == "__main__":
    try:
        print(json.dumps(load(json.loads(sys.argv[1]))))
    except (Failed, OSError) as error:
        sys.exit(str(error) or repr(error))
