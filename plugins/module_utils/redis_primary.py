# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Redis is primary, read from what the Sentinels and the servers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def primary(members: Sequence[Mapping[str, str]], said: Mapping[str, Sequence[str]]) -> str:
    """Return the address of the primary: by the latest failover, else by its replicas, else the first member's.

    :param members: ``name`` and ``address`` of each.
    :param said: for each member that answers lines of ``sentinel EPOCH ADDRESS``, ``master REPLICAS`` or
        ``slave REPLICAS ADDRESS``.
    """
    best, found = (0, 0), members[0]["address"]
    for member in members:
        for line in said.get(member["name"], ()):
            kind, number, *address = line.split()
            weight = {"sentinel": 3, "slave": 2, "master": 2 if int(number) else 1}[kind], int(number)
            if weight > best:
                best, found = weight, address[0] if address else member["address"]
    return found
