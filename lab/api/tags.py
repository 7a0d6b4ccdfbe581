# SPDX-License-Identifier: GPL-3.0-or-later
"""/tags: made by their first use, or by name; gone when deleted."""

from __future__ import annotations

from lab.api import instances
from lab.api.labels import check_tag, new_tags
from lab.api.listing import page
from lab.api.wire import Call, Problems, not_found, route
from lab.models import Instance, Json, Tag

KEYS = ("label",)


async def list_tags(call: Call) -> Json:
    tags = sorted(call.lab.store.all(Tag), key=lambda tag: tag.label)
    return page(call, tags, lambda tag: {"label": tag.label}, KEYS)


async def create_tag(call: Call) -> Json:
    """Create a tag, and put it on the Linodes of the request."""
    problems = Problems()
    label = check_tag(call.body.get("label"), "label", problems)
    for name in ("domains", "nodebalancers", "volumes", "reserved_ipv4_addresses"):
        if call.body.get(name):
            problems.add(name, "This account has none of them")
    ids = call.body.get("linodes") or []
    if not isinstance(ids, list) or not all(isinstance(item, int) for item in ids):
        problems.add("linodes", "Must be an array of integers")
        ids = []
    linodes = [call.lab.store.get(Instance, item) for item in ids]
    if None in linodes:
        problems.add("linodes", "A Linode by that ID was not found")
    problems.check()
    newly = [item for item in linodes if item and label not in item.tags]
    for item in newly:
        item.tags.append(label)
    call.lab.store.save(*newly, *new_tags(call.lab.store, [label]))
    return {"label": label}


async def list_objects(call: Call) -> Json:
    """List what carries a tag."""
    tagged = _tagged(call, _tag(call))
    return page(call, tagged, lambda item: {"type": "linode", "data": instances.render(item)}, ())


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


def _tagged(call: Call, tag: Tag) -> list[Instance]:
    return [item for item in call.lab.store.all(Instance) if tag.label in item.tags]


ROUTES = [
    route("GET", "/tags", list_tags, "list"),
    route("POST", "/tags", create_tag),
    route("GET", "/tags/{label:path}", list_objects, "list"),
    route("DELETE", "/tags/{label:path}", delete_tag),
]
