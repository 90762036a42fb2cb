"""Makes docs/first-experience.md: from an invitation to a file on the disk, as people see it.

Start it from anywhere; it needs ports 12345 and 60000 of this machine for some
seconds.  Each of the three has a terminal with a shell, and a home directory.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from terminals import Terminal, block, terminals

TOP = Path(__file__).resolve().parent.parent.parent
PAGE = TOP / "docs" / "first-experience.md"
SHOWN_DIRECTORY = "/home"

# All that is typed, apart from the invitation and a y; no more, and no longer.
COMMANDS = (
    "kdc admin invite bob",
    "kdcclient init",
    "kdcclient receive --inbox .",
    "kdcclient send bob report.pdf",
)
REPORT = b"%PDF-1.7 one page\n" * 40_000


def introduce(operator: Terminal, newcomer: Terminal, name: str) -> None:
    """The operator invites somebody, who joins."""
    operator.command(f"kdc admin invite {name}")
    invitation = operator.expect(r"kdc2-\S+(?=\n)")
    newcomer.command(COMMANDS[1])
    newcomer.answer("invitation: ", invitation)
    newcomer.expect(rf"client\.toml: {name} at the KDC at .*(?=\n)")


def deliver(bob: Terminal, alice: Terminal, more: str) -> None:
    """Bob receives what alice sends."""
    bob.command(COMMANDS[2] + more)
    bob.expect("bob: receiving on .*\n")
    alice.command(COMMANDS[3])
    bob.answer(r"Accept\? \[y/N\] ", "y")
    bob.expect("bob: received .*\n")
    alice.ready()
    bob.type("\x03")
    for terminal in (bob, alice):
        terminal.command("sha256sum report.pdf")
        terminal.ready()


def run(directory: Path, kdc_port: int, more: str) -> list[str]:
    """Return what the operator, bob and alice have seen from bob's invitation on."""
    homes = {name: directory / name for name in ("operator", "bob", "alice")}
    for home in homes.values():
        home.mkdir()
    (homes["alice"] / "report.pdf").write_bytes(REPORT)
    who = ("operator", "operator", "alice", "bob", "alice")
    with terminals(*((homes[name], homes[name]) for name in who)) as opened:
        kdc, operator, alice_before, bob, alice = opened
        kdc.command(f"kdc -p {kdc_port} --enrol invite")
        kdc.expect(r"principals? in .*\n")
        introduce(operator, alice_before, "alice")
        operator.ready()
        operator.forget()
        introduce(operator, bob, "bob")
        deliver(bob, alice, more)
        return [operator.seen(), bob.seen(), alice.seen()]


PAGE_TEXT = """\
# From an invitation to a file on the disk

Recorded by `docs/recorders/record_first_experience.py`, which types at three terminals; nothing
that was seen there has been changed, but for the names of the home directories. A KDC runs
(`kdc -p 12345 --enrol invite`), and Alice has joined it as Bob is going to. Four commands later he
has a file from her. All of it is on one machine here; where the three have machines of their own,
the KDC is started with `-p tcp:12345 --host kdc.example.org`, and they type the same.

**1. The operator** invites Bob, and hands him what is printed, as one hands over a password.

{0}

**2. Bob** joins with it: he pastes it where it is asked for, and it is not echoed. From now on his
machine knows who he is, which KDC is his, and how to tell it from another.

**3.** Then he receives. He is asked about what comes; Ctrl-C ends it.

{1}

**4. Alice** sends. The command ends when Bob has the file on his disk.

{2}

The sums are only to show that it is the same file. [client.md](client.md) goes on from here.
"""


def record(*, kdc_port: int = 12345, listen_port: int = 60000) -> str:
    """Do it, and return the page; other ports than the usual are shown as these."""
    more = "" if listen_port == 60000 else f" --listen {listen_port}"
    with tempfile.TemporaryDirectory(prefix="kdc-first-") as name:
        shown = run(Path(name), kdc_port, more)
    shown_as = {
        name: SHOWN_DIRECTORY,
        more: "",
        str(kdc_port): "12345",
        str(listen_port): "60000",
    }
    return PAGE_TEXT.format(*(block(text, shown_as) for text in shown))


def typed(page: str) -> list[str]:
    """The commands on the page, apart from what compares the files."""
    lines = re.findall(r"^    (?:\^C)?\$ (.+)$", page, re.MULTILINE)
    return [line for line in lines if not line.startswith("sha256sum ")]


def main() -> None:
    PAGE.write_text(record(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
