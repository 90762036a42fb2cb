"""Makes docs/quick.svg: the first minute, on two terminals, as a picture that moves.

Start it from anywhere; it needs ports 12345 and 60000 of this machine for some
seconds.  What is on the picture was on the two terminals, in that order; only the
name of the home directory has been changed.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from terminals import Terminal, terminals

TOP = Path(__file__).resolve().parent.parent.parent
PICTURE = TOP / "docs" / "quick.svg"
SHOWN_HOME = "/home/ann"

# All that is typed, on the first terminal and on the second.
FIRST = ("kdc quick alice bob", "kdcclient receive -n bob --inbox . --yes")
SECOND = ("kdcclient send -n alice bob report.pdf", "kdcclient send -n alice bob photo.jpg")
REPORT = b"%PDF-1.7 one page\n" * 40_000
PHOTO = b"\xff\xd8\xff\xe0 the harbour\n" * 90_000


class Line(NamedTuple):
    """One line of a terminal, and in which step it was first seen."""

    step: int
    text: str


def steps(one: Terminal, two: Terminal, first: tuple[str, ...]) -> Iterator[None]:
    """Type everything; each time something is to be looked at, yield."""
    one.command(first[0])
    one.ready()
    yield
    one.command(first[1])
    one.expect("bob: receiving on .*\n")
    yield
    for line in SECOND:
        two.command(line)
        two.ready()
        one.expect("bob: received .*\n")
        yield


def run(directory: Path, first: tuple[str, ...]) -> tuple[list[Line], list[Line]]:
    """Return what was seen on the two terminals."""
    bobs, alices, home = (directory / name for name in ("bob", "alice", "home"))
    for path in (bobs, alices, home):
        path.mkdir()
    (alices / "report.pdf").write_bytes(REPORT)
    (alices / "photo.jpg").write_bytes(PHOTO)
    with terminals((bobs, home), (alices, home)) as (one, two):
        seen: tuple[list[Line], list[Line]] = ([], [])
        try:
            for step, _ in enumerate(steps(one, two, first)):
                for terminal, lines in zip((one, two), seen, strict=True):
                    new = list(filter(None, terminal.seen().split("\n")))[len(lines) :]
                    lines += [Line(step, text) for text in new]
        finally:
            one.type("\x03")
            two.command("kdc quick --stop")
            two.expect("kdc: stopped|kdc: none")
    for name, content in (("report.pdf", REPORT), ("photo.jpg", PHOTO)):
        if (bobs / name).read_bytes() != content:
            raise AssertionError(f"{name} is not what was sent")
    return seen


# The picture.

WIDTH, LINE, TOP_BAR, LETTER = 760, 19, 26, 8.2
COLUMNS = int((WIDTH - 24) / LETTER)
STEP_SECONDS = 2.0
STYLE = """\
  text { font: 13.6px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
    white-space: pre; fill: #24292f }
  .pane { fill: #f6f8fa; stroke: #d0d7de }
  .bar { fill: #57606a }
  .typed { font-weight: bold; fill: #0550ae }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .pane { fill: #161b22; stroke: #30363d }
    .bar { fill: #9198a1 } .typed { fill: #79c0ff }
  }
  @keyframes appear { from { opacity: 0 } to { opacity: 1 } }
  @media (prefers-reduced-motion: no-preference) {
    g > text { animation: appear 0.3s both }
"""


def wrapped(text: str) -> list[str]:
    """As a terminal of that width breaks it."""
    return [text[at : at + COLUMNS] for at in range(0, max(len(text), 1), COLUMNS)]


def pane(title: str, lines: list[Line], top: int) -> tuple[list[str], int]:
    """One terminal; return its elements and where it ends."""
    shown = [(step, piece) for step, text in lines for piece in wrapped(text)]
    height = TOP_BAR + LINE * len(shown) + 12
    drawn = [
        f'<rect class="pane" x="1" y="{top}" width="{WIDTH - 2}" height="{height}" rx="6"/>',
        f'<text class="bar" x="12" y="{top + 18}">{escape(title)}</text>',
        "<g>",
    ]
    for row, (step, text) in enumerate(shown):
        typed = " typed" if text.startswith("$ ") else ""
        y = top + TOP_BAR + LINE * (row + 1) - 4
        drawn.append(f'<text class="s{step}{typed}" x="12" y="{y}">{escape(text)}</text>')
    drawn.append("</g>")
    return drawn, top + height + 10


def picture(seen: tuple[list[Line], list[Line]]) -> str:
    """Both terminals, as an SVG without a script."""
    first, below = pane("first terminal", seen[0], 1)
    second, end = pane("second terminal", seen[1], below)
    last = max(line.step for lines in seen for line in lines)
    delays = [
        f"    .s{step} {{ animation-delay: {step * STEP_SECONDS + 0.5:.1f}s }}"
        for step in range(last + 1)
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {end}"'
        f' width="{WIDTH}" height="{end}" role="img"'
        ' aria-label="two terminals: from nothing to two files received">'
    )
    return "\n".join(
        [
            head,
            "<!-- Made by docs/recorders/record_quick.py from what was seen; do not edit. -->",
            f"<style>\n{STYLE}" + "\n".join(delays) + "\n  }\n</style>",
            *first,
            *second,
            "</svg>\n",
        ]
    )


def record(*, kdc_port: int = 12345, listen_port: int = 60000) -> str:
    """Do it, and return the picture; other ports than the usual are shown as these."""
    first = list(FIRST)
    more = ["" if kdc_port == 12345 else f" -p {kdc_port}"]
    more.append("" if listen_port == 60000 else f" --listen {listen_port}")
    with tempfile.TemporaryDirectory(prefix="kdc-quick-") as name:
        typed = tuple(line + option for line, option in zip(first, more, strict=True))
        seen = run(Path(name), typed)
        words = {
            more[0]: "",
            more[1]: "",
            str(kdc_port): "12345",
            str(listen_port): "60000",
            f"{name}/home": SHOWN_HOME,
            f"{name}/bob": f"{SHOWN_HOME}/bob",
        }

    def shown(line: Line) -> Line:
        text = line.text
        for word, instead in words.items():
            text = text.replace(word, instead) if word else text
        return line._replace(text=text)

    return picture(tuple([shown(line) for line in lines] for lines in seen))  # type: ignore[arg-type]


def typed(svg: str) -> list[str]:
    """The commands on the picture."""
    return re.findall(r">\$ ([^<]+)<", svg)


def main() -> None:
    PICTURE.write_text(record(), encoding="utf-8")
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
