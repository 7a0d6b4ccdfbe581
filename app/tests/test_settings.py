from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import APP

from items_service.settings import SettingError, Settings

GOOD = {
    "DATABASE_WRITE_URL": "postgresql+psycopg://app@10.0.3.10:5432,10.0.3.11:5432/app?target_session_attrs=read-write",
    "CACHE_URL": "redis://app@10.0.4.10:6379/0",
    "UPSTREAM_URL": "http://198.51.100.250/",
}


def test_defaults() -> None:
    settings = Settings.from_environment(GOOD | {"DATABASE_READ_URL": "", "CACHE_TTL": ""})
    assert settings.database_write == settings.database_read
    assert settings.database_write["host"] == "10.0.3.10,10.0.3.11"
    assert settings.upstream_url == "http://198.51.100.250"
    assert (settings.database_pool_timeout, settings.cache_ttl) == (2, 60)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("DATABASE_WRITE_URL", "", "is not set"),
        ("DATABASE_WRITE_URL", "mysql://app@db/app", "postgresql+psycopg://"),
        ("DATABASE_WRITE_URL", "app", "postgresql+psycopg://"),
        ("DATABASE_READ_URL", "postgresql+psycopg://app@db/app?no_such=1", "postgresql+psycopg://"),
        ("DATABASE_READ_URL", "postgresql+psycopg://app:geheim@db/app", "database_password"),
        ("DATABASE_POOL_SIZE", "0", "whole number from 1 to 1000"),
        ("DATABASE_POOL_SIZE", "2.5", "whole number from 1 to 1000"),
        ("DATABASE_MAX_OVERFLOW", "-1", "whole number from 0 to 1000"),
        ("DATABASE_POOL_TIMEOUT", "nan", "number from 0.1 to 4"),
        ("DATABASE_POOL_RECYCLE", "soon", "whole number from 1 to 86400"),
        ("DATABASE_MAX_LAG", "9", "number from 1 to 8"),
        ("CACHE_URL", "", "is not set"),
        ("CACHE_URL", "http://cache", "redis://"),
        ("CACHE_URL", "redis://cache:port/0", "redis://"),
        ("CACHE_URL", "redis://app:geheim@cache/0", "cache_password"),
        ("CACHE_MAX_CONNECTIONS", "0", "from 1 to 10000"),
        ("CACHE_TTL", "0", "from 1 to 86400"),
        ("UPSTREAM_URL", "", "is not set"),
        ("UPSTREAM_URL", "ftp://api", "http://"),
        ("UPSTREAM_URL", "http://user:geheim@api", "password"),
        ("UPSTREAM_MAX_CONNECTIONS", "many", "from 1 to 1e+06"),
        ("UPSTREAM_TIMEOUT", "301", "from 0.1 to 300"),
        ("RELEASE_ID", "a b", "letters"),
        ("CREDENTIALS_DIRECTORY", "/nonexistent", "database_password"),
    ],
)
def test_bad_setting_is_named_with_what_is_allowed(name: str, value: str, word: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.from_environment(GOOD | {name: value})
    message = str(caught.value)
    assert message.startswith(name)
    assert word in message
    assert "geheim" not in message


def test_credentials(tmp_path: Path) -> None:
    environ = GOOD | {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    (tmp_path / "database_password").write_text("eins zwei\n")
    with pytest.raises(SettingError, match="cache_password"):
        Settings.from_environment(environ)
    (tmp_path / "cache_password").write_text("\n")
    with pytest.raises(SettingError, match="cache_password is empty"):
        Settings.from_environment(environ)
    (tmp_path / "cache_password").write_text("drei")
    settings = Settings.from_environment(environ)
    assert (settings.database_write["password"], settings.cache_password) == ("eins zwei", "drei")
    assert "eins" not in repr(settings) and "drei" not in repr(settings)


def test_import_fails_with_the_name_of_the_variable() -> None:
    command = [sys.executable, "-c", "import items_service.main"]
    run = subprocess.run(command, cwd=APP, env=GOOD | {"CACHE_URL": "none"}, capture_output=True, text=True)
    assert run.returncode != 0
    assert run.stderr.splitlines()[-1].startswith("items_service.settings.SettingError: CACHE_URL is 'none'; expected")
