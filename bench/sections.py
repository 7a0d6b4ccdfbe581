# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page shows of the results, section by section: text, commands, charts and tables, none of it drawn yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from textwrap import shorten
from typing import Any

from goals import (
    BALANCERS,
    FAILOVER_SECONDS,
    HELD,
    HOLD_RUNS,
    MEMORY_KIB,
    OURS,
    P99_TO_P50,
    ROUTES,
    Results,
    Row,
    command,
    times,
)

CONTENDERS = {
    OURS: "ours, HAProxy",
    "items, nginx": "ours, nginx",
    "items, no load balancer": "ours, no balancer",
    "fastapi": "FastAPI",
    "fastify": "fastify",
    "published": "as published",
}
MEASURED_ROUTES = ("cached", "calling_out")
REASON = 80  # characters
GIB = 2**30


@dataclass(frozen=True)
class Bar:
    """A value with its label, and a note that is written after it."""

    label: str
    value: float
    note: str
    ours: bool


@dataclass(frozen=True)
class Line:
    """Points (x, y) of one series; ``style`` is a number that gives it its colour and marker, on all charts alike."""

    label: str
    points: tuple[tuple[float, float], ...]
    style: int


@dataclass(frozen=True)
class Panel:
    """One pair of axes: bars along x, or lines; ``goal`` is a value to mark, with what is written at it."""

    title: str
    x: str
    y: str = ""
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    log: bool = False
    goal: tuple[float, str] | None = None


@dataclass(frozen=True)
class Chart:
    """Panels side by side; the title is for those who cannot see it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; with ``folded``, behind these words."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: str = ""


@dataclass(frozen=True)
class Section:
    """Without charts and tables its results are missing, and the commands make them."""

    title: str
    text: str
    commands: tuple[str, ...]
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    links: tuple[tuple[str, str], ...] = ()  # words, and a file beside the page


def sections(results: Results) -> list[Section]:
    return [
        hold_runs(results),
        memory(results),
        contenders(results),
        over_concurrency(results),
        open_loop(results),
        engines(results),
        observers(results),
        profiles(results),
        upstream_clients(results),
        failover(results),
        move_shard(results),
        inventory(results),
        provision(results),
        firewall(results),
    ]


def hold_runs(results: Results) -> Section:
    rows = results.get("in_flight", [])
    columns = (
        *("engine", "route", "asked for", "in flight", "held", "answered", "failed"),
        *("load balancers", "app hosts", "opened each second", "site.yml", "failures"),
    )
    cells = tuple(
        (
            *(engine(row), route(row), f"{row['requests']:,}", f"{row['requests_in_flight']:,}"),
            *(f"{row['seconds_held']:.0f} s", f"{row['answered']:,}", f"{row['failed']:,}"),
            *(f"{row['load_balancers']}", f"{row['app_servers']}", f"{row['rate']:,.0f}"),
            "not run" if row["site_seconds"] is None else f"{row['site_seconds']:,} s",
            reasons(row),
        )
        for row in rows
    )
    return Section(
        "Requests in flight over time",
        "Each request is an HTTP/1.1 connection of its own, opened by the load generator and held through load "
        f"balancer and app. The app hosts' own gauge counts them; a run counts when all are held for {HELD:.0f} s and "
        "every body is right.",
        hold_commands(rows),
        tuple(hold_chart(row) for row in rows if row["samples"]),
        (Table(columns, cells),) if rows else (),
    )


def reasons(row: Row) -> str:
    """Return why requests failed, without the bodies that are given as examples."""
    counts: Counter[str] = Counter()
    for reason, count in row["failures"].items():
        counts[shorten(reason.partition(", such as ")[0], REASON)] += count
    return "; ".join(f"{count:,} {reason}" for reason, count in counts.most_common()) or "none"


def hold_chart(row: Row) -> Chart:
    samples = row["samples"]

    def points(value: Any) -> tuple[tuple[float, float], ...]:
        return tuple((sample["seconds"], value(sample)) for sample in samples)

    flying = Line("in flight", points(lambda sample: sample["in_flight"]), 0)
    stack = Line("hosts and kernel", points(lambda sample: (sample["memory"] - sample["client"]) / GIB), 1)
    client = Line("client", points(lambda sample: sample["client"] / GIB), 2)
    name = f"{engine(row)}, {route(row)}, {row['requests']:,}"
    asked = (float(row["requests"]), "asked for")
    return Chart(
        f"{name}: requests in flight, and memory, over time",
        (
            Panel(name, "seconds", "requests in flight", lines=(flying,), goal=asked),
            Panel("memory in use meanwhile", "seconds", "GiB", lines=(stack, client)),
        ),
    )


def memory(results: Results) -> Section:
    rows = results.get("in_flight", [])
    panels = []
    for name in ("long_poll", "calling_out"):
        bars = tuple(
            Bar(
                f"{engine(row)}, {row['requests_in_flight']:,}",
                row["memory_kib_each"],
                f"{row['memory_kib_each']:g} KiB",
                True,
            )
            for row in rows
            if row["route"] == name
        )
        goal = (MEMORY_KIB, f"goal ≤ {MEMORY_KIB:g}") if name == "long_poll" else None
        panels.append(Panel(ROUTES[name], "KiB each", bars=bars, goal=goal))
    return Section(
        "Memory per request in flight",
        "What the whole machine uses more than before the run, without the client, divided by the requests in flight: "
        "load balancer, app, and the kernel's share of every connection. Calling out, each request has two more "
        "connections, and the external API that holds them counts too.",
        hold_commands(rows),
        drawn("Memory per request in flight", panels),
    )


def hold_commands(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(command(row) for row in rows or HOLD_RUNS)


def contenders(results: Results) -> Section:
    found = results.get("throughput", {})
    rows = found.get("summary", [])

    def as_bar(row: Row) -> Bar:
        return Bar(contender(row), row["requests_a_second"], rate_and_ratio(row), row["contender"].startswith("items"))

    cells = tuple((contender(row), route(row), *measured(row), times(row["ratio"])) for row in rows)
    columns = ("contender", "route", *MEASURED, "ours ÷ it")
    return Section(
        "The contenders side by side",
        f"GET /items/{{id}} with {found.get('connections', 64)} connections, one app host with "
        f"{found.get('workers', 2)} workers, medians of rounds in which each had its turn. Ours ÷ it is the median "
        "ratio of ours with HAProxy to it in the same round. Contenders have the same caches and do the same work; as "
        "published has no cache, and calls out on every route.",
        ("bench/throughput.py",),
        drawn("Requests a second of each contender", by_route(rows, "requests a second", as_bar)),
        (Table(columns, cells),) if rows else (),
    )


def over_concurrency(results: Results) -> Section:
    rows = results.get("throughput", {}).get("sweep", [])
    axes = {
        "requests_a_second": ("Throughput", "requests a second"),
        "p50_ms": ("Median latency", "p50, ms"),
        "p99_ms": ("Tail latency", "p99, ms"),
    }
    charts: list[Chart] = []
    for key, (title, y) in axes.items():
        panels = [
            Panel(f"{title}, {ROUTES[name]}", "connections", y, lines=lines_of(rows, name, key), log=True)
            for name in MEASURED_ROUTES
        ]
        charts += drawn(f"{title} over concurrency", panels)
    cells = tuple((contender(row), route(row), f"{row['connections']:,}", *measured(row)) for row in rows)
    return Section(
        "Throughput and latency over concurrency",
        "The same requests over a number of connections, each with one request at a time. Both axes are logarithmic.",
        ("bench/throughput.py",),
        tuple(charts),
        (Table(("contender", "route", "connections", *MEASURED), cells, "every number"),) if rows else (),
    )


def lines_of(rows: Sequence[Row], name: str, key: str) -> tuple[Line, ...]:
    """Return a line for each contender; what a logarithm does not take is left out."""
    found = []
    for style, own in enumerate(dict.fromkeys([*CONTENDERS, *(row["contender"] for row in rows)])):
        mine = sorted((row for row in rows if (row["contender"], row["route"]) == (own, name)), key=by_connections)
        points = tuple((row["connections"], row[key]) for row in mine if row[key] > 0)
        if points:
            found.append(Line(CONTENDERS.get(own, own), points, style))
    return tuple(found)


def by_connections(row: Row) -> float:
    return float(row["connections"])


def open_loop(results: Results) -> Section:
    rows = results.get("throughput", {}).get("open_loop", [])
    goal = (P99_TO_P50, f"goal ≤ {P99_TO_P50:g}")

    def as_bar(row: Row) -> Bar:
        return Bar(contender(row), row["p99_to_p50"], f"{row['p99_to_p50']:g}", True)

    cells = tuple(
        (contender(row), route(row), f"{row['rate']:,.0f}", *measured(row), f"{row['p99_to_p50']:g}") for row in rows
    )
    return Section(
        "Tail latency, open-loop",
        "Arrivals that do not wait for answers, at random moments, at 70 % of the most that the same generator gets.",
        ("bench/throughput.py",),
        drawn("p99 divided by p50", by_route(rows, "p99 ÷ p50", as_bar, goal)),
        (Table(("contender", "route", "arrivals a second", *MEASURED, "p99 ÷ p50"), cells),) if rows else (),
    )


def engines(results: Results) -> Section:
    found = results.get("engines", {})
    rows = found.get("summary", [])
    default = rows[0]["engine"] if rows else ""

    def as_bar(row: Row) -> Bar:
        return Bar(row["engine"], row["requests_a_second"], rate_and_default(row, default), row["engine"] == default)

    cells = tuple(
        (row["engine"], route(row), *measured(row), f"{row['memory_mib']:,.0f} MiB", times(row["ratio"]))
        for row in rows
    )
    columns = ("app_server_engine", "route", *MEASURED, "memory of an app host", "÷ the default")
    return Section(
        "What runs the application",
        f"The same release under each app_server_engine, over HAProxy, {found.get('connections', 64)} connections, "
        f"{found.get('workers', 2)} workers.",
        ("bench/engines.py",),
        drawn("Requests a second of each engine", by_route(rows, "requests a second", as_bar)),
        (Table(columns, cells),) if rows else (),
    )


def observers(results: Results) -> Section:
    found = results.get("observers", {})
    rows = found.get("summary", [])

    def as_bar(row: Row) -> Bar:
        return Bar(row["variant"], row["ratio"], f"{row['ratio']:.2f}", row["variant"] == "none")

    cells = tuple(
        (row["variant"], route(row), *measured(row), times(row["ratio"]), times(row["p99_ratio"]), f"{row['unsent']:,}")
        for row in rows
    )
    columns = ("what watches", "route", *MEASURED, "÷ none", "p99 ÷ none", "not sent")
    return Section(
        "What it costs to watch the service",
        "The same release with each of METRICS, ACCESS_LOG, traces over OTLP and Sentry, over HAProxy, "
        f"{found.get('connections', 64)} connections, {found.get('workers', 2)} workers, against none of them in the "
        "same round. What takes the traces is a process on the app host, so that its CPU time is in it too; spans that "
        "are made faster than it takes them are dropped, and counted as not sent.",
        ("bench/observers.py",),
        drawn(
            "Requests a second with what watches, divided by those with none",
            by_route(rows, "requests a second ÷ those with none", as_bar),
        ),
        (Table(columns, cells),) if rows else (),
    )


def profiles(results: Results) -> Section:
    found = results.get("profiles", {})
    rows = sorted(found.get("rows", []), key=lambda row: (row["route"], row["version"] != "before"))

    def as_bar(row: Row) -> Bar:
        return Bar(row["version"], row["cpu_us_each"], f"{row['cpu_us_each']:,.0f}", row["version"] == "after")

    columns = ("service", "route", "requests a second", "CPU of one request", "of the load balancer", "failed")
    cells = tuple(
        (
            *(row["version"], route(row), f"{row['requests_a_second']:,.0f}"),
            *(f"{row[key]:,.0f} µs" for key in ("cpu_us_each", "load_balancer_cpu_us_each")),
            f"{row['failed']:,}",
        )
        for row in rows
    )
    return Section(
        "Where the service's CPU time goes",
        f"The same stack with the service at commit {found.get('before', '…')}, before its hot path was worked on, and "
        "after. CPU time is that of its processes, and of the load balancer's, divided by the requests; the flame "
        "graphs are of its workers under the same load.",
        ("bench/profiles.py",),
        drawn("CPU time of one request, before and after", by_route(rows, "CPU of one request, µs", as_bar)),
        (Table(columns, cells),) if rows else (),
        tuple((f"{row['version']}, {route(row)}", row["flame_graph"]) for row in rows),
    )


def upstream_clients(results: Results) -> Section:
    rows = results.get("upstream_client", {}).get("summary", [])
    panels = [
        Panel(
            f"{under_way:,} calls under way",
            "CPU of one call, µs",
            bars=tuple(
                Bar(row["client"], row["cpu_us_each"], f"{row['cpu_us_each']:,.0f}", row["client"] == "pyreqwest")
                for row in rows
                if row["under_way"] == under_way
            ),
        )
        for under_way in sorted({row["under_way"] for row in rows})
    ]
    cells = tuple(
        (
            row["client"],
            f"{row['under_way']:,}",
            f"{row['calls_a_second']:,.0f}",
            f"{row['cpu_us_each']:,.0f} µs",
            f"{row['memory_mib']:,.0f} MiB",
        )
        for row in rows
    )
    columns = ("client", "calls under way", "calls a second", "CPU of one call", "memory")
    return Section(
        "What a call to the external API costs",
        "One process and one HTTP client on loopback; the service calls with pyreqwest.",
        ("bench/upstream_client.py",),
        drawn("CPU of one call", panels),
        (Table(columns, cells),) if rows else (),
    )


def failover(results: Results) -> Section:
    found = results.get("failover", {})
    rows = found.get("losses", [])
    keys = {"gap_seconds": "no write acknowledged", "whole_seconds": "all members back"}
    lines = tuple(
        Line(name, tuple((number, row[key]) for number, row in enumerate(rows, 1)), style)
        for style, (key, name) in enumerate(keys.items())
    )
    goal = (FAILOVER_SECONDS, f"goal ≤ {FAILOVER_SECONDS:g}")
    panels = [Panel("Loss by loss", "loss", "seconds", lines=lines if rows else (), goal=goal)]
    cells = tuple(
        (
            *(f"{number}", row["host"], f"{row['gap_seconds']:.1f} s", f"{row['promoted_seconds']:.1f} s"),
            *(f"{row['whole_seconds']:.0f} s", f"{row['ok']:,}", f"{row['lost']:,}", f"{row['failed']:,}"),
            f"{row['unknown']:,}, {row['unknown_and_there']:,} of them there",
        )
        for number, row in enumerate(rows, 1)
    )
    columns = (
        *("loss", "primary that was lost", "no write acknowledged", "another is primary", "all members back"),
        *("acknowledged", "of them lost", "failed", "unknown"),
    )
    return Section(
        "The primary's host loses its power",
        f"SIGKILL of everything on it, cut off first, and off for {found.get('seconds_off', 60)} s, while eight "
        "writers post through the front door. Every write that was acknowledged is looked for afterwards, and every "
        "member is asked all the while to take one, so that two primaries would be seen.",
        ("bench/failover.py",),
        drawn("Seconds without an acknowledged write, loss by loss", panels),
        (Table(columns, cells, "every loss"),) if rows else (),
    )


def move_shard(results: Results) -> Section:
    sizes = results.get("move_shard", [])
    pauses = {row["rows"]: sorted(move["pause_ms"] for move in row["moves"]) for row in sizes}
    lines = (
        Line("median", tuple((rows, median(found)) for rows, found in pauses.items()), 0),
        Line("longest", tuple((rows, found[-1]) for rows, found in pauses.items()), 1),
    )
    cells = tuple(
        (
            *(f"{row['rows']:,}", f"{len(row['moves'])}", f"{median(pauses[row['rows']]):,.0f} ms"),
            *(f"{pauses[row['rows']][-1]:,.0f} ms", f"{median(move['seconds'] for move in row['moves']):.1f} s"),
            *(f"{row['ok']:,}", f"{row['lost']:,}", f"{row['failed'] + row['unknown']:,}"),
            f"{row['slowest_write_seconds'] * 1000:,.0f} ms",
        )
        for row in sizes
    )
    columns = (
        *("rows of a shard", "moves", "pause, median", "longest", "a move, median", "writes acknowledged"),
        *("of them lost", "failed or unknown", "slowest of all writes"),
    )
    return Section(
        "A shard moves to another cluster",
        "move_shard.yml while eight writers post to all shards through the front door. The pause is what a writer of "
        "the shard that moves waits at the most: for the last rows, for the comparison of both copies, and until the "
        "other cluster has it. Every write that was acknowledged is looked for afterwards.",
        ("bench/move_shard.py",),
        drawn(
            "Milliseconds that writers of the shard wait, by its rows",
            [Panel("The pause", "rows", "ms", lines=lines, log=True)],
        )
        if sizes
        else (),
        (Table(columns, cells),) if sizes else (),
    )


def inventory(results: Results) -> Section:
    found = results.get("inventory", {})
    rows = tuple(
        (plugin, f"{row['calls']}", f"{row['seconds']:.1f} s", f"{row['mib']:.0f} MiB", f"{row['hosts']:,}")
        + (f"{row['hosts_with_vpc_address']:,}",)
        for plugin, row in found.get("median", {}).items()
    )
    columns = ("inventory plugin", "API calls", "time", "memory", "hosts", "with a VPC address")
    return Section(
        "Reading a large account",
        f"Both plugins parse an account of {found.get('instances', 10_000):,} instances.",
        ("bench/inventory.py",),
        tables=(Table(columns, rows),) if rows else (),
    )


def provision(results: Results) -> Section:
    found = results.get("provision", {})
    rows = tuple((row["run"], f"{row['seconds']:.0f} s", f"{row['calls']}") for row in found.get("runs", []))
    return Section(
        "Making and removing a fleet",
        f"{found.get('instances', 50)} instances, at Linode's own rate limits, no hosts behind the API.",
        ("bench/provision.py",),
        tables=(Table(("run", "time", "API calls"), rows),) if rows else (),
    )


def firewall(results: Results) -> Section:
    found = results.get("firewall", {})
    kinds = {
        "connections": "new connections a second",
        "requests": "requests a second",
        "gigabits": "bulk, Gbit/s",
    }
    ratios = found.get("ratio_to_none", {})
    cells = tuple((setup, *(f"{row[kind]:.2f}" for kind in kinds)) for setup, row in ratios.items())
    return Section(
        "What a Cloud Firewall costs in the lab",
        "Traffic between two hosts in a VPC with the largest firewall there can be, divided by the same without one.",
        ("bench/firewall.py",),
        tables=(Table(("firewall", *kinds.values()), cells),) if cells else (),
    )


MEASURED = ("requests a second", "p50", "p99", "failed")


def measured(row: Row) -> tuple[str, ...]:
    """Return the cells under MEASURED."""
    latencies = (f"{row[key]:,.1f} ms" for key in ("p50_ms", "p99_ms"))
    return (f"{row['requests_a_second']:,.0f}", *latencies, f"{row['failed']:,}")


def rate_and_ratio(row: Row) -> str:
    rate = f"{row['requests_a_second']:,.0f}"
    return rate if row["contender"] == OURS else f"{rate}, ours {times(row['ratio'])}"


def rate_and_default(row: Row, default: str) -> str:
    rate = f"{row['requests_a_second']:,.0f}"
    ratio = "" if row["engine"] == default else f"{times(row['ratio'])} "
    return f"{rate}, {ratio}the default"


def by_route(
    rows: Sequence[Row], x: str, as_bar: Callable[[Row], Bar], goal: tuple[float, str] | None = None
) -> list[Panel]:
    """Return a panel for each of MEASURED_ROUTES, with the bars of its rows."""
    return [
        Panel(ROUTES[name], x, bars=tuple(as_bar(row) for row in rows if row["route"] == name), goal=goal)
        for name in MEASURED_ROUTES
    ]


def drawn(title: str, panels: Sequence[Panel]) -> tuple[Chart, ...]:
    """Return one chart of the panels that have something to draw, or none."""
    found = tuple(panel for panel in panels if panel.bars or panel.lines)
    return (Chart(title, found),) if found else ()


def contender(row: Row) -> str:
    return str(CONTENDERS.get(row["contender"], row["contender"]))


def engine(row: Row) -> str:
    return str(BALANCERS.get(row["engine"], row["engine"]))


def route(row: Row) -> str:
    return str(ROUTES.get(row["route"], row["route"]))
