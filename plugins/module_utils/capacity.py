# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The arithmetic of a fleet: what each tier's hosts can hold, from their cores, memory and file limit.

Everything here is pure. Two rules hold throughout: the smallest host of a tier decides for all of it, and budgets
shared between tiers count every host that ``max`` allows, so that a new host changes nothing on the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KIB = 1024
MIB = 1024 * KIB

# Requests in flight, where nobody says otherwise.
TARGET = 50_000

# Memory of a host that the service may plan with; the rest is for the kernel, the page cache and the system.
MEMORY_SHARE = 0.75
# One request in flight: measured 63 KiB each with 51,000, for client, load balancer and app together. A fleet that has
# measured its own (load_test.yml -e calibrate=true) says so in capacity_measured.
REQUEST_BYTES = 64 * KIB
# Of a host's cores, that requests may plan with; beyond, they wait for each other.
CORE_SHARE = 0.7
# One gunicorn worker at rest: interpreter, application, database and cache clients.
WORKER_BYTES = 128 * MIB
# Two, so that one that restarts or blocks does not take the host away.
MIN_WORKERS = 2
# Files of one request: its own connection and two calls out, made side by side.
FILES_PER_REQUEST = 3
# Files of one connection through a load balancer: the client's side and the backend's.
FILES_PER_CONNECTION = 2
# Files a process needs besides: listeners, logs, checks, pollers.
FILES_RESERVED = 200
# Of what a host's processes hold in all, where the kernel spreads connections over them by a hash.
SPREAD = 0.95
# Ports of one source address towards one backend: of those in KERNEL's range the even half, which the kernel tries
# first; past it each new connection searches for longer.
SOURCE_PORTS = (65_535 - 10_240 + 1) // 2

# What a host that takes many connections wants of its kernel. The ports of services are below the local range.
KERNEL = {
    "net.core.somaxconn": 65_535,
    "net.ipv4.ip_local_port_range": "10240 65535",
    "net.ipv4.tcp_max_syn_backlog": 65_535,
    "net.ipv4.tcp_slow_start_after_idle": 0,
    "net.ipv4.tcp_tw_reuse": 1,
}

# PostgreSQL: its own default, and what is kept from the pools: superuser_reserved_connections and administration.
MAX_CONNECTIONS = 100
SUPERUSER_CONNECTIONS = 3
ADMIN_CONNECTIONS = 12
RESERVED_CONNECTIONS = SUPERUSER_CONNECTIONS + ADMIN_CONNECTIONS
# Of the rest the pools may plan nine tenths.
POOL_TENTHS = 9
# A worker has a read-write and a read-only engine; with no replica left both reach the primary.
ENGINES_PER_WORKER = 2
MIN_PER_POOL = 2
# More do not make one worker faster: PostgreSQL runs about as many at once as it has cores.
MAX_PER_POOL = 20
# What may be between the app tier and PostgreSQL.
POOLERS = ("none", "pgbouncer")
# One backend with warm catalogue caches; fresh ones take less than 2 MiB.
CONNECTION_BYTES = 4 * MIB

# Redis: its default maxclients, files it keeps for itself, and the most that one worker can use at once.
REDIS_MAX_CLIENTS = 10_000
REDIS_FILES_RESERVED = 32
REDIS_MEMORY_SHARE = 0.6
MAX_CACHE_CONNECTIONS = 64
# With replicas, of the memory: less for data, as a copy of it is made for one that is new, and some for what they are
# behind, all together.
REPLICATED_MEMORY_SHARE = 0.5
REPLICA_BUFFER_SHARE = 0.1
# Memcached: what its table of keys and its connections leave.
MEMCACHED_MEMORY_SHARE = 0.7
MEMCACHED_FILES_RESERVED = 64

# A file limit that nothing has lowered (fs.nr_open): assumed of a type, since no host of it can be asked yet.
NR_OPEN = 1_048_576


class CapacityError(ValueError):
    """The input is malformed, or the sum of its parts cannot hold. The message names the variables to change."""


@dataclass(frozen=True)
class Host:
    """What one host can use: ``cores``, ``memory_bytes`` (bytes) and ``open_files`` (of one process)."""

    cores: float
    memory_bytes: int
    open_files: int


@dataclass(frozen=True)
class Tier:
    """The hosts of one tier: ``count`` now, at most ``max``, none smaller than ``smallest``, all with ``engine``."""

    name: str
    count: int
    max: int
    smallest: Host
    fixed: Mapping[str, int]
    engine: str = ""
    pooler: str = "none"
    failover: str = "none"
    request_bytes: int = REQUEST_BYTES
    requests_per_core: float = 0.0  # a second; 0 where nobody has measured it


@dataclass(frozen=True)
class Limit:
    """How many requests can be in flight at once, and what sets it."""

    number: int
    reason: str


@dataclass(frozen=True)
class Pools:
    """The connections of PostgreSQL, and of each worker's engine; with a pooler also those that it takes and makes."""

    max_connections: int
    size: int = 0
    overflow: int = 0
    max_client_conn: int = 0
    server_connections: int = 0


# What a user may set himself in a tier, to be checked with the rest of the sum: key -> the variable it comes from.
FIXED = {
    "app_server": {
        "workers": "app_server_workers",
        "database_pool_size": "DATABASE_POOL_SIZE",
        "database_max_overflow": "DATABASE_MAX_OVERFLOW",
    },
    "postgres": {"max_connections": "postgres_settings.max_connections"},
}
TIERS = ("app_server", "load_balancer", "postgres", "redis", "memcached")
POOL_KEYS = {"database_pool_size", "database_max_overflow"}
# What capacity_measured has of a tier, and between what it can be: KiB of memory, requests a second.
MEASURED_TIERS = ("app_server", "load_balancer")
MEASURED = {"request_kib": (1, 65_536), "requests_per_core": (0.1, 1_000_000)}


def whole(value: object, name: str, least: int = 0) -> int:
    """*value* as an int of at least *least*; CapacityError naming *name* otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise CapacityError(f"{name} is {value!r}: it must be a whole number of at least {least}.")
    return value


def number(value: object) -> object:
    """*value*, as a number where it is the text of one, as in an environment."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def parse_host(value: object, name: str) -> Host:
    """A host from its facts (``cores``, ``memory_bytes``, ``open_files``) or a type (``vcpus``, ``memory`` in MiB)."""
    if not isinstance(value, Mapping):
        raise CapacityError(f"{name} is {value!r}: it must be a host's 'capacity' facts or a type of the Linode API.")
    if "vcpus" in value:
        vcpus, memory = whole(value["vcpus"], f"{name}.vcpus", 1), whole(value.get("memory"), f"{name}.memory", 1)
        return Host(float(vcpus), memory * MIB, NR_OPEN)
    cores = value.get("cores")
    if isinstance(cores, bool) or not isinstance(cores, (int, float)) or not cores > 0:
        raise CapacityError(f"{name}.cores is {cores!r}: it must be a number above 0.")
    memory = whole(value.get("memory_bytes"), f"{name}.memory_bytes", 1)
    return Host(float(cores), memory, whole(value.get("open_files"), f"{name}.open_files", 1))


def parse_measured(value: object) -> dict[str, dict[str, float]]:
    """What ``capacity_measured`` says of each tier: ``request_kib``, ``requests_per_core``, or one of them."""
    if not isinstance(value, Mapping):
        raise CapacityError(
            f"capacity_measured is {value!r}: it must be as `load_test.yml -e calibrate=true` writes it, for instance "
            "{app_server: {request_kib: 40, requests_per_core: 900}}. Without it, capacity plans with its own figures."
        )
    found: dict[str, dict[str, float]] = {}
    for tier, figures in value.items():
        if tier == "by":
            continue
        if tier not in MEASURED_TIERS or not isinstance(figures, Mapping):
            raise CapacityError(
                f"capacity_measured.{tier} is {figures!r}: it has {' and '.join(MEASURED_TIERS)}, each a mapping."
            )
        for name, figure in figures.items():
            if name not in MEASURED:
                raise CapacityError(f"capacity_measured.{tier} has {name}: known are {', '.join(MEASURED)}.")
            least, most = MEASURED[name]
            if isinstance(figure, bool) or not isinstance(figure, (int, float)) or not least <= figure <= most:
                raise CapacityError(
                    f"capacity_measured.{tier}.{name} is {figure!r}: it must be a number from {least} to {most:,}. "
                    "`load_test.yml -e calibrate=true` measures it; without it, capacity plans with its own figure."
                )
        found[tier] = dict(figures)
    return found


def parse_tier(name: str, value: object, measured: Mapping[str, float]) -> Tier | None:
    """One tier of the input, with what was *measured* of it; None when it has no host now."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise CapacityError(f"tiers.{name} is {value!r}: it must have 'max' and 'hosts'.")
    hosts = value.get("hosts")
    if not isinstance(hosts, Sequence) or isinstance(hosts, str):
        raise CapacityError(f"tiers.{name}.hosts is {hosts!r}: it must be a list with the limits of each host.")
    if not hosts:
        return None
    sizes = [parse_host(host, f"tiers.{name}.hosts[{number}]") for number, host in enumerate(hosts)]
    given = {key: number for key, number in value.items() if number is not None}
    count = whole(given.get("count", len(sizes)), f"fleet_tiers.{name}.count", 1)
    most = whole(given.get("max", count), f"fleet_tiers.{name}.max", 1)
    if max(count, len(sizes)) > most:
        raise CapacityError(
            f"Tier {name} has {max(count, len(sizes))} hosts, but fleet_tiers.{name}.max is {most} and every budget "
            f"counts on it: raise fleet_tiers.{name}.max."
        )
    smallest = Host(
        min(host.cores for host in sizes),
        min(host.memory_bytes for host in sizes),
        min(host.open_files for host in sizes),
    )
    fixed = {
        key: whole(number(given[key]), variable, 0 if key == "database_max_overflow" else 1)
        for key, variable in FIXED.get(name, {}).items()
        if key in given
    }
    pooler = given.get("pooler", "none")
    if pooler not in POOLERS:
        raise CapacityError(f"postgres_pooler is {pooler!r}: it must be {' or '.join(POOLERS)}.")
    failover = str(value.get("failover") or "none")
    return Tier(
        name,
        count,
        most,
        smallest,
        fixed,
        str(value.get("engine") or ""),
        pooler,
        failover,
        math.ceil(measured["request_kib"] * KIB) if "request_kib" in measured else REQUEST_BYTES,
        measured.get("requests_per_core", 0.0),
    )


def gib(memory_bytes: int) -> str:
    return f"{memory_bytes / (1024 * MIB):.1f} GiB"


def usable_files(host: Host) -> int:
    """Files of one process that connections may have."""
    return max(1, host.open_files - FILES_RESERVED)


def processes_for(tier: Tier, target: int, files_each: int) -> int:
    """Processes of a host for its share of the target: one for each core, or as many as the file limit asks for."""
    share = math.ceil(target / tier.max)
    return max(math.ceil(tier.smallest.cores), math.ceil(share * files_each / SPREAD / usable_files(tier.smallest)))


def app_workers(tier: Tier, target: int) -> int:
    """Workers of one host, in at most half of its memory, as the requests need the rest."""
    carried = int(tier.smallest.memory_bytes * MEMORY_SHARE) // 2 // WORKER_BYTES
    wanted = max(MIN_WORKERS, processes_for(tier, target, FILES_PER_REQUEST))
    return tier.fixed.get("workers") or max(1, min(carried, wanted))


def app_requests(tier: Tier, workers: int) -> Limit:
    """Requests one app server can hold: by the files of its workers, or by its memory."""
    host = tier.smallest
    files = int(workers * usable_files(host) // FILES_PER_REQUEST * (SPREAD if workers > 1 else 1))
    memory = max(0, int(host.memory_bytes * MEMORY_SHARE) - workers * WORKER_BYTES) // tier.request_bytes
    if files < memory:
        reason = f"{workers} workers, {host.open_files} open files each, {FILES_PER_REQUEST} a request"
        return Limit(files, f"app_server: {reason}")
    return Limit(memory, f"app_server: {gib(host.memory_bytes)} of memory, {tier.request_bytes // KIB} KiB a request")


def load_balancer_processes(tier: Tier, target: int) -> int:
    """HAProxy is one process, whatever its threads; nginx has one for each core, or as many as its files ask for."""
    return processes_for(tier, target, FILES_PER_CONNECTION) if tier.engine == "nginx" else 1


def load_balancer_connections(tier: Tier, processes: int) -> Limit:
    """Connections one load balancer host can hold: by the files of its processes, or by its memory."""
    host = tier.smallest
    files = int(processes * usable_files(host) // FILES_PER_CONNECTION * (SPREAD if processes > 1 else 1))
    memory = int(host.memory_bytes * MEMORY_SHARE) // tier.request_bytes
    if files < memory:
        reason = f"{processes} process{'es' if processes > 1 else ''}, {host.open_files} open files each"
        return Limit(files, f"load_balancer: {reason}, {FILES_PER_CONNECTION} a connection")
    reason = f"{gib(host.memory_bytes)} of memory, {tier.request_bytes // KIB} KiB a connection"
    return Limit(memory, f"load_balancer: {reason}")


def throughput(tiers: Sequence[Tier]) -> dict[str, Any]:
    """What today's hosts answer a second, and what keeps it from being more; nothing where nobody has measured it."""
    limits = [
        Limit(
            int(tier.count * tier.smallest.cores * CORE_SHARE * tier.requests_per_core),
            f"{tier.name}: {CORE_SHARE:g} of {tier.count} x {tier.smallest.cores:g} cores, of which each answers "
            f"{tier.requests_per_core:,g} a second (capacity_measured)",
        )
        for tier in tiers
        if tier.requests_per_core
    ]
    if not limits:
        return {}
    tightest = min(limits, key=lambda limit: limit.number)
    return {"requests_per_second": tightest.number, "requests_per_second_binding": tightest.reason}


def plan_pools(postgres: Tier, app: Tier | None, workers: int) -> Pools:
    """Connections such that the pools of every allowed app server fit at once: into PostgreSQL, or into its pooler.

    max_connections stays at PostgreSQL's default unless the pools need more, and then grows to what a quarter of the
    memory carries. All of a pool is kept open: a connection on demand costs a login each time. CapacityError with the
    sum and the variables that disagree when it cannot fit.
    """
    carried = postgres.smallest.memory_bytes // 4 // CONNECTION_BYTES
    given = postgres.fixed.get("max_connections")
    if postgres.pooler != "none":
        return plan_pooler(postgres, app, workers, given or min(MAX_CONNECTIONS, carried))
    if app is None:
        return Pools(given or min(MAX_CONNECTIONS, carried))

    pools = app.max * workers * ENGINES_PER_WORKER
    size, overflow, chosen = pool_of(app)
    size = size or MIN_PER_POOL
    needed = RESERVED_CONNECTIONS + math.ceil(pools * (size + overflow) * 10 / POOL_TENTHS)
    if needed > (given or carried):
        memory = f"{gib(postgres.smallest.memory_bytes)} of memory on a postgres host carry {carried}"
        have = f"postgres_settings.max_connections is {given}" if given else memory
        more = f"set it to {needed}" if needed <= carried else "choose a larger fleet_tiers.postgres.type"
        raise CapacityError(
            f"The database pools do not fit. {sum_of(app, workers, size + overflow)}, at most 0.{POOL_TENTHS} of what "
            f"is left after {RESERVED_CONNECTIONS} reserved, need {needed} connections, but {have}: {more}"
            f"{f' ({memory})' if given else ''}, set postgres_pooler: pgbouncer, or lower {chosen}."
        )
    connections = given or max(needed, min(MAX_CONNECTIONS, carried))
    if not app.fixed.keys() & POOL_KEYS:
        size = min(MAX_PER_POOL, (connections - RESERVED_CONNECTIONS) * POOL_TENTHS // 10 // pools)
    return Pools(connections, size, overflow)


def plan_pooler(postgres: Tier, app: Tier | None, workers: int, max_connections: int) -> Pools:
    """The same with PgBouncer on each postgres host: the server's connections are its own, and its files bind."""
    server = (max_connections - RESERVED_CONNECTIONS) * POOL_TENTHS // 10
    if server < MIN_PER_POOL:
        raise CapacityError(
            f"postgres_settings.max_connections is {max_connections}, of which {RESERVED_CONNECTIONS} are reserved: "
            f"PgBouncer has {max(0, server)} left and needs {MIN_PER_POOL}. Raise it."
        )
    if app is None:
        return Pools(max_connections, max_client_conn=server + ADMIN_CONNECTIONS, server_connections=server)
    pools = app.max * workers * ENGINES_PER_WORKER
    clients = usable_files(postgres.smallest) - server - ADMIN_CONNECTIONS
    size, overflow, chosen = pool_of(app)
    size = size or min(MAX_PER_POOL, clients // pools)
    if size < MIN_PER_POOL and "database_pool_size" not in app.fixed or pools * (size + overflow) > clients:
        needed = pools * (max(size, MIN_PER_POOL) + overflow)
        raise CapacityError(
            f"The database pools do not fit. {sum_of(app, workers, max(size, MIN_PER_POOL) + overflow)} are {needed}, "
            f"but PgBouncer on a postgres host with {postgres.smallest.open_files} open files takes {max(0, clients)}: "
            f"raise the host's file limit, or lower {chosen}."
        )
    return Pools(max_connections, size, overflow, pools * (size + overflow) + ADMIN_CONNECTIONS, server)


def pool_of(app: Tier) -> tuple[int, int, str]:
    """A user's own pool size, 0 for none, and overflow; and what to lower where they do not fit."""
    chosen = [variable for key, variable in FIXED["app_server"].items() if key in POOL_KEYS and key in app.fixed]
    lower = " or ".join(chosen) or f"fleet_tiers.app_server.max ({app.max})"
    return app.fixed.get("database_pool_size", 0), app.fixed.get("database_max_overflow", 0), lower


def sum_of(app: Tier, workers: int, connections: int) -> str:
    return f"{app.max} app servers x {workers} workers x {ENGINES_PER_WORKER} engines x {connections} connections"


def postgres_settings(tier: Tier, max_connections: int) -> dict[str, int | str]:
    """postgresql.conf settings of one host.

    A quarter of the memory each goes to the shared buffers, to the connections, to their sorts, and to the page cache.
    """
    host = tier.smallest
    quarter = host.memory_bytes // 4
    cores = math.ceil(host.cores)
    return {
        "max_connections": max_connections,
        "shared_buffers": f"{quarter // MIB}MB",
        "effective_cache_size": f"{3 * quarter // MIB}MB",
        "work_mem": f"{min(64 * MIB, max(MIB, quarter // max_connections)) // KIB}kB",
        "maintenance_work_mem": f"{min(1024, max(16, quarter // 4 // MIB))}MB",
        "max_parallel_workers": cores,
        "max_parallel_workers_per_gather": min(2, cores // 2),
        # A replica takes one sender and one slot; while it is made it takes a second sender.
        "max_wal_senders": max(10, 2 * tier.max),
        "max_replication_slots": max(10, tier.max),
    }


def redis_memory(tier: Tier) -> dict[str, int]:
    """Bytes of a Redis host for data, and where it has replicas for what each of them is behind."""
    memory = tier.smallest.memory_bytes
    if tier.failover == "none":
        return {"maxmemory_bytes": int(memory * REDIS_MEMORY_SHARE)}
    return {
        "maxmemory_bytes": int(memory * REPLICATED_MEMORY_SHARE),
        "replica_buffer_bytes": int(memory * REPLICA_BUFFER_SHARE / max(1, tier.max - 1)),
    }


def cache_clients(tier: Tier) -> int:
    """Connections that one cache host takes."""
    if tier.name == "redis":
        return min(REDIS_MAX_CLIENTS, tier.smallest.open_files - REDIS_FILES_RESERVED)
    return tier.smallest.open_files - MEMCACHED_FILES_RESERVED


def cache_connections(cache: Tier, app: Tier, workers: int) -> int:
    """Connections of one worker to a cache host, such that every allowed app server fits at once."""
    clients = cache_clients(cache) * POOL_TENTHS // 10
    connections = min(MAX_CACHE_CONNECTIONS, clients // (app.max * workers))
    if connections < 1:
        raise CapacityError(
            f"The cache connections do not fit. {app.max} app servers x {workers} workers need one each, but a "
            f"{cache.name} host with {cache.smallest.open_files} open files serves {max(0, clients)}: lower "
            f"fleet_tiers.app_server.max ({app.max}) or app_server_workers ({workers})."
        )
    return connections


def plan(spec: object) -> dict[str, Any]:
    """The whole plan of a fleet, in the shape that the filter ``capacity`` documents; CapacityError for bad input."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("tiers"), Mapping):
        raise CapacityError("The input must be a mapping with 'tiers' (and 'target_concurrency').")
    unknown = sorted(set(spec["tiers"]) - set(TIERS))
    if unknown:
        raise CapacityError(f"tiers has {', '.join(unknown)}: known are {', '.join(TIERS)}.")
    target = whole(spec.get("target_concurrency", TARGET), "target_concurrency", 1)
    # a host gets more processes than cores only for a target that somebody asked for
    wanted = target if "target_concurrency" in spec else 1
    measured = parse_measured(spec.get("measured") or {})
    app, balancer, postgres, redis, memcached = (
        parse_tier(name, spec["tiers"].get(name), measured.get(name, {})) for name in TIERS
    )

    result: dict[str, Any] = {"target_concurrency": target, "kernel": KERNEL}
    limits = []
    workers, requests = 0, None
    if app:
        workers = app_workers(app, wanted)
        requests = app_requests(app, workers)
        limits.append(Limit(app.count * requests.number, requests.reason))
        result["app_server"] = {
            "workers": workers,
            "open_files": app.smallest.open_files,
            # of one worker, which may get more than its even share of the requests
            "upstream_connections": math.ceil((FILES_PER_REQUEST - 1) * requests.number / workers / SPREAD),
        }
    if balancer:
        processes = load_balancer_processes(balancer, wanted)
        connections = load_balancer_connections(balancer, processes)
        limits.append(Limit(balancer.count * connections.number, connections.reason))
        share = requests.number // balancer.max if requests else connections.number
        result["load_balancer"] = {
            "processes": processes,
            # of one process, which may get more than its even share
            "maxconn": int(connections.number / processes / (SPREAD if processes > 1 else 1)),
            "open_files": balancer.smallest.open_files,
            "backend_maxconn": max(1, min(share, SOURCE_PORTS)),
        }
        if app and share > SOURCE_PORTS:
            reason = f"load_balancer: {SOURCE_PORTS} source ports towards each app server"
            limits.append(Limit(balancer.count * app.count * SOURCE_PORTS, reason))
        elif app and balancer.count < balancer.max:
            reason = (
                f"load_balancer: {balancer.count} of {balancer.max} hosts, each with its share of an app server "
                "(fleet_tiers.load_balancer.max)"
            )
            limits.append(Limit(balancer.count * app.count * share, reason))
    if postgres:
        pools = plan_pools(postgres, app, workers)
        result["postgres"] = {"settings": postgres_settings(postgres, pools.max_connections)}
        if app:
            result["app_server"] |= {"database_pool_size": pools.size, "database_max_overflow": pools.overflow}
        if pools.server_connections:
            result["pgbouncer"] = {
                "max_client_conn": pools.max_client_conn,
                "server_connections": pools.server_connections,
            }
    if redis:
        result["redis"] = redis_memory(redis)
    if memcached:
        memory = int(memcached.smallest.memory_bytes * MEMCACHED_MEMORY_SHARE)
        result["memcached"] = {"memory_bytes": memory, "connections": max(1, cache_clients(memcached))}
    caches = [tier for tier in (redis, memcached) if tier]
    if app and caches:
        result["app_server"]["cache_max_connections"] = min(cache_connections(tier, app, workers) for tier in caches)
    tightest = min(limits, key=lambda limit: limit.number, default=Limit(0, "no app_server and no load_balancer host"))
    answered = throughput([tier for tier in (app, balancer) if tier])
    return {**result, "requests_in_flight": tightest.number, "binding": tightest.reason, **answered}


def plan_rows(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What *result*, a plan, derives for one host: rows of tier, name and value."""
    found = []
    for tier in ("kernel", *TIERS, "pgbouncer"):
        values = result.get(tier, {})
        for name, value in {**values, **values.get("settings", {})}.items():
            if name != "settings":
                found.append((tier, name, f"{value:,}" if isinstance(value, int) else str(value)))
    return found
