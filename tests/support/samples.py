"""One valid message of each type, and ways to make any other."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import strategies as st

from kdc.errors import Refusal
from kdc.protocol.messages import (
    Authenticate,
    Authenticated,
    Changed,
    ChangeKeys,
    EpochEnded,
    KeyReply,
    KeyRequest,
    Message,
    Receive,
    Receiving,
    Refused,
    Register,
    Registered,
    Request,
    SealedMessage,
)

__all__ = ["REPLIES", "REQUESTS", "SAMPLES", "SEALED", "messages", "names"]


def _bytes(length: int, first: int) -> bytes:
    """Recognisable bytes: a swapped field shows."""
    return bytes((first + at) % 256 for at in range(length))


REQUESTS: list[Request] = [
    Register(
        "alice",
        "192.0.2.7",
        60000,
        _bytes(32, 0x10),
        _bytes(32, 0x30),
        _bytes(16, 0x50),
        _bytes(32, 0x60),
        _bytes(64, 0x80),
    ),
    Authenticate("alice", _bytes(16, 0x50), _bytes(64, 0x80)),
    ChangeKeys(
        1,
        "2001:db8::7",
        60001,
        _bytes(32, 0x10),
        _bytes(32, 0x30),
        _bytes(16, 0x50),
        _bytes(64, 0x80),
        _bytes(64, 0xC0),
    ),
    Receive("", 60000, _bytes(32, 0x10), _bytes(16, 0x50)),
    KeyRequest("bob", _bytes(32, 0x10), _bytes(16, 0x50)),
]
SEALED: list[SealedMessage] = [
    Authenticated(7),
    Changed(8),
    Receiving(_bytes(16, 0x10), _bytes(32, 0x20), 300),
    KeyReply(
        _bytes(32, 0x10),
        _bytes(16, 0x30),
        _bytes(32, 0x40),
        300,
        "192.0.2.9",
        60000,
        _bytes(140, 0x60),
    ),
    EpochEnded(_bytes(16, 0x10)),
    Refused(Refusal.RATE, 17),
]
REPLIES: list[Message] = [Registered(_bytes(16, 0x50), 7), *SEALED]
SAMPLES: list[Message] = [
    *REQUESTS,
    ChangeKeys(2, "", 0, b"", b"", _bytes(16, 0x50), _bytes(64, 0x80), b""),
    *REPLIES,
]


names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
_addresses = st.one_of(
    st.just(""),
    st.ip_addresses(v=4).map(str),
    # An IPv4 address written as an IPv6 one has no encoding: it would be a second spelling.
    st.ip_addresses(v=6)
    .filter(lambda ip: isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None)
    .map(str),
)
_ports = st.integers(0, 0xFFFF)
_generations = st.integers(0, 2**64 - 1)
_lifetimes = st.integers(10, 3600)


def _fixed(*lengths: int) -> st.SearchStrategy[bytes]:
    return st.one_of(*(st.binary(min_size=n, max_size=n) for n in lengths))


_FIELDS: list[tuple[type[Any], tuple[st.SearchStrategy[Any], ...]]] = [
    (
        Register,
        (
            names,
            _addresses,
            _ports,
            _fixed(32),
            _fixed(32),
            _fixed(16),
            _fixed(0, 32),
            _fixed(64),
        ),
    ),
    (Authenticate, (names, _fixed(16), _fixed(64))),
    (
        ChangeKeys,
        (
            st.just(1),
            _addresses,
            _ports,
            _fixed(32),
            _fixed(32),
            _fixed(16),
            _fixed(64),
            _fixed(64),
        ),
    ),
    (
        ChangeKeys,
        (
            st.just(2),
            _addresses,
            _ports,
            st.just(b""),
            st.just(b""),
            _fixed(16),
            _fixed(64),
            st.just(b""),
        ),
    ),
    (Receive, (_addresses, _ports, _fixed(32), _fixed(16))),
    (KeyRequest, (names, _fixed(32), _fixed(16))),
    (Registered, (_fixed(16), _generations)),
    (Authenticated, (_generations,)),
    (Changed, (_generations,)),
    (Receiving, (_fixed(16), _fixed(32), _lifetimes)),
    (
        KeyReply,
        (
            _fixed(32),
            _fixed(16),
            _fixed(32),
            _lifetimes,
            _addresses,
            _ports,
            st.binary(min_size=1, max_size=256),
        ),
    ),
    (EpochEnded, (_fixed(16),)),
    (Refused, (st.sampled_from(Refusal), st.integers(0, 0xFFFF))),
]
messages: st.SearchStrategy[Any] = st.one_of(
    *(st.builds(message_type, *fields) for message_type, fields in _FIELDS)
)
