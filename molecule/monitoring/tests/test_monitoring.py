# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet is seen on one address, by those who may; what breaks has an alert, and what is mended has none."""

from __future__ import annotations

import json
import shlex
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from conftest import DROPPED, OPEN, PROJECT, SECRETS, Fleet, dial, eventually, play
from test_logs import everybody, log, received, senders

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
DATA = "/var/lib/prometheus/metrics2"
# What is measured on a disk of 32 MiB, and back.
ON_A_SMALL_DISK = f"""set -e; systemctl stop prometheus
mount -t tmpfs -o size=32m,mode=700 tmpfs {DATA}; chown prometheus: {DATA}; systemctl start prometheus"""
ON_ITS_OWN_DISK = f"systemctl stop prometheus; umount {DATA}; systemctl start prometheus"


@pytest.fixture(scope="module")
def prometheus(fleet: Fleet) -> Iterator[httpx.Client]:
    address = fleet.hostvars[fleet.names("monitoring")[0]]["ansible_host"]
    password = (SECRETS / "monitoring_password").read_text().strip()
    trusted = ssl.create_default_context(cafile=str(SECRETS / "ca.crt"))
    with httpx.Client(
        base_url=f"https://{address}:9090", auth=("admin", password), verify=trusted, timeout=10
    ) as client:
        yield client


def query(prometheus: httpx.Client, expression: str) -> list[dict[str, Any]]:
    answer = prometheus.get("/api/v1/query", params={"query": expression}).raise_for_status().json()
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def named(alerts: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Alerts and the hosts, clusters or nothing that they are of."""
    found = [alert["labels"] for alert in alerts]
    return {(labels["alertname"], labels.get("instance", labels.get("cluster", ""))) for labels in found}


def firing(prometheus: httpx.Client) -> set[tuple[str, str]]:
    alerts = prometheus.get("/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
    return named([alert for alert in alerts if alert["state"] == "firing"])


def told(fleet: Fleet) -> set[tuple[str, str]]:
    """Those that Alertmanager was told of."""
    ask = "amtool alert query -o json --alertmanager.url=http://127.0.0.1:9093"
    return named(json.loads(fleet.tier("monitoring")[0].check_output(ask)))


@pytest.fixture
def always(fleet: Fleet) -> set[tuple[str, str]]:
    """What fires all the while, as the service's collector is away."""
    return {("TelemetryNotSent", fleet.names("app_server")[0])}


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


def test_what_breaks_has_an_alert_and_what_is_mended_has_none(
    fleet: Fleet, prometheus: httpx.Client, always: set[tuple[str, str]]
) -> None:
    balancer, app, (first, second), redis, monitoring = (
        fleet.names("load_balancer")[0],
        fleet.names("app_server")[0],
        fleet.names("postgres"),
        fleet.names("redis")[0],
        fleet.names("monitoring")[0],
    )
    eventually(lambda: firing(prometheus) == told(fleet) == always, 360, "nothing else is wrong before")
    replica = eventually(
        lambda: [row["metric"]["instance"] for row in query(prometheus, "pg_replication_is_replica == 1")], 30
    )[0]
    assert replica in {first, second}
    wanted = {
        ("CacheDown", redis),
        ("CacheNoPrimary", ""),
        ("PostgresDown", replica),
        ("PostgresReplicaMissing", "main"),
        ("BackendDown", balancer),
        ("TargetDown", app),
        ("UnitFailed", redis),
        *(("LogsNotSent", sender) for sender in senders(fleet)),
    }
    broken = {
        redis: (
            "systemctl stop redis-server; systemd-run --unit=broken false",
            "systemctl reset-failed broken; systemctl start redis-server",
        ),
        replica: ("systemctl stop 'postgresql@*'", "systemctl start postgresql@17-main"),
        app: ("systemctl stop app", "systemctl start app"),
        monitoring: ("systemctl stop journal-proxy", "systemctl start journal-proxy"),
    }
    try:
        for name, (fault, _mend) in broken.items():
            assert fleet.host(name).run(fault).rc == 0
        word = log(senders(fleet))
        eventually(lambda: wanted <= told(fleet), 360, f"{wanted} fire")
        assert received(fleet, word) == set()
    finally:
        for name, (_fault, mend) in broken.items():
            fleet.host(name).run(mend)
    eventually(lambda: received(fleet, word) == everybody(fleet), 90, "what was logged meanwhile arrives")
    eventually(lambda: firing(prometheus) <= always, 300, "nothing else is wrong after")


def test_a_full_disk_of_what_is_measured_has_an_alert_and_stops_nothing(
    fleet: Fleet, client: httpx.Client, prometheus: httpx.Client
) -> None:
    monitoring, before, answers = fleet.tier("monitoring")[0], time.time(), []

    def measured() -> bool:
        return bool(query(prometheus, 'time() - timestamp(up{job="prometheus"}) < 20'))

    def started() -> str:
        return str(monitoring.check_output("systemctl show -P MainPID -P NRestarts prometheus"))

    def noticed() -> bool:
        for asked, path in ((client, "/items/1?source=replica"), (prometheus, "/user/")):
            answers.append(0)  # unless it answers
            answers[-1] = asked.get(path).status_code
        return ("NothingMeasured", "") in told(fleet)

    try:
        monitoring.check_output(ON_A_SMALL_DISK)
        eventually(lambda: measured() and query(prometheus, "instance:memory:ratio"), 60, "it measures there too")
        first = started()
        assert "No space left" in monitoring.run(f"cat /dev/zero >{DATA}/filler").stderr
        eventually(noticed, 360, "NothingMeasured fires")
        assert set(answers) == {200}
        assert not measured()
        monitoring.check_output(f"rm {DATA}/filler")
        eventually(measured, 60, "with room it measures again")
        assert started() == first
    finally:
        monitoring.run(ON_ITS_OWN_DISK)
    eventually(measured, 60, "it measures on its own disk")
    assert query(prometheus, f'up{{job="prometheus"}} @ {before:.0f}'), "what was measured before is there"


def test_nginx_is_asked_where_it_is_the_load_balancer(
    fleet: Fleet, client: httpx.Client, prometheus: httpx.Client
) -> None:
    changed = play("site", load_balancer_engine="nginx")
    assert changed.returncode == 0, changed.stdout[-6000:]
    (balancer,) = fleet.names("load_balancer")
    eventually(lambda: query(prometheus, f'nginx_up{{job="nginx", instance="{balancer}"}} == 1'), 60, "it is asked")

    def requests() -> float:
        (row,) = query(prometheus, "nginx_http_requests_total")
        return float(row["value"][1])

    before = requests()
    assert {client.get("/livez").status_code for _ in range(50)} == {200}
    eventually(lambda: requests() >= before + 50, 60, "they are counted")
    eventually(lambda: query(prometheus, "instance:front_requests:rate1m > 0"), 60, "its panel has them")
    assert not query(prometheus, 'up{job="haproxy"}')
