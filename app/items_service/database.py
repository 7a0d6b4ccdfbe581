"""PostgreSQL: writes to the primary, reads from a replica. Each statement is its own transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from items_service.batch import Batch
from items_service.settings import Settings

STATEMENT_TIMEOUT = 3  # seconds, kept by the server
GATHER = 0.001  # seconds a read waits for others that share its statement, which costs many times what one more id does
TOTAL_TIMEOUT = 5  # seconds for connection and statement together, kept here: a frozen server keeps nothing

# what a server says that was demoted, is shutting down, has crashed, or is starting up
GONE = {"25006", "57P01", "57P02", "57P03"}

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
        query = sa.insert(items).values(values).returning(items)
        async with _connection(self._write) as connection:
            return _item((await connection.execute(query)).one())

    async def update(self, item_id: int, values: Item) -> Item | None:
        query = (
            sa.update(items).where(items.c.id == item_id).values(**values, version=items.c.version + 1).returning(items)
        )
        async with _connection(self._write) as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _item(row)

    async def check_write(self) -> None:
        """Raise DatabaseUnavailable unless a server that takes writes answers."""
        async with _connection(self._write) as connection:
            if await connection.scalar(sa.text("SHOW transaction_read_only")) == "on":
                raise DatabaseUnavailable("the primary is read-only")

    async def check_read(self) -> None:
        async with _connection(self._read) as connection:
            await connection.execute(sa.text("SELECT 1"))


async def _by_id(engine: AsyncEngine, ids: list[int]) -> Found:
    async with _connection(engine) as connection:
        rows = (await connection.execute(BY_ID, {"ids": ids})).all()
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


@asynccontextmanager
async def _connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    try:
        async with asyncio.timeout(TOTAL_TIMEOUT), engine.connect() as connection:
            yield connection
    except TimeoutError as error:
        raise DatabaseUnavailable(f"no answer within {TOTAL_TIMEOUT} s") from error
    except exc.TimeoutError as error:
        raise DatabaseUnavailable(f"no free connection: {error}") from error
    except exc.DBAPIError as error:
        if error.connection_invalidated or isinstance(error, (exc.OperationalError, exc.InterfaceError)):
            raise DatabaseUnavailable(str(error.orig)) from error
        raise
