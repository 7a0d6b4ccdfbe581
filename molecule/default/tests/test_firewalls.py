# SPDX-License-Identifier: GPL-3.0-or-later
"""The tiers' Cloud Firewalls, outside the hosts: who reaches whom, in the VPC and from the world."""

from __future__ import annotations

import shlex

import pytest
from conftest import DROPPED, OPEN, Fleet, dial, dial_from_outside

PORTS = {"load_balancer": 80, "app_server": 8000, "postgres": 5432, "redis": 6379}
TIERS = list(PORTS)
ALLOWED = {
    *((tier, "load_balancer") for tier in TIERS),  # as the world may
    ("load_balancer", "app_server"),
    ("app_server", "postgres"),
    ("app_server", "redis"),
    ("postgres", "postgres"),
}


@pytest.mark.parametrize("target", TIERS)
@pytest.mark.parametrize("source", TIERS)
def test_a_tier_reaches_its_neighbours_and_nobody_else(fleet: Fleet, source: str, target: str) -> None:
    """In the VPC; a host reaches itself without leaving."""
    name = fleet.names(target)[-1]
    if fleet.names(source)[0] == name:
        return
    address = fleet.hostvars[name]["stack_address"]
    done = fleet.tier(source)[0].run(shlex.join(dial(address, PORTS[target])))
    assert done.rc == (OPEN if (source, target) in ALLOWED else DROPPED), (source, target, done.stderr)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("port", [22, *PORTS.values()])
def test_the_world_reaches_the_front_door_and_nothing_else(fleet: Fleet, tier: str, port: int) -> None:
    """From another public address than the administrators'."""
    address = fleet.hostvars[fleet.names(tier)[0]]["ansible_host"]
    assert dial_from_outside(address, port) == (OPEN if (tier, port) == ("load_balancer", 80) else DROPPED)


def test_hosts_of_a_tier_are_kept_apart(fleet: Fleet) -> None:
    for name, _host in fleet:
        tier = name.split("-")[2]
        assert fleet.hostvars[name]["linode_placement_group"]["label"] == f"mol-default-{tier}"
