"""Draws docs/packages.svg, what imports what, from the imports themselves.

    python docs/recorders/draw_packages.py

``--flat TREE OUTPUT`` draws every module of another checkout by itself: that is
how docs/packages-before.svg was made, of the tree before it had packages.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
PICTURE = TOP / "docs" / "packages.svg"

WIDTH, ROW, BOX, MARGIN, WIDE = 1000, 74, 30, 12, 130
SHIFTS = range(-240, 241, 20)
STYLE = (
    "rect{fill:#f4f1e8;stroke:#6b6558}text{font:13px sans-serif;fill:#222;text-anchor:middle}"
    "line{stroke:#4a6fa5;stroke-width:1;opacity:.45}"
    "svg{background:#fff}"
)


def imports_of(tree: Path, place: Callable[[str], str]) -> dict[str, set[str]]:
    """Return what each part of ``tree``/kdc imports; ``place`` says which part a module is of."""
    paths = {
        ".".join(path.relative_to(tree).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((tree / "kdc").rglob("*.py"))
    }
    found: dict[str, set[str]] = {place(module): set() for module in paths if module != "kdc"}
    for module, path in paths.items():
        if module == "kdc":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("kdc"):
                continue
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                other = inner if inner in paths else str(node.module)
                if other != "kdc" and place(other) != place(module):
                    found[place(module)].add(place(other))
    return found


def floors_of(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the parts floor by floor, from the bottom up: each stands above all it imports."""
    floors: list[list[str]] = []
    left = dict(imports)
    while left:
        floor = sorted(part for part, others in left.items() if not others & set(left))
        if not floor:
            raise SystemExit(f"these import each other: {', '.join(sorted(left))}")
        floors.append(floor)
        for part in floor:
            del left[part]
    return floors


def nearest(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Leave out the arrows that others already imply."""
    reach: dict[str, set[str]] = {}
    for floor in floors_of(imports):
        for part in floor:
            reach[part] = set(imports[part]).union(*(reach[other] for other in imports[part]))
    return {
        part: {other for other in others if not any(other in reach[o] for o in others)}
        for part, others in imports.items()
    }


Places = dict[str, tuple[float, float, float]]  # the middle of each box, and its width


def spread(floors: Sequence[Sequence[str]], shifts: Sequence[int]) -> Places:
    """Return where each part is drawn: the first floor lowest, each moved aside by its shift."""
    height = ROW * len(floors)
    at: Places = {}
    for number, (floor, shift) in enumerate(zip(floors, shifts, strict=True)):
        widths = [max(40, 8 * len(part) + 14) for part in floor]
        gap = max(MARGIN, min(WIDE, (WIDTH - sum(widths)) / len(floor)))
        room = min(1.0, WIDTH / (sum(widths) + gap * len(floor)))
        x = (WIDTH - room * sum(widths) - room * gap * (len(floor) - 1)) / 2
        x += shift if gap > MARGIN else 0
        for part, width in zip(floor, widths, strict=True):
            at[part] = (x + room * width / 2, height - ROW * (number + 0.5), room * width)
            x += room * (width + gap)
    return at


def hidden(at: Places, arrows: Mapping[str, set[str]]) -> int:
    """Count how often an arrow passes behind a box that is neither of its ends."""
    found = 0
    for part, others in arrows.items():
        for other in others:
            (x1, y1, _), (x2, y2, _) = at[part], at[other]
            for box, (x, y, width) in at.items():
                if box not in (part, other) and y1 < y < y2:
                    found += abs(x1 + (x2 - x1) * (y - y1) / (y2 - y1) - x) < width / 2 + MARGIN
    return found


def arranged(floors: Sequence[Sequence[str]], arrows: Mapping[str, set[str]]) -> Places:
    """Return places where as few arrows as can be pass behind a box, one floor moved at a time."""
    shifts = [(number % 3 - 1) * SHIFTS[-1] // 4 for number in range(len(floors))]
    least, before = hidden(spread(floors, shifts), arrows), -1
    while least and least != before:
        before = least
        for number in range(len(floors)):
            for shift in SHIFTS:
                tried = [*shifts[:number], shift, *shifts[number + 1 :]]
                count = hidden(spread(floors, tried), arrows)
                if count < least:
                    least, shifts = count, tried
    return spread(floors, shifts)


def picture(imports: Mapping[str, set[str]], arrows: Mapping[str, set[str]]) -> str:
    """Return the SVG: the top floor first, an arrow from who imports to what is imported."""
    floors = floors_of(imports)
    height = ROW * len(floors)
    at = arranged(floors, arrows)
    lines = [
        f'<line x1="{at[part][0]:.0f}" y1="{at[part][1]:.0f}"'
        f' x2="{at[other][0]:.0f}" y2="{at[other][1]:.0f}"/>'
        for part in sorted(arrows)
        for other in sorted(arrows[part])
    ]
    boxes = [
        f'<rect x="{x - w / 2:.0f}" y="{y - BOX / 2:.0f}" width="{w:.0f}" height="{BOX}" rx="4"/>'
        f'<text x="{x:.0f}" y="{y + 5:.0f}">{escape(part)}</text>'
        for part, (x, y, w) in at.items()
    ]
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    title = f"<title>{len(imports)} parts on {len(floors)} floors</title>"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"{title}<style>{STYLE}</style>",
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def package_of(module: str) -> str:
    """Return what a module of today's tree is drawn as: the first name below kdc.

    ``python -m kdc`` is a command like the others.
    """
    part = module.split(".")[1]
    return "commands" if part == "__main__" else part


def today() -> str:
    """Return the picture of this checkout, without the arrows that others imply."""
    imports = imports_of(TOP, package_of)
    return picture(imports, nearest(imports))


def flat(tree: Path) -> str:
    """Return the picture of a tree of modules, each by itself, with every arrow."""
    imports = imports_of(tree, lambda module: module.removeprefix("kdc."))
    return picture(imports, imports)


def main(arguments: Iterable[str]) -> None:
    match list(arguments):
        case []:
            PICTURE.write_text(today(), encoding="utf-8")
        case ["--flat", tree, output]:
            Path(output).write_text(flat(Path(tree)), encoding="utf-8")
        case _:
            raise SystemExit("usage: draw_packages.py [--flat TREE OUTPUT]")


if __name__ == "__main__":
    main(sys.argv[1:])
