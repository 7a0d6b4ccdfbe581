# SPDX-License-Identifier: GPL-3.0-or-later
"""/vpcs: VPCs; their subnets are in lab/api/subnets.py, the addresses in them in lab/api/vpc_ips.py."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

from lab.addresses import RFC1918
from lab.api import subnets
from lab.api.labels import check_vpc_label
from lab.api.listing import page
from lab.api.subnets import inside, is_one_range, read_network
from lab.api.wire import Call, Problems, fields, route
from lab.api.wiring import next_free
from lab.models import Json, Subnet, Vpc, now
from lab.network import PRIVATE

KEYS = ("id", "label", "description", "region", "vpc_type", "created", "updated")
DEFAULT_RANGES = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
FORBIDDEN_RANGES = [str(PRIVATE)]
IPV6 = IPv6Network("2001:db8:8000::/33")  # a /52 of it for a VPC
PREFIX = 52


async def list_vpcs(call: Call) -> Json:
    return page(call, call.lab.store.all(Vpc), lambda vpc: render(call, vpc), KEYS)


async def create_vpc(call: Call) -> Json:
    """Create a VPC with its first subnets."""
    problems, store, body = Problems(), call.lab.store, call.body
    others = [vpc.label for vpc in store.all(Vpc)]
    label = check_vpc_label(body.get("label"), "label", others, "your VPCs", problems)
    given = fields(body, problems, {"description": str, "subnets": list, "vpc_type": str})
    region, vpc_type = str(body.get("region")), given.get("vpc_type", "regular")
    offered = call.lab.regions.get(region, {}).get("capabilities", ())
    if region not in call.lab.regions:
        problems.add("region", "region is required" if body.get("region") is None else "region is not valid")
    elif "VPCs" not in offered:
        problems.add("region", f"VPCs are not available in region {region}")
    types = ("regular",) if call.lab.settings.hosts else ("regular", "rdma")
    if vpc_type not in types:
        problems.add("vpc_type", f"Must be {' or '.join(types)}")
    ranges = _ranges(body, problems) or DEFAULT_RANGES
    vpc = Vpc(store.next_id(), label, region, given.get("description", ""), ranges, vpc_type=vpc_type)
    if body.get("ipv6"):
        vpc.ipv6 = _vpc_ipv6(call, body["ipv6"], vpc_type, "VPC IPv6 Stack" in offered, problems)
    first: list[Subnet] = []
    for number, item in enumerate(given.get("subnets", [])):
        first += subnets.read(call, vpc, item, f"subnets[{number}].", first, problems)
    problems.check()
    store.save(vpc, *first)
    for subnet in first:
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
    for subnet in subnets.of(call, vpc):
        if not inside(IPv4Network(subnet.ipv4), ranges):
            problems.add("ipv4", f"Subnet {subnet.label} ({subnet.ipv4}) must stay inside the VPC's ranges")
    problems.check()
    vpc.label, vpc.ranges, vpc.updated = given.get("label", vpc.label), ranges, now()
    vpc.description = given.get("description", vpc.description)
    call.lab.store.save(vpc)
    return render(call, vpc)


async def delete_vpc(call: Call) -> Json:
    vpc = call.record(Vpc)
    own = subnets.of(call, vpc)
    for subnet in own:
        subnets.refuse_in_use(call, subnet, "VPC")
    call.lab.store.delete(vpc, *own)
    for subnet in own:
        call.lab.addresses.remove_subnet(subnet)
    await call.lab.hosts.delete_vpc(vpc.id)
    return {}


async def get_default_ranges(call: Call) -> Json:
    return {"default_ipv4_ranges": DEFAULT_RANGES, "forbidden_ipv4_ranges": FORBIDDEN_RANGES}


def render(call: Call, vpc: Vpc) -> Json:
    """Return a VPC as the API shows it."""
    return {
        "id": vpc.id,
        "label": vpc.label,
        "description": vpc.description,
        "region": vpc.region,
        "vpc_type": vpc.vpc_type,
        "ipv4": [{"range": text} for text in vpc.ranges],
        "ipv6": [{"range": text} for text in vpc.ipv6] or None,
        "subnets": [subnets.render(call, subnet) for subnet in subnets.of(call, vpc)],
        "created": vpc.created,
        "updated": vpc.updated,
    }


def _ranges(body: Json, problems: Problems) -> list[str]:
    """Return the ranges of a request; none when it does not name any."""
    networks = []
    for number, item in enumerate(fields(body, problems, {"ipv4": list}).get("ipv4", [])):
        network = read_network(item.get("range") if isinstance(item, dict) else None)
        if network is None:
            problems.add(f"ipv4[{number}].range", "Must be an IPv4 network")
        elif not any(network.subnet_of(private) for private in RFC1918):
            problems.add(f"ipv4[{number}].range", "Must be inside an RFC 1918 range")
        else:
            networks.append(str(network))
    return networks


def _vpc_ipv6(call: Call, wish: Any, vpc_type: str, offered: bool, problems: Problems) -> list[str]:
    """Return the IPv6 range of a new VPC, which Linode chooses: ``[{"range": "auto"}]``, or a prefix length."""
    if not offered:
        problems.add("ipv6", "IPv6 is not available for VPCs in this region")
    elif vpc_type != "regular":
        problems.add("ipv6", "An RDMA VPC has no IPv6")
    elif not is_one_range(wish) or wish[0].get("range", "auto") not in ("auto", f"/{PREFIX}"):
        problems.add("ipv6[0].range", f"Must be auto or /{PREFIX}")
    else:
        used = [IPv6Network(text) for vpc in call.lab.store.all(Vpc) for text in vpc.ipv6]
        return [str(next_free(IPV6, PREFIX, used))]
    return []


ROUTES = [
    route("GET", "/vpcs", list_vpcs, "list"),
    route("POST", "/vpcs", create_vpc),
    route("GET", "/vpcs/default-ranges", get_default_ranges),
    route("GET", "/vpcs/{id:int}", get_vpc),
    route("PUT", "/vpcs/{id:int}", update_vpc),
    route("DELETE", "/vpcs/{id:int}", delete_vpc),
]
