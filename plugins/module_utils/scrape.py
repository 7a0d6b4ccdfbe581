# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Prometheus asks, from the tiers' hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def scrape_targets(
    tiers: Mapping[str, Mapping[str, Any]], jobs: Iterable[Mapping[str, Any]], clusters: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The targets as Prometheus reads them from a file: ``targets``, and ``labels``, of which ``instance`` is the host.

    :param tiers: for each tier ``hosts`` (``name`` and ``address``).
    :param jobs: ``job``, the ``tier`` whose hosts have it (each tier, where none is said) and its ``port``; where it is
        another than plain ``/metrics`` also ``scheme``, ``path`` and ``target``, what an exporter is to ask, with
        ``{address}`` for the host's. Those that say ``on: false`` are left out.
    :param clusters: the PostgreSQL cluster of a host, for those that have one.
    """
    found = []
    for job in jobs:
        if not job.get("on", True):
            continue
        for tier in [job["tier"]] if "tier" in job else tiers:
            for host in tiers[tier]["hosts"]:
                labels = {"job": job["job"], "instance": host["name"], "tier": tier}
                if host["name"] in clusters:
                    labels["cluster"] = clusters[host["name"]]
                for key, label in (
                    ("scheme", "__scheme__"),
                    ("path", "__metrics_path__"),
                    ("target", "__param_target"),
                ):
                    if key in job:
                        labels[label] = str(job[key]).format(address=host["address"])
                found.append({"targets": [f"{host['address']}:{job['port']}"], "labels": labels})
    return found
