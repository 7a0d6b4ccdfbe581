# SPDX-License-Identifier: GPL-3.0-or-later
"""/linode/instances/{id}/configs: what a Linode boots, and its interfaces of the legacy generation."""

from __future__ import annotations

from typing import Any

from lab import catalog, journal
from lab.api.interfaces import LEGACY, Reader, Wish
from lab.api.linode_interfaces import render_ipv6
from lab.api.listing import page
from lab.api.wire import ApiError, Call, Problems, fields, overlay, route
from lab.api.wiring import Change, changing, generation_interfaces
from lab.models import Config, Instance, Interface, Json, Volume, now

PATH = "/linode/instances/{id:int}/configs"
KEYS = ("id", "label")
FIELDS = {
    **{"label": str, "kernel": str, "devices": dict, "comments": str, "memory_limit": int, "root_device": str},
    **{"run_level": str, "virt_mode": str, "helpers": dict},
}
CHOICES = {"run_level": ("default", "single", "binbash"), "virt_mode": ("paravirt", "fullvirt")}
HELPERS = ("updatedb_disabled", "distro", "modules_dep", "network", "devtmpfs_automount")
LABEL_LENGTH = range(1, 49)
SLOTS = range(8, 65)  # of devices: as many as a Linode has GB of memory
UP = ("running", "booting", "rebooting")


async def list_configs(call: Call) -> Json:
    instance = call.record(Instance)
    return page(call, instance.configs, lambda item: render(instance, item), KEYS)


async def create_config(call: Call) -> Json:
    instance, problems = call.record(Instance), Problems()
    given = _given(call, instance, problems)
    problems.require(given, "label", "devices")
    wishes = _wishes(call, instance, problems)
    problems.check()
    config = new_config(call, given.pop("label"), given.pop("kernel", catalog.GRUB), given.pop("devices"))
    _set(config, given)
    with changing(call.lab, instance) as change:
        config.interfaces = generation_interfaces(change, wishes)
        instance.configs.append(config)
        instance.config_id = instance.config_id or config.id
    _save(call, change, "linode_config_create", config)
    return render(instance, config)


async def get_config(call: Call) -> Json:
    instance = call.record(Instance)
    return render(instance, call.part(instance.configs, "config_id"))


async def update_config(call: Call) -> Json:
    """Change a profile; ``interfaces``, where given, replace all that it has."""
    instance, problems = call.record(Instance), Problems()
    config = call.part(instance.configs, "config_id")
    given = _given(call, instance, problems)
    replaced = "interfaces" in call.body and call.body["interfaces"] is not None and instance.legacy
    wishes = _wishes(call, instance, problems, tuple(config.interfaces) if replaced else ())
    problems.check()
    with changing(call.lab, instance) as change:
        config = call.part(instance.configs, "config_id")
        if replaced:
            _replace(instance, config, wishes, change)
        _set(config, given)
        config.updated = now()
    _save(call, change, "linode_config_update", config)
    return render(instance, config)


async def delete_config(call: Call) -> Json:
    instance = call.record(Instance)
    config = call.part(instance.configs, "config_id")
    with changing(call.lab, instance) as change:
        for interface in config.interfaces:
            _refuse_active(instance, config, interface)
            change.remove(interface)
        instance.configs = [item for item in instance.configs if item.id != config.id]
        if instance.config_id == config.id:
            instance.config_id = None
    _save(call, change, "linode_config_delete", config)
    return {}


async def list_interfaces(call: Call) -> Any:
    """List a profile's interfaces, in the order of the network cards; there are no pages."""
    instance = call.record(Instance)
    config = call.part(instance.configs, "config_id")
    return [render_interface(instance, config, item) for item in config.interfaces]


async def create_interface(call: Call) -> Json:
    instance, problems = _legacy(call), Problems()
    reader = Reader(call.lab, instance.region, problems, instance)
    wish = reader.legacy(call.body, "")
    config = call.part(instance.configs, "config_id")
    own = [(item.purpose, item.vlan_label or "") for item in config.interfaces]
    reader.check_together([*own, *([(wish.purpose, wish.vlan_label)] if wish else [])], "interfaces")
    problems.check()
    assert wish is not None  # else there was a problem
    with changing(call.lab, instance) as change:
        config = call.part(instance.configs, "config_id")
        (interface,) = generation_interfaces(change, [wish])
        _let_one_be_primary(config, interface)
        config.interfaces.append(interface)
    _save(call, change, "linode_config_update", config)
    return render_interface(instance, config, interface)


async def get_interface(call: Call) -> Json:
    instance = _legacy(call)
    config = call.part(instance.configs, "config_id")
    return render_interface(instance, config, call.part(config.interfaces, "interface_id"))


async def update_interface(call: Call) -> Json:
    """Change whether an interface is primary, and a VPC's addresses and ranges; what is not named stays."""
    instance, problems = _legacy(call), Problems()
    config = call.part(instance.configs, "config_id")
    interface = call.part(config.interfaces, "interface_id")
    shown = render_interface(instance, config, interface)
    body = {**overlay(shown, call.body), "purpose": interface.purpose, "subnet_id": interface.subnet_id}
    wish = Reader(call.lab, instance.region, problems, instance, (interface,)).legacy(body, "")
    problems.check()
    assert wish is not None  # else there was a problem
    with changing(call.lab, instance) as change:
        config = call.part(instance.configs, "config_id")
        interface = call.part(config.interfaces, "interface_id")
        change.fill(interface, wish)
        _let_one_be_primary(config, interface)
    _save(call, change, "linode_config_update", config)
    return render_interface(instance, config, interface)


async def delete_interface(call: Call) -> Json:
    instance = _legacy(call)
    config = call.part(instance.configs, "config_id")
    interface = call.part(config.interfaces, "interface_id")
    _refuse_active(instance, config, interface)
    with changing(call.lab, instance) as change:
        change.remove(interface)
        config.interfaces = [item for item in config.interfaces if item.id != interface.id]
    _save(call, change, "linode_config_update", config)
    return {}


async def reorder_interfaces(call: Call) -> Json:
    """Put a profile's interfaces in the order of ``ids``, all of them."""
    instance = _legacy(call)
    config = call.part(instance.configs, "config_id")
    ids, own = call.body.get("ids"), {item.id: item for item in config.interfaces}
    if not isinstance(ids, list) or sorted(ids, key=str) != sorted(own, key=str):
        raise ApiError(400, ("ids", f"Must be all of {', '.join(map(str, own))}, each once"))
    config.interfaces = [own[number] for number in ids]
    call.lab.store.save(instance)
    return {}


def new_config(call: Call, label: str, kernel: str, devices: Json) -> Config:
    helpers = {**dict.fromkeys(HELPERS, True), "network": call.lab.account.network_helper}
    return Config(call.lab.store.next_id(), label, kernel, devices, helpers=helpers)


def check_kernel(call: Call, kernel: str, problems: Problems) -> None:
    if kernel not in call.lab.kernels:
        known = ", ".join(call.lab.kernels)
        problems.add("kernel", f"A Kernel by that ID was not found; there are {known}")


def render(instance: Instance, config: Config) -> Json:
    """Return a profile as the API shows it."""
    devices: Json = {}
    for slot in _slots(instance):
        device = config.devices.get(slot)
        devices[slot] = {"disk_id": None, "volume_id": None, **device} if device else None
    return {
        "id": config.id,
        "label": config.label,
        "kernel": config.kernel,
        "comments": config.comments,
        "memory_limit": config.memory_limit,
        "run_level": config.run_level,
        "virt_mode": config.virt_mode,
        "root_device": config.root_device,
        "initrd": config.initrd,
        "devices": devices,
        "helpers": config.helpers,
        "interfaces": [render_interface(instance, config, item) for item in config.interfaces],
        "created": config.created,
        "updated": config.updated,
    }


def render_interface(instance: Instance, config: Config, interface: Interface) -> Json:
    """Return an interface of a profile as the API shows it."""
    vpc = interface.purpose == "vpc"
    return {
        "id": interface.id,
        "purpose": interface.purpose,
        "label": interface.vlan_label,
        "ipam_address": interface.ipam_address,
        "primary": interface.primary,
        "active": is_active(instance, config),
        "vpc_id": interface.vpc_id,
        "subnet_id": interface.subnet_id,
        "ipv4": {"vpc": interface.address, "nat_1_1": interface.nat_1_1} if vpc else None,
        "ipv6": render_ipv6(interface) if vpc else None,
        "ip_ranges": interface.ranges if vpc else None,
    }


def is_active(instance: Instance, config: Config | None) -> bool:
    """Tell whether a Linode is up with a profile's interfaces; ``None`` stands for interfaces of its own."""
    return instance.status not in ("provisioning", "offline") and (config is None or config.id == instance.config_id)


def _given(call: Call, instance: Instance, problems: Problems) -> Json:
    given = fields(call.body, problems, FIELDS)
    if "label" in given and len(given["label"]) not in LABEL_LENGTH:
        problems.add("label", f"Length must be {LABEL_LENGTH[0]}-{LABEL_LENGTH[-1]} characters")
    if "kernel" in given:
        check_kernel(call, given["kernel"], problems)
    for name, choices in CHOICES.items():
        problems.choose(name, given.get(name, choices[0]), choices)
    if "devices" in given:
        given["devices"] = _devices(call, instance, given["devices"], problems)
    return given


def _devices(call: Call, instance: Instance, devices: Json, problems: Problems) -> Json:
    """Return the devices of a request by slot: disks of the Linode, and volumes of its region."""
    disks, found, slots = {disk.id for disk in instance.disks}, {}, _slots(instance)
    for slot, device in devices.items():
        chosen = {key: value for key, value in device.items() if value} if isinstance(device, dict) else {}
        if slot not in slots:
            problems.add(f"devices.{slot}", f"Must be one of {slots[0]} to {slots[-1]}")
        elif device is not None and len(chosen) != 1:
            problems.add(f"devices.{slot}", "Must have one of disk_id, volume_id")
        elif "disk_id" in chosen and chosen["disk_id"] not in disks:
            problems.add(f"devices.{slot}.disk_id", "A Disk by that ID was not found")
        elif "volume_id" in chosen and not _attachable(call, instance, chosen["volume_id"]):
            problems.add(f"devices.{slot}.volume_id", "A free Volume by that ID was not found in the Linode's region")
        elif chosen:
            found[slot] = chosen
    if not found:
        problems.add("devices", "Must have at least one device")
    return found


def _attachable(call: Call, instance: Instance, volume_id: Any) -> bool:
    volume = call.lab.store.get(Volume, volume_id) if isinstance(volume_id, int) else None
    return volume is not None and volume.region == instance.region and volume.linode_id in (None, instance.id)


def _slots(instance: Instance) -> list[str]:
    """Return the slots of a Linode: sda to sdz, then sdaa, as many as its memory has GB, at least 8."""
    gigabytes = catalog.TYPES[instance.type]["memory"] // 1024
    letters = "abcdefghijklmnopqrstuvwxyz"
    suffixes = [*letters, *(first + second for first in letters for second in letters)]
    return [f"sd{suffix}" for suffix in suffixes[: max(SLOTS[0], min(SLOTS[-1], gigabytes))]]


def _wishes(call: Call, instance: Instance, problems: Problems, replaced: tuple[Interface, ...] = ()) -> list[Wish]:
    if not instance.legacy:
        if call.body.get("interfaces"):
            problems.add("interfaces", "Linode is using Linode interfaces")
        return []
    return Reader(call.lab, instance.region, problems, instance, replaced).read_all(call.body.get("interfaces"), LEGACY)


def _replace(instance: Instance, config: Config, wishes: list[Wish], change: Change) -> None:
    kept = {(wish.subnet.id, address) for wish in wishes if wish.subnet for address in wish.addresses}
    for interface in config.interfaces:
        if (interface.subnet_id, interface.address) not in kept:
            _refuse_active(instance, config, interface)
        change.remove(interface)
    config.interfaces = generation_interfaces(change, wishes)


def _refuse_active(instance: Instance, config: Config, interface: Interface) -> None:
    """Refuse to take away a VPC interface that a Linode is up with. Raises ApiError 400."""
    if interface.purpose == "vpc" and config.id == instance.config_id and instance.status in UP:
        raise ApiError(400, (None, "Linode must be powered off to remove an active VPC interface"))


def _let_one_be_primary(config: Config, interface: Interface) -> None:
    for other in config.interfaces:
        other.primary = other.primary and not (interface.primary and other.id != interface.id)


def _legacy(call: Call) -> Instance:
    instance = call.record(Instance)
    if not instance.legacy:
        raise ApiError(400, (None, "Linode is using Linode interfaces"))
    return instance


def _set(config: Config, given: Json) -> None:
    for name, value in given.items():
        setattr(config, name, {**config.helpers, **value} if name == "helpers" else value)


def _save(call: Call, change: Change, action: str, config: Config) -> None:
    """Save a Linode with its changed profile; volumes that the profile names are attached by that."""
    store, instance = call.lab.store, change.instance
    named = [store.get(Volume, device.get("volume_id", 0)) for device in config.devices.values()]
    attached = [volume for volume in named if volume and volume.linode_id is None]
    for volume in attached:
        volume.linode_id = instance.id
    secondary = {
        "id": config.id,
        "type": "linode_config",
        "label": config.label,
        "url": f"{config_url(instance, config)}",
    }
    store.save(instance, journal.done(store, action, journal.linode(instance), secondary), *change.new, *attached)
    store.delete(*change.gone)


def config_url(instance: Instance, config: Config) -> str:
    return f"/v4/linode/instances/{instance.id}/configs/{config.id}"


ROUTES = [
    route("GET", PATH, list_configs, "list"),
    route("POST", PATH, create_config),
    route("GET", f"{PATH}/{{config_id:int}}", get_config),
    route("PUT", f"{PATH}/{{config_id:int}}", update_config),
    route("DELETE", f"{PATH}/{{config_id:int}}", delete_config),
    route("GET", f"{PATH}/{{config_id:int}}/interfaces", list_interfaces),
    route("POST", f"{PATH}/{{config_id:int}}/interfaces", create_interface),
    route("POST", f"{PATH}/{{config_id:int}}/interfaces/order", reorder_interfaces),
    route("GET", f"{PATH}/{{config_id:int}}/interfaces/{{interface_id:int}}", get_interface),
    route("PUT", f"{PATH}/{{config_id:int}}/interfaces/{{interface_id:int}}", update_interface),
    route("DELETE", f"{PATH}/{{config_id:int}}/interfaces/{{interface_id:int}}", delete_interface),
]
