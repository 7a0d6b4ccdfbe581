"""Gives each shard that no cluster has yet to the one that is to have it. Part of the migrations.

Data: for each cluster its rows of the table `shards`, and what it holds of each shard. Flow: all clusters -> the shards
that never had an owner -> their owners, and the number from which each goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import psycopg

from items_service.move_shard import connect, past_the_trigger
from items_service.settings import Cluster
from items_service.shards import SHARDS

# Of the sequence that counted before there were shards; an old release may still count on.
FIRST_NUMBER = "(SELECT last_value FROM pg_sequences WHERE sequencename = 'items_id_seq') / 256 + 1000"
BATCH = 10_000  # items that are compared at once


class ShardsRefused(Exception):
    """The map cannot be followed; the text says why, and what to do."""


def claim_shards(clusters: Mapping[str, Cluster]) -> Iterator[str]:
    """Yields what was done, a line for each cluster that got shards; raises ShardsRefused."""
    with ExitStack() as stack:
        databases = {name: stack.enter_context(connect(cluster)) for name, cluster in clusters.items()}
        versions = [0] * SHARDS
        for database in databases.values():
            database.execute(
                "INSERT INTO shards (id, owned, version) SELECT n, false, 0 FROM generate_series(0, 255) AS n "
                "ON CONFLICT DO NOTHING"
            )
            for shard, version in database.execute("SELECT id, version FROM shards"):
                versions[shard] = max(versions[shard], version)
        for name, cluster in clusters.items():
            unclaimed = sorted(shard for shard in cluster.shards if versions[shard] == 0)
            if not unclaimed:
                continue
            others = {other: database for other, database in databases.items() if other != name}
            _refuse_to_hide(name, unclaimed, databases[name], others)
            for other in others.values():
                _remove_copies(other, unclaimed)
            with databases[name].transaction():
                databases[name].execute(
                    f"SELECT setval(('items_shard_' || n)::regclass, {FIRST_NUMBER}) FROM unnest(%s::int[]) AS n",
                    [unclaimed],
                )
                databases[name].execute("UPDATE shards SET owned = true, version = 1 WHERE id = ANY(%s)", [unclaimed])
            yield f"{len(unclaimed)} shards are now on {name}"


def _refuse_to_hide(
    name: str, shards: list[int], database: psycopg.Connection, others: Mapping[str, psycopg.Connection]
) -> None:
    """What another cluster holds of these shards would be seen no longer, unless it is here too, as it is there."""
    for other, there in others.items():
        with there.transaction(), there.cursor("held") as held:
            held.execute("SELECT id, version FROM items WHERE id & 255 = ANY(%s)", [shards])
            while batch := held.fetchmany(BATCH):
                ids = [row[0] for row in batch]
                here = database.execute("SELECT id, version FROM items WHERE id = ANY(%s)", [ids])
                if hidden := sorted(set(batch) - set(here)):
                    raise ShardsRefused(
                        f"shard {hidden[0][0] % SHARDS} is to be on {name}, but {other} holds items of it that {name} "
                        f"has not, such as item {hidden[0][0]}. Let the map say that {other} has the shard, and then "
                        "move it with move_shard.yml."
                    )


def _remove_copies(database: psycopg.Connection, shards: list[int]) -> None:
    with past_the_trigger(database):
        database.execute("DELETE FROM items WHERE id & 255 = ANY(%s)", [shards])
