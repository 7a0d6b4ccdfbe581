# SPDX-License-Identifier: GPL-3.0-or-later
"""/linode/instances: Linodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab import catalog, journal
from lab.api import access, configs, disks, firewalls, images, placement, user_data
from lab.api.addressing import slaac
from lab.api.interfaces import LEGACY, Reader, Wish
from lab.api.labels import check_linode_label, check_tags, new_tags
from lab.api.listing import page
from lab.api.wire import ApiError, Call, Problems, fields, route
from lab.api.wiring import changing, generation_interfaces
from lab.models import Instance, Json, Record, now

if TYPE_CHECKING:
    from lab.api.app import Lab

KEYS = ("id", "label", "group", "image", "ipv4", "region", "tags", "site_type")
ALERTS = {"cpu": 90, "network_in": 10, "network_out": 10, "transfer_quota": 80, "io": 10000}
MAINTENANCE_POLICIES = ("linode/migrate", "linode/power_off_on")
ENCRYPTION = ("enabled", "disabled")
CAPABILITIES = ("Block Storage Encryption",)  # of a Linode, as of its region
COMMON_FIELDS = {"label": str, "group": str, "tags": list, "alerts": dict, "maintenance_policy": str}
UPDATE_FIELDS = {**COMMON_FIELDS, "watchdog_enabled": bool, "backups": dict}
CREATE_FIELDS = {
    **COMMON_FIELDS,
    **access.FIELDS,
    **user_data.FIELDS,
    **{"booted": bool, "private_ip": bool, "backups_enabled": bool, "network_helper": bool},
    **{"kernel": str, "boot_size": int, "swap_size": int, "disk_encryption": str, "ipv4": list},
}
ABSENT = {
    "stackscript_id": "A StackScript by that ID was not found",
    "backup_id": "A Backup by that ID was not found",
}
LIMIT = "Account Limit reached. Please open a support ticket."
UNAVAILABLE = "This plan is not currently available in the selected region"
SMALLEST_BOOT = 8192  # MB


async def list_instances(call: Call) -> Json:
    return page(call, call.lab.store.all(Instance), render, KEYS)


async def get_instance(call: Call) -> Json:
    return render(call.record(Instance))


async def create_instance(call: Call) -> Json:
    """Create a Linode: the reply comes at once, the work goes on behind it."""
    lab, body, problems = call.lab, call.body, Problems()
    given = fields(body, problems, CREATE_FIELDS)
    region = _place(call, problems)
    if "label" in given:
        check_linode_label(given["label"], {item.label for item in lab.store.all(Instance)}, problems)
    tags = check_tags(given.get("tags", []), problems)
    keys = access.read(lab, given, problems)
    _check(call, given, problems)
    data = user_data.read(lab, given, problems)
    for name, reason in ABSENT.items():
        if body.get(name) not in (None, -1):
            problems.add(name, reason)
    default, only = lab.account.generation
    reader = Reader(lab, region, problems)
    generation, wishes = reader.read(body, default, only)
    _check_legacy(generation, given, wishes, problems)
    reserved = [address for address in given.get("ipv4", []) if reader.owns(address, "ipv4")]
    chosen = firewalls.choose_all(lab.store, generation, body.get("firewall_id"), wishes, problems)
    group, host = placement.choose(lab.store, region, body.get("placement_group"), problems)
    problems.check()
    if lab.faults.exhausted(len(lab.store.all(Instance))):
        raise ApiError(400, (None, LIMIT))

    number = lab.store.next_id()
    instance = Instance(
        id=number,
        label=given.get("label") or f"linode{number}",
        region=region,
        type=body["type"],
        image=given.get("image"),
        interface_generation=generation,
        host_uuid=host,
        booted="image" in given and given.get("booted", True),
        group=given.get("group", ""),
        tags=tags,
        authorized_keys=keys,
        user_data=data,
        network_helper=given.get("network_helper", lab.account.network_helper),
        backups_enabled=given.get("backups_enabled", False) or lab.account.backups_enabled,
        alerts=_alerts(ALERTS, given),
        maintenance_policy=given.get("maintenance_policy", lab.account.maintenance_policy),
        disk_encryption=given.get("disk_encryption", ENCRYPTION[0 if _encrypts(call, region) else 1]),
        capabilities=[name for name in CAPABILITIES if name in lab.regions[region]["capabilities"]],
        placement_group=placement.of_member(group) if group else None,
    )
    new = _deploy(call, instance, given, wishes, reserved)
    new += firewalls.new_devices(lab.store, chosen, instance)
    entity = image_entity(lab, instance)
    lab.lifecycle.begin(instance, *_tasks(instance), secondary=entity, also=(*new, *new_tags(lab.store, tags)))
    return render(instance)


async def update_instance(call: Call) -> Json:
    """Change what can be changed without touching the host; the rest of the body is ignored, as Linode does."""
    instance, problems = call.record(Instance), Problems()
    given = fields(call.body, problems, UPDATE_FIELDS)
    if given.get("label", instance.label) != instance.label:
        check_linode_label(given["label"], {item.label for item in call.lab.store.all(Instance)}, problems)
    if "tags" in given:
        given["tags"] = check_tags(given["tags"], problems)
    _maintenance_policy(given, problems)
    problems.check()
    schedule = given.pop("backups", {}).get("schedule") or {}
    instance.backups_schedule = {name: schedule.get(name, value) for name, value in instance.backups_schedule.items()}
    given["alerts"] = _alerts(instance.alerts, given)
    for name, value in given.items():
        setattr(instance, name, value)
    instance.updated = now()
    event = journal.done(call.lab.store, "linode_update", journal.linode(instance))
    call.lab.store.save(instance, event, *new_tags(call.lab.store, instance.tags))
    return render(instance)


async def delete_instance(call: Call) -> Json:
    """Delete a Linode; when the reply comes, its host and its addresses are gone."""
    instance = call.record(Instance)
    try:
        await call.lab.lifecycle.delete(instance)
    except Exception as error:
        raise ApiError(500, (None, f"{instance.label} could not be deleted: {error}")) from error
    return {}


def render(instance: Instance) -> Json:
    """Return a Linode as the API shows it."""
    size = catalog.TYPES[instance.type]
    return {
        "id": instance.id,
        "label": instance.label,
        "group": instance.group,
        "status": instance.status,
        "created": instance.created,
        "updated": instance.updated,
        "type": instance.type,
        "ipv4": instance.ipv4,
        "ipv6": f"{slaac(instance)}/128" if instance.has_ipv6 else None,
        "image": instance.image,
        "region": instance.region,
        "site_type": "core",
        "specs": {name: size[name] for name in ("disk", "memory", "vcpus", "gpus", "transfer", "accelerated_devices")},
        "alerts": instance.alerts,
        "backups": {
            "enabled": instance.backups_enabled,
            "available": False,
            "schedule": instance.backups_schedule,
            "last_successful": None,
        },
        "hypervisor": "kvm",
        "watchdog_enabled": instance.watchdog_enabled,
        "tags": instance.tags,
        "host_uuid": instance.host_uuid,
        "has_user_data": bool(instance.user_data),
        "placement_group": placement.shown(instance),
        "disk_encryption": instance.disk_encryption,
        "lke_cluster_id": None,
        "capabilities": instance.capabilities,
        "interface_generation": instance.interface_generation,
        "maintenance_policy": instance.maintenance_policy,
        "locks": [],
    }


def image_entity(lab: Lab, instance: Instance) -> Json | None:
    """Return the image of a Linode as events name it."""
    image = images.find(lab, instance.image) if instance.image else None
    return journal.image(image["id"], image["label"]) if image else None


def check_encryption(call: Call, region: str, given: Json, problems: Problems) -> None:
    """Note what is wrong with the disk encryption of a request."""
    wanted = given.get("disk_encryption", "disabled")
    if problems.choose("disk_encryption", wanted, ENCRYPTION) and wanted == "enabled" and not _encrypts(call, region):
        problems.add("disk_encryption", "Disk encryption is not available in this region")


def _place(call: Call, problems: Problems) -> str:
    """Return the region of a request; note what is wrong with it, the type, and the two together."""
    type_id, region = call.body.get("type"), str(call.body.get("region"))
    if type_id not in catalog.TYPES:
        problems.add("type", "type is required" if type_id is None else "A valid plan type by that ID was not found")
    if region not in call.lab.regions:
        problems.add("region", "region is required" if call.body.get("region") is None else "region is not valid")
    elif type_id in catalog.TYPES and not catalog.available(str(type_id), region):
        problems.add("type", UNAVAILABLE)
    return region


def _check(call: Call, given: Json, problems: Problems) -> None:
    _maintenance_policy(given, problems)
    if "kernel" in given:
        configs.check_kernel(call, given["kernel"], problems)
    check_encryption(call, str(call.body.get("region")), given, problems)
    size = catalog.TYPES.get(str(call.body.get("type")), {}).get("disk", SMALLEST_BOOT)
    if not SMALLEST_BOOT <= int(given.get("boot_size", SMALLEST_BOOT)) <= size - int(given.get("swap_size", 0)):
        problems.add("boot_size", f"Must be {SMALLEST_BOOT}-{size}, together with swap_size")


def _check_legacy(generation: str, given: Json, wishes: list[Wish], problems: Problems) -> None:
    """Note what only one generation of interfaces can have."""
    if generation != LEGACY and given.get("private_ip"):
        problems.add("private_ip", "Linodes with Linode interfaces cannot have private addresses")
    if generation != LEGACY and given.get("ipv4"):
        problems.add("ipv4", "Linodes with Linode interfaces have the addresses of their interfaces")
    if generation == LEGACY and wishes and "image" not in given:
        problems.add("interfaces", "Without an image there is no configuration profile for interfaces")


def _deploy(call: Call, instance: Instance, given: Json, wishes: list[Wish], reserved: list[str]) -> list[Record]:
    """Give a new Linode its addresses, interfaces, disks and profile; return the records that come with them."""
    with changing(call.lab, instance) as change:
        for address in reserved:
            change.add_address(True, address)
        if not reserved and (instance.legacy or not wishes):
            change.add_address(True)
        if given.get("private_ip"):
            change.add_address(False)
        interfaces = generation_interfaces(change, wishes)
        change.settle_default_routes()
        if instance.image:
            total = catalog.TYPES[instance.type]["disk"]
            sizes = (given.get("boot_size"), given.get("swap_size"))
            instance.disks = disks.deployed(call, instance.image, total, *sizes)
            kernel, label = given.get("kernel", catalog.GRUB), f"My {instance.disks[0].label} Profile"
            config = configs.new_config(call, label, kernel, disks.devices(instance.disks))
            config.interfaces = interfaces if instance.legacy else []
            instance.configs, instance.config_id = [config], config.id
    return change.new


def _tasks(instance: Instance) -> tuple[str, ...]:
    return ("create", "boot") if instance.booted else ("create",)


def _encrypts(call: Call, region: str) -> bool:
    return "Disk Encryption" in call.lab.regions.get(region, {}).get("capabilities", ())


def _alerts(before: Json, given: Json) -> Json:
    return {name: given.get("alerts", {}).get(name, value) for name, value in before.items()}


def _maintenance_policy(given: Json, problems: Problems) -> None:
    policy = given.get("maintenance_policy", MAINTENANCE_POLICIES[0])
    problems.choose("maintenance_policy", policy, MAINTENANCE_POLICIES)


ROUTES = [
    route("GET", "/linode/instances", list_instances, "list"),
    route("POST", "/linode/instances", create_instance, "create"),
    route("GET", "/linode/instances/{id:int}", get_instance),
    route("PUT", "/linode/instances/{id:int}", update_instance),
    route("DELETE", "/linode/instances/{id:int}", delete_instance),
]
