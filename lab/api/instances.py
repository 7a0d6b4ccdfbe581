# SPDX-License-Identifier: GPL-3.0-or-later
"""/linode/instances: Linodes."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Any

from lab import catalog
from lab.addresses import PRIVATE
from lab.api import interfaces
from lab.api.labels import check_linode_label, check_tags, new_tags
from lab.api.listing import page
from lab.api.lookups import USERNAME
from lab.api.vpcs import render_ip
from lab.api.wire import ApiError, Call, Problems, fields, route
from lab.models import Instance, Json, now

KEYS = ("id", "label", "group", "image", "ipv4", "region", "tags", "site_type")
SSH_KEY = re.compile(r"(ssh-(?:rsa|ed25519)|ecdsa-sha2-nistp(?:256|384|521)|sk-[\w@.-]+) ([A-Za-z0-9+/=]+)(?: .*)?")
ALERTS = {"cpu": 90, "network_in": 10, "network_out": 10, "transfer_quota": 80, "io": 10000}
IPV6_PREFIX, LINK_LOCAL = "2001:db8:c50:0:f03c::", "fe80::f03c:0:0:0"  # listed only: the lab's hosts have no IPv6
MAX_USER_DATA = 16_384  # bytes, decoded
MAINTENANCE_POLICIES = ("linode/migrate", "linode/power_off_on")
COMMON_FIELDS = {"label": str, "group": str, "tags": list, "alerts": dict, "maintenance_policy": str}
UPDATE_FIELDS = {**COMMON_FIELDS, "watchdog_enabled": bool}
CREATE_FIELDS = {
    **COMMON_FIELDS,
    **{"image": str, "root_pass": str, "authorized_keys": list, "authorized_users": list, "metadata": dict},
    **{"booted": bool, "private_ip": bool, "backups_enabled": bool},
}
ABSENT = {
    "firewall_id": "A Firewall by that ID was not found",
    "placement_group": "A Placement Group by that ID was not found",
    "stackscript_id": "A StackScript by that ID was not found",
    "backup_id": "A Backup by that ID was not found",
}


async def list_instances(call: Call) -> Json:
    return page(call, call.lab.store.all(Instance), render, KEYS)


async def get_instance(call: Call) -> Json:
    return render(call.record(Instance))


async def create_instance(call: Call) -> Json:
    """Create a Linode: the reply comes at once, the work goes on behind it."""
    lab, body, problems = call.lab, call.body, Problems()
    size = catalog.TYPES.get(str(body.get("type")))
    if size is None:
        missing = body.get("type") is None
        problems.add("type", "type is required" if missing else "A valid plan type by that ID was not found")
    region = str(body.get("region"))
    if region not in catalog.REGIONS:
        problems.add("region", "region is required" if body.get("region") is None else "region is not valid")
    given = fields(body, problems, CREATE_FIELDS)
    if "label" in given:
        check_linode_label(given["label"], {item.label for item in lab.store.all(Instance)}, problems)
    tags = check_tags(given.get("tags", []), problems)
    keys = _access(lab.images, given, problems)
    _maintenance_policy(given, problems)
    user_data = read_user_data(lab.images, given, problems)
    for name, reason in ABSENT.items():
        if body.get(name) not in (None, -1):
            problems.add(name, reason)
    generation, wishes = interfaces.Reader(lab, region, problems).read(body)
    problems.check()

    attached, ipv4 = interfaces.allocate(lab, generation, wishes, given.get("private_ip", False))
    number = lab.store.next_id()
    public = generation == interfaces.LEGACY or any(item.purpose == "public" for item in attached)
    instance = Instance(
        id=number,
        label=given.get("label") or f"linode{number}",
        region=region,
        type=body["type"],
        image=given.get("image"),
        interface_generation=generation,
        config_id=lab.store.next_id() if generation == interfaces.LEGACY else None,
        host_uuid=uuid.uuid4().hex,
        interfaces=attached,
        ipv4=ipv4,
        ipv6=f"{_ipv6_address(IPV6_PREFIX, number)}/128" if public else None,
        booted="image" in given and given.get("booted", True),
        group=given.get("group", ""),
        tags=tags,
        authorized_keys=keys,
        user_data=user_data,
        backups_enabled=given.get("backups_enabled", False),
        alerts=_alerts(ALERTS, given),
        maintenance_policy=given.get("maintenance_policy", MAINTENANCE_POLICIES[0]),
    )
    lab.store.save(*new_tags(lab.store, tags))
    lab.lifecycle.begin(instance, "provisioning", "linode_create", _image_entity(lab.images, instance))
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
    given["alerts"] = _alerts(instance.alerts, given)
    for name, value in given.items():
        setattr(instance, name, value)
    instance.updated = now()
    call.lab.store.save(instance, *new_tags(call.lab.store, instance.tags))
    return render(instance)


async def delete_instance(call: Call) -> Json:
    """Delete a Linode; when the reply comes, its host and its addresses are gone."""
    instance = call.record(Instance)
    try:
        await call.lab.lifecycle.delete(instance)
    except Exception as error:
        raise ApiError(500, (None, f"{instance.label} could not be deleted: {error}")) from error
    return {}


async def boot_instance(call: Call) -> Json:
    instance = _ready(call)
    if instance.status == "running":
        raise ApiError(400, (None, f"Linode {instance.id} already booted."))
    _bootable(instance)
    instance.booted = True
    call.lab.lifecycle.begin(instance, "booting", "linode_boot")
    return {}


async def reboot_instance(call: Call) -> Json:
    instance = _ready(call)
    _bootable(instance)
    instance.booted = True
    call.lab.lifecycle.begin(instance, "rebooting", "linode_reboot")
    return {}


async def shutdown_instance(call: Call) -> Json:
    instance = _ready(call)
    instance.booted = False
    call.lab.lifecycle.begin(instance, "shutting_down", "linode_shutdown")
    return {}


async def get_ips(call: Call) -> Json:
    """Return all addresses of a Linode, by kind."""
    instance = call.record(Instance)
    private = [address for address in instance.ipv4 if IPv4Address(address) in PRIVATE]
    return {
        "ipv4": {
            "public": [_ipv4(instance, item) for item in instance.ipv4 if item not in private],
            "private": [_ipv4(instance, item) for item in private],
            "shared": [],
            "reserved": [],
            "vpc": [render_ip(call, instance, item) for item in instance.vpc_interfaces],
        },
        "ipv6": {
            "slaac": _ipv6(instance, IPV6_PREFIX),
            "link_local": _ipv6(instance, LINK_LOCAL),
            "global": [],
            "vpc": [],
        },
    }


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
        "ipv6": instance.ipv6,
        "image": instance.image,
        "region": instance.region,
        "site_type": "core",
        "specs": {name: size[name] for name in ("disk", "memory", "vcpus", "gpus", "transfer", "accelerated_devices")},
        "alerts": instance.alerts,
        "backups": {
            "enabled": instance.backups_enabled,
            "available": False,
            "schedule": {"day": None, "window": None},
            "last_successful": None,
        },
        "hypervisor": "kvm",
        "watchdog_enabled": instance.watchdog_enabled,
        "tags": instance.tags,
        "host_uuid": instance.host_uuid,
        "has_user_data": bool(instance.user_data),
        "placement_group": None,
        "disk_encryption": "enabled",
        "lke_cluster_id": None,
        "capabilities": [],
        "interface_generation": instance.interface_generation,
        "maintenance_policy": instance.maintenance_policy,
        "locks": [],
    }


def _ready(call: Call) -> Instance:
    instance = call.record(Instance)
    if call.lab.lifecycle.busy(instance):
        raise ApiError(400, (None, "Linode busy."))
    return instance


def _bootable(instance: Instance) -> None:
    if instance.image is None:
        raise ApiError(400, (None, f"Linode {instance.id} has no image, so nothing to boot."))


def _access(images: dict[str, Json], given: Json, problems: Problems) -> list[str]:
    """Check the image and who may log in to it; return the SSH keys."""
    keys = []
    for number, key in enumerate(given.get("authorized_keys", []), 1):
        if _is_ssh_key(key):
            keys.append(key.strip())
        else:
            problems.add("authorized_keys", f"SSH Key {number} is not a public key in OpenSSH's format")
    for number, user in enumerate(given.get("authorized_users", [])):
        reason = "has no SSH keys" if user == USERNAME else "does not exist"
        problems.add(f"authorized_users[{number}]", f"User {user} {reason}")
    if "root_pass" in given and not 11 <= len(given["root_pass"]) <= 128:
        problems.add("root_pass", "Length must be 11-128 characters")
    if "image" in given:
        if given["image"] not in images:
            problems.add("image", "image is not valid")
        if not any(given.get(name) for name in ("authorized_keys", "authorized_users", "root_pass")):
            problems.add("root_pass", "An image needs one of root_pass, authorized_keys, authorized_users")
    return keys


def read_user_data(images: dict[str, Json], given: Json, problems: Problems, before: str = "") -> str:
    """Check a request's user data and return it, in base64; where it says nothing of that, what was before stays."""
    user_data = given.get("metadata", {}).get("user_data", before)
    if not user_data:
        return ""
    image = images.get(given.get("image", ""))
    if image is None or "cloud-init" not in image["capabilities"]:
        problems.add("metadata.user_data", "This image has no cloud-init, which user data needs")
    try:
        size = len(base64.b64decode(user_data, validate=True))
    except (TypeError, ValueError):
        problems.add("metadata.user_data", "user_data must be a base64 encoded string")
    else:
        if size > MAX_USER_DATA:
            problems.add("metadata.user_data", f"decoded user_data must not exceed {MAX_USER_DATA} bytes")
    return str(user_data)


def _is_ssh_key(key: Any) -> bool:
    match = SSH_KEY.fullmatch(key.strip()) if isinstance(key, str) else None
    if match is None:
        return False
    try:
        blob = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return False
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")] == match[1].encode()


def _alerts(before: Json, given: Json) -> Json:
    return {name: given.get("alerts", {}).get(name, value) for name, value in before.items()}


def _maintenance_policy(given: Json, problems: Problems) -> None:
    if given.get("maintenance_policy", MAINTENANCE_POLICIES[0]) not in MAINTENANCE_POLICIES:
        problems.add("maintenance_policy", f"Must be one of {', '.join(MAINTENANCE_POLICIES)}")


def _image_entity(images: dict[str, Json], instance: Instance) -> Json | None:
    if instance.image is None:
        return None
    label = images[instance.image]["label"]
    return {"id": instance.image, "type": "image", "label": label, "url": f"/v4/images/{instance.image}"}


def _ipv4(instance: Instance, address: str) -> Json:
    public = IPv4Address(address) not in PRIVATE
    network = IPv4Interface(f"{address}/{24 if public else 17}").network
    return {
        "address": address,
        "gateway": str(network[1]) if public else None,
        "subnet_mask": str(network.netmask),
        "prefix": network.prefixlen,
        "type": "ipv4",
        "public": public,
        "rdns": None,
        "linode_id": instance.id,
        "region": instance.region,
        "vpc_nat_1_1": next(
            (
                {"address": item.address, "subnet_id": item.subnet_id, "vpc_id": item.vpc_id}
                for item in instance.vpc_interfaces
                if item.nat_1_1 == address
            ),
            None,
        ),
        "reserved": False,
    }


def _ipv6_address(prefix: str, number: int) -> str:
    return str(IPv6Address(int(IPv6Address(prefix)) + number))


def _ipv6(instance: Instance, prefix: str) -> Json | None:
    if instance.ipv6 is None:
        return None
    return {
        "address": _ipv6_address(prefix, instance.id),
        "gateway": "fe80::1",
        "subnet_mask": "ffff:ffff:ffff:ffff::",
        "prefix": 64,
        "type": "ipv6",
        "public": prefix != LINK_LOCAL,
        "rdns": None,
        "linode_id": instance.id,
        "region": instance.region,
    }


ROUTES = [
    route("GET", "/linode/instances", list_instances, "list"),
    route("POST", "/linode/instances", create_instance, "create"),
    route("GET", "/linode/instances/{id:int}", get_instance),
    route("PUT", "/linode/instances/{id:int}", update_instance),
    route("DELETE", "/linode/instances/{id:int}", delete_instance),
    route("POST", "/linode/instances/{id:int}/boot", boot_instance),
    route("POST", "/linode/instances/{id:int}/reboot", reboot_instance),
    route("POST", "/linode/instances/{id:int}/shutdown", shutdown_instance),
    route("GET", "/linode/instances/{id:int}/ips", get_ips),
]
