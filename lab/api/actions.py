# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Linode can be told to do: boot, reboot, shut down, resize, rebuild, migrate, and its backups."""

from __future__ import annotations

from lab import catalog, journal
from lab.api import access, disks, placement, user_data
from lab.api.configs import new_config
from lab.api.instances import UNAVAILABLE, check_encryption, image_entity, render
from lab.api.wire import ApiError, Call, Problems, fields, route
from lab.api.wiring import changing
from lab.models import Address, Instance, Json

PATH = "/linode/instances/{id:int}"
RESIZE_FIELDS = {"type": str, "migration_type": str, "allow_auto_disk_resize": bool}
REBUILD_FIELDS = {**access.FIELDS, **user_data.FIELDS, "booted": bool, "disk_encryption": str}


async def boot_instance(call: Call) -> Json:
    """Boot a Linode, with a certain configuration profile or the one it had."""
    instance = ready(call)
    if instance.status == "running":
        raise ApiError(400, (None, f"Linode {instance.id} already booted."))
    _choose_config(call, instance)
    instance.booted = True
    call.lab.lifecycle.begin(instance, "boot")
    return {}


async def reboot_instance(call: Call) -> Json:
    instance = ready(call)
    _choose_config(call, instance)
    instance.booted = True
    call.lab.lifecycle.begin(instance, "reboot")
    return {}


async def shutdown_instance(call: Call) -> Json:
    instance = ready(call)
    instance.booted = False
    call.lab.lifecycle.begin(instance, "shutdown")
    return {}


async def resize_instance(call: Call) -> Json:
    """Change a Linode's type: cold, it is off meanwhile; warm, it runs until a last reboot."""
    instance, problems = ready(call), Problems()
    given = fields(call.body, problems, RESIZE_FIELDS)
    wanted, migration = given.get("type"), given.get("migration_type", "cold")
    problems.choose("migration_type", migration, ("cold", "warm"))
    if wanted not in catalog.TYPES:
        problems.add("type", "A valid plan type by that ID was not found" if wanted else "type is required")
    elif wanted == instance.type:
        problems.add("type", "Linode is already running this service plan.")
    elif not catalog.available(wanted, instance.region):
        problems.add("type", UNAVAILABLE)
    problems.check()
    instance.target = {"type": wanted, **_resized_disk(instance, str(wanted), given)}
    if instance.status == "running" and migration == "warm":
        call.lab.lifecycle.begin(instance, "prepare_resize", "resize_and_boot")
    else:
        call.lab.lifecycle.begin(instance, "resize", *_boot_if(instance.booted))
    return {}


async def rebuild_instance(call: Call) -> Json:
    """Deploy an image anew: disks and profiles are replaced, addresses and interfaces stay."""
    instance, problems = ready(call), Problems()
    given = fields(call.body, problems, REBUILD_FIELDS)
    if "image" not in given:
        problems.add("image", "image is required")
    keys = access.read(call.lab, given, problems)
    data = user_data.read(call.lab, given, problems, before=instance.user_data)
    encryption = given.get("disk_encryption", instance.disk_encryption)
    check_encryption(call, instance.region, given, problems)
    problems.check()
    total = catalog.TYPES[instance.type]["disk"]
    with changing(call.lab, instance) as change:
        for profile in instance.configs:
            if profile.id != instance.config_id:
                for interface in profile.interfaces:
                    change.remove(interface)
        before = instance.config
        instance.disks = disks.deployed(call, given["image"], total)
        config = new_config(call, before.label if before else "Boot", catalog.GRUB, disks.devices(instance.disks))
        config.interfaces = before.interfaces if before else []
        instance.configs, instance.config_id = [config], config.id
    instance.image, instance.authorized_keys, instance.disk_encryption = given["image"], keys, encryption
    instance.user_data, instance.booted = data, given.get("booted", True)
    image = image_entity(call.lab, instance)
    call.lab.lifecycle.begin(instance, "rebuild", *_boot_if(instance.booted), secondary=image)
    call.lab.store.delete(*change.gone)
    return render(instance)


async def migrate_instance(call: Call) -> Json:
    """Move a Linode to another region; it is off meanwhile, and has other addresses then."""
    call.without_hosts("Migrations are")
    instance, problems = ready(call), Problems()
    region = fields(call.body, problems, {"region": str}).get("region")
    if region is None:
        raise ApiError(400, (None, "No pending migration for this Linode"))
    if region not in call.lab.regions:
        problems.add("region", "region is not valid")
    elif region == instance.region and not call.body.get("placement_group"):
        problems.add("region", "Linode is already in this region")
    elif not catalog.available(instance.type, region):
        problems.add("region", UNAVAILABLE)
    elif any(item.purpose != "public" for _, item in instance.all_interfaces):
        problems.add("region", "A Linode with VPC or VLAN interfaces cannot be migrated")
    elif any(item.reserved and item.address in instance.ipv4 for item in call.lab.store.all(Address)):
        problems.add("region", "A Linode with reserved addresses cannot be migrated")
    group, host = placement.choose(call.lab.store, region, call.body.get("placement_group"), problems)
    problems.check()
    member = placement.of_member(group) if group else None
    instance.target = {"region": region, "host_uuid": host, "placement_group": member}
    call.lab.lifecycle.begin(instance, "migrate", *_boot_if(instance.booted))
    return {}


async def reset_password(call: Call) -> Json:
    """Set the root password of what a Linode boots; it has to be off."""
    call.without_hosts("Password resets are")
    instance, problems = ready(call), Problems()
    password = fields(call.body, problems, {"root_pass": str}).get("root_pass", "")
    access.check_password(password, "root_pass", problems)
    problems.check()
    if instance.status != "offline":
        raise ApiError(400, (None, "Linode must be powered off in order to reset root password."))
    call.lab.store.save(journal.done(call.lab.store, "password_reset", journal.linode(instance)))
    return {}


async def list_backups(call: Call) -> Json:
    """List the backups of a Linode; the lab takes none."""
    call.record(Instance)
    return {"automatic": [], "snapshot": {"current": None, "in_progress": None}}


async def enable_backups(call: Call) -> Json:
    return _set_backups(call, True, "backups_enable")


async def cancel_backups(call: Call) -> Json:
    return _set_backups(call, False, "backups_cancel")


async def get_transfer(call: Call) -> Json:
    """Return a Linode's share of the transfer pool, in GB; without hosts there is no traffic."""
    call.without_hosts("Transfer figures are")
    return {"used": 0, "quota": catalog.TYPES[call.record(Instance).type]["transfer"], "billable": 0}


def ready(call: Call) -> Instance:
    """Return the Linode of the path. Raises ApiError 404, or 400 while something is under way on it."""
    instance = call.record(Instance)
    if call.lab.lifecycle.busy(instance):
        raise ApiError(400, (None, "Linode busy."))
    return instance


def _choose_config(call: Call, instance: Instance) -> None:
    """Let a Linode have the profile that it is to boot with. Raises ApiError 400."""
    problems = Problems()
    wanted = fields(call.body, problems, {"config_id": int}).get("config_id", instance.config_id)
    problems.check()
    if not instance.configs:
        raise ApiError(400, (None, f"Linode {instance.id} has no image, so nothing to boot."))
    if wanted is None and len(instance.configs) > 1:
        raise ApiError(400, ("config_id", "config_id is required: there are several profiles, and none booted last"))
    wanted = wanted or instance.configs[0].id
    if wanted not in (item.id for item in instance.configs):
        raise ApiError(400, ("config_id", "A Config by that ID was not found"))
    instance.config_id = wanted


def _resized_disk(instance: Instance, type_id: str, given: Json) -> Json:
    """Return which disk grows or shrinks with the type, as ``disk_id`` and ``disk_size``. Raises ApiError 400."""
    total = int(catalog.TYPES[type_id]["disk"])
    used = sum(disk.size for disk in instance.disks)
    data = [disk for disk in instance.disks if disk.filesystem != "swap"]
    if given.get("allow_auto_disk_resize", True) and len(data) == 1 and len(instance.disks) <= 2:
        return {"disk_id": data[0].id, "disk_size": total - (used - data[0].size)}
    if used > total:
        words = "Linode has allocated more disk than the new service plan allows. Delete or resize disks smaller."
        raise ApiError(400, (None, words))
    return {}


def _boot_if(booted: bool) -> tuple[str, ...]:
    return ("boot",) if booted else ()


def _set_backups(call: Call, enabled: bool, action: str) -> Json:
    instance = call.record(Instance)
    instance.backups_enabled = enabled
    call.lab.store.save(instance, journal.done(call.lab.store, action, journal.linode(instance)))
    return {}


ROUTES = [
    route("POST", f"{PATH}/boot", boot_instance),
    route("POST", f"{PATH}/reboot", reboot_instance),
    route("POST", f"{PATH}/shutdown", shutdown_instance),
    route("POST", f"{PATH}/resize", resize_instance),
    route("POST", f"{PATH}/rebuild", rebuild_instance),
    route("POST", f"{PATH}/migrate", migrate_instance),
    route("POST", f"{PATH}/password", reset_password),
    route("GET", f"{PATH}/backups", list_backups),
    route("POST", f"{PATH}/backups/enable", enable_backups),
    route("POST", f"{PATH}/backups/cancel", cancel_backups),
    route("GET", f"{PATH}/transfer", get_transfer),
]
