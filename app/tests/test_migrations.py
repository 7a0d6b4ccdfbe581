from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import pytest
from conftest import Services, alembic


@pytest.fixture
def empty(services: Services, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The settings of a service on a new database."""
    with services.connect() as admin:
        admin.execute("CREATE DATABASE empty OWNER app")
        yield environment | {"DATABASE_WRITE_URL": services.database_url(name="empty")}
        admin.execute("DROP DATABASE empty WITH (FORCE)")


def test_two_at_once_then_again(empty: dict[str, str], services: Services) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        list(executor.map(lambda _: alembic(empty, "upgrade", "head"), range(2)))
    alembic(empty, "upgrade", "head")
    with services.connect(name="empty") as admin:
        assert admin.execute("SELECT count(*), min(id), max(id) FROM items").fetchone() == (1000, 1, 1000)
    alembic(empty, "check")
