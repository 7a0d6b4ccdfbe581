# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts as SVG that takes its colours and letters from the page around it; needs bench/requirements.txt."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from sections import Bar, Chart, Line, Panel

# Drawn in these, which the page replaces by what its scheme has: a variable of CSS for each.
INK, SOFT, GRID, OURS, OTHERS, GOAL = (f"#00000{number}" for number in range(1, 7))
STYLES = tuple((f"#00001{number}", marker) for number, marker in enumerate("osD^vP"))
VARIABLES = {INK: "ink", SOFT: "soft", GRID: "line", OURS: "ours", OTHERS: "others", GOAL: "goal"}
VARIABLES |= {colour: f"series-{number}" for number, (colour, _marker) in enumerate(STYLES)}
WIDTH = 10.4  # inches of 72 units
LINES_HEIGHT, BAR_HEIGHT, AROUND_BARS = 3.1, 0.3, 0.95
NOTE_ROOM = 1.6  # times the longest bar, for what is written after it
MOST_MARKED = 12  # points of a line that are marked each
LABEL_GAP = 0.07  # of the height of the axes, between labels at the ends of lines

SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.labelcolor": SOFT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRID,
    "xtick.labelcolor": SOFT,
    "ytick.color": GRID,
    "ytick.labelcolor": SOFT,
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def draw(chart: Chart) -> str:
    """Return the chart as an svg element."""
    bars = max(len(panel.bars) for panel in chart.panels)
    height = AROUND_BARS + BAR_HEIGHT * max(bars, 2) if bars else LINES_HEIGHT
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        places = figure.subplots(1, max(2, len(chart.panels)))
        for axes in places[len(chart.panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(places, chart.panels, strict=False):
            axes.set_title(panel.title)
            if panel.bars:
                draw_bars(axes, panel.bars, panel)
            else:
                draw_lines(axes, panel.lines, panel)
        output = io.StringIO()
        figure.savefig(output, format="svg", transparent=True, metadata=NO_METADATA)
    return themed(output.getvalue())


def themed(svg: str) -> str:
    """Return the svg element alone, with variables for its colours, as wide as its place, without ids to clash."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r' id="[A-Za-z.0-9]+_\d+"', "", svg)
    return re.sub(r"#0000\d\d", lambda found: f"var(--{VARIABLES[found[0]]})", svg)


def draw_bars(axes: Axes, bars: Sequence[Bar], panel: Panel) -> None:
    places = range(len(bars))
    values = [item.value for item in bars]
    goal, said = panel.goal or (0.0, "")
    top = max(*values, goal, 0) or 1
    axes.barh(places, values, height=0.66, color=[OURS if item.ours else OTHERS for item in bars])
    axes.set_yticks(places, [item.label for item in bars])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(max(len(bars), 2) - 0.5, -0.5)  # from top to bottom
    axes.spines.bottom.set_visible(False)
    axes.set_xlim(0, NOTE_ROOM * top)
    axes.set_xticks([tick for tick in MaxNLocator(4).tick_values(0, top) if tick <= top])
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.set_xlabel(panel.x, loc="left")
    for place, item in zip(places, bars, strict=True):
        place_of_note = (max(item.value, goal, 0), place)
        axes.annotate(item.note, place_of_note, (6, 0), textcoords="offset points", va="center")
    if panel.goal:
        axes.axvline(goal, color=GOAL, linestyle="--", linewidth=1.2)
        axes.annotate(said, (goal, 1), (3, 2), xycoords=("data", "axes fraction"), textcoords="offset points")


def draw_lines(axes: Axes, lines: Sequence[Line], panel: Panel) -> None:
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(axis="y")
    for line in lines:
        colour, marker = STYLES[line.style % len(STYLES)]
        x, y = zip(*line.points, strict=True)
        axes.plot(x, y, color=colour, marker=marker if len(x) <= MOST_MARKED else "", markersize=4, linewidth=1.6)
    if panel.goal:
        axes.axhline(panel.goal[0], color=GOAL, linestyle="--", linewidth=1.2)
        place = (0, panel.goal[0])
        axes.annotate(panel.goal[1], place, (3, 3), xycoords=("axes fraction", "data"), textcoords="offset points")
    if panel.log:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(y=0.12)
        axes.xaxis.set_major_locator(FixedLocator(sorted({x for line in lines for x, _y in line.points})))
        bottom, top = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if top < 1000 * bottom else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0)
        axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    label_ends(axes, lines)


def label_ends(axes: Axes, lines: Sequence[Line]) -> None:
    """Write each line's name to the right of the axes, as near to its end as the others let it."""
    axes.autoscale_view()
    to_axes = (axes.transData - axes.transAxes).transform
    ends = sorted(((to_axes(line.points[-1])[1], line) for line in lines), key=lambda end: end[0])
    for height, (_end, line) in zip(spread([end for end, _line in ends], LABEL_GAP), ends, strict=True):
        colour, _marker = STYLES[line.style % len(STYLES)]
        arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 3}
        axes.annotate(
            line.label, line.points[-1], (1.05, height), textcoords="axes fraction", va="center", arrowprops=arrow
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return *heights*, which rise, moved apart to *gap* at least, as little as that takes."""
    groups: list[tuple[float, int]] = []  # that touch: where the lowest of them is, and their number
    for height in heights:
        groups.append((height, 1))
        while len(groups) > 1 and groups[-2][0] + groups[-2][1] * gap > groups[-1][0]:
            (above, more), (below, some) = groups.pop(), groups.pop()
            groups.append(((below * some + (above - some * gap) * more) / (some + more), some + more))
    return [lowest + number * gap for lowest, size in groups for number in range(size)]


def plain(value: float, _position: object = None) -> str:
    return f"{value:,.10g}"
