# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The panels of the monitoring page as a Grafana dashboard. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Row = dict[str, Any]

WIDTH, PANELS_A_ROW, PANEL_HEIGHT, TILE_HEIGHT = 24, 3, 8, 4  # of Grafana's grid
UNITS = {"count": "short", "seconds": "s", "bytes": "bytes", "bytes_per_second": "Bps", "ratio": "percentunit"}
SOURCE = {"type": "prometheus", "uid": "${source}"}


def dashboard(described: Mapping[str, Any], fleet: str) -> Row:
    """A dashboard to be provisioned or imported, which asks for its data source.

    :param described: ``tiles`` and ``rows`` as ``roles/monitoring/files/page/panels.yml`` has them.
    """
    panels = list(_placed(described))
    return {
        "uid": f"c50k-{fleet}"[:40],
        "title": fleet,
        "tags": ["c50k.stack"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "annotations": {"list": [_marks()]},
        "panels": [{**panel, "id": number} for number, panel in enumerate(panels, 1)],
    }


def _placed(described: Mapping[str, Any]) -> Iterator[Row]:
    """Tiles in one line, then each row's title, and its panels three abreast."""
    width = WIDTH // max(1, len(described["tiles"]))
    for number, tile in enumerate(described["tiles"]):
        yield {**_tile(tile), "gridPos": {"x": number * width, "y": 0, "w": width, "h": TILE_HEIGHT}}
    top, width = TILE_HEIGHT, WIDTH // PANELS_A_ROW
    for row in described["rows"]:
        yield {"type": "row", "title": row["title"], "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}, "panels": []}
        top += 1
        for number, panel in enumerate(row["panels"]):
            line, column = divmod(number, PANELS_A_ROW)
            place = {"x": column * width, "y": top + line * PANEL_HEIGHT, "w": width, "h": PANEL_HEIGHT}
            yield {**_panel(panel), "gridPos": place}
        top += -(-len(row["panels"]) // PANELS_A_ROW) * PANEL_HEIGHT


def _tile(tile: Mapping[str, Any]) -> Row:
    return {
        "type": "stat",
        "title": tile["title"],
        "datasource": SOURCE,
        "targets": [_target("A", tile["query"], "") | {"instant": True}],
        "fieldConfig": {"defaults": {"unit": UNITS[tile["unit"]]}, "overrides": []},
        "options": {"graphMode": "none", "colorMode": "none"},
    }


def _panel(panel: Mapping[str, Any]) -> Row:
    states = panel.get("draw") == "states"
    goal = panel.get("goal")
    custom: Row = {"fillOpacity": 60 if states else 0}
    if panel.get("scale") == "log":
        custom["scaleDistribution"] = {"type": "log", "log": 10}
    legend = f"{panel['legend']} {panel['state']}" if "state" in panel else panel["legend"]
    return {
        "type": "state-timeline" if states else "timeseries",
        "title": panel["title"],
        "datasource": SOURCE,
        "targets": [_target("A", panel["query"], legend)]
        + ([_target("B", goal["query"], goal["legend"])] if goal else []),
        "fieldConfig": {
            "defaults": {"unit": UNITS[panel.get("unit", "count")], "custom": custom} | ({} if states else {"min": 0}),
            "overrides": [_dashed(goal["legend"])] if goal else [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def _target(name: str, query: str, legend: str) -> Row:
    return {"refId": name, "datasource": SOURCE, "expr": query, "legendFormat": legend}


def _dashed(legend: str) -> Row:
    style = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}
    return {"matcher": {"id": "byName", "options": legend}, "properties": [style]}


def _marks() -> Row:
    """What happened, at the time that is the value, which Grafana takes in milliseconds."""
    return {
        "name": "What happened",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "purple",
        "expr": "1000 * last_over_time(stack_event_timestamp_seconds[1m])",
        "step": "60s",
        "useValueForTime": "on",
        "titleFormat": "{{kind}}",
        "textFormat": "{{detail}}",
    }
