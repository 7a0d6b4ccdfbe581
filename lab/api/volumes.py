# SPDX-License-Identifier: GPL-3.0-or-later
"""/volumes: block storage, kept and attached in the records alone; where there are hosts, no region has it."""

from __future__ import annotations

from typing import Any

from lab import catalog, journal
from lab.api.labels import check_plain_label, check_tags, new_tags
from lab.api.listing import as_is, page
from lab.api.wire import ApiError, Call, Problems, fields, route
from lab.models import Instance, Json, Volume, now

KEYS = ("id", "label", "linode_id", "region", "size", "status", "tags")
TYPE_KEYS = ("id", "label")
FIELDS = {"label": str, "tags": list}
CREATE_FIELDS = {**FIELDS, "region": str, "size": int, "linode_id": int, "config_id": int, "encryption": str}
SIZES = range(10, 16_385)  # GB
DEFAULT_SIZE = 20
LABEL_LENGTH = range(1, 33)


async def list_volumes(call: Call) -> Json:
    return page(call, call.lab.store.all(Volume), lambda item: render(call, item), KEYS)


async def create_volume(call: Call) -> Json:
    """Create a volume in a region, or at a Linode."""
    store, problems = call.lab.store, Problems()
    given = fields(call.body, problems, CREATE_FIELDS)
    _check_label(call, given.get("label"), problems)
    instance = _linode(call, given, problems)
    region = given.get("region") or (instance.region if instance else None)
    offered = call.lab.regions.get(region or "", {}).get("capabilities", ())
    if region not in call.lab.regions:
        problems.add("region", "region is required" if region is None else "region is not valid")
    elif "Block Storage" not in offered:
        problems.add("region", f"Volumes are not available in region {region}")
    elif instance and instance.region != region:
        problems.add("linode_id", f"The Linode is in region {instance.region}, the Volume in {region}")
    encryption = given.get("encryption", "disabled")
    problems.choose("encryption", encryption, ("enabled", "disabled"))
    _check_size(given.get("size", DEFAULT_SIZE), SIZES[0], problems)
    tags = check_tags(given.get("tags", []), problems)
    problems.check()
    size = given.get("size", DEFAULT_SIZE)
    volume = Volume(store.next_id(), given["label"], str(region), size, None, encryption, tags)
    volume.linode_id = instance.id if instance else None
    _save(call, volume, "volume_create")
    return render(call, volume)


async def get_volume(call: Call) -> Json:
    return render(call, call.record(Volume))


async def update_volume(call: Call) -> Json:
    volume, problems = call.record(Volume), Problems()
    given = fields(call.body, problems, FIELDS)
    if given.get("label", volume.label) != volume.label:
        _check_label(call, given["label"], problems)
    tags = check_tags(given.get("tags", volume.tags), problems)
    problems.check()
    volume.label, volume.tags = given.get("label", volume.label), tags
    _save(call, volume, "volume_update")
    return render(call, volume)


async def delete_volume(call: Call) -> Json:
    volume = call.record(Volume)
    if volume.linode_id is not None:
        raise ApiError(400, (None, "This volume is attached to a Linode: detach it first"))
    call.lab.store.save(journal.done(call.lab.store, "volume_delete", journal.volume(volume)))
    call.lab.store.delete(volume)
    return {}


async def attach_volume(call: Call) -> Json:
    volume, problems = call.record(Volume), Problems()
    given = fields(call.body, problems, {"linode_id": int, "config_id": int})
    instance = _linode(call, given, problems)
    if "linode_id" not in given:
        problems.add("linode_id", "linode_id is required")
    elif volume.linode_id not in (None, given["linode_id"]):
        problems.add("linode_id", "This volume is attached to another Linode")
    elif instance and instance.region != volume.region:
        problems.add("linode_id", f"The Linode is in region {instance.region}, the Volume in {volume.region}")
    problems.check()
    volume.linode_id = given["linode_id"]
    _save(call, volume, "volume_attach")
    return render(call, volume)


async def detach_volume(call: Call) -> Json:
    """Detach a volume, and take it out of the Linode's profiles."""
    volume = call.record(Volume)
    instance = call.lab.store.get(Instance, volume.linode_id or 0)
    if instance:
        for config in instance.configs:
            config.devices = {slot: item for slot, item in config.devices.items() if item.get("volume_id") != volume.id}
        call.lab.store.save(instance)
    volume.linode_id = None
    _save(call, volume, "volume_detach")
    return {}


async def resize_volume(call: Call) -> Json:
    """Make a volume larger; there is no way back."""
    volume, problems = call.record(Volume), Problems()
    size = fields(call.body, problems, {"size": int}).get("size")
    if size is None:
        problems.add("size", "size is required")
    else:
        _check_size(size, volume.size + 1, problems)
    problems.check()
    volume.size = size or volume.size
    _save(call, volume, "volume_resize")
    return render(call, volume)


async def clone_volume(call: Call) -> Json:
    """Copy a volume to a new one, attached to nothing."""
    volume, problems = call.record(Volume), Problems()
    label = fields(call.body, problems, {"label": str}).get("label")
    _check_label(call, label, problems)
    problems.check()
    number = call.lab.store.next_id()
    copy = Volume(number, str(label), volume.region, volume.size, None, volume.encryption, list(volume.tags))
    _save(call, copy, "volume_clone")
    return render(call, copy)


async def list_types(call: Call) -> Json:
    return page(call, catalog.VOLUME_TYPES, as_is, TYPE_KEYS)


async def list_linode_volumes(call: Call) -> Json:
    instance = call.record(Instance)
    attached = [item for item in call.lab.store.all(Volume) if item.linode_id == instance.id]
    return page(call, attached, lambda item: render(call, item), KEYS)


def render(call: Call, volume: Volume) -> Json:
    """Return a volume as the API shows it."""
    instance = call.lab.store.get(Instance, volume.linode_id or 0)
    return {
        "id": volume.id,
        "label": volume.label,
        "status": "active",
        "size": volume.size,
        "region": volume.region,
        "linode_id": volume.linode_id,
        "linode_label": instance.label if instance else None,
        "filesystem_path": f"/dev/disk/by-id/scsi-0Linode_Volume_{volume.label}",
        "hardware_type": "nvme",
        "io_ready": True,
        "encryption": volume.encryption,
        "tags": volume.tags,
        "created": volume.created,
        "updated": volume.updated,
    }


def _linode(call: Call, given: Json, problems: Problems) -> Instance | None:
    """Return the Linode of a request, if it names one; the profile has to be one of it."""
    if "linode_id" not in given:
        return None
    instance = call.lab.store.get(Instance, given["linode_id"])
    if instance is None:
        problems.add("linode_id", "A Linode by that ID was not found")
    elif "config_id" in given and given["config_id"] not in (item.id for item in instance.configs):
        problems.add("config_id", "A Config by that ID was not found")
    return instance


def _check_label(call: Call, label: Any, problems: Problems) -> None:
    others = [item.label for item in call.lab.store.all(Volume)]
    check_plain_label(label, LABEL_LENGTH, others, "your volumes", problems)


def _check_size(size: int, least: int, problems: Problems) -> None:
    if not least <= size <= SIZES[-1]:
        problems.add("size", f"Must be {least}-{SIZES[-1]} GB")


def _save(call: Call, volume: Volume, action: str) -> None:
    store = call.lab.store
    volume.updated = now()
    store.save(volume, journal.done(store, action, journal.volume(volume)), *new_tags(store, volume.tags))


ROUTES = [
    route("GET", "/volumes", list_volumes, "list"),
    route("POST", "/volumes", create_volume),
    route("GET", "/volumes/types", list_types, "list", anyone=True),
    route("GET", "/volumes/{id:int}", get_volume),
    route("PUT", "/volumes/{id:int}", update_volume),
    route("DELETE", "/volumes/{id:int}", delete_volume),
    route("POST", "/volumes/{id:int}/attach", attach_volume),
    route("POST", "/volumes/{id:int}/detach", detach_volume),
    route("POST", "/volumes/{id:int}/resize", resize_volume),
    route("POST", "/volumes/{id:int}/clone", clone_volume),
    route("GET", "/linode/instances/{id:int}/volumes", list_linode_volumes, "list"),
]
