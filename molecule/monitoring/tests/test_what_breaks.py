# SPDX-License-Identifier: GPL-3.0-or-later
"""What breaks has an alert by its name, and what is mended has none. After the others: one alert wants five minutes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conftest import Fleet, eventually, play
from test_logs import everybody, log, received, senders
from test_monitoring import query, signed_in

DATA = "/var/lib/prometheus/metrics2"
# What is measured on a disk of 32 MiB, and back.
ON_A_SMALL_DISK = f"""set -e; systemctl stop prometheus
mount -t tmpfs -o size=32m,mode=700 tmpfs {DATA}; chown prometheus: {DATA}; systemctl start prometheus"""
ON_ITS_OWN_DISK = f"systemctl stop prometheus; umount {DATA}; systemctl start prometheus"


@pytest.fixture(scope="module")
def prometheus(fleet: Fleet) -> Iterator[httpx.Client]:
    with signed_in(fleet) as client:
        yield client


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
    assert {client.get("/livez").status_code for _ in range(50)} == {200}
    counted = f'sum(increase(nginx_http_requests_total{{instance="{balancer}"}}[5m])) >= 50'
    eventually(lambda: query(prometheus, counted), 60, "they are counted")
    eventually(lambda: query(prometheus, "instance:front_requests:rate1m > 0"), 60, "its panel has them")
    eventually(lambda: not query(prometheus, 'up{job="haproxy"}'), 60, "the other engine is not asked any more")
