"""The settings, read once from the environment; the secrets from the files of $CREDENTIALS_DIRECTORY."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from items_service.shards import check_map, parse_shards

DATABASE_FORM = "postgresql+psycopg://USER@HOST[:PORT][,HOST[:PORT]...]/NAME[?target_session_attrs=...]"
CACHE_FORM = (
    "redis://USER@HOST:PORT/0, rediss://..., unix://USER@/PATH, redis+sentinel://USER@HOST:PORT[,HOST:PORT...]/NAME, "
    "memcached://HOST:PORT[,HOST:PORT...] or memcached:///PATH"
)
CLUSTERS_FORM = '{"NAME": {"write": "postgresql+psycopg://...", "read": "...", "shards": "0-127"}, ...}'
HOSTS = r"[\w.-]+:[1-9]\d{0,4}(,[\w.-]+:[1-9]\d{0,4})*"
CACHE_LISTS = {"redis+sentinel": rf"([\w.-]+@)?{HOSTS}/[\w.-]+", "memcached": rf"{HOSTS}|/.+"}
UPSTREAM_FORM = "http://HOST[:PORT][/PATH] or https://..."
OTLP_FORM = "http://HOST:4318 or https://HOST[:PORT][/PATH], without /v1/traces"


class SettingError(ValueError):
    """A setting is missing or wrong. The message names the variable, its value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A primary and its replicas."""

    write: dict[str, Any] = field(repr=False)  # libpq keywords, password included
    read: dict[str, Any] = field(repr=False)
    shards: frozenset[int] = frozenset()  # those it is to have; which it has, it says itself


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations are seconds. Pools and connection limits are per worker process."""

    clusters: dict[str, Cluster]  # by name; the one of a service without shards has none
    database_pool_size: int
    database_max_overflow: int
    database_pool_timeout: float
    database_pool_recycle: int
    database_max_lag: float
    cache_url: str
    cache_password: str | None = field(repr=False)
    cache_max_connections: int
    cache_ttl: int
    upstream_url: str
    upstream_max_connections: int
    upstream_timeout: float
    release_id: str
    metrics: bool  # all of them, not requests in flight alone
    access_log: bool
    otlp_headers: dict[str, str] = field(repr=False)  # for who takes the traces
    sentry_dsn: str | None = field(repr=False)

    @property
    def sharded(self) -> bool:
        return "" not in self.clusters

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read every setting; raise SettingError for the first that is missing or wrong."""
        database_password = _credential(environ, "database_password")
        if environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):  # OpenTelemetry reads it itself
            _url(environ, "OTEL_EXPORTER_OTLP_ENDPOINT", ("http", "https"), OTLP_FORM, "otlp_headers")
        cache_url = _url(environ, "CACHE_URL", ("redis", "rediss", "unix"), CACHE_FORM, "cache_password", CACHE_LISTS)
        return cls(
            clusters=_clusters(environ, database_password),
            database_pool_size=int(_number(environ, "DATABASE_POOL_SIZE", 10, 1, 1000)),
            database_max_overflow=int(_number(environ, "DATABASE_MAX_OVERFLOW", 0, 0, 1000)),
            database_pool_timeout=_number(environ, "DATABASE_POOL_TIMEOUT", 2.0, 0.1, 4),
            database_pool_recycle=int(_number(environ, "DATABASE_POOL_RECYCLE", 1800, 1, 86400)),
            database_max_lag=_number(environ, "DATABASE_MAX_LAG", 5.0, 1, 8),
            cache_url=cache_url,
            cache_password=None if cache_url.startswith("memcached:") else _credential(environ, "cache_password"),
            cache_max_connections=int(_number(environ, "CACHE_MAX_CONNECTIONS", 50, 1, 10000)),
            cache_ttl=int(_number(environ, "CACHE_TTL", 60, 1, 86400)),
            upstream_url=_url(environ, "UPSTREAM_URL", ("http", "https"), UPSTREAM_FORM).rstrip("/"),
            upstream_max_connections=int(_number(environ, "UPSTREAM_MAX_CONNECTIONS", 1000, 1, 1_000_000)),
            upstream_timeout=_number(environ, "UPSTREAM_TIMEOUT", 5.0, 0.1, 300),
            release_id=_text(environ, "RELEASE_ID", "development", r"[\w.+-]{1,128}", "letters, digits and ._+-"),
            metrics=_text(environ, "METRICS", "off", r"on|off", "on or off") == "on",
            access_log=_text(environ, "ACCESS_LOG", "off", r"on|off", "on or off") == "on",
            otlp_headers=_headers(_credential(environ, "otlp_headers", required=False) or ""),
            sentry_dsn=_credential(environ, "sentry_dsn", required=False),
        )


def _required(environ: Mapping[str, str], name: str, allowed: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise SettingError(f"{name} is not set; expected {allowed}")
    return value


def _number(environ: Mapping[str, str], name: str, default: int | float, low: float, high: float) -> float:
    """A number from low to high; whole if the default is."""
    value = environ.get(name) or str(default)
    try:
        number = type(default)(value)
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise SettingError(f"{name} is {value!r}; expected {kind} from {low:g} to {high:g}")
    return number


def _text(environ: Mapping[str, str], name: str, default: str, pattern: str, allowed: str) -> str:
    value = environ.get(name) or default
    if not re.fullmatch(pattern, value, re.ASCII):
        raise SettingError(f"{name} is {value!r}; expected {allowed}")
    return value


def _url(
    environ: Mapping[str, str],
    name: str,
    schemes: tuple[str, ...],
    allowed: str,
    credential: str | None = None,
    lists: Mapping[str, str] | None = None,
) -> str:
    """An address; `lists` has for each scheme of several hosts a pattern of what comes after it."""
    value = _required(environ, name, allowed)
    shown = re.sub(r":[^/@]*@", ":***@", value)
    scheme, _, rest = value.partition("://")
    if re.fullmatch((lists or {}).get(scheme, r"(?!)"), rest, re.ASCII):
        return value
    try:
        parts = urlsplit(value)
        valid = parts.scheme in schemes and bool(parts.path if parts.scheme == "unix" else parts.hostname)
        valid = valid and (parts.scheme == "unix" or parts.port != 0)
    except ValueError:
        valid = False
    if not valid:
        raise SettingError(f"{name} is {shown!r}; expected {allowed}")
    if parts.password is not None:
        source = f"the file {credential} of $CREDENTIALS_DIRECTORY" if credential else "no variable"
        raise SettingError(f"{name} is {shown!r}; a password belongs in {source}, not in the address")
    return value


def _clusters(environ: Mapping[str, str], password: str | None) -> dict[str, Cluster]:
    """The cluster of DATABASE_WRITE_URL, or those of DATABASE_CLUSTERS."""
    text = environ.get("DATABASE_CLUSTERS", "")
    if not text:
        read_url = "DATABASE_READ_URL" if environ.get("DATABASE_READ_URL") else "DATABASE_WRITE_URL"
        write = _database(environ, "DATABASE_WRITE_URL", password)
        return {"": Cluster(write, _database(environ, read_url, password))}
    for name in ("DATABASE_WRITE_URL", "DATABASE_READ_URL"):
        if environ.get(name):
            raise SettingError(f"{name} and DATABASE_CLUSTERS are both set; with shards the latter has all addresses")
    try:
        given = json.loads(text)
        if not isinstance(given, dict) or not given:
            raise ValueError("it is no object with a cluster in it")
        clusters = {}
        for name, parts in given.items():
            if not re.fullmatch(r"[a-z0-9_]{1,48}", name, re.ASCII):
                raise ValueError(f"{name!r} is no name of a cluster: 1 to 48 of a-z, 0-9 and _")
            if not isinstance(parts, dict) or parts.keys() != {"write", "read", "shards"}:
                raise ValueError(f"{name} must have write, read and shards")
            addresses = {f"DATABASE_CLUSTERS.{name}.{key}": parts[key] for key in ("write", "read")}
            write, read = (_database(addresses, key, password) for key in addresses)
            clusters[name] = Cluster(write, read, parse_shards(parts["shards"]))
        check_map({name: cluster.shards for name, cluster in clusters.items()})
    except SettingError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingError(f"DATABASE_CLUSTERS: {error}; expected {CLUSTERS_FORM}") from None
    return clusters


def _database(environ: Mapping[str, str], name: str, password: str | None) -> dict[str, Any]:
    """The libpq keywords of a database address; the password comes from the credential alone."""
    value = _required(environ, name, DATABASE_FORM)
    shown = re.sub(r":[^/@]*@", ":***@", value)
    scheme, separator, rest = value.partition("://")
    try:
        if not separator or scheme not in ("postgresql+psycopg", "postgresql"):
            raise ProgrammingError("unknown scheme")
        keywords = conninfo_to_dict(f"postgresql://{rest}")
    except ProgrammingError:
        raise SettingError(f"{name} is {shown!r}; expected {DATABASE_FORM}") from None
    if "password" in keywords:
        raise SettingError(
            f"{name} carries a password; it belongs in the file database_password of $CREDENTIALS_DIRECTORY"
        )
    return keywords if password is None else {**keywords, "password": password}


def _credential(environ: Mapping[str, str], name: str, required: bool = True) -> str | None:
    """A secret. None without $CREDENTIALS_DIRECTORY: for services that trust the local user."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return None
    path = Path(directory, name)
    if not required and not path.exists():
        return None
    try:
        secret = path.read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"CREDENTIALS_DIRECTORY needs a readable file {name}: {error}") from None
    if not secret:
        raise SettingError(f"CREDENTIALS_DIRECTORY: {path} is empty; expected one line, the secret")
    return secret


def _headers(text: str) -> dict[str, str]:
    """Those of the form of $OTEL_EXPORTER_OTLP_HEADERS; a message must not show them, as they are secrets."""
    headers = {}
    for part in filter(None, text.split(",")):
        name, _, value = (unquote(word.strip()) for word in part.partition("="))
        if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) or not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value):
            raise SettingError("CREDENTIALS_DIRECTORY: otlp_headers is no list NAME=VALUE,NAME=VALUE of HTTP headers")
        headers[name] = value
    return headers
