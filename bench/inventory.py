#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading an account of many instances: this collection's inventory plugin beside community.general's, on one lab.

Flow: a lab without hosts -> instances made through its API -> each plugin parses it, in a process of its own, in turn
-> bench/results/inventory.json. Usage: bench/inventory.py [--instances 10000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from lab_without_hosts import Lab

HERE = Path(__file__).parent
PLUGINS = {
    "c50k.stack.linode": {"plugin": "c50k.stack.linode", "tags": ["bench"]},
    "community.general.linode": {"plugin": "community.general.linode", "tags": ["bench"]},
}
MAKERS = 4  # requests at once while the account is filled


def parse_once(path: str) -> dict[str, Any]:
    """Parse one inventory file as every Ansible command does; return its time, memory, calls and hosts."""
    import linode_api4.linode_client as sdk
    import requests
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader()
    calls = 0
    send = requests.Session.send

    def counted(self: requests.Session, *args: Any, **kwargs: Any) -> requests.Response:
        nonlocal calls
        calls += 1
        return send(self, *args, **kwargs)

    requests.Session.send = counted  # type: ignore[method-assign]
    # community.general's plugin has no option for the URL
    sdk.LinodeClient.__init__.__defaults__ = (os.environ["LINODE_API_URL"], *sdk.LinodeClient.__init__.__defaults__[1:])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    manager = InventoryManager(DataLoader(), sources=[path])
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hosts = manager.list_hosts("all")
    with_vpc = sum("linode_vpc_ipv4" in host.vars for host in hosts)
    row = {"seconds": seconds, "mib": (after - before) / 1024, "calls": calls}
    return {**row, "hosts": len(hosts), "hosts_with_vpc_address": with_vpc}


def fill(lab: Lab, instances: int) -> None:
    """Make so many instances in one VPC, through the API."""
    headers = {"Authorization": f"Bearer {lab.token}"}
    with httpx.Client(base_url=lab.url, headers=headers, timeout=60) as api:
        subnets = [{"label": "bench", "ipv4": "10.0.0.0/16"}]
        vpc = api.post("/vpcs", json={"label": "bench", "region": "de-fra-2", "subnets": subnets})
        subnet_id = vpc.raise_for_status().json()["subnets"][0]["id"]

        def make(number: int) -> None:
            body = {
                **{"label": f"bench-app_server-{number}", "region": "de-fra-2", "type": "g6-nanode-1"},
                **{"tags": ["bench", "app_server"], "interface_generation": "linode"},
                "interfaces": [{"public": {}}, {"vpc": {"subnet_id": subnet_id}}],
            }
            api.post("/linode/instances", json=body).raise_for_status()
            if number % 1000 == 0:
                print(f"  {number} instances", flush=True)

        with ThreadPoolExecutor(MAKERS) as pool:
            list(pool.map(make, range(1, instances + 1)))


def measure(lab: Lab, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Let each plugin parse in turn, ``rounds`` times; every time in a new process."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in PLUGINS}
    environment = {**os.environ, "LINODE_API_URL": lab.url, "LINODE_TOKEN": lab.token, "LINODE_ACCESS_TOKEN": lab.token}
    environment["ANSIBLE_INVENTORY_ENABLED"] = ",".join(PLUGINS)
    for _round in range(rounds):
        for name, options in PLUGINS.items():
            path = lab.state / f"{name.partition('.')[0]}.linode.yml"
            path.write_text(json.dumps(options))
            command = [sys.executable, __file__, "--parse", str(path)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            rows[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"  {name}: {rows[name][-1]}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parse", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.parse:
        print(json.dumps(parse_once(arguments.parse)))
        return
    with tempfile.TemporaryDirectory() as state, Lab(Path(state)) as lab:
        print(f"Making {arguments.instances} instances", flush=True)
        fill(lab, arguments.instances)
        rows = measure(lab, arguments.rounds)
    medians = {
        name: {key: round(statistics.median(row[key] for row in runs), 2) for key in runs[0]}
        for name, runs in rows.items()
    }
    result = {"instances": arguments.instances, "rounds": arguments.rounds, "median": medians, "runs": rows}
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "inventory.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(medians, indent=2))


if __name__ == "__main__":
    main()
