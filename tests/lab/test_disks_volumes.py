# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks, volumes, and images made from disks; all of it only where there are no hosts."""

from __future__ import annotations

from typing import Any

import pytest
from lab_server import KEY, Server

PATH = "/linode/instances"


def off(api: Server, **body: Any) -> str:
    linode = api.linode(booted=False, **body)
    api.settled(linode["id"], "offline")
    return f"{PATH}/{linode['id']}"


def test_disks_share_the_storage(api: Server) -> None:
    path = off(api)
    root, swap = api.get(f"{path}/disks")["data"]
    wish = {"label": "data", "size": 1000}
    assert api.refusals("POST", f"{path}/disks", **wish) == {
        "size": "Linode does not have enough free storage: 0 MB are left"
    }
    api.delete(f"{path}/disks/{swap['id']}")
    assert [slot for slot, item in api.get(f"{path}/configs")["data"][0]["devices"].items() if item] == ["sda"]
    api.post(f"{path}/disks/{root['id']}/resize", size=5000)
    data = api.post(f"{path}/disks", **wish, filesystem="raw")
    assert (data["label"], data["filesystem"], data["status"]) == ("data", "raw", "ready")
    copy = api.post(f"{path}/disks/{data['id']}/clone")
    assert api.put(f"{path}/disks/{copy['id']}", label="copy")["label"] == "copy"
    assert [disk["size"] for disk in api.get(f"{path}/disks")["data"]] == [5000, 1000, 1000]
    installed = api.post(f"{path}/disks", size=2000, image="linode/debian12", authorized_keys=[KEY])
    config = api.post(f"{path}/configs", label="second", devices={"sda": {"disk_id": installed["id"]}})
    api.post(f"{path}/boot", config_id=config["id"])
    api.settled(int(path.rpartition("/")[2]), "running")
    assert "powered off" in api.refusals("DELETE", f"{path}/disks/{data['id']}")[None]
    assert api.http.get(f"{path}/disks/7").status_code == 404


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"size"}),
        ({"size": 0}, {"size"}),
        ({"size": 10, "filesystem": "ntfs"}, {"filesystem", "size"}),
        ({"size": 10, "label": ""}, {"label", "size"}),
        ({"size": 10, "image": "linode/none"}, {"image", "root_pass", "size"}),
    ],
)
def test_bad_disks(api: Server, body: Any, fields: set[str]) -> None:
    assert set(api.refusals("POST", f"{off(api)}/disks", **body)) == fields


def test_an_image_of_a_disk(api: Server) -> None:
    path = off(api)
    root, _ = api.get(f"{path}/disks")["data"]
    made = api.post("/images", disk_id=root["id"], label="golden", description="ours", tags=["gold"], cloud_init=True)
    assert (made["size"], made["total_size"], made["capabilities"]) == (root["size"], root["size"], ["cloud-init"])
    listed = [row["id"] for row in api.get("/images")["data"]]
    assert (listed[0], listed[1]) == (made["id"], "private/1") and all(name[:7] == "linode/" for name in listed[2:])
    assert api.put(f"/images/{made['id']}", label="renamed")["label"] == api.get(f"/images/{made['id']}")["label"]
    assert api.linode(image=made["id"], booted=False)["image"] == made["id"]
    api.delete(f"/images/{made['id']}")
    assert api.http.get(f"/images/{made['id']}").status_code == 404
    for name in ("linode/debian13", "private/1"):
        refused = api.http.delete(f"/images/{name}")
        assert (refused.status_code, refused.json()["errors"][0]["reason"]) == (403, "Unauthorized")
    assert api.refusals("POST", "/images", disk_id=7, label="") == {
        **{"disk_id": "A Disk by that ID was not found", "label": "Length must be 1-50 characters"}
    }


def test_a_volume_from_first_to_last(api: Server) -> None:
    path = off(api)
    linode = int(path.rpartition("/")[2])
    volume = api.post("/volumes", label="data", region="de-fra-2", tags=["kept"], encryption="enabled")
    assert (volume["size"], volume["status"], volume["encryption"]) == (20, "active", "enabled")
    attached = api.post(f"/volumes/{volume['id']}/attach", linode_id=linode)
    assert attached["linode_id"] == linode and api.get(f"{path}/volumes")["data"] == [attached]
    assert "detach it first" in api.refusals("DELETE", f"/volumes/{volume['id']}")[None]
    assert api.post(f"/volumes/{volume['id']}/resize", size=30)["size"] == 30
    assert api.refusals("POST", f"/volumes/{volume['id']}/resize", size=30) == {"size": "Must be 31-16384 GB"}
    copy = api.post(f"/volumes/{volume['id']}/clone", label="copy")
    assert (copy["size"], copy["linode_id"]) == (30, None)
    config = api.get(f"{path}/configs")["data"][0]
    devices = {**{slot: item for slot, item in config["devices"].items() if item}, "sdc": {"volume_id": copy["id"]}}
    api.put(f"{path}/configs/{config['id']}", devices=devices)
    assert api.get(f"/volumes/{copy['id']}")["linode_id"] == linode
    api.post(f"/volumes/{copy['id']}/detach")
    assert api.get(f"{path}/configs/{config['id']}")["devices"]["sdc"] is None
    api.delete(path)  # the volume stays
    assert api.get(f"/volumes/{volume['id']}")["linode_id"] is None
    api.delete(f"/volumes/{volume['id']}")
    actions = [row["action"] for row in api.get("/account/events")["data"] if row["entity"]["id"] == volume["id"]]
    assert actions == ["volume_delete", "volume_resize", "volume_attach", "volume_create"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"label": "label is required", "region": "region is required"}),
        ({"label": "x" * 33, "region": "moon"}, {"label": "Length must be 1-32", "region": "region is not valid"}),
        ({"label": "x", "region": "de-fra-2", "size": 9}, {"size": "Must be 10-16384 GB"}),
        ({"label": "x", "region": "de-fra-2", "encryption": "half"}, {"encryption": "Must be one of"}),
        ({"label": "x", "linode_id": 7}, {"linode_id": "A Linode by that ID", "region": "region is required"}),
    ],
)
def test_bad_volumes(shared: Server, body: Any, expected: dict[str, str]) -> None:
    found = shared.refusals("POST", "/volumes", **body)
    assert found.keys() == expected.keys()
    assert all(found[name].startswith(words) for name, words in expected.items()), found
