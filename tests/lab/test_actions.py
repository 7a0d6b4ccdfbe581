# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Linode can be told: resize, rebuild, migrate, and what the account or the region refuses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from lab_server import KEY, Server, wait_for
from test_faults import order

PATH = "/linode/instances"


def status(api: Server, linode: int) -> str:
    return str(api.get(f"{PATH}/{linode}")["status"])


def test_a_cold_resize(api: Server) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    order(api, "slow", task="resize", seconds=0.3)
    assert api.post(f"{PATH}/{linode}/resize", type="g6-standard-2") == {}
    assert (status(api, linode), api.get(f"{PATH}/{linode}")["type"]) == ("resizing", "g6-nanode-1")
    assert api.refusals("POST", f"{PATH}/{linode}/resize", type="g6-standard-4") == {None: "Linode busy."}
    resized = api.settled(linode, "running")
    assert (resized["type"], resized["specs"]["memory"]) == ("g6-standard-2", 4096)
    assert api.hosts.named(linode) == ["create", "start", "stop", "start"]
    host = api.hosts.hosts[linode]
    assert (host.vcpus, host.memory_mib, host.resized) == (2, 4096, True)
    root, swap = api.get(f"{PATH}/{linode}/disks")["data"]
    assert (root["size"], swap["size"]) == (81920 - 512, 512)
    assert api.events(linode)[2:] == [("linode_resize", "finished"), ("linode_boot", "finished")]


def test_a_cold_resize_of_a_linode_that_is_off(api: Server) -> None:
    linode = api.linode(booted=False)["id"]
    api.settled(linode, "offline")
    api.post(f"{PATH}/{linode}/resize", type="g6-standard-1")
    assert api.settled(linode, "offline")["type"] == "g6-standard-1"
    assert api.hosts.named(linode) == ["create", "stop"]


def test_a_warm_resize_runs_until_its_reboot(api: Server) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    order(api, "slow", task="prepare_resize", seconds=0.3)
    api.post(f"{PATH}/{linode}/resize", type="g6-standard-1", migration_type="warm")
    assert status(api, linode) == "running"
    assert api.refusals("POST", f"{PATH}/{linode}/reboot") == {None: "Linode busy."}
    assert api.settled(linode, "running")["type"] == "g6-standard-1"
    assert api.events(linode)[2:] == [("linode_resize_warm_create", "finished"), ("linode_resize", "finished")]
    assert api.hosts.named(linode)[-2:] == ["stop", "start"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"type": "type is required"}),
        ({"type": "g6-none"}, {"type": "A valid plan type by that ID was not found"}),
        ({"type": "g6-standard-1"}, {"type": "Linode is already running this service plan."}),
        ({"type": "g6-standard-2", "migration_type": "hot"}, {"migration_type": "Must be one of cold, warm"}),
        ({"type": "g7-premium-2"}, {"type": "This plan is not currently available in the selected region"}),
        (
            {"type": "g6-nanode-1", "allow_auto_disk_resize": False},
            {None: "Linode has allocated more disk than the new service plan allows. Delete or resize disks smaller."},
        ),
    ],
)
def test_a_resize_that_cannot_be(shared: Server, body: Any, expected: Any) -> None:
    linode = shared.linode(type="g6-standard-1", region="us-east", booted=False)["id"]
    shared.settled(linode, "offline")
    assert shared.refusals("POST", f"{PATH}/{linode}/resize", **body) == expected
    shared.delete(f"{PATH}/{linode}")


def test_a_rebuild_keeps_the_addresses_and_nothing_else(api: Server) -> None:
    subnet = api.subnet()
    asked = [{"purpose": "public"}, {"purpose": "vpc", "subnet_id": subnet["id"]}]
    linode = api.linode(interfaces=asked, private_ip=True)
    path = f"{PATH}/{linode['id']}"
    api.settled(linode["id"], "running")
    before, host = api.get(f"{path}/configs")["data"][0], api.hosts.hosts[linode["id"]]
    other = KEY.replace("lab", "other")
    rebuilt = api.post(f"{path}/rebuild", image="private/1", authorized_keys=[other], disk_encryption="disabled")
    assert (rebuilt["status"], rebuilt["image"], rebuilt["disk_encryption"]) == ("rebuilding", "private/1", "disabled")
    after = api.settled(linode["id"], "running")
    assert (after["ipv4"], api.hosts.named(linode["id"])[2:]) == (linode["ipv4"], ["delete", "create", "start"])
    new = api.hosts.hosts[linode["id"]]
    assert (new.image, new.authorized_keys) == ("private/1", (other,))
    assert (new.public_ipv4, new.private_ipv4, new.vpc) == (host.public_ipv4, host.private_ipv4, host.vpc)
    (config,) = api.get(f"{path}/configs")["data"]
    assert config["id"] != before["id"] and config["interfaces"] == [
        {**item, "active": True} for item in before["interfaces"]
    ]
    assert api.events(linode["id"])[2:] == [("linode_rebuild", "finished"), ("linode_boot", "finished")]
    api.post(f"{path}/rebuild", image="linode/debian13", root_pass="long enough", booted=False)
    api.settled(linode["id"], "offline")
    assert api.refusals("POST", f"{path}/rebuild") == {"image": "image is required"}
    assert "root_pass" in api.refusals("POST", f"{path}/rebuild", image="linode/debian13")


def test_a_rebuild_gives_an_empty_linode_something_to_boot(api: Server) -> None:
    linode = api.linode(image=None, authorized_keys=None)["id"]
    api.settled(linode, "offline")
    api.post(f"{PATH}/{linode}/rebuild", image="linode/debian13", authorized_keys=[KEY])
    api.settled(linode, "running")
    assert api.hosts.named(linode) == ["create", "start"]


def test_a_killed_rebuild_goes_on(serve: Callable[..., Server]) -> None:
    first = serve()
    linode = first.linode()["id"]
    first.settled(linode, "running")
    first.hosts.held = {"create"}
    first.post(f"{PATH}/{linode}/rebuild", image="private/1", authorized_keys=[KEY])
    wait_for(lambda: first.hosts.named(linode)[-1] == "create")
    second = serve(hosts=type(first.hosts)())  # of the same state, as after a kill
    second.settled(linode, "running")
    assert second.hosts.named(linode) == ["delete", "create", "start"]
    assert second.events(linode)[-2:] == [("linode_rebuild", "finished"), ("linode_boot", "finished")]


def test_a_migration_changes_region_and_addresses(api: Server) -> None:
    linode = api.linode(private_ip=True)
    path = f"{PATH}/{linode['id']}"
    api.settled(linode["id"], "running")
    assert api.refusals("POST", f"{path}/migrate") == {None: "No pending migration for this Linode"}
    assert api.refusals("POST", f"{path}/migrate", region="de-fra-2") == {"region": "Linode is already in this region"}
    assert api.refusals("POST", f"{path}/migrate", region="moon") == {"region": "region is not valid"}
    order(api, "slow", task="migrate", seconds=0.3)
    api.post(f"{path}/migrate", region="us-ord")
    assert (status(api, linode["id"]), api.get(path)["region"]) == ("offline", "de-fra-2")
    moved = api.settled(linode["id"], "running")
    assert moved["region"] == "us-ord" and not set(moved["ipv4"]) & set(linode["ipv4"])
    assert all(api.lab.addresses.listed(address).is_free(address) for address in linode["ipv4"])
    assert ("linode_migrate_datacenter", "finished") in api.events(linode["id"])
    subnet = api.subnet()
    tied = api.linode(interfaces=[{"purpose": "vpc", "subnet_id": subnet["id"]}])["id"]
    api.settled(tied, "running")
    assert "VPC or VLAN" in api.refusals("POST", f"{PATH}/{tied}/migrate", region="us-ord")["region"]


def test_a_password_is_for_a_linode_that_is_off(api: Server) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    words = {None: "Linode must be powered off in order to reset root password."}
    assert api.refusals("POST", f"{PATH}/{linode}/password", root_pass="long enough") == words
    api.post(f"{PATH}/{linode}/shutdown")
    api.settled(linode, "offline")
    assert api.post(f"{PATH}/{linode}/password", root_pass="long enough") == {}
    assert set(api.refusals("POST", f"{PATH}/{linode}/password", root_pass="short")) == {"root_pass"}


def test_backups_are_on_or_off(api: Server) -> None:
    linode = api.linode()["id"]
    for action, enabled in (("enable", True), ("cancel", False)):
        api.post(f"{PATH}/{linode}/backups/{action}")
        assert api.get(f"{PATH}/{linode}")["backups"]["enabled"] is enabled
    changed = api.put(f"{PATH}/{linode}", backups={"schedule": {"day": "Sunday", "window": "W2"}})
    assert changed["backups"]["schedule"] == {"day": "Sunday", "window": "W2"}
    assert api.get(f"{PATH}/{linode}/backups") == {
        **{"automatic": [], "snapshot": {"current": None, "in_progress": None}}
    }


def test_an_exhausted_account(api: Server) -> None:
    first = api.linode()
    order(api, "limit", linodes=2, count=0)
    api.linode()
    wish = {"type": "g6-nanode-1", "region": "de-fra-2"}
    refused = {None: "Account Limit reached. Please open a support ticket."}
    assert api.refusals("POST", PATH, **wish) == refused
    api.delete(f"{PATH}/{first['id']}")
    api.linode()
    assert api.refusals("POST", PATH, **wish) == refused


def test_availability_says_what_create_refuses(shared: Server) -> None:
    rows = shared.get("/regions/availability?page_size=500")["data"]
    assert {row["plan"] for row in rows} == {"g7-premium-2", "g1-accelerated-netint-vpu-t1u1-s"}
    one = next(row for row in rows if not row["available"])
    words = {"type": "This plan is not currently available in the selected region"}
    assert shared.refusals("POST", PATH, type=one["plan"], region=one["region"]) == words
    assert shared.get(f"/regions/{one['region']}/availability") == [
        row for row in rows if row["region"] == one["region"]
    ]


def test_each_task_can_be_slow(api: Server) -> None:
    order(api, "slow", seconds=0.15, count=0, label="slow")
    started = time.monotonic()
    linode = api.linode(label="slow")["id"]
    api.settled(linode, "running")
    assert time.monotonic() - started >= 0.3  # made and booted
    reply = api.http.post(f"{api.address}/lab/faults", json={"kind": "slow", "task": "sleep"})
    assert reply.status_code == 400 and "task is 'sleep'; it must be one of create, boot" in reply.text
