# SPDX-License-Identifier: GPL-3.0-or-later
"""/networking/reserved/ips: public addresses that stay the account's, in use or not."""

from __future__ import annotations

from lab import catalog
from lab.addresses import Exhausted
from lab.api.addressing import Known
from lab.api.labels import check_tags, new_tags
from lab.api.listing import as_is, page
from lab.api.wire import ApiError, Call, Problems, fields, not_found, route
from lab.models import Address, Json

KEYS = (
    *("address", "gateway", "linode_id", "prefix", "public", "rdns"),
    *("region", "reserved", "subnet_mask", "tags", "type"),
)
TYPE_KEYS = ("id", "label")


async def list_reserved(call: Call) -> Json:
    known = Known(call.lab.store)
    reserved = [item.address for item in known.records.values() if item.reserved]
    return page(call, reserved, known.row, KEYS)


async def create_reserved(call: Call) -> Json:
    problems = Problems()
    given = fields(call.body, problems, {"region": str, "tags": list})
    return reserve(call, given.get("region"), check_tags(given.get("tags", []), problems), problems)


async def get_reserved(call: Call) -> Json:
    return render(call, _record(call))


async def update_reserved(call: Call) -> Json:
    record, problems = _record(call), Problems()
    tags = check_tags(fields(call.body, problems, {"tags": list}).get("tags", record.tags), problems)
    problems.check()
    record.tags = tags
    call.lab.store.save(record, *new_tags(call.lab.store, tags))
    return render(call, record)


async def delete_reserved(call: Call) -> Json:
    """End a reservation: an address in use stays with what has it, any other is free."""
    record = _record(call)
    record.reserved, record.tags = False, []
    keep(call, record, record.address in Known(call.lab.store).entities)
    return {}


async def list_types(call: Call) -> Json:
    return page(call, catalog.RESERVED_IP_TYPES, as_is, TYPE_KEYS)


def reserve(call: Call, region: str | None, tags: list[str], problems: Problems) -> Json:
    """Reserve an address in a region, and return it as the API shows it. Raises ApiError 400."""
    if region not in call.lab.regions:
        problems.add("region", "region is required" if region is None else "region is not valid")
    problems.check()
    try:
        address = call.lab.addresses.public.take()
    except Exhausted:
        raise ApiError(400, (None, "No free IPv4 address is left")) from None
    record = Address(call.lab.store.next_id(), address, str(region), reserved=True, tags=tags)
    call.lab.store.save(record, *new_tags(call.lab.store, tags))
    return render(call, record)


def keep(call: Call, record: Address, used: bool) -> None:
    """Keep what is said of an address as long as it says something; one that is nobody's is free."""
    store = call.lab.store
    if record.reserved or (used and record.rdns):
        store.save(record, *new_tags(store, record.tags))
    elif store.get(Address, record.id):
        store.delete(record)
    if not record.reserved and not used:
        call.lab.addresses.public.release(record.address)


def render(call: Call, record: Address) -> Json:
    """Return a reserved address as the API shows it."""
    return Known(call.lab.store).row(record.address)


def _record(call: Call) -> Address:
    """Return the reserved address that the path names. Raises ApiError 404."""
    record = Known(call.lab.store).records.get(call.request.path_params["address"])
    if record is None or not record.reserved:
        raise not_found()
    return record


ROUTES = [
    route("GET", "/networking/reserved/ips", list_reserved, "list"),
    route("POST", "/networking/reserved/ips", create_reserved),
    route("GET", "/networking/reserved/ips/types", list_types, "list", anyone=True),
    route("GET", "/networking/reserved/ips/{address}", get_reserved),
    route("PUT", "/networking/reserved/ips/{address}", update_reserved),
    route("DELETE", "/networking/reserved/ips/{address}", delete_reserved),
]
