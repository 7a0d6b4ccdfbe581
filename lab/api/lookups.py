# SPDX-License-Identifier: GPL-3.0-or-later
"""What does not change: regions, what is available in them, types, kernels."""

from __future__ import annotations

from typing import Any

from lab import catalog
from lab.api.listing import as_is, page
from lab.api.wire import Call, route
from lab.models import Json

REGION_KEYS = ("id", "label", "country", "capabilities", "status", "site_type")
TYPE_KEYS = ("class", "disk", "gpus", "label", "memory", "network_out", "transfer", "vcpus")
KERNEL_KEYS = ("id", "label", "architecture", "deprecated", "kvm", "pvops", "version")
AVAILABILITY_KEYS = ("region", "plan", "available")
VPC_AVAILABILITY_KEYS = ("region", "available")


async def list_regions(call: Call) -> Json:
    return page(call, list(call.lab.regions.values()), as_is, REGION_KEYS)


async def get_region(call: Call) -> Json:
    return call.entry(call.lab.regions)


async def list_availability(call: Call) -> Json:
    """List which of the types that not every region has are available where."""
    rows = [row for region in call.lab.regions for row in _availability(region)]
    return page(call, rows, as_is, AVAILABILITY_KEYS)


async def get_availability(call: Call) -> Any:
    """List the same for one region; there are no pages."""
    return _availability(call.entry(call.lab.regions)["id"])


async def list_vpc_availability(call: Call) -> Json:
    return page(call, list(call.lab.regions.values()), _vpc_availability, VPC_AVAILABILITY_KEYS)


async def get_vpc_availability(call: Call) -> Json:
    return _vpc_availability(call.entry(call.lab.regions))


async def list_types(call: Call) -> Json:
    return page(call, list(catalog.TYPES.values()), as_is, TYPE_KEYS)


async def get_type(call: Call) -> Json:
    return call.entry(catalog.TYPES)


async def list_kernels(call: Call) -> Json:
    return page(call, list(call.lab.kernels.values()), as_is, KERNEL_KEYS)


async def get_kernel(call: Call) -> Json:
    return call.entry(call.lab.kernels)


def _availability(region: str) -> list[Json]:
    return [
        {"region": region, "plan": type_id, "available": catalog.available(type_id, region)}
        for type_id in catalog.limited_types()
    ]


def _vpc_availability(region: Json) -> Json:
    offered = region["capabilities"]
    return {
        "region": region["id"],
        "available": "VPCs" in offered,
        "available_ipv6_prefix_lengths": [52] if "VPC IPv6 Stack" in offered else [],
    }


ROUTES = [
    route("GET", "/regions", list_regions, "list", anyone=True),
    route("GET", "/regions/availability", list_availability, "list", anyone=True),
    route("GET", "/regions/vpc-availability", list_vpc_availability, "list"),
    route("GET", "/regions/{id}", get_region, anyone=True),
    route("GET", "/regions/{id}/availability", get_availability, anyone=True),
    route("GET", "/regions/{id}/vpc-availability", get_vpc_availability),
    route("GET", "/linode/types", list_types, "list", anyone=True),
    route("GET", "/linode/types/{id}", get_type, anyone=True),
    route("GET", "/linode/kernels", list_kernels, "list", anyone=True),
    route("GET", "/linode/kernels/{id:path}", get_kernel, anyone=True),
]
