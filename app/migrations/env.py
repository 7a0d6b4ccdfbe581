"""Runs the migrations on each primary, one runner at a time, each in its own transaction; then deals out the shards."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from logging import getLogger
from logging.config import fileConfig

import sqlalchemy as sa
from alembic import context
from psycopg.errors import LockNotAvailable
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from items_service.claim_shards import ShardsRefused, claim_shards
from items_service.database import metadata
from items_service.settings import Cluster, Settings

LOCK = 0x6974656D73  # "items": any fixed number does, as long as every runner takes the same one
RUNNER_TIMEOUT = 60  # seconds for a runner to wait for another
# Seconds for a migration to wait for a table. Whoever comes after it waits behind it, so it soon gives up, lets them go
# first, and tries again, for so many seconds in all.
TABLE_TIMEOUT = 2
PATIENCE = 60

# Of every transaction. A runner that is killed, or whose host is lost, holds nothing any longer than a few seconds.
GUARDS = {
    "lock_timeout": f"{TABLE_TIMEOUT}s",
    "statement_timeout": "0",  # it takes what it takes, whatever a pool on the way says
    "idle_in_transaction_session_timeout": "0",
    "client_connection_check_interval": "1s",
    "tcp_user_timeout": "5s",
    "tcp_keepalives_idle": "5s",
    "tcp_keepalives_interval": "2s",
    "tcp_keepalives_count": "3",
}

if context.config.config_file_name:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)
if context.is_offline_mode():
    raise SystemExit("--sql is not supported: the migrations run under a lock in the database")

logger = getLogger("alembic.env")
settings = Settings.from_environment()


def engine_of(cluster: Cluster) -> sa.Engine:
    # libpq's own keywords, and those of Settings alone: a pool takes no options
    engine = sa.create_engine("postgresql+psycopg://", connect_args=cluster.write, poolclass=sa.NullPool)
    event.listen(engine, "begin", set_guards)
    return engine


def set_guards(connection: sa.Connection) -> None:
    connection.exec_driver_sql("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in GUARDS.items()))


@contextmanager
def alone(engine: sa.Engine) -> Iterator[None]:
    """Hold the lock in a transaction of its own: it outlasts the migrations', and a pool keeps it on one connection."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{RUNNER_TIMEOUT}s'")
        try:
            # without parameters: with them it would keep a snapshot, and CREATE INDEX CONCURRENTLY wait for its end
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        except OperationalError as error:
            raise SystemExit(
                f"another migration has held the lock {LOCK} for {RUNNER_TIMEOUT} s: {error.orig}"
            ) from None
        yield


def migrate(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


def migrate_patiently(engine: sa.Engine) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return migrate(engine)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            if time.monotonic() > end:
                raise SystemExit(
                    f"a migration has not got its lock on a table in {PATIENCE} s: a transaction holds that. Find it "
                    "(SELECT * FROM pg_stat_activity WHERE state <> 'idle' ORDER BY xact_start), end it, and run "
                    f"again. PostgreSQL says: {error.orig}"
                ) from None
            logger.warning("a table is in use: %s; once more after those who wait", str(error.orig).splitlines()[0])
            time.sleep(random.uniform(0.5, 1.5))


with ExitStack() as locks:
    for name in sorted(settings.clusters):  # all runners in this order
        locks.enter_context(alone(engine_of(settings.clusters[name])))
    for name, cluster in settings.clusters.items():
        if settings.sharded:
            logger.info("cluster %s", name)
        migrate_patiently(engine_of(cluster))
    if settings.sharded:
        try:
            for line in claim_shards(settings.clusters):
                logger.info(line)
        except ShardsRefused as error:
            raise SystemExit(str(error)) from None
