# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as a picture: its tiers from the front door down, with the hosts of each. Pure; SVG that a page colours.

Data: a Box, a tier with its hosts, and where it is drawn. Flow: hosts -> rows of boxes -> boxes with places -> SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH = 1080
HOST_WIDTH, HOST_HEIGHT, GAP = 158, 40, 10
PAD, HEAD = 12, 26  # within a tier's box: around its hosts, and for its name
BETWEEN, BELOW = 18, 38  # boxes of a row, and rows
# Hosts of a tier that are drawn; of the others there is the number.
DRAWN = 24
NAME_LENGTH, NOTE_LENGTH = 23, 27

# From what clients reach to what keeps the data; beside them what the service can do without.
ROWS = (
    ("front",),
    ("load_balancer",),
    ("app_server",),
    ("postgres", "redis", "memcached"),
    ("etcd", "backup", "drill", "monitoring", "load_generator"),
)
# Who asks whom.
ARROWS = (
    ("front", "load_balancer"),
    ("load_balancer", "app_server"),
    ("app_server", "postgres"),
    ("app_server", "redis"),
    ("app_server", "memcached"),
    ("postgres", "etcd"),
    ("postgres", "backup"),
)


@dataclass
class Box:
    """A tier, its hosts (``name``, ``note``, ``state``: primary, silent or nothing) and its place."""

    tier: str
    hosts: Sequence[Mapping[str, Any]]
    columns: int = 1
    x: float = 0
    y: float = 0

    @property
    def cells(self) -> int:
        return min(len(self.hosts), DRAWN) + (len(self.hosts) > DRAWN)

    @property
    def width(self) -> float:
        return self.columns * (HOST_WIDTH + GAP) - GAP + 2 * PAD

    @property
    def height(self) -> float:
        lines = math.ceil(self.cells / self.columns)
        return HEAD + lines * (HOST_HEIGHT + GAP) - GAP + PAD


def draw(tiers: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the picture of *tiers*, each a list of hosts as Box has them; one without hosts is left out."""
    boxes: list[Box] = []
    y = 1.0
    for names in ROWS:
        row = [Box(name, tiers[name]) for name in names if tiers.get(name)]
        for line in arranged(row):
            x = (WIDTH - sum(box.width for box in line) - BETWEEN * (len(line) - 1)) / 2
            for box in line:
                box.x, box.y = x, y
                x += box.width + BETWEEN
            y += max(box.height for box in line) + BELOW
            boxes += line
    height = math.ceil(y - BELOW + 1) if boxes else 1
    parts = [
        f'<svg class="fleet" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="The tiers and hosts of the fleet">'
    ]
    by_tier = {box.tier: box for box in boxes}
    for above, below in ARROWS:
        if above in by_tier and below in by_tier:
            parts.append(arrow(by_tier[above], by_tier[below]))
    for box in boxes:
        parts += drawn(box)
    return "".join([*parts, "</svg>"])


def arranged(row: Sequence[Box]) -> Iterator[list[Box]]:
    """Give the boxes of a row their columns, and the row as many lines as it needs."""
    room = int((WIDTH + GAP) // (HOST_WIDTH + GAP))
    for box in row:
        box.columns = max(1, min(box.cells, room // len(row) or 1))
    line: list[Box] = []
    for box in row:
        if line and sum(other.width + BETWEEN for other in line) + box.width > WIDTH:
            yield line
            line = []
        line.append(box)
    if line:
        yield line


def drawn(box: Box) -> Iterator[str]:
    """A tier's box, its name, and a box for each host."""
    yield f'<rect class="tier" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="8"/>'
    yield text(box.x + PAD, box.y + 18, "name", f"{box.tier.replace('_', ' ')} · {len(box.hosts)}")
    for number in range(box.cells):
        x = box.x + PAD + number % box.columns * (HOST_WIDTH + GAP)
        y = box.y + HEAD + number // box.columns * (HOST_HEIGHT + GAP)
        if number == DRAWN:
            yield text(x + 8, y + 24, "note", f"… and {len(box.hosts) - DRAWN} more")
            return
        host = box.hosts[number]
        kind = f"host {escape(host.get('state') or '')}".strip()
        yield f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{HOST_WIDTH}" height="{HOST_HEIGHT}" rx="5"/>'
        yield text(x + 8, y + 17, "label", shortened(host["name"]))
        yield text(x + 8, y + 32, "note", (host.get("note") or "")[:NOTE_LENGTH])


def arrow(above: Box, below: Box) -> str:
    start, end = above.x + above.width / 2, below.x + below.width / 2
    top, bottom = above.y + above.height, below.y
    middle = (top + bottom) / 2
    return (
        f'<path class="arrow" d="M{start:g} {top:g}C{start:g} {middle:g} {end:g} {middle:g} {end:g} {bottom - 5:g}"/>'
        f'<path class="tip" d="M{end - 4:g} {bottom - 7:g}L{end:g} {bottom:g}L{end + 4:g} {bottom - 7:g}Z"/>'
    )


def shortened(name: str) -> str:
    """A name of at most NAME_LENGTH letters, its end kept, as that tells hosts apart."""
    return name if len(name) <= NAME_LENGTH else f"…{name[1 - NAME_LENGTH :]}"


def text(x: float, y: float, kind: str, value: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(value)}</text>'


def spark(points: Sequence[float], width: int = 120, height: int = 22) -> str:
    """Return a small line through *points*, from nothing at the bottom to the most of them at the top."""
    most = max(points, default=0) or 1
    step = width / max(1, len(points) - 1)
    line = "L".join(
        f"{number * step:.1f} {height - 1 - value / most * (height - 2):.1f}" for number, value in enumerate(points)
    )
    end = "h0" if len(points) == 1 else ""
    path = f'<path d="M{line}{end}"/>' if points else ""
    return f'<svg class="spark" viewBox="0 0 {width} {height}" role="img" aria-label="over the day">{path}</svg>'
