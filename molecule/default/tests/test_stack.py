# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole stack as its user meets it, and as it comes back from what kills it."""

from __future__ import annotations

import time

import httpx
import pytest
from conftest import Fleet, eventually, play


def test_every_host_is_up_with_no_failed_unit(fleet: Fleet) -> None:
    states = fleet.states()
    assert set(states.values()) == {"running"}, states


def test_hosts_have_the_cores_and_memory_of_their_type(fleet: Fleet) -> None:
    database = fleet.tier("postgres")[0]
    conf = database.check_output("runuser -u postgres -- psql -XAtc 'show shared_buffers'")
    assert conf == "512MB", "a quarter of the 2 GiB of g6-standard-1, not of this machine"


def test_an_item_comes_from_the_database_and_then_from_the_cache(client: httpx.Client) -> None:
    first = client.get("/items/7")
    assert first.status_code == 200
    assert first.json()["main_item"]["id"] == 7
    assert first.json()["main_item"]["details"]["id"] == 7
    second = client.get("/items/7")
    assert second.headers["x-cache"] == "hit"
    assert second.json() == first.json()


def test_a_write_goes_to_the_primary_and_is_read_back_from_the_replica(client: httpx.Client) -> None:
    written = client.post("/items", json={"name": "molecule", "price_cents": 100})
    assert written.status_code == 201
    client.cookies.clear()

    def read() -> httpx.Response | None:
        answer = client.get(written.headers["location"], params={"source": "replica"})
        return answer if answer.status_code == 200 else None

    answer = eventually(read, 10, "the replica's answer")
    assert answer.headers["x-database"] == "replica"
    assert answer.json()["main_item"]["name"] == "molecule"


def test_every_app_host_answers_through_the_front_door(fleet: Fleet, client: httpx.Client) -> None:
    heard = {client.get("/livez").headers["x-served-by"] for _ in range(20)}
    assert heard == {name.replace("_", "-") for name in fleet.names("app_server")}


def test_the_seeds_health_check_is_answered(client: httpx.Client) -> None:
    assert client.head("/health").status_code == 200
    assert client.get("/readyz").json()["status"] == "ok"


def test_no_secret_is_in_an_argument_list_or_a_readable_file(fleet: Fleet) -> None:
    host = fleet.tier("app_server")[0]
    secret = host.check_output("cat /etc/app/current/credentials/database_password")
    assert len(secret) == 32
    readable = "find /etc /srv /var/log -type f -perm -o+r -size -200k -exec cat {} +"
    for name, host in fleet:
        assert secret not in host.run("cat /proc/[0-9]*/cmdline").stdout, name
        assert secret not in host.run(f"{readable} | tr -cd '[:alnum:]\n'").stdout, name
        assert secret not in host.run("journalctl --no-pager --boot").stdout, name


@pytest.mark.parametrize(
    ("tier", "unit", "most"),
    [
        ("app_server", "app", 1.5),
        ("load_balancer", "haproxy", 2.5),
        ("postgres", "postgresql@17-main", 3.5),
        ("redis", "redis-server", 1.5),
    ],
)
def test_services_are_hardened(fleet: Fleet, tier: str, unit: str, most: float) -> None:
    verdict = fleet.tier(tier)[0].check_output(f"systemd-analyze security {unit} --no-pager | tail -1")
    assert float(verdict.split(":")[1].split()[0]) <= most, verdict


SERVICES = [
    ("app_server", "app", "pgrep -P $(systemctl show -P MainPID app) | head -1", "an app worker"),
    ("app_server", "app", "systemctl show -P MainPID app", "gunicorn"),
    ("load_balancer", "haproxy", "systemctl show -P MainPID haproxy", "haproxy"),
    ("postgres", "postgresql@17-main", "head -1 /var/lib/postgresql/17/main/postmaster.pid", "postgres"),
    ("redis", "redis-server", "systemctl show -P MainPID redis-server", "redis"),
]


@pytest.mark.parametrize(("tier", "unit", "victim", "what"), SERVICES, ids=[row[3] for row in SERVICES])
def test_what_is_killed_comes_back_by_itself(
    fleet: Fleet, client: httpx.Client, tier: str, unit: str, victim: str, what: str
) -> None:
    host = fleet.tier(tier)[0]
    pid = host.check_output(victim)
    host.check_output(f"kill -9 {pid}")
    eventually(lambda: host.check_output(victim) not in ("", "0", pid), 30, f"a new process for {what}")
    eventually(lambda: host.check_output(f"systemctl is-active {unit}") == "active", 30, f"{unit} active")

    def served() -> bool:
        written = client.post("/items", json={"name": "after"})
        return written.status_code == 201 and client.get("/readyz").json()["status"] == "ok"

    eventually(served, 30, f"service after {what} was killed")


def test_every_host_comes_back_from_a_reboot(fleet: Fleet, client: httpx.Client) -> None:
    boots = {name: host.check_output("cat /proc/1/stat | cut -d' ' -f22") for name, host in fleet}
    for _name, host in fleet:
        host.run("systemctl reboot")
    time.sleep(3)
    for name, host in fleet:
        eventually(
            lambda host=host, name=name: host.check_output("cat /proc/1/stat | cut -d' ' -f22") != boots[name],
            60,
            f"the reboot of {name}",
        )
        eventually(lambda host=host: host.check_output("systemctl is-system-running --wait"), 60, f"{name} running")
    eventually(lambda: client.post("/items", json={"name": "rebooted"}).status_code == 201, 60, "a write after it")
    eventually(lambda: client.get("/readyz").json()["status"] == "ok", 30, "readiness after the reboot")
    test_every_host_is_up_with_no_failed_unit(fleet)


def test_validate_shows_what_the_fleet_holds_and_refuses_more() -> None:
    shown = play("validate")
    assert shown.returncode == 0, shown.stdout
    assert "Derived from the types, for each host:" in shown.stdout
    refused = play("validate", target_concurrency=100_000_000)
    assert refused.returncode != 0
    for said in ("of 100,000,000 wanted", "What binds: ", "Or lower target_concurrency (100000000)"):
        assert said in refused.stdout, refused.stdout
