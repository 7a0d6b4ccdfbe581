# SPDX-License-Identifier: GPL-3.0-or-later
"""/networking/ipv6, /networking/vlans and the price of transfer. Where there are hosts, no range and no VLAN is."""

from __future__ import annotations

from ipaddress import IPv6Network

from lab import catalog
from lab.addresses import Exhausted
from lab.api.addressing import slaac
from lab.api.listing import as_is, page
from lab.api.wire import ApiError, Call, Problems, fields, not_found, route
from lab.api.wiring import new_range
from lab.models import Instance, Ipv6Range, Json, Vlan

RANGE_KEYS = ("range", "prefix", "region", "route_target")
VLAN_KEYS = ("label", "region", "created", "linodes")
PRICE_KEYS = ("id", "label")
PREFIXES = (56, 64)


async def list_ranges(call: Call) -> Json:
    return page(call, call.lab.store.all(Ipv6Range), lambda item: render_range(call, item), RANGE_KEYS)


async def create_range(call: Call) -> Json:
    """Route an IPv6 range to a Linode, named by its id or its SLAAC address."""
    call.without_hosts("IPv6 ranges are")
    problems, store = Problems(), call.lab.store
    given = fields(call.body, problems, {"prefix_length": int, "linode_id": int, "route_target": str})
    problems.choose("prefix_length", given.get("prefix_length"), PREFIXES)
    target = given.get("route_target", "").partition("/")[0]
    instance = store.get(Instance, given.get("linode_id", 0))
    instance = instance or next((item for item in store.all(Instance) if target and slaac(item) == target), None)
    if instance is None:
        problems.add("linode_id", "A Linode by that ID, or by that route_target, was not found")
    problems.check()
    assert instance is not None  # else it was a problem
    try:
        record = new_range(call.lab, instance, given["prefix_length"])
    except Exhausted:
        raise ApiError(400, (None, "No free IPv6 range is left")) from None
    store.save(record)
    return {"range": record.range, "route_target": slaac(instance)}


async def get_range(call: Call) -> Json:
    record = _range(call)
    network = IPv6Network(record.range)
    return {
        "range": str(network[0]),
        "prefix": network.prefixlen,
        "region": record.region,
        "is_bgp": False,
        "linodes": [record.linode_id],
    }


async def delete_range(call: Call) -> Json:
    call.lab.store.delete(_range(call))
    return {}


async def list_pools(call: Call) -> Json:
    """List IPv6 pools, which Linode gives no more."""
    return page(call, [], as_is, ("range", "region"))


async def list_vlans(call: Call) -> Json:
    return page(call, call.lab.store.all(Vlan), lambda item: _render_vlan(call, item), VLAN_KEYS)


async def delete_vlan(call: Call) -> Json:
    """Delete a VLAN that no Linode is attached to."""
    place = (call.request.path_params["region"], call.request.path_params["label"])
    for vlan in call.lab.store.all(Vlan):
        if (vlan.region, vlan.label) == place:
            if _attached(call, vlan):
                raise ApiError(400, (None, f"VLAN {vlan.label} cannot be deleted while Linodes are attached"))
            call.lab.store.delete(vlan)
            return {}
    raise not_found()


async def list_transfer_prices(call: Call) -> Json:
    return page(call, catalog.TRANSFER_PRICES, as_is, PRICE_KEYS)


def render_range(call: Call, record: Ipv6Range) -> Json:
    """Return an IPv6 range as the API lists it."""
    network, instance = IPv6Network(record.range), call.lab.store.get(Instance, record.linode_id)
    target = slaac(instance) if instance else None
    return {"range": str(network[0]), "prefix": network.prefixlen, "region": record.region, "route_target": target}


def _range(call: Call) -> Ipv6Range:
    """Return the range that the path names, with its prefix or without. Raises ApiError 404."""
    wanted = call.request.path_params["range"]
    for record in call.lab.store.all(Ipv6Range):
        if wanted in (record.range, str(IPv6Network(record.range)[0])):
            return record
    raise not_found()


def _render_vlan(call: Call, vlan: Vlan) -> Json:
    return {"label": vlan.label, "region": vlan.region, "linodes": _attached(call, vlan), "created": vlan.created}


def _attached(call: Call, vlan: Vlan) -> list[int]:
    linodes = [item for item in call.lab.store.all(Instance) if item.region == vlan.region]
    return [item.id for item in linodes if any(card.vlan_label == vlan.label for _, card in item.all_interfaces)]


ROUTES = [
    route("GET", "/networking/ipv6/ranges", list_ranges, "list"),
    route("POST", "/networking/ipv6/ranges", create_range),
    route("GET", "/networking/ipv6/ranges/{range:path}", get_range),
    route("DELETE", "/networking/ipv6/ranges/{range:path}", delete_range),
    route("GET", "/networking/ipv6/pools", list_pools, "list"),
    route("GET", "/networking/vlans", list_vlans, "list"),
    route("DELETE", "/networking/vlans/{region}/{label}", delete_vlan),
    route("GET", "/network-transfer/prices", list_transfer_prices, "list", anyone=True),
]
