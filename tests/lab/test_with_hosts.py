# SPDX-License-Identifier: GPL-3.0-or-later
"""Where there are hosts, what they cannot do is not offered, and the API says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_server import Server

from lab.settings import Settings

PATH = "/linode/instances"
WISH = {"type": "g6-nanode-1", "region": "de-fra-2", "image": "linode/debian13", "root_pass": "long enough"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state: Path = tmp_path_factory.mktemp("state")
    server = Server(Settings(state=state, hosts=True, limits={}))
    server.linode(label="host")
    yield server
    server.stop()


def linode(api: Server) -> int:
    return int(api.get(PATH)["data"][0]["id"])


@pytest.mark.parametrize(
    "capability",
    ["Vlans", "VPC IPv6 Stack", "Block Storage", "Block Storage Encryption", "Disk Encryption", "Machine Images"],
)
def test_regions_offer_less(real: Server, shared: Server, capability: str) -> None:
    with_hosts, without = ({row["id"]: row for row in api.get("/regions")["data"]} for api in (real, shared))
    assert not any(capability in row["capabilities"] for row in with_hosts.values())
    assert capability in without["de-fra-2"]["capabilities"]


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("POST", "/volumes", {"label": "x", "region": "de-fra-2"}, "Volumes are not available in region de-fra-2"),
        ("POST", "/vpcs", {"label": "x", "region": "de-fra-2", "ipv6": [{"range": "auto"}]}, "IPv6 is not available"),
        ("POST", "/vpcs", {"label": "x", "region": "de-fra-2", "vpc_type": "rdma"}, "Must be regular"),
        ("POST", "/networking/ipv6/ranges", {}, "IPv6 ranges are not available in this region"),
        ("POST", "/networking/ips/share", {}, "Shared addresses are not available in this region"),
        ("POST", "/images", {}, "Images of disks are not available in this region"),
        ("POST", f"{PATH}/LINODE/disks", {}, "Disks beside the first are not available in this region"),
        ("POST", f"{PATH}/LINODE/disks/DISK/resize", {}, "Disks to resize are not available in this region"),
        ("DELETE", f"{PATH}/LINODE/disks/DISK", {}, "Disks to delete are not available in this region"),
        ("POST", f"{PATH}/LINODE/migrate", {}, "Migrations are not available in this region"),
        ("POST", f"{PATH}/LINODE/password", {}, "Password resets are not available in this region"),
        ("POST", PATH, {**WISH, "kernel": "linode/latest-64bit"}, "A Kernel by that ID was not found"),
        ("POST", PATH, {**WISH, "disk_encryption": "enabled"}, "Disk encryption is not available in this region"),
        ("POST", PATH, {**WISH, "interfaces": [{"purpose": "vlan", "label": "x"}]}, "VLANs are not available"),
    ],
)
def test_what_is_refused(real: Server, method: str, path: str, body: Any, words: str) -> None:
    number = linode(real)
    disk = real.get(f"{PATH}/{number}/disks")["data"][0]["id"]
    found = real.refusals(method, path.replace("LINODE", str(number)).replace("DISK", str(disk)), **body)
    assert any(reason.startswith(words) for reason in found.values()), found
    assert real.get(PATH)["results"] == 1


def test_a_host_is_one_disk_with_the_machines_kernel(real: Server) -> None:
    (disk,) = real.get(f"{PATH}/{linode(real)}/disks")["data"]
    assert (disk["size"], disk["disk_encryption"]) == (25600, "disabled")
    (kernel,) = real.get("/linode/kernels")["data"]
    assert real.get(f"{PATH}/{linode(real)}/configs")["data"][0]["kernel"] == kernel["id"]


def test_private_addresses_are_of_a_datacenter(real: Server) -> None:
    near, far = (real.linode(private_ip=True, region=region)["id"] for region in ("de-fra-2", "us-ord"))
    for number in (near, far):
        real.settled(number, "running")
    one, other = (real.hosts.hosts[number] for number in (near, far))
    assert one.private_ipv4 and other.private_ipv4 and one.datacenter != other.datacenter
    for number in (near, far):
        real.delete(f"{PATH}/{number}")
