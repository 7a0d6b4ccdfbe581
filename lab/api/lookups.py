# SPDX-License-Identifier: GPL-3.0-or-later
"""What does not change: regions, types, images, and who asks."""

from __future__ import annotations

from lab import catalog
from lab.api.listing import page
from lab.api.wire import Call, not_found, route
from lab.models import Json

REGION_KEYS = ("id", "label", "country", "capabilities", "status", "site_type")
TYPE_KEYS = ("class", "disk", "gpus", "label", "memory", "network_out", "transfer", "vcpus")
IMAGE_KEYS = ("id", "created_by", "deprecated", "is_public", "label", "size", "status", "tags", "type", "vendor")
VPC_AVAILABILITY_KEYS = ("region", "available")
USERNAME = "lab"


async def list_regions(call: Call) -> Json:
    return page(call, list(catalog.REGIONS.values()), _as_is, REGION_KEYS)


async def get_region(call: Call) -> Json:
    return _one(call, catalog.REGIONS)


async def list_vpc_availability(call: Call) -> Json:
    return page(call, list(catalog.REGIONS.values()), _vpc_availability, VPC_AVAILABILITY_KEYS)


async def get_vpc_availability(call: Call) -> Json:
    return _vpc_availability(_one(call, catalog.REGIONS))


async def list_types(call: Call) -> Json:
    return page(call, list(catalog.TYPES.values()), _as_is, TYPE_KEYS)


async def get_type(call: Call) -> Json:
    return _one(call, catalog.TYPES)


async def list_images(call: Call) -> Json:
    return page(call, list(call.lab.images.values()), _as_is, IMAGE_KEYS)


async def get_image(call: Call) -> Json:
    return _one(call, call.lab.images)


async def get_profile(call: Call) -> Json:
    return {
        "uid": 1,
        "username": USERNAME,
        "email": "lab@example.com",
        "timezone": "UTC",
        "email_notifications": False,
        "restricted": False,
        "two_factor_auth": False,
        "ip_whitelist_enabled": False,
        "lish_auth_method": "disabled",
        "authentication_type": "password",
        "authorized_keys": [],
        "verified_phone_number": None,
        "referrals": {"code": "", "url": "", "total": 0, "completed": 0, "pending": 0, "credit": 0},
    }


def _one(call: Call, items: dict[str, Json]) -> Json:
    found = items.get(call.request.path_params["id"])
    if found is None:
        raise not_found()
    return found


def _as_is(item: Json) -> Json:
    return item


def _vpc_availability(region: Json) -> Json:
    return {
        "region": region["id"],
        "available": "VPCs" in region["capabilities"],
        "available_ipv6_prefix_lengths": [],
    }


ROUTES = [
    route("GET", "/regions", list_regions, "list", anyone=True),
    route("GET", "/regions/vpc-availability", list_vpc_availability, "list"),
    route("GET", "/regions/{id}", get_region, anyone=True),
    route("GET", "/regions/{id}/vpc-availability", get_vpc_availability),
    route("GET", "/linode/types", list_types, "list", anyone=True),
    route("GET", "/linode/types/{id}", get_type, anyone=True),
    route("GET", "/images", list_images, "images"),
    route("GET", "/images/{id:path}", get_image),
    route("GET", "/profile", get_profile),
]
