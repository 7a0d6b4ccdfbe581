"""Virtual shards: each item is in one of them by its id, and each of them is whole on one cluster of PostgreSQL.

Data: for each shard the cluster that has it, by the clusters' own word, and how often it changed hands. Flow: the table
`shards` of each cluster -> the map -> the way of each statement that names its key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

SHARDS = 256  # for good: ids carry their shard


class NoShardKey(ValueError):
    """A statement names no key, and so could be meant for any cluster."""


class NoOwner(Exception):
    """No cluster says that it has the shard, or two say so with equal right."""


def shard_of(key: object) -> int:
    """The shard of an id, or of a name by its hash; raises NoShardKey for anything else."""
    if isinstance(key, int) and not isinstance(key, bool) and key > 0:
        return key % SHARDS
    if isinstance(key, str) and key:
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) % SHARDS
    raise NoShardKey(f"{key!r} is no shard key: it must be the id of an item, or a name that is not empty")


def shard_of_all(ids: Iterable[int]) -> int:
    """The one shard of all these ids; raises NoShardKey where they are of several, or none."""
    shards = {shard_of(one) for one in ids}
    if len(shards) != 1:
        raise NoShardKey(f"the ids are of {len(shards)} shards: a statement reaches one of them")
    return shards.pop()


def parse_shards(text: str) -> frozenset[int]:
    """The shards of a list such as "0-99,128"; raises ValueError."""
    found: set[int] = set()
    for part in text.split(",") if text.strip() else []:
        numbers = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part, re.ASCII)
        if not numbers:
            raise ValueError(f"{part!r} is no shard and no range of shards, such as 128-255")
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if not first <= last < SHARDS:
            raise ValueError(f"{part!r} is no range from 0 to {SHARDS - 1}")
        if found & set(range(first, last + 1)):
            raise ValueError(f"{part!r} names shards a second time")
        found |= set(range(first, last + 1))
    return frozenset(found)


def check_map(shards: Mapping[str, frozenset[int]]) -> None:
    """Raise ValueError unless each shard is on one cluster of `shards`, which has those of each."""
    cluster_of: dict[int, str] = {}
    for cluster, numbers in shards.items():
        for number in sorted(numbers):
            if number in cluster_of:
                raise ValueError(f"shard {number} is on {cluster_of[number]} and on {cluster}")
            cluster_of[number] = cluster
    if missing := sorted(set(range(SHARDS)) - cluster_of.keys()):
        raise ValueError(f"{len(missing)} shards are on no cluster, the first of them is {missing[0]}")


class ShardMap:
    """Who has which shard, by the clusters' own word: of several that claim one, who got it last."""

    def __init__(self) -> None:
        self._claims: dict[str, dict[int, int]] = {}
        self._owners: dict[int, list[str]] = {}

    def see(self, cluster: str, claims: dict[int, int]) -> None:
        """`claims`: for each shard that the cluster has its version, which grows each time that it changes hands."""
        if self._claims.get(cluster) == claims:
            return
        self._claims[cluster] = claims
        self._owners = {}
        for shard in range(SHARDS):
            versions = {name: claims[shard] for name, claims in self._claims.items() if shard in claims}
            latest = max(versions.values(), default=0)
            self._owners[shard] = sorted(name for name, version in versions.items() if version == latest)

    def seen(self, clusters: Iterable[str]) -> bool:
        """Whether each of these has said what it has."""
        return self._claims.keys() >= set(clusters)

    def cluster_of(self, shard: int) -> str:
        """The cluster that has the shard; raises NoOwner."""
        owners = self._owners.get(shard, [])
        if len(owners) != 1:
            raise NoOwner(f"shard {shard} is on {' and on '.join(owners) or 'no cluster that has answered'}")
        return owners[0]
