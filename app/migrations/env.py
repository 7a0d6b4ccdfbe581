"""Runs the migrations on the primary, one runner at a time, in one transaction."""

from logging.config import fileConfig

from alembic import context
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import OperationalError

from items_service.database import metadata
from items_service.settings import Settings

LOCK = 0x6974656D73  # "items": any fixed number does, as long as every runner takes the same one
LOCK_TIMEOUT = 60  # seconds

if context.config.config_file_name:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)
if context.is_offline_mode():
    raise SystemExit("--sql is not supported: the migrations run under a lock in the database")

engine = create_engine(
    "postgresql+psycopg://", connect_args=Settings.from_environment().database_write, poolclass=pool.NullPool
)
with engine.begin() as connection:
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"))
    try:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    except OperationalError as error:
        raise SystemExit(f"another migration has held the lock {LOCK} for {LOCK_TIMEOUT} s: {error.orig}") from None
    context.configure(connection=connection, target_metadata=metadata)
    context.run_migrations()
