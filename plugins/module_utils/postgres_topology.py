# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is primary, read from what the members of a PostgreSQL cluster say of themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


class TopologyError(Exception):
    """The members contradict each other; the text names them and says what to do."""


def topology(states: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return ``{"primary": host, "replicas": [host, …]}`` for one cluster.

    :param states: for each member ``{"initialised": bool, "in_recovery": bool, "system_identifier": str}``.
    :raises TopologyError: two primaries, replicas without their primary, or data of different clusters.
    """
    members = sorted(states, key=_by_number)
    initialised = [host for host in members if states[host]["initialised"]]
    identifiers = {host: states[host]["system_identifier"] for host in initialised}
    if len(set(identifiers.values())) > 1:
        listed = ", ".join(f"{host}: {identifier}" for host, identifier in identifiers.items())
        raise TopologyError(
            f"These hosts hold data of different clusters (system identifiers {listed}). Nothing is overwritten: "
            "set `postgres_cluster` apart for them, or remove the data directory of the one that does not belong."
        )
    primaries = [host for host in initialised if not states[host]["in_recovery"]]
    if len(primaries) > 1:
        raise TopologyError(
            f"{' and '.join(primaries)} are both primaries of one cluster. Decide which is to lose what the other has "
            "not got, and make it a replica: rejoin.yml -e rejoin=HOST."
        )
    if initialised and not primaries:
        raise TopologyError(
            f"Of this cluster only replicas are left ({', '.join(initialised)}): its primary is not in the inventory "
            "or does not answer. Bring it back, or, with manual failover, run promote.yml; no other is initialised "
            "beside them."
        )
    primary = primaries[0] if primaries else members[0]
    return {"primary": primary, "replicas": [host for host in members if host != primary]}


def _by_number(host: str) -> tuple[str, int]:
    """Order ``demo-postgres-10`` after ``demo-postgres-9``."""
    number = re.search(r"(\d+)$", host)
    return (host[: number.start()], int(number[0])) if number else (host, 0)
