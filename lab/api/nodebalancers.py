# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodebalancers: NodeBalancers, their addresses, and what passes through them.

Their ports are in nodebalancer_configs, the backends of a port in nodebalancer_nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address
from typing import Any

from lab import catalog
from lab.addresses import Exhausted
from lab.api import firewalls
from lab.api import nodebalancer_configs as configs
from lab.api.addressing import Known
from lab.api.labels import check_balancer_label, check_tags, new_tags
from lab.api.listing import page
from lab.api.nodebalancer_nodes import NO_PRIVATE_NODES, applied, nodes_of, vpcs_of
from lab.api.wire import ApiError, Call, Problems, fields, route
from lab.models import Address, Instance, Json, NodeBalancer, NodeBalancerNode, NodeBalancerVpc, Subnet, Vpc, now
from lab.statistics import UNAVAILABLE

KEYS = ("id", "label", "tags", "ipv4", "ipv6", "hostname", "region", "type", "client_conn_throttle")
VPC_KEYS = ("id", "nodebalancer_id", "vpc_id", "subnet_id", "ipv4_range", "purpose")
TYPE_KEYS = ("id", "label")
UPDATE_FIELDS = {"label": str, "client_conn_throttle": int, "client_udp_sess_throttle": int, "tags": list}
CREATE_FIELDS = {
    **UPDATE_FIELDS,
    **{"type": str, "backend_connectivity": str, "ipv4": str, "vpcs": list, "configs": list},
}
CONNECTIVITIES = ("legacy", "vpc", "ipv6")
THROTTLES = range(0, 21)
RANGE_PREFIX = 30
IPV6_PREFIX, BACKEND_PREFIX = "2001:db8:c50:0:f03d::", "2001:db8:c50:1::"  # listed only: the lab has no IPv6
MEBIBYTE = 1 << 20


@dataclass
class VpcWish:
    """A subnet whose nodes are to be reached; no range means any."""

    subnet: Subnet
    ipv4_range: str | None


async def list_balancers(call: Call) -> Json:
    return page(call, call.lab.store.all(NodeBalancer), render, KEYS)


async def create_balancer(call: Call) -> Json:
    """Create a NodeBalancer with its first configs and their nodes, all of it or nothing."""
    lab, body, problems = call.lab, call.body, Problems()
    store = lab.store
    given = fields(body, problems, CREATE_FIELDS)
    region = _region(body, problems)
    kind = given.get("type", "common")
    if not problems.choose("type", kind, catalog.BALANCER_LIMITS):
        kind = "common"
    number = store.next_id()
    label = given.get("label") or f"balancer{number}"
    _check_common(call, given, None, problems)
    wishes = _vpc_wishes(call, given.get("vpcs", []), region, problems)
    if "ipv4" in given and not Known(store).is_free(given["ipv4"], region):
        problems.add("ipv4", f"{given['ipv4']} is not a reserved address of this region that nothing has")
    firewall = firewalls.choose(store, body.get("firewall_id"), "nodebalancer", "firewall_id", problems)
    balancer = NodeBalancer(
        id=number,
        label=label,
        region=region,
        type=kind,
        ipv4=given.get("ipv4", ""),
        private_ipv4="",
        backend_connectivity=_connectivity(given, kind, wishes, problems),
        client_conn_throttle=given.get("client_conn_throttle", 0),
        client_udp_sess_throttle=given.get("client_udp_sess_throttle", 0),
        tags=check_tags(given.get("tags", []), problems),
    )
    vpcs = [
        NodeBalancerVpc(store.next_id(), number, wish.subnet.vpc_id, wish.subnet.id, wish.ipv4_range or "")
        for wish in wishes
    ]
    ports = configs.read_all(call, balancer, vpcs, given.get("configs", []), problems)
    problems.check()
    _allocate(call, balancer, vpcs)
    devices = firewalls.device_of_balancer(store, firewall, balancer) if firewall else []
    store.save(balancer, *vpcs, *ports, *devices, *new_tags(store, balancer.tags))
    await firewalls.apply(call)  # no packet reaches it before its firewall is there
    await applied(call, balancer, "nodebalancer_create")
    return render(balancer)


async def get_balancer(call: Call) -> Json:
    return render(call.record(NodeBalancer))


async def update_balancer(call: Call) -> Json:
    """Change a NodeBalancer's label, throttles or tags."""
    balancer, problems = call.record(NodeBalancer), Problems()
    given = fields(call.body, problems, UPDATE_FIELDS)
    _check_common(call, given, balancer, problems)
    for name in ("type", "backend_connectivity"):
        if call.body.get(name) not in (None, getattr(balancer, name)):
            problems.add(name, f"{name} cannot be changed")
    if "tags" in given:
        given["tags"] = check_tags(given["tags"], problems)
    problems.check()
    for name, value in given.items():
        setattr(balancer, name, value)
    balancer.updated = now()
    call.lab.store.save(balancer, *new_tags(call.lab.store, balancer.tags))
    await applied(call, balancer, "nodebalancer_update")
    return render(balancer)


async def delete_balancer(call: Call) -> Json:
    """Delete a NodeBalancer with all that belongs to it; when the reply comes, its addresses are gone."""
    await remove(call, call.record(NodeBalancer))
    return {}


async def remove(call: Call, balancer: NodeBalancer) -> None:
    """Forget a NodeBalancer first, so that no change can bring it back; then take it out of the network."""
    lab, vpcs = call.lab, vpcs_of(call, balancer)
    ports = configs.configs_of(call, balancer)
    devices = firewalls.devices_on(lab.store, "nodebalancer", balancer.id)
    lab.store.delete(*[node for port in ports for node in nodes_of(call, port)], *ports, *vpcs, *devices, balancer)
    await applied(call, balancer, "nodebalancer_delete")
    kept = {item.address for item in lab.store.all(Address) if item.reserved}
    lab.addresses.release_balancer(balancer, vpcs, kept)


async def list_types(call: Call) -> Json:
    return page(call, catalog.BALANCER_TYPES, lambda item: item, TYPE_KEYS)


async def list_vpcs(call: Call) -> Json:
    return page(call, vpcs_of(call, call.record(NodeBalancer)), render_vpc, VPC_KEYS)


async def get_vpc(call: Call) -> Json:
    vpc = call.child(NodeBalancerVpc, "vpc_config_id", "nodebalancer_id", call.record(NodeBalancer))
    return render_vpc(vpc)


async def get_stats(call: Call) -> Json:
    """Return the day's connections and bits, each a second, as they were counted: [ms since 1970, value].

    They are refused for a NodeBalancer that has none yet.
    """
    balancer = call.record(NodeBalancer)
    if not balancer.samples:
        raise ApiError(400, (None, UNAVAILABLE))
    connections, received, sent = ([[row[0], row[part]] for row in balancer.samples] for part in (1, 2, 3))
    return {
        "title": f"linode.com - {balancer.label} ({balancer.id}) - day (5 min avg)",
        "data": {"connections": connections, "traffic": {"in": received, "out": sent}},
    }


async def list_of_instance(call: Call) -> Json:
    """List the NodeBalancers that have a Linode's address among their nodes."""
    instance = call.record(Instance)
    own = {*instance.ipv4, *(address for item in instance.vpc_interfaces for address in item.addresses)}
    nodes = call.lab.store.all(NodeBalancerNode)
    found = {node.nodebalancer_id for node in nodes if node.address.rpartition(":")[0] in own}
    return page(call, [item for item in call.lab.store.all(NodeBalancer) if item.id in found], render, KEYS)


def render(balancer: NodeBalancer) -> Json:
    """Return a NodeBalancer as the API shows it."""
    traffic = (balancer.traffic_in, balancer.traffic_out, balancer.traffic_in + balancer.traffic_out)
    shown = [value / MEBIBYTE if balancer.month else None for value in traffic]
    return {
        "id": balancer.id,
        "label": balancer.label,
        "region": balancer.region,
        "type": balancer.type,
        "hostname": f"{balancer.ipv4.replace('.', '-')}.ip.linodeusercontent.com",
        "ipv4": balancer.ipv4,
        "ipv6": str(IPv6Address(int(IPv6Address(IPV6_PREFIX)) + balancer.id)),
        "frontend_address_type": "public",
        "frontend_vpc_subnet_id": None,
        "backend_connectivity": balancer.backend_connectivity,
        "backend_ipv6_prefix": _backend_prefix(balancer),
        "client_conn_throttle": balancer.client_conn_throttle,
        "client_udp_sess_throttle": balancer.client_udp_sess_throttle,
        "lke_cluster": None,
        "locks": [],
        "tags": balancer.tags,
        "transfer": dict(zip(("in", "out", "total"), shown, strict=True)),
        "created": balancer.created,
        "updated": balancer.updated,
    }


def render_vpc(vpc: NodeBalancerVpc) -> Json:
    """Return a NodeBalancer's VPC configuration as the API shows it."""
    return {**vars(vpc), "ipv6_range": None, "purpose": "backend"}


def _backend_prefix(balancer: NodeBalancer) -> str | None:
    if balancer.backend_connectivity != "ipv6":
        return None
    return f"{IPv6Address(int(IPv6Address(BACKEND_PREFIX)) + (balancer.id << 32))}/96"


def _region(body: Json, problems: Problems) -> str:
    region = catalog.REGIONS.get(str(body.get("region")))
    if region is None:
        problems.add("region", "region is required" if body.get("region") is None else "region is not valid")
    elif "NodeBalancers" not in region["capabilities"]:
        problems.add("region", f"NodeBalancers are not available in region {region['id']}")
    return region["id"] if region else ""


def _check_common(call: Call, given: Json, own: NodeBalancer | None, problems: Problems) -> None:
    """Note what is wrong with the label and the throttles of a request."""
    if "label" in given and not (own and given["label"] == own.label):
        others = [other.label for other in call.lab.store.all(NodeBalancer)]
        check_balancer_label(given["label"], others, problems)
    for name in ("client_conn_throttle", "client_udp_sess_throttle"):
        if given.get(name, 0) not in THROTTLES:
            problems.add(name, f"Must be {THROTTLES[0]}-{THROTTLES[-1]}")


def _connectivity(given: Json, kind: str, wishes: list[VpcWish], problems: Problems) -> str:
    """Return what kind of nodes a new NodeBalancer reaches, ``undefined`` where its first node will say."""
    asked = given.get("backend_connectivity")
    if asked is None:
        return "vpc" if given.get("vpcs") else "undefined"
    if problems.choose("backend_connectivity", asked, CONNECTIVITIES) and asked == "legacy" and kind == "premium":
        problems.add("backend_connectivity", NO_PRIVATE_NODES)
    elif asked == "vpc" and not given.get("vpcs"):
        problems.add("vpcs", "vpcs is required when backend_connectivity is vpc")
    elif asked != "vpc" and wishes:
        problems.add("vpcs", f"vpcs is not allowed when backend_connectivity is {asked}")
    return str(asked)


def _vpc_wishes(call: Call, items: list[Any], region: str, problems: Problems) -> list[VpcWish]:
    wishes: list[VpcWish] = []
    for number, item in enumerate(items):
        name = f"vpcs[{number}]"
        if not isinstance(item, dict):
            problems.add(name, "Must be an object")
            continue
        subnet_id = item.get("subnet_id")
        subnet = call.lab.store.get(Subnet, subnet_id) if isinstance(subnet_id, int) else None
        vpc = call.lab.store.get(Vpc, subnet.vpc_id) if subnet else None
        if subnet is None or vpc is None:
            reason = "subnet_id is required" if subnet_id is None else "A Subnet by that ID was not found"
            problems.add(f"{name}.subnet_id", reason)
            continue
        if region and vpc.region != region:
            reason = f"VPC {vpc.label} is in region {vpc.region}, the NodeBalancer in {region}"
            problems.add(f"{name}.subnet_id", reason)
        if any(wish.subnet.id == subnet.id for wish in wishes):
            problems.add(f"{name}.subnet_id", "Subnet IDs must be unique")
        if any(wish.subnet.vpc_id != subnet.vpc_id for wish in wishes):
            problems.add(f"{name}.subnet_id", "A NodeBalancer can be in one VPC")
        if item.get("ipv6_range") is not None:
            problems.add(f"{name}.ipv6_range", "No IPv6 subnets available in VPC")
        wishes.append(VpcWish(subnet, _range(call, subnet, item.get("ipv4_range"), f"{name}.ipv4_range", problems)))
    return wishes


def _range(call: Call, subnet: Subnet, text: Any, name: str, problems: Problems) -> str | None:
    """Return the range asked for, if its addresses are free in the subnet."""
    if text is None:
        return None
    try:
        network = IPv4Network(text)
    except (ValueError, TypeError):
        problems.add(name, "The IPv4 range must be in CIDR format")
        return None
    pool = call.lab.addresses.subnets[subnet.id]
    if network.prefixlen != RANGE_PREFIX:
        problems.add(name, f"Must be a /{RANGE_PREFIX}")
    elif not network.subnet_of(IPv4Network(subnet.ipv4)):
        problems.add(name, f"{network} is not in {subnet.ipv4}")
    elif not all(pool.allows(str(address)) and pool.is_free(str(address)) for address in network):
        problems.add(name, f"{network} has an address that is in use or reserved in subnet {subnet.label}")
    return str(network)


def _allocate(call: Call, balancer: NodeBalancer, vpcs: Iterable[NodeBalancerVpc]) -> None:
    """Take the addresses of a new NodeBalancer. Raises ApiError 400 when a pool is empty."""
    addresses = call.lab.addresses
    asked = [vpc for vpc in vpcs if vpc.ipv4_range]
    reserved = balancer.ipv4
    try:
        balancer.ipv4 = reserved or addresses.public.take()
        balancer.private_ipv4 = addresses.balancers.take()
        addresses.reserve_balancer(balancer, asked)
        for vpc in vpcs:
            vpc.ipv4_range = vpc.ipv4_range or addresses.subnets[vpc.subnet_id].take_block(RANGE_PREFIX)
    except Exhausted:
        given = [vpc for vpc in vpcs if vpc.ipv4_range]
        if balancer.private_ipv4:
            addresses.release_balancer(balancer, given, kept=[reserved])
        elif balancer.ipv4 and not reserved:
            addresses.public.release(balancer.ipv4)
        raise ApiError(400, (None, "No free IPv4 address is left for this NodeBalancer")) from None


ROUTES = [
    route("GET", "/nodebalancers", list_balancers, "list"),
    route("POST", "/nodebalancers", create_balancer),
    route("GET", "/nodebalancers/types", list_types, "list", anyone=True),
    route("GET", "/nodebalancers/{id:int}", get_balancer),
    route("PUT", "/nodebalancers/{id:int}", update_balancer),
    route("DELETE", "/nodebalancers/{id:int}", delete_balancer),
    route("GET", "/nodebalancers/{id:int}/vpcs", list_vpcs, "list"),
    route("GET", "/nodebalancers/{id:int}/vpcs/{vpc_config_id:int}", get_vpc),
    route("GET", "/nodebalancers/{id:int}/stats", get_stats),
    route("GET", "/linode/instances/{id:int}/nodebalancers", list_of_instance, "list"),
]
