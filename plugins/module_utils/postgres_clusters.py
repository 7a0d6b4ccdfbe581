# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The PostgreSQL clusters of a fleet: their shards, and how a service reaches them.

A shard map is ``{cluster: ranges}``, such as ``{"main": "0-99,128-255", "two": "100-127", "new": ""}``. Its order gives
each cluster its ports on the app hosts, so that a cluster added at the end moves no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

SHARDS = 256
EXAMPLE = '{main: "0-127", two: "128-255"}'
NAME = re.compile(r"[a-z0-9_]{1,48}")
RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
# On the app hosts, where failover is automatic: the first cluster's primary, and on the next port its replicas.
FIRST_PORT = 5000
TLS = "connect_timeout=2&sslmode=verify-full&sslrootcert=/etc/ssl/fleet/ca.crt"


def parse_shards(text: object) -> set[int]:
    """The shards of ``0-127,130``, none of an empty text; ValueError where it is no such text."""
    if not isinstance(text, str):
        raise ValueError("it must be a text")
    shards: set[int] = set()
    for part in text.split(",") if text else []:
        found = RANGE.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < SHARDS:
            raise ValueError(f"{part!r} is no shard and no range of them from 0 to {SHARDS - 1}")
        shards.update(range(first, last + 1))
    return shards


def ranges(shards: Iterable[int]) -> str:
    """``0-127,130`` of its shards."""
    spans: list[list[int]] = []
    for shard in sorted(shards):
        if spans and spans[-1][1] == shard - 1:
            spans[-1][1] = shard
        else:
            spans.append([shard, shard])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def shard_map_problems(shard_map: object, carried: Sequence[str], complete: bool = True) -> list[str]:
    """What is wrong with ``shard_map``, None where it is not given, where hosts carry the clusters ``carried``.

    One text for each problem. Not ``complete`` where hosts are yet to be made, which may carry further clusters.
    """
    return list(_problems(shard_map, carried, complete))


def _problems(shard_map: object, carried: Sequence[str], complete: bool) -> Iterator[str]:
    if shard_map is None:
        if len(carried) > 1:
            example = ", ".join([f'{carried[0]}: "0-{SHARDS - 1}"', *(f'{name}: ""' for name in carried[1:])])
            yield (
                f"The postgres hosts carry the clusters {', '.join(carried)} (postgres_cluster), and shard_map is not "
                f"given. Say which shards each has, such as {{{example}}}, or give all hosts the same cluster."
            )
        return
    if not isinstance(shard_map, Mapping) or not shard_map:
        yield f"shard_map is {shard_map!r}: it must have the shards of each PostgreSQL cluster, such as {EXAMPLE}."
        return
    given: dict[str, set[int]] = {}
    malformed = False
    for name, text in shard_map.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield f"shard_map names the cluster {name!r}: a name is a text of 1 to 48 of a-z, 0-9 and _."
        try:
            given[name] = parse_shards(text)
        except ValueError as error:
            malformed = True
            yield (
                f"shard_map.{name} is {text!r}: {error}. Write ranges in quotes, such as '0-127,130', or '' for a "
                "cluster that has none yet."
            )
    for (one, of_one), (other, of_other) in combinations(given.items(), 2):
        if of_one & of_other:
            both = ranges(of_one & of_other)
            yield f"shard_map gives {both} to both {one} and {other}: each shard has one cluster."
    missing = set(range(SHARDS)).difference(*given.values())
    if missing and not malformed:
        yield f"shard_map gives {ranges(missing)} to no cluster: each shard from 0 to {SHARDS - 1} has one."
    for name in carried:
        if name not in shard_map:
            yield (
                f"Hosts carry the PostgreSQL cluster {name} (postgres_cluster), which shard_map does not name: give it "
                f"shards, or '' for none yet."
            )
    for name in shard_map if complete else ():
        if name not in carried:
            yield (
                f"shard_map names the cluster {name}, which no postgres host carries: say postgres_cluster: {name} in "
                "the host_vars of its hosts, or take it out of the map."
            )


def of_cluster(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], cluster: str) -> list[str]:
    """Those of ``hosts`` that carry ``cluster``, in their order."""
    return [host for host in hosts if hostvars[host].get("postgres_cluster", "main") == cluster]


def postgres_clusters(
    members: Sequence[Mapping[str, str]], hostvars: Mapping[str, Mapping[str, Any]], shard_map: Mapping[str, str] | None
) -> list[dict[str, Any]]:
    """The clusters of ``members`` (each ``{name, address}``): ``name``, ``members``, and ``port`` on the app hosts.

    In the order of the map; without a map it is the one there is, or none where there are no members.
    """
    of: dict[str, list[Mapping[str, str]]] = {name: [] for name in shard_map or ()}
    for member in members:
        of.setdefault(hostvars[member["name"]].get("postgres_cluster", "main"), []).append(member)
    return [{"name": name, "port": FIRST_PORT + 2 * n, "members": found} for n, (name, found) in enumerate(of.items())]


def database_addresses(
    clusters: Sequence[Mapping[str, Any]], failover: str, port: int, pooled: bool, shard_map: Mapping[str, str] | None
) -> dict[str, dict[str, str]]:
    """Of each cluster of ``postgres_clusters`` the SQLAlchemy URLs ``write`` and ``read``; with a map its ``shards``.

    ``port`` is the members' own. ``pooled``: it is that of a pool, which takes no options of a session.
    """
    address = _through_proxy if failover == "automatic" else _to_members
    found = {cluster["name"]: address(cluster, port, TLS + ("&options=" if pooled else "")) for cluster in clusters}
    return {name: urls | ({"shards": shard_map[name]} if shard_map else {}) for name, urls in found.items()}


def _to_members(cluster: Mapping[str, Any], port: int, options: str) -> dict[str, str]:
    """Every member is asked what it is."""
    members = ",".join(f"{member['address']}:{port}" for member in cluster["members"])
    url = f"postgresql+psycopg://app@{members}/app?{options}"
    return {
        "write": f"{url}&target_session_attrs=read-write",
        "read": f"{url}&target_session_attrs=prefer-standby&load_balance_hosts=random",
    }


def _through_proxy(cluster: Mapping[str, Any], _port: int, options: str) -> dict[str, str]:
    """The proxy on the app host knows who is primary; the member proves that it is of the cluster by its name."""
    host = f"postgres-{cluster['name'].replace('_', '-')}"
    write, read = cluster["port"], cluster["port"] + 1
    return {
        "write": f"postgresql+psycopg://app@{host}:{write}/app?hostaddr=127.0.0.1&{options}",
        "read": f"postgresql+psycopg://app@{host}:{read}/app?hostaddr=127.0.0.1&{options}",
    }
