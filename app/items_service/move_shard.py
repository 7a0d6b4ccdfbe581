"""Moves shards to the cluster that DATABASE_CLUSTERS names for each: `python -m items_service.move_shard 7,128-255`.

Data: the rows of one shard; the ids of those that are written meanwhile, which the trigger notes. Flow: all rows from
the cluster that has it to the one that is to have it; again and again those that were written; then, while writers wait
for the shard's lock, the last of them, and the shard changes hands. Readers do not wait. If it is killed, it is run
again: the one that had the shard last has all of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from items_service.settings import Cluster, SettingError, Settings
from items_service.shards import SHARDS, parse_shards

LOCKS = 1936220516  # "shrd", as in the trigger
MOVERS = 1936220525  # "shrm"
FEW = 100  # items written meanwhile that are left for the pause
ROUNDS = 20
LOCK_TIMEOUT = 5  # seconds to wait for writers under way, with those that come later behind: a statement has 3
BATCH = 10_000  # rows that are removed at once

SUM = """
    SELECT count(*), coalesce(sum(hashtextextended(items::text, 0)::numeric), 0) FROM items WHERE id & 255 = %s
"""
COLUMNS = """
    SELECT attname FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""


class MoveRefused(Exception):
    """The shard stays where it is; the text says why, and what to do."""


class Place(NamedTuple):
    """What a cluster says of the shard."""

    owned: bool
    version: int


class Moved(NamedTuple):
    shard: int
    source: str
    target: str
    rows: int
    pause: float  # seconds that writers waited
    seconds: float

    def json(self) -> str:
        said = {"shard": self.shard, "from": self.source, "to": self.target, "rows": self.rows}
        return json.dumps(said | {"pause_ms": round(self.pause * 1000, 1), "seconds": round(self.seconds, 2)})


def move_shard(clusters: Mapping[str, Cluster], shard: int) -> Moved:
    """Move it to where it is to be; raises MoveRefused, or what psycopg raises: then it can be run again."""
    began = time.monotonic()
    target = next(name for name, cluster in clusters.items() if shard in cluster.shards)
    with ExitStack() as stack:
        databases = {name: stack.enter_context(connect(cluster)) for name, cluster in clusters.items()}
        stack.enter_context(_alone(clusters[target], shard))
        places = {name: _place(name, database, shard) for name, database in databases.items()}
        source = _source(shard, places)
        rows, pause = 0, 0.0
        if source == target:
            if not places[target].owned:
                _take(databases[target], shard, places[target].version + 1)
        else:
            move = _Move(databases[source], databases[target], shard, places[source].version)
            rows, pause = move.run()
        for name, database in databases.items():
            if name != target:
                _clean(database, shard)
        return Moved(shard, source, target, rows, pause, time.monotonic() - began)


class _Move:
    def __init__(self, source: psycopg.Connection, target: psycopg.Connection, shard: int, version: int) -> None:
        self._source = source
        self._target = target
        self._shard = shard
        self._version = version

    def run(self) -> tuple[int, float]:
        """How many rows have moved, and for how many seconds writers waited."""
        columns = [row[0] for row in self._source.execute(COLUMNS)]
        if columns != [row[0] for row in self._target.execute(COLUMNS)]:
            raise MoveRefused("the table items is not the same on both clusters: run the migrations first")
        self._columns = sql.SQL(", ").join(map(sql.Identifier, columns))
        self._note_changes()
        try:
            with past_the_trigger(self._target):
                self._target.execute("DELETE FROM items WHERE id & 255 = %s", [self._shard])
                self._copy(sql.SQL("id & 255 = {}").format(self._shard))
            for _round in range(ROUNDS):
                if self._follow() <= FEW:
                    break
            return self._hand_over()
        except BaseException:
            if self._source.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                self._source.execute("UPDATE shards SET moving = false WHERE id = %s AND owned", [self._shard])
            raise

    def _note_changes(self) -> None:
        self._source.execute("UPDATE shards SET moving = true WHERE id = %s", [self._shard])
        with self._source.transaction():  # those that have not seen it yet have ended
            self._lock()
            self._source.execute("DELETE FROM shard_changes WHERE shard = %s", [self._shard])

    def _hand_over(self) -> tuple[int, float]:
        began = time.monotonic()
        with self._source.transaction():
            self._lock()
            self._follow()
            here, there = (_one(database.execute(SUM, [self._shard])) for database in (self._source, self._target))
            if here != there:
                raise MoveRefused(f"the copy differs, in rows and checksum: {here} and {there}")
            numbers = sql.SQL("SELECT last_value, is_called FROM {}").format(
                sql.Identifier(f"items_shard_{self._shard}")
            )
            numbering = _one(self._source.execute(numbers))
            self._source.execute(
                "UPDATE shards SET owned = false, moving = false, version = %s WHERE id = %s",
                [self._version + 1, self._shard],
            )
        try:
            _take(self._target, self._shard, self._version + 2, numbering)
        except psycopg.Error as error:
            raise MoveRefused(
                "it has left its cluster and has not arrived, so that nobody has it until this is run again; "
                f"PostgreSQL says: {error}"
            ) from error
        return here[0], time.monotonic() - began

    def _follow(self) -> int:
        """Bring the target what was written since the last time; how many items."""
        changed = {
            row[0]
            for row in self._source.execute("DELETE FROM shard_changes WHERE shard = %s RETURNING item", [self._shard])
        }
        if changed:
            ids = list(changed)
            with past_the_trigger(self._target):
                self._target.execute("DELETE FROM items WHERE id = ANY(%s)", [ids])
                self._copy(sql.SQL("id = ANY({})").format(ids))
        return len(changed)

    def _copy(self, which: sql.Composable) -> None:
        read = sql.SQL("COPY (SELECT {} FROM items WHERE {}) TO STDOUT (FORMAT binary)").format(self._columns, which)
        write = sql.SQL("COPY items ({}) FROM STDIN (FORMAT binary)").format(self._columns)
        with self._source.cursor().copy(read) as rows, self._target.cursor().copy(write) as copy:
            for data in rows:
                copy.write(data)

    def _lock(self) -> None:
        """In the source's transaction: no writer of the shard is under way, and none begins."""
        self._source.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'")
        self._source.execute("SELECT pg_advisory_xact_lock(%s::int, %s::int)", [LOCKS, self._shard])


def _source(shard: int, places: Mapping[str, Place]) -> str:
    """Who has it; or had it last, where a move was cut off between two owners."""
    owners = [name for name, place in places.items() if place.owned]
    if len(owners) > 1:
        raise MoveRefused(
            f"shard {shard} is on {' and on '.join(owners)}: was one of them restored from a backup? Decide which has "
            f"it, and on the others: UPDATE shards SET owned = false WHERE id = {shard}"
        )
    if max(place.version for place in places.values()) == 0:
        raise MoveRefused(f"shard {shard} has no owner yet: run the migrations, which give it to the one in the map")
    return owners[0] if owners else max(places, key=lambda name: places[name].version)


def _place(name: str, database: psycopg.Connection, shard: int) -> Place:
    row = database.execute("SELECT owned, version FROM shards WHERE id = %s", [shard]).fetchone()
    if row is None:
        raise MoveRefused(f"cluster {name} does not know shard {shard}: run the migrations, which tell it")
    return Place(*row)


def _take(database: psycopg.Connection, shard: int, version: int, numbering: tuple[Any, ...] | None = None) -> None:
    """Have the cluster own it, and go on with its numbers where they came with it."""
    with database.transaction():  # nothing is left of it where its client is killed
        if numbering:
            database.execute("SELECT setval(%s, %s, %s)", [f"items_shard_{shard}", *numbering])
        database.execute("UPDATE shards SET owned = true, version = %s WHERE id = %s", [version, shard])


def _clean(database: psycopg.Connection, shard: int) -> None:
    """Remove what is left of a shard that is on another cluster."""
    database.execute("UPDATE shards SET moving = false WHERE id = %s AND moving", [shard])
    database.execute("DELETE FROM shard_changes WHERE shard = %s", [shard])
    removed = BATCH
    while removed == BATCH:
        with past_the_trigger(database):
            some = "DELETE FROM items WHERE id = ANY(ARRAY(SELECT id FROM items WHERE id & 255 = %s LIMIT %s))"
            removed = database.execute(some, [shard, BATCH]).rowcount


@contextmanager
def past_the_trigger(database: psycopg.Connection) -> Iterator[None]:
    """A transaction that writes a shard which is on another cluster."""
    with database.transaction():
        database.execute("SET LOCAL items.moves_shard = 'on'")
        yield


@contextmanager
def _alone(cluster: Cluster, shard: int) -> Iterator[None]:
    """Nobody else moves it; in a transaction of its own, which a pool keeps on one connection."""
    with connect(cluster) as database, database.transaction():
        database.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        # without parameters: with them it would keep a snapshot, and with that every old row
        (free,) = _one(database.execute(f"SELECT pg_try_advisory_xact_lock({MOVERS}, {shard})".encode()))
        if not free:
            raise MoveRefused(f"shard {shard} is being moved already: wait until that has ended")
        yield


def connect(cluster: Cluster) -> psycopg.Connection:
    return psycopg.connect(**cluster.write, autocommit=True)


def _one(cursor: psycopg.Cursor) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row
    return row


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m items_service.move_shard", description=__doc__)
    parser.add_argument(
        "shards", metavar="SHARDS", help=f"of 0 to {SHARDS - 1}, such as 7 or 128-255, one after another"
    )
    try:
        shards = sorted(parse_shards(parser.parse_args().shards))
    except ValueError as error:
        parser.error(f"SHARDS: {error}")
    shard = None
    try:
        settings = Settings.from_environment()
        if not settings.sharded:
            raise MoveRefused("DATABASE_CLUSTERS is not set: there are no shards to move")
        for shard in shards:
            print(move_shard(settings.clusters, shard).json(), flush=True)
    except (MoveRefused, SettingError, psycopg.Error) as error:
        sys.exit(f"shard {shard} was not moved: {str(error).strip()}" if shard is not None else str(error))


if __name__ == "__main__":
    main()
