from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import APP, Services, wait_for

MIGRATION = """
from alembic import op

revision, down_revision = "one more", "{head}"

def upgrade():
    {lines}
"""
RUN = "op.execute('INSERT INTO ran VALUES (1)')"
HOLDS = "SELECT 1 FROM pg_locks WHERE relation = 'items'::regclass AND mode = 'AccessExclusiveLock' AND granted"
WAITS = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
ANY = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' OR relation = 'items'::regclass"


class Project:
    """The service's migrations and one more, on a database of their own."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory = directory
        self._environment = environment | {"PYTHONPATH": str(APP), "PYTHONDONTWRITEBYTECODE": "1"}
        shutil.copy(APP / "alembic.ini", directory)
        shutil.copytree(APP / "migrations", directory / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
        self.run("upgrade", "head")

    def add(self, *lines: str) -> None:
        versions = self._directory / "migrations/versions"
        head = max(path.name[:4] for path in versions.glob("0*.py"))
        (versions / "one_more.py").write_text(MIGRATION.format(head=head, lines="\n    ".join(lines)))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "alembic", *(arguments or ("upgrade", "head"))]
        return subprocess.Popen(words, cwd=self._directory, env=self._environment)

    def run(self, *arguments: str) -> None:
        assert self.start(*arguments).wait(60) == 0


@pytest.fixture(params=["5432", "6432"], ids=["direct", "through a pool"])
def project(
    request: pytest.FixtureRequest, services: Services, environment: dict[str, str], tmp_path: Path
) -> Iterator[Project]:
    with services.connect() as admin:
        admin.execute("CREATE DATABASE empty OWNER app")
        try:
            address = services.database_url(request.param, name="empty")
            yield Project(tmp_path, environment | {"DATABASE_WRITE_URL": address})
        finally:
            admin.execute("DROP DATABASE empty WITH (FORCE)")


@pytest.fixture
def database(project: Project, services: Services) -> Iterator[psycopg.Connection]:
    with services.connect(name="empty") as admin:
        admin.execute("CREATE TABLE ran (n int); ALTER TABLE ran OWNER TO app")
        yield admin


def is_so(database: psycopg.Connection, query: str) -> bool:
    return database.execute(query).fetchone() is not None


def test_all_of_them_then_nothing_more(project: Project, services: Services) -> None:
    project.run("upgrade", "head")
    project.run("check")
    with services.connect(name="empty") as database:
        assert database.execute("SELECT count(*), min(id), max(id) FROM items").fetchone() == (1000, 1, 1000)


def test_two_at_once_run_it_once(project: Project, database: psycopg.Connection) -> None:
    project.add(RUN, "op.execute('SELECT pg_sleep(3)')")
    runners = [project.start() for _ in range(2)]
    wait_for(lambda: is_so(database, WAITS), "one to wait for the other")
    assert [runner.wait(60) for runner in runners] == [0, 0]
    assert database.execute("SELECT count(*) FROM ran").fetchone() == (1,)


def test_one_that_is_killed_leaves_nothing_locked(project: Project, database: psycopg.Connection) -> None:
    project.add("op.execute('ALTER TABLE items ADD color text')", "op.execute('SELECT pg_sleep(600)')")
    runner = project.start()
    wait_for(lambda: is_so(database, HOLDS), "the migration to be under way")
    runner.kill()
    runner.wait()
    wait_for(lambda: not is_so(database, ANY), "all its locks to be gone", 5)
    project.add("op.execute('ALTER TABLE items ADD color text')", RUN)
    project.run()
    assert database.execute("SELECT count(*) FROM ran").fetchone() == (1,)


def test_one_that_waits_for_a_table_does_not_stop_the_others(
    project: Project, database: psycopg.Connection, services: Services
) -> None:
    project.add("op.execute('ALTER TABLE items ADD color text')", RUN)
    with services.connect(name="empty") as reader, services.connect(name="empty") as writer:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM items")
        runner = project.start()
        wait_for(lambda: is_so(database, WAITS.replace("'advisory'", "'relation'")), "it to wait for the table")
        writer.execute("SET statement_timeout = '3s'")
        end = time.monotonic() + 6
        while time.monotonic() < end:
            writer.execute("UPDATE items SET name = 'x' WHERE id = 1")
            time.sleep(0.05)
        assert runner.poll() is None
        reader.execute("COMMIT")
        assert runner.wait(20) == 0
    assert database.execute("SELECT count(*) FROM ran").fetchone() == (1,)


def test_an_index_is_made_beside_the_writes(project: Project, database: psycopg.Connection) -> None:
    """Outside a transaction, and still under the lock."""
    index = 'op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS items_name ON items (name)")'
    project.add("with op.get_context().autocommit_block():", f"    {index}", RUN)
    project.run()
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'items_name'::regclass"
    assert database.execute(valid).fetchone() == (True,)
