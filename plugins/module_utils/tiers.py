# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tiers know of each other: their hosts, their addresses, and what their hosts can carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.c50k.stack.plugins.module_utils.fleet import TIERS, FleetError, tier_cidr


def tiers(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    fleet_tiers: Mapping[str, Mapping[str, Any]] | None = None,
    fleet_subnet: str | None = None,
    leaving: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """Return for each tier ``hosts`` (``{name, address}``, by name), ``cidrs``, ``max`` and ``capacity`` (facts).

    ``cidrs`` is the tier's part of the fleet's subnet, which does not change with the number of hosts; without a subnet
    it is the addresses there are. ``max`` is that of ``fleet_tiers``, or None. Hosts that are ``leaving`` do not count.

    :raises FleetError: a host has no ``stack_address``.
    """
    found = {}
    for tier in TIERS:
        names = sorted(set(groups.get(tier, [])) - set(leaving))
        hosts = [{"name": name, "address": _address(hostvars[name], name)} for name in names]
        found[tier] = {
            "hosts": hosts,
            "cidrs": [tier_cidr(fleet_subnet, tier)] if fleet_subnet else [f"{host['address']}/32" for host in hosts],
            "max": (fleet_tiers or {}).get(tier, {}).get("max"),
            "capacity": [hostvars[host["name"]]["ansible_facts"].get("capacity") for host in hosts],
        }
    return found


def _address(variables: Mapping[str, Any], name: str) -> str:
    address = variables.get("stack_address")
    if not address:
        raise FleetError(
            f"{name} has no stack_address, the address by which the other tiers reach it: set it for the host in the "
            "inventory, or in `compose` of the inventory plugin (stack_address: linode_vpc_ipv4)."
        )
    return str(address)
