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
    (cluster,) = settings.clusters.values()
    assert cluster.write == cluster.read and not settings.sharded
    assert cluster.write["host"] == "10.0.3.10,10.0.3.11"
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
        ("CACHE_URL", "redis+sentinel://app@10.0.4.10:26379", "redis+sentinel://"),
        ("CACHE_URL", "redis+sentinel://app:geheim@10.0.4.10:26379/main", "redis+sentinel://"),
        ("CACHE_URL", "memcached://10.0.7.10", "memcached://"),
        ("CACHE_MAX_CONNECTIONS", "0", "from 1 to 10000"),
        ("CACHE_TTL", "0", "from 1 to 86400"),
        ("UPSTREAM_URL", "", "is not set"),
        ("UPSTREAM_URL", "ftp://api", "http://"),
        ("UPSTREAM_URL", "http://user:geheim@api", "password"),
        ("UPSTREAM_MAX_CONNECTIONS", "many", "from 1 to 1e+06"),
        ("UPSTREAM_TIMEOUT", "301", "from 0.1 to 300"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "http://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:geheim@collector:4318", "otlp_headers"),
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
    assert (settings.clusters[""].write["password"], settings.cache_password) == ("eins zwei", "drei")
    assert "eins" not in repr(settings) and "drei" not in repr(settings)


@pytest.mark.parametrize(
    "text", ["geheim", "=geheim", "api key=geheim", "key=", "key=geheim%0D%0Ax: y", "key=geh\u00e4im"]
)
def test_headers_that_are_none_are_said_without_what_they_are(tmp_path: Path, text: str) -> None:
    for name in ("database_password", "cache_password"):
        (tmp_path / name).write_text("eins")
    (tmp_path / "otlp_headers").write_text(text)
    with pytest.raises(SettingError, match="otlp_headers is no list NAME=VALUE") as caught:
        Settings.from_environment(GOOD | {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert "geh" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://app@10.0.4.10:26379,10.0.4.11:26379,10.0.4.12:26379/main",
        "memcached://10.0.7.10:11211,10.0.7.11:11211",
        "memcached:///run/memcached.sock",
    ],
)
def test_lists_of_cache_hosts(url: str) -> None:
    assert Settings.from_environment(GOOD | {"CACHE_URL": url}).cache_url == url


def test_memcached_has_no_password(tmp_path: Path) -> None:
    (tmp_path / "database_password").write_text("eins")
    memcached = {"CACHE_URL": "memcached://10.0.7.10:11211", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert Settings.from_environment(GOOD | memcached).cache_password is None


def test_import_fails_with_the_name_of_the_variable() -> None:
    command = [sys.executable, "-c", "import items_service.main"]
    run = subprocess.run(command, cwd=APP, env=GOOD | {"CACHE_URL": "none"}, capture_output=True, text=True)
    assert run.returncode != 0
    assert run.stderr.splitlines()[-1].startswith("items_service.settings.SettingError: CACHE_URL is 'none'; expected")
