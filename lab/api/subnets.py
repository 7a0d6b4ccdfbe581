# SPDX-License-Identifier: GPL-3.0-or-later
"""/vpcs/{id}/subnets: the ranges of a VPC that Linodes are in."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

from lab.addresses import Exhausted
from lab.api.configs import is_active
from lab.api.labels import check_vpc_label
from lab.api.listing import page
from lab.api.vpc_ips import attached
from lab.api.wire import ApiError, Call, Problems, fields, route
from lab.api.wiring import next_free
from lab.models import Json, NodeBalancer, NodeBalancerVpc, Subnet, Vpc, now
from lab.network import PRIVATE

KEYS = ("id", "label", "created", "updated")
PREFIX = 56  # of the IPv6 range that Linode chooses


async def list_subnets(call: Call) -> Json:
    return page(call, of(call, call.record(Vpc)), lambda item: render(call, item), KEYS)


async def create_subnet(call: Call) -> Json:
    vpc, problems = call.record(Vpc), Problems()
    created = read(call, vpc, call.body, "", of(call, vpc), problems)
    problems.check()
    call.lab.store.save(*created)
    call.lab.addresses.add_subnet(created[0])
    return render(call, created[0])


async def get_subnet(call: Call) -> Json:
    return render(call, _subnet(call))


async def update_subnet(call: Call) -> Json:
    """Change a subnet's label; its range is for ever."""
    subnet, problems = _subnet(call), Problems()
    given = fields(call.body, problems, {"label": str})
    if given.get("label", subnet.label) != subnet.label:
        others = [item.label for item in of(call, call.record(Vpc))]
        check_vpc_label(given["label"], "label", others, "the VPC's subnets", problems)
    problems.check()
    subnet.label, subnet.updated = given.get("label", subnet.label), now()
    call.lab.store.save(subnet)
    return render(call, subnet)


async def delete_subnet(call: Call) -> Json:
    subnet = _subnet(call)
    refuse_in_use(call, subnet, "Subnet")
    call.lab.store.delete(subnet)
    call.lab.addresses.remove_subnet(subnet)
    return {}


def render(call: Call, subnet: Subnet) -> Json:
    """Return a subnet as the API shows it, with the Linodes in it."""
    linodes: dict[int, list[Json]] = {}
    for instance, config, interface in attached(call):
        if interface.subnet_id == subnet.id:
            config_id = config.id if config else None
            shown = {"id": interface.id, "active": is_active(instance, config), "config_id": config_id}
            linodes.setdefault(instance.id, []).append(shown)
    vpc = call.lab.store.get(Vpc, subnet.vpc_id)
    return {
        "id": subnet.id,
        "label": subnet.label,
        "ipv4": subnet.ipv4,
        "ipv6": [{"range": text} for text in subnet.ipv6] or None,
        "vpc_type": vpc.vpc_type if vpc else "regular",
        "linodes": [{"id": number, "interfaces": interfaces} for number, interfaces in linodes.items()],
        "databases": [],
        "nodebalancers": [
            {"id": item.nodebalancer_id, "ipv4_range": item.ipv4_range} for item in _balancers(call, subnet)
        ],
        "created": subnet.created,
        "updated": subnet.updated,
    }


def of(call: Call, vpc: Vpc) -> list[Subnet]:
    """Return the subnets of a VPC."""
    return [subnet for subnet in call.lab.store.all(Subnet) if subnet.vpc_id == vpc.id]


def read(call: Call, vpc: Vpc, item: Any, prefix: str, others: list[Subnet], problems: Problems) -> list[Subnet]:
    """Return the subnet that ``item`` describes; none, with the problems noted, when it cannot be."""
    if not isinstance(item, dict):
        problems.add(prefix.rstrip("."), "Must be an object")
        return []
    taken = [other.label for other in others]
    label = check_vpc_label(item.get("label"), f"{prefix}label", taken, "the VPC's subnets", problems)
    ipv6 = _subnet_ipv6(item, vpc, others, prefix, problems)
    network = read_network(item.get("ipv4"))
    if network is None:
        problems.add(f"{prefix}ipv4", "ipv4 is required" if item.get("ipv4") is None else "Must be an IPv4 network")
        return []
    if not 1 <= network.prefixlen <= 29:
        problems.add(f"{prefix}ipv4", "Prefix length must be 1-29")
    elif not inside(network, vpc.ranges) or network.overlaps(PRIVATE):
        problems.add(f"{prefix}ipv4", f"Must be inside {', '.join(vpc.ranges)} and outside {PRIVATE}")
    for other in others:
        if network.overlaps(IPv4Network(other.ipv4)):
            problems.add(f"{prefix}ipv4", f"{network} overlaps subnet {other.label} ({other.ipv4})")
    return [Subnet(call.lab.store.next_id(), vpc.id, label, str(network), ipv6)]


def read_network(text: Any) -> IPv4Network | None:
    try:
        return IPv4Network(text) if isinstance(text, str) and "/" in text else None
    except ValueError:
        return None


def inside(network: IPv4Network, ranges: list[str]) -> bool:
    return any(network.subnet_of(IPv4Network(text)) for text in ranges)


def is_one_range(wish: Any) -> bool:
    return isinstance(wish, list) and len(wish) == 1 and isinstance(wish[0], dict)


def refuse_in_use(call: Call, subnet: Subnet, what: str) -> None:
    names = dict.fromkeys(item.label for item, _, interface in attached(call) if interface.subnet_id == subnet.id)
    if names:
        raise ApiError(
            400, (None, f"{what} cannot be deleted while Linodes are attached: {', '.join(list(names)[:10])}")
        )
    balancers = [call.lab.store.get(NodeBalancer, item.nodebalancer_id) for item in _balancers(call, subnet)]
    labels = [balancer.label for balancer in balancers if balancer]
    if labels:
        reason = f"{what} cannot be deleted while NodeBalancers are attached: {', '.join(labels[:10])}"
        raise ApiError(400, (None, reason))


def _balancers(call: Call, subnet: Subnet) -> list[NodeBalancerVpc]:
    return [item for item in call.lab.store.all(NodeBalancerVpc) if item.subnet_id == subnet.id]


def _subnet_ipv6(item: Json, vpc: Vpc, others: list[Subnet], prefix: str, problems: Problems) -> list[str]:
    """Return the IPv6 range of a new subnet: one of the VPC's, that it names or that is free."""
    wish, name = item.get("ipv6"), f"{prefix}ipv6"
    if not wish:
        return []
    if not vpc.ipv6:
        problems.add(name, "IPv6 is not available for VPCs in this region, or this VPC has none")
        return []
    wanted = wish[0].get("range", "auto") if is_one_range(wish) else None
    used = [IPv6Network(text) for subnet in others for text in subnet.ipv6]
    if wanted in ("auto", f"/{PREFIX}"):
        try:
            return [str(next_free(IPv6Network(vpc.ipv6[0]), PREFIX, used))]
        except Exhausted:
            problems.add(f"{name}[0].range", "No free IPv6 range is left in the VPC")
            return []
    try:
        network = IPv6Network(str(wanted)) if "/" in str(wanted) else None
    except ValueError:
        network = None
    if network is None:
        problems.add(f"{name}[0].range", "Must be an IPv6 network")
        return []
    if not network.subnet_of(IPv6Network(vpc.ipv6[0])) or network.prefixlen > 64:
        problems.add(f"{name}[0].range", f"Must be inside {vpc.ipv6[0]}, with a prefix of 52 to 64")
    elif any(network.overlaps(taken) for taken in used):
        problems.add(f"{name}[0].range", f"{network} overlaps the range of another subnet")
    return [str(network)]


def _subnet(call: Call) -> Subnet:
    return call.child(Subnet, "subnet_id", "vpc_id", call.record(Vpc))


ROUTES = [
    route("GET", "/vpcs/{id:int}/subnets", list_subnets, "list"),
    route("POST", "/vpcs/{id:int}/subnets", create_subnet),
    route("GET", "/vpcs/{id:int}/subnets/{subnet_id:int}", get_subnet),
    route("PUT", "/vpcs/{id:int}/subnets/{subnet_id:int}", update_subnet),
    route("DELETE", "/vpcs/{id:int}/subnets/{subnet_id:int}", delete_subnet),
]
