# SPDX-License-Identifier: GPL-3.0-or-later
"""What Linode sells, and where: regions, types, images, kernels. Ids, sizes and prices are the real ones of 2026."""

from __future__ import annotations

import hashlib
import platform

from lab.models import Json

# Regions: (id, city, country, has VPCs). The capabilities are those a fleet of this kind asks about.
_REGIONS = (
    ("ap-west", "Mumbai, IN", "in", False),
    ("ca-central", "Toronto, CA", "ca", False),
    ("ap-southeast", "Sydney, AU", "au", False),
    ("us-iad", "Washington, DC", "us", True),
    ("us-ord", "Chicago, IL", "us", True),
    ("fr-par", "Paris, FR", "fr", True),
    ("us-sea", "Seattle, WA", "us", True),
    ("br-gru", "Sao Paulo, BR", "br", True),
    ("nl-ams", "Amsterdam, NL", "nl", True),
    ("se-sto", "Stockholm, SE", "se", True),
    ("es-mad", "Madrid, ES", "es", True),
    ("in-maa", "Chennai, IN", "in", True),
    ("jp-osa", "Osaka, JP", "jp", True),
    ("it-mil", "Milan, IT", "it", True),
    ("us-mia", "Miami, FL", "us", True),
    ("id-cgk", "Jakarta, ID", "id", True),
    ("us-lax", "Los Angeles, CA", "us", True),
    ("gb-lon", "London 2, UK", "gb", True),
    ("au-mel", "Melbourne, AU", "au", True),
    ("in-bom-2", "Mumbai 2, IN", "in", True),
    ("de-fra-2", "Frankfurt 2, DE", "de", True),
    ("sg-sin-2", "Singapore 2, SG", "sg", True),
    ("jp-tyo-3", "Tokyo 3, JP", "jp", True),
    ("no-osl-1", "Oslo, NO", "no", True),
    ("us-central", "Dallas, TX", "us", False),
    ("us-west", "Fremont, CA", "us", False),
    ("us-southeast", "Atlanta, GA", "us", False),
    ("us-east", "Newark, NJ", "us", False),
    ("eu-west", "London, UK", "gb", False),
    ("ap-south", "Singapore, SG", "sg", False),
    ("eu-central", "Frankfurt, DE", "de", False),
    ("ap-northeast", "Tokyo 2, JP", "jp", False),
)
_EVERYWHERE = ("Linodes", "NodeBalancers", "Cloud Firewall", "Metadata", "Placement Group", "Linode Interfaces")
# What the lab's hosts cannot be given is offered where there are none. Kubernetes is only named: clients choose by it.
_WITHOUT_HOSTS = (
    *("Vlans", "Block Storage", "Block Storage Encryption", "Disk Encryption", "Machine Images", "Kubernetes"),
)
_VPCS = ("VPCs", "Custom VPC IPv4 Ranges")
_VPCS_WITHOUT_HOSTS = ("VPC IPv6 Stack",)
SERVICES = ("Linodes", "NodeBalancers", "Block Storage", "Kubernetes")  # what an account may lack in a region

# Types: (id, label, class, vCPUs, memory GiB, disk GiB, transfer GB, Mbit/s out, $ a month, backups $ a month).
_TYPES = (
    ("g6-nanode-1", "Nanode 1GB", "nanode", 1, 1, 25, 1000, 1000, 5, 2),
    ("g6-standard-1", "Linode 2GB", "standard", 1, 2, 50, 2000, 2000, 12, 2.5),
    ("g6-standard-2", "Linode 4GB", "standard", 2, 4, 80, 4000, 4000, 24, 5),
    ("g6-standard-4", "Linode 8GB", "standard", 4, 8, 160, 5000, 5000, 48, 10),
    ("g6-standard-6", "Linode 16GB", "standard", 6, 16, 320, 8000, 6000, 96, 20),
    ("g6-standard-8", "Linode 32GB", "standard", 8, 32, 640, 16000, 7000, 192, 40),
    ("g6-standard-16", "Linode 64GB", "standard", 16, 64, 1280, 20000, 9000, 384, 80),
    ("g6-standard-20", "Linode 96GB", "standard", 20, 96, 1920, 20000, 10000, 576, 120),
    ("g6-standard-24", "Linode 128GB", "standard", 24, 128, 2560, 20000, 11000, 768, 160),
    ("g6-standard-32", "Linode 192GB", "standard", 32, 192, 3840, 20000, 12000, 1152, 240),
    ("g7-highmem-1", "Linode 24GB", "highmem", 2, 24, 20, 5000, 5000, 60, 5),
    ("g7-highmem-2", "Linode 48GB", "highmem", 2, 48, 40, 6000, 6000, 120, 10),
    ("g7-highmem-4", "Linode 90GB", "highmem", 4, 90, 90, 7000, 7000, 240, 20),
    ("g7-highmem-8", "Linode 150GB", "highmem", 8, 150, 200, 8000, 8000, 480, 40),
    ("g7-highmem-16", "Linode 300GB", "highmem", 16, 300, 340, 9000, 9000, 960, 80),
    ("g6-dedicated-2", "Dedicated 4GB", "dedicated", 2, 4, 80, 4000, 4000, 36, 5),
    ("g6-dedicated-4", "Dedicated 8GB", "dedicated", 4, 8, 160, 5000, 5000, 72, 10),
    ("g6-dedicated-8", "Dedicated 16GB", "dedicated", 8, 16, 320, 6000, 6000, 144, 20),
    ("g6-dedicated-16", "Dedicated 32GB", "dedicated", 16, 32, 640, 7000, 7000, 288, 40),
    ("g6-dedicated-32", "Dedicated 64GB", "dedicated", 32, 64, 1280, 8000, 8000, 576, 80),
    ("g6-dedicated-48", "Dedicated 96GB", "dedicated", 48, 96, 1920, 9000, 9000, 864, 120),
    ("g6-dedicated-50", "Dedicated 128GB", "dedicated", 50, 128, 2500, 10000, 10000, 1152, 160),
    ("g6-dedicated-56", "Dedicated 256GB", "dedicated", 56, 256, 5000, 11000, 11000, 2304, 200),
    ("g6-dedicated-64", "Dedicated 512GB", "dedicated", 64, 512, 7200, 12000, 12000, 4608, 240),
    ("g7-premium-2", "Premium 4GB", "premium", 2, 4, 80, 4000, 4000, 43, 5),
    ("g1-accelerated-netint-vpu-t1u1-s", "NETINT Quadra T1U x1 Small", "accelerated", 8, 16, 200, 0, 16000, 280, 20),
    ("g5-standard-1", "Linode 2GB", "standard", 1, 2, 30, 2000, 2000, 10, 2.5),
)
_SUCCESSORS = {"g5-standard-1": "g6-standard-1"}
# Classes that only some regions have, and not always: the rest is available everywhere.
_REGIONS_OF_CLASS = {
    "premium": ("us-iad", "us-ord", "us-sea", "us-mia", "us-lax", "fr-par", "nl-ams", "gb-lon", "de-fra-2", "sg-sin-2"),
    "accelerated": ("us-lax", "us-mia"),
}
_HOSTS, _FEW_HOSTS = 8, {"no-osl-1": 3}  # physical hosts of a region; Linode does not tell
# NodeBalancers: (id, label, $ a month), and by type: connections at once, nodes of a config.
_BALANCERS = (("nodebalancer", "NodeBalancer", 10), ("nodebalancer-pr100", "NodeBalancer Premium", 150))
BALANCER_LIMITS = {"common": (10_000, 1_000), "premium": (100_000, 2_000)}

_DEARER = {"id-cgk": 1.2, "br-gru": 1.4}  # regions with prices of their own
_HOURS = 2 / 3 * 1000  # a month's price is that of so many hours

# Images: (id, label, vendor, has cloud-init). What the lab's hosts can be made of; the rest is there without hosts.
_IMAGES = (("linode/debian13", "Debian 13", "Debian", True), ("private/1", "c50k-golden", None, True))
_IMAGES_WITHOUT_HOSTS = (
    ("linode/debian11", "Debian 11", "Debian", True),
    ("linode/debian12", "Debian 12", "Debian", True),
    ("linode/ubuntu22.04", "Ubuntu 22.04 LTS", "Ubuntu", True),
    ("linode/ubuntu24.04", "Ubuntu 24.04 LTS", "Ubuntu", True),
    ("linode/almalinux9", "AlmaLinux 9", "AlmaLinux", True),
    ("linode/rocky9", "Rocky Linux 9", "Rocky", True),
    ("linode/slackware15.0", "Slackware 15.0", "Slackware", False),
)


# Kernels: (id, label, version). A host of the lab boots the machine's own.
GRUB = "linode/grub2"
_KERNELS = (
    (GRUB, "GRUB 2", "2"),
    ("linode/latest-64bit", "Latest 64 bit", "latest"),
    ("linode/latest-32bit", "Latest 32 bit", "latest"),
    ("linode/direct-disk", "Direct Disk", "none"),
)


def _region(region_id: str, city: str, country: str, vpcs: bool, hosts: bool) -> Json:
    capabilities = (*_EVERYWHERE, *(_VPCS if vpcs else ()))
    if not hosts:
        capabilities = (*capabilities, *_WITHOUT_HOSTS, *(_VPCS_WITHOUT_HOSTS if vpcs else ()))
    return {
        "id": region_id,
        "label": city,
        "country": country,
        "capabilities": list(capabilities),
        "status": "ok",
        "monitors": {"alerts": [], "metrics": []},
        "resolvers": {"ipv4": "", "ipv6": ""},
        "placement_group_limits": {
            "maximum_pgs_per_customer": 100,
            "maximum_linodes_per_pg": 5,
            "maximum_linodes_per_flexible_pg": 5,
        },
        "site_type": "core",
    }


def _price(monthly: float, digits: int = 4) -> Json:
    return {"hourly": round(monthly / _HOURS, digits), "monthly": monthly}


def _prices(monthly: float) -> Json:
    dearer = [{"id": region, **_price(round(monthly * factor, 2))} for region, factor in _DEARER.items()]
    return {"price": _price(monthly), "region_prices": dearer}


def _type(row: tuple[str, str, str, int, int, int, int, int, float, float]) -> Json:
    type_id, label, family, vcpus, memory, disk, transfer, out, price, backup = row
    return {
        "id": type_id,
        "label": label,
        "class": family,
        "vcpus": vcpus,
        "memory": memory * 1024,
        "disk": disk * 1024,
        "transfer": transfer,
        "network_out": out,
        "gpus": 0,
        "accelerated_devices": 1 if family == "accelerated" else 0,
        "successor": _SUCCESSORS.get(type_id),
        "addons": {"backups": _prices(backup)},
        **_prices(price),
    }


def _image(image_id: str, label: str, vendor: str | None, cloud_init: bool) -> Json:
    public = image_id.startswith("linode/")
    return {
        "id": image_id,
        "label": label,
        "vendor": vendor,
        "description": "" if public else "The stack's packages installed, their services disabled",
        "is_public": public,
        "is_shared": False,
        "image_sharing": None,
        "created_by": "linode" if public else "lab",
        "type": "manual",
        "status": "available",
        "deprecated": False,
        "size": 1500,
        "total_size": 1500,
        "capabilities": ["cloud-init"] if cloud_init else [],
        "regions": [],
        "tags": [],
        "eol": None,
        "expiry": None,
        "created": "2025-08-09T00:00:00",
        "updated": "2025-08-09T00:00:00",
    }


def _kernel(kernel_id: str, label: str, version: str) -> Json:
    return {
        "id": kernel_id,
        "label": label,
        "version": version,
        "architecture": "x86_64",
        "kvm": True,
        "pvops": True,
        "deprecated": False,
        "built": "2025-05-01T00:00:00",
    }


def _service_type(type_id: str, label: str, monthly: float, dearer: dict[str, float]) -> Json:
    """Return a row of a price list that is not of Linodes."""
    prices = [{"id": region, **_price(price, 5)} for region, price in dearer.items()]
    return {"id": type_id, "label": label, "price": _price(monthly, 5), "region_prices": prices, "transfer": 0}


def regions(hosts: bool) -> dict[str, Json]:
    """Return the regions by id, with what they offer: without hosts, also what the lab's hosts cannot do."""
    return {row[0]: _region(*row, hosts) for row in _REGIONS}


def physical_hosts(region_id: str) -> list[str]:
    """Return the ids of the machines that a region's Linodes run on; the lab's own, but as bounded as anybody's."""
    count = _FEW_HOSTS.get(region_id, _HOSTS)
    return [hashlib.sha1(f"{region_id} {number}".encode()).hexdigest() for number in range(count)]


def images(hosts: bool) -> dict[str, Json]:
    """Return the predefined images by id: without hosts, also those the lab cannot boot."""
    rows = _IMAGES if hosts else (*_IMAGES_WITHOUT_HOSTS, *_IMAGES)
    return {row[0]: _image(*row) for row in rows}


def kernels(hosts: bool) -> dict[str, Json]:
    """Return the kernels by id: with hosts, the one they run."""
    rows = ((GRUB, "GRUB 2", platform.release()),) if hosts else _KERNELS
    return {row[0]: _kernel(*row) for row in rows}


def datacenter(region: str) -> int:
    """Return a region's number, from 1."""
    return list(REGIONS).index(region) + 1


def available(type_id: str, region: str) -> bool:
    """Tell whether a region has Linodes of a type to give."""
    return region in _REGIONS_OF_CLASS.get(TYPES[type_id]["class"], REGIONS)


def limited_types() -> list[str]:
    """Return the types that not every region has."""
    return [type_id for type_id, row in TYPES.items() if row["class"] in _REGIONS_OF_CLASS]


REGIONS: dict[str, Json] = regions(hosts=True)
TYPES: dict[str, Json] = {row[0]: _type(row) for row in _TYPES}
VOLUME_TYPES = [_service_type("volume", "Storage Volume", 0.1, {"id-cgk": 0.12, "br-gru": 0.14})]
BALANCER_TYPES = [
    _service_type(type_id, label, price, {region: price * factor for region, factor in _DEARER.items()})
    for type_id, label, price in _BALANCERS
]
RESERVED_IP_TYPES = [_service_type("reserved-ipv4", "Reserved IPv4", 2, {})]
TRANSFER_PRICES = [
    {**_service_type("network_transfer", "Network Transfer", 0, {}), "price": {"hourly": 0.005, "monthly": None}},
    {
        **_service_type("distributed_network_transfer", "Distributed Network Transfer", 0, {}),
        "price": {"hourly": 0.01, "monthly": None},
    },
]
