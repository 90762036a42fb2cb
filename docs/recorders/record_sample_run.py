"""Makes docs/sample-run.md: types the three commands at three terminals, writes down what is seen.

Start it from anywhere; it needs ports 12345 and 60000 of this machine for some
seconds.  Each terminal is a real one with a shell in it.  What the shells and
the programs show is written down as it was, but for the directory, which is
called /tmp/kdc-tour.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from terminals import Terminal, block, terminals

TOP = Path(__file__).resolve().parent.parent.parent
PAGE = TOP / "docs" / "sample-run.md"
SHOWN_DIRECTORY = "/tmp/kdc-tour"
ASKED = r"yes/no\)\? "

KDC = "kdc -p {kdc_port} -o out.txt -f pwd.txt"
BOB = "kdcclient -n bob -m R -s outenc -o outfile -a 127.0.0.1 -p {kdc_port}"
ALICE = "kdcclient -n alice -m S -r bob -i in.txt -a 127.0.0.1 -p {kdc_port}"

BOBS, ALICES, GUESS = "a quiet harbour at dusk", "correct horse battery staple", "12345678"


def first_run(directory: Path, ports: dict[str, int], more: str) -> list[str]:
    """Both register, the file goes over; then somebody tries alice's name."""
    with terminals(*[(directory, directory / "home")] * 3) as (kdc, bob, alice):
        kdc.command("touch pwd.txt")
        kdc.command(KDC.format(**ports))
        kdc.expect(r"principals? in .*\n")
        bob.command(BOB.format(**ports) + more.format(**ports))
        _register(bob, "bob", BOBS, asked=True)
        bob.expect("bob: receiving on .*\n")
        alice.command(ALICE.format(**ports))
        _register(alice, "alice", ALICES, asked=False)
        alice.ready()
        bob.ready()
        alice.command("echo $?")
        bob.command("sha256sum in.txt outfile")
        bob.command("od -A x -t x1z -N 48 outenc")
        bob.ready()
        alice.command(ALICE.format(**ports))
        alice.answer("passphrase of alice: ", GUESS)
        alice.ready()
        alice.command("echo $?")
        alice.ready()
        kdc.type("\x03")
        kdc.command("cut -c 1-96 pwd.txt")
        kdc.command("cat out.txt")
        kdc.ready()
        return [kdc.seen(), bob.seen(), alice.seen()]


def second_run(directory: Path, ports: dict[str, int], more: str) -> list[str]:
    """All three are started again; nobody registers, nobody is asked about the KDC."""
    with terminals(*[(directory, directory / "home")] * 3) as (kdc, bob, alice):
        kdc.command(KDC.format(**ports))
        kdc.expect(r"principals? in .*\n")
        bob.command(BOB.format(**ports) + more.format(**ports))
        bob.answer("passphrase of bob: ", BOBS)
        bob.expect("bob: receiving on .*\n")
        alice.command("echo 'The second message.' >in.txt")
        alice.command(ALICE.format(**ports))
        alice.answer("passphrase of alice: ", ALICES)
        alice.ready()
        bob.command("cat outfile")
        bob.ready()
        kdc.type("\x03")
        kdc.ready()
        return [kdc.seen(), bob.seen(), alice.seen()]


def _register(terminal: Terminal, name: str, passphrase: str, *, asked: bool) -> None:
    if asked:
        terminal.answer(ASKED, "yes")
    terminal.answer(f"passphrase of {name}: ", passphrase)
    terminal.answer("repeat it: ", passphrase)


PAGE_TEXT = """\
# A sample run

Recorded by `docs/recorders/record_sample_run.py`, which types at three terminals; nothing
that was seen there has been changed, but for the name of the directory. What is typed stands behind
`$` and behind the questions. Passphrases were typed too: they are not echoed, so they are not here.

## The first message

in.txt is a binary file, a library of several MiB. pwd.txt is empty, and nobody is registered.

**Terminal 1, the KDC.** It prints its fingerprint. Ctrl-C ended it, when all that follows had
happened.

{0}

**Terminal 2, Bob.** He compares the fingerprint with the one in terminal 1 and says yes. His name
is new, so he is asked for the passphrase twice.

{1}

outenc begins with a record of 0x19 bytes; each record is its length and its ciphertext.

**Terminal 3, Alice.** She uses the same home directory as Bob, so she is not asked about the KDC
again. The second command is somebody who does not know her passphrase.

{2}

## The second message

All three were ended and are started again. Nobody registers.

**Terminal 1, the KDC.**

{3}

**Terminal 2, Bob.**

{4}

**Terminal 3, Alice.**

{5}
"""


def record(*, kdc_port: int = 12345, listen_port: int = 60000) -> str:
    """Do it, and return the page; other ports than the usual are shown as these."""
    from cryptography.hazmat.bindings import _rust

    ports = {"kdc_port": kdc_port, "listen_port": listen_port}
    more = "" if listen_port == 60000 else " --listen {listen_port}"
    with tempfile.TemporaryDirectory(prefix="kdc-tour-") as name:
        directory = Path(name)
        (directory / "home").mkdir()
        shutil.copyfile(str(_rust.__file__), directory / "in.txt")
        shown = first_run(directory, ports, more) + second_run(directory, ports, more)
    shown_as = {
        name: SHOWN_DIRECTORY,
        more.format(**ports): "",
        str(kdc_port): "12345",
        str(listen_port): "60000",
    }
    blocks = [block(text, shown_as) for text in shown]
    return PAGE_TEXT.format(*blocks)


def main() -> None:
    PAGE.write_text(record(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
