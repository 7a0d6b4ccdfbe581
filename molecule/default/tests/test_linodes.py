# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's API offers is real: sizes, disks, addresses and interfaces of the hosts behind it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import testinfra
from conftest import SECRETS, eventually

ANY_KEY = "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR"
MEMORY = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"


class Account:
    """The lab's API, and the Linodes that a test makes with it."""

    def __init__(self) -> None:
        token = Path("/var/lib/c50k-lab/token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url="http://127.0.0.1:4500/v4", headers=headers, timeout=30, trust_env=False)
        self.made: list[int] = []

    def call(self, method: str, path: str, **body: Any) -> Any:
        return self.http.request(method, path, json=body).raise_for_status().json()

    def linode(self, label: str, **body: Any) -> Any:
        key = (SECRETS / "id_ed25519.pub").read_text().strip()
        wish = {"type": "g6-nanode-1", "region": "de-fra-2", "image": "linode/debian13", "authorized_keys": [key]}
        linode = self.call("POST", "/linode/instances", label=label, **{**wish, **body})
        self.made.append(linode["id"])
        return linode

    def do(self, linode: Any, action: str, **body: Any) -> None:
        self.call("POST", f"/linode/instances/{linode['id']}/{action}", **body)

    def running(self, linode: Any) -> Any:
        """Wait until a Linode runs and nothing is under way on it; return its host."""
        path = f"/linode/instances/{linode['id']}"
        eventually(lambda: self.call("GET", path)["status"] == "running", 90, f"{linode['label']} runs")
        address = f"ssh://root@{linode['ipv4'][0]}"
        return testinfra.get_host(address, ssh_identity_file=str(SECRETS / "id_ed25519"), ssh_extra_args=ANY_KEY)


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    account = Account()
    yield account
    for number in account.made:
        account.http.delete(f"/linode/instances/{number}").raise_for_status()
    for vpc in account.call("GET", "/vpcs")["data"]:
        if vpc["label"] == "linodes-test":
            account.http.delete(f"/vpcs/{vpc['id']}").raise_for_status()


@pytest.fixture(scope="module")
def near(account: Account) -> Any:
    return account.linode("linodes-test-near", private_ip=True)


@pytest.fixture(scope="module")
def far(account: Account) -> Any:
    return account.linode("linodes-test-far", private_ip=True, region="us-ord")


def client_connects(address: str) -> bool:
    """Tell whether a client of the fleets, outside all regions, gets to an address."""
    connect = ["timeout", "2", "bash", "-c", f"< /dev/tcp/{address}/22"]
    command = ["ip", "netns", "exec", "c50k-clients", *connect]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


def reaches(host: Any, address: str) -> bool:
    return bool(host.run(f"ping -c 1 -W 2 {address}").rc == 0)


def test_private_addresses_join_the_linodes_of_a_region(account: Account, near: Any, far: Any) -> None:
    other = account.linode("linodes-test-other", private_ip=True)
    hosts = [account.running(linode) for linode in (near, far, other)]
    private = other["ipv4"][1]
    assert f"src {near['ipv4'][1]}" in hosts[0].check_output(f"ip route get {private}")
    assert [reaches(host, private) for host in hosts] == [True, False, True]
    assert [reaches(host, other["ipv4"][0]) for host in hosts] == [True, True, True]
    assert [client_connects(address) for address in other["ipv4"]] == [True, False]


def test_a_resize_changes_memory_and_keeps_the_disk(account: Account, near: Any) -> None:
    host = account.running(near)
    host.check_output("echo kept > /root/mark")
    account.do(near, "resize", type="g6-standard-2")
    host = account.running(near)
    assert host.check_output(MEMORY) == str(4 << 30) and host.file("/root/mark").exists
    assert host.check_output("df --output=size -m /dev/shm | tail -n 1").strip() == "2048"
    account.do(near, "reboot")
    assert account.running(near).check_output(MEMORY) == str(4 << 30)


def test_addresses_and_interfaces_come_with_the_next_boot(account: Account, near: Any) -> None:
    subnets = [{"label": "main", "ipv4": "10.99.0.0/24"}]
    vpc = account.call("POST", "/vpcs", label="linodes-test", region="de-fra-2", subnets=subnets)
    subnet = vpc["subnets"][0]["id"]
    path = f"/linode/instances/{near['id']}"
    more = account.call("POST", f"{path}/ips", type="ipv4", public=True)["address"]
    config = account.call("GET", f"{path}/configs")["data"][0]["id"]
    wish = {"purpose": "vpc", "subnet_id": subnet, "ipv4": {"vpc": "10.99.0.10"}, "ip_ranges": ["10.99.0.64/28"]}
    account.call("PUT", f"{path}/configs/{config}", interfaces=[{"purpose": "public"}, wish])
    assert more not in account.running(near).check_output("ip -4 -o addr")
    account.do(near, "reboot")
    host = account.running(near)
    found = host.check_output("ip -4 -o addr")
    assert all(address in found for address in (*near["ipv4"], more, "10.99.0.10")), found
    interfaces = [{"public": {}}, {"vpc": {"subnet_id": subnet, "ipv4": {"addresses": [{"address": "10.99.0.20"}]}}}]
    peer = account.running(account.linode("linodes-test-peer", interface_generation="linode", interfaces=interfaces))
    host.check_output("ip addr add 10.99.0.70/32 dev lo")  # of the range that is routed to it
    assert reaches(peer, "10.99.0.70") and reaches(peer, "10.99.0.10") and reaches(peer, more)


def test_a_rebuild_is_a_new_disk_at_the_old_addresses(account: Account, far: Any) -> None:
    account.running(far).check_output("echo gone > /root/mark")
    key = (SECRETS / "id_ed25519.pub").read_text().strip()
    account.do(far, "rebuild", image="private/1", authorized_keys=[key])
    host = account.running(far)
    assert not host.file("/root/mark").exists and host.exists("haproxy")
    found = host.check_output("ip -4 -o addr")
    assert all(address in found for address in far["ipv4"]), found
