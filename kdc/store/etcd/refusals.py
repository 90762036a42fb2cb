"""What can go wrong between us and etcd, in words, and what to do about it.  Pure."""

from __future__ import annotations

import http.client
import json
import ssl

from kdc.hostile_text import shown

__all__ = [
    "USER",
    "Denied",
    "EtcdError",
    "TokenEnded",
    "Unknown",
    "Unsent",
    "advice",
    "refusal",
    "why",
]

# gRPC's codes.
_NOT_PERMITTED, _NOT_AS_IT_IS, _UNAUTHENTICATED = 7, 9, 16
# Of what was certainly not carried out: invalid, no such lease, denied, no space.
_DEFINITE = frozenset((3, 5, _NOT_PERMITTED, 8))
# Users or roles were changed since we logged in; said with the code for what is invalid.
_LOG_IN_AGAIN = "etcdserver: revision of auth store is old"
_NO_USERS = "etcdserver: authentication is not enabled"
# Of the gateway itself, and no JSON.
_COMMON_NAME = b"CommonName of client"
# OpenSSL's: not yet or no longer valid; for another host, or another address.
_TIMES, _NAMES = frozenset((9, 10)), frozenset((62, 64))

_ENDED = (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError)
_OURS = "our certificate has to be from etcd's authority, and not expired"
USER = "look at the user that we were given for etcd, and at the file with its password"


class EtcdError(Exception):
    """A request came to nothing; the text holds no secret.

    ``hint`` says what to do, if more than waiting for etcd helps.
    """

    def __init__(self, text: str = "", hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class Unsent(EtcdError):
    """It was not carried out: there was no connection to send it on."""


class Denied(EtcdError):
    """etcd refused it: it was not carried out, and would not be at another member."""


class Unknown(EtcdError):
    """It was sent, and no good answer came: it may have been carried out, or may yet be."""


class TokenEnded(EtcdError):
    """etcd does not know who we are, or not any more."""


def refusal(where: str, text: bytes, user: str) -> EtcdError:
    """What an answer means that is not 200; raises `ValueError`, `RecursionError` if it is none."""
    if text.startswith(_COMMON_NAME):
        return Denied(
            f"{where}: our certificate has a common name, which etcd takes for a user's and does"
            " not accept here",
            "use a certificate that has all its names among the alternative ones",
        )
    answer = json.loads(text)
    if not isinstance(answer, dict):
        raise ValueError("not an object")
    grpc, message = answer.get("code"), str(answer.get("message", "no reason"))[:200]
    if grpc == _UNAUTHENTICATED or message == _LOG_IN_AGAIN:
        return TokenEnded()
    if message == _NO_USERS:
        return Denied(
            f"{where} asks nobody for a user, and we were given one",
            "let etcd ask (etcdctl auth enable), or give us none",
        )
    said = f"{where}: {message!r}"
    if grpc in _DEFINITE:
        return Denied(said, _allowed(user) if grpc == _NOT_PERMITTED else "")
    return Unknown(said)


def _allowed(user: str) -> str:
    if not user:
        return USER
    return (
        f"at etcd the role of {shown(user)} has to allow reading and writing what begins with"
        " /kdc/ and with /kdc-nodes/"
    )


def why(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if _refuses_us(error):
        return "it does not take our certificate"
    if isinstance(error, _ENDED):
        return "it ended the connection"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, http.client.HTTPException):
        return f"broken HTTP: {type(error).__name__}"
    return "not JSON of etcd"


def advice(error: BaseException, host: str) -> str:
    """What to do about an error where TLS is spoken; nothing, if it need not be TLS's."""
    if _refuses_us(error):
        return f"{_OURS}; etcd's log says more"
    if isinstance(error, _ENDED):  # it has not always time to say why
        return f"look whether {host} runs; {_OURS}"
    if not isinstance(error, ssl.SSLCertVerificationError):
        return ""
    reason = error.verify_code
    if reason in _TIMES:
        return f"give {host} a new certificate, or look at the clock of this machine"
    if reason in _NAMES:
        return f"give {host} a certificate for the name that it has in our list of members"
    return "give us the authority that etcd's certificates are from"


def _refuses_us(error: BaseException) -> bool:
    """Of TLS once we have taken the other's certificate: it looks at ours then."""
    return isinstance(error, ssl.SSLError) and "ALERT" in str(error.reason)
