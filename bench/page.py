#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of what was measured: bench/results/*.json as tables and plots in one bench/results/index.html.

Usage: bench/page.py; bench/page.py --markdown prints the figures that have a goal, as README shows them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from fleet import RESULTS
from goals import ResultError, Results, figures, load, markdown, verdict
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from sections import Chart, sections


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--markdown", action="store_true", help="print the table of goals, and write nothing")
    options = parser.parse_args()
    try:
        results = load(RESULTS)
    except ResultError as error:
        print(error, file=sys.stderr)
        return 1
    if options.markdown:
        print(markdown(figures(results)))
        return 0
    from plots import draw  # only here, as it needs bench/requirements.txt

    page = RESULTS / "index.html"
    page.write_text(render(results, lambda chart: Markup(draw(chart))))
    print(page)
    return 0


def render(results: Results, draw: Callable[[Chart], str]) -> str:
    """Return the page; *draw* gives a chart's SVG, and what it gives as plain text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    template = environment.get_template("page.html.j2")
    return template.render(figures=figures(results), sections=sections(results), draw=draw, verdict=verdict)


if __name__ == "__main__":
    sys.exit(main())
