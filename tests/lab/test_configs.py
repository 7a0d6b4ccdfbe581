# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration profiles: what a Linode boots, and its interfaces of the legacy generation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lab_server import Server

from lab.settings import Settings

PATH = "/linode/instances"


def profile(api: Server, linode: Any) -> tuple[str, Any]:
    """Return the path of a Linode's first profile, and the profile."""
    (config,) = api.get(f"{PATH}/{linode['id']}/configs")["data"]
    return f"{PATH}/{linode['id']}/configs/{config['id']}", config


def test_an_image_brings_disks_and_a_profile(api: Server) -> None:
    linode = api.linode(kernel="linode/latest-64bit", boot_size=9000)
    _, config = profile(api, linode)
    root, swap = api.get(f"{PATH}/{linode['id']}/disks")["data"]
    assert [(disk["label"], disk["size"], disk["filesystem"]) for disk in (root, swap)] == [
        ("Debian 13 Disk", 9000, "ext4"),
        ("512 MB Swap Image", 512, "swap"),
    ]
    assert (config["kernel"], config["interfaces"]) == ("linode/latest-64bit", [])
    assert config["devices"]["sda"] == {"disk_id": root["id"], "volume_id": None}
    assert [slot for slot, device in config["devices"].items() if device] == ["sda", "sdb"]
    assert len(config["devices"]) == 8
    empty = api.linode(image=None, authorized_keys=None)["id"]
    assert [api.get(f"{PATH}/{empty}/{part}")["results"] for part in ("configs", "disks")] == [0, 0]


def test_the_profile_that_is_booted_decides(api: Server) -> None:
    subnet = api.subnet()
    linode = api.linode()
    api.settled(linode["id"], "running")
    disk = api.get(f"{PATH}/{linode['id']}/disks")["data"][0]["id"]
    vpc = {"purpose": "vpc", "subnet_id": subnet["id"], "primary": True, "ipv4": {"vpc": "10.0.0.9", "nat_1_1": "any"}}
    wish = {"label": "inside", "devices": {"sda": {"disk_id": disk}}, "interfaces": [vpc]}
    inside = api.post(f"{PATH}/{linode['id']}/configs", **wish)
    (interface,) = inside["interfaces"]
    assert (interface["active"], interface["ipv4"]) == (False, {"vpc": "10.0.0.9", "nat_1_1": linode["ipv4"][0]})
    assert api.hosts.hosts[linode["id"]].vpc == ()
    api.post(f"{PATH}/{linode['id']}/shutdown")
    api.settled(linode["id"], "offline")
    api.post(f"{PATH}/{linode['id']}/boot", config_id=inside["id"])
    api.settled(linode["id"], "running")
    host = api.hosts.hosts[linode["id"]]
    assert ([item.address for item in host.vpc], host.public_ipv4) == (["10.0.0.9"], linode["ipv4"][0])
    (row,) = api.get("/vpcs/ips")["data"]
    assert (row["config_id"], row["interface_id"], row["active"]) == (inside["id"], interface["id"], True)
    other = next(row["id"] for row in api.get(f"{PATH}/{linode['id']}/configs")["data"] if row["id"] != inside["id"])
    api.post(f"{PATH}/{linode['id']}/reboot", config_id=other)
    api.settled(linode["id"], "running")
    assert api.hosts.hosts[linode["id"]].vpc == ()
    assert api.refusals("POST", f"{PATH}/{linode['id']}/reboot", config_id=1) == {
        "config_id": "A Config by that ID was not found"
    }


def test_interfaces_one_by_one(api: Server) -> None:
    subnet, linode = api.subnet(), api.linode(booted=False)
    path, _ = profile(api, linode)
    public = api.post(f"{path}/interfaces", purpose="public", primary=True)
    vlan = api.post(f"{path}/interfaces", purpose="vlan", label="blue", ipam_address="10.9.0.1/24")
    vpc = api.post(f"{path}/interfaces", purpose="vpc", subnet_id=subnet["id"], ip_ranges=["10.0.0.64/28"])
    assert (vpc["ipv4"], vpc["ip_ranges"]) == ({"vpc": "10.0.0.2", "nat_1_1": None}, ["10.0.0.64/28"])
    assert [item["id"] for item in api.get(f"{path}/interfaces")] == [public["id"], vlan["id"], vpc["id"]]
    assert api.refusals("POST", f"{path}/interfaces", purpose="vlan", label="red") == {
        "interfaces": "A Linode can have 3 interfaces"
    }
    changed = api.put(f"{path}/interfaces/{vpc['id']}", primary=True, ipv4={"nat_1_1": "any"})
    assert (changed["ipv4"], changed["ip_ranges"]) == (
        {"vpc": "10.0.0.2", "nat_1_1": linode["ipv4"][0]},
        ["10.0.0.64/28"],
    )
    assert api.get(f"{path}/interfaces/{public['id']}")["primary"] is False
    ids = [vpc["id"], public["id"], vlan["id"]]
    api.post(f"{path}/interfaces/order", ids=ids)
    assert [item["id"] for item in api.get(path)["interfaces"]] == ids
    assert set(api.refusals("POST", f"{path}/interfaces/order", ids=ids[:2])) == {"ids"}
    rows = api.get("/vpcs/ips")["data"]
    assert [(row["address"], row["address_range"]) for row in rows] == [("10.0.0.2", None), (None, "10.0.0.64/28")]
    api.delete(f"{path}/interfaces/{vpc['id']}")
    assert api.get("/vpcs/ips")["results"] == 0
    assert api.lab.addresses.subnets[subnet["id"]].taken("10.0.0.0/24") == []
    (shown,) = api.get("/networking/vlans")["data"]
    assert (shown["label"], shown["region"], shown["linodes"]) == ("blue", "de-fra-2", [linode["id"]])
    assert "while Linodes are attached" in api.refusals("DELETE", "/networking/vlans/de-fra-2/blue")[None]
    api.delete(f"{path}/interfaces/{vlan['id']}")
    api.delete("/networking/vlans/de-fra-2/blue")


def test_ranges_are_the_interfaces_own(api: Server) -> None:
    subnet, linode, other = api.subnet(), api.linode(booted=False), api.linode(booted=False)
    path, _ = profile(api, linode)
    wish = {"purpose": "vpc", "subnet_id": subnet["id"], "ip_ranges": ["10.0.0.16/28"]}
    vpc = api.post(f"{path}/interfaces", **wish)
    refused = api.refusals("POST", f"{profile(api, other)[0]}/interfaces", **wish)
    assert "is already in use in subnet main" in refused["ip_ranges[0]"]
    assert (
        "not in 10.0.0.0/24"
        in api.refusals("PUT", f"{path}/interfaces/{vpc['id']}", ip_ranges=["10.0.0.0/28"])["ip_ranges[0]"]
    )
    kept = api.put(f"{path}/interfaces/{vpc['id']}", ip_ranges=["10.0.0.16/28", "/28"])
    assert kept["ip_ranges"] == ["10.0.0.16/28", "10.0.0.32/28"]
    assert api.put(f"{path}/interfaces/{vpc['id']}", ip_ranges=[])["ip_ranges"] == []
    assert api.lab.addresses.subnets[subnet["id"]].taken("10.0.0.0/24") == [vpc["ipv4"]["vpc"]]
    api.settled(linode["id"], "offline")
    assert api.put(f"{path}/interfaces/{vpc['id']}", ip_ranges=["/29"])["ip_ranges"] == ["10.0.0.8/29"]
    api.post(f"{PATH}/{linode['id']}/boot")
    api.settled(linode["id"], "running")
    assert api.hosts.hosts[linode["id"]].vpc[0].ranges == ("10.0.0.8/29",)


def test_an_active_vpc_interface_stays(api: Server) -> None:
    subnet = api.subnet()
    linode = api.linode(interfaces=[{"purpose": "vpc", "subnet_id": subnet["id"]}])
    path, config = profile(api, linode)
    api.settled(linode["id"], "running")
    (interface,) = config["interfaces"]
    words = "Linode must be powered off to remove an active VPC interface"
    for method, where, body in (
        ("PUT", path, {"interfaces": []}),
        ("DELETE", f"{path}/interfaces/{interface['id']}", {}),
        ("DELETE", path, {}),
    ):
        assert api.refusals(method, where, **body) == {None: words}
    again = {"purpose": "vpc", "subnet_id": subnet["id"], "ipv4": interface["ipv4"]}
    assert api.put(path, interfaces=[again, {"purpose": "public"}])["interfaces"][0]["ipv4"] == interface["ipv4"]
    api.post(f"{PATH}/{linode['id']}/shutdown")
    api.settled(linode["id"], "offline")
    assert api.put(path, interfaces=[])["interfaces"] == []
    assert api.get("/vpcs/ips")["results"] == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"label": "label is required", "devices": "devices is required"}),
        ({"label": "x", "devices": {}}, {"devices": "Must have at least one device"}),
        ({"label": "x", "devices": {"sda": {"disk_id": 1}}}, {"devices.sda.disk_id", "devices"}),
        ({"label": "x", "devices": {"hda": {"disk_id": 1}}}, {"devices.hda", "devices"}),
        ({"label": "x", "devices": {"sda": {"volume_id": 1}}}, {"devices.sda.volume_id", "devices"}),
        ({"label": "x" * 49, "devices": {}}, {"label", "devices"}),
        ({"label": "x", "devices": {}, "kernel": "linode/2.4"}, {"kernel", "devices"}),
        ({"label": "x", "devices": {}, "virt_mode": "half"}, {"virt_mode", "devices"}),
        ({"label": "x", "devices": {}, "interfaces": [{"purpose": "lan"}]}, {"interfaces[0].purpose", "devices"}),
    ],
)
def test_bad_profiles(shared: Server, body: Any, expected: Any) -> None:
    linode = shared.linode(booted=False)
    assert set(shared.refusals("POST", f"{PATH}/{linode['id']}/configs", **body)) == set(expected)
    shared.delete(f"{PATH}/{linode['id']}")


def test_a_profile_of_another_linode_is_not_found(api: Server) -> None:
    one, other = api.linode(), api.linode()
    _, config = profile(api, one)
    assert api.http.get(f"{PATH}/{other['id']}/configs/{config['id']}").status_code == 404
    assert api.http.get(f"{PATH}/{one['id']}/configs/{config['id']}/interfaces/7").status_code == 404


def test_an_update_keeps_what_it_does_not_name(api: Server) -> None:
    linode = api.linode(interfaces=[{"purpose": "public"}])
    path, config = profile(api, linode)
    changed = api.put(path, label="renamed", helpers={"network": False}, run_level="single")
    assert (changed["label"], changed["run_level"]) == ("renamed", "single")
    assert changed["helpers"] == {**config["helpers"], "network": False}
    assert [item["purpose"] for item in changed["interfaces"]] == ["public"]
    api.delete(path)
    assert "so nothing to boot" in api.refusals("POST", f"{PATH}/{linode['id']}/reboot")[None]


def test_where_there_are_hosts_they_boot_their_own_kernel(serve: Callable[..., Server], settings: Settings) -> None:
    api = serve(replace(settings, hosts=True))
    linode = api.linode()
    path, config = profile(api, linode)
    assert config["kernel"] == api.get("/linode/kernels")["data"][0]["id"]
    assert "there are linode/grub2" in api.refusals("PUT", path, kernel="linode/latest-64bit")["kernel"]
    assert "VLANs are not available" in str(api.refusals("POST", f"{path}/interfaces", purpose="vlan", label="x"))
