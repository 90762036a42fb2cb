"""How a client comes to know its KDC: told, vouched for, remembered, or asked of a person."""

from __future__ import annotations

import textwrap

from kdc.client import known_kdcs
from kdc.client.identity import Authority, Identity, Pin
from kdc.client.settings import SYSTEM_CA, ClientSettings
from kdc.errors import ErrorKind, UnknownIdentity
from kdc.net.exit_status import say
from kdc.net.tls import fingerprint_lines
from kdc.terminal import end_line, has_terminal, interruptible

__all__ = ["identity_of"]


def identity_of(settings: ClientSettings, *, ask: bool = True) -> Identity:
    """Decide how the KDC will be known, asking a person, with ``ask``, if it was never met.

    Blocking: at first contact it looks at the KDC's certificate.  Raises
    `UnknownIdentity` if nobody can vouch for it, `KDCUnreachable`,
    `ConfigurationError`.
    """
    if settings.fingerprint is not None:
        return Pin(settings.fingerprint)
    if settings.ca is not None:
        return Authority(settings.host, None if settings.ca == SYSTEM_CA else settings.ca)
    pin = known_kdcs.find(settings.known_kdcs, settings.host, settings.port)
    if pin is not None:
        return pin
    shown = known_kdcs.look(settings.host, settings.port)
    if not settings.accept_new and not (ask and _person_accepts(settings, shown)):
        line = known_kdcs.line_for(settings.host, settings.port, shown)
        raise UnknownIdentity(
            f"the KDC at {settings.where} was never met before, and nobody has vouched for it",
            fingerprint=shown,
            hint="compare the fingerprint with what the KDC prints when it starts; if it is the"
            f" same, add this line to {settings.known_kdcs}:\n  {line}",
            kind=ErrorKind.NEVER_MET,
            facts={"known_kdcs": str(settings.known_kdcs), "line": line},
        )
    known_kdcs.add(settings.known_kdcs, settings.host, settings.port, shown)
    return Pin(shown, str(settings.known_kdcs))


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
