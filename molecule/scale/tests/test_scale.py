# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet that grows and shrinks with requests running the whole time; none may fail. One story, in order."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import PROJECT, SECRETS, Fleet, account, command, eventually, play, read_fleet

sys.path.insert(0, str(PROJECT / "tests/drills"))
from traffic import Traffic

# A load balancer that leaves waits for open WebSockets as long as load_balancer_drain_timeout says, 6 seconds here.
TRAFFIC = ("--get", "/", "--post", "/", "--websocket", "/ws", "--websocket-seconds", "4")
TYPE = "g6-nanode-1"


def tiers(app_server: int, postgres: int = 2, load_balancer: int = 1) -> dict[str, Any]:
    """Return fleet_tiers with so many hosts."""
    counts = {"load_balancer": (load_balancer, 2), "app_server": (app_server, 4), "postgres": (postgres, 3)}
    return {tier: {"count": count, "max": most, "type": TYPE} for tier, (count, most) in counts.items()}


def app(*numbers: int) -> list[str]:
    return [f"mol-scale-app_server-{number}" for number in numbers]


def changed(output: str) -> dict[str, int]:
    """Return the number of changes on each host, from the recap."""
    return {host: int(count) for host, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)}


def heard(fleet: Fleet) -> set[str]:
    """Return the app hosts that answer through the front door, by inventory name."""
    with httpx.Client(base_url=fleet.front_door, timeout=5) as client:
        return {client.get("/").json()["host"].replace("app-server", "app_server") for _ in range(40)}


def serving(fleet: Fleet) -> set[str]:
    """Return the servers in the load balancer's configuration."""
    config = fleet.tier("load_balancer")[0].check_output("cat /etc/haproxy/haproxy.cfg")
    return set(re.findall(r"^    server (\S+)", config, re.MULTILINE))


def nodes() -> dict[str, str]:
    """Return the NodeBalancer's nodes, and how they are."""
    (found,) = [row["id"] for row in account("GET", "/nodebalancers")["data"] if row["label"] == "mol-scale"]
    (config,) = [row["id"] for row in account("GET", f"/nodebalancers/{found}/configs")["data"]]
    rows = account("GET", f"/nodebalancers/{found}/configs/{config}/nodes")["data"]
    return {row["label"]: row["status"] for row in rows}


def test_the_clients_address_survives(fleet: Fleet) -> None:
    """Past the NodeBalancer and the load balancer; nobody else may claim one."""
    seen = httpx.get(fleet.front_door, headers={"X-Forwarded-For": "192.0.2.99"}, timeout=5).json()
    assert seen["client"] == seen["headers"]["x-forwarded-for"] == "198.51.100.254", "this machine"


def test_one_operator_at_a_time(fleet: Fleet, tmp_path: Path) -> None:
    """Another one, whose machine knows nothing of the first, is let in once the first's run is killed."""
    elsewhere = tmp_path / "secrets"
    shutil.copytree(SECRETS, elsewhere, ignore=shutil.ignore_patterns("lock"))
    first = subprocess.Popen(command("site", fleet_tiers=tiers(2)), stdout=subprocess.DEVNULL)
    try:
        keeper = fleet.tier("app_server")[0]
        eventually(lambda: f'"pid": {first.pid}' in keeper.run("cat /run/lock/c50k-fleet").stdout, what="the lock")
        refused = play("site", fleet_tiers=tiers(2), stack_secrets_dir=str(elsewhere))
        assert refused.returncode == 2
        said = " ".join(refused.stdout.split())
        assert "Another run works on this fleet" in said
        assert f"(process {first.pid})" in said
        assert set(changed(refused.stdout).values()) == {0}
    finally:
        first.kill()
        first.wait()
    eventually(lambda: keeper.run("flock -n /run/lock/c50k-fleet true").succeeded, 45, "the end of the lock")


def test_out(fleet: Fleet) -> None:
    with Traffic(fleet.front_door, *TRAFFIC) as traffic:
        run = play("site", fleet_tiers=tiers(app_server=3, load_balancer=2))
    assert run.returncode == 0, run.stdout
    traffic.check()
    assert heard(fleet) == set(app(1, 2, 3))
    assert nodes() == {"mol-scale-load_balancer-1": "UP", "mol-scale-load_balancer-2": "UP"}
    changes = changed(run.stdout)
    quiet = {*app(1, 2), "mol-scale-postgres-1", "mol-scale-postgres-2"}
    assert {host: changes[host] for host in quiet} == dict.fromkeys(quiet, 0)
    assert changes["mol-scale-load_balancer-1"] == 2, "the configuration, and a reload"


def test_a_lower_count_names_and_keeps(fleet: Fleet) -> None:
    run = play("site", fleet_tiers=tiers(app_server=2, postgres=1, load_balancer=1))
    assert run.returncode == 0, run.stdout
    said = " ".join(run.stdout.split())
    beyond = ["mol-scale-app_server-3", "mol-scale-postgres-2", "mol-scale-load_balancer-2"]
    assert f"More than fleet_tiers asks for: {', '.join(beyond)}" in said
    assert f"-e fleet_remove={','.join(beyond)}" in said
    assert set(changed(run.stdout).values()) == {0}
    assert serving(fleet) == set(app(1, 2, 3))


REFUSED = {
    "a stranger": (["web-1"], tiers(2), "fleet_remove names web-1: its hosts are mol-scale-TIER-N"),
    "within count": (app(2, 3), tiers(2), "fleet_tiers.app_server.count is 2, so the next run would make it again"),
    "not the highest": (app(2), tiers(1), "fleet_remove names mol-scale-app_server-2 and not mol-scale-app_server-3"),
    "all of a tier": (
        ["mol-scale-load_balancer-1", "mol-scale-load_balancer-2"],
        tiers(2),
        "the tier load_balancer has no host left",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    names, wanted, said = REFUSED[case]
    run = play("site", fleet_tiers=wanted, fleet_remove=names)
    assert run.returncode != 0
    assert said in " ".join(run.stdout.split()), run.stdout
    assert set(changed(run.stdout).values()) == {0}


def test_the_primary_is_refused() -> None:
    run = play("survey", fleet_remove="mol-scale-postgres-1")
    assert run.returncode != 0
    assert "mol-scale-postgres-1, the primary of PostgreSQL cluster main" in " ".join(run.stdout.split())


def test_without_a_cloud(fleet: Fleet, tmp_path: Path) -> None:
    """A line less in a static inventory: refused until the host is named; then it serves no more, and lives on."""
    everyone = read_fleet()
    hosts = {
        tier: {name: {key: everyone.hostvars[name][key] for key in ("ansible_host", "stack_address")} for name in names}
        for tier in ("load_balancer", "app_server", "postgres")
        if (names := everyone.names(tier))
    }
    static = tmp_path / "hosts.yml"
    (tmp_path / ".secrets").symlink_to(SECRETS)

    def write() -> None:
        children = {tier: {"hosts": names} for tier, names in hosts.items()}
        variables = {"load_balancer_drain_timeout": 6, "app_server_module": "service:app", "app_server_stop_timeout": 5}
        variables |= {"fleet_front_door": fleet.front_door, "load_balancer_proxy_cidrs": ["10.0.0.252/30"]}
        variables |= {"app_server_source": str(PROJECT / "molecule/shared/service"), "stack_secrets_dir": str(SECRETS)}
        static.write_text(yaml.safe_dump({"all": {"children": {"fleet": {"children": children}}, "vars": variables}}))

    line = hosts["app_server"].pop(app(3)[0])
    write()
    refused = play("site", inventory=static)
    assert refused.returncode != 0
    assert f"has {app(3)[0]} in service, which load_balancer_backends has not" in " ".join(refused.stdout.split())
    assert serving(fleet) == set(app(1, 2, 3))
    with Traffic(fleet.front_door, *TRAFFIC) as traffic:
        removed = play("site", inventory=static, fleet_remove=app(3))
        assert removed.returncode == 0, removed.stdout
        assert serving(fleet) == set(app(1, 2))
        hosts["app_server"][app(3)[0]] = line
        write()
        added = play("site", inventory=static)
        assert added.returncode == 0, added.stdout
    traffic.check()
    assert heard(fleet) == set(app(1, 2, 3))


def test_in(fleet: Fleet) -> None:
    gone = ["mol-scale-app_server-3", "mol-scale-postgres-2", "mol-scale-load_balancer-2"]
    with Traffic(fleet.front_door, *TRAFFIC) as traffic:
        run = play("site", fleet_tiers=tiers(app_server=2, postgres=1), fleet_remove=",".join(gone))
    assert run.returncode == 0, run.stdout
    traffic.check()
    steps = [
        "Let no new request go to the servers",
        "load_balancer : Run the engine",
        "fleet : Put the load balancers behind",
        "Let the service end",
        "fleet : Take the load balancers that leave",
        "fleet : Remove the hosts",
    ]
    places = [run.stdout.index(step) for step in steps]
    assert places == sorted(places), "drained, out of the load balancer, stopped, deleted"
    assert nodes() == {"mol-scale-load_balancer-1": "UP"}
    assert serving(fleet) == heard(fleet) == set(app(1, 2))
    now = read_fleet()
    assert not set(gone) & set(now.hostvars)
    slots = "runuser -u postgres -- psql -XAtc 'select count(*) from pg_replication_slots'"
    assert now.host("mol-scale-postgres-1").check_output(f"cd / && {slots}") == "0"
    again = play("site", fleet_tiers=tiers(app_server=2, postgres=1))
    assert set(changed(again.stdout).values()) == {0}, again.stdout


def test_a_host_deleted_by_hand_is_made_again(fleet: Fleet) -> None:
    lost = read_fleet().hostvars[app(2)[0]]["linode_id"]
    account("DELETE", f"/linode/instances/{lost}")
    run = play("site", fleet_tiers=tiers(app_server=2, postgres=1))
    assert run.returncode == 0, run.stdout
    assert heard(fleet) == set(app(1, 2))
