# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter c50k.stack.capacity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.module_utils.capacity import CapacityError, plan


def capacity(spec: object) -> dict[str, Any]:
    """The plan of the fleet that *spec* describes; see capacity.yml for both shapes."""
    try:
        return plan(spec)
    except CapacityError as error:
        raise AnsibleFilterError(f"c50k.stack.capacity: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"capacity": capacity}
