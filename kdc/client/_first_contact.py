"""How a client comes to know its KDC: told, vouched for, remembered, or asked of a person."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Sequence

from kdc.client import known_kdcs
from kdc.client.addresses import Place
from kdc.client.identity import Authority, Identity, Pin
from kdc.client.settings import SYSTEM_CA, ClientSettings
from kdc.errors import ErrorKind, KDCUnreachable, UnknownIdentity
from kdc.net.exit_status import say
from kdc.net.tls import fingerprint_lines
from kdc.terminal import end_line, has_terminal, interruptible

__all__ = ["identities_of", "pin_of"]


def identities_of(settings: ClientSettings, *, ask: bool = True) -> list[Identity]:
    """Decide how each of the KDCs will be known, asking a person, with ``ask``, if none was met.

    KDCs of one realm have one key: one that was never met is known by the pin of another.
    Blocking: at first contact it looks at the certificate of the first that answers.  Raises
    `UnknownIdentity` if nobody can vouch for it, `KDCUnreachable`, `ConfigurationError`.
    """
    places = settings.places
    if settings.fingerprint is not None:
        return [Pin(settings.fingerprint) for _ in places]
    if settings.ca is not None:
        ca = None if settings.ca == SYSTEM_CA else settings.ca
        return [Authority(host, ca) for host, _ in places]
    own = [pin_of(settings, place) for place in places]
    return list(filter(None, own)) or [_met(settings, ask)] * len(places)


def pin_of(settings: ClientSettings, place: Place) -> Pin | None:
    """What the known-KDCs file says of one of them, or else of the first other it knows."""
    for known in (place, *settings.places):
        if (pin := known_kdcs.find(settings.known_kdcs, *known)) is not None:
            return pin
    return None


def _met(settings: ClientSettings, ask: bool) -> Pin:
    """Remember them by what the first that answers shows, if that is accepted."""
    shown = _look(settings.places)
    if not settings.accept_new and not (ask and _person_accepts(settings, shown)):
        line = known_kdcs.line_for(settings.places, shown)
        raise UnknownIdentity(
            f"the KDC at {settings.where} was never met before, and nobody has vouched for it",
            fingerprint=shown,
            hint="compare the fingerprint with what the KDC prints when it starts; if it is the"
            f" same, add this line to {settings.known_kdcs}:\n  {line}",
            kind=ErrorKind.NEVER_MET,
            facts={"known_kdcs": str(settings.known_kdcs), "line": line},
        )
    known_kdcs.add(settings.known_kdcs, settings.places, shown)
    return Pin(shown, str(settings.known_kdcs))


def _look(places: Sequence[Place]) -> str:
    for place in places[:-1]:
        with contextlib.suppress(KDCUnreachable):
            return known_kdcs.look(*place)
    return known_kdcs.look(*places[-1])


def _person_accepts(settings: ClientSettings, fingerprint: str) -> bool:
    if not has_terminal():
        return False
    groups = textwrap.indent(fingerprint_lines(fingerprint), "  ")
    say(f"The KDC at {settings.where} was never met before.  Its fingerprint is\n{groups}")
    say("Compare it with what the KDC printed when it started.")
    with interruptible(), open("/dev/tty", "r+b", buffering=0) as terminal:
        terminal.write(b"Is it the same (yes/no)? ")
        answer = terminal.readline(100)
    if not answer.endswith(b"\n"):
        end_line()
    return answer.strip().lower() in (b"yes", b"y")
