# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet that is not there, as Prometheus would have scraped it: a deploy, a lost primary, a load test, a full disk.

``made_up_fleet.py past SECONDS`` prints so many seconds until now as OpenMetrics with times, for ``promtool tsdb
create-blocks-from openmetrics``; ``made_up_fleet.py serve PORT SECONDS`` goes on from there, for a scrape each 15 s.
Names and labels are those of Debian's exporters and of the service.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

STEP = 15
HOSTS = {"load_balancer": 2, "app_server": 4, "postgres": 3, "redis": 3, "etcd": 3, "backup": 1, "monitoring": 1}
ROUTES = {"/items/{id}": 0.7, "/items": 0.2, "/items/{id}/changes": 0.06, "/readyz": 0.04}
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
GIB = 2**30


class Fleet:
    """Samples by metric and labels; counters grow by what is added."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.samples: dict[str, list[str]] = defaultdict(list)
        self._counts: dict[tuple[str, str], float] = defaultdict(float)
        self.now = 0.0

    def gauge(self, name: str, value: float, /, **labels: object) -> None:
        self._write(name, _braces(labels), value)

    def counter(self, name: str, more: float, /, **labels: object) -> None:
        braces = _braces(labels)
        self._counts[name, braces] += more
        self._write(name, braces, self._counts[name, braces])

    def histogram(self, name: str, number: float, middle: float, /, **labels: object) -> None:
        """So many observations, half of them below *middle* seconds."""
        for bound in (*SECONDS, math.inf):
            share = 1 / (1 + (middle / bound) ** 3) if bound < math.inf else 1.0
            le = "+Inf" if bound == math.inf else bound
            self.counter(f"{name}_bucket", number * share, **labels, le=le)
        self.counter(f"{name}_count", number, **labels)

    def noise(self, about: float, part: float = 0.08) -> float:
        return about * (1 + part * self.random.uniform(-1, 1))

    def _write(self, name: str, braces: str, value: float) -> None:
        self.samples[name].append(f"{name}{braces} {value:.10g} {self.now:.0f}")

    def lines(self) -> Iterator[str]:
        for name, rows in self.samples.items():
            yield f"# TYPE {name} unknown"
            yield from rows


def _braces(labels: dict[str, object]) -> str:
    said = {name: str(value).replace("\\", "\\\\").replace('"', '\\"') for name, value in labels.items()}
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(said.items())) + "}" if said else ""


def hosts(tier: str) -> list[str]:
    return [f"demo-{tier}-{number + 1}" for number in range(HOSTS[tier])]


def scrape(fleet: Fleet, age: float, length: float) -> None:
    """All of the fleet at one instant, *age* seconds before now of *length* in all."""
    wave = 1 + 0.35 * math.sin(fleet.now / length * 9)
    testing = 0.55 * length < age < 0.7 * length
    failover = 0.3 * length  # the primary was lost so long ago
    lost, back = failover - 25, failover - 600
    without_primary = lost < age <= failover
    service(fleet, age, wave * (4 if testing else 1), without_primary, 0.42 * length)
    database(fleet, age < lost, back < age <= failover, wave)
    machines(fleet, age, length, wave * (2.5 if testing else 1), back < age <= failover)
    fleet.gauge("stack_target_concurrency", 50_000, instance="demo-monitoring-1", tier="monitoring")
    for kind, detail, ago in (
        ("deploy", "3f6c0b9a41de", 0.42 * length),
        ("load test", "hold 20000", 0.7 * length),
        ("site", "0 hosts more", 0.9 * length),
    ):
        if age <= ago:
            fleet.gauge("stack_event_timestamp_seconds", fleet.now + age - ago, kind=kind, detail=detail, **MONITORING)


MONITORING = {"instance": "demo-monitoring-1", "tier": "monitoring", "job": "node"}


def service(fleet: Fleet, age: float, load: float, without_primary: bool, deployed: float) -> None:
    for number, host in enumerate(hosts("app_server")):
        at = {"instance": host, "job": "app", "tier": "app_server"}
        fleet.gauge("up", 1, **at)
        for route, share in ROUTES.items():
            number_of = fleet.noise(620 * share * load * STEP)
            failed = 0.3 if without_primary and route == "/items" else 0.0004
            middle = {"/items/{id}/changes": 8.0, "/items": 0.02}.get(route, 0.004) * (1 + 0.5 * load)
            for status, part in (("200", 1 - failed), ("503", failed)):
                labels = {"method": "GET", "route": route, "status": status, **at}
                fleet.histogram("http_request_duration_seconds", number_of * part, fleet.noise(middle), **labels)
        fleet.histogram("event_loop_lag_seconds", 600, fleet.noise(0.0012 * load), **at)
        fleet.gauge("http_requests_in_flight", fleet.noise(1900 * load), **at)
        for pool, used in (("write", 3 * load), ("read", 9 * load)):
            fleet.gauge("database_pool_connections", min(40, fleet.noise(used)), pool=pool, **at)
            fleet.gauge("database_pool_size", 40, pool=pool, **at)
        for source, share in (("memory", 0.62), ("hit", 0.31), ("miss", 0.05), ("bypass", 0.02)):
            fleet.counter("item_answers_total", fleet.noise(430 * share * load * STEP), cache=source, **at)
        for outcome, share in (("ok", 0.995), ("error", 0.005)):
            fleet.counter("upstream_calls_total", fleet.noise(40 * share * load * STEP), outcome=outcome, **at)
        release = "3f6c0b9a41de" if age <= deployed - 40 * number else "9b1d77aa02c4"
        fleet.gauge("service_release", 4, release=release, **at)
    for host in hosts("load_balancer"):
        at = {"instance": host, "job": "haproxy", "tier": "load_balancer"}
        fleet.gauge("up", 1, **at)
        for code, part in (("2xx", 0.998), ("4xx", 0.0015), ("5xx", 0.05 if without_primary else 0.0005)):
            more = fleet.noise(1240 * load * STEP * part)
            fleet.counter("haproxy_frontend_http_responses_total", more, code=code, proxy="front", **at)
        fleet.counter("haproxy_frontend_http_requests_total", fleet.noise(1240 * load * STEP), proxy="front", **at)
        fleet.gauge("haproxy_process_current_connections", fleet.noise(8200 * load), **at)
        fleet.gauge("haproxy_process_max_connections", 60_000, **at)
        fleet.gauge("haproxy_backend_current_queue", 0 if load < 3 else fleet.noise(40, 1), proxy="app", **at)
        fleet.gauge("haproxy_backend_active_servers", len(hosts("app_server")), proxy="app", **at)
        for server in hosts("app_server"):
            to = {"proxy": "app", "server": server, **at}
            fleet.gauge("haproxy_server_used_connections_current", fleet.noise(950 * load), **to)
            fleet.gauge("haproxy_server_idle_connections_current", fleet.noise(300), **to)
            fleet.gauge("haproxy_server_status", 0, state="DOWN", **to)


def database(fleet: Fleet, second_is_primary: bool, first_is_away: bool, wave: float) -> None:
    primary = "demo-postgres-2" if second_is_primary else "demo-postgres-1"
    for host in hosts("postgres"):
        at = {"instance": host, "job": "postgres", "tier": "postgres", "cluster": "main"}
        away = first_is_away and host == "demo-postgres-1"
        fleet.gauge("up", 0 if away else 1, **at)
        if away:
            continue
        is_primary = host == primary
        fleet.gauge("pg_up", 1, **at)
        fleet.gauge("pg_replication_is_replica", 0 if is_primary else 1, **at)
        fleet.gauge("pg_replication_lag_seconds", 0 if is_primary else fleet.noise(0.02, 0.9), **at)
        fleet.counter("pg_stat_database_xact_commit", fleet.noise(300 * wave * STEP), datname="app", **at)
        fleet.counter("pg_stat_database_xact_rollback", 1, datname="app", **at)
        fleet.counter("pg_stat_database_blks_hit", fleet.noise(9000 * STEP), datname="app", **at)
        fleet.counter("pg_stat_database_blks_read", fleet.noise(60 * STEP), datname="app", **at)
        fleet.gauge("pg_stat_database_numbackends", fleet.noise(48), datname="app", **at)
        fleet.gauge("pg_stat_archiver_last_archive_age", fleet.now % 300, **at)
        fleet.counter("pg_stat_archiver_archived_count", 1 if fleet.now % 300 < STEP else 0, **at)
        fleet.counter("pg_stat_archiver_failed_count", 0, **at)
        fleet.gauge("stack_pgbouncer_clients", 0, state="waiting", **at)
        for replica in hosts("postgres") if is_primary else ():
            if replica != primary and not (first_is_away and replica == "demo-postgres-1"):
                behind = {"application_name": replica, "state": "streaming", **at}
                fleet.gauge("pg_stat_replication_pg_wal_lsn_diff", fleet.noise(60_000, 1), **behind)
    midnight = fleet.now - fleet.now % 86400
    labels = {"cluster": "main", "type": "diff", "instance": "demo-backup-1", "tier": "backup", "job": "node"}
    fleet.gauge("stack_backup_timestamp_seconds", midnight - 9000, **labels)
    for number, host in enumerate(hosts("etcd")):
        at = {"instance": host, "job": "etcd", "tier": "etcd"}
        fleet.gauge("up", 1, **at)
        fleet.gauge("etcd_server_has_leader", 1, **at)
        fleet.gauge("etcd_server_is_leader", number == 0, **at)
        fleet.histogram("etcd_disk_wal_fsync_duration_seconds", 10, fleet.noise(0.003), **at)
        fleet.gauge("etcd_mvcc_db_total_size_in_bytes", fleet.noise(4e6, 0.02), **at)
    for number, host in enumerate(hosts("redis")):
        at = {"instance": host, "job": "redis", "tier": "redis"}
        fleet.gauge("up", 1, **at)
        fleet.gauge("redis_up", 1, **at)
        fleet.gauge("redis_instance_info", 1, role="slave" if number else "master", **at)
        fleet.gauge("redis_memory_used_bytes", fleet.noise(1.3 * GIB, 0.01), **at)
        fleet.gauge("redis_memory_max_bytes", 2 * GIB, **at)
        fleet.counter("redis_keyspace_hits_total", fleet.noise(500 * wave * STEP), **at)
        fleet.counter("redis_keyspace_misses_total", fleet.noise(70 * wave * STEP), **at)
        fleet.counter("redis_commands_processed_total", fleet.noise(900 * wave * STEP), **at)
        fleet.counter("redis_evicted_keys_total", 0, **at)
        fleet.gauge("redis_connected_clients", fleet.noise(64), **at)


def machines(fleet: Fleet, age: float, length: float, load: float, first_is_away: bool) -> None:
    heavy = {"app_server": 0.42, "load_balancer": 0.3, "postgres": 0.2}
    for tier in HOSTS:
        for host in hosts(tier):
            at = {"instance": host, "job": "node", "tier": tier}
            away = first_is_away and host == "demo-postgres-1"
            fleet.gauge("up", 0 if away else 1, **at)
            if away:
                continue
            busy = min(0.98, fleet.noise(heavy.get(tier, 0.05) * load))
            fleet.counter("node_cpu_seconds_total", STEP * (1 - busy), mode="idle", cpu="0", **at)
            fleet.counter("node_cpu_seconds_total", STEP * busy, mode="user", cpu="0", **at)
            fleet.gauge("node_memory_MemTotal_bytes", 8 * GIB, **at)
            fleet.gauge("node_memory_MemAvailable_bytes", fleet.noise(8 * GIB * (1 - 0.3 - busy / 3), 0.01), **at)
            used = 0.955 - 0.1 * age / length if host == "demo-backup-1" else 0.3
            disk = {"device": "/dev/sda", "mountpoint": "/", **at}
            fleet.gauge("node_filesystem_size_bytes", 160 * GIB, **disk)
            fleet.gauge("node_filesystem_avail_bytes", 160 * GIB * (1 - used), **disk)
            fleet.counter("node_disk_io_time_seconds_total", STEP * min(1, fleet.noise(busy / 2)), device="sda", **at)
            for way in ("receive", "transmit"):
                fleet.counter(f"node_network_{way}_bytes_total", fleet.noise(2e7 * busy * STEP), device="eth0", **at)
            fleet.gauge("node_sockstat_TCP_inuse", fleet.noise(20_000 * busy), **at)
            fleet.gauge("node_sysctl_net_ipv4_ip_local_port_range_min", 1024, **at)
            fleet.gauge("node_sysctl_net_ipv4_ip_local_port_range_max", 65_535, **at)
            fleet.gauge("stack_unit_open_files", fleet.noise(24_000 * busy), unit=f"{tier}.service", **at)
            fleet.gauge("stack_unit_open_files_limit", 131_072, unit=f"{tier}.service", **at)
            failed = host == "demo-backup-1" and age < length / 5
            fleet.gauge("node_systemd_unit_state", failed, name="pgbackrest-backup@diff.service", state="failed", **at)


def past(seconds: float) -> None:
    fleet, end = Fleet(), time.time() // STEP * STEP
    for number in range(int(seconds // STEP)):
        fleet.now = end - seconds + number * STEP
        scrape(fleet, end - fleet.now, seconds)
    sys.stdout.writelines(f"{line}\n" for line in fleet.lines())
    print("# EOF")


def serve(port: int, seconds: float) -> None:
    """On loopback; as long as *seconds* ago were the events of the past."""
    fleet, began = Fleet(), time.time()

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fleet.samples.clear()
            fleet.now = time.time()
            scrape(fleet, began - fleet.now, seconds)
            self.send_response(200)
            self.end_headers()
            self.wfile.writelines(f"{line.rpartition(' ')[0]}\n".encode() for line in fleet.lines() if line[0] != "#")

        def log_message(self, *_: object) -> None:
            pass

    HTTPServer(("127.0.0.1", port), Metrics).serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "past":
        past(float(sys.argv[2]))
    else:
        serve(int(sys.argv[2]), float(sys.argv[3]))
