# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter c50k.stack.postgres_topology."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.module_utils.postgres_topology import TopologyError, topology

DOCUMENTATION = """
name: postgres_topology
short_description: Tell the primary of each PostgreSQL cluster from what its members say
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - A cluster nobody has initialised gets its lowest-numbered member as primary.
  - Otherwise the one member that is not in recovery is primary. Contradictions stop the run and name the hosts.
positional: hostvars
options:
  _input:
    description: The members, of one cluster or several.
    type: list
    elements: str
    required: true
  hostvars:
    description: Of each member C(postgres_state), as the entry point C(discover) of the role C(postgres) sets it, and
      C(postgres_cluster), C(main) unless given.
    type: dict
    required: true
"""

EXAMPLES = """
# {"main": {"primary": "demo-postgres-1", "replicas": ["demo-postgres-2"]}}
clusters: "{{ groups['postgres'] | c50k.stack.postgres_topology(hostvars) }}"
"""

RETURN = """
_value:
  description: For each cluster C(primary), a host, and C(replicas), a list of hosts.
  type: dict
"""


def postgres_topology(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return who is primary; see DOCUMENTATION."""
    clusters: dict[str, dict[str, Any]] = {}
    for host in hosts:
        cluster = clusters.setdefault(hostvars[host].get("postgres_cluster", "main"), {})
        cluster[host] = hostvars[host]["postgres_state"]
    try:
        return {name: topology(states) for name, states in clusters.items()}
    except TopologyError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return filter names and functions."""
        return {"postgres_topology": postgres_topology}
