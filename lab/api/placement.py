# SPDX-License-Identifier: GPL-3.0-or-later
"""/placement/groups: Linodes that are to run on different physical hosts.

A member is compliant when no older member runs on its host. A strict group takes no Linode that would not be; a
flexible one does, unless the request says ``compliant_only``. A new Linode is put on a host that the group has none on;
one that exists stays where it runs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from lab import catalog, journal
from lab.api.labels import check_label
from lab.api.listing import page
from lab.api.wire import ApiError, Call, Problems, fields, route
from lab.models import Event, Instance, Json, PlacementGroup
from lab.store import Store

KEYS = ("id", "label", "region", "placement_group_type", "placement_group_policy")
TYPES = ("anti_affinity:local",)
STRICT, FLEXIBLE = "strict", "flexible"
CAPABILITY = "Placement Group"
UNKNOWN = "A Placement Group by that ID was not found"


async def list_groups(call: Call) -> Json:
    return page(call, call.lab.store.all(PlacementGroup), lambda item: render(call.lab.store, item), KEYS)


async def create_group(call: Call) -> Json:
    store, problems = call.lab.store, Problems()
    given = fields(call.body, problems, dict.fromkeys(KEYS[1:], str))
    problems.require(call.body, *KEYS[1:])
    if "label" in given:
        _check_label(store, given["label"], problems)
    problems.choose("placement_group_type", given.get("placement_group_type", TYPES[0]), TYPES)
    problems.choose("placement_group_policy", given.get("placement_group_policy", STRICT), (STRICT, FLEXIBLE))
    if "region" in given:
        _check_region(store, given["region"], problems)
    problems.check()
    group = PlacementGroup(store.next_id(), **given)
    store.save(group, journal.notice(call.lab.store, "placement_group_create", _entity(group)))
    return render(store, group)


async def get_group(call: Call) -> Json:
    return render(call.lab.store, call.record(PlacementGroup))


async def update_group(call: Call) -> Json:
    """Change a group's label; the rest is for ever."""
    store, group, problems = call.lab.store, call.record(PlacementGroup), Problems()
    label = fields(call.body, problems, {"label": str}).get("label", group.label)
    if label != group.label:
        _check_label(store, label, problems)
    problems.check()
    group.label = label
    linodes = members(store, group)
    for linode in linodes:
        linode.placement_group = of_member(group)
    store.save(group, *linodes, journal.notice(call.lab.store, "placement_group_update", _entity(group)))
    return render(store, group)


async def delete_group(call: Call) -> Json:
    store, group = call.lab.store, call.record(PlacementGroup)
    names = [linode.label for linode in members(store, group)]
    if names:
        reason = f"Placement Group cannot be deleted while Linodes are assigned: {', '.join(names[:10])}"
        raise ApiError(400, (None, reason))
    store.save(journal.notice(call.lab.store, "placement_group_delete", _entity(group)))
    store.delete(group)
    return {}


async def assign(call: Call) -> Json:
    """Add Linodes to a group, all of them or none."""
    store, group, problems = call.lab.store, call.record(PlacementGroup), Problems()
    compliant_only = fields(call.body, problems, {"compliant_only": bool}).get("compliant_only", False)
    linodes = _linodes(call, problems)
    before = members(store, group)
    for number, linode in linodes.items():
        if linode.placement_group:
            problems.add(f"linodes[{number}]", f"Linode {linode.label} is in a Placement Group already")
        if linode.region != group.region:
            problems.add(f"linodes[{number}]", f"Linode {linode.label} is in {linode.region}, not in {group.region}")
    added = list(linodes.values())
    _check_room(group, len(before) + len(added), "linodes", problems)
    crowded = [linode.label for linode in added if linode.id in _crowded([*before, *added])]
    if crowded and (compliant_only or group.placement_group_policy == STRICT):
        problems.add("linodes", f"On the physical host of another member: {', '.join(crowded)}")
    problems.check()
    for linode in added:
        linode.placement_group = of_member(group)
    store.save(*added, *_member_events(call, "assign", group, added))
    return render(store, group)


async def unassign(call: Call) -> Json:
    """Take Linodes out of a group; they stay where they run."""
    store, group, problems = call.lab.store, call.record(PlacementGroup), Problems()
    linodes = _linodes(call, problems)
    for number, linode in linodes.items():
        if not linode.placement_group or linode.placement_group["id"] != group.id:
            problems.add(f"linodes[{number}]", f"Linode {linode.label} is not in this Placement Group")
    problems.check()
    removed = list(linodes.values())
    for linode in removed:
        linode.placement_group = None
    store.save(*removed, *_member_events(call, "unassign", group, removed))
    return render(store, group)


def choose(store: Store, region: str, wish: Any, problems: Problems) -> tuple[PlacementGroup | None, str]:
    """Return the group that a new Linode asks for, and the physical host it gets; note what is wrong with the wish."""
    hosts = catalog.physical_hosts(region)
    if wish is None:
        return None, random.choice(hosts)
    number = wish.get("id") if isinstance(wish, dict) else None
    group = store.get(PlacementGroup, number) if isinstance(number, int) else None
    if group is None:
        problems.add("placement_group", UNKNOWN)
        return None, ""
    compliant_only = fields(wish, problems, {"compliant_only": bool}).get("compliant_only", False)
    before = members(store, group)
    if group.region != region:
        problems.add("placement_group", f"Placement Group {group.label} is in {group.region}, the Linode in {region}")
    _check_room(group, len(before) + 1, "placement_group", problems)
    free = [host for host in hosts if host not in {linode.host_uuid for linode in before}]
    if not free and (compliant_only or group.placement_group_policy == STRICT):
        problems.add("placement_group", f"Region {region} has no physical host left for Placement Group {group.label}")
    return group, random.choice(free or hosts)


def of_member(group: PlacementGroup) -> Json:
    """Return a group as its Linodes show it."""
    return {
        "id": group.id,
        "label": group.label,
        "placement_group_type": group.placement_group_type,
        "placement_group_policy": group.placement_group_policy,
    }


def shown(linode: Instance) -> Json | None:
    """Return the group of a Linode as the API shows it there; one that is migrated says where to."""
    if linode.placement_group is None:
        return None
    return {**linode.placement_group, "migrating_to": (linode.target.get("placement_group") or {}).get("id")}


def members(store: Store, group: PlacementGroup) -> list[Instance]:
    return [item for item in store.all(Instance) if item.placement_group and item.placement_group["id"] == group.id]


def render(store: Store, group: PlacementGroup) -> Json:
    """Return a placement group as the API shows it."""
    linodes = members(store, group)
    crowded = _crowded(linodes)
    moving = [item for item in store.all(Instance) if "migrate" in item.tasks]
    inbound = [item for item in moving if (item.target.get("placement_group") or {}).get("id") == group.id]
    outbound = [item for item in moving if item in linodes]
    migrations = {"inbound": inbound, "outbound": outbound}
    return {
        "id": group.id,
        "label": group.label,
        "region": group.region,
        "placement_group_type": group.placement_group_type,
        "placement_group_policy": group.placement_group_policy,
        "is_compliant": not crowded,
        "members": [{"linode_id": linode.id, "is_compliant": linode.id not in crowded} for linode in linodes],
        "migrations": {way: [{"linode_id": item.id} for item in found] for way, found in migrations.items()}
        if inbound or outbound
        else None,
    }


def _crowded(linodes: Iterable[Instance]) -> set[int]:
    """Return the ids of those that run on the physical host of one before them."""
    taken, found = set(), set()
    for linode in linodes:
        if linode.host_uuid in taken:
            found.add(linode.id)
        taken.add(linode.host_uuid)
    return found


def _linodes(call: Call, problems: Problems) -> dict[int, Instance]:
    """Return the Linodes of a request by their place in it."""
    if call.body.get("linodes") is None:
        problems.add("linodes", "linodes is required")
    found: dict[int, Instance] = {}
    for place, number in enumerate(fields(call.body, problems, {"linodes": list}).get("linodes", [])):
        linode = call.lab.store.get(Instance, number) if isinstance(number, int) else None
        if linode is None:
            problems.add(f"linodes[{place}]", "A Linode by that ID was not found")
        elif linode not in found.values():
            found[place] = linode
    return found


def _check_label(store: Store, label: str, problems: Problems) -> None:
    check_label(label, 64, "Placement Groups", (item.label for item in store.all(PlacementGroup)), problems)


def _check_region(store: Store, name: str, problems: Problems) -> None:
    region = catalog.REGIONS.get(name)
    if region is None:
        problems.add("region", "region is not valid")
    elif CAPABILITY not in region["capabilities"]:
        problems.add("region", f"Placement Groups are not available in region {name}")
    else:
        most = region["placement_group_limits"]["maximum_pgs_per_customer"]
        if sum(group.region == name for group in store.all(PlacementGroup)) >= most:
            problems.add("region", f"Region {name} allows {most} Placement Groups, and there are as many")


def _check_room(group: PlacementGroup, count: int, name: str, problems: Problems) -> None:
    limits = catalog.REGIONS[group.region]["placement_group_limits"]
    flexible = group.placement_group_policy == FLEXIBLE
    most = limits["maximum_linodes_per_flexible_pg" if flexible else "maximum_linodes_per_pg"]
    if count > most:
        problems.add(name, f"Placement Group {group.label} can have {most} Linodes, and would have {count}")


def _entity(group: PlacementGroup) -> Json:
    url = f"/v4/placement/groups/{group.id}"
    return {"id": group.id, "type": "placement_group", "label": group.label, "url": url}


def _member_events(call: Call, what: str, group: PlacementGroup, linodes: list[Instance]) -> list[Event]:
    action = f"placement_group_{what}"
    return [journal.notice(call.lab.store, action, _entity(group), journal.linode(linode)) for linode in linodes]


ROUTES = [
    route("GET", "/placement/groups", list_groups, "list"),
    route("POST", "/placement/groups", create_group),
    route("GET", "/placement/groups/{id:int}", get_group),
    route("PUT", "/placement/groups/{id:int}", update_group),
    route("DELETE", "/placement/groups/{id:int}", delete_group),
    route("POST", "/placement/groups/{id:int}/assign", assign),
    route("POST", "/placement/groups/{id:int}/unassign", unassign),
]
