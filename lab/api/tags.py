# SPDX-License-Identifier: GPL-3.0-or-later
"""/tags: made by their first use, or by name; gone when deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lab.api import domains, instances, nodebalancers, reserved_ips, volumes
from lab.api.labels import check_tag, new_tags
from lab.api.listing import page
from lab.api.wire import Call, Problems, not_found, route
from lab.models import Address, Domain, Instance, Json, NodeBalancer, Tag, Volume

KEYS = ("label",)
WORDS = {"id": "ID", "address": "address"}


@dataclass(frozen=True)
class Tagged:
    """A kind of record with tags: how a tag's objects, a request and an error name it; by what a request finds it."""

    object_type: str
    field: str
    name: str
    kind: Any  # a Record class
    render: Callable[[Call, Any], Json]
    key: str = "id"


TAGGED = (
    Tagged("linode", "linodes", "Linode", Instance, lambda call, item: instances.render(item)),
    Tagged(
        "nodebalancer", "nodebalancers", "NodeBalancer", NodeBalancer, lambda call, item: nodebalancers.render(item)
    ),
    Tagged("domain", "domains", "Domain", Domain, lambda call, item: domains.render(item)),
    Tagged("volume", "volumes", "Volume", Volume, volumes.render),
    Tagged(
        "reserved_ipv4_address", "reserved_ipv4_addresses", "reserved IP", Address, reserved_ips.render, key="address"
    ),
)


async def list_tags(call: Call) -> Json:
    tags = sorted(call.lab.store.all(Tag), key=lambda tag: tag.label)
    return page(call, tags, lambda tag: {"label": tag.label}, KEYS)


async def create_tag(call: Call) -> Json:
    """Create a tag, and put it on the objects of the request."""
    problems, store = Problems(), call.lab.store
    label = check_tag(call.body.get("label"), "label", problems)
    wanted = [item for tagged in TAGGED for item in _named(call, tagged, problems)]
    problems.check()
    newly = [item for item in wanted if label not in item.tags]
    for item in newly:
        item.tags.append(label)
    store.save(*newly, *new_tags(store, [label]))
    return {"label": label}


async def list_objects(call: Call) -> Json:
    """List what carries a tag."""
    found = list(_objects(call, _tag(call)))
    return page(call, found, lambda row: {"type": row[0].object_type, "data": row[0].render(call, row[1])}, ())


async def delete_tag(call: Call) -> Json:
    """Delete a tag, and take it off everything."""
    tag = _tag(call)
    found = [item for _, item in _objects(call, tag)]
    for item in found:
        item.tags.remove(tag.label)
    call.lab.store.save(*found)
    call.lab.store.delete(tag)
    return {}


def _tag(call: Call) -> Tag:
    label = call.request.path_params["label"]
    for tag in call.lab.store.all(Tag):
        if tag.label == label:
            return tag
    raise not_found()


def _named(call: Call, tagged: Tagged, problems: Problems) -> list[Any]:
    """Return the records of a kind that the request names."""
    wanted = call.body.get(tagged.field) or []
    words, kind = ("integers", int) if tagged.key == "id" else ("strings", str)
    if not isinstance(wanted, list) or not all(isinstance(value, kind) for value in wanted):
        problems.add(tagged.field, f"Must be an array of {words}")
        return []
    known = {getattr(item, tagged.key): item for item in call.lab.store.all(tagged.kind)}
    if not known.keys() >= set(wanted):
        problems.add(tagged.field, f"A {tagged.name} by that {WORDS[tagged.key]} was not found")
    return [known[value] for value in dict.fromkeys(wanted) if value in known]


def _objects(call: Call, tag: Tag) -> Iterator[tuple[Tagged, Any]]:
    for tagged in TAGGED:
        for item in call.lab.store.all(tagged.kind):
            if tag.label in item.tags:
                yield tagged, item


ROUTES = [
    route("GET", "/tags", list_tags, "list"),
    route("POST", "/tags", create_tag),
    route("GET", "/tags/{label:path}", list_objects, "list"),
    route("DELETE", "/tags/{label:path}", delete_tag),
]
