# SPDX-License-Identifier: GPL-3.0-or-later
"""/linode/instances/{id}/ips and /networking/ips: addresses of Linodes, given, taken, moved, shared, named."""

from __future__ import annotations

import re

from lab.api import reserved_ips
from lab.api.addressing import Known, default_name, ipv6_row, link_local, slaac
from lab.api.labels import check_tags
from lab.api.listing import page
from lab.api.ranges import render_range
from lab.api.vpc_ips import places_of, render_ip
from lab.api.wire import ApiError, Call, Problems, fields, not_found, route
from lab.api.wiring import Change, changing
from lab.models import Address, Instance, Ipv6Range, Json

LINODE_PATH = "/linode/instances/{id:int}/ips"
KEYS = reserved_ips.KEYS
HOST_NAME = re.compile(r"(?=.{1,253}\.?$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}\.?")


async def get_linode_ips(call: Call) -> Json:
    """Return all addresses of a Linode, by kind."""
    instance, known = call.record(Instance), Known(call.lab.store)
    public = [known.row(address) for address in instance.public_ipv4]
    ranges = [item for item in call.lab.store.all(Ipv6Range) if item.linode_id == instance.id]
    ipv6 = instance.has_ipv6
    return {
        "ipv4": {
            "public": public,
            "private": [known.row(address) for address in instance.private_ipv4],
            "shared": [known.row(address) for address in instance.shared_ipv4],
            "reserved": [item for item in public if item["reserved"]],
            "vpc": [render_ip(call, place) for place in places_of(instance)],
        },
        "ipv6": {
            "slaac": ipv6_row(instance, slaac(instance)) if ipv6 else None,
            "link_local": ipv6_row(instance, link_local(instance)) if ipv6 else None,
            "global": [render_range(call, item) for item in ranges],
            "vpc": [],
        },
    }


async def add_linode_ip(call: Call) -> Json:
    """Give a Linode an address more: a new one, public or private, or a reserved one."""
    instance, problems = call.record(Instance), Problems()
    given = fields(call.body, problems, {"type": str, "public": bool, "address": str})
    if "address" in given and not Known(call.lab.store).is_free(given["address"], instance.region):
        problems.add("address", "Must be a reserved address of the Linode's region that is not in use")
    return _add(call, instance, given, problems)


async def get_linode_ip(call: Call) -> Json:
    address = _of_linode(call)
    return Known(call.lab.store).row(address)


async def delete_linode_ip(call: Call) -> Json:
    """Take an address from a Linode; a reserved one stays the account's."""
    instance, address = call.record(Instance), _of_linode(call)
    if instance.public_ipv4 == [address]:
        raise ApiError(400, (None, "A Linode must keep at least one public address"))
    _refuse_on_interface(instance, address)
    with changing(call.lab, instance) as change:
        change.drop_address(address)
    _save(call, change)
    return {}


async def list_ips(call: Call) -> Json:
    """List the account's public addresses."""
    known = Known(call.lab.store)
    return page(call, known.public, known.row, KEYS)


async def allocate_ip(call: Call) -> Json:
    """Give a Linode an address more, or reserve one, for a Linode or for none yet."""
    problems = Problems()
    given = fields(
        call.body, problems, {"type": str, "public": bool, "linode_id": int, "region": str, "reserved": bool}
    )
    instance = call.lab.store.get(Instance, given.get("linode_id", 0))
    if instance:
        return _add(call, instance, given, problems)
    if "linode_id" in given or not given.get("reserved"):
        reason = "A Linode by that ID was not found" if "linode_id" in given else "linode_id is required"
        problems.add("linode_id", reason)
    return reserved_ips.reserve(call, given.get("region"), [], problems)


async def get_ip(call: Call) -> Json:
    address, known = _of_account(call)
    return known.row(address)


async def update_ip(call: Call) -> Json:
    """Change the name of an address (rdns), its tags, and whether it is reserved."""
    (address, known), problems = _of_account(call), Problems()
    given = fields(call.body, problems, {"rdns": str, "reserved": bool, "tags": list})
    name = given.get("rdns", "").rstrip(".")
    if "rdns" in given and not HOST_NAME.fullmatch(name):
        problems.add("rdns", "Invalid hostname")
    tags = check_tags(given.get("tags", []), problems)
    problems.check()
    owner = known.owners.get(address)
    record = known.records.get(address) or Address(call.lab.store.next_id(), address, owner.region if owner else "")
    ended = record.reserved and not given.get("reserved", True)
    record.reserved = given.get("reserved", record.reserved)
    record.rdns = record.rdns if "rdns" not in call.body else name if name != default_name(address) else None
    record.tags = [] if ended else tags if "tags" in given else record.tags
    reserved_ips.keep(call, record, address in known.entities)
    known.records[address] = record
    return known.row(address)


async def assign_ips(call: Call) -> Json:
    """Move addresses of a region between its Linodes, reserved ones to them: all or none."""
    store, problems, moves = call.lab.store, Problems(), []
    known = Known(store)
    given = fields(call.body, problems, {"region": str, "assignments": list})
    for number, item in enumerate(given.get("assignments", [])):
        wish = item if isinstance(item, dict) else {}
        name, address, owner = f"assignments[{number}]", wish.get("address"), known.owners.get(wish.get("address", ""))
        target = store.get(Instance, wish.get("linode_id") or 0)
        if target is None or target.region != given.get("region"):
            problems.add(f"{name}.linode_id", "A Linode by that ID was not found in the region")
        elif not known.is_free(str(address), target.region) and (owner is None or owner.region != target.region):
            problems.add(f"{name}.address", "Must be an address of a Linode in the region, or a free reserved one")
        else:
            moves.append((str(address), owner, target))
    problems.check()
    changed = {item.id: item for _, owner, target in moves for item in (owner, target) if item}
    before = {number: list(item.ipv4) for number, item in changed.items()}
    try:
        for address, owner, target in moves:
            if owner:
                _refuse_on_interface(owner, address)
                owner.ipv4.remove(address)
            target.ipv4.insert(len(target.public_ipv4), address)
        for item in changed.values():
            if not item.public_ipv4 or len(item.private_ipv4) > 1:
                words = "must keep at least one public address, and can have one private address"
                raise ApiError(400, (None, f"{item.label} {words}"))
    except ApiError:
        for number, item in changed.items():
            item.ipv4 = before[number]
        raise
    store.save(*changed.values())
    return {}


async def share_ips(call: Call) -> Json:
    """Let a Linode bring up other Linodes' addresses, those of ``ips`` and no other."""
    call.without_hosts("Shared addresses are")
    problems, known = Problems(), Known(call.lab.store)
    given = fields(call.body, problems, {"linode_id": int, "ips": list})
    instance = call.lab.store.get(Instance, given.get("linode_id", 0))
    if instance is None:
        problems.add("linode_id", "A Linode by that ID was not found")
    for number, address in enumerate(given.get("ips", [])):
        owner = known.owners.get(address) if isinstance(address, str) else None
        if owner is None or owner is instance or (instance and owner.region != instance.region):
            problems.add(f"ips[{number}]", "Must be an address of another Linode in the same region")
    problems.check()
    assert instance is not None  # else it was a problem
    instance.shared_ipv4 = list(dict.fromkeys(given.get("ips", [])))
    call.lab.store.save(instance)
    return {}


def _of_linode(call: Call) -> str:
    """Return the Linode's address that the path names. Raises ApiError 404."""
    address = str(call.request.path_params["address"])
    if address not in call.record(Instance).ipv4:
        raise not_found()
    return address


def _of_account(call: Call) -> tuple[str, Known]:
    """Return the public address of the account that the path names. Raises ApiError 404."""
    address, known = str(call.request.path_params["address"]), Known(call.lab.store)
    if address not in known.public:
        raise not_found()
    return address, known


def _add(call: Call, instance: Instance, given: Json, problems: Problems) -> Json:
    """Give a Linode an address more, as a request for one says."""
    public = given.get("public", True)
    if given.get("type", "ipv4") != "ipv4":
        problems.add("type", "Must be ipv4")
    if not public and instance.private_ipv4:
        problems.add("public", "A Linode can have one private address")
    if not public and not instance.legacy:
        problems.add("public", "Linodes with Linode interfaces cannot have private addresses")
    problems.check()
    with changing(call.lab, instance) as change:
        address = change.add_address(public, given.get("address"))
        if given.get("reserved"):
            change.new.append(Address(call.lab.store.next_id(), address, instance.region, reserved=True))
    _save(call, change)
    return Known(call.lab.store).row(address)


def _refuse_on_interface(instance: Instance, address: str) -> None:
    """Refuse to take an address that an interface names. Raises ApiError 400."""
    if any(address in (item.nat_1_1, *item.addresses) for _, item in instance.all_interfaces):
        raise ApiError(400, (None, f"{address} is on an interface of {instance.label}: change that first"))


def _save(call: Call, change: Change) -> None:
    call.lab.store.save(change.instance, *change.new)
    call.lab.store.delete(*change.gone)


ROUTES = [
    route("GET", LINODE_PATH, get_linode_ips),
    route("POST", LINODE_PATH, add_linode_ip),
    route("GET", f"{LINODE_PATH}/{{address}}", get_linode_ip),
    route("DELETE", f"{LINODE_PATH}/{{address}}", delete_linode_ip),
    route("GET", "/networking/ips", list_ips, "list"),
    route("POST", "/networking/ips", allocate_ip),
    route("POST", "/networking/ips/assign", assign_ips),
    route("POST", "/networking/ipv4/assign", assign_ips),
    route("POST", "/networking/ips/share", share_ips),
    route("POST", "/networking/ipv4/share", share_ips),
    route("GET", "/networking/ips/{address}", get_ip),
    route("PUT", "/networking/ips/{address}", update_ip),
]
