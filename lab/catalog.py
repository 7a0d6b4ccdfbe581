# SPDX-License-Identifier: GPL-3.0-or-later
"""What Linode sells, and where: regions, types, images. Ids, sizes and prices are the real ones of 2026."""

from __future__ import annotations

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
)
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


def _region(region_id: str, city: str, country: str, vpcs: bool) -> Json:
    return {
        "id": region_id,
        "label": city,
        "country": country,
        "capabilities": [*_EVERYWHERE, *(("VPCs", "Custom VPC IPv4 Ranges") if vpcs else ())],
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


def _price(monthly: float) -> Json:
    return {"hourly": round(monthly / _HOURS, 4), "monthly": monthly}


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
        "accelerated_devices": 0,
        "successor": None,
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


REGIONS: dict[str, Json] = {row[0]: _region(*row) for row in _REGIONS}
TYPES: dict[str, Json] = {row[0]: _type(row) for row in _TYPES}


def images(hosts: bool) -> dict[str, Json]:
    """Return the images by id: without hosts, also those the lab cannot boot."""
    rows = _IMAGES if hosts else (*_IMAGES_WITHOUT_HOSTS, *_IMAGES)
    return {row[0]: _image(*row) for row in rows}
