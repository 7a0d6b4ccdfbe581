# SPDX-License-Identifier: GPL-3.0-or-later
"""/linode/instances/{id}/disks: how a Linode's storage is divided. Where there are hosts, each has one disk."""

from __future__ import annotations

from lab import catalog, journal
from lab.api import access, images
from lab.api.listing import page
from lab.api.wire import ApiError, Call, Problems, fields, route
from lab.models import Disk, Instance, Json, now

PATH = "/linode/instances/{id:int}/disks"
KEYS = ("id", "label", "filesystem", "size", "status")
FILESYSTEMS = ("raw", "swap", "ext3", "ext4", "initrd")
LABEL_LENGTH = range(1, 51)
SWAP = 512  # MB


async def list_disks(call: Call) -> Json:
    instance = call.record(Instance)
    return page(call, instance.disks, lambda disk: render(instance, disk), KEYS)


async def create_disk(call: Call) -> Json:
    """Add a disk, empty or with an image; it is not a device of any profile yet."""
    call.without_hosts("Disks beside the first are")
    instance, problems = _ready(call), Problems()
    given = fields(call.body, problems, {**access.FIELDS, "size": int, "label": str, "filesystem": str})
    access.read(call.lab, given, problems)
    _check_label(given, problems)
    filesystem = given.get("filesystem", "ext4")
    problems.choose("filesystem", filesystem, FILESYSTEMS)
    if "size" not in given:
        problems.add("size", "size is required")
    else:
        _check_size(instance, given["size"], _used(instance), problems)
    problems.check()
    number = call.lab.store.next_id()
    disk = Disk(number, given.get("label", f"disk-{number}"), given["size"], filesystem, given.get("image"))
    instance.disks.append(disk)
    _save(call, instance, "disk_create")
    return render(instance, disk)


async def get_disk(call: Call) -> Json:
    instance = call.record(Instance)
    return render(instance, call.part(instance.disks, "disk_id"))


async def update_disk(call: Call) -> Json:
    instance, problems = call.record(Instance), Problems()
    disk = call.part(instance.disks, "disk_id")
    given = fields(call.body, problems, {"label": str})
    _check_label(given, problems)
    problems.check()
    disk.label, disk.updated = given.get("label", disk.label), now()
    _save(call, instance, "disk_update")
    return render(instance, disk)


async def delete_disk(call: Call) -> Json:
    call.without_hosts("Disks to delete are")
    instance = _off(call)
    disk = call.part(instance.disks, "disk_id")
    instance.disks.remove(disk)
    for config in instance.configs:
        config.devices = {slot: item for slot, item in config.devices.items() if item.get("disk_id") != disk.id}
    _save(call, instance, "disk_delete")
    return {}


async def resize_disk(call: Call) -> Json:
    call.without_hosts("Disks to resize are")
    instance, problems = _off(call), Problems()
    disk = call.part(instance.disks, "disk_id")
    size = fields(call.body, problems, {"size": int}).get("size")
    if size is None:
        problems.add("size", "size is required")
    else:
        _check_size(instance, size, _used(instance) - disk.size, problems)
    problems.check()
    disk.size, disk.updated = size or disk.size, now()
    _save(call, instance, "disk_resize")
    return {}


async def clone_disk(call: Call) -> Json:
    """Copy a disk to a new one of the same Linode."""
    call.without_hosts("Disks beside the first are")
    instance, problems = _ready(call), Problems()
    disk = call.part(instance.disks, "disk_id")
    _check_size(instance, disk.size, _used(instance), problems)
    problems.check()
    copy = Disk(call.lab.store.next_id(), disk.label, disk.size, disk.filesystem, disk.image)
    instance.disks.append(copy)
    _save(call, instance, "disk_duplicate")
    return render(instance, copy)


async def reset_password(call: Call) -> Json:
    """Set the root password of what is installed on a disk."""
    call.without_hosts("Password resets are")
    instance, problems = _off(call), Problems()
    call.part(instance.disks, "disk_id")
    password = fields(call.body, problems, {"password": str}).get("password", "")
    access.check_password(password, "password", problems)
    problems.check()
    _save(call, instance, "password_reset")
    return {}


def deployed(call: Call, image_id: str, total: int, root: int | None = None, swap: int | None = None) -> list[Disk]:
    """Return the disks, in MB, of a Linode that an image is deployed to: its root disk, and without hosts swap."""
    image = images.find(call.lab, image_id)
    assert image is not None  # checked with the request
    store, swap = call.lab.store, 0 if call.lab.settings.hosts else SWAP if swap is None else swap
    disks = [Disk(store.next_id(), f"{image['label']} Disk", root or total - swap, "ext4", image_id)]
    return [*disks, *([Disk(store.next_id(), f"{swap} MB Swap Image", swap, "swap")] if swap else [])]


def devices(disks: list[Disk]) -> Json:
    """Return the devices of a profile that has so many disks, in their order."""
    return {f"sd{letter}": {"disk_id": disk.id} for letter, disk in zip("abcdefgh", disks, strict=False)}


def render(instance: Instance, disk: Disk) -> Json:
    """Return a disk as the API shows it."""
    return {
        "id": disk.id,
        "label": disk.label,
        "status": "ready",
        "size": disk.size,
        "filesystem": disk.filesystem,
        "disk_encryption": instance.disk_encryption,
        "created": disk.created,
        "updated": disk.updated,
    }


def _used(instance: Instance) -> int:
    return sum(disk.size for disk in instance.disks)


def _check_size(instance: Instance, size: int, others: int, problems: Problems) -> None:
    free = int(catalog.TYPES[instance.type]["disk"]) - others
    if size < 1:
        problems.add("size", "Must be greater than 0")
    elif size > free:
        problems.add("size", f"Linode does not have enough free storage: {free} MB are left")


def _check_label(given: Json, problems: Problems) -> None:
    if "label" in given and len(given["label"]) not in LABEL_LENGTH:
        problems.add("label", f"Length must be {LABEL_LENGTH[0]}-{LABEL_LENGTH[-1]} characters")


def _ready(call: Call) -> Instance:
    instance = call.record(Instance)
    if call.lab.lifecycle.busy(instance):
        raise ApiError(400, (None, "Linode busy."))
    return instance


def _off(call: Call) -> Instance:
    instance = _ready(call)
    if instance.status != "offline":
        raise ApiError(400, (None, "Linode must be powered off for this"))
    return instance


def _save(call: Call, instance: Instance, action: str) -> None:
    call.lab.store.save(instance, journal.done(call.lab.store, action, journal.linode(instance)))


ROUTES = [
    route("GET", PATH, list_disks, "list"),
    route("POST", PATH, create_disk),
    route("GET", f"{PATH}/{{disk_id:int}}", get_disk),
    route("PUT", f"{PATH}/{{disk_id:int}}", update_disk),
    route("DELETE", f"{PATH}/{{disk_id:int}}", delete_disk),
    route("POST", f"{PATH}/{{disk_id:int}}/resize", resize_disk),
    route("POST", f"{PATH}/{{disk_id:int}}/clone", clone_disk),
    route("POST", f"{PATH}/{{disk_id:int}}/password", reset_password),
]
