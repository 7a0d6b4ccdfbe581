# SPDX-License-Identifier: GPL-3.0-or-later
"""plan.yml against the lab's account: what it says, and that it changes nothing."""

from __future__ import annotations

from pathlib import Path

from lab_server import Server
from playbook import Account, play

TYPE = "g6-dedicated-4"
FLEET = {
    "fleet_name": "planned",
    "fleet_region": "de-fra-2",
    "fleet_admin_cidrs": ["198.51.100.254/32"],
    "fleet_tiers": {
        "load_balancer": {"count": 1, "max": 2, "type": TYPE},
        "app_server": {"count": 2, "max": 4, "type": TYPE},
    },
}


def test_an_account_with_half_a_fleet_and_a_stranger(shared: Server, tmp_path: Path) -> None:
    with Account(shared) as account:
        subnet = account.vpc("planned")
        account.host("planned-app_server-1", subnet, "10.0.2.10", "planned", "app_server", size=TYPE)
        account.host("planned-app_server-3", subnet, "10.0.2.12", "planned", "app_server", size=TYPE)
        account.host("stranger", subnet, "10.0.2.99", "other")
        before = account.labels()
        run = play("plan", tmp_path, shared, **FLEET)
        assert account.labels() == before
    assert run.returncode == 0, run.stdout
    assert "Costs $144 a month now, $288 then." in run.stdout
    assert "Would make: planned-load_balancer-1, planned-app_server-2." in run.stdout
    assert "fleet_remove=planned-app_server-3" in run.stdout
    assert "in its VPC planned: stranger." in run.stdout


def test_what_is_free_of_charge_and_the_front_door_are_named(shared: Server, tmp_path: Path) -> None:
    front = {"fleet_front": "nodebalancer", "fleet_front_type": "common", "target_concurrency": 50000}
    run = play("plan", tmp_path, shared, **FLEET, **front)
    assert run.returncode == 0, run.stdout
    said = " ".join(run.stdout.split())
    assert "Costs $0 a month now, $226 then." in said
    assert "Would make: NodeBalancer planned, planned-load_balancer-1" in said
    for free in ("VPC planned", "firewall planned-front", "firewall planned-app_server", "placement group planned-app"):
        assert free in said
    assert "What binds: a common NodeBalancer" in said


def test_a_front_door_of_another_type_is_refused_before_a_host_is_paid_for(shared: Server, tmp_path: Path) -> None:
    front = {"fleet_front": "nodebalancer", "fleet_front_type": "premium"}
    with Account(shared) as account:
        account.add("/nodebalancers", label="planned", region="de-fra-2", type="common", tags=["planned", "front"])
        refused = play("plan", tmp_path, shared, **FLEET, **front)
    assert refused.returncode == 2
    assert "Its type cannot change: set fleet_front_type to common, or delete" in " ".join(refused.stdout.split())


def test_it_counts_with_what_a_load_test_has_measured(shared: Server, tmp_path: Path) -> None:
    measured = {"app_server": {"requests_per_core": 500, "request_kib": 32}}
    run = play("plan", tmp_path, shared, **FLEET, capacity_measured=measured)
    assert run.returncode == 0, run.stdout
    said = " ".join(run.stdout.split())
    assert "Answers 2,800 requests a second: app_server: 0.7 of 2 x 4 cores, of which each answers 500 a second" in said
    refused = play("plan", tmp_path, shared, **FLEET, capacity_measured={"app_server": {"request_kib": 0}})
    assert refused.returncode == 2
    assert "capacity_measured.app_server.request_kib is 0: it must be a number from 1 to 65,536" in " ".join(
        refused.stdout.split()
    )


def test_without_a_cloud_there_is_nothing_to_pay(shared: Server, tmp_path: Path) -> None:
    run = play("plan", tmp_path, shared)
    assert run.returncode == 0, run.stdout
    assert "no fleet_tiers" in run.stdout
