# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures that have a goal, as read from the results, and whether each is met."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

Row = Mapping[str, Any]
Results = Mapping[str, Any]

NAMES = (
    *("in_flight", "throughput", "engines", "observers", "profiles", "upstream_client"),
    *("failover", "move_shard", "inventory", "provision", "firewall"),
)
BALANCERS = {"haproxy": "HAProxy", "nginx": "nginx"}
ROUTES = {"cached": "cached", "calling_out": "calling out", "long_poll": "long poll"}
OURS = "items, haproxy"
# The load balancers that the file limit of 20,000 asks for; one HAProxy holds 9,900 connections with it.
HOLD_RUNS = (
    {"engine": "haproxy", "route": "calling_out", "requests": 50_000, "load_balancers": 6},
    {"engine": "nginx", "route": "calling_out", "requests": 50_000, "load_balancers": 6},
    {"engine": "haproxy", "route": "long_poll", "requests": 250_000, "load_balancers": 28},
    {"engine": "nginx", "route": "long_poll", "requests": 250_000, "load_balancers": 28},
)
HELD = 10.0  # seconds
MEMORY_KIB = 40.0
P99_TO_P50 = 3.0
FAILOVER_SECONDS = 23.0


class ResultError(ValueError):
    """A file of results cannot be read. The message names it and what makes it anew."""


@dataclass(frozen=True)
class Reading:
    """What was measured of one variant; ``met`` is None where nothing was."""

    of: str
    text: str
    met: bool | None


@dataclass(frozen=True)
class Figure:
    """A figure with its goal, in words; met when every variant meets it, None while that is open."""

    name: str
    goal: str
    readings: tuple[Reading, ...]
    command: str

    @property
    def met(self) -> bool | None:
        found = {reading.met for reading in self.readings}
        return False if False in found else None if None in found else True


def load(folder: Path) -> dict[str, Any]:
    """Return what the files in *folder* hold, by name; those that are not there are left out."""
    found = {}
    for name in NAMES:
        path = folder / f"{name}.json"
        if path.exists():
            try:
                found[name] = json.loads(path.read_text())
            except ValueError as error:
                raise ResultError(f"{path} is not JSON ({error}): remove it, and run bench/{name}.py again.") from error
    return found


def figures(results: Results) -> list[Figure]:
    """Return the headline figures, measured or not."""
    return [
        in_flight(results, "calling_out"),
        in_flight(results, "long_poll"),
        memory(results),
        ratio(results, "the published design", "published", {"cached": 100, "calling_out": 20}),
        ratio(results, "FastAPI done well", "fastapi", {"cached": 2, "calling_out": 3}),
        ratio(results, "a Node.js fastify service", "fastify", {"cached": 1, "calling_out": 1}),
        ratio(results, "the app with no load balancer", "items, no load balancer", {"cached": 0.7}, tuple(BALANCERS)),
        open_loop(results),
        failover(results),
    ]


def in_flight(results: Results, route: str) -> Figure:
    wanted = next(run for run in HOLD_RUNS if run["route"] == route)["requests"]
    readings = []
    for engine, name in BALANCERS.items():
        row = best_run(results, engine, route)
        if row is None:
            readings.append(Reading(name, "not measured", None))
            continue
        met = clean(row) and row["requests_in_flight"] >= wanted
        readings.append(Reading(name, held(row), met))
    path = "/items/{id} calling out" if route == "calling_out" else "the long-poll route"
    goal = f"{wanted:,} for {HELD:.0f} s, none failed"
    return Figure(f"requests in flight at once, {path}", goal, tuple(readings), hold_command(results, route))


def memory(results: Results) -> Figure:
    readings = []
    for engine, name in BALANCERS.items():
        row = best_run(results, engine, "long_poll")
        if row is None:
            readings.append(Reading(name, "not measured", None))
        else:
            text = f"{row['memory_kib_each']:g} KiB with {row['requests_in_flight']:,}{failures(row)}"
            readings.append(Reading(name, text, row["memory_kib_each"] <= MEMORY_KIB and not row["failed"]))
    name = "machine memory per request in flight, long-poll route, client excluded"
    return Figure(name, f"≤ {MEMORY_KIB:g} KiB", tuple(readings), hold_command(results, "long_poll"))


def ratio(
    results: Results, words: str, contender: str, goals: Mapping[str, float], engines: tuple[str, ...] = ("haproxy",)
) -> Figure:
    """Our throughput divided by the contender's, by load balancer and route; missed too where some of ours failed.

    The services that others would write are measured behind HAProxy, and so is ours beside them.
    """
    rows = {(row["contender"], row["route"]): row for row in results.get("throughput", {}).get("summary", [])}
    readings = []
    for engine in engines:
        for route, goal in goals.items():
            ours, its = rows.get((f"items, {engine}", route)), rows.get((contender, route))
            variant = f"{BALANCERS[engine]} {ROUTES[route]}"
            if ours is None or its is None:
                readings.append(Reading(variant, "not measured", None))
            else:
                found = its["ratio"] / ours["ratio"]  # both of the same one, HAProxy's, in the same rounds
                readings.append(Reading(variant, times(found) + failures(ours), found >= goal and not ours["failed"]))
    goal_words = ", ".join(f"{ROUTES[route]} ≥ {goal:g}" for route, goal in goals.items())
    return Figure(f"GET /items/{{id}} through the stack ÷ {words}", goal_words, tuple(readings), "bench/throughput.py")


def open_loop(results: Results) -> Figure:
    rows = {(row["contender"], row["route"]): row for row in results.get("throughput", {}).get("open_loop", [])}
    readings = []
    for engine, name in BALANCERS.items():
        for route in ("cached", "calling_out"):
            row, variant = rows.get((f"items, {engine}", route)), f"{name} {ROUTES[route]}"
            if row is None:
                readings.append(Reading(variant, "not measured", None))
            else:
                met = row["p99_to_p50"] <= P99_TO_P50 and not row["failed"]
                readings.append(Reading(variant, f"{row['p99_to_p50']:g}{failures(row)}", met))
    name = "p99 ÷ p50 at 70 % of the highest throughput, open-loop"
    return Figure(name, f"≤ {P99_TO_P50:g}", tuple(readings), "bench/throughput.py")


def failover(results: Results) -> Figure:
    rows = results.get("failover", {}).get("losses", [])
    name = "longest time without an acknowledged write, when the primary's host loses its power"
    goal = f"≤ {FAILOVER_SECONDS:g} s, none lost"
    readings = [Reading("PostgreSQL", "not measured", None)]
    if rows:
        gaps = [row["gap_seconds"] for row in rows]
        lost, ok = (sum(row[key] for row in rows) for key in ("lost", "ok"))
        text = f"{len(rows)} losses, {median(gaps):.1f} s, at most {max(gaps):.1f} s; {lost:,} of {ok:,} lost"
        readings = [Reading("PostgreSQL", text, max(gaps) <= FAILOVER_SECONDS and not lost)]
    return Figure(name, goal, tuple(readings), "bench/failover.py")


def clean(row: Row) -> bool:
    """Whether nothing failed and all were held long enough to count."""
    return not row["failed"] and row["seconds_held"] >= HELD


def best_run(results: Results, engine: str, route: str) -> Row | None:
    """Return the hold run that held most with nothing failed, else the one that held most."""
    own = [row for row in results.get("in_flight", []) if (row["engine"], row["route"]) == (engine, route)]
    return max(own, key=lambda row: (clean(row), row["requests_in_flight"]), default=None)


def held(row: Row) -> str:
    long = f"for {row['seconds_held']:.0f} s" if row["seconds_held"] else "at most"
    return f"{row['requests_in_flight']:,} {long}{failures(row) or ', none failed'}"


def times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 100 else f"{ratio:.3g}×"


def failures(row: Row) -> str:
    return f", {row['failed']:,} failed" if row["failed"] else ""


def hold_command(results: Results, route: str) -> str:
    """Return the command of the runs that the figures are read from, for both engines."""
    best = [best_run(results, engine, route) for engine in BALANCERS]
    row = next((row for row in best if row), next(run for run in HOLD_RUNS if run["route"] == route))
    return command({**row, "engine": "ENGINE"})


def command(row: Row) -> str:
    """Return the command of a hold run."""
    options = {"engine": row["engine"], "route": row["route"], "requests": row["requests"]}
    options["load-balancers"] = row["load_balancers"]
    if "rate" in row:
        options["rate"] = f"{row['rate']:g}"
    return " ".join(["bench/in_flight.py", *(f"--{name} {value}" for name, value in options.items())])


def verdict(met: bool | None) -> str:
    return {True: "met", False: "missed", None: "open"}[met]


def markdown(rows: list[Figure]) -> str:
    """Return the figures as a table for README; readings that miss the goal are marked."""
    lines = ["| figure | goal | measured | command |", "|---|---|---|---|"]
    for row in rows:
        measured = "; ".join(
            f"{reading.of} {reading.text}" + (" (missed)" if reading.met is False else "") for reading in row.readings
        )
        lines.append(f"| {row.name} | {row.goal} | {measured} | `{row.command}` |")
    return "\n".join(lines)
