# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter c50k.stack.redis_primary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.c50k.stack.plugins.module_utils.redis_primary import primary

DOCUMENTATION = """
name: redis_primary
short_description: Tell which Redis is primary from what the Sentinels and the servers say
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - The Sentinel that knows the latest failover is believed. Without one, it is the server that has replicas, or any
    there is; where nothing runs yet, the first member.
positional: hostvars
options:
  _input:
    description: The members, each with C(name) and C(address).
    type: list
    elements: dict
    required: true
  hostvars:
    description: Of each member C(redis_state), as the role C(redis) reads it.
    type: dict
    required: true
"""

EXAMPLES = """
primary: "{{ redis_members | c50k.stack.redis_primary(hostvars) }}"
"""

RETURN = """
_value:
  description: The address of the primary.
  type: str
"""


def redis_primary(members: Sequence[Mapping[str, str]], hostvars: Mapping[str, Mapping[str, Any]]) -> str:
    """Return who is primary; see DOCUMENTATION."""
    return primary(members, {member["name"]: hostvars[member["name"]].get("redis_state", []) for member in members})


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return filter names and functions."""
        return {"redis_primary": redis_primary}
