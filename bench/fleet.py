# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet that is measured: made by site.yml in the lab, and asked over SSH while it works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent
INVENTORY = PROJECT / "bench" / "inventory"
RESULTS = Path(os.environ.get("BENCH_RESULTS") or PROJECT / "bench" / "results")
BIN = Path(sys.executable).parent
UPSTREAM = ("198.51.100.250", 9000)
UPSTREAM_NAMESPACE = "c50k-upstream"


def play(playbook: str, **variables: Any) -> float:
    """Run a playbook on the fleet; return the seconds it took."""
    command = [PROJECT / "tests/quick", "ansible-playbook", "-i", INVENTORY, PROJECT / "playbooks" / f"{playbook}.yml"]
    started = time.monotonic()
    log = PROJECT / ".cache" / f"bench-{Path(playbook).name}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as output:
        done = subprocess.run(
            [*command, "-e", json.dumps(variables)],
            cwd=PROJECT,
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{playbook}.yml failed; the end of {log}:\n{log.read_text()[-4000:]}")
    return time.monotonic() - started


def tiers(load_balancer: int, app_server: int, load_generator: int) -> dict[str, Any]:
    """Return fleet_tiers with so many hosts; the sizes are of memory, the cores are the machine's."""
    sizes = {
        "load_balancer": (load_balancer, "g6-nanode-1"),
        "app_server": (app_server, "g6-standard-6"),
        "postgres": (1, "g6-standard-2"),
        "redis": (1, "g6-nanode-1"),
        "load_generator": (load_generator, "g6-standard-6"),
    }
    return {tier: {"count": count, "max": count, "type": size} for tier, (count, size) in sizes.items()}


class Fleet:
    """The hosts, as the inventory has them now."""

    def __init__(self) -> None:
        command = [BIN / "ansible-inventory", "-i", INVENTORY, "--list"]
        listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
        found = json.loads(listed, object_hook=lambda value: value.get("__ansible_unsafe", value))
        self._hostvars = found["_meta"]["hostvars"]
        self._groups = {name: sorted(group.get("hosts", [])) for name, group in found.items() if name != "_meta"}

    def names(self, tier: str) -> list[str]:
        return self._groups.get(tier, [])

    def public(self, tier: str) -> list[str]:
        return [self._hostvars[name]["ansible_host"] for name in self.names(tier)]

    def private(self, tier: str) -> list[str]:
        return [self._hostvars[name]["stack_address"] for name in self.names(tier)]

    def ssh(self, name: str, *command: str) -> list[str]:
        """Return the words that run a command on a host."""
        secrets = INVENTORY / ".secrets"
        options = [
            f"UserKnownHostsFile={secrets}/known_hosts",
            "LogLevel=ERROR",
            "StrictHostKeyChecking=accept-new",
            "ControlMaster=auto",
            "ControlPersist=60",
        ]
        options += ["ControlPath=/run/c50k-bench-%C", "ServerAliveInterval=30"]
        words = [word for option in options for word in ("-o", option)]
        return [
            "ssh",
            "-i",
            str(secrets / "id_ed25519"),
            *words,
            f"root@{self._hostvars[name]['ansible_host']}",
            *command,
        ]

    def run(self, name: str, *command: str) -> str:
        return subprocess.run(self.ssh(name, *command), capture_output=True, text=True, check=True).stdout

    def await_answer(self, name: str, url: str, seconds: int) -> None:
        """Return once a host gets an answer from there that is no error; fail after so many seconds."""
        ask = f"curl --silent --fail --output /dev/null --max-time 2 {url}"
        self.run(name, f"for half in $(seq {2 * seconds}); do {ask} && exit; sleep 0.5; done; exit 1")

    def service_processes(self, name: str, script: str, unit: str = "app") -> list[int]:
        """Return what a script of the shell prints, a number, of each $pid of the unit on a host."""
        pids = f"$(main=$(systemctl show -P MainPID {unit}); ps -o pid= -p $main --ppid $main)"
        return [int(line) for line in self.run(name, f"for pid in {pids}; do {script}; done").splitlines()]

    def in_flight(self) -> int:
        """Return the requests that the app hosts say they work on."""

        def of(name: str, address: str) -> float:
            said = self.run(name, "curl", "--silent", "--max-time", "20", f"http://{address}:8000/metrics")
            return sum(float(value) for value in re.findall(r"^http_requests_in_flight (\S+)$", said, re.MULTILINE))

        with ThreadPoolExecutor() as executor:  # at once, or the sum is of different moments
            return int(sum(executor.map(of, self.names("app_server"), self.private("app_server"))))


@contextmanager
def upstream(
    latency: float, processes: int, port: int = UPSTREAM[1], namespace: str = UPSTREAM_NAMESPACE
) -> Iterator[None]:
    """Run the external API for the length of a ``with`` block, beside the lab's own; without a namespace, here."""
    enter = ["ip", "netns", "exec", namespace] if namespace else []
    arguments = ["--port", str(port), "--processes", str(processes), "--latency", str(latency)]
    command = [*enter, sys.executable, str(PROJECT / "bench/upstream.py"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        if process.stdout.readline() != "listening\n":
            raise SystemExit(f"the external API does not listen on port {port}: is another one there?")
        yield
    finally:
        process.terminate()
        process.wait(10)


def memory_used() -> int:
    """Return the bytes that the machine has given out and could not take back."""
    return memory("MemTotal") - memory("MemAvailable")


def memory(name: str) -> int:
    """Return a value of /proc/meminfo in bytes."""
    found = re.search(rf"^{name}: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found, name
    return int(found[1]) * 1024
