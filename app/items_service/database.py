"""PostgreSQL: writes to the primary, reads from a replica that is not behind. Each statement is its own transaction.

Data: with each write the number of its transaction; with each read the number below which it saw every transaction, and
how far its server has replayed; of each shard whether it is here. Flow: the number of a write -> its client -> the
client's next read, which goes to the primary where the replica has not seen it. With each check how far the primary is
-> how far a replica is to be later, and what it has -> the map.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import psycopg
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects.postgresql import ARRAY, REGCLASS
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from items_service.batch import Batch
from items_service.settings import Settings
from items_service.shards import SHARDS, shard_of, shard_of_all
from items_service.tracing import span

STATEMENT_TIMEOUT = 3  # seconds, kept by the server
GATHER = 0.001  # seconds a read waits for others that share its statement, which costs many times what one more id does
TOTAL_TIMEOUT = 5  # seconds for connection and statement together, kept here: a frozen server keeps nothing
WRITE_TIMEOUT = 10  # of a write, which may have to wait for the next primary first, for 4 s and more
REPLICA_TIMEOUT = 2  # seconds after which the primary is asked instead
COOL_DOWN = 1.0  # seconds without another try of the replicas

# What a server says that was demoted, is shutting down, or is starting up; and that nothing was done, for it only
# breaks off without a word where a commit waits for its replica.
TURNED_AWAY = {"25006", "57P01", "57P03"}
GONE = TURNED_AWAY | {"57P02"}  # it crashed, perhaps after the commit
SHARD_AWAY = "SH001"  # of the trigger that keeps writes out of a shard that is on another cluster
PAUSE = 0.1  # seconds until a statement that was turned away is tried again: a new primary is a matter of seconds

# A dead host must not hold a connection for the kernel's default of hours.
CONNECT_DEFAULTS = {
    "application_name": "items_service",
    "connect_timeout": 2,
    "tcp_user_timeout": 3000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "options": f"-c statement_timeout={STATEMENT_TIMEOUT}s",
}

logger = logging.getLogger(__name__)
metadata = sa.MetaData()
items = sa.Table(
    "items",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("price_cents", sa.Integer, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
    sa.Column("version", sa.Integer, server_default=sa.text("1"), nullable=False),
    sa.Index("items_shard", sa.text("(id & 255)"), "id"),
)
shards = sa.Table(
    "shards",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True),
    sa.Column("owned", sa.Boolean, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),  # one more each time that it changes hands
    sa.Column("moving", sa.Boolean, server_default=sa.false(), nullable=False),  # changes are noted
)
shard_changes = sa.Table(
    "shard_changes",
    metadata,
    sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("shard", sa.SmallInteger, nullable=False),
    sa.Column("item", sa.BigInteger, nullable=False),
)

OWNED = sa.select(shards.c.id).where(shards.c.owned)
ITEM_SHARD = items.c.id.op("&")(SHARDS - 1)


def _by_id_of(away: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """The items of these ids, each with what the server is and shows: which of the shards asked for are not here,
    whether it is a replica, below which number the snapshot has every transaction, and how many bytes of WAL a replica
    has replayed. The snapshot is the statement's own: what it has, the rows show.
    """
    shows = "pg_is_in_recovery(), pg_snapshot_xmin(pg_current_snapshot()), pg_last_wal_replay_lsn() - '0/0'"
    # one text, as it comes with each row
    server = sa.select(sa.func.concat_ws(" ", away, sa.literal_column(shows)).label("server")).subquery()
    # one statement however many ids, so that it is prepared once; one row at least
    ids = sa.bindparam("ids", type_=ARRAY(sa.BigInteger))
    return sa.select(items, server).select_from(server.outerjoin(items, items.c.id == sa.any_(ids)))


ASKED = sa.func.unnest(sa.bindparam("shards", type_=ARRAY(sa.SmallInteger))).column_valued("asked")
AWAY = sa.func.array(sa.select(ASKED).where(ASKED.not_in(OWNED)).scalar_subquery())
BY_ID = _by_id_of(sa.literal_column("'{}'"))
BY_ID_IN_SHARDS = _by_id_of(sa.cast(AWAY, sa.Text))
TRANSACTION = sa.cast(sa.func.pg_current_xact_id(), sa.Text).label("transaction")
PRIMARY = (
    "SELECT current_setting('transaction_read_only') AS read_only, "
    "CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_flush_lsn() - '0/0')::bigint END AS flushed"
)
CLAIMS = "(SELECT coalesce(jsonb_object_agg(id, version), '{}') FROM shards WHERE owned) AS claims"
LIST = sa.select(items).where(items.c.id > sa.bindparam("after")).order_by(items.c.id).limit(sa.bindparam("count"))

COLUMNS = tuple(str(column.name) for column in items.columns)  # plain strings: orjson takes no others as keys

Item = dict[str, Any]
Rows = Sequence[sa.Row[Any]]
Role = Literal["primary", "replica"]


class Found(NamedTuple):
    items: dict[int, Item]  # by id
    role: Role  # which kind of server truly answered
    complete: int  # every transaction below this number is in what was read
    replayed: int  # bytes of WAL in it
    away: frozenset[int]  # those of the shards asked for that are on another cluster


class Write(NamedTuple):
    """When something was written: its transaction, and the cluster of that, where there are several."""

    transaction: int
    cluster: str

    @classmethod
    def parse(cls, text: str) -> Write | None:
        """What `str` made of it; None for anything else."""
        parts = re.fullmatch(r"(?:([a-z0-9_]{1,48})\.)?(\d{1,20})", text, re.ASCII)
        return cls(int(parts[2]), parts[1] or "") if parts else None

    def __str__(self) -> str:
        return f"{self.cluster}.{self.transaction}" if self.cluster else str(self.transaction)


class Written(NamedTuple):
    item: Item
    write: Write


class Page(NamedTuple):
    items: list[Item]  # by id
    missing: list[str]  # clusters that have not answered in time


class DatabaseUnavailable(Exception):
    """No connection was free in time, or the server is gone, read-only or too slow: worth trying again."""


class ShardAway(DatabaseUnavailable):
    """The shard is on another cluster. Nothing was done."""


class Progress:
    """How far the primary has been, and so how far a replica must be that is not behind by more than `limit` seconds.

    A clock or the last replayed commit would not tell: with an idle primary nothing is behind, however old.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, flushed: int) -> None:
        if self._seen and flushed < self._seen[-1][1]:
            self._seen.clear()  # a new primary, which has not all of the old one
        self._seen.append((time.monotonic(), flushed))

    @property
    def expected(self) -> int:
        """Bytes of WAL; 0 while nothing is known that is old enough."""
        until = time.monotonic() - self._limit
        while len(self._seen) > 1 and self._seen[1][0] <= until:
            self._seen.popleft()
        return self._seen[0][1] if self._seen and self._seen[0][0] <= until else 0


class Store(Protocol):
    """Where the items are: one Database, or Clusters of them."""

    step: int  # from the id of an item to that of its related one

    async def read(self, source: Role, *ids: int, after: Write | None = None) -> Found: ...
    async def insert(self, values: Item) -> Written: ...
    async def update(self, item_id: int, values: Item) -> Written | None: ...
    async def page(self, after: int, count: int) -> Page: ...
    @property
    def checks(self) -> dict[str, Callable[[], Awaitable[object]]]: ...
    def pools(self) -> Iterator[tuple[str, int, int]]: ...


class Database:
    """Two pools, one to write and one to read; one shared pool where both addresses are the same."""

    step = 1

    def __init__(self, settings: Settings, name: str = "") -> None:
        """`name`: of the cluster in `settings`."""
        cluster = settings.clusters[name]
        self._name = name
        self._sharded = settings.sharded
        self._pool_size = settings.database_pool_size + settings.database_max_overflow
        self._write = _engine(settings, cluster.write)
        same = cluster.read == cluster.write
        self._read = self._write if same else _engine(settings, cluster.read)
        self._progress = Progress(settings.database_max_lag)
        self._no_replica_until = 0.0
        primary = Batch(partial(self._by_id, self._write), GATHER)
        replica = primary if same else Batch(self._by_id_from_replica, GATHER)
        self._batches: dict[Role, Batch[int, Found]] = {"primary": primary, "replica": replica}

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._write.dispose()
        await self._read.dispose()

    @property
    def checks(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """By the names that /readyz has for what is lost."""
        suffix = self._name and f" {self._name}"
        return {f"database_write{suffix}": self.check_write, f"database_read{suffix}": self.check_read}

    def pools(self) -> Iterator[tuple[str, int, int]]:
        """Name of a pool, and how many connections of it are used, of how many."""
        for kind, engine in {"write": self._write, "read": self._read}.items():
            if kind == "write" or engine is not self._write:
                pool = engine.pool
                assert isinstance(pool, sa.QueuePool)
                yield " ".join(filter(None, (kind, self._name))), pool.checkedout(), self._pool_size

    async def read(self, source: Role, *ids: int, after: Write | None = None) -> Found:
        """The items of these ids, among others asked for at the same time; not from before the write `after`."""
        if source == "replica" and (after is None or after.cluster == self._name):
            found = await self._batches["replica"].ask(*ids)
            if not _away(found, ids) and (
                found.role == "primary" or after is None or after.transaction < found.complete
            ):
                return found
        found = await self._batches["primary"].ask(*ids)
        if _away(found, ids):
            raise ShardAway(f"shard {shard_of_all(ids)} is not on {self._name}")
        return found

    async def insert(self, values: Item, shard: int | None = None) -> Written:
        """`shard`: of which the new id is to be; any where there are none."""
        if shard is not None:
            number = sa.func.nextval(sa.cast(f"items_shard_{shard}", REGCLASS))
            values = {**values, "id": number * SHARDS + shard}
        new = sa.insert(items).values(values).returning(items, TRANSACTION)
        (row,) = await _rows(self._write, new, limit=WRITE_TIMEOUT)
        return self._written(row)

    async def update(self, item_id: int, values: Item) -> Written | None:
        new = sa.update(items).where(items.c.id == item_id).values(**values, version=items.c.version + 1)
        new = new.returning(items, TRANSACTION)
        if not self._sharded:
            rows = await _rows(self._write, new, limit=WRITE_TIMEOUT)
            return self._written(rows[0]) if rows else None
        # no row may also mean that the shard is away, as the same snapshot tells
        shard = shard_of(item_id)
        updated = new.cte("updated")
        place = sa.select(shards.c.owned).where(shards.c.id == shard).subquery()
        both = sa.select(updated, place).select_from(place.outerjoin(updated, sa.true()))
        rows = await _rows(self._write, both, limit=WRITE_TIMEOUT)
        if not rows or not rows[0].owned:
            raise ShardAway(f"shard {shard} is not on {self._name}")
        return self._written(rows[0]) if rows[0].id else None

    async def page(self, after: int, count: int, limit: float = TOTAL_TIMEOUT) -> Page:
        """The first `count` items with ids above `after`, from a replica or the primary, within `limit` seconds."""
        query = LIST.where(ITEM_SHARD.in_(OWNED)) if self._sharded else LIST
        asked = {"after": after, "count": count}
        try:
            rows = await _rows(self._read, query, asked, limit / 2)
        except DatabaseUnavailable:
            rows = await _rows(self._write, query, asked, limit / 2)
        return Page([_item(row) for row in rows], [])

    async def check_write(self) -> dict[int, int]:
        """The shards that the primary has, with their versions; raises DatabaseUnavailable unless it takes writes."""
        (server,) = await _rows(self._write, sa.text(f"{PRIMARY}, {CLAIMS}" if self._sharded else PRIMARY))
        if server.read_only == "on":
            raise DatabaseUnavailable("the primary is read-only")
        self._progress.see(server.flushed)
        return {int(shard): version for shard, version in server.claims.items()} if self._sharded else {}

    async def check_read(self) -> None:
        await _rows(self._read, sa.text("SELECT 1"))

    async def _by_id_from_replica(self, ids: list[int]) -> Found:
        """From a replica that answers and is not behind; else, for a while, from the primary."""
        behind = None
        if time.monotonic() >= self._no_replica_until:
            try:
                found = await self._by_id(self._read, ids, REPLICA_TIMEOUT)
                expected = self._progress.expected
                if found.role == "primary" or found.replayed >= expected:
                    return found
                behind, why = found, f"{expected - found.replayed} bytes more behind than DATABASE_MAX_LAG allows"
            except DatabaseUnavailable as error:
                why = str(error)
            logger.warning("no replica for %s s: %s", COOL_DOWN, why)
        try:
            found = await self._by_id(self._write, ids, TOTAL_TIMEOUT if behind is None else COOL_DOWN)
        except DatabaseUnavailable:
            if behind is None:
                raise
            return behind  # with no primary, old is better than nothing
        if time.monotonic() >= self._no_replica_until:
            self._no_replica_until = time.monotonic() + COOL_DOWN
        return found

    async def _by_id(self, engine: AsyncEngine, ids: list[int], limit: float = TOTAL_TIMEOUT) -> Found:
        if self._sharded:
            asked = {"ids": ids, "shards": list({one % SHARDS for one in ids})}
            rows = await _rows(engine, BY_ID_IN_SHARDS, asked, limit)
        else:
            rows = await _rows(engine, BY_ID, {"ids": ids}, limit)
        away, recovering, complete, *replayed = rows[0].server.split()
        found = {row[0]: _item(row) for row in rows} if rows[0].id else {}
        missing = frozenset(map(int, away[1:-1].split(","))) if away != "{}" else frozenset[int]()
        return Found(found, "replica" if recovering == "t" else "primary", int(complete), int(*replayed), missing)

    def _written(self, row: sa.Row[Any]) -> Written:
        return Written(_item(row), Write(int(row.transaction), self._name))


def _away(found: Found, ids: Sequence[int]) -> bool:
    """Whether the shard of these ids is on another cluster."""
    return bool(found.away) and shard_of_all(ids) in found.away


def _item(row: sa.Row[Any]) -> Item:
    return dict(zip(COLUMNS, row, strict=False))


def _engine(settings: Settings, keywords: dict[str, Any]) -> AsyncEngine:
    # libpq's own keywords instead of an SQLAlchemy URL: only libpq reads lists of hosts
    engine = create_async_engine(
        "postgresql+psycopg://",
        connect_args=CONNECT_DEFAULTS | keywords | {"async_creator_fn": _connect},
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,  # of what an error says
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        pool_timeout=settings.database_pool_timeout,
        pool_recycle=settings.database_pool_recycle,
        pool_pre_ping=True,
        pool_use_lifo=True,
    )

    @event.listens_for(engine.sync_engine, "handle_error")
    def drop_connection(context: sa.engine.ExceptionContext) -> None:
        # else the pool would keep a connection to a demoted primary, whose ping still succeeds
        if getattr(context.original_exception, "sqlstate", None) in GONE:
            context.is_disconnect = True

    return engine


async def _connect(conninfo: str, **keywords: Any) -> psycopg.AsyncConnection:
    """A connection, which is made to the end and closed where whoever asks for it waits no longer.

    psycopg leaves such a one open until Python looks for cycles, beyond what the pool may have.
    """
    connecting = asyncio.create_task(psycopg.AsyncConnection.connect(conninfo, **keywords))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.add_done_callback(_close)
        raise


def _close(connecting: asyncio.Task[psycopg.AsyncConnection]) -> None:
    if not connecting.cancelled() and not connecting.exception():
        connecting.result().pgconn.finish()


async def _rows(
    engine: AsyncEngine, query: sa.Executable, parameters: dict[str, Any] | None = None, limit: float = TOTAL_TIMEOUT
) -> Rows:
    """What the statement returns, tried again for as long as it is turned away; raises DatabaseUnavailable."""
    said = "no answer"
    try:
        async with asyncio.timeout(limit):
            while True:
                try:
                    with span(f"postgresql {query.__visit_name__}", {"db.system.name": "postgresql"}):
                        async with engine.connect() as connection:
                            return (await connection.execute(query, parameters)).all()
                except exc.DBAPIError as error:
                    if getattr(error.orig, "sqlstate", None) == SHARD_AWAY:
                        raise ShardAway(str(error.orig)) from error
                    if not _turned_away(error):
                        raise
                    said = str(error.orig)
                await asyncio.sleep(PAUSE)
    except TimeoutError as error:
        raise DatabaseUnavailable(f"{said}, for {limit} s") from error
    except exc.TimeoutError as error:
        raise DatabaseUnavailable(f"no free connection: {error}") from error
    except exc.DBAPIError as error:
        if error.connection_invalidated or isinstance(error, (exc.OperationalError, exc.InterfaceError)):
            raise DatabaseUnavailable(str(error.orig)) from error
        raise


def _turned_away(error: exc.DBAPIError) -> bool:
    """Whether nothing of the statement can have been done, while it may be on the next try."""
    never_sent = error.statement is None and isinstance(error, exc.OperationalError)
    return never_sent or getattr(error.orig, "sqlstate", None) in TURNED_AWAY
