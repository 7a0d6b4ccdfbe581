# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host is root of itself and of nothing else."""

from __future__ import annotations

import subprocess

import pytest
from conftest import Fleet


def test_a_host_sets_its_own_network_and_nothing_of_the_machines_kernel(fleet: Fleet) -> None:
    host = fleet.tier("redis")[0]
    assert host.run("sysctl -w net.core.somaxconn=$(sysctl -n net.core.somaxconn)").rc == 0
    for name in ("vm.swappiness", "kernel.pid_max", "fs.file-max"):
        assert "permission denied" in host.run(f"sysctl -w {name}=$(sysctl -n {name})").stderr.lower(), name


@pytest.mark.parametrize("address", ["10.255.255.1", "172.31.255.1", "192.168.255.1", "169.254.169.253"])
def test_private_networks_around_the_machine_are_out_of_reach(fleet: Fleet, address: str) -> None:
    """The machine's own rules drop the packet: its counter is the witness, and nothing leaves."""

    def dropped() -> int:
        rules = subprocess.run(["nft", "list", "table", "inet", "c50k_lab"], capture_output=True, text=True, check=True)
        line = next(line for line in rules.stdout.splitlines() if "10.0.0.0/8" in line)
        return int(line.split("packets ")[1].split()[0])

    before = dropped()
    assert fleet.tier("load_balancer")[0].run(f"curl -sS -m 1 http://{address}/").rc != 0
    assert dropped() > before


def test_the_machine_itself_answers_no_host(fleet: Fleet) -> None:
    """The API listens on loopback; what else the machine serves is not the hosts' business."""
    refused = fleet.tier("load_balancer")[0].run("curl -sS -m 1 http://198.51.100.254:22/")
    assert refused.rc == 28, "dropped, not refused"


def test_a_vpc_address_is_not_reachable_from_outside_the_vpc(fleet: Fleet) -> None:
    routed = subprocess.run(["ip", "route", "get", "10.0.2.10"], capture_output=True, text=True, check=False)
    assert "c50k0" not in routed.stdout
