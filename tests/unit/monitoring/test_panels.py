# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The panels: what they ask is recorded by the rules, and Grafana shows each of them too, none over another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.c50k.stack.plugins.module_utils.grafana import UNITS, WIDTH, dashboard

FILES = Path(__file__).parents[3] / "roles/monitoring/files"
DESCRIBED: dict[str, Any] = yaml.safe_load((FILES / "page/panels.yml").read_text())
PANELS = [panel for row in DESCRIBED["rows"] for panel in row["panels"]]
RULES = list((FILES / "rules").glob("*.yml"))
RECORDED = {
    rule["record"]
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "record" in rule
}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_all_that_the_page_wants(panel: dict[str, Any]) -> None:
    assert panel.keys() <= {"title", "unit", "query", "legend", "goal", "scale", "draw", "state"}
    assert panel.get("draw") == "states" or panel["unit"] in UNITS
    assert panel["legend"]


@pytest.mark.parametrize("shown", [*PANELS, *DESCRIBED["tiles"]], ids=lambda shown: shown["title"])
def test_what_is_asked_for_is_recorded(shown: dict[str, Any]) -> None:
    assert set(re.findall(r"\w+(?::\w+)+", shown["query"])) <= RECORDED


def test_grafana_shows_each_panel_and_tile_none_over_another() -> None:
    shown = dashboard(DESCRIBED, "demo")["panels"]
    assert [panel["targets"][0]["expr"] for panel in shown if "targets" in panel] == [
        given["query"] for given in [*DESCRIBED["tiles"], *PANELS]
    ]
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in shown):
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= WIDTH
        taken |= cells
    assert len({panel["id"] for panel in shown}) == len(shown)
