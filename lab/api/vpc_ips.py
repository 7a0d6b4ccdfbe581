# SPDX-License-Identifier: GPL-3.0-or-later
"""/vpcs/ips and /vpcs/ipv6s: the addresses in VPCs of Linodes, with each of their profiles, and of NodeBalancers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from lab.api.configs import is_active
from lab.api.linode_interfaces import render_ipv6
from lab.api.listing import as_is, page
from lab.api.wire import Call, route
from lab.models import Config, Instance, Interface, Json, NodeBalancer, NodeBalancerVpc, Subnet, Vpc

KEYS = (
    *("address", "active", "config_id", "interface_id", "linode_id"),
    *("nat_1_1", "nodebalancer_id", "region", "subnet_id", "vpc_id"),
)
IPV6_KEYS = ("active", "config_id", "interface_id", "ipv6_range", "linode_id", "region", "subnet_id", "vpc_id")


@dataclass
class Place:
    """One row of the addresses in VPCs: an interface's address, or a range that is routed to it."""

    instance: Instance
    config: Config | None  # whose interface it is; None for one of the new generation
    interface: Interface
    address: str | None = None
    range: str | None = None


async def list_all_ips(call: Call) -> Json:
    rows = [*_places(call), *call.lab.store.all(NodeBalancerVpc)]
    return page(call, rows, lambda row: _render(call, row), KEYS)


async def list_vpc_ips(call: Call) -> Json:
    vpc = call.record(Vpc)
    places = [place for place in _places(call) if place.interface.vpc_id == vpc.id]
    rows = [*places, *(item for item in call.lab.store.all(NodeBalancerVpc) if item.vpc_id == vpc.id)]
    return page(call, rows, lambda row: _render(call, row), KEYS)


async def list_all_ipv6s(call: Call) -> Json:
    """List the IPv6 ranges of interfaces in VPCs, with the addresses that they have there."""
    rows = [
        {
            "ipv6_range": range_,
            "ipv6_is_public": interface.ipv6_public,
            "ipv6_addresses": [{"slaac_address": item["address"]} for item in addresses],
            **_place_of(Place(instance, config, interface)),
        }
        for instance, config, interface in attached(call)
        for range_, addresses in _ipv6_ranges(interface)
    ]
    return page(call, rows, as_is, IPV6_KEYS)


def render_ip(call: Call, place: Place) -> Json:
    """Return an IPv4 address in a VPC, or a range, as the API shows it."""
    interface = place.interface
    return {
        "address": place.address,
        "address_range": place.range,
        "nat_1_1": interface.nat_1_1 if place.address == interface.address else None,
        **_network(call, interface.subnet_id or 0),
        **_place_of(place),
    }


def _render(call: Call, row: Place | NodeBalancerVpc) -> Json:
    if isinstance(row, Place):
        return render_ip(call, row)
    balancer = call.lab.store.get(NodeBalancer, row.nodebalancer_id)
    assert balancer is not None  # they go together
    return {
        **dict.fromkeys(("address", "nat_1_1", "linode_id", "config_id", "interface_id", "database_id")),
        "address_range": row.ipv4_range,
        **_network(call, row.subnet_id),
        "vpc_id": row.vpc_id,
        "subnet_id": row.subnet_id,
        "region": balancer.region,
        "nodebalancer_id": balancer.id,
        "active": True,
    }


def _network(call: Call, subnet_id: int) -> Json:
    subnet = call.lab.store.get(Subnet, subnet_id)
    assert subnet is not None  # a subnet in use cannot be deleted
    network = IPv4Network(subnet.ipv4)
    return {"gateway": str(network[1]), "prefix": network.prefixlen, "subnet_mask": str(network.netmask)}


def places_of(instance: Instance) -> Iterator[Place]:
    """Yield the IPv4 addresses and ranges that a Linode has in VPCs, with all its profiles."""
    for config, interface in instance.all_interfaces:
        if interface.purpose == "vpc":
            yield from (Place(instance, config, interface, address=item) for item in interface.addresses)
            yield from (Place(instance, config, interface, range=item) for item in interface.ranges)


def _place_of(place: Place) -> Json:
    interface = place.interface
    return {
        "vpc_id": interface.vpc_id,
        "subnet_id": interface.subnet_id,
        "region": place.instance.region,
        "linode_id": place.instance.id,
        "config_id": place.config.id if place.config else None,
        "interface_id": interface.id,
        "nodebalancer_id": None,
        "database_id": None,
        "active": is_active(place.instance, place.config),
    }


def _places(call: Call) -> Iterator[Place]:
    for instance in call.lab.store.all(Instance):
        yield from places_of(instance)


def attached(call: Call) -> Iterator[tuple[Instance, Config | None, Interface]]:
    for instance in call.lab.store.all(Instance):
        for config, interface in instance.all_interfaces:
            if interface.purpose == "vpc":
                yield instance, config, interface


def _ipv6_ranges(interface: Interface) -> Iterator[tuple[str, list[Json]]]:
    """Yield each IPv6 range of an interface, with the addresses in it."""
    shown = render_ipv6(interface)
    for item in shown["slaac"] if shown else ():
        yield item["range"], [item]
    for item in shown["ranges"] if shown else ():
        yield item["range"], []


ROUTES = [
    route("GET", "/vpcs/ips", list_all_ips, "list"),
    route("GET", "/vpcs/ipv6s", list_all_ipv6s, "list"),
    route("GET", "/vpcs/{id:int}/ips", list_vpc_ips, "list"),
]
