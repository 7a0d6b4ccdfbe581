"""PostgreSQL: writes to the primary, reads from a replica that is not behind. Each statement is its own transaction.

Data: with each write the number of its transaction; with each read the number below which it saw every transaction, and
how far its server has replayed. Flow: the number of a write -> its client -> the client's next read, which goes to the
primary where the replica has not seen it. With each check how far the primary is -> how far a replica is to be later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from items_service.batch import Batch
from items_service.settings import Settings

STATEMENT_TIMEOUT = 3  # seconds, kept by the server
GATHER = 0.001  # seconds a read waits for others that share its statement, which costs many times what one more id does
TOTAL_TIMEOUT = 5  # seconds for connection and statement together, kept here: a frozen server keeps nothing
REPLICA_TIMEOUT = 2  # seconds after which the primary is asked instead
COOL_DOWN = 1.0  # seconds without another try of the replicas

# What a server says that was demoted, is shutting down, or is starting up; and that nothing was done, for it only
# breaks off without a word where a commit waits for its replica.
TURNED_AWAY = {"25006", "57P01", "57P03"}
GONE = TURNED_AWAY | {"57P02"}  # it crashed, perhaps after the commit
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
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("price_cents", sa.Integer, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
    sa.Column("version", sa.Integer, server_default=sa.text("1"), nullable=False),
)

# What the server is and shows: whether it is a replica, below which number the snapshot has every transaction, and how
# many bytes of WAL a replica has replayed. The snapshot is the statement's own: what it has, the rows show.
# It is one text, as it comes with each row.
SERVER = sa.select(
    sa.literal_column(
        "concat_ws(' ', pg_is_in_recovery(), pg_snapshot_xmin(pg_current_snapshot()), pg_last_wal_replay_lsn() - '0/0')"
    ).label("server")
).subquery()
# One statement however many ids, so that it is prepared once; one row at least.
IDS = sa.bindparam("ids", type_=ARRAY(sa.BigInteger))
BY_ID = sa.select(items, SERVER).select_from(SERVER.outerjoin(items, items.c.id == sa.any_(IDS)))
TRANSACTION = sa.cast(sa.func.pg_current_xact_id(), sa.Text).label("transaction")
PRIMARY = sa.text(
    "SELECT current_setting('transaction_read_only') AS read_only, "
    "CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_flush_lsn() - '0/0')::bigint END AS flushed"
)

COLUMNS = tuple(str(column.name) for column in items.columns)  # plain strings: orjson takes no others as keys

Item = dict[str, Any]
Rows = Sequence[sa.Row[Any]]
Role = Literal["primary", "replica"]


class Found(NamedTuple):
    items: dict[int, Item]  # by id
    role: Role  # which kind of server truly answered
    complete: int  # every transaction below this number is in what was read
    replayed: int  # bytes of WAL in it


class Written(NamedTuple):
    item: Item
    transaction: int


class DatabaseUnavailable(Exception):
    """No connection was free in time, or the server is gone, read-only or too slow: worth trying again."""


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


class Database:
    """Two pools, one to write and one to read; one shared pool where both addresses are the same."""

    def __init__(self, settings: Settings) -> None:
        self._write = _engine(settings, settings.database_write)
        same = settings.database_read == settings.database_write
        self._read = self._write if same else _engine(settings, settings.database_read)
        self._progress = Progress(settings.database_max_lag)
        self._no_replica_until = 0.0
        primary = Batch(partial(_by_id, self._write), GATHER)
        replica = primary if same else Batch(self._by_id_from_replica, GATHER)
        self._batches: dict[Role, Batch[int, Found]] = {"primary": primary, "replica": replica}

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._write.dispose()
        await self._read.dispose()

    async def read(self, source: Role, *ids: int, after: int = 0) -> Found:
        """The items of these ids, among others asked for at the same time; not from before transaction `after`."""
        if source == "replica":
            found = await self._batches["replica"].ask(*ids)
            if found.role == "primary" or after < found.complete:
                return found
        return await self._batches["primary"].ask(*ids)

    async def insert(self, values: Item) -> Written:
        (row,) = await _rows(self._write, sa.insert(items).values(values).returning(items, TRANSACTION))
        return Written(_item(row), int(row.transaction))

    async def update(self, item_id: int, values: Item) -> Written | None:
        new = sa.update(items).where(items.c.id == item_id).values(**values, version=items.c.version + 1)
        rows = await _rows(self._write, new.returning(items, TRANSACTION))
        return Written(_item(rows[0]), int(rows[0].transaction)) if rows else None

    async def check_write(self) -> None:
        """Raise DatabaseUnavailable unless a server that takes writes answers."""
        (server,) = await _rows(self._write, PRIMARY)
        if server.read_only == "on":
            raise DatabaseUnavailable("the primary is read-only")
        self._progress.see(server.flushed)

    async def check_read(self) -> None:
        await _rows(self._read, sa.text("SELECT 1"))

    async def _by_id_from_replica(self, ids: list[int]) -> Found:
        """From a replica that answers and is not behind; else, for a while, from the primary."""
        behind = None
        if time.monotonic() >= self._no_replica_until:
            try:
                found = await _by_id(self._read, ids, REPLICA_TIMEOUT)
                expected = self._progress.expected
                if found.role == "primary" or found.replayed >= expected:
                    return found
                behind, why = found, f"{expected - found.replayed} bytes more behind than DATABASE_MAX_LAG allows"
            except DatabaseUnavailable as error:
                why = str(error)
            logger.warning("no replica for %s s: %s", COOL_DOWN, why)
        try:
            found = await _by_id(self._write, ids, TOTAL_TIMEOUT if behind is None else COOL_DOWN)
        except DatabaseUnavailable:
            if behind is None:
                raise
            return behind  # with no primary, old is better than nothing
        if time.monotonic() >= self._no_replica_until:
            self._no_replica_until = time.monotonic() + COOL_DOWN
        return found


async def _by_id(engine: AsyncEngine, ids: list[int], limit: float = TOTAL_TIMEOUT) -> Found:
    rows = await _rows(engine, BY_ID, {"ids": ids}, limit)
    recovering, complete, *replayed = rows[0].server.split()
    found = {row[0]: _item(row) for row in rows} if rows[0].id else {}
    return Found(found, "replica" if recovering == "t" else "primary", int(complete), int(*replayed))


def _item(row: sa.Row[Any]) -> Item:
    return dict(zip(COLUMNS, row, strict=False))


def _engine(settings: Settings, keywords: dict[str, Any]) -> AsyncEngine:
    # libpq's own keywords instead of an SQLAlchemy URL: only libpq reads lists of hosts
    engine = create_async_engine(
        "postgresql+psycopg://",
        connect_args=CONNECT_DEFAULTS | keywords,
        isolation_level="AUTOCOMMIT",
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


async def _rows(
    engine: AsyncEngine, query: sa.Executable, parameters: dict[str, Any] | None = None, limit: float = TOTAL_TIMEOUT
) -> Rows:
    """What the statement returns, tried again for as long as it is turned away; raises DatabaseUnavailable."""
    said = "no answer"
    try:
        async with asyncio.timeout(limit):
            while True:
                try:
                    async with engine.connect() as connection:
                        return (await connection.execute(query, parameters)).all()
                except exc.DBAPIError as error:
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
