# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the evidence page of a fleet shows, from what its hosts, its account and its runs told. Pure.

Data: what was told, as playbooks/report.yml gathers it. Flow: told -> sections, plain values that a template prints.
Whatever was not told is in ``missing``, with a sentence; nothing is guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ansible_collections.c50k.stack.plugins.module_utils import capacity
from ansible_collections.c50k.stack.plugins.module_utils.backups import backups
from ansible_collections.c50k.stack.plugins.module_utils.capacity_reasons import settings
from ansible_collections.c50k.stack.plugins.module_utils.fleet_drawing import draw, spark
from ansible_collections.c50k.stack.plugins.module_utils.load_history import compare, shape

Told = Mapping[str, Any]
NOTHING = "–"
# What PostgreSQL notes of a timeline that a promotion began; of one that a restore began it notes where that ended.
NO_TARGET = "no recovery target specified"
PROMOTED = "a replica was promoted: failover or switchover"

# Debian's packages, by the names that people know.
PROGRAMS = {
    "haproxy": "HAProxy",
    "nginx": "nginx",
    "postgresql-17": "PostgreSQL",
    "patroni": "Patroni",
    "pgbouncer": "PgBouncer",
    "pgbackrest": "pgBackRest",
    "redis-server": "Redis",
    "memcached": "Memcached",
    "etcd-server": "etcd",
    "prometheus": "Prometheus",
    "prometheus-alertmanager": "Alertmanager",
}
MARK = re.compile(
    r'^stack_event_timestamp_seconds\{kind=("(?:[^"\\]|\\.)*"),detail=("(?:[^"\\]|\\.)*")\} ([0-9.]+)$', re.MULTILINE
)
UNITS = ("", "K", "M", "G", "T")


def report(told: Told, now: float) -> dict[str, Any]:
    """Return the sections of the page; the filter ``fleet_report`` documents *told*.

    :param now: Unix time.
    """
    missing: list[str] = []
    plan = plan_of(told, missing)
    hosts = told["hosts"]
    # a host may be of several tiers
    for name in dict.fromkeys(host["name"] for host in hosts if not host["reached"]):
        missing.append(f"{name} does not answer: all that it would tell is left out.")
    sections = {
        "title": told["fleet"],
        "at": moment(now),
        "told_with": versions_of_control_node(told),
        "where": told.get("region") or "",
        "topology": topology(told),
        "versions": [version_row(host) for host in hosts],
        "settings": settings(plan, told.get("variables", {})) if plan else [],
        "holds": holds(plan) if plan else [],
        "load_test": load_test(told, missing),
        "primaries": primaries(told, now, missing),
        "marks": marks(told, now),
        "drills": drills(told, now, missing),
        "backups": backup_rows(told, now, missing),
        "statistics": statistics(told, missing),
    }
    releases(told, missing)
    return {**sections, "tiles": tiles(sections, plan, hosts), "missing": missing}


def plan_of(told: Told, missing: list[str]) -> dict[str, Any]:
    try:
        return capacity.plan(told["capacity"])
    except capacity.CapacityError as error:
        missing.append(f"What capacity derives: {error}")
        return {}


def holds(plan: Mapping[str, Any]) -> list[str]:
    """Sentences on what the fleet carries."""
    found = [f"{plan['requests_in_flight']:,} requests in flight. What binds: {plan['binding']}."]
    if "requests_per_second" in plan:
        found.append(f"{plan['requests_per_second']:,} requests a second. {plan['requests_per_second_binding']}.")
    return found


def versions_of_control_node(told: Told) -> str:
    control = told["control"]
    parts = [f"c50k.stack {control['collection']}", f"ansible-core {control['ansible']}", f"Python {control['python']}"]
    return ", ".join(parts)


def version_row(host: Told) -> dict[str, Any]:
    """What runs on a host."""
    wanted = host.get("programs") or []
    # as people name them, without what Debian puts before a version to keep it above older ones
    installed = dict(re.sub(r" \d+:", " ", line).split(" ", 1) for line in host.get("packages") or [] if " " in line)
    return {
        "host": host["name"],
        "tier": host["tier"],
        "os": host.get("os") or NOTHING,
        "kernel": host.get("kernel") or NOTHING,
        "python": host.get("python") or NOTHING,
        "programs": [f"{PROGRAMS[name]} {installed.get(name) or '?'}" for name in wanted],
        "release": host.get("release") or "",
        "origin": host.get("origin") or "",
    }


def releases(told: Told, missing: list[str]) -> None:
    """Say where app servers run different releases, or none."""
    found: dict[str, list[str]] = {}
    for host in told["hosts"]:
        if host["tier"] == "app_server" and host["reached"]:
            found.setdefault(host.get("release") or "none", []).append(host["name"])
    if len(found) > 1:
        said = "; ".join(f"{release} on {', '.join(names)}" for release, names in sorted(found.items()))
        missing.append(f"The app servers do not all run one release: {said}.")
    elif "none" in found:
        missing.append("No app server has a release in service: run site.yml or deploy.yml.")


def topology(told: Told) -> str:
    tiers: dict[str, list[dict[str, str]]] = {}
    zones = {host.get("zone") for host in told["hosts"]}
    for host in told["hosts"]:
        parts = [host.get("role") or "", host.get("type") or "", (host.get("zone") or "") if len(zones) > 1 else ""]
        state = "primary" if host.get("role") == "primary" else "" if host["reached"] else "silent"
        note = " · ".join(part for part in parts if part) if host["reached"] else "does not answer"
        tiers.setdefault(host["tier"], []).append({"name": host["name"], "note": note, "state": state})
    front = told.get("front") or {}
    if front:
        tiers["front"] = [{"name": front["label"], "note": front.get("address") or "", "state": ""}]
    return draw(tiers)


def load_test(told: Told, missing: list[str]) -> dict[str, Any]:
    history = told.get("load_tests") or []
    if not history:
        missing.append("No load test of this fleet: run load_test.yml.")
        return {}
    last = history[-1]
    held = last["tool"] == "hold"
    figures = [("requests ended", f"{last['requests']:,}"), ("of them failed", f"{last['failed']:,}")]
    if held:
        figures.insert(0, ("in flight at once", f"{last['most_active']:,}"))
    else:
        figures.insert(0, ("requests a second", f"{last['requests_per_second']:,.0f}"))
        figures += [(name, milliseconds(last[f"{name}_ms"])) for name in ("p50", "p95", "p99")]
    key = "most_active" if held else "requests_per_second"
    same = [one for one in history if shape(one) == shape(last)]
    return {
        "title": last["title"],
        "at": short(last["at"]),
        "tool": last["tool"],
        "fleet": last["fleet"],
        "failed": last["failed"] > 0,
        "figures": figures,
        "says": compare(last, history[:-1])["says"],
        "tests": len(same),
        "spark": spark([one[key] for one in same]) if len(same) > 1 else "",
    }


def primaries(told: Told, now: float, missing: list[str]) -> list[dict[str, str]]:
    """Of each PostgreSQL cluster who is primary, since when, and why."""
    rows = []
    for cluster, members in sorted(clusters(told).items()):
        leading = [host for host in members if host.get("role") == "primary"]
        if len(leading) != 1:
            names = ", ".join(host["name"] for host in leading) or "nobody"
            missing.append(f"The primary of PostgreSQL cluster {cluster}: {names} says to be it.")
            continue
        timelines = [line.split(" ", 2) for line in leading[0].get("timelines") or []]
        if not timelines:
            rows.append({"cluster": cluster, "primary": leading[0]["name"], "since": "", "why": "", "timeline": "1"})
            continue
        number, at, why = max(timelines, key=lambda line: int(line[0], 16))
        rows.append(
            {
                "cluster": cluster,
                "primary": leading[0]["name"],
                "since": f"{moment(float(at))}, {age(now - float(at))} ago",
                "why": PROMOTED if why == NO_TARGET else f"restored {why}",
                "timeline": str(int(number, 16)),
            }
        )
    return rows


def clusters(told: Told) -> dict[str, list[Told]]:
    """The members of each PostgreSQL cluster that answered."""
    found: dict[str, list[Told]] = {}
    for host in told["hosts"]:
        if host["tier"] == "postgres" and host["reached"]:
            found.setdefault(host["cluster"], []).append(host)
    return found


def marks(told: Told, now: float) -> list[dict[str, str]]:
    """The last of each kind of mark on the time line, the newest first."""
    last: dict[str, tuple[float, str]] = {}
    for kind, detail, at in MARK.findall(told.get("marks") or ""):
        name = json.loads(kind)
        last[name] = max(last.get(name, (0.0, "")), (float(at), json.loads(detail)))
    return [
        {"kind": kind, "detail": detail, "at": moment(at), "age": age(now - at)}
        for kind, (at, detail) in sorted(last.items(), key=lambda item: -item[1][0])
    ]


def drills(told: Told, now: float, missing: list[str]) -> list[dict[str, Any]]:
    rows = []
    for cluster in sorted(told["clusters"]):
        found = told["drills"].get(cluster)
        if not found:
            if told["backup"] != "none":
                missing.append(f"No restore drill of PostgreSQL cluster {cluster}: run restore_drill.yml.")
            continue
        at = datetime.fromisoformat(found["at"])
        rows.append(
            {
                "cluster": cluster,
                "at": moment(at.timestamp()),
                "age": age(now - at.timestamp()),
                "rpo": f"{found['rpo_seconds']:g} s",
                "rto": f"{found['rto_seconds']:g} s",
                "rows": f"{found['rows']:,} rows in {found['tables']:,} tables",
                "differences": found["differences"],
            }
        )
    return rows


def backup_rows(told: Told, now: float, missing: list[str]) -> list[dict[str, Any]]:
    if told["clusters"] and told["backup"] == "none":
        missing.append("No backups of PostgreSQL: postgres_backup is none.")
        return []
    rows = []
    for cluster in sorted(told["clusters"]):
        text = told["backups"].get(cluster)
        try:
            found = backups(json.loads(text)) if text else []
        except (ValueError, KeyError, TypeError):
            missing.append(f"The backups of PostgreSQL cluster {cluster}: the repository said {text[:200]!r}.")
            continue
        if not found:
            missing.append(f"No backup of PostgreSQL cluster {cluster}: run backup.yml.")
            continue
        last = found[-1]
        rows.append(
            {
                "cluster": cluster,
                "label": last["label"],
                "at": moment(last["stop"].timestamp()),
                "age": age(now - last["stop"].timestamp()),
                "old": now - last["stop"].timestamp() > told["backup_max_age_hours"] * 3600,
                "bytes": amount(last["bytes"], "B"),
                "kept": len(found),
                "oldest": moment(found[0]["stop"].timestamp()),
            }
        )
    return rows


def statistics(told: Told, missing: list[str]) -> dict[str, Any]:
    """What Linode counted, a row for each instance, and one for the NodeBalancer."""
    found = told.get("statistics") or {}
    if not found.get("is_account"):
        return {}
    if found.get("error"):
        missing.append(f"Linode's statistics: {found['error']}")
        return {}
    rows = [instance_row(one) for one in found["instances"] if not one["missing"]]
    front = found.get("front") or {}
    for one in (*found["instances"], *([front] if front else [])):
        if one["missing"]:
            missing.append(f"Linode's statistics of {one['label']}: {one['missing']}")
    return {"rows": rows, "front": balancer_row(front) if front and not front["missing"] else {}}


def instance_row(one: Told) -> dict[str, Any]:
    series = one["series"]
    cpu = series.get("cpu_percent") or {}
    return {
        "label": one["label"],
        "cpu": [f"{cpu.get(name, 0):.0f} %" for name in ("mean", "most", "last")],
        "spark": spark(cpu.get("points") or []),
        "io": [amount(series.get("io_per_second", {}).get(name, 0)) for name in ("mean", "most")],
        "bits": [
            [amount(series.get(f"{name}_bits", {}).get(part, 0)) for part in ("mean", "most")]
            for name in ("in", "out", "private_in", "private_out")
        ],
    }


def balancer_row(one: Told) -> dict[str, Any]:
    series = one["series"]
    connections = series.get("connections_per_second", {})
    return {
        "label": one["label"],
        "connections": [amount(connections.get(name, 0)) for name in ("mean", "most", "last")],
        "spark": spark(connections.get("points") or []),
        "in": [amount(series.get("in_bits", {}).get(part, 0), "bit/s") for part in ("mean", "most")],
        "out": [amount(series.get("out_bits", {}).get(part, 0), "bit/s") for part in ("mean", "most")],
    }


def tiles(sections: Mapping[str, Any], plan: Mapping[str, Any], hosts: Sequence[Told]) -> list[dict[str, Any]]:
    """The few numbers on top; ``bad`` ones are not as they should be."""
    every, reached = {host["name"] for host in hosts}, {host["name"] for host in hosts if host["reached"]}
    found = [tile(f"{len(reached)} of {len(every)}", "hosts answer", reached < every)]
    names = {host["release"] for host in hosts if host.get("release")}
    if any(host["tier"] == "app_server" for host in hosts):
        found.append(
            tile(next(iter(names)) if len(names) == 1 else f"{len(names)}", "release in service", len(names) != 1)
        )
    if plan:
        found.append(tile(f"{plan['requests_in_flight']:,}", "requests in flight, derived", False))
    test = sections["load_test"]
    if test:
        label, value = test["figures"][0]
        found.append(tile(value, f"{label}, last load test", test["failed"]))
    for row in sections["backups"][:1]:
        found.append(tile(row["age"], "since the last backup", row["old"]))
    for row in sections["drills"][:1]:
        found.append(tile(f"{row['rpo']} / {row['rto']}", "RPO / RTO, last drill", bool(row["differences"])))
    return found


def tile(value: str, label: str, bad: bool) -> dict[str, Any]:
    return {"value": value, "label": label, "bad": bad}


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def short(iso: str) -> str:
    return moment(datetime.fromisoformat(iso).timestamp())


def age(seconds: float) -> str:
    """Return a time that has passed, in its two largest units."""
    seconds = max(0, int(seconds))
    for name, length, lesser, parts in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= length:
            rest = seconds % length // parts
            return f"{seconds // length} {name}" + (f" {rest} {lesser}" if rest else "")
    return f"{seconds} s"


def amount(value: float, unit: str = "") -> str:
    """Return a number with three digits, as in ``1.25 Mbit/s``."""
    power = 0
    while value >= 999.5 and power < len(UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {UNITS[power]}{unit}".rstrip()


def milliseconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f} ms" if value >= 10 else f"{value:.2g} ms"
