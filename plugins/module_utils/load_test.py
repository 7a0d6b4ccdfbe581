# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ``load_test_*`` variables mean: the commands of each load generator; and what is wrong with them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.c50k.stack.plugins.module_utils.capacity import KERNEL

# What each tool is told a number of.
TOOLS = {"locust": "users", "k6": "users", "hold": "requests"}
# A rate that nobody chose reaches the number in so many seconds.
RAMP = 10
# Samples come once a second, and less than a few tell nothing.
LEAST_SECONDS = 5
# Connections of one load generator to one address, by the local ports that the role base opens.
FIRST_PORT, LAST_PORT = (int(port) for port in str(KERNEL["net.ipv4.ip_local_port_range"]).split())
LOCAL_PORTS = LAST_PORT - FIRST_PORT + 1
FILES_RESERVED = 200
# Seconds after which all that were opened have been counted.
SIGHT = 2
# Seconds that a tool gets to start, and its last requests to end.
START, END = 60, 30

UNIT = "load-test"
MASTER = f"{UNIT}-master"
PYTHON = "/usr/bin/python3"
HOLDER = "/usr/local/lib/hold.py"


class LoadTestError(ValueError):
    """The test cannot be. The message has a sentence or two for each variable that is wrong, and what to do."""


@dataclass(frozen=True)
class Generator:
    """A host that puts load on the service."""

    name: str
    address: str
    processes: int
    open_files: int


@dataclass(frozen=True)
class Load:
    """What is asked for: so many users or requests (``amount``), ``rate`` more a second, all there for ``seconds``."""

    tool: str
    amount: int
    rate: int
    seconds: int
    path: str
    status: int

    @property
    def variable(self) -> str:
        return f"load_test_{TOOLS[self.tool]}"

    @property
    def ramp(self) -> int:
        return math.ceil(self.amount / self.rate)

    @property
    def wait(self) -> int:
        """Seconds that a held request takes: the first one still waits when the last one has waited long enough."""
        return self.ramp + self.seconds + SIGHT

    @property
    def held_path(self) -> str:
        return self.path.replace("{seconds}", str(self.wait))

    @property
    def limit(self) -> int:
        """Seconds after which something is wrong."""
        return START + self.ramp + (self.wait if self.tool == "hold" else self.seconds) + END


def plan(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what runs where; the filter ``load_test_plan`` documents both shapes.

    :raises LoadTestError: the test, the load generators or the fleet cannot be or hold that.
    """
    problems: list[str] = []
    test = read_test(spec, problems)
    tier = spec["load_generator"]
    generators = [
        Generator(host["name"], host["address"], math.ceil(facts["cores"]), facts["open_files"])
        for host, facts in zip(tier["hosts"], tier["capacity"], strict=True)
    ]
    if not generators:
        problems.append("No host is a load generator. Set fleet_tiers.load_generator.count and run site.yml.")
    if not spec["addresses"]:
        problems.append("There is no front door. Set load_test_address, as in http://192.0.2.20, or run site.yml.")
    for address in spec["addresses"]:
        if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname or "," in address:
            problems.append(f"load_test_address has {address!r}: it is a URL, as in http://192.0.2.20.")
        elif test and test.tool == "hold" and urlsplit(address).scheme != "http":
            problems.append(f"load_test_address has {address!r}: load_test_tool hold speaks HTTP without TLS alone.")
    if problems or test is None:
        raise LoadTestError(" ".join(problems))
    # no host runs a part of nothing
    generators = generators[: test.amount]
    problems += carrying_problems(test, generators, spec)
    if problems:
        raise LoadTestError(" ".join(problems))
    commands = {"locust": locust, "k6": k6, "hold": hold}[test.tool]
    does = test.held_path if test.tool == "hold" else f"scenario {spec['scenario']}"
    counted = "requests in flight" if test.tool == "hold" else "users"
    title = f"{test.amount:,} {counted}, {does}"
    hosts = [generator.name for generator in generators]
    return {
        "tool": test.tool,
        "amount": test.amount,
        "counted": counted,
        "title": title,
        "says": (
            f"{test.tool}: {title}; {test.rate:,} more a second, and then all of them for {test.seconds} s; "
            f"from {', '.join(hosts)} to {', '.join(spec['addresses'])}"
        ),
        "rate": test.rate,
        "seconds": test.seconds,
        "limit": test.limit,
        "addresses": list(spec["addresses"]),
        "hosts": hosts,
        "units": commands(test, generators, spec),
    }


def read_test(spec: Mapping[str, Any], problems: list[str]) -> Load | None:
    """Return what the variables ask for; None for an unknown tool. What is wrong is added to *problems*."""
    tool = spec.get("tool")
    if tool not in TOOLS:
        problems.append(f"load_test_tool is {tool!r}: it must be {', '.join(TOOLS)}.")
        return None

    def whole(name: str, least: int, default: int | None = None) -> int:
        value = spec.get(name)
        if value is None and default is not None:
            return default
        # -e load_test_users=100 is a text
        if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) < least:
            problems.append(f"load_test_{name} is {value!r}: it must be a whole number, at least {least}.")
            return least
        return int(str(value))

    amount = whole(TOOLS[tool], 1)
    rate = whole("spawn_rate", 1, max(1, amount // RAMP))
    path = str(spec.get("path"))
    if tool == "hold" and (not path.startswith("/") or not path.isascii() or " " in path):
        problems.append(f"load_test_path is {path!r}: it is a path, as in /items/{{id}}/changes?timeout={{seconds}}.")
    return Load(tool, amount, rate, whole("seconds", LEAST_SECONDS), path, whole("status", 100))


def carrying_problems(test: Load, generators: Sequence[Generator], spec: Mapping[str, Any]) -> Iterator[str]:
    """Why the fleet, or the load generators, cannot hold that many."""
    held = spec["requests_in_flight"]
    if test.amount > held:
        yield (
            f"{test.variable} is {test.amount:,}, each with one request in flight, and the fleet holds {held:,}. What "
            f"binds is {spec['binding']}. Lower it, or set target_concurrency to {test.amount} and see plan.yml."
        )
    if test.tool == "hold" and "{seconds}" in test.path and test.wait >= spec["answer_timeout"]:
        yield (
            f"load_test_seconds is {test.seconds}: as it takes {test.ramp} s to open {test.amount:,} requests at "
            f"{test.rate:,} a second (load_test_spawn_rate), the first one waits for {test.wait} s, and the load "
            f"balancer ends it after {spec['answer_timeout']} s. Set load_balancer_timeout_server to {test.wait + END} "
            "or more and run site.yml, or open them faster, or hold them for less."
        )
    share = math.ceil(test.amount / len(generators))
    ports = LOCAL_PORTS * len(spec["addresses"])
    if share > ports:
        yield (
            f"{test.variable} is {test.amount:,}: from one load generator {ports:,} connections can go to "
            f"{len(spec['addresses'])} addresses. Set fleet_tiers.load_generator.count to "
            f"{math.ceil(test.amount / ports)} or more and run site.yml."
        )
    for generator in generators:
        processes = generator.processes if test.tool == "locust" else 1
        files = processes * (generator.open_files - FILES_RESERVED)
        if test.tool != "hold" and share > files:  # which starts as many processes as its requests need
            yield (
                f"load_test_users is {test.amount:,}: {generator.name} can open {files:,} files in {processes} "
                f"processes. Set fleet_tiers.load_generator.count to {math.ceil(test.amount / max(1, files))} or more."
            )


def unit(generator: Generator, command: Sequence[str], name: str = UNIT) -> dict[str, Any]:
    return {"name": name, "command": list(command), "open_files": generator.open_files}


def locust(test: Load, generators: Sequence[Generator], spec: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """A master on the first host, and a worker for each core of each."""
    first, port = generators[0], str(spec["port"])
    start = [PYTHON, "-m", "locust", "--exit-code-on-error=0"]
    master = [*start, "--locustfile=../scenario.py", "--master", f"--master-bind-host={first.address}"]
    master += [f"--master-bind-port={port}", "--headless", "--only-summary"]
    master += [f"--expect-workers={sum(generator.processes for generator in generators)}"]
    master += [f"--expect-workers-max-wait={START}", f"--stop-timeout={END}"]
    master += [f"--users={test.amount}", f"--spawn-rate={test.rate}", f"--run-time={test.ramp + test.seconds}s"]
    worker = [*start, "--locustfile=../scenario.py,app/locust_samples.py", "--worker", f"--stop-timeout={END}"]
    worker += [f"--master-host={first.address}", f"--master-port={port}"]
    units = {
        generator.name: [unit(generator, [*worker, f"--processes={generator.processes}"])] for generator in generators
    }
    units[first.name].insert(0, unit(first, master, MASTER))
    return units


def k6(test: Load, generators: Sequence[Generator], spec: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Each host runs its segment of all users."""
    command = [PYTHON, "app/k6_samples.py", "site-packages/bin/k6", "run", "--quiet", "--no-summary"]
    command += ["--no-usage-report", "--address=", f"--stage={test.ramp}s:{test.amount}"]
    command += [f"--stage={test.seconds}s:{test.amount}"]
    count = len(generators)
    edges = ["0", *(f"{number}/{count}" for number in range(1, count)), "1"]
    sequence = f"--execution-segment-sequence={','.join(edges)}"
    return {
        generator.name: [unit(generator, [*command, f"--execution-segment={start}:{end}", sequence, "../scenario.js"])]
        for generator, start, end in zip(generators, edges, edges[1:], strict=False)
    }


def hold(test: Load, generators: Sequence[Generator], spec: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Each host holds its share of all requests."""
    count = len(generators)
    command = [PYTHON, HOLDER, *spec["addresses"], "--samples", f"--rate={test.rate / count:g}"]
    command += [f"--path={test.held_path}", f"--status={test.status}"]
    command += [f"--timeout={test.wait + END}"]
    return {
        generator.name: [unit(generator, [*command, f"--requests={(test.amount + number) // count}"])]
        for number, generator in enumerate(generators)
    }
