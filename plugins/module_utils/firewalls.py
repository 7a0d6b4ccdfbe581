# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet's Cloud Firewalls, one for each tier, from the tier graph. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from ansible_collections.c50k.stack.plugins.module_utils.fleet import (
    FRONT,
    SSH_PORT,
    FleetError,
    fleet_problems,
    front_cidr,
    tier_cidr,
)

Row = dict[str, Any]

# The tier graph: the variable of a port -> who may open connections to it. WORLD is whoever asks the service, FLEET
# every host of the fleet.
WORLD, ADMINS, FLEET = "world", "admins", "fleet"
GRAPH = {
    "load_balancer_port": (WORLD,),
    "app_server_port": ("load_balancer", "monitoring"),
    "postgres_port": ("app_server", "postgres"),
    "pgbouncer_port": ("app_server",),
    "postgres_rest_port": ("app_server", "postgres", "monitoring"),
    "etcd_client_port": ("postgres", "etcd"),
    "etcd_peer_port": ("etcd",),
    "redis_port": ("app_server", "redis"),
    "redis_sentinel_port": ("app_server", "redis"),
    "memcached_port": ("app_server",),
    "backup_member_port": ("backup",),
    "backup_repository_port": ("postgres", "drill"),
    "load_generator_port": ("load_generator",),
    "exporters_node_port": ("monitoring",),
    "exporters_postgres_port": ("monitoring",),
    "exporters_redis_port": ("monitoring",),
    "load_balancer_metrics_port": ("monitoring",),
    "etcd_metrics_port": ("monitoring",),
    "monitoring_port": (ADMINS,),
    "logs_port": (FLEET,),
}
EVERYWHERE = ("0.0.0.0/0", "::/0")


def fleet_firewalls(fleet: Mapping[str, Any]) -> list[Row]:
    """The firewalls as the module linode_firewalls takes them: ``label``, ``tags`` and ``rules``.

    :param fleet: ``fleet_name``, ``fleet_subnet``, ``fleet_tiers``, ``fleet_admin_cidrs``, ``fleet_front`` and
        ``ports``, a dictionary tier -> variable -> port.
    :raises FleetError: bad variables.
    """
    needed = ("fleet_name", "fleet_subnet", "fleet_tiers", "fleet_admin_cidrs", "fleet_front", "ports")
    problems = [f"{key} is not given." for key in needed if key not in fleet] + fleet_problems(fleet)
    if problems:
        raise FleetError(" ".join(problems))
    found = [
        _firewall(fleet, tier, _tier_rules(fleet, tier)) for tier in fleet["ports"] if tier in fleet["fleet_tiers"]
    ]
    if fleet["fleet_front"] == "nodebalancer":
        port = fleet["ports"]["load_balancer"]["load_balancer_port"]
        found.append(_firewall(fleet, FRONT, [_accept("service", EVERYWHERE, ports=str(port))]))
    return found


def _tier_rules(fleet: Mapping[str, Any], tier: str) -> list[Row]:
    """What may come in: SSH from the administrators, the tier's ports from their tiers in the fleet, ping from both."""
    admins = fleet["fleet_admin_cidrs"]
    return [
        _accept("ssh", admins, ports=str(SSH_PORT)),
        *(
            _accept(variable.replace("_", "-"), cidrs, str(port))
            for variable, port in fleet["ports"][tier].items()
            if (cidrs := [cidr for who in GRAPH[variable] for cidr in _cidrs(fleet, who)])
        ),
        _accept("ping", [*admins, fleet["fleet_subnet"]], protocol="ICMP"),
    ]


def _cidrs(fleet: Mapping[str, Any], who: str) -> Iterable[str]:
    if who == ADMINS:
        return fleet["fleet_admin_cidrs"]
    if who == FLEET:
        return [fleet["fleet_subnet"]]
    if who != WORLD:
        return [tier_cidr(fleet["fleet_subnet"], who)] if who in fleet["fleet_tiers"] else []
    return [front_cidr(fleet["fleet_subnet"])] if fleet["fleet_front"] == "nodebalancer" else EVERYWHERE


def _accept(label: str, cidrs: Iterable[str], ports: str | None = None, protocol: str = "TCP") -> Row:
    networks = sorted({ip_network(cidr, strict=False) for cidr in cidrs}, key=str)
    addresses = {f"ipv{version}": [str(net) for net in networks if net.version == version] for version in (4, 6)}
    rule = {"label": label, "action": "ACCEPT", "protocol": protocol, "ports": ports}
    return {**rule, "addresses": {name: given for name, given in addresses.items() if given}}


def _firewall(fleet: Mapping[str, Any], tier: str, inbound: list[Row]) -> Row:
    return {
        "label": f"{fleet['fleet_name']}-{tier}",
        "tags": [fleet["fleet_name"], tier],
        "rules": {"inbound_policy": "DROP", "inbound": inbound, "outbound_policy": "ACCEPT", "outbound": []},
    }
