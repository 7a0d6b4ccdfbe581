# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet is seen on one address, by those who may."""

from __future__ import annotations

import shlex
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from conftest import DROPPED, OPEN, PROJECT, SECRETS, Fleet, dial, eventually

PANELS = yaml.safe_load((PROJECT / "roles/monitoring/files/page/panels.yml").read_text())
JOBS = {"node", "app", "haproxy", "postgres", "redis", "prometheus", "alertmanager"}
# This fleet has no etcd, no PgBouncer and no backups; all its programs answer; its service calls nobody that fails.
ROWS_WITHOUT = {"etcd"}
WITHOUT = {
    "Programs that give no metrics",
    "Clients that wait in PgBouncer",
    "Age of the last archived WAL",
    "Age of the last backup",
    "age of the backup",
    "Open files of the limit",  # of those that have many
}


def signed_in(fleet: Fleet) -> httpx.Client:
    """Prometheus, for the user admin."""
    address = fleet.hostvars[fleet.names("monitoring")[0]]["ansible_host"]
    password = (SECRETS / "monitoring_password").read_text().strip()
    trusted = ssl.create_default_context(cafile=str(SECRETS / "ca.crt"))
    return httpx.Client(base_url=f"https://{address}:9090", auth=("admin", password), verify=trusted, timeout=10)


@pytest.fixture(scope="module")
def prometheus(fleet: Fleet) -> Iterator[httpx.Client]:
    with signed_in(fleet) as client:
        yield client


def query(prometheus: httpx.Client, expression: str) -> list[dict[str, Any]]:
    answer = prometheus.get("/api/v1/query", params={"query": expression}).raise_for_status().json()
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def test_every_program_of_every_host_is_asked(fleet: Fleet, prometheus: httpx.Client) -> None:
    def all_up() -> bool:
        rows = query(prometheus, "up")
        return {row["metric"]["job"] for row in rows} == JOBS and all(row["value"][1] == "1" for row in rows)

    eventually(all_up, 60, "every target is up")
    hosts = {row["metric"]["instance"] for row in query(prometheus, 'up{job="node"}')}
    assert hosts == {name for name, _host in fleet}


def test_every_panel_has_data(fleet: Fleet, prometheus: httpx.Client) -> None:
    shown = [
        *PANELS["tiles"],
        *(panel for row in PANELS["rows"] if row["title"] not in ROWS_WITHOUT for panel in row["panels"]),
    ]
    with httpx.Client(base_url=fleet.front_door, timeout=5) as client:
        made = client.post("/items", json={"name": "seen"}).raise_for_status().json()

        def all_there() -> bool:
            for _ in range(20):
                client.get(f"/items/{made['id']}")
            absent = {panel["title"] for panel in shown if not query(prometheus, panel["query"])} - WITHOUT
            assert not absent, absent
            return True

        eventually(all_there, 120, "data for every panel")


def test_every_panel_of_grafana_is_one_of_the_page(prometheus: httpx.Client) -> None:
    dashboard = prometheus.get("/user/grafana.json").raise_for_status().json()
    asked = {target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])}
    panels = [*PANELS["tiles"], *(panel for row in PANELS["rows"] for panel in row["panels"])]
    goals = {panel["goal"]["query"] for panel in panels if "goal" in panel}
    assert asked == {panel["query"] for panel in panels} | goals


def test_the_page_is_for_those_who_have_the_password_and_come_from_where_they_may(
    fleet: Fleet, prometheus: httpx.Client
) -> None:
    assert "panels.json" in prometheus.get("/user/").raise_for_status().text
    assert prometheus.get("/user/panels.json").json()["fleet"] == "mol-monitoring"
    assert "### HostDown" in prometheus.get("/user/alerts.md").text
    for auth in (None, ("admin", "wrong-password")):
        assert httpx.get(f"{prometheus.base_url}/user/", auth=auth, verify=False).status_code == 401
    address = fleet.hostvars[fleet.names("monitoring")[0]]["stack_address"]
    assert fleet.tier("app_server")[0].run(shlex.join(dial(address, 9090))).rc == DROPPED


def test_metrics_are_for_the_monitoring_host_alone(fleet: Fleet) -> None:
    address = fleet.hostvars[fleet.names("postgres")[0]]["stack_address"]
    for port in (9100, 9187):
        words = shlex.join(dial(address, port))
        assert fleet.tier("monitoring")[0].run(words).rc == OPEN
        assert fleet.tier("app_server")[0].run(words).rc == DROPPED


def test_a_run_is_a_mark_on_the_time_line(prometheus: httpx.Client) -> None:
    (mark,) = query(prometheus, 'stack_event_timestamp_seconds{kind="site"}')
    assert float(mark["value"][0]) - float(mark["value"][1]) < 3600


def test_no_secret_is_where_others_can_read_it(fleet: Fleet) -> None:
    for tier, secret in (("monitoring", "monitoring_password"), ("redis", "exporter_password")):
        text = (SECRETS / secret).read_text().strip()
        pattern = shlex.quote(f"[{text[0]}]{text[1:]}")  # which its own command line does not have
        host = fleet.tier(tier)[0]
        assert host.run(f"cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c {pattern}").stdout.strip() == "0"
        assert host.run(f"find /etc -type f -perm -o+r -exec grep -l {pattern} {{}} +").stdout == ""
