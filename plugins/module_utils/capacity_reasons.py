# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why :mod:`capacity` derives each number, in a sentence for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.c50k.stack.plugins.module_utils import capacity as c

KIB, MIB = c.KIB, c.MIB

# By tier and name, as capacity.plan_rows has them.
REASONS = {
    (
        "kernel",
        "net.core.somaxconn",
    ): "Connections that wait to be accepted; the kernel's own 4,096 overflow in a burst.",
    ("kernel", "net.ipv4.ip_local_port_range"): "Ports for connections out; those of services are below.",
    ("kernel", "net.ipv4.tcp_max_syn_backlog"): "Connections that are being made.",
    ("kernel", "net.ipv4.tcp_slow_start_after_idle"): "A connection that was idle goes on as fast as before.",
    ("kernel", "net.ipv4.tcp_tw_reuse"): "A port whose connection has ended serves again.",
    ("app_server", "workers"): (
        f"A worker for each core, {c.MIN_WORKERS} at least, more where a low file limit and the target ask for it; all "
        f"of them, {c.WORKER_BYTES // MIB} MiB each, in half of {c.MEMORY_SHARE:.0%} of the memory."
    ),
    ("app_server", "open_files"): "The file limit of the smallest host.",
    ("app_server", "upstream_connections"): (
        f"Two calls out of each request that a worker may hold, which may be 1/{c.SPREAD:g} of its even share."
    ),
    ("app_server", "database_pool_size"): (
        f"0.{c.POOL_TENTHS} of PostgreSQL's connections, after {c.RESERVED_CONNECTIONS} reserved, by the pools of all "
        f"app servers that max allows: {c.ENGINES_PER_WORKER} a worker, each of {c.MIN_PER_POOL} to {c.MAX_PER_POOL}."
    ),
    ("app_server", "database_max_overflow"): "All of a pool is kept open: a connection on demand costs a login.",
    ("app_server", "cache_max_connections"): (
        f"The cache's clients by the workers of every app server that max allows, {c.MAX_CACHE_CONNECTIONS} at most."
    ),
    (
        "load_balancer",
        "processes",
    ): "HAProxy is one, with a thread for each core; of nginx as many as files and cores ask for.",
    ("load_balancer", "maxconn"): (
        f"The files of a process by {c.FILES_PER_CONNECTION} a connection, or the memory, whichever is less."
    ),
    ("load_balancer", "open_files"): "The file limit of the smallest host.",
    ("load_balancer", "backend_maxconn"): (
        f"What an app server holds by the load balancers that max allows; {c.SOURCE_PORTS:,} at most, by source ports."
    ),
    ("postgres", "max_connections"): (
        f"PostgreSQL's own {c.MAX_CONNECTIONS}, or what the pools need, if a quarter of the memory carries it, "
        f"{c.CONNECTION_BYTES // MIB} MiB each."
    ),
    ("postgres", "shared_buffers"): "A quarter of the memory.",
    ("postgres", "effective_cache_size"): "Three quarters of the memory: the buffers, and the page cache.",
    ("postgres", "work_mem"): "A quarter of the memory by max_connections, 1 to 64 MiB.",
    ("postgres", "maintenance_work_mem"): "A sixteenth of the memory, 16 MiB to 1 GiB.",
    ("postgres", "max_parallel_workers"): "A worker for each core.",
    ("postgres", "max_parallel_workers_per_gather"): "Half of the cores, two at most.",
    (
        "postgres",
        "max_wal_senders",
    ): "Two for each member that max allows, as one that is made takes two; ten at least.",
    ("postgres", "max_replication_slots"): "One for each member that max allows; ten at least.",
    ("redis", "maxmemory_bytes"): (
        f"{c.REDIS_MEMORY_SHARE:g} of the memory; with replicas {c.REPLICATED_MEMORY_SHARE:g}, as a copy is made "
        "for one that is new."
    ),
    ("redis", "replica_buffer_bytes"): f"{c.REPLICA_BUFFER_SHARE:g} of the memory, by the replicas that max allows.",
    (
        "memcached",
        "memory_bytes",
    ): f"{c.MEMCACHED_MEMORY_SHARE:g} of the memory; its table of keys and connections take the rest.",
    ("memcached", "connections"): f"The file limit, less {c.MEMCACHED_FILES_RESERVED} files of its own.",
    ("pgbouncer", "max_client_conn"): "The pools of every app server that max allows, and some for administration.",
    ("pgbouncer", "server_connections"): (
        f"0.{c.POOL_TENTHS} of PostgreSQL's connections, after {c.RESERVED_CONNECTIONS} reserved."
    ),
}
# What the service is told by its environment.
ENVIRONMENT = {
    "upstream_connections": "UPSTREAM_MAX_CONNECTIONS",
    "database_pool_size": "DATABASE_POOL_SIZE",
    "database_max_overflow": "DATABASE_MAX_OVERFLOW",
    "cache_max_connections": "CACHE_MAX_CONNECTIONS",
}


def variable(tier: str, name: str) -> tuple[str, ...]:
    """Return the variable by which a user sets a number himself; of one in a dictionary also its key."""
    if tier == "kernel":
        return "base_sysctl", name
    if tier == "postgres":
        return "postgres_settings", name
    if tier == "app_server" and name in ENVIRONMENT:
        return "app_server_environment", ENVIRONMENT[name]
    return (f"{tier}_{name}",)


def settings(plan: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what a plan derives, rows of ``tier``, ``name``, ``value`` and ``why``.

    :param variables: by tier, and for ``kernel``, the inventory's variables of a host.
    """
    rows = []
    for tier, name, value in c.plan_rows(plan):
        path = variable(tier, name)
        found: Any = variables.get("postgres" if tier == "pgbouncer" else tier, {})
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is None:
            rows.append({"tier": tier, "name": name, "value": value, "why": REASONS[tier, name]})
        else:
            why = f"Set in the inventory: {'.'.join(path)}."
            rows.append({"tier": tier, "name": name, "value": str(found), "why": why})
    return rows
