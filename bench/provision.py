#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of 50 instances made and removed through the Linode API, at Linode's own rate limits, no hosts behind it.

Flow: a lab without hosts -> provision.yml, again, destroy.yml -> seconds and API calls of each in
bench/results/provision.json. Usage: bench/provision.py [--instances 50]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from lab_without_hosts import PROJECT, Lab

FLEET = {
    "fleet_name": "bench",
    "fleet_region": "de-fra-2",
    "fleet_image": "linode/debian13",
    "fleet_admin_cidrs": ["198.51.100.254/32"],
    "fleet_api_token": "{{ lookup('ansible.builtin.env', 'LINODE_TOKEN') }}",
    "target_concurrency": 50000,
}
RUNS = (
    ("provision", ["provision.yml"]),
    ("provision again", ["provision.yml"]),
    ("destroy", ["destroy.yml", "--extra-vars", "fleet_destroy=bench"]),
)


def tiers(instances: int) -> dict[str, Any]:
    """The tiers of a fleet of so many instances, most of them app hosts."""
    few = {"load_balancer": 4, "postgres": 3, "redis": 1}
    counts = {**few, "app_server": instances - sum(few.values())}
    return {tier: {"count": count, "max": count, "type": "g6-dedicated-4"} for tier, count in counts.items()}


def inventory(lab: Lab, instances: int) -> Path:
    """Write an inventory folder for the lab."""
    folder = lab.state / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    plugin = {"plugin": "c50k.stack.linode", "tags": ["bench"], "compose": {"stack_address": "linode_vpc_ipv4"}}
    (folder / "linode.yml").write_text(yaml.safe_dump(plugin))
    variables = {**FLEET, "fleet_api_url": lab.url, "fleet_tiers": tiers(instances)}
    (folder / "group_vars" / "all.yml").write_text(yaml.safe_dump(variables))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=50)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as state, Lab(Path(state), limits="") as lab:
        source = inventory(lab, arguments.instances)
        environment = {**os.environ, "LINODE_API_URL": lab.url, "LINODE_TOKEN": lab.token}
        environment["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "true"
        before: Counter[str] = lab.calls()
        for name, command in RUNS:
            start = time.monotonic()
            playbook = PROJECT / "playbooks" / command[0]
            subprocess.run(
                ["ansible-playbook", "--inventory", source, playbook, *command[1:]], env=environment, check=True
            )
            seconds = round(time.monotonic() - start, 1)
            after = lab.calls()
            calls = dict(sorted((after - before).items()))
            rows.append({"run": name, "seconds": seconds, "calls": sum(calls.values()), "by_kind": calls})
            before = after
    result = {"instances": arguments.instances, "runs": rows}
    (PROJECT / "bench" / "results").mkdir(exist_ok=True)
    (PROJECT / "bench" / "results" / "provision.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
