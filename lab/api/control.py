# SPDX-License-Identifier: GPL-3.0-or-later
"""/lab: the lab's own controls, which Linode does not have; and the page at /."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lab import catalog, faults, packet_filter, store
from lab.api import events, firewall_rules, firewalls, instances, nodebalancers
from lab.api import nodebalancer_configs as configs
from lab.api import nodebalancer_nodes as nodes
from lab.api.wire import ApiError, Call, route
from lab.balancers import balancer_of
from lab.hosts import HostError
from lab.models import Event, Firewall, FirewallDevice, Instance, Json, NodeBalancer, Subnet

if TYPE_CHECKING:
    from lab.api.app import Lab

PAGE = Path(__file__).parents[1] / "page" / "index.html"
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
SHOWN_EVENTS = 60
# Kinds of records that are shown as they are, where the lab has them.
SHOWN_KINDS = ("Vpc", "Subnet", "PlacementGroup", "Domain")


async def get_state(call: Call) -> Json:
    """Return all that the page and `status` show."""
    lab = call.lab
    labels: dict[int, list[str]] = {}
    for device in lab.store.all(FirewallDevice):
        if firewall := lab.store.get(Firewall, device.firewall_id):
            labels.setdefault(device.linode_id, []).append(firewall.label)
    return {
        "instances": [_instance(lab, item, labels.get(item.id, [])) for item in lab.store.all(Instance)],
        "firewalls": [_firewall(lab, item) for item in lab.store.all(Firewall)],
        "nodebalancers": [await _balancer(call, item) for item in lab.store.all(NodeBalancer)],
        "events": [events.render(item) for item in lab.store.all(Event)[: -SHOWN_EVENTS - 1 : -1]],
        "faults": [faults.render(item) for item in lab.faults.active],
        "records": {
            name: [asdict(item) for item in lab.store.all(store.KINDS[name])]
            for name in SHOWN_KINDS
            if name in store.KINDS
        },
    }


async def list_faults(call: Call) -> Json:
    return {"data": [faults.render(item) for item in call.lab.faults.active]}


async def add_fault(call: Call) -> Json:
    try:
        return faults.render(call.lab.faults.add(call.body))
    except ValueError as error:
        raise ApiError(400, (None, str(error))) from None


async def clear_faults(call: Call) -> Json:
    call.lab.faults.clear()
    return {}


async def lose_power(call: Call) -> Json:
    """End a Linode as a power cut does, and keep it off for ``seconds``."""
    label, seconds = call.body.get("label"), call.body.get("seconds", 0.0)
    found = [item for item in call.lab.store.all(Instance) if item.label == label]
    if not found:
        raise ApiError(404, (None, f"There is no Linode {label}"))
    try:
        await call.lab.lifecycle.lose_power(found[0], seconds)
    except (ValueError, HostError) as error:
        raise ApiError(400, (None, str(error))) from None
    return {}


async def reset(call: Call) -> Json:
    """Remove every Linode, every NodeBalancer and every record; the token and the lab stay."""
    lab = call.lab
    lab.faults.clear()
    for instance in lab.store.all(Instance):
        await lab.lifecycle.delete(instance)
    for balancer in lab.store.all(NodeBalancer):
        await nodebalancers.remove(call, balancer)
    for subnet in lab.store.all(Subnet):
        await lab.hosts.delete_vpc(subnet.vpc_id)
        lab.addresses.remove_subnet(subnet)
    for kind in store.KINDS.values():
        lab.store.delete(*lab.store.all(kind))
    await packet_filter.apply(lab.store, lab.hosts)
    return {}


async def change(lab: Lab, kind: str, label: str) -> None:
    """Let a Linode appear or disappear, as another user of the account would."""
    request = Request({"type": "http", "method": "POST", "headers": []})
    if kind == "appear":
        body = {"type": "g6-nanode-1", "region": next(iter(catalog.REGIONS)), **({"label": label} if label else {})}
        await instances.create_instance(Call(lab, request, body))
    for instance in lab.store.all(Instance):
        if kind == "disappear" and instance.label == label:
            await lab.lifecycle.delete(instance)


def _instance(lab: Lab, instance: Instance, firewall_labels: list[str]) -> Json:
    vpc = [item.address for item in instance.vpc_interfaces if item.address]
    labels = list(dict.fromkeys(firewall_labels))
    return {**instances.render(instance), "vpc": vpc, "firewalls": labels, "busy": lab.lifecycle.busy(instance)}


def _firewall(lab: Lab, firewall: Firewall) -> Json:
    """Return a firewall as the page shows it: its rules in words."""
    words = {name: firewall_rules.in_words(firewall.rules, name) for name in firewall_rules.DIRECTIONS}
    devices = len(firewalls.devices_of(lab.store, firewall))
    return {"label": firewall.label, "status": firewall.status, "devices": devices, **words}


async def _balancer(call: Call, balancer: NodeBalancer) -> Json:
    """Return a NodeBalancer with its configs, their nodes, and how many connections it holds here at once."""
    health = await call.lab.balancers.health(balancer.id)
    ports = [
        {
            **configs.render(call, config, health),
            "nodes": [nodes.render(node, health) for node in nodes.nodes_of(call, config)],
        }
        for config in configs.configs_of(call, balancer)
    ]
    connections = call.lab.balancers.connections(balancer_of(call.lab.store, balancer))
    return {**nodebalancers.render(balancer), "configs": ports, "connections": connections}


async def _page(request: Request) -> Response:
    """Return the page; it holds nothing itself, and asks for the state with the token in its address."""
    return Response(PAGE.read_bytes(), media_type="text/html", headers=PAGE_HEADERS)


PAGE_ROUTE = Route("/", _page)
ROUTES = [
    route("GET", "/state", get_state, "lab"),
    route("GET", "/faults", list_faults, "lab"),
    route("POST", "/faults", add_fault, "lab"),
    route("DELETE", "/faults", clear_faults, "lab"),
    route("POST", "/power-loss", lose_power, "lab"),
    route("POST", "/reset", reset, "lab"),
]
