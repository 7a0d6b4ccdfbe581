# SPDX-License-Identifier: GPL-3.0-or-later
"""/networking/firewalls: Cloud Firewalls, and what each is on.

A firewall is on a legacy Linode as a whole (its public and VPC traffic, not its VLANs), or on one interface of a new
one. Several may be on the same; one of them at most is enabled. What is changed here is in force before the reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lab import journal, packet_filter
from lab.api import firewall_rules
from lab.api.interfaces import LEGACY, Wish
from lab.api.labels import check_label, check_tags
from lab.api.listing import page
from lab.api.wire import ApiError, Call, Problems, fields, not_found, route
from lab.models import DefaultFirewalls, Firewall, FirewallDevice, Instance, Json, NodeBalancer, Record, now
from lab.shell import CommandError
from lab.store import Store

KEYS = ("id", "label", "tags", "created", "updated")
DEVICE_KEYS = ("id", "created", "updated", "entity.id", "entity.label", "entity.type")
TEMPLATE_KEYS = ("slug",)
STATUSES = ("enabled", "disabled")
NO_FIREWALL = -1  # asked for in the place of an id
DEFAULTS = ("linode", "nodebalancer", "public_interface", "vpc_interface")
UNKNOWN = "A Firewall by that ID was not found"
ON_INTERFACES = (
    "Linode is using Linode Interfaces. Please apply Cloud Firewall to the interfaces of the Linode instead of directly"
    " to the Linode."
)
ON_LINODE = "Linode is using legacy config interfaces. Please apply Cloud Firewall to the Linode itself."
DEVICES = {"linodes": "linode", "linode_interfaces": "linode_interface", "nodebalancers": "nodebalancer"}
ENTITIES = {"linode": "Linode", "linode_interface": "Linode Interface", "nodebalancer": "NodeBalancer"}


async def list_firewalls(call: Call) -> Json:
    return page(call, call.lab.store.all(Firewall), lambda item: render(call.lab.store, item), KEYS)


async def create_firewall(call: Call) -> Json:
    """Create a firewall, and put it on the devices of the request."""
    store, problems = call.lab.store, Problems()
    given = fields(call.body, problems, {"label": str, "rules": dict, "devices": dict, "tags": list})
    problems.require(call.body, "label", "rules")
    if "label" in given:
        _check_label(store, given["label"], problems)
    tags = check_tags(given.get("tags", []), problems)
    rules = firewall_rules.read(given["rules"], "rules.", {}, problems) if "rules" in given else {}
    firewall = Firewall(store.next_id(), given.get("label", ""), [], tags=tags)
    devices: list[FirewallDevice] = []
    for name, kind in DEVICES.items():
        ids = given.get("devices", {}).get(name) or []
        if not isinstance(ids, list):
            problems.add(f"devices.{name}", "Must be an array")
            continue
        for number, entity_id in enumerate(ids):
            field = f"devices.{name}[{number}]"
            devices += _new_device(call, firewall, kind, entity_id, field, devices, problems)
    problems.check()
    firewall.versions.append(firewall_rules.version(rules, 1))
    store.save(firewall, *devices, journal.notice(call.lab.store, "firewall_create", _entity(firewall)))
    await apply(call)
    return render(store, firewall)


async def get_firewall(call: Call) -> Json:
    return render(call.lab.store, call.record(Firewall))


async def update_firewall(call: Call) -> Json:
    """Change a firewall's label, tags or status."""
    store, firewall, problems = call.lab.store, call.record(Firewall), Problems()
    given = fields(call.body, problems, {"label": str, "tags": list, "status": str})
    if given.get("label", firewall.label) != firewall.label:
        _check_label(store, given["label"], problems)
    if "tags" in given:
        given["tags"] = check_tags(given["tags"], problems)
    status = given.get("status", firewall.status)
    problems.choose("status", status, STATUSES)
    if status == "disabled":
        _check_not_default(store, firewall, "status", "disabled", problems)
    elif firewall.status == "disabled":
        for item in devices_of(store, firewall):
            _check_alone(store, item, "status", problems)
    problems.check()
    actions = ["firewall_update"] if {"label", "tags"} & given.keys() else []
    if status != firewall.status:
        actions.append(f"firewall_{status.removesuffix('d')}")
    for name, value in given.items():
        setattr(firewall, name, value)
    firewall.updated = now()
    store.save(firewall, *(journal.notice(call.lab.store, action, _entity(firewall)) for action in actions))
    await apply(call)
    return render(store, firewall)


async def delete_firewall(call: Call) -> Json:
    """Delete a firewall; what it was on has none then."""
    store, firewall, problems = call.lab.store, call.record(Firewall), Problems()
    _check_not_default(store, firewall, "id", "deleted", problems)
    problems.check()
    store.save(journal.notice(call.lab.store, "firewall_delete", _entity(firewall)))
    store.delete(firewall, *devices_of(store, firewall))
    await apply(call)
    return {}


async def get_rules(call: Call) -> Json:
    return call.record(Firewall).rules


async def update_rules(call: Call) -> Json:
    """Change a firewall's rules; what is other than before is a new version of them."""
    store, firewall, problems = call.lab.store, call.record(Firewall), Problems()
    rules = firewall_rules.read(call.body, "", firewall.rules, problems)
    problems.check()
    if any(rules[name] != firewall.rules[name] for name in firewall_rules.KEYS):
        firewall.versions.append(firewall_rules.version(rules, firewall.rules["version"] + 1))
        firewall.updated = now()
        store.save(firewall, journal.notice(call.lab.store, "firewall_rules_update", _entity(firewall)))
    await apply(call)
    return firewall.rules


async def list_versions(call: Call) -> Json:
    firewall = call.record(Firewall)
    return page(call, firewall.versions, lambda item: _render_version(firewall, item), ())


async def get_version(call: Call) -> Json:
    for item in call.record(Firewall).versions:
        if item["rules"]["version"] == call.request.path_params["version"]:
            rules: Json = item["rules"]
            return rules
    raise not_found()


async def list_devices(call: Call) -> Json:
    devices = devices_of(call.lab.store, call.record(Firewall))
    return page(call, devices, lambda item: render_device(call.lab.store, item), DEVICE_KEYS)


async def create_device(call: Call) -> Json:
    """Put a firewall on something."""
    store, firewall, problems = call.lab.store, call.record(Firewall), Problems()
    problems.require(call.body, "id", "type")
    problems.check()
    kind = call.body["type"]
    problems.choose("type", kind, DEVICES.values())
    problems.check()
    added = _new_device(call, firewall, kind, call.body["id"], "id", [], problems)
    problems.check()
    store.save(*added, *_device_events(call, "add", added))
    await apply(call)
    return render_device(store, added[0])


async def get_device(call: Call) -> Json:
    return render_device(call.lab.store, _device(call))


async def delete_device(call: Call) -> Json:
    """Take a firewall off something."""
    device = _device(call)
    call.lab.store.save(*_device_events(call, "remove", [device]))
    call.lab.store.delete(device)
    await apply(call)
    return {}


async def get_settings(call: Call) -> Json:
    return _render_defaults(_defaults(call.lab.store))


async def update_settings(call: Call) -> Json:
    """Change which firewalls are the defaults; what is not named stays."""
    store, problems = call.lab.store, Problems()
    given = fields(call.body, problems, {"default_firewall_ids": dict}).get("default_firewall_ids", {})
    for name, value in given.items():
        field = f"default_firewall_ids.{name}"
        firewall = _find(store, value)
        if name not in DEFAULTS:
            problems.add(field, f"Keys must be one of: {', '.join(DEFAULTS)}")
        elif value is not None and firewall is None:
            problems.add(field, UNKNOWN)
        elif firewall and firewall.status != "enabled":
            problems.add(field, f"Firewall {firewall.label} is disabled, so it cannot be a default")
    problems.check()
    defaults = _defaults(store)
    for name, value in given.items():
        setattr(defaults, name, value)
    defaults.id = defaults.id or store.next_id()
    store.save(defaults)
    return _render_defaults(defaults)


async def list_templates(call: Call) -> Json:
    return page(call, list(firewall_rules.TEMPLATES), _render_template, TEMPLATE_KEYS)


async def get_template(call: Call) -> Json:
    if call.request.path_params["slug"] not in firewall_rules.TEMPLATES:
        raise not_found()
    return _render_template(call.request.path_params["slug"])


async def list_of_linode(call: Call) -> Json:
    """List the firewalls of a Linode, or of its interfaces."""
    linode = call.record(Instance)
    return _page_of(call, lambda device: device.linode_id == linode.id)


async def list_of_interface(call: Call) -> Json:
    linode, number = call.record(Instance), call.request.path_params["interface_id"]
    if number not in (item.id for item in linode.interfaces):
        raise not_found()
    return _page_of(call, lambda device: (device.type, device.entity_id) == ("linode_interface", number))


async def list_of_balancer(call: Call) -> Json:
    balancer = call.record(NodeBalancer)
    return _page_of(call, lambda device: (device.type, device.entity_id) == ("nodebalancer", balancer.id))


async def update_of_linode(call: Call) -> Json:
    """Set which firewalls a legacy Linode has."""
    store, linode, problems = call.lab.store, call.record(Instance), Problems()
    if not linode.legacy:
        raise ApiError(400, (None, ON_INTERFACES))
    wanted: list[Firewall] = []
    if call.body.get("firewall_ids") is None:
        problems.add("firewall_ids", "firewall_ids is required")
    for number, item in enumerate(fields(call.body, problems, {"firewall_ids": list}).get("firewall_ids", [])):
        firewall = _find(store, item)
        if firewall is None:
            problems.add(f"firewall_ids[{number}]", UNKNOWN)
        elif firewall not in wanted:
            wanted.append(firewall)
    enabled = [firewall.label for firewall in wanted if firewall.status == "enabled"]
    if len(enabled) > 1:
        problems.add("firewall_ids", f"Only one of {', '.join(enabled)} may be enabled on Linode {linode.label}")
    problems.check()
    before = devices_on(store, "linode", linode.id)
    added = [
        device(store, firewall, "linode", linode.id, linode.id)
        for firewall in wanted
        if firewall.id not in {item.firewall_id for item in before}
    ]
    removed = [item for item in before if item.firewall_id not in {firewall.id for firewall in wanted}]
    store.save(*added, *_device_events(call, "add", added), *_device_events(call, "remove", removed))
    store.delete(*removed)
    await apply(call)
    return await list_of_linode(call)


async def apply_to_linode(call: Call) -> Json:
    """Bring the rules in force once more, where that failed."""
    linode = call.record(Instance)
    await apply(call)
    call.lab.store.save(journal.notice(call.lab.store, "firewall_apply", journal.linode(linode)))
    return {}


def choose_all(
    store: Store, generation: str, given: Any, wishes: list[Wish], problems: Problems
) -> list[Firewall | None]:
    """Return the firewall of a new Linode, if it is a legacy one, or of each of its interfaces."""
    if generation == LEGACY:
        return [choose(store, given, "linode", "firewall_id", problems)]
    if given not in (None, NO_FIREWALL):
        problems.add("firewall_id", ON_INTERFACES)
    return [
        choose_for_interface(store, wish, f"interfaces[{number}].firewall_id", problems)
        for number, wish in enumerate(wishes)
    ]


def choose_for_interface(store: Store, wish: Wish, name: str, problems: Problems) -> Firewall | None:
    """Return the firewall of a new interface."""
    if wish.purpose == "vlan" and wish.firewall_id not in (None, NO_FIREWALL):
        problems.add(name, "A VLAN interface cannot have a Firewall")
        return None
    return choose(store, wish.firewall_id, f"{wish.purpose}_interface", name, problems)


def new_devices(store: Store, chosen: list[Firewall | None], linode: Instance) -> tuple[FirewallDevice, ...]:
    """Return the devices, not saved yet, that put what ``choose_all`` said on a new Linode."""
    on = [("linode", linode.id)] if linode.legacy else [("linode_interface", item.id) for item in linode.interfaces]
    return tuple(
        device(store, firewall, kind, entity_id, linode.id)
        for firewall, (kind, entity_id) in zip(chosen, on, strict=True)
        if firewall
    )


def choose(store: Store, wish: Any, default: str, name: str, problems: Problems) -> Firewall | None:
    """Return the firewall of something new: the one asked for by id, else the account's default, else none."""
    if wish == NO_FIREWALL:
        return None
    if wish is None:
        return _find(store, getattr(_defaults(store), default, None))
    firewall = _find(store, wish)
    if firewall is None:
        problems.add(name, UNKNOWN)
    return firewall


def upgraded(store: Store, linode: Instance) -> tuple[list[FirewallDevice], list[FirewallDevice]]:
    """Return the devices, not saved yet, of a Linode whose interfaces were upgraded, and those that they replace."""
    before = devices_on(store, "linode", linode.id)
    return [
        device(store, firewall, "linode_interface", interface.id, linode.id)
        for firewall in filter(None, (_find(store, item.firewall_id) for item in before))
        for interface in linode.interfaces
        if interface.purpose != "vlan"
    ], before


def device_of_balancer(store: Store, firewall: Firewall, balancer: NodeBalancer) -> list[FirewallDevice]:
    return [device(store, firewall, "nodebalancer", balancer.id, 0)]


def device(store: Store, firewall: Firewall, kind: str, entity_id: int, linode_id: int) -> FirewallDevice:
    """Return a new device, not saved yet."""
    return FirewallDevice(store.next_id(), firewall.id, kind, entity_id, linode_id)


def devices_of(store: Store, firewall: Firewall) -> list[FirewallDevice]:
    return [item for item in store.all(FirewallDevice) if item.firewall_id == firewall.id]


def render(store: Store, firewall: Firewall) -> Json:
    """Return a firewall as the API shows it."""
    return {
        "id": firewall.id,
        "label": firewall.label,
        "created": firewall.created,
        "updated": firewall.updated,
        "status": firewall.status,
        "rules": firewall.rules,
        "tags": firewall.tags,
        "entities": [_render_entity(store, item) for item in devices_of(store, firewall)],
    }


def render_device(store: Store, device: FirewallDevice) -> Json:
    """Return a device as the API shows it."""
    entity = _render_entity(store, device)
    return {"id": device.id, "created": device.created, "updated": device.updated, "entity": entity}


def _render_entity(store: Store, device: FirewallDevice) -> Json:
    entity = {**_service(store, device), "parent_entity": None}
    if device.type != "linode_interface":
        return entity
    url = f"{entity['url']}/interfaces/{device.entity_id}"
    return {"id": device.entity_id, "type": device.type, "label": None, "url": url, "parent_entity": entity}


def _service(store: Store, device: FirewallDevice) -> Json:
    """Return the Linode or NodeBalancer of a device, as events name it."""
    if device.type == "nodebalancer":
        balancer = store.get(NodeBalancer, device.entity_id)
        assert balancer is not None  # a device goes with what it is on
        return journal.nodebalancer(balancer)
    linode = store.get(Instance, device.linode_id)
    assert linode is not None
    return journal.linode(linode)


def _render_version(firewall: Firewall, version: Json) -> Json:
    number = version["rules"]["version"]
    return {"updated": version["updated"], "status": firewall.status, "rules": {"version": number}}


def _render_defaults(defaults: DefaultFirewalls) -> Json:
    return {"default_firewall_ids": {name: getattr(defaults, name) for name in DEFAULTS}}


def _render_template(slug: str) -> Json:
    return {"slug": slug, "rules": firewall_rules.TEMPLATES[slug]}


def _entity(firewall: Firewall) -> Json:
    url = f"/v4/networking/firewalls/{firewall.id}"
    return {"id": firewall.id, "type": "firewall", "label": firewall.label, "url": url}


def _device_events(call: Call, what: str, devices: Iterable[FirewallDevice]) -> list[Record]:
    """Return an event for each device that was added or removed."""
    store = call.lab.store
    found: list[Record] = []
    for item in devices:
        firewall = store.get(Firewall, item.firewall_id)
        if firewall:
            found.append(journal.notice(store, f"firewall_device_{what}", _entity(firewall), _service(store, item)))
    return found


def _page_of(call: Call, has: Callable[[FirewallDevice], bool]) -> Json:
    """Return a page of the firewalls that have such a device."""
    store = call.lab.store
    ids = {item.firewall_id for item in store.all(FirewallDevice) if has(item)}
    found = [firewall for firewall in store.all(Firewall) if firewall.id in ids]
    return page(call, found, lambda item: render(store, item), KEYS)


def _find(store: Store, number: Any) -> Firewall | None:
    return store.get(Firewall, number) if isinstance(number, int) else None


def _defaults(store: Store) -> DefaultFirewalls:
    """Return the account's defaults; while nobody set any, a record of none that is not saved (id 0)."""
    return next(iter(store.all(DefaultFirewalls)), DefaultFirewalls(0))


def _device(call: Call) -> FirewallDevice:
    return call.child(FirewallDevice, "device_id", "firewall_id", call.record(Firewall))


def devices_on(store: Store, kind: str, entity_id: int) -> list[FirewallDevice]:
    return [item for item in store.all(FirewallDevice) if (item.type, item.entity_id) == (kind, entity_id)]


def _new_device(
    call: Call,
    firewall: Firewall,
    kind: str,
    entity_id: Any,
    name: str,
    others: Iterable[FirewallDevice],
    problems: Problems,
) -> list[FirewallDevice]:
    """Return the device that puts a firewall on something; none, with the problem noted, when it cannot be there.

    ``others`` are devices of the same request.
    """
    store = call.lab.store
    linode = _linode_of(store, kind, entity_id)
    known = isinstance(entity_id, int) and store.get(NodeBalancer, entity_id) if kind == "nodebalancer" else linode
    if not known:
        problems.add(name, f"A {ENTITIES[kind]} by that ID was not found")
        return []
    if linode and (kind == "linode") != linode.legacy:
        problems.add(name, ON_INTERFACES if kind == "linode" else ON_LINODE)
        return []
    made = device(store, firewall, kind, entity_id, linode.id if linode else 0)
    present = [*devices_on(store, kind, entity_id), *others]
    if any((item.firewall_id, item.type, item.entity_id) == (firewall.id, kind, entity_id) for item in present):
        problems.add(name, f"{ENTITIES[kind]} {entity_id} is already assigned to this Firewall")
    elif firewall.status == "enabled":
        _check_alone(store, made, name, problems)
    return [made]


def _linode_of(store: Store, kind: str, entity_id: Any) -> Instance | None:
    """Return the Linode that an entity is, or is an interface of; None for a NodeBalancer."""
    if kind == "linode":
        return store.get(Instance, entity_id) if isinstance(entity_id, int) else None
    for linode in store.all(Instance) if kind == "linode_interface" else ():
        if entity_id in (item.id for item in linode.interfaces):
            return linode
    return None


def _check_alone(store: Store, device: FirewallDevice, name: str, problems: Problems) -> None:
    """Note that what a device is on has an enabled firewall already, which is as many as it can have."""
    for item in devices_on(store, device.type, device.entity_id):
        other = store.get(Firewall, item.firewall_id)
        if other and other.id != device.firewall_id and other.status == "enabled":
            has = f"{ENTITIES[device.type]} {device.entity_id} has Firewall {other.label}"
            problems.add(name, f"{has}: a service can have one enabled Firewall at a time")


def _check_not_default(store: Store, firewall: Firewall, name: str, what: str, problems: Problems) -> None:
    if firewall.id in (getattr(_defaults(store), default) for default in DEFAULTS):
        problems.add(name, f"Firewall {firewall.label} is a default Firewall and cannot be {what}")


def _check_label(store: Store, label: str, problems: Problems) -> None:
    check_label(label, 32, "Cloud Firewalls", (item.label for item in store.all(Firewall)), problems)


async def apply(call: Call) -> None:
    """Bring what the records say in force. Raises ApiError 500."""
    try:
        await packet_filter.apply(call.lab.store, call.lab.hosts)
    except CommandError as error:
        raise ApiError(500, (None, f"The change is kept, but not in force: {error}")) from error


ROUTES = [
    route("GET", "/networking/firewalls", list_firewalls, "list"),
    route("POST", "/networking/firewalls", create_firewall),
    route("GET", "/networking/firewalls/settings", get_settings),
    route("PUT", "/networking/firewalls/settings", update_settings),
    route("GET", "/networking/firewalls/templates", list_templates, "list"),
    route("GET", "/networking/firewalls/templates/{slug}", get_template),
    route("GET", "/networking/firewalls/{id:int}", get_firewall),
    route("PUT", "/networking/firewalls/{id:int}", update_firewall),
    route("DELETE", "/networking/firewalls/{id:int}", delete_firewall),
    route("GET", "/networking/firewalls/{id:int}/rules", get_rules),
    route("PUT", "/networking/firewalls/{id:int}/rules", update_rules),
    route("GET", "/networking/firewalls/{id:int}/history", list_versions, "list"),
    route("GET", "/networking/firewalls/{id:int}/history/rules/{version:int}", get_version),
    route("GET", "/networking/firewalls/{id:int}/devices", list_devices, "list"),
    route("POST", "/networking/firewalls/{id:int}/devices", create_device),
    route("GET", "/networking/firewalls/{id:int}/devices/{device_id:int}", get_device),
    route("DELETE", "/networking/firewalls/{id:int}/devices/{device_id:int}", delete_device),
    route("GET", "/nodebalancers/{id:int}/firewalls", list_of_balancer, "list"),
    route("GET", "/linode/instances/{id:int}/firewalls", list_of_linode, "list"),
    route("PUT", "/linode/instances/{id:int}/firewalls", update_of_linode),
    route("POST", "/linode/instances/{id:int}/firewalls/apply", apply_to_linode),
    route("GET", "/linode/instances/{id:int}/interfaces/{interface_id:int}/firewalls", list_of_interface, "list"),
]
