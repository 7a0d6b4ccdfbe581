# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of a NodeBalancer's config, and what all handlers of NodeBalancers share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Any

from lab import catalog, journal
from lab.api.labels import check_node_label
from lab.api.listing import page
from lab.api.wire import ApiError, Call, Problems, fields, route
from lab.balancers import BalancerError, balancer_of
from lab.haproxy import UNKNOWN
from lab.models import Json, NodeBalancer, NodeBalancerConfig, NodeBalancerNode, NodeBalancerVpc, Subnet, now
from lab.network import PRIVATE

KEYS = ("id", "label", "address", "weight", "mode", "status", "config_id", "nodebalancer_id")
FIELDS = {"label": str, "address": str, "weight": int, "mode": str, "subnet_id": int}
MODES = ("accept", "reject", "backup", "drain")
UDP_MODE = "none"
WEIGHTS = range(1, 256)
NO_PRIVATE_NODES = "A premium NodeBalancer reaches VPC and IPv6 nodes only"


class Reader:
    """Reads the nodes of one request; the first says what a NodeBalancer reaches that did not say so itself."""

    def __init__(self, call: Call, balancer: NodeBalancer, vpcs: Sequence[NodeBalancerVpc]) -> None:
        self.connectivity = balancer.backend_connectivity
        self._premium = balancer.type == "premium"
        subnets = {subnet.id: subnet for subnet in call.lab.store.all(Subnet)}
        self._subnets = {vpc.id: subnets[vpc.subnet_id] for vpc in vpcs}

    def read(
        self, own: NodeBalancerNode, config: NodeBalancerConfig, body: Any, problems: Problems
    ) -> NodeBalancerNode:
        """Return ``own`` as a request wants it."""
        if not isinstance(body, dict):
            problems.add("", "Must be an object")
            return own
        given = fields(body, problems, FIELDS)
        check_node_label(given.get("label") or own.label, problems)
        mode = given.get("mode", UDP_MODE if config.protocol == "udp" else own.mode)
        allowed = (UDP_MODE,) if config.protocol == "udp" else MODES
        problems.choose("mode", mode, allowed)
        if given.get("weight", own.weight) not in WEIGHTS:
            problems.add("weight", f"Must be {WEIGHTS[0]}-{WEIGHTS[-1]}")
        subnet_id = given.pop("subnet_id", None)
        node = replace(own, **{**given, "mode": mode})
        if "address" in given or subnet_id is not None or not own.address:
            self._place(node, subnet_id, problems)
        return node

    def _place(self, node: NodeBalancerNode, subnet_id: int | None, problems: Problems) -> None:
        """Check a node's address, and find the VPC configuration it is reached by."""
        address = _address(node.address, problems)
        if address is None:
            return
        if self.connectivity == "undefined":
            self.connectivity = "ipv6" if address.version == 6 else "legacy"
        if self.connectivity == "vpc":
            self._place_in_vpc(node, address, subnet_id, problems)
        elif subnet_id is not None:
            problems.add("subnet_id", "This NodeBalancer has no VPC, which subnet_id needs")
        elif self.connectivity == "ipv6":
            if address.version == 4:
                problems.add("address", "Must be a public IPv6 address: backend_connectivity is ipv6")
        elif self._premium:
            problems.add("address", NO_PRIVATE_NODES)
        elif address.version == 6:
            problems.add("address", "Must be a private IPv4 address: backend_connectivity is legacy")
        elif not str(address).startswith("192.168."):
            problems.add("address", "Must begin with 192.168.")
        elif address not in PRIVATE:
            problems.add("address", f"Must be a private address, inside {PRIVATE}")

    def _place_in_vpc(
        self, node: NodeBalancerNode, address: IPv4Address | IPv6Address, subnet_id: int | None, problems: Problems
    ) -> None:
        wanted = {key: subnet for key, subnet in self._subnets.items() if subnet.id == subnet_id}
        if subnet_id is None and node.vpc_config_id is not None:
            wanted = {node.vpc_config_id: self._subnets[node.vpc_config_id]}
        if subnet_id is None and not wanted:
            problems.add("subnet_id", "subnet_id is required for a node in a VPC")
        elif not wanted:
            problems.add("subnet_id", "This NodeBalancer is not in the Subnet by that ID")
        for vpc_config_id, subnet in wanted.items():
            if address not in IPv4Network(subnet.ipv4):
                problems.add("address", f"{address} is not in subnet {subnet.label} ({subnet.ipv4})")
            node.vpc_config_id = vpc_config_id


async def list_nodes(call: Call) -> Json:
    config = config_of(call)
    health = await call.lab.balancers.health(config.nodebalancer_id)
    return page(call, nodes_of(call, config), lambda node: render(node, health), KEYS)


async def create_node(call: Call) -> Json:
    config, problems = config_of(call), Problems()
    balancer = call.record(NodeBalancer)
    reader = Reader(call, balancer, vpcs_of(call, balancer))
    node = reader.read(new_node(call, config), config, call.body, problems)
    check_number(balancer, len(nodes_of(call, config)) + 1, "", problems)
    problems.check()
    balancer.backend_connectivity = reader.connectivity
    call.lab.store.save(balancer, node)
    await applied(call, balancer, "nodebalancer_node_create")
    return render(node, {})


async def get_node(call: Call) -> Json:
    node = _node(call)
    return render(node, await call.lab.balancers.health(node.nodebalancer_id))


async def update_node(call: Call) -> Json:
    node, problems = _node(call), Problems()
    balancer = call.record(NodeBalancer)
    changed = Reader(call, balancer, vpcs_of(call, balancer)).read(node, config_of(call), call.body, problems)
    problems.check()
    call.lab.store.save(changed)
    await applied(call, balancer, "nodebalancer_node_update")
    return render(changed, await call.lab.balancers.health(balancer.id))


async def delete_node(call: Call) -> Json:
    call.lab.store.delete(_node(call))
    await applied(call, call.record(NodeBalancer), "nodebalancer_node_delete")
    return {}


def new_node(call: Call, config: NodeBalancerConfig) -> NodeBalancerNode:
    """Return an empty node of a config."""
    return NodeBalancerNode(call.lab.store.next_id(), config.nodebalancer_id, config.id, "", "")


def check_number(balancer: NodeBalancer, number: int, name: str, problems: Problems) -> None:
    """Note it when a config would have too many nodes."""
    _, most = catalog.BALANCER_LIMITS[balancer.type]
    if number > most:
        problems.add(name, f"A config of a {balancer.type} NodeBalancer can have {most} nodes")


def render(node: NodeBalancerNode, health: dict[int, str]) -> Json:
    """Return a node as the API shows it; ``health`` is what is known of the NodeBalancer's nodes now."""
    return {**vars(node), "status": health.get(node.id, UNKNOWN)}


def vpcs_of(call: Call, balancer: NodeBalancer) -> list[NodeBalancerVpc]:
    return [item for item in call.lab.store.all(NodeBalancerVpc) if item.nodebalancer_id == balancer.id]


def nodes_of(call: Call, config: NodeBalancerConfig) -> list[NodeBalancerNode]:
    return [item for item in call.lab.store.all(NodeBalancerNode) if item.config_id == config.id]


def config_of(call: Call) -> NodeBalancerConfig:
    """Return the config that the path names. Raises ApiError 404."""
    return call.child(NodeBalancerConfig, "config_id", "nodebalancer_id", call.record(NodeBalancer))


async def applied(call: Call, balancer: NodeBalancer, action: str) -> None:
    """Let what is behind a NodeBalancer be as its records say, and tell of it. Raises ApiError 500."""
    lab = call.lab
    event = journal.new(lab.store, action, journal.nodebalancer(balancer))
    event.status, event.started = "finished", time.time()
    try:
        if lab.store.get(NodeBalancer, balancer.id):
            balancer.updated = now()
            lab.store.save(balancer)
            await lab.balancers.apply(balancer_of(lab.store, balancer))
        else:
            await lab.balancers.remove(balancer.id)
    except BalancerError as error:
        event.status, event.message = "failed", str(error)
        raise ApiError(500, (None, str(error))) from error
    finally:
        event.ended = time.time()
        lab.store.save(event)


def _node(call: Call) -> NodeBalancerNode:
    return call.child(NodeBalancerNode, "node_id", "config_id", config_of(call))


def _address(text: str, problems: Problems) -> IPv4Address | IPv6Address | None:
    """Return the IP address of ``IP:PORT`` or ``[IPV6]:PORT``."""
    if not text:
        problems.add("address", "address is required")
        return None
    host, _, port = text.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
        if host.startswith("[") == (address.version == 6) and port.isdecimal() and int(port) in range(1, 65536):
            return address
    except ValueError:
        pass
    problems.add("address", "Must be IP:PORT, such as 192.168.128.5:80 or [2001:db8::5]:80")
    return None


PATH = "/nodebalancers/{id:int}/configs/{config_id:int}/nodes"
ROUTES = [
    route("GET", PATH, list_nodes, "list"),
    route("POST", PATH, create_node),
    route("GET", f"{PATH}/{{node_id:int}}", get_node),
    route("PUT", f"{PATH}/{{node_id:int}}", update_node),
    route("DELETE", f"{PATH}/{{node_id:int}}", delete_node),
]
