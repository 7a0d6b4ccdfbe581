# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules linode_firewalls and linode_placement_groups on the lab's account, and instances that get both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.c50k.stack.plugins.module_utils import linode
from ansible_collections.c50k.stack.plugins.modules import (
    linode_firewalls,
    linode_instances,
    linode_placement_groups,
)
from lab_server import KEY, Server
from modules import run

Ensure = Callable[..., dict[str, Any]]
PATH = "/networking/firewalls"
SSH = {"label": "ssh", "ports": "22", "addresses": {"ipv4": ["192.0.2.7/32"], "ipv6": ["2001:db8::/64"]}}
HTTP = {"label": "http", "ports": "80, 8000-8010", "addresses": {"ipv4": ["0.0.0.0/0"]}}


def wish(*inbound: dict[str, Any], label: str = "demo-app") -> dict[str, Any]:
    return {"label": label, "tags": ["demo", "app"], "rules": {"inbound": list(inbound)}}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linode, "BACKOFF", 0.01)
    monkeypatch.setattr(linode_instances, "POLL_INTERVAL", 0.02)


@pytest.fixture
def firewalls(api: Server, capsys: pytest.CaptureFixture[str]) -> Ensure:
    return lambda *wanted, **options: run(linode_firewalls, api, capsys, firewalls=list(wanted), **options)


@pytest.fixture
def groups(api: Server, capsys: pytest.CaptureFixture[str]) -> Ensure:
    return lambda *labels, **options: run(linode_placement_groups, api, capsys, labels=list(labels), **options)


def rules(api: Server, label: str = "demo-app") -> dict[str, Any]:
    (found,) = [row["rules"] for row in api.get(PATH)["data"] if row["label"] == label]
    assert isinstance(found, dict)
    return found


def test_a_firewall_is_made_changed_and_taken_away(api: Server, firewalls: Ensure) -> None:
    would = firewalls(wish(SSH), _ansible_check_mode=True)
    assert would["created"] == ["demo-app"] and api.get(PATH)["results"] == 0
    assert firewalls(wish(SSH))["created"] == ["demo-app"]
    assert (rules(api)["inbound_policy"], rules(api)["outbound_policy"]) == ("DROP", "ACCEPT")
    again = firewalls(wish(SSH))
    assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"]
    changed = firewalls(wish(SSH, HTTP))
    assert changed["updated"] == ["demo-app"]
    assert [rule["label"] for rule in rules(api)["inbound"]] == ["ssh", "http"]
    assert not firewalls(wish(SSH, HTTP))["changed"]
    assert firewalls(wish(), state="absent")["deleted"] == ["demo-app"]
    assert api.get(PATH)["results"] == 0
    assert not firewalls(wish(), state="absent")["changed"]


def test_what_somebody_changed_by_hand_is_set_back(api: Server, firewalls: Ensure) -> None:
    firewalls(wish(SSH))
    (number,) = [row["id"] for row in api.get(PATH)["data"]]
    api.put(f"{PATH}/{number}", status="disabled", tags=["demo", "app", "mine"])
    api.put(f"{PATH}/{number}/rules", inbound=[], inbound_policy="ACCEPT", outbound=[], outbound_policy="ACCEPT")
    assert firewalls(wish(SSH))["updated"] == ["demo-app"]
    now = api.get(f"{PATH}/{number}")
    assert (now["status"], sorted(now["tags"])) == ("enabled", ["app", "demo", "mine"])
    assert now["rules"]["inbound_policy"] == "DROP" and len(now["rules"]["inbound"]) == 1


def test_a_strangers_firewall_is_left(api: Server, firewalls: Ensure) -> None:
    empty = {"inbound": [], "inbound_policy": "ACCEPT", "outbound": [], "outbound_policy": "ACCEPT"}
    api.post(PATH, label="demo-app", rules=empty, tags=["other"])
    for state in ("present", "absent"):
        said = firewalls(wish(SSH), wish(SSH, label="demo-db"), state=state, failing=True)["msg"]
        assert "demo-app is the label of firewall" in said and "Nothing was changed" in said
    assert [row["label"] for row in api.get(PATH)["data"]] == ["demo-app"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (wish(SSH, label="x"), "firewalls[0].label is 'x': allowed are 3 to 32"),
        ({**wish(SSH), "tags": []}, "firewalls[0].tags of demo-app is empty"),
        (wish({**SSH, "ports": "ssh"}), "has 'ssh', whose ports are 'ssh'"),
        (wish({**SSH, "protocol": "ICMP"}), "has 'ssh', whose ports are '22': allowed are such as"),
        (wish({**SSH, "addresses": {}}), "has 'ssh', whose addresses are empty"),
        (wish({**SSH, "addresses": {"ipv4": ["::/0"]}}), "addresses.ipv4 have '::/0': it is no IPv4 network"),
        (wish(*[SSH] * 26), "has 26 rules: 25 are allowed"),
        ({"label": "demo-app", "tags": ["demo"]}, "rules of demo-app is not set"),
    ],
)
def test_bad_input_is_refused(api: Server, firewalls: Ensure, wanted: dict[str, Any], words: str) -> None:
    assert words in firewalls(wanted, failing=True)["msg"]
    assert api.get(PATH)["results"] == 0


@pytest.mark.parametrize("kind", ["drop", "timeout"])
def test_a_lost_reply_makes_no_twin(api: Server, firewalls: Ensure, groups: Ensure, kind: str) -> None:
    for path in ("/networking", "/placement"):
        api.http.post(f"{api.address}/lab/faults", json={"kind": kind, "count": 1, "method": "POST", "path": path})
    assert firewalls(wish(SSH))["created"] == ["demo-app"]
    assert groups("demo-app", region="de-fra-2")["created"] == ["demo-app"]
    assert api.get(PATH)["results"] == api.get("/placement/groups")["results"] == 1


def test_placement_groups(api: Server, groups: Ensure) -> None:
    assert groups("one", "two", region="de-fra-2", _ansible_check_mode=True)["created"] == ["one", "two"]
    assert groups("one", region="de-fra-2")["created"] == ["one"]
    assert groups("one", "two", region="de-fra-2")["created"] == ["two"]
    assert not groups("one", "two", region="de-fra-2")["changed"]
    assert (
        "region of placement group one is de-fra-2, wanted is us-ord"
        in groups("one", region="us-ord", failing=True)["msg"]
    )
    assert "region is de-fra2, which the API does not have" in groups("three", region="de-fra2", failing=True)["msg"]
    (one,) = [row for row in api.get("/placement/groups")["data"] if row["label"] == "one"]
    assert (one["placement_group_type"], one["placement_group_policy"]) == ("anti_affinity:local", "flexible")
    api.linode(label="tenant", placement_group={"id": one["id"]})
    assert "one still has 1 instances" in groups("one", state="absent", failing=True)["msg"]
    assert groups("two", state="absent")["deleted"] == ["two"]
    assert groups(state="absent")["changed"] is False


def instance(number: int, **values: Any) -> dict[str, Any]:
    return {
        **{"label": f"demo-app-{number}", "tags": ["demo", "app"], "region": "de-fra-2", "type": "g6-nanode-1"},
        **{"image": "linode/debian13", "authorized_keys": [KEY], "vpc": "demo"},
        **values,
    }


@pytest.fixture
def instances(api: Server, capsys: pytest.CaptureFixture[str]) -> Ensure:
    api.post("/vpcs", label="demo", region="de-fra-2", subnets=[{"label": "demo", "ipv4": "10.0.0.0/20"}])
    return lambda *wanted, **options: run(linode_instances, api, capsys, instances=list(wanted), **options)


def devices(api: Server) -> list[dict[str, Any]]:
    (found,) = [row["id"] for row in api.get(PATH)["data"] if row["label"] == "demo-app"]
    rows: list[dict[str, Any]] = api.get(f"{PATH}/{found}/devices")["data"]
    return rows


def test_instances_are_made_behind_their_firewall_and_apart(
    api: Server, firewalls: Ensure, groups: Ensure, instances: Ensure
) -> None:
    wanted = [instance(number, firewall="demo-app", placement_group="demo-app", backups=True) for number in (1, 2)]
    missing = instances(*wanted, failing=True)["msg"]
    assert "firewall of demo-app-1, demo-app-2 is demo-app, which the account does not have" in missing
    assert "placement_group of demo-app-1, demo-app-2 is demo-app" in missing
    assert instances(*wanted, _ansible_check_mode=True)["created"] == ["demo-app-1", "demo-app-2"]
    firewalls(wish(SSH))
    groups("demo-app", region="de-fra-2")
    made = instances(*wanted)
    assert made["created"] == ["demo-app-1", "demo-app-2"]
    assert len(devices(api)) == 4, "two interfaces each"
    rows = api.get("/linode/instances")["data"]
    assert {row["placement_group"]["label"] for row in rows} == {"demo-app"}
    assert len({row["host_uuid"] for row in rows}) == 2 and all(row["backups"]["enabled"] for row in rows)
    assert not instances(*wanted)["changed"]


def test_what_lacks_its_firewall_or_backups_gets_them(api: Server, firewalls: Ensure, instances: Ensure) -> None:
    firewalls(wish(SSH))
    instances(instance(1), instance(2))
    wanted = [instance(1, firewall="demo-app"), instance(2, firewall="demo-app", backups=True)]
    would = instances(*wanted, _ansible_check_mode=True)
    assert (would["protected"], would["backed_up"]) == (["demo-app-1", "demo-app-2"], ["demo-app-2"])
    assert devices(api) == []
    assert instances(*wanted)["protected"] == ["demo-app-1", "demo-app-2"]
    assert len(devices(api)) == 4
    assert not instances(*wanted)["changed"]
    (number,) = [row["id"] for row in api.get(PATH)["data"]]
    api.delete(f"{PATH}/{number}/devices/{devices(api)[0]['id']}")
    assert len(instances(*wanted)["protected"]) == 1
    assert len(devices(api)) == 4


def test_a_legacy_linode_is_protected_as_a_whole(api: Server, firewalls: Ensure, instances: Ensure) -> None:
    firewalls(wish(SSH))
    api.linode(label="demo-app-1", tags=["demo", "app"])
    wanted = instance(1, firewall="demo-app", vpc=None)
    assert instances(wanted)["protected"] == ["demo-app-1"]
    assert [row["entity"]["type"] for row in devices(api)] == ["linode"]
    assert not instances(wanted)["changed"]


def test_a_type_that_is_not_there_at_the_moment_is_refused(api: Server, instances: Ensure) -> None:
    rows = [row for row in api.get("/regions/availability")["data"] if not row["available"]]
    gone = next(row for row in rows if "Linodes" in api.get(f"/regions/{row['region']}")["capabilities"])
    wanted = instance(1, vpc=None, region=gone["region"], type=gone["plan"])
    said = instances(wanted, failing=True)["msg"]
    assert f"is {gone['plan']}, which region {gone['region']} does not have at the moment" in said
    assert api.get("/linode/instances")["results"] == 0
