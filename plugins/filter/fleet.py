# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters c50k.stack.beyond_count, fleet_firewalls, fleet_instances, fleet_problems, fleet_removals, front_cidr,
front_nodes and tier_cidr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.module_utils import fleet
from ansible_collections.c50k.stack.plugins.module_utils.firewalls import fleet_firewalls

# Those whose input is not the fleet's variables.
OTHER_INPUT = (fleet.front_cidr, fleet.front_nodes, fleet.tier_cidr)


def taught(function: Callable[..., Any]) -> Callable[..., Any]:
    """*function* with its FleetError as the error that Ansible shows for a filter."""

    @wraps(function)
    def filtered(value: Any, *arguments: Any) -> Any:
        name = f"c50k.stack.{function.__name__}"
        if function not in OTHER_INPUT and not isinstance(value, Mapping):
            raise AnsibleFilterError(f"{name}: the input must be a dictionary of the fleet's variables, not {value!r}.")
        try:
            return function(value, *arguments)
        except fleet.FleetError as error:
            raise AnsibleFilterError(f"{name}: {error}") from error

    return filtered


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            function.__name__: taught(function)
            for function in (
                fleet.beyond_count,
                fleet_firewalls,
                fleet.fleet_instances,
                fleet.fleet_problems,
                fleet.fleet_removals,
                fleet.front_cidr,
                fleet.front_nodes,
                fleet.tier_cidr,
            )
        }
