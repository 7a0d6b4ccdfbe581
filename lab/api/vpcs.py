# SPDX-License-Identifier: GPL-3.0-or-later
"""/vpcs: VPCs, their subnets, and the addresses in them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Any

from lab import catalog
from lab.addresses import PRIVATE, RFC1918
from lab.api.labels import check_vpc_label
from lab.api.listing import page
from lab.api.wire import ApiError, Call, Problems, fields, not_found, route
from lab.models import Instance, Interface, Json, NodeBalancer, NodeBalancerVpc, Subnet, Vpc, now

KEYS = ("id", "label", "description", "region", "vpc_type", "created", "updated")
SUBNET_KEYS = ("id", "label", "created", "updated")
IP_KEYS = (
    *("address", "active", "config_id", "interface_id", "linode_id"),
    *("nat_1_1", "nodebalancer_id", "region", "subnet_id", "vpc_id"),
)
DEFAULT_RANGES = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
FORBIDDEN_RANGES = [str(PRIVATE)]
DOWN = ("provisioning", "offline")


async def list_vpcs(call: Call) -> Json:
    return page(call, call.lab.store.all(Vpc), lambda vpc: render(call, vpc), KEYS)


async def create_vpc(call: Call) -> Json:
    """Create a VPC with its first subnets."""
    problems, store, body = Problems(), call.lab.store, call.body
    others = [vpc.label for vpc in store.all(Vpc)]
    label = check_vpc_label(body.get("label"), "label", others, "your VPCs", problems)
    given = fields(body, problems, {"description": str, "subnets": list})
    region = catalog.REGIONS.get(str(body.get("region")))
    if region is None:
        problems.add("region", "region is required" if body.get("region") is None else "region is not valid")
    elif "VPCs" not in region["capabilities"]:
        problems.add("region", f"VPCs are not available in region {region['id']}")
    if body.get("vpc_type") not in (None, "regular"):
        problems.add("vpc_type", "Must be regular")
    _no_ipv6(body, "ipv6", problems)
    ranges = _ranges(body, problems) or DEFAULT_RANGES
    vpc = Vpc(store.next_id(), label, str(body.get("region")), given.get("description", ""), ranges)
    subnets: list[Subnet] = []
    for number, item in enumerate(given.get("subnets", [])):
        subnets += _new_subnet(call, vpc, item, f"subnets[{number}].", subnets, problems)
    problems.check()
    store.save(vpc, *subnets)
    for subnet in subnets:
        call.lab.addresses.add_subnet(subnet)
    return render(call, vpc)


async def get_vpc(call: Call) -> Json:
    return render(call, call.record(Vpc))


async def update_vpc(call: Call) -> Json:
    """Change a VPC's label, description or ranges."""
    vpc, problems = call.record(Vpc), Problems()
    given = fields(call.body, problems, {"label": str, "description": str})
    if "label" in given and given["label"] != vpc.label:
        others = [other.label for other in call.lab.store.all(Vpc)]
        check_vpc_label(given["label"], "label", others, "your VPCs", problems)
    ranges = _ranges(call.body, problems) or vpc.ranges
    for subnet in _subnets(call, vpc):
        if not _inside(IPv4Network(subnet.ipv4), ranges):
            problems.add("ipv4", f"Subnet {subnet.label} ({subnet.ipv4}) must stay inside the VPC's ranges")
    problems.check()
    vpc.label, vpc.ranges, vpc.updated = given.get("label", vpc.label), ranges, now()
    vpc.description = given.get("description", vpc.description)
    call.lab.store.save(vpc)
    return render(call, vpc)


async def delete_vpc(call: Call) -> Json:
    vpc = call.record(Vpc)
    subnets = _subnets(call, vpc)
    for subnet in subnets:
        _refuse_in_use(call, subnet, "VPC")
    call.lab.store.delete(vpc, *subnets)
    for subnet in subnets:
        call.lab.addresses.remove_subnet(subnet)
    await call.lab.hosts.delete_vpc(vpc.id)
    return {}


async def list_subnets(call: Call) -> Json:
    return page(call, _subnets(call, call.record(Vpc)), lambda item: render_subnet(call, item), SUBNET_KEYS)


async def create_subnet(call: Call) -> Json:
    vpc, problems = call.record(Vpc), Problems()
    created = _new_subnet(call, vpc, call.body, "", _subnets(call, vpc), problems)
    problems.check()
    call.lab.store.save(*created)
    call.lab.addresses.add_subnet(created[0])
    return render_subnet(call, created[0])


async def get_subnet(call: Call) -> Json:
    return render_subnet(call, _subnet(call))


async def update_subnet(call: Call) -> Json:
    """Change a subnet's label; its range is for ever."""
    subnet, problems = _subnet(call), Problems()
    given = fields(call.body, problems, {"label": str})
    if given.get("label", subnet.label) != subnet.label:
        others = [item.label for item in _subnets(call, call.record(Vpc))]
        check_vpc_label(given["label"], "label", others, "the VPC's subnets", problems)
    problems.check()
    subnet.label, subnet.updated = given.get("label", subnet.label), now()
    call.lab.store.save(subnet)
    return render_subnet(call, subnet)


async def delete_subnet(call: Call) -> Json:
    subnet = _subnet(call)
    _refuse_in_use(call, subnet, "Subnet")
    call.lab.store.delete(subnet)
    call.lab.addresses.remove_subnet(subnet)
    return {}


async def list_all_ips(call: Call) -> Json:
    return page(call, _ips(call), lambda item: _render_ip(call, item), IP_KEYS)


async def list_vpc_ips(call: Call) -> Json:
    vpc = call.record(Vpc)
    items = [item for item in _ips(call) if (item[1] if isinstance(item, tuple) else item).vpc_id == vpc.id]
    return page(call, items, lambda item: _render_ip(call, item), IP_KEYS)


async def get_default_ranges(call: Call) -> Json:
    return {"default_ipv4_ranges": DEFAULT_RANGES, "forbidden_ipv4_ranges": FORBIDDEN_RANGES}


def render(call: Call, vpc: Vpc) -> Json:
    """Return a VPC as the API shows it."""
    return {
        "id": vpc.id,
        "label": vpc.label,
        "description": vpc.description,
        "region": vpc.region,
        "vpc_type": "regular",
        "ipv4": [{"range": text} for text in vpc.ranges],
        "ipv6": None,
        "subnets": [render_subnet(call, subnet) for subnet in _subnets(call, vpc)],
        "created": vpc.created,
        "updated": vpc.updated,
    }


def render_subnet(call: Call, subnet: Subnet) -> Json:
    """Return a subnet as the API shows it, with the Linodes and the NodeBalancers in it."""
    linodes: dict[int, list[Json]] = {}
    for instance, interface in _attached(call):
        if interface.subnet_id == subnet.id:
            shown = {"id": interface.id, "active": instance.status not in DOWN, "config_id": instance.config_id}
            linodes.setdefault(instance.id, []).append(shown)
    return {
        "id": subnet.id,
        "label": subnet.label,
        "ipv4": subnet.ipv4,
        "ipv6": None,
        "vpc_type": "regular",
        "linodes": [{"id": number, "interfaces": interfaces} for number, interfaces in linodes.items()],
        "databases": [],
        "nodebalancers": [
            {"id": item.nodebalancer_id, "ipv4_range": item.ipv4_range} for item in _balancers(call, subnet)
        ],
        "created": subnet.created,
        "updated": subnet.updated,
    }


def render_ip(call: Call, instance: Instance, interface: Interface) -> Json:
    """Return a VPC address of a Linode as the API shows it."""
    return {
        **_ip(call, interface.subnet_id or 0),
        "address": interface.address,
        "region": instance.region,
        "linode_id": instance.id,
        "config_id": instance.config_id,
        "interface_id": interface.id,
        "active": instance.status not in DOWN,
        "nat_1_1": interface.nat_1_1,
    }


def _ip(call: Call, subnet_id: int) -> Json:
    """Return a VPC address that is nobody's yet."""
    subnet = call.lab.store.get(Subnet, subnet_id)
    assert subnet is not None  # a subnet in use cannot be deleted
    network = IPv4Network(subnet.ipv4)
    return {
        "address": None,
        "address_range": None,
        "vpc_id": subnet.vpc_id,
        "subnet_id": subnet.id,
        "region": None,
        "linode_id": None,
        "config_id": None,
        "interface_id": None,
        "nodebalancer_id": None,
        "database_id": None,
        "active": True,
        "nat_1_1": None,
        "gateway": str(network[1]),
        "prefix": network.prefixlen,
        "subnet_mask": str(network.netmask),
    }


def _ips(call: Call) -> list[tuple[Instance, Interface] | NodeBalancerVpc]:
    """Return who has VPC addresses: Linodes' interfaces, and NodeBalancers."""
    return [*_attached(call), *call.lab.store.all(NodeBalancerVpc)]


def _render_ip(call: Call, item: tuple[Instance, Interface] | NodeBalancerVpc) -> Json:
    if isinstance(item, tuple):
        return render_ip(call, *item)
    balancer = call.lab.store.get(NodeBalancer, item.nodebalancer_id)
    assert balancer is not None  # they go together
    own = {"address_range": item.ipv4_range, "nodebalancer_id": balancer.id, "region": balancer.region}
    return {**_ip(call, item.subnet_id), **own}


def _attached(call: Call) -> Iterable[tuple[Instance, Interface]]:
    for instance in call.lab.store.all(Instance):
        for interface in instance.vpc_interfaces:
            yield instance, interface


def _balancers(call: Call, subnet: Subnet) -> list[NodeBalancerVpc]:
    return [item for item in call.lab.store.all(NodeBalancerVpc) if item.subnet_id == subnet.id]


def _subnets(call: Call, vpc: Vpc) -> list[Subnet]:
    return [subnet for subnet in call.lab.store.all(Subnet) if subnet.vpc_id == vpc.id]


def _subnet(call: Call) -> Subnet:
    subnet = call.record(Subnet, "subnet_id")
    if subnet.vpc_id != call.record(Vpc).id:
        raise not_found()
    return subnet


def _new_subnet(call: Call, vpc: Vpc, item: Any, prefix: str, others: list[Subnet], problems: Problems) -> list[Subnet]:
    """Return the subnet that ``item`` describes; none, with the problems noted, when it cannot be."""
    if not isinstance(item, dict):
        problems.add(prefix.rstrip("."), "Must be an object")
        return []
    taken = [other.label for other in others]
    label = check_vpc_label(item.get("label"), f"{prefix}label", taken, "the VPC's subnets", problems)
    _no_ipv6(item, f"{prefix}ipv6", problems)
    network = _network(item.get("ipv4"))
    if network is None:
        problems.add(f"{prefix}ipv4", "ipv4 is required" if item.get("ipv4") is None else "Must be an IPv4 network")
        return []
    if not 1 <= network.prefixlen <= 29:
        problems.add(f"{prefix}ipv4", "Prefix length must be 1-29")
    elif not _inside(network, vpc.ranges) or network.overlaps(PRIVATE):
        problems.add(f"{prefix}ipv4", f"Must be inside {', '.join(vpc.ranges)} and outside {PRIVATE}")
    for other in others:
        if network.overlaps(IPv4Network(other.ipv4)):
            problems.add(f"{prefix}ipv4", f"{network} overlaps subnet {other.label} ({other.ipv4})")
    return [Subnet(call.lab.store.next_id(), vpc.id, label, str(network))]


def _ranges(body: Json, problems: Problems) -> list[str]:
    """Return the ranges of a request; none when it does not name any."""
    networks = []
    for number, item in enumerate(fields(body, problems, {"ipv4": list}).get("ipv4", [])):
        network = _network(item.get("range") if isinstance(item, dict) else None)
        if network is None:
            problems.add(f"ipv4[{number}].range", "Must be an IPv4 network")
        elif not any(network.subnet_of(private) for private in RFC1918):
            problems.add(f"ipv4[{number}].range", "Must be inside an RFC 1918 range")
        else:
            networks.append(str(network))
    return networks


def _network(text: Any) -> IPv4Network | None:
    try:
        return IPv4Network(text) if isinstance(text, str) and "/" in text else None
    except ValueError:
        return None


def _inside(network: IPv4Network, ranges: list[str]) -> bool:
    return any(network.subnet_of(IPv4Network(text)) for text in ranges)


def _no_ipv6(body: Json, name: str, problems: Problems) -> None:
    if body.get("ipv6"):
        problems.add(name, "IPv6 is not available for VPCs in this region")


def _refuse_in_use(call: Call, subnet: Subnet, what: str) -> None:
    names = [instance.label for instance, interface in _attached(call) if interface.subnet_id == subnet.id]
    if names:
        raise ApiError(400, (None, f"{what} cannot be deleted while Linodes are attached: {', '.join(names[:10])}"))
    balancers = [call.lab.store.get(NodeBalancer, item.nodebalancer_id) for item in _balancers(call, subnet)]
    names = [balancer.label for balancer in balancers if balancer]
    if names:
        reason = f"{what} cannot be deleted while NodeBalancers are attached: {', '.join(names[:10])}"
        raise ApiError(400, (None, reason))


ROUTES = [
    route("GET", "/vpcs", list_vpcs, "list"),
    route("POST", "/vpcs", create_vpc),
    route("GET", "/vpcs/ips", list_all_ips, "list"),
    route("GET", "/vpcs/default-ranges", get_default_ranges),
    route("GET", "/vpcs/{id:int}", get_vpc),
    route("PUT", "/vpcs/{id:int}", update_vpc),
    route("DELETE", "/vpcs/{id:int}", delete_vpc),
    route("GET", "/vpcs/{id:int}/ips", list_vpc_ips, "list"),
    route("GET", "/vpcs/{id:int}/subnets", list_subnets, "list"),
    route("POST", "/vpcs/{id:int}/subnets", create_subnet),
    route("GET", "/vpcs/{id:int}/subnets/{subnet_id:int}", get_subnet),
    route("PUT", "/vpcs/{id:int}/subnets/{subnet_id:int}", update_subnet),
    route("DELETE", "/vpcs/{id:int}/subnets/{subnet_id:int}", delete_subnet),
]
