"""PostgreSQL: writes to the primary, reads from a replica. Each statement is its own transaction."""

from __future__ import annotations

import asyncio
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

# one statement however many ids, so that it is prepared once
IDS = sa.bindparam("ids", type_=ARRAY(sa.BigInteger))
BY_ID = sa.select(items, sa.func.pg_is_in_recovery().label("recovering")).where(items.c.id == sa.any_(IDS))

COLUMNS = tuple(str(column.name) for column in items.columns)  # plain strings: orjson takes no others as keys

Item = dict[str, Any]
Rows = Sequence[sa.Row[Any]]
Role = Literal["primary", "replica"]


class Found(NamedTuple):
    items: dict[int, Item]  # by id
    role: Role | None  # which kind of server truly answered; None if no item was found


class DatabaseUnavailable(Exception):
    """No connection was free in time, or the server is gone, read-only or too slow: worth trying again."""


class Database:
    """Two pools, one to write and one to read; one shared pool where both addresses are the same."""

    def __init__(self, settings: Settings) -> None:
        self._write = _engine(settings, settings.database_write)
        same = settings.database_read == settings.database_write
        self._read = self._write if same else _engine(settings, settings.database_read)
        self._batches: dict[Role, Batch[int, Found]] = {
            "primary": Batch(partial(_by_id, self._write), GATHER),
            "replica": Batch(partial(_by_id, self._read), GATHER),
        }

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._write.dispose()
        await self._read.dispose()

    async def read(self, source: Role, *ids: int) -> Found:
        """The items of these ids, among others that were asked for at the same time."""
        return await self._batches[source].ask(*ids)

    async def insert(self, values: Item) -> Item:
        (row,) = await _rows(self._write, sa.insert(items).values(values).returning(items))
        return _item(row)

    async def update(self, item_id: int, values: Item) -> Item | None:
        query = (
            sa.update(items).where(items.c.id == item_id).values(**values, version=items.c.version + 1).returning(items)
        )
        rows = await _rows(self._write, query)
        return _item(rows[0]) if rows else None

    async def check_write(self) -> None:
        """Raise DatabaseUnavailable unless a server that takes writes answers."""
        ((read_only,),) = await _rows(self._write, sa.text("SHOW transaction_read_only"))
        if read_only == "on":
            raise DatabaseUnavailable("the primary is read-only")

    async def check_read(self) -> None:
        await _rows(self._read, sa.text("SELECT 1"))


async def _by_id(engine: AsyncEngine, ids: list[int]) -> Found:
    rows = await _rows(engine, BY_ID, {"ids": ids})
    role: Role | None = ("replica" if rows[0].recovering else "primary") if rows else None
    return Found({row.id: _item(row) for row in rows}, role)


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


async def _rows(engine: AsyncEngine, query: sa.Executable, parameters: dict[str, Any] | None = None) -> Rows:
    """What the statement returns, tried again for as long as it is turned away; raises DatabaseUnavailable."""
    said = "no answer"
    try:
        async with asyncio.timeout(TOTAL_TIMEOUT):
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
        raise DatabaseUnavailable(f"{said}, for {TOTAL_TIMEOUT} s") from error
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
