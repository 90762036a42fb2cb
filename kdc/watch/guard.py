"""Who may look: the Host header, the token, and the cookie of somebody who has logged in.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from html import escape
from urllib.parse import parse_qs

from kdc.limits import Rate, TokenBuckets
from kdc.protocol.crypto import same
from kdc.watch.answers import Answer, Query, text_answer

__all__ = ["LOGIN", "LOGIN_BYTES", "Guard"]

LOGIN = "/login"
LOGIN_BYTES = 4096
_OPEN = ("/style.css",)  # what the log-in form needs, and holds nothing
_GUESSES = Rate(10, 60, 10)  # of one address
_COOKIE = "kdc_status"
_SESSION_MILLISECONDS = 12 * 3600 * 1000
_MAX_SESSIONS = 64


_WHO = text_answer(401, "the token, please", ("WWW-Authenticate", 'Bearer realm="kdc"'))


class Guard:
    """``token`` is None where only this machine can connect; ``secure`` where TLS is spoken.

    ``hosts``: the names by which we are known, besides this machine's own.  Addresses are
    no names, so whoever comes by one cannot have been led here by a name that was rebound.
    """

    def __init__(
        self,
        token: bytes | None,
        *,
        hosts: Iterable[str] = (),
        secure: bool = False,
        random: Callable[[int], bytes],
    ) -> None:
        self._token = token
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._secure = secure
        self._random = random
        self._guesses = TokenBuckets(_GUESSES, capacity=1024)
        self._sessions: dict[bytes, int] = {}

    def refusal(self, query: Query, now_milliseconds: int) -> Answer | None:
        """Return why this is not answered, or None.  A log-in is answered here as well."""
        if not self._known(query.host):
            return text_answer(421, "this is not a host that the status port is for")
        if query.path == LOGIN and self._token is not None:
            return self._log_in(query, now_milliseconds)
        if query.method not in ("GET", "HEAD"):
            return text_answer(405, "nothing can be changed here", ("Allow", "GET, HEAD"))
        if self._token is None or query.path in _OPEN or self._has_cookie(query, now_milliseconds):
            return None
        return self._without_cookie(query, self._token, now_milliseconds)

    def _without_cookie(self, query: Query, token: bytes, now: int) -> Answer | None:
        if query.authorization:
            scheme, _, given = query.authorization.partition(" ")
            if scheme.lower() == "bearer" and same(given.strip().encode(), token):
                return None
            return self._wrong(query, now, _WHO)
        if query.path == "/":
            return Answer(303, b"", headers=(("Location", LOGIN),))
        return _WHO

    def _wrong(self, query: Query, now: int, answer: Answer) -> Answer:
        """Refuse a wrong token; who tries many has to wait.  The right one never comes here."""
        wait = self._guesses.take(query.address, now)
        return text_answer(429, "too many tokens", ("Retry-After", str(wait))) if wait else answer

    def _known(self, host: str) -> bool:
        name = host.strip().lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") <= 1:
            name = name.partition(":")[0]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def _log_in(self, query: Query, now: int) -> Answer:
        if query.method in ("GET", "HEAD"):
            return _form()
        if query.method != "POST":
            return text_answer(405, "log in, or look", ("Allow", "GET, HEAD, POST"))
        typed = parse_qs(query.body.decode("latin-1")).get("token", [""])[0]
        if self._token is None or not same(typed.strip().encode(), self._token):
            return self._wrong(query, now, _form("That is not the token.", 403))
        session = self._random(32)
        if len(self._sessions) >= _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[session] = now + _SESSION_MILLISECONDS
        secure = "; Secure" if self._secure else ""
        cookie = f"{_COOKIE}={session.hex()}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return Answer(303, b"", headers=(("Location", "/"), ("Set-Cookie", cookie)))

    def _has_cookie(self, query: Query, now: int) -> bool:
        for part in query.cookie.split(";")[:32]:
            name, _, value = part.strip().partition("=")
            if name == _COOKIE and len(value) == 64:
                # All of them, whichever it is.
                found = [
                    end
                    for session, end in self._sessions.items()
                    if same(session.hex().encode(), value.encode())
                ]
                if any(end > now for end in found):
                    return True
        return False


def _form(told: str = "", status: int = 200) -> Answer:
    error = f'<p role="alert">{escape(told)}</p>' if told else ""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>kdc: log in</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/style.css"></head><body><main><h1>kdc status</h1>'
        f'{error}<form method="post" action="{LOGIN}"><label for="token">Token</label> '
        '<input id="token" name="token" type="password" autocomplete="current-password" required>'
        " <button>Log in</button></form></main></body></html>\n"
    )
    return Answer(status, page.encode(), "text/html; charset=utf-8")
