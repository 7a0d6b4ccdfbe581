#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Cloud Firewall costs in the lab: traffic between two hosts in a VPC, with and without one.

Flow: a lab of its own (none may run) -> three hosts -> short loads in each setup, in turn, round after round -> the
median over the rounds of its ratio to no firewall in the same round, in bench/results/firewall.json.
Usage: bench/firewall.py [--rounds 22]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

PROJECT = Path(__file__).parent.parent
RESULT = PROJECT / "bench" / "results" / "firewall.json"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f bench"
BOOT_TIMEOUT = 120.0
CONNECTIONS, REQUESTS, SECONDS = 4_000, 15_000, 0.4
IN_FLIGHT = 250_000  # what the lab is for; a proxy holds as many on each side, each side in a router of its own
BULK_PORT = 5001
SINK = f"""
import socket
with socket.create_server(("", {BULK_PORT})) as server:
    while True:
        with server.accept()[0] as peer:
            while peer.recv(1 << 20):
                pass
"""
SOURCE = f"""
import socket, sys, time
with socket.create_connection((sys.argv[1], {BULK_PORT})) as peer:
    block, sent, end = bytes(1 << 18), 0, time.monotonic() + {SECONDS}
    while time.monotonic() < end:
        sent += peer.send(block)
print(sent * 8 / {SECONDS} / 1e9)
"""


def largest_rules() -> dict[str, Any]:
    """Return 25 rules as large as rules can be, of which the last lets the loads through."""
    ports = ", ".join(f"{first}-{first + 1}" for first in range(20_000, 20_070, 10)) + ", 7"
    strangers = [f"172.16.{number}.0/24" for number in range(254)]
    rule = {"action": "ACCEPT", "protocol": "TCP", "addresses": {"ipv4": [*strangers, "192.0.2.0/24"]}, "ports": ports}
    last = {**rule, "addresses": {"ipv4": [*strangers, "10.0.0.0/24"]}, "ports": f"6379, {BULK_PORT}"}
    return {"inbound": [rule] * 24 + [last], "inbound_policy": "DROP", "outbound_policy": "ACCEPT"}


class Lab:
    """A lab with hosts for the length of a ``with`` block."""

    def __init__(self, state: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = {"C50K_LAB_STATE": state, "C50K_LAB_PORT": str(port)}
        self._environment = {**os.environ, **settings}
        self._address = f"http://127.0.0.1:{port}/v4"

    def __enter__(self) -> Lab:
        if "c50k-router" in self._run("ip", "netns", "list"):
            raise SystemExit("A lab runs on this machine, and this needs it for itself: `python -m lab stop` first.")
        self._run(sys.executable, "-m", "lab", "start")
        headers = {"Authorization": f"Bearer {self._run(sys.executable, '-m', 'lab', 'token').strip()}"}
        self._http = httpx.Client(base_url=self._address, headers=headers, timeout=60)
        self._environment |= dict(
            line.split("=", 1) for line in self._run(sys.executable, "-m", "lab.podman").splitlines()
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._run(sys.executable, "-m", "lab", "stop")

    def api(self, method: str, path: str, body: object = None) -> Any:
        return self._http.request(method, path, json=body).raise_for_status().json()

    def hosts(self, *labels: str) -> list[int]:
        """Make hosts in one VPC; return their ids when all of them run."""
        subnets = [{"label": "bench", "ipv4": "10.0.0.0/24"}]
        vpc = self.api("POST", "/vpcs", {"label": "bench", "region": "de-fra-2", "subnets": subnets})
        interfaces = [{"purpose": "public"}, {"purpose": "vpc", "subnet_id": vpc["subnets"][0]["id"]}]
        wish = {"region": "de-fra-2", "type": "g6-standard-2", "image": "private/1", "authorized_keys": [KEY]}
        ids = [
            self.api("POST", "/linode/instances", {**wish, "label": label, "interfaces": interfaces})["id"]
            for label in labels
        ]
        deadline = time.monotonic() + BOOT_TIMEOUT
        while {self.api("GET", f"/linode/instances/{number}")["status"] for number in ids} != {"running"}:
            if time.monotonic() > deadline:
                raise SystemExit(f"The hosts were not up after {BOOT_TIMEOUT:.0f} s; `python -m lab status` says more.")
            time.sleep(1)
        return ids

    def on(self, host: int, *argv: str, detached: bool = False) -> str:
        """Run a command on a host; return what it prints."""
        return self._run("podman", "exec", *(["--detach"] if detached else []), f"c50k-{host}", *argv)

    def _run(self, *argv: str) -> str:
        done = subprocess.run(argv, cwd=PROJECT, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"`{' '.join(argv)}` ended with {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout


def loads(lab: Lab, client: int, server: int) -> dict[str, Callable[[], float]]:
    """Start the servers; return the loads by name, each a call that returns what went through in a second."""
    lab.on(server, "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--daemonize", "yes")
    lab.on(server, "python3", "-c", SINK, detached=True)
    lab.on(client, "sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1")
    rows = lab.api("GET", "/vpcs/ips")["data"]
    address = next(row["address"] for row in rows if row["linode_id"] == server)

    def redis(requests: int, kept: int) -> float:
        options = ("-n", str(requests), "-k", str(kept), "-c", "50", "-t", "ping_mbulk", "--csv")
        line = lab.on(client, "redis-benchmark", "-h", address, *options).splitlines()[-1]
        return float(line.split(",")[1].strip('"'))

    return {
        "connections": lambda: redis(CONNECTIONS, 0),
        "requests": lambda: redis(REQUESTS, 1),
        "gigabits": lambda: float(lab.on(client, "python3", "-c", SOURCE, address)),
    }


def setups(lab: Lab, client: int, server: int, bystander: int) -> dict[str, list[int]]:
    """Make the two firewalls; return, for each setup, the hosts that have one."""
    rules = largest_rules()
    outbound = {"outbound": rules["inbound"], "outbound_policy": "DROP", "inbound_policy": "DROP"}
    for label, whole in (("server", rules), ("client", outbound)):
        lab.api("POST", "/networking/firewalls", {"label": label, "rules": whole})
    return {"none": [], "on another host": [bystander], "on the server": [server], "on both": [server, client]}


def put(lab: Lab, hosts: list[int], on: list[int], client: int) -> None:
    """Give each host of ``on`` its firewall, and the others none."""
    ids = {row["label"]: row["id"] for row in lab.api("GET", "/networking/firewalls")["data"]}
    for host in hosts:
        wanted = [ids["client" if host == client else "server"]] if host in on else []
        lab.api("PUT", f"/linode/instances/{host}/firewalls", {"firewall_ids": wanted})
    time.sleep(1)  # the kernel ends tracking a moment after the last rule that needs it


def tracking() -> dict[str, float]:
    """Return what a tracked connection takes, in bytes, and all of them in MiB, of one router; and how many it can."""
    slabs = dict(line.split(maxsplit=1) for line in Path("/proc/slabinfo").read_text().splitlines())
    size = int(slabs["nf_conntrack"].split()[2])
    most = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
    return {"bytes": size, f"mib_of_{IN_FLIGHT}": round(size * IN_FLIGHT / 2**20), "most": most}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=22)
    rounds = parser.parse_args().rounds
    runs: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as state, Lab(state) as lab:
        hosts = server, client, bystander = lab.hosts("server", "client", "bystander")
        works, where = loads(lab, client, server), setups(lab, client, server, bystander)
        order = list(where)
        for number in range(rounds):
            runs.append({})
            for setup in order:
                put(lab, [*hosts], where[setup], client)
                runs[-1][setup] = {name: work() for name, work in works.items()}
                shown = ", ".join(f"{value:,.1f} {name}" for name, value in runs[-1][setup].items())
                print(f"  round {number + 1}, {setup}: {shown}", flush=True)
            order.append(order.pop(0))  # so that none is always the first
        tracked = tracking()
    ratios = {
        setup: {name: [run[setup][name] / run["none"][name] for run in runs] for name in works} for setup in where
    }
    result = {
        "rounds": rounds,
        "ratio_to_none": {
            setup: {name: round(statistics.median(found), 2) for name, found in row.items()}
            for setup, row in ratios.items()
        },
        "none_per_second": {name: round(statistics.median(run["none"][name] for run in runs), 1) for name in works},
        "tracking": tracked,
        "runs": runs,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: result[name] for name in ("ratio_to_none", "none_per_second", "tracking")}, indent=2))


if __name__ == "__main__":
    main()
