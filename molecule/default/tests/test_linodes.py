# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's API offers is real: sizes, disks, addresses and interfaces of the hosts behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import OPEN, SECRETS, account, dial_from_outside, host_of

MEMORY = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def make() -> Iterator[Make]:
    """Make a Linode; all of them, and their VPC, are deleted at the end."""
    made: list[int] = []
    key = (SECRETS / "id_ed25519.pub").read_text().strip()
    wish = {"type": "g6-nanode-1", "region": "de-fra-2", "image": "linode/debian13", "authorized_keys": [key]}

    def one(label: str, **body: Any) -> Any:
        linode = account("POST", "/linode/instances", label=label, **{**wish, **body})
        made.append(linode["id"])
        return linode

    yield one
    for number in made:
        account("DELETE", f"/linode/instances/{number}")
    for vpc in account("GET", "/vpcs")["data"]:
        if vpc["label"] == "linodes-test":
            account("DELETE", f"/vpcs/{vpc['id']}")


def do(linode: Any, action: str, **body: Any) -> None:
    account("POST", f"/linode/instances/{linode['id']}/{action}", **body)


@pytest.fixture(scope="module")
def near(make: Make) -> Any:
    return make("linodes-test-near", private_ip=True)


@pytest.fixture(scope="module")
def far(make: Make) -> Any:
    return make("linodes-test-far", private_ip=True, region="us-ord")


def reaches(host: Any, address: str) -> bool:
    return bool(host.run(f"ping -c 1 -W 2 {address}").rc == 0)


def test_private_addresses_join_the_linodes_of_a_region(make: Make, near: Any, far: Any) -> None:
    other = make("linodes-test-other", private_ip=True)
    hosts = [host_of(linode) for linode in (near, far, other)]
    private = other["ipv4"][1]
    assert f"src {near['ipv4'][1]}" in hosts[0].check_output(f"ip route get {private}")
    assert [reaches(host, private) for host in hosts] == [True, False, True]
    assert [reaches(host, other["ipv4"][0]) for host in hosts] == [True, True, True]
    assert [dial_from_outside(address, 22) == OPEN for address in other["ipv4"]] == [True, False]


def test_a_resize_changes_memory_and_keeps_the_disk(near: Any) -> None:
    host = host_of(near)
    host.check_output("echo kept > /root/mark")
    do(near, "resize", type="g6-standard-2")
    host = host_of(near)
    assert host.check_output(MEMORY) == str(4 << 30) and host.file("/root/mark").exists
    assert host.check_output("df --output=size -m /dev/shm | tail -n 1").strip() == "2048"
    do(near, "reboot")
    assert host_of(near).check_output(MEMORY) == str(4 << 30)


def test_addresses_and_interfaces_come_with_the_next_boot(make: Make, near: Any) -> None:
    subnets = [{"label": "main", "ipv4": "10.99.0.0/24"}]
    vpc = account("POST", "/vpcs", label="linodes-test", region="de-fra-2", subnets=subnets)
    subnet = vpc["subnets"][0]["id"]
    path = f"/linode/instances/{near['id']}"
    more = account("POST", f"{path}/ips", type="ipv4", public=True)["address"]
    config = account("GET", f"{path}/configs")["data"][0]["id"]
    wish = {"purpose": "vpc", "subnet_id": subnet, "ipv4": {"vpc": "10.99.0.10"}, "ip_ranges": ["10.99.0.64/28"]}
    account("PUT", f"{path}/configs/{config}", interfaces=[{"purpose": "public"}, wish])
    assert more not in host_of(near).check_output("ip -4 -o addr")
    do(near, "reboot")
    host = host_of(near)
    found = host.check_output("ip -4 -o addr")
    assert all(address in found for address in (*near["ipv4"], more, "10.99.0.10")), found
    interfaces = [{"public": {}}, {"vpc": {"subnet_id": subnet, "ipv4": {"addresses": [{"address": "10.99.0.20"}]}}}]
    peer = host_of(make("linodes-test-peer", interface_generation="linode", interfaces=interfaces))
    host.check_output("ip addr add 10.99.0.70/32 dev lo")  # of the range that is routed to it
    assert reaches(peer, "10.99.0.70") and reaches(peer, "10.99.0.10") and reaches(peer, more)


def test_a_rebuild_is_a_new_disk_at_the_old_addresses(far: Any) -> None:
    host_of(far).check_output("echo gone > /root/mark")
    key = (SECRETS / "id_ed25519.pub").read_text().strip()
    do(far, "rebuild", image="private/1", authorized_keys=[key])
    host = host_of(far)
    assert not host.file("/root/mark").exists and host.exists("haproxy")
    found = host.check_output("ip -4 -o addr")
    assert all(address in found for address in far["ipv4"]), found
