# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ``fleet_*`` variables mean: the hosts, their names and addresses; and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, ip_network
from typing import Any

# A tier's number is the third part of its addresses for ever: a new tier takes the next one.
TIERS = {
    "load_balancer": 1,
    "app_server": 2,
    "postgres": 3,
    "redis": 4,
    "load_generator": 5,
    "etcd": 6,
    "memcached": 7,
    "backup": 8,
    "drill": 9,
    "monitoring": 10,
}
# Those that the service can do without.
SPARE = ("load_generator", "etcd", "memcached", "backup", "drill", "monitoring")
TIER_PREFIX = 24
# Host N of a tier has the address N + 9 in its /24.
HOST_OFFSET = 9
MAX_HOSTS = 240
TIER_KEYS = ("count", "max", "type", "backups")

# What is before the load balancers: nothing, or a NodeBalancer with a network of its own in the subnet.
FRONT = "front"
FRONTS = ("none", "nodebalancer")
FRONT_TYPES = ("common", "premium")
FRONT_PREFIX = 30

# Subnets that a VPC may have; the upper half of 192.168.0.0/16 is Linode's, for private addresses.
VPC_RANGES = [IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/17")]
LINODE_RANGE = IPv4Network("192.168.128.0/17")
SUBNET_PREFIX = 20

# The fleet's name is a tag (3 to 50 characters), the label of its VPC (letters, digits, single dashes), and the
# beginning of the labels of its instances (64 characters at most) and firewalls (32).
NAME = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
NAME_MIN = 3
NAME_MAX = 32 - max(len(f"-{tier}") for tier in TIERS)
# Addresses of one firewall rule.
MAX_CIDRS = 255
REGION = re.compile(r"[a-z]+(-[a-z0-9]+)+")
TYPE = re.compile(r"g[0-9]+-[a-z0-9]+(-[a-z0-9]+)*")
IMAGE = re.compile(r"(linode|private|shared)/[A-Za-z0-9][A-Za-z0-9._-]*")

SSH_PORT = 22


class FleetError(ValueError):
    """The variables do not describe a fleet. The message names each, its value and what is allowed."""


def is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def name_problems(name: object) -> Iterator[str]:
    if not isinstance(name, str) or not NAME.fullmatch(name) or not NAME_MIN <= len(name) <= NAME_MAX:
        yield (
            f"fleet_name is {name!r}: it must have {NAME_MIN} to {NAME_MAX} letters, digits and single dashes, and "
            "begin and end with a letter or digit. It is a tag, the VPC's label, and the start of every other label."
        )


def pattern_problems(variable: str, value: object, pattern: re.Pattern[str], what: str) -> Iterator[str]:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        yield f"{variable} is {value!r}: it must be {what}."


def tier_problems(tier: str, value: object) -> Iterator[str]:
    name = f"fleet_tiers.{tier}"
    if tier not in TIERS:
        yield f"fleet_tiers has the tier {tier!r}: known are {', '.join(TIERS)}."
        return
    if not isinstance(value, Mapping):
        yield f"{name} is {value!r}: it must be a dictionary with {', '.join(TIER_KEYS)}."
        return
    for key in value:
        if key not in TIER_KEYS:
            yield f"{name} has the key {key!r}: known are {', '.join(TIER_KEYS)}."
    count, most = value.get("count"), value.get("max", value.get("count"))
    if "max" in value and not is_whole(most, 0, MAX_HOSTS):
        yield f"{name}.max is {most!r}: it must be a whole number from 0 to {MAX_HOSTS}, which a tier's /24 holds."
    elif not is_whole(count, 0, most if "max" in value else MAX_HOSTS):
        ceiling = f"{name}.max ({most})" if "max" in value else str(MAX_HOSTS)
        yield f"{name}.count is {count!r}: it must be a whole number from 0 to {ceiling}."
    elif tier == "etcd" and count and count % 2 == 0:
        yield (
            f"{name}.count is {count}: an even number of members holds no more losses than one less, and has one "
            "more to lose. Make it odd, 3 as a rule."
        )
    what = "the id of a Linode type, such as g6-dedicated-4"
    yield from pattern_problems(f"{name}.type", value.get("type"), TYPE, what)
    if not isinstance(value.get("backups", False), bool):
        yield f"{name}.backups is {value['backups']!r}: it must be true or false."


def subnet_problems(value: object) -> Iterator[str]:
    try:
        subnet = IPv4Network(str(value))
    except ValueError as error:
        yield f"fleet_subnet is {value!r}: it must be an IPv4 network such as 10.0.0.0/20 ({error})."
        return
    if subnet.prefixlen > SUBNET_PREFIX:
        yield f"fleet_subnet is {value}: it must be a /{SUBNET_PREFIX} or larger, as each tier takes a /{TIER_PREFIX}."
    if subnet.overlaps(LINODE_RANGE):
        yield f"fleet_subnet is {value}: it overlaps {LINODE_RANGE}, which Linode keeps for private addresses."
    elif not any(subnet.subnet_of(allowed) for allowed in VPC_RANGES):
        yield f"fleet_subnet is {value}: it must lie in a private range, {', '.join(map(str, VPC_RANGES))}."


def choice_problems(variable: str, value: object, allowed: Sequence[str]) -> Iterator[str]:
    if value not in allowed:
        yield f"{variable} is {value!r}: it must be {' or '.join(allowed)}."


def admin_problems(value: object) -> Iterator[str]:
    example = "the networks that you administer the fleet from, such as ['192.0.2.7/32']"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_CIDRS:
        yield f"fleet_admin_cidrs is {value!r}: it must be a list of 1 to {MAX_CIDRS}, {example}."
        return
    for cidr in value:
        try:
            ip_network(cidr)
        except ValueError as error:
            yield f"fleet_admin_cidrs has {cidr!r}: it must be {example} ({error})."


def port_problems(tier: str, ports: Mapping[str, object]) -> Iterator[str]:
    """*ports* are those that one host of *tier* listens on: variable -> port."""
    taken: dict[object, str] = {SSH_PORT: "sshd's port"}
    for variable, port in ports.items():
        if not is_whole(port, 1, 65535):
            yield f"{variable} is {port!r}: it must be a whole number from 1 to 65535."
        elif port in taken:
            yield f"{variable} is {port}, and so is {taken[port]} on the {tier} hosts: each needs a port of its own."
        else:
            taken[port] = variable


def tier_and_number(fleet: Mapping[str, Any], host: str) -> tuple[str, int] | None:
    """The tier and number of *host* by its label; None for a name that no host of the fleet has."""
    match = re.fullmatch(rf"{re.escape(str(fleet['fleet_name']))}-({'|'.join(TIERS)})-([1-9][0-9]*)", host)
    return (match[1], int(match[2])) if match else None


def beyond_count(fleet: Mapping[str, Any], hosts: Mapping[str, Sequence[str]]) -> list[str]:
    """Those of *hosts* (tier -> names) whose number is above their tier's ``count``, highest first."""
    found = [
        (number, host)
        for tier, names in hosts.items()
        for host in names
        if (known := tier_and_number(fleet, host))
        if (number := known[1]) > fleet["fleet_tiers"].get(tier, {}).get("count", 0)
    ]
    return [host for _number, host in sorted(found, reverse=True)]


def removal_problems(fleet: Mapping[str, Any]) -> Iterator[str]:
    """Why the hosts of ``fleet_remove`` must not go; ``hosts`` are all there are, tier -> names."""
    leaving, hosts = fleet["fleet_remove"], fleet["hosts"]
    for tier, names in hosts.items():
        if names and tier not in SPARE and set(names) <= set(leaving):
            yield f"fleet_remove names {', '.join(sorted(names))}: without it the tier {tier} has no host left."
    if "fleet_tiers" not in fleet:
        return
    for host in leaving:
        known = tier_and_number(fleet, host)
        if known is None:
            yield f"fleet_remove names {host}: its hosts are {fleet['fleet_name']}-TIER-N."
            continue
        tier, number = known
        count = fleet["fleet_tiers"].get(tier, {}).get("count", 0)
        if number <= count:
            yield (
                f"fleet_remove names {host}: fleet_tiers.{tier}.count is {count}, so the next run would make it again. "
                f"Set count to {number - 1} first."
            )
        above = [name for name in beyond_count(fleet, {tier: hosts.get(tier, [])}) if name not in leaving]
        higher = [name for name in above if (tier_and_number(fleet, name) or ("", 0))[1] > number]
        if higher:
            yield f"fleet_remove names {host} and not {', '.join(higher)}: the highest number goes first."


def fleet_removals(fleet: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The hosts of ``fleet_remove`` as the module linode_instances takes them: ``label`` and ``tags``."""
    found = ((host, tier_and_number(fleet, host)) for host in fleet["fleet_remove"])
    return [{"label": host, "tags": [fleet["fleet_name"], known[0]]} for host, known in found if known]


def fleet_problems(fleet: Mapping[str, Any]) -> list[str]:
    """What is wrong with the variables in *fleet*, a sentence or two for each; an empty list when nothing is.

    Keys: ``fleet_name``, ``fleet_region``, ``fleet_image``, ``fleet_subnet``, ``fleet_tiers``, ``fleet_admin_cidrs``,
    ``fleet_front``, ``fleet_front_type``, ``ports``, a dictionary tier -> variable -> port of what each host of that
    tier listens on, and ``fleet_remove`` with ``hosts``, a dictionary tier -> names of all there are. Only the keys
    given are looked at.
    """
    found: list[str] = []
    if "fleet_name" in fleet:
        found += name_problems(fleet["fleet_name"])
    if "fleet_region" in fleet:
        what = "the id of a Linode region, such as de-fra-2"
        found += pattern_problems("fleet_region", fleet["fleet_region"], REGION, what)
    if "fleet_image" in fleet:
        what = "the id of a Linode image, such as linode/debian13 or private/12345"
        found += pattern_problems("fleet_image", fleet["fleet_image"], IMAGE, what)
    if "fleet_subnet" in fleet:
        found += subnet_problems(fleet["fleet_subnet"])
    if "fleet_admin_cidrs" in fleet:
        found += admin_problems(fleet["fleet_admin_cidrs"])
    for variable, allowed in (("fleet_front", FRONTS), ("fleet_front_type", FRONT_TYPES)):
        if variable in fleet:
            found += choice_problems(variable, fleet[variable], allowed)
    if "fleet_tiers" in fleet:
        tiers = fleet["fleet_tiers"]
        if isinstance(tiers, Mapping):
            for tier, value in tiers.items():
                found += tier_problems(tier, value)
        else:
            found.append(f"fleet_tiers is {tiers!r}: it must be a dictionary of tiers, {', '.join(TIERS)}.")
    for tier, ports in fleet.get("ports", {}).items():
        found += port_problems(tier, ports)
    if fleet.get("fleet_remove") and not found:
        found += removal_problems(fleet)
    return found


def tier_cidr(subnet: str, tier: str) -> str:
    """The network of *tier* in the subnet, such as ``10.0.2.0/24``; FleetError for an unknown tier or bad subnet."""
    problems = list(subnet_problems(subnet))
    if tier not in TIERS:
        problems.append(f"There is no tier {tier!r}: known are {', '.join(TIERS)}.")
    if problems:
        raise FleetError(" ".join(problems))
    first = IPv4Network(subnet).network_address + TIERS[tier] * 2 ** (32 - TIER_PREFIX)
    return f"{first}/{TIER_PREFIX}"


def front_cidr(subnet: str) -> str:
    """The network of a NodeBalancer in the subnet: the last /30 before the first tier's /24."""
    first = IPv4Network(subnet).network_address + min(TIERS.values()) * 2 ** (32 - TIER_PREFIX)
    return f"{first - 2 ** (32 - FRONT_PREFIX)}/{FRONT_PREFIX}"


def front_nodes(
    hosts: Sequence[Mapping[str, str]], port: int, leaving: Sequence[str], gone: bool = False
) -> list[dict[str, str]]:
    """The nodes of a NodeBalancer for load balancers (``name`` and ``address``).

    Those *leaving* get nothing new; once they are *gone*, they alone are listed, to be removed.
    """
    return [
        {
            "label": host["name"],
            "address": f"{host['address']}:{port}",
            "mode": "drain" if host["name"] in leaving else "accept",
            "state": "absent" if gone else "present",
        }
        for host in hosts
        if not gone or host["name"] in leaving
    ]


def placement_group(name: str, tier: str, number: int, limit: int) -> str:
    """The label of the placement group of host *number*, where a group holds *limit* instances."""
    group = (number - 1) // limit
    return f"{name}-{tier}" + (f"-{group + 1}" if group else "")


def fleet_instances(fleet: Mapping[str, Any], placement_limit: int = 0) -> list[dict[str, Any]]:
    """The instances that the variables describe, as the module linode_instances takes them; FleetError for bad ones.

    They come in the order of TIERS and their numbers. Each tier has placement groups of *placement_limit* instances,
    none with 0.
    """
    needed = ("fleet_name", "fleet_region", "fleet_image", "fleet_subnet", "fleet_tiers")
    problems = [f"{key} is not given." for key in needed if key not in fleet] + fleet_problems(fleet)
    if problems:
        raise FleetError(" ".join(problems))
    name, subnet, tiers = fleet["fleet_name"], fleet["fleet_subnet"], fleet["fleet_tiers"]
    return [
        {
            "label": f"{name}-{tier}-{number}",
            "tags": [name, tier],
            "region": fleet["fleet_region"],
            "type": tiers[tier]["type"],
            "image": fleet["fleet_image"],
            "authorized_keys": fleet.get("fleet_authorized_keys", []),
            "vpc": name,
            "vpc_address": str(IPv4Network(tier_cidr(subnet, tier))[number + HOST_OFFSET]),
            "firewall": f"{name}-{tier}",
            "placement_group": placement_group(name, tier, number, placement_limit) if placement_limit else None,
            "backups": tiers[tier].get("backups", False),
        }
        for tier in TIERS
        if tier in tiers
        for number in range(1, 1 + tiers[tier]["count"])
    ]
