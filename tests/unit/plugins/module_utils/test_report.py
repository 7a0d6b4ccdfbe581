# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence page of a fleet: what it shows, what it says is missing, and that it shows nothing as code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.filter.report import fleet_report, fleet_report_page
from ansible_collections.c50k.stack.plugins.module_utils.capacity import plan, plan_rows
from ansible_collections.c50k.stack.plugins.module_utils.capacity_reasons import REASONS, settings
from ansible_collections.c50k.stack.plugins.module_utils.fleet_drawing import DRAWN, draw, spark
from ansible_collections.c50k.stack.plugins.module_utils.report import age, amount, report

NOW = 1_764_417_600.0  # 2025-11-29 12:00 UTC
PAGE = Path(__file__).parents[4] / "playbooks/templates/report.html.j2"
SIZE = {"cores": 2.0, "memory_bytes": 4 << 30, "open_files": 1_048_576}
TIERS = {"load_balancer": 2, "app_server": 3, "postgres": 3, "redis": 1, "backup": 1, "monitoring": 1}
PROGRAMS = {"load_balancer": ["haproxy"], "postgres": ["postgresql-17", "patroni"], "redis": ["redis-server"]}
PACKAGES = {"haproxy": "3.0.11-1+deb13u1", "postgresql-17": "17.6-0+deb13u1", "redis-server": "5:8.0.2-3"}
DAY = {"mean": 12.5, "most": 180.0, "last": 7.0, "points": [float(number % 37) for number in range(48)]}
SPEC = {"tiers": {tier: {"hosts": [SIZE] * 2} for tier in ("load_balancer", "app_server", "postgres", "redis")}}


def host(name: str, tier: str, **values: Any) -> dict[str, Any]:
    base = {
        "name": name,
        "tier": tier,
        "cluster": "main",
        "reached": True,
        "type": "g6-standard-2",
        "zone": "de-fra-2",
        "os": "Debian 13.2",
        "kernel": "6.12.57+deb13-amd64",
        "python": "3.13.5",
        "packages": [f"{name} {version}" for name, version in PACKAGES.items()],
        "programs": PROGRAMS.get(tier, []),
        "release": "3f6c0b9a41de" if tier == "app_server" else "",
        "origin": "git service main → 1a2b3c4d5e6f (tag v1.2)" if tier == "app_server" else "",
        "role": {"demo-postgres-1": "replica", "demo-postgres-2": "primary", "demo-postgres-3": "replica"}.get(
            name, ""
        ),
        "timelines": [],
    }
    if base["role"] == "primary":
        base["timelines"] = [
            f"00000002 {NOW - 900_000:.0f} no recovery target specified",
            f"0000000B {NOW - 7_300:.0f} before <new>",
        ]
    return {**base, **values}


def load_tested(**values: Any) -> dict[str, Any]:
    base = {"at": "2025-11-28T09:00:00+00:00", "tool": "k6", "title": "200 users, scenario mixed", "seconds": 30}
    figures = {"requests": 61_234, "failed": 0, "most_active": 200, "seconds_held": 30, "requests_per_second": 2041.0}
    return {**base, "fleet": "2 load_balancer", **figures, "p50_ms": 4.1, "p95_ms": 38.0, "p99_ms": 120.0, **values}


def told(**values: Any) -> dict[str, Any]:
    """A fleet of which all is known."""
    backup = {
        "label": "20251129-020000F",
        "timestamp": {"stop": NOW - 30_000},
        "info": {"size": 31_000_000},
        "archive": {"stop": "000000010000000000000007"},
    }
    drill = {"at": "2025-11-27T12:00:00+00:00", "rpo_seconds": 4.2, "rto_seconds": 1.6, "rows": 200_306, "tables": 4}
    base = {
        "fleet": "demo",
        "region": "de-fra-2",
        "hosts": [host(f"demo-{tier}-{n}", tier) for tier, count in TIERS.items() for n in range(1, count + 1)],
        "clusters": ["main"],
        "front": {"label": "demo", "address": "198.51.100.7"},
        "capacity": SPEC,
        "variables": {},
        "control": {"collection": "1.0.0", "ansible": "2.19.0", "python": "3.13.0"},
        "load_tests": [load_tested(requests_per_second=1900.0), load_tested()],
        "drills": {"main": {**drill, "differences": []}},
        "backup": "host",
        "backup_max_age_hours": 26,
        "backups": {"main": json.dumps([{"backup": [backup]}])},
        "marks": f'stack_event_timestamp_seconds{{kind="site",detail=""}} {NOW - 600:.0f}\n'
        f'stack_event_timestamp_seconds{{kind="deploy",detail="v1.2 \\"x\\""}} {NOW - 60:.0f}\n',
        "statistics": {
            "is_account": True,
            "instances": [
                {"label": "demo-app_server-1", "missing": "", "series": {"cpu_percent": DAY, "in_bits": DAY}},
                {"label": "demo-redis-1", "missing": "Stats are unavailable at this time.", "series": {}},
            ],
            "front": {"label": "demo", "missing": "", "series": {"connections_per_second": DAY, "in_bits": DAY}},
        },
    }
    return {**base, **values}


def page(sections: dict[str, Any]) -> str:
    return fleet_report_page(sections, str(PAGE))


def test_a_fleet_of_which_all_is_known() -> None:
    found = report(told(), NOW)
    assert found["missing"] == ["Linode's statistics of demo-redis-1: Stats are unavailable at this time."]
    assert [(one["value"], one["bad"]) for one in found["tiles"]] == [
        ("11 of 11", False),
        ("3f6c0b9a41de", False),
        (f"{plan(SPEC)['requests_in_flight']:,}", False),
        ("2,041", False),
        ("8 h 20 min", False),
        ("4.2 s / 1.6 s", False),
    ]
    assert found["primaries"] == [
        {
            "cluster": "main",
            "primary": "demo-postgres-2",
            "since": "2025-11-29 09:58 UTC, 2 h 1 min ago",
            "why": "restored before <new>",
            "timeline": "11",
        }
    ]
    assert "requests/s 2,041 ÷ 1,900 = 1.07" in found["load_test"]["says"]
    assert [(mark["kind"], mark["detail"]) for mark in found["marks"]] == [("deploy", 'v1.2 "x"'), ("site", "")]
    versions = {row["host"]: row["programs"] for row in found["versions"]}
    assert versions["demo-redis-1"] == ["Redis 8.0.2-3"]
    assert versions["demo-postgres-1"] == ["PostgreSQL 17.6-0+deb13u1", "Patroni ?"]
    assert found["statistics"]["rows"][0]["cpu"] == ["12 %", "180 %", "7 %"]


def test_the_page_is_whole_and_nothing_in_it_is_code() -> None:
    html = page(report(told(), NOW))
    for wanted in ("demo-postgres-2", "3f6c0b9a41de", "max_connections", "A quarter of the memory.", "12 %", "4.2 s"):
        assert wanted in html
    assert "&lt;new&gt;" in html
    assert "<new>" not in html
    assert not re.search(r"<script|https?://", html)


def test_what_others_named_is_shown_as_they_named_it() -> None:
    evil = "<script>alert(1)</script>"
    hosts = [host(evil, "postgres", role="primary", origin=evil), host("a", "app_server", release=evil, origin=evil)]
    html = page(
        report(
            told(fleet=evil, hosts=hosts, front={"label": evil}, region=evil, load_tests=[load_tested(title=evil)]), NOW
        )
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 5


NOTHING = {
    "load_tests": [],
    "drills": {},
    "backups": {},
    "marks": "",
    "statistics": {},
    "front": {},
    "capacity": {"tiers": {"app_server": {"hosts": [None]}}},
}


def test_a_fleet_of_which_nothing_is_known_has_a_page_too() -> None:
    hosts = [host(f"demo-{tier}-1", tier, reached=False, role="", release="", os="", packages=[]) for tier in TIERS]
    found = report(told(hosts=hosts, **NOTHING), NOW)
    said = "\n".join(found["missing"])
    for wanted in (
        "demo-app_server-1 does not answer",
        "What capacity derives: tiers.app_server.hosts[0] is None",
        "No load test of this fleet: run load_test.yml",
        "No restore drill of PostgreSQL cluster main",
        "No backup of PostgreSQL cluster main",
    ):
        assert wanted in said
    assert found["tiles"][0] == {"value": "0 of 6", "label": "hosts answer", "bad": True}
    html = page(found)
    assert "No load test." in html
    assert "No primary that answers." in html


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"backup": "none"}, "No backups of PostgreSQL: postgres_backup is none."),
        ({"backups": {"main": "ERROR: [055]"}}, "the repository said 'ERROR: [055]'"),
        ({"hosts": [host("a", "postgres", role="replica")]}, "The primary of PostgreSQL cluster main: nobody says"),
        (
            {"hosts": [host("a", "postgres", role="primary"), host("b", "postgres", role="primary")]},
            "a, b says to be it",
        ),
        (
            {"hosts": [host("a", "app_server"), host("b", "app_server", release="other")]},
            "do not all run one release: 3f6c0b9a41de on a; other on b",
        ),
        ({"hosts": [host("a", "app_server", release="")]}, "No app server has a release in service"),
        ({"statistics": {"is_account": True, "error": "no token"}}, "Linode's statistics: no token"),
    ],
)
def test_what_is_missing_or_at_odds_is_said(changed: dict[str, Any], said: str) -> None:
    assert said in "\n".join(report(told(**changed), NOW)["missing"])


def test_an_old_backup_and_a_failed_test_stand_out() -> None:
    found = report(told(backup_max_age_hours=1, load_tests=[load_tested(failed=3)]), NOW)
    assert [one["label"] for one in found["tiles"] if one["bad"]] == [
        "requests a second, last load test",
        "since the last backup",
    ]


def test_held_requests_are_told_by_how_many_there_were() -> None:
    found = report(told(load_tests=[load_tested(tool="hold", p50_ms=None)]), NOW)
    assert found["load_test"]["figures"][0] == ("in flight at once", "200")


def test_every_derived_number_has_a_reason_and_one_that_is_set_its_variable() -> None:
    tiers = {**SPEC["tiers"], "memcached": {"hosts": [SIZE]}}
    tiers["postgres"] = {"hosts": [SIZE], "pooler": "pgbouncer"}
    tiers["redis"] = {"hosts": [SIZE] * 3, "failover": "sentinel"}
    derived = plan({"tiers": tiers})
    assert {(tier, name) for tier, name, _value in plan_rows(derived)} == REASONS.keys()
    variables = {
        "redis": {"redis_maxmemory_bytes": 7},
        "postgres": {"postgres_settings": {"work_mem": "9MB"}, "pgbouncer_server_connections": 5},
        "app_server": {"app_server_environment": {"DATABASE_POOL_SIZE": 3}, "app_server_workers": 9},
        "kernel": {"base_sysctl": {"net.core.somaxconn": 1}},
    }
    given = {
        (row["tier"], row["name"]): row["value"]
        for row in settings(derived, variables)
        if row["why"].startswith("Set in the inventory")
    }
    assert given == {
        ("redis", "maxmemory_bytes"): "7",
        ("postgres", "work_mem"): "9MB",
        ("pgbouncer", "server_connections"): "5",
        ("app_server", "database_pool_size"): "3",
        ("app_server", "workers"): "9",
        ("kernel", "net.core.somaxconn"): "1",
    }


@pytest.mark.parametrize("count", [0, 1, 7, DRAWN, DRAWN + 1, 500])
def test_the_picture_has_every_tier_within_its_edges(count: int) -> None:
    tiers = {
        name: [{"name": f"a-fleet-of-a-long-name-{name}-{number}", "note": "x", "state": ""} for number in range(count)]
        for name in ("load_balancer", "app_server", "postgres", "redis", "etcd", "backup", "drill", "monitoring")
    }
    root = ElementTree.fromstring(draw(tiers))
    _x, _y, width, height = map(float, root.attrib["viewBox"].split())
    boxes = list(root.iter("rect"))
    assert len(boxes) == len(tiers) * (min(count, DRAWN) + 1) if count else not boxes
    for box in boxes:
        assert 0 <= float(box.attrib["x"]) <= width - float(box.attrib["width"])
        assert 0 <= float(box.attrib["y"]) <= height - float(box.attrib["height"])
    texts = [one.text or "" for one in root.iter("text")]
    assert any("more" in text for text in texts) is (count > DRAWN)


def test_a_host_of_several_tiers_is_one_host() -> None:
    both = [host("a", "app_server"), host("a", "load_balancer", reached=True), host("b", "redis", reached=False)]
    found = report(told(hosts=[*both, host("b", "etcd", reached=False)]), NOW)
    assert found["tiles"][0]["value"] == "1 of 2"
    assert sum("b does not answer" in said for said in found["missing"]) == 1


def test_of_each_kind_of_mark_the_last_one_counts() -> None:
    lines = [f'stack_event_timestamp_seconds{{kind="site",detail="{at}"}} {at}' for at in (20, 30, 10)]
    assert [mark["detail"] for mark in report(told(marks="\n".join(lines)), NOW)["marks"]] == ["30"]


def test_zones_are_told_where_there_are_several() -> None:
    def picture(zone: str) -> str:
        return str(report(told(hosts=[host("a", "redis"), host("b", "redis", zone=zone)]), NOW)["topology"])

    assert "g6-standard-2 · us-ord" in picture("us-ord")
    assert "de-fra-2" not in picture("de-fra-2")


def test_a_small_line_of_one_point_is_a_dot() -> None:
    assert "h0" in spark([3.0])
    assert "<path" not in spark([])
    assert "<path" in spark([0.0, 0.0])


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(7, "7 s"), (60, "1 min"), (61, "1 min 1 s"), (7_300, "2 h 1 min"), (90_000, "1 d 1 h"), (-5, "0 s")],
)
def test_ages(seconds: float, said: str) -> None:
    assert age(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (12.345, "12.3"), (999.4, "999"), (1234, "1.23 K"), (3e9, "3 G")]
)
def test_amounts(value: float, said: str) -> None:
    assert amount(value) == said
    assert amount(value, "bit/s").startswith(said.split()[0])


HOSTVARS = {
    "app-1": {
        "linode_type": "g6-standard-1",
        "ansible_facts": {
            "distribution": "Debian",
            "distribution_version": "13.2",
            "kernel": "6.12",
            "python_version": "3.13.5",
        },
        "report_packages": {"stdout_lines": ["haproxy 3.0"]},
        "report_release": {"stdout_lines": ["3f6c0b9a41de", "folder app"]},
    },
    "db-1": {
        "postgres_state": {"initialised": True, "in_recovery": False},
        "report_timelines": {"stdout_lines": ["00000002 1764000000 no recovery target specified"]},
        "report_backups": {"stdout": "[]"},
    },
    "db-2": {"postgres_state": {"initialised": True, "in_recovery": True}, "report_packages": {"skipped": True}},
}
GIVEN = {
    "fleet": "demo",
    "reached": ["app-1", "db-1"],
    "programs": {"app_server": ["haproxy"]},
    "capacity": SPEC,
    "backup": "host",
    "backup_max_age_hours": 26,
    "statistics": {},
}
HOSTS = {"load_balancer": [], "app_server": ["app-1"], "postgres": ["db-1", "db-2"]}


def test_what_the_tasks_registered_is_read(tmp_path: Path) -> None:
    (tmp_path / "load_tests.json").write_text(json.dumps([load_tested()]))
    drill = {"at": "2025-11-27T12:00:00+00:00", "rpo_seconds": 4.2, "rto_seconds": 1.6, "rows": 1, "tables": 1}
    (tmp_path / "restore_drill-main.json").write_text(json.dumps({**drill, "differences": []}))
    found = fleet_report(HOSTS, HOSTVARS, GIVEN, str(tmp_path))
    assert found["missing"] == [
        "db-2 does not answer: all that it would tell is left out.",
        "No backup of PostgreSQL cluster main: run backup.yml.",
    ]
    assert found["versions"][0] == {
        "host": "app-1",
        "tier": "app_server",
        "os": "Debian 13.2",
        "kernel": "6.12",
        "python": "3.13.5",
        "programs": ["HAProxy 3.0"],
        "release": "3f6c0b9a41de",
        "origin": "folder app",
    }
    assert (found["primaries"][0]["primary"], found["primaries"][0]["timeline"]) == ("db-1", "2")
    assert found["primaries"][0]["why"].startswith("a replica was promoted")
    assert (found["drills"][0]["rpo"], found["load_test"]["tests"]) == ("4.2 s", 1)
    assert re.match(r"c50k.stack \d+\.\d+\.\d+, ansible-core ", found["told_with"])
    assert page(found).startswith("<!doctype html>")


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "load_tests.json").write_text("{")
    with pytest.raises(AnsibleFilterError, match=r"load_tests\.json is no JSON.*remove it"):
        fleet_report(HOSTS, HOSTVARS, GIVEN, str(tmp_path))
