# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters c50k.stack.database_addresses, of_cluster, postgres_clusters and shard_map_problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.c50k.stack.plugins.module_utils import postgres_clusters


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            function.__name__: function
            for function in (
                postgres_clusters.database_addresses,
                postgres_clusters.of_cluster,
                postgres_clusters.postgres_clusters,
                postgres_clusters.shard_map_problems,
            )
        }
