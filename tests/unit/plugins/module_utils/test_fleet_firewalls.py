# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tier graph: who may reach which port of whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.filter.fleet import FilterModule
from ansible_collections.c50k.stack.plugins.module_utils.firewalls import GRAPH, fleet_firewalls
from ansible_collections.c50k.stack.plugins.module_utils.fleet import TIERS, front_cidr, tier_cidr

TIER = {"count": 1, "type": "g6-nanode-1"}
FLEET: dict[str, Any] = {
    "fleet_name": "demo",
    "fleet_subnet": "10.0.0.0/20",
    "fleet_tiers": dict.fromkeys(TIERS, TIER),
    "fleet_admin_cidrs": ["192.0.2.7/32", "2001:db8::/64"],
    "fleet_front": "none",
    "ports": {
        "load_balancer": {"load_balancer_port": 80},
        "app_server": {"app_server_port": 8000, "exporters_node_port": 9100},
        "postgres": {
            "postgres_port": 5432,
            "pgbouncer_port": 6432,
            "postgres_rest_port": 8008,
            "backup_member_port": 8432,
        },
        "redis": {"redis_port": 6379, "redis_sentinel_port": 26379},
        "load_generator": {"load_generator_port": 5557},
        "etcd": {"etcd_client_port": 2379, "etcd_peer_port": 2380},
        "memcached": {"memcached_port": 11211},
        "backup": {"backup_repository_port": 8432},
        "drill": {},
        "monitoring": {"monitoring_port": 9090},
    },
}


def inbound(fleet: dict[str, Any], tier: str) -> dict[str, Any]:
    """The rules of a tier's firewall, by label."""
    found = {firewall["label"]: firewall for firewall in fleet_firewalls(fleet)}
    return {rule["label"]: rule for rule in found[f"demo-{tier}"]["rules"]["inbound"]}


def test_each_tier_has_a_firewall_that_drops_what_no_rule_lets_in() -> None:
    firewalls = FILTERS["fleet_firewalls"](FLEET)
    assert [firewall["label"] for firewall in firewalls] == [f"demo-{tier}" for tier in TIERS]
    assert [firewall["tags"] for firewall in firewalls] == [["demo", tier] for tier in TIERS]
    for firewall in firewalls:
        assert (firewall["rules"]["inbound_policy"], firewall["rules"]["outbound_policy"]) == ("DROP", "ACCEPT")


FILTERS = FilterModule().filters()


def test_only_the_front_door_is_open_to_the_world() -> None:
    world = {
        (firewall["label"], rule["label"])
        for firewall in fleet_firewalls(FLEET)
        for rule in firewall["rules"]["inbound"]
        if "0.0.0.0/0" in rule["addresses"].get("ipv4", []) or "::/0" in rule["addresses"].get("ipv6", [])
    }
    assert world == {("demo-load_balancer", "load-balancer-port")}


def test_behind_a_nodebalancer_it_is_the_nodebalancer_that_is() -> None:
    fleet = {**FLEET, "fleet_front": "nodebalancer"}
    assert inbound(fleet, "load_balancer")["load-balancer-port"]["addresses"] == {"ipv4": ["10.0.0.252/30"]}
    assert inbound(fleet, "front") == {
        "service": {
            "label": "service",
            "action": "ACCEPT",
            "protocol": "TCP",
            "ports": "80",
            "addresses": {"ipv4": ["0.0.0.0/0"], "ipv6": ["::/0"]},
        }
    }


def test_a_tier_is_reached_by_its_neighbours_alone() -> None:
    tiers = ("app_server", "postgres", "redis", "memcached", "load_generator", "etcd")
    app, postgres, redis, memcached, load, etcd = (inbound(FLEET, tier) for tier in tiers)
    assert app["app-server-port"]["addresses"] == {"ipv4": ["10.0.1.0/24", "10.0.10.0/24"]}
    assert postgres["postgres-port"]["addresses"] == {"ipv4": ["10.0.2.0/24", "10.0.3.0/24"]}
    assert redis["redis-port"]["addresses"] == {"ipv4": ["10.0.2.0/24", "10.0.4.0/24"]}
    assert redis["redis-sentinel-port"]["addresses"] == {"ipv4": ["10.0.2.0/24", "10.0.4.0/24"]}
    assert memcached["memcached-port"]["addresses"] == {"ipv4": ["10.0.2.0/24"]}
    assert postgres["postgres-rest-port"]["addresses"] == {"ipv4": ["10.0.10.0/24", "10.0.2.0/24", "10.0.3.0/24"]}
    assert load["load-generator-port"]["addresses"] == {"ipv4": ["10.0.5.0/24"]}
    assert etcd["etcd-client-port"]["addresses"] == {"ipv4": ["10.0.3.0/24", "10.0.6.0/24"]}
    assert etcd["etcd-peer-port"]["addresses"] == {"ipv4": ["10.0.6.0/24"]}
    for tier, rules in zip(tiers, (app, postgres, redis, memcached, load, etcd), strict=True):
        assert rules["ssh"]["addresses"] == {"ipv4": ["192.0.2.7/32"], "ipv6": ["2001:db8::/64"]}
        assert set(rules) == {"ssh", "ping", *(name.replace("_", "-") for name in FLEET["ports"][tier])}


def test_monitoring_is_for_the_administrators() -> None:
    admins = {"ipv4": ["192.0.2.7/32"], "ipv6": ["2001:db8::/64"]}
    assert inbound(FLEET, "monitoring")["monitoring-port"]["addresses"] == admins


def test_the_logs_come_from_every_host_of_the_fleet_where_they_are_shipped() -> None:
    assert "logs-port" not in inbound(FLEET, "monitoring")
    ports = {**FLEET["ports"], "monitoring": {"monitoring_port": 9090, "logs_port": 19532}}
    assert inbound({**FLEET, "ports": ports}, "monitoring")["logs-port"]["addresses"] == {"ipv4": ["10.0.0.0/20"]}


def test_a_tier_that_the_fleet_has_not_is_let_in_nowhere() -> None:
    tiers = {tier: TIER for tier in TIERS if tier != "monitoring"}
    app = inbound({**FLEET, "fleet_tiers": tiers}, "app_server")
    assert app["app-server-port"]["addresses"] == {"ipv4": ["10.0.1.0/24"]}
    assert "exporters-node-port" not in app


def test_the_fronts_network_is_nobody_elses() -> None:
    for subnet in ("10.0.0.0/20", "172.16.240.0/20", "10.0.0.0/8"):
        assert front_cidr(subnet) not in {tier_cidr(subnet, tier) for tier in TIERS}
    assert front_cidr("10.0.16.0/20") == "10.0.16.252/30"


def test_every_port_of_the_playbooks_is_in_the_graph() -> None:
    stack = yaml.safe_load((Path(__file__).parents[4] / "roles/stack/vars/main.yml").read_text())
    assert {port for ports in stack["stack_ports"].values() for port in ports} == set(GRAPH)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fleet_admin_cidrs": []}, "fleet_admin_cidrs is []: it must be a list of 1 to 255"),
        ({"fleet_admin_cidrs": "192.0.2.7/32"}, "fleet_admin_cidrs is '192.0.2.7/32': it must be a list"),
        ({"fleet_admin_cidrs": ["192.0.2.7/24"]}, "fleet_admin_cidrs has '192.0.2.7/24'"),
        ({"fleet_admin_cidrs": ["home"]}, "fleet_admin_cidrs has 'home'"),
        ({"fleet_front": "cdn"}, "fleet_front is 'cdn': it must be none or nodebalancer."),
        ({"fleet_front_type": "huge"}, "fleet_front_type is 'huge': it must be common or premium."),
    ],
)
def test_bad_variables_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(AnsibleFilterError, match="fleet_firewalls") as refused:
        FILTERS["fleet_firewalls"]({**FLEET, **change})
    assert words in str(refused.value)
