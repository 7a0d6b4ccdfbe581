# SPDX-License-Identifier: GPL-3.0-or-later
"""/tags: made by their first use, or by name; gone when deleted."""

from __future__ import annotations

from lab.api import instances, nodebalancers
from lab.api.labels import check_tag, new_tags
from lab.api.listing import page
from lab.api.wire import Call, Problems, not_found, route
from lab.models import Instance, Json, NodeBalancer, Tag

KEYS = ("label",)
KINDS = {"linodes": Instance, "nodebalancers": NodeBalancer}
WORDS = {Instance: "Linode", NodeBalancer: "NodeBalancer"}


async def list_tags(call: Call) -> Json:
    tags = sorted(call.lab.store.all(Tag), key=lambda tag: tag.label)
    return page(call, tags, lambda tag: {"label": tag.label}, KEYS)


async def create_tag(call: Call) -> Json:
    """Create a tag, and put it on the Linodes and the NodeBalancers of the request."""
    problems = Problems()
    label = check_tag(call.body.get("label"), "label", problems)
    for name in ("domains", "volumes", "reserved_ipv4_addresses"):
        if call.body.get(name):
            problems.add(name, "This account has none of them")
    newly = [item for item in _named(call, problems) if label not in item.tags]
    problems.check()
    for item in newly:
        item.tags.append(label)
    call.lab.store.save(*newly, *new_tags(call.lab.store, [label]))
    return {"label": label}


async def list_objects(call: Call) -> Json:
    """List what carries a tag."""
    return page(call, _tagged(call, _tag(call)), _render, ())


async def delete_tag(call: Call) -> Json:
    """Delete a tag, and take it off everything."""
    tag = _tag(call)
    tagged = _tagged(call, tag)
    for item in tagged:
        item.tags.remove(tag.label)
    call.lab.store.save(*tagged)
    call.lab.store.delete(tag)
    return {}


def _tag(call: Call) -> Tag:
    label = call.request.path_params["label"]
    for tag in call.lab.store.all(Tag):
        if tag.label == label:
            return tag
    raise not_found()


def _named(call: Call, problems: Problems) -> list[Instance | NodeBalancer]:
    """Return what a request names by id."""
    found: list[Instance | NodeBalancer] = []
    for name, kind in KINDS.items():
        ids = call.body.get(name) or []
        if not isinstance(ids, list) or not all(isinstance(item, int) for item in ids):
            problems.add(name, "Must be an array of integers")
            continue
        items = [item for item in _taggable(call) if isinstance(item, kind) and item.id in ids]
        if len(items) < len(set(ids)):
            problems.add(name, f"A {WORDS[kind]} by that ID was not found")
        found += items
    return found


def _taggable(call: Call) -> list[Instance | NodeBalancer]:
    return [*call.lab.store.all(Instance), *call.lab.store.all(NodeBalancer)]


def _tagged(call: Call, tag: Tag) -> list[Instance | NodeBalancer]:
    return [item for item in _taggable(call) if tag.label in item.tags]


def _render(item: Instance | NodeBalancer) -> Json:
    if isinstance(item, NodeBalancer):
        return {"type": "nodebalancer", "data": nodebalancers.render(item)}
    return {"type": "linode", "data": instances.render(item)}


ROUTES = [
    route("GET", "/tags", list_tags, "list"),
    route("POST", "/tags", create_tag),
    route("GET", "/tags/{label:path}", list_objects, "list"),
    route("DELETE", "/tags/{label:path}", delete_tag),
]
