# SPDX-License-Identifier: GPL-3.0-or-later
"""The module linode_nodebalancer on the lab's account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.c50k.stack.plugins.module_utils import linode
from ansible_collections.c50k.stack.plugins.modules import linode_nodebalancer
from lab_server import Server
from modules import run

Ensure = Callable[..., dict[str, Any]]
FRONT = {
    **{"label": "demo", "tags": ["demo", "front"], "region": "de-fra-2", "type": "premium"},
    **{"vpc": "demo", "vpc_range": "10.0.0.252/30"},
}


def port(*nodes: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"port": 80, "algorithm": "leastconn", "proxy_protocol": "v2", "nodes": list(nodes), **values}


def node(number: int, **values: Any) -> dict[str, Any]:
    return {"label": f"demo-lb-{number}", "address": f"10.0.1.{number + 9}:80", **values}


@pytest.fixture
def ensure(api: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ensure:
    monkeypatch.setattr(linode, "BACKOFF", 0.01)
    api.post("/vpcs", label="demo", region="de-fra-2", subnets=[{"label": "demo", "ipv4": "10.0.0.0/20"}])
    return lambda *configs, **options: run(
        linode_nodebalancer, api, capsys, **{**FRONT, "configs": list(configs), **options}
    )


def nodes(result: dict[str, Any]) -> dict[str, tuple[str, str]]:
    (config,) = result["nodebalancer"]["configs"]
    return {row["label"]: (row["address"], row["mode"]) for row in config["nodes"]}


def test_it_is_made_at_once_and_then_left_alone(api: Server, ensure: Ensure) -> None:
    would = ensure(port(node(1)), _ansible_check_mode=True)
    assert would["changed"] and would["nodebalancer"] == {} and api.get("/nodebalancers")["results"] == 0
    made = ensure(port(node(1), node(2)))
    assert made["nodebalancer"]["ipv4"] and made["nodebalancer"]["type"] == "premium"
    assert nodes(made) == {"demo-lb-1": ("10.0.1.10:80", "accept"), "demo-lb-2": ("10.0.1.11:80", "accept")}
    (config,) = api.get(f"/nodebalancers/{made['nodebalancer']['id']}/configs")["data"]
    assert (config["protocol"], config["proxy_protocol"], config["algorithm"]) == ("tcp", "v2", "leastconn")
    again = ensure(port(node(1), node(2)))
    assert not again["changed"] and again["nodebalancer"]["id"] == made["nodebalancer"]["id"]


def test_nodes_come_drain_and_go_and_a_short_listing_takes_none_away(ensure: Ensure) -> None:
    ensure(port(node(1), node(2)))
    assert not ensure(port(node(2)))["changed"]
    grown = ensure(port(node(3)))
    assert grown["diff"]["after"] == {"port 80, node demo-lb-3": {"address": "10.0.1.12:80", "mode": "accept"}}
    assert set(nodes(grown)) == {"demo-lb-1", "demo-lb-2", "demo-lb-3"}
    drained = ensure(port(node(3, mode="drain")))
    assert nodes(drained)["demo-lb-3"] == ("10.0.1.12:80", "drain")
    gone = ensure(port({"label": "demo-lb-3", "state": "absent"}))
    assert gone["changed"] and set(nodes(gone)) == {"demo-lb-1", "demo-lb-2"}
    assert not ensure(port({"label": "demo-lb-3", "state": "absent"}))["changed"]
    moved = ensure(port({**node(2), "address": "10.0.1.99:80"}))
    assert nodes(moved)["demo-lb-2"] == ("10.0.1.99:80", "accept")


def test_a_port_is_changed_and_another_added(ensure: Ensure) -> None:
    ensure(port(node(1)))
    changed = ensure(port(node(1), algorithm="source", check="connection", check_interval=5, check_timeout=3))
    assert changed["diff"]["before"]["port 80"]["algorithm"] == "leastconn"
    both = ensure(port(node(1), algorithm="source"), port(node(1), port=443))
    assert [config["port"] for config in both["nodebalancer"]["configs"]] == [80, 443]
    assert not ensure(port(node(1), algorithm="source"), port(node(1), port=443))["changed"]


def test_its_firewall(api: Server, ensure: Ensure) -> None:
    assert (
        "firewall is demo-front, which the account does not have"
        in ensure(port(), firewall="demo-front", failing=True)["msg"]
    )
    closed = {"inbound": [], "inbound_policy": "DROP", "outbound": [], "outbound_policy": "ACCEPT"}
    firewall = api.post("/networking/firewalls", label="demo-front", rules=closed)
    made = ensure(port(node(1)), firewall="demo-front")["nodebalancer"]
    (device,) = api.get(f"/networking/firewalls/{firewall['id']}/devices")["data"]
    assert (device["entity"]["type"], device["entity"]["id"]) == ("nodebalancer", made["id"])
    assert not ensure(port(node(1)), firewall="demo-front")["changed"]
    api.delete(f"/networking/firewalls/{firewall['id']}/devices/{device['id']}")
    assert ensure(port(node(1)), firewall="demo-front")["diff"]["after"] == {"firewall": "demo-front"}


@pytest.mark.parametrize("kind", ["drop", "rate-limit"])
def test_a_lost_reply_makes_no_twin(api: Server, ensure: Ensure, kind: str) -> None:
    fault = {"kind": kind, "count": 1, "method": "POST", "path": "/nodebalancers"}
    api.http.post(f"{api.address}/lab/faults", json=fault)
    assert len(nodes(ensure(port(node(1), node(2))))) == 2
    assert api.get("/nodebalancers")["results"] == 1


def test_what_cannot_change_and_strangers_are_refused(api: Server, ensure: Ensure) -> None:
    ensure(port(node(1)))
    for change, words in (
        ({"type": "common"}, "type of NodeBalancer demo is premium, wanted is common"),
        ({"vpc": None}, "backend_connectivity of NodeBalancer demo is vpc, wanted is legacy"),
        ({"tags": ["other"]}, "whose tags (demo, front) are not all of other"),
        ({"label": "x"}, "label is 'x': allowed are 3 to 32"),
        ({"label": "new", "region": "de-fra-9"}, "region is de-fra-9, which the API does not have"),
        ({"label": "new", "vpc": "elsewhere"}, "vpc is elsewhere and its subnet elsewhere"),
    ):
        assert words in ensure(port(node(1)), failing=True, **change)["msg"]
    assert "Port 80 has node demo-lb-1 twice" in ensure(port(node(1), node(1)), failing=True)["msg"]
    assert "Port 80 has node demo-lb-2 without its address" in ensure(port({"label": "demo-lb-2"}), failing=True)["msg"]
    assert api.get("/nodebalancers")["results"] == 1
    assert ensure(state="absent")["changed"] and api.get("/nodebalancers")["results"] == 0
    assert not ensure(state="absent")["changed"]
