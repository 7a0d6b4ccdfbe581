# SPDX-License-Identifier: GPL-3.0-or-later
"""/images: those that Linode or the lab predefines, and the account's own, made from disks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab import journal
from lab.api.labels import check_tags, new_tags
from lab.api.listing import as_is, page
from lab.api.wire import ApiError, Call, Problems, fields, not_found, route
from lab.models import Disk, Image, Instance, Json, now

if TYPE_CHECKING:
    from lab.api.app import Lab

KEYS = ("id", "created_by", "deprecated", "is_public", "label", "size", "status", "tags", "type", "vendor")
FIELDS = {"label": str, "description": str, "tags": list}
LABEL_LENGTH = range(1, 51)


async def list_images(call: Call) -> Json:
    """List the account's own images, newest first, then the predefined ones."""
    own = [render(item) for item in call.lab.store.all(Image)[::-1]]
    predefined = sorted(call.lab.images.values(), key=lambda row: row["is_public"])
    return page(call, [*own, *predefined], as_is, KEYS)


async def create_image(call: Call) -> Json:
    """Make an image of a disk."""
    call.without_hosts("Images of disks are")
    problems, store = Problems(), call.lab.store
    given = fields(call.body, problems, {**FIELDS, "disk_id": int, "cloud_init": bool})
    found = _disk(call, given.get("disk_id", 0))
    if found is None:
        problems.add("disk_id", "disk_id is required" if "disk_id" not in given else "A Disk by that ID was not found")
    tags = _check(given, problems)
    problems.check()
    assert found is not None  # else it was a problem
    instance, disk = found
    image = Image(
        id=store.next_id(),
        label=given.get("label", disk.label),
        description=given.get("description", ""),
        region=instance.region,
        size=disk.size,
        tags=tags,
        cloud_init=given.get("cloud_init", False),
    )
    event = journal.done(store, "disk_imagize", journal.linode(instance), _entity(image))
    store.save(image, event, *new_tags(store, tags))
    return render(image)


async def get_image(call: Call) -> Json:
    found = find(call.lab, call.request.path_params["id"])
    if found is None:
        raise not_found()
    return found


async def update_image(call: Call) -> Json:
    """Change the label, description or tags of an image of the account's own."""
    image, problems = _own(call), Problems()
    given = fields(call.body, problems, FIELDS)
    tags = _check(given, problems)
    problems.check()
    image.label = given.get("label", image.label)
    image.description = given.get("description", image.description)
    image.tags = tags if "tags" in given else image.tags
    image.updated = now()
    call.lab.store.save(image, *new_tags(call.lab.store, image.tags))
    return render(image)


async def delete_image(call: Call) -> Json:
    image, store = _own(call), call.lab.store
    store.save(journal.done(store, "image_delete", _entity(image)))
    store.delete(image)
    return {}


def find(lab: Lab, image_id: str) -> Json | None:
    """Return an image as the API shows it, the account's own or a predefined one."""
    if image_id in lab.images:
        return lab.images[image_id]
    own = _record(lab, image_id)
    return render(own) if own else None


def render(image: Image) -> Json:
    """Return an image of the account's own as the API shows it."""
    return {
        "id": f"private/{image.id}",
        "label": image.label,
        "description": image.description,
        "vendor": None,
        "is_public": False,
        "is_shared": False,
        "image_sharing": None,
        "created_by": "lab",
        "type": "manual",
        "status": "available",
        "deprecated": False,
        "size": image.size,
        "total_size": image.size,
        "capabilities": ["cloud-init"] if image.cloud_init else [],
        "regions": [{"region": image.region, "status": "available"}],
        "tags": image.tags,
        "eol": None,
        "expiry": None,
        "created": image.created,
        "updated": image.updated,
    }


def _own(call: Call) -> Image:
    """Return the account's own image that the path names. Raises ApiError 403 for a predefined one, or 404."""
    image_id = call.request.path_params["id"]
    if image_id in call.lab.images:
        raise ApiError(403, (None, "Unauthorized"))
    found = _record(call.lab, image_id)
    if found is None:
        raise not_found()
    return found


def _record(lab: Lab, image_id: str) -> Image | None:
    number = image_id.removeprefix("private/")
    return lab.store.get(Image, int(number)) if image_id != number and number.isdecimal() else None


def _disk(call: Call, disk_id: int) -> tuple[Instance, Disk] | None:
    for instance in call.lab.store.all(Instance):
        for disk in instance.disks:
            if disk.id == disk_id:
                return instance, disk
    return None


def _check(given: Json, problems: Problems) -> list[str]:
    if "label" in given and len(given["label"]) not in LABEL_LENGTH:
        problems.add("label", f"Length must be {LABEL_LENGTH[0]}-{LABEL_LENGTH[-1]} characters")
    return check_tags(given.get("tags", []), problems)


def _entity(image: Image) -> Json:
    return journal.image(f"private/{image.id}", image.label)


ROUTES = [
    route("GET", "/images", list_images, "images"),
    route("POST", "/images", create_image),
    route("GET", "/images/{id:path}", get_image),
    route("PUT", "/images/{id:path}", update_image),
    route("DELETE", "/images/{id:path}", delete_image),
]
