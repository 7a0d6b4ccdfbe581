# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter c50k.stack.tiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.module_utils import tiers as implementation
from ansible_collections.c50k.stack.plugins.module_utils.fleet import FleetError

DOCUMENTATION = """
name: tiers
short_description: Tell each tier's hosts, networks and capacity
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - Reads the groups that are tiers, and of each of their hosts C(stack_address) and the C(capacity) facts.
positional: hostvars, fleet_tiers, fleet_subnet
options:
  _input:
    description: The C(groups) of the inventory.
    type: dict
    required: true
  hostvars:
    description: The C(hostvars) of the inventory.
    type: dict
    required: true
  fleet_tiers:
    description: As in the role C(fleet), for the ceilings.
    type: dict
  fleet_subnet:
    description: As in the role C(fleet), for the networks. Without it, they are the addresses of the hosts there are.
    type: str
"""

EXAMPLES = """
# {"redis": {"hosts": [{"name": "demo-redis-1", "address": "10.0.4.10"}], "cidrs": ["10.0.4.0/24"], "max": 1, ...}, ...}
stack_tiers: "{{ groups | c50k.stack.tiers(hostvars, fleet_tiers, fleet_subnet) }}"
"""

RETURN = """
_value:
  description: For each tier its C(hosts), C(cidrs), C(max) and C(capacity).
  type: dict
"""


def tiers(*arguments: Any) -> dict[str, dict[str, Any]]:
    """Return what the tiers know of each other; see DOCUMENTATION."""
    try:
        return implementation.tiers(*arguments)
    except FleetError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return filter names and functions."""
        return {"tiers": tiers}
