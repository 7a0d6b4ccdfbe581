# SPDX-License-Identifier: GPL-3.0-or-later
"""/linode/instances/{id}/interfaces: network interfaces of the new generation, and the way to them."""

from __future__ import annotations

import copy
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

from lab import journal
from lab.api import firewalls
from lab.api.addressing import eui64, mac_address, slaac
from lab.api.interfaces import LINODE, Reader, Wish
from lab.api.wire import ApiError, Call, Problems, fields, overlay, route
from lab.api.wiring import FAMILIES, Change, changing, eligible, generation_interfaces
from lab.models import Config, Instance, Interface, Ipv6Range, Json

if TYPE_CHECKING:
    from lab.api.app import Lab

PATH = "/linode/instances/{id:int}"


async def list_interfaces(call: Call) -> Json:
    """List a Linode's interfaces, in the order of its network cards; there are no pages."""
    instance = _linode(call)
    return {"interfaces": [render(call.lab, instance, item) for item in instance.linode_interfaces]}


async def create_interface(call: Call) -> Json:
    instance, problems = _changeable(call), Problems()
    reader = Reader(call.lab, instance.region, problems, instance)
    wish = reader.linode(call.body, "")
    firewall = firewalls.choose_for_interface(call.lab.store, wish, "firewall_id", problems) if wish else None
    _check_together(reader, instance, [wish] if wish else [], problems)
    assert wish is not None  # else there was a problem
    with changing(call.lab, instance) as change:
        (interface,) = generation_interfaces(change, [wish])
        change.settle_default_routes()
        if firewall:
            change.new.append(firewalls.device(call.lab.store, firewall, "linode_interface", interface.id, instance.id))
    _save(call, change, "interface_create")
    return render(call.lab, instance, interface)


async def get_interface(call: Call) -> Json:
    instance = _linode(call)
    return render(call.lab, instance, call.part(instance.linode_interfaces, "interface_id"))


async def update_interface(call: Call) -> Json:
    """Change an interface; what the request does not name stays. A VLAN's cannot be changed."""
    instance, problems = _changeable(call), Problems()
    interface = call.part(instance.linode_interfaces, "interface_id")
    body = overlay(_kept(render(call.lab, instance, interface)), call.body)
    wish = Reader(call.lab, instance.region, problems, instance, (interface,)).linode(body, "")
    if wish and wish.purpose != interface.purpose:
        problems.add(wish.purpose, f"This is a {interface.purpose} interface")
    elif wish and wish.purpose == "vlan" and "vlan" in call.body:
        problems.add("vlan", "A VLAN interface cannot be changed")
    elif wish and wish.subnet and wish.subnet.id != interface.subnet_id:
        problems.add("vpc.subnet_id", "The subnet of an interface cannot be changed")
    problems.check()
    assert wish is not None  # else there was a problem
    with changing(call.lab, instance) as change:
        interface = call.part(instance.linode_interfaces, "interface_id")
        change.fill(interface, wish)
        for family, wanted in wish.default_route.items():
            _route(instance, interface, family, wanted)
        change.settle_default_routes()
        interface.version += 1
    _save(call, change, "interface_update")
    return render(call.lab, instance, interface)


async def delete_interface(call: Call) -> Json:
    instance = _changeable(call)
    interface = call.part(instance.linode_interfaces, "interface_id")
    with changing(call.lab, instance) as change:
        change.remove(interface)
        instance.linode_interfaces = [item for item in instance.linode_interfaces if item.id != interface.id]
        change.settle_default_routes()
        change.gone += firewalls.devices_on(call.lab.store, "linode_interface", interface.id)
    _save(call, change, "interface_delete")
    return {}


async def get_settings(call: Call) -> Json:
    return _settings(_linode(call))


async def update_settings(call: Call) -> Json:
    """Change the default routes, and whether Network Helper is on."""
    instance, problems = _linode(call), Problems()
    given = fields(call.body, problems, {"network_helper": bool, "default_route": dict})
    chosen: dict[str, Interface] = {}
    for family in FAMILIES:
        wanted = given.get("default_route", {}).get(f"{family}_interface_id")
        able = {item.id: item for item in instance.linode_interfaces if eligible(item, family)}
        if wanted in able:
            chosen[family] = able[wanted]
        elif wanted is not None:
            name = f"default_route.{family}_interface_id"
            problems.add(name, f"Must be one of {', '.join(map(str, able)) or 'none'}, which are eligible")
    problems.check()
    for family, interface in chosen.items():
        for other in instance.linode_interfaces:
            _route(instance, other, family, other is interface)
    instance.network_helper = given.get("network_helper", instance.network_helper)
    call.lab.store.save(instance)
    return _settings(instance)


async def upgrade_interfaces(call: Call) -> Json:
    """Give a Linode interfaces of the new generation like those of one of its profiles; there is no way back."""
    instance, problems = call.record(Instance), Problems()
    given = fields(call.body, problems, {"config_id": int, "dry_run": bool})
    problems.check()
    if not instance.legacy:
        raise ApiError(400, (None, "Linode is already using Linode interfaces"))
    config = next((item for item in instance.configs if item.id == given.get("config_id", instance.config_id)), None)
    if config is None:
        raise ApiError(400, ("config_id", "A Config by that ID was not found"))
    dry_run = given.get("dry_run", True)
    upgraded = copy.deepcopy(instance)
    interfaces = [_upgraded(call.lab, instance, config, item) for item in config.interfaces]
    interfaces = interfaces or [_upgraded(call.lab, instance, config, Interface(0, "public", primary=True))]
    upgraded.interface_generation, upgraded.linode_interfaces = LINODE, interfaces
    Change(call.lab, upgraded).settle_default_routes()
    if not dry_run:
        _refuse_running(call, instance)
        _become(call, instance, config, interfaces)
    shown = [{**render(call.lab, upgraded, item), **({"id": 0} if dry_run else {})} for item in interfaces]
    return {"config_id": config.id, "dry_run": dry_run, "interfaces": shown}


def render(lab: Lab, instance: Instance, interface: Interface) -> Json:
    """Return an interface as the API shows it."""
    kinds: Json = dict.fromkeys(("public", "vpc", "vlan", "rdma_vpc"))
    if interface.purpose == "public":
        kinds["public"] = _public(lab, instance, interface)
    elif interface.purpose == "vlan":
        kinds["vlan"] = {"vlan_label": interface.vlan_label, "ipam_address": interface.ipam_address}
    else:
        kinds["vpc"] = _vpc(interface)
    return {
        "id": interface.id,
        "mac_address": mac_address(interface.id),
        "version": interface.version,
        "created": interface.created,
        "updated": interface.updated,
        "default_route": {family: family in interface.default_route for family in FAMILIES},
        **kinds,
    }


def _public(lab: Lab, instance: Instance, interface: Interface) -> Json:
    own = slaac(instance)
    ranges = [item.range for item in lab.store.all(Ipv6Range) if item.linode_id == instance.id]
    owners = {address: other.id for other in lab.store.all(Instance) for address in other.ipv4}
    shared = [{"address": item, "linode_id": owners.get(item)} for item in instance.shared_ipv4]
    return {
        "ipv4": {"addresses": _addresses(interface), "shared": shared},
        "ipv6": {
            "slaac": [{"address": own, "prefix": 64}],
            "ranges": [{"range": item, "route_target": own} for item in ranges],
            "shared": [],
        },
    }


def _vpc(interface: Interface) -> Json:
    addresses = [
        {**row, "nat_1_1_address": interface.nat_1_1 if row["primary"] else None} for row in _addresses(interface)
    ]
    return {
        "vpc_id": interface.vpc_id,
        "subnet_id": interface.subnet_id,
        "ipv4": {"addresses": addresses, "ranges": [{"range": item} for item in interface.ranges]},
        "ipv6": render_ipv6(interface),
    }


def render_ipv6(interface: Interface) -> Json | None:
    """Return the IPv6 part of a VPC interface, of either generation, as the API shows it."""
    if interface.ipv6_slaac is None:
        return None
    address = str(eui64(IPv6Network(interface.ipv6_slaac), interface.id))
    return {
        "is_public": interface.ipv6_public,
        "slaac": [{"range": interface.ipv6_slaac, "address": address}],
        "ranges": [{"range": item} for item in interface.ipv6_ranges],
    }


def _addresses(interface: Interface) -> list[Json]:
    return [{"address": item, "primary": item == interface.address} for item in interface.addresses]


def _settings(instance: Instance) -> Json:
    routes: Json = {}
    for family in FAMILIES:
        holders = [item.id for item in instance.linode_interfaces if family in item.default_route]
        able = [item.id for item in instance.linode_interfaces if eligible(item, family)]
        routes[f"{family}_interface_id"] = next(iter(holders), None)
        routes[f"{family}_eligible_interface_ids"] = able
    return {"network_helper": instance.network_helper, "default_route": routes}


def _linode(call: Call) -> Instance:
    """Return the Linode of the path. Raises ApiError 404, or 400 for one of the legacy generation."""
    instance = call.record(Instance)
    if instance.legacy:
        raise ApiError(400, (None, "Linode is using legacy config interfaces"))
    return instance


def _changeable(call: Call) -> Instance:
    instance = _linode(call)
    _refuse_running(call, instance)
    return instance


def _refuse_running(call: Call, instance: Instance) -> None:
    if instance.status not in ("offline", "provisioning"):
        raise ApiError(400, (None, "Linode must be powered off to change its interfaces"))


def _check_together(reader: Reader, instance: Instance, wishes: list[Wish], problems: Problems) -> None:
    own = [(item.purpose, item.vlan_label or "") for item in instance.linode_interfaces]
    reader.check_together([*own, *((wish.purpose, wish.vlan_label) for wish in wishes)], "interfaces")
    problems.check()


def _kept(shown: Json) -> Json:
    """Return what of an interface, as shown, stays when a request does not name it."""
    kind = next(name for name in ("public", "vpc", "vlan") if shown[name] is not None)
    inner = {name: value for name, value in shown[kind].items() if value is not None}
    return {kind: inner, "default_route": shown["default_route"]}


def _route(instance: Instance, interface: Interface, family: str, wanted: bool) -> None:
    """Let an interface have a family's default route, alone, or not."""
    interface.default_route = [name for name in interface.default_route if name != family]
    if wanted:
        for other in instance.linode_interfaces:
            other.default_route = [name for name in other.default_route if name != family]
        interface.default_route.append(family)


def _upgraded(lab: Lab, instance: Instance, config: Config, legacy: Interface) -> Interface:
    """Return an interface of the new generation like one of a profile."""
    interface = copy.deepcopy(legacy)
    interface.id, interface.version = lab.store.next_id(), 1
    if interface.purpose == "public":
        nat = {item.nat_1_1 for item in config.interfaces}
        interface.addresses = [address for address in instance.public_ipv4 if address not in nat]
        interface.primary_address = next(iter(interface.addresses), None)
    main = next((item for item in config.interfaces if item.primary), None)
    main = main or next((item for item in config.interfaces if item.purpose != "vlan"), legacy)
    interface.default_route = [family for family in FAMILIES if main is legacy and eligible(interface, family)]
    return interface


def _become(call: Call, instance: Instance, config: Config, interfaces: list[Interface]) -> None:
    """Make the upgrade: the profile's addresses move to the new interfaces, those of others are given back."""
    with changing(call.lab, instance) as change:
        for other, item in instance.all_interfaces:
            if other is not None and other.id != config.id:
                change.clear(item)
        for address in instance.private_ipv4:
            change.drop_address(address)
        for profile in instance.configs:
            profile.interfaces = []
        instance.interface_generation, instance.linode_interfaces = LINODE, interfaces
        change.settle_default_routes()
        new, before = firewalls.upgraded(call.lab.store, instance)
        change.new += new
        change.gone += before
    _save(call, change, "linode_update")


def _save(call: Call, change: Change, action: str) -> None:
    event = journal.done(call.lab.store, action, journal.linode(change.instance))
    call.lab.store.save(change.instance, event, *change.new)
    call.lab.store.delete(*change.gone)


ROUTES = [
    route("GET", f"{PATH}/interfaces", list_interfaces),
    route("POST", f"{PATH}/interfaces", create_interface),
    route("GET", f"{PATH}/interfaces/settings", get_settings),
    route("PUT", f"{PATH}/interfaces/settings", update_settings),
    route("GET", f"{PATH}/interfaces/{{interface_id:int}}", get_interface),
    route("PUT", f"{PATH}/interfaces/{{interface_id:int}}", update_interface),
    route("DELETE", f"{PATH}/interfaces/{{interface_id:int}}", delete_interface),
    route("POST", f"{PATH}/upgrade-interfaces", upgrade_interfaces),
]
