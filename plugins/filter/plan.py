# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter c50k.stack.fleet_plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.module_utils.capacity import CapacityError
from ansible_collections.c50k.stack.plugins.module_utils.fleet import FleetError
from ansible_collections.c50k.stack.plugins.module_utils.plan import capacity_lines, fleet_plan_lines
from ansible_collections.c50k.stack.plugins.module_utils.plan import fleet_plan as build


def fleet_plan(fleet: Mapping[str, Any], account: Mapping[str, Any], target: int = 50_000) -> dict[str, Any]:
    try:
        plan = build(fleet, account, target)
    except (CapacityError, FleetError) as error:
        raise AnsibleFilterError(f"c50k.stack.fleet_plan: {error}") from error
    return {**plan, "lines": fleet_plan_lines(plan, account["vpc"]), "capacity": capacity_lines(plan)}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_plan": fleet_plan}
