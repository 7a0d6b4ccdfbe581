# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on request, as clients see them; and this collection's client among them."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.c50k.stack.plugins.module_utils import linode as client_module
from ansible_collections.c50k.stack.plugins.module_utils.linode import LinodeApi, LinodeError
from ansible_collections.c50k.stack.plugins.modules import linode_instances
from lab_server import KEY, TOKEN, Server

PATH = "/linode/instances"
WISH = {"type": "g6-nanode-1", "region": "de-fra-2", "image": "linode/debian13", "authorized_keys": [KEY]}


def order(api: Server, kind: str, **values: object) -> None:
    reply = api.http.post(f"{api.address}/lab/faults", json={"kind": kind, **values})
    assert reply.status_code == 200, reply.text


def left(api: Server) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = api.http.get(f"{api.address}/lab/faults").json()["data"]
    return rows


@pytest.fixture
def client(api: Server, monkeypatch: pytest.MonkeyPatch) -> LinodeApi:
    monkeypatch.setattr(client_module, "BACKOFF", 0.01)
    monkeypatch.setattr(client_module, "PAGE_SIZE", 25)
    return LinodeApi(TOKEN, f"{api.address}/v4")


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("timeout", 408, "Please try again"),
        ("rate-limit", 429, "Too many requests"),
        ("down", 503, "Service Unavailable"),
    ],
)
def test_refused_so_many_times(api: Server, kind: str, status: int, reason: str) -> None:
    order(api, kind, count=2)
    for _ in range(2):
        reply = api.http.get("/profile")
        assert (reply.status_code, reply.json()) == (status, {"errors": [{"reason": reason}]})
    assert api.get("/profile") and left(api) == []


def test_retry_after(api: Server) -> None:
    order(api, "rate-limit", seconds=7, path="/vpcs")
    assert api.get("/profile")
    assert api.http.get("/vpcs").headers["Retry-After"] == "7"


def test_a_share_of_the_calls(api: Server) -> None:
    order(api, "timeout", count=0, share=0.5)
    seen = {api.http.get("/profile").status_code for _ in range(60)}
    assert seen == {200, 408}
    assert api.http.request("DELETE", f"{api.address}/lab/faults").json() == {} and left(api) == []


def test_busy_is_for_changes_of_a_linode(api: Server) -> None:
    order(api, "busy")
    linode = api.linode()["id"]
    api.settled(linode, "running")
    assert api.refusals("POST", f"{PATH}/{linode}/reboot") == {None: "Linode busy."}
    assert api.post(f"{PATH}/{linode}/reboot") == {}


def test_a_dropped_reply_hides_work_that_is_done(api: Server) -> None:
    order(api, "drop")
    with pytest.raises(httpx.RemoteProtocolError):
        api.http.post(PATH, json={**WISH, "label": "demo"})
    assert [row["label"] for row in api.get(PATH)["data"]] == ["demo"]


def test_a_refused_connection_does_nothing(api: Server) -> None:
    order(api, "refuse", method="POST")
    with pytest.raises(httpx.TransportError):  # closed, or reset if the request was not all there yet
        api.http.post(PATH, json={**WISH, "label": "demo"})
    assert api.get(PATH)["results"] == 0


def test_boots(api: Server) -> None:
    order(api, "failed-boot", label="bad")
    order(api, "slow-boot", label="slow", seconds=0.3)
    bad, started, slow = api.linode(label="bad")["id"], time.monotonic(), api.linode(label="slow")["id"]
    api.settled(bad, "offline")
    api.settled(slow, "running")
    assert time.monotonic() - started >= 0.3
    message = next(row["message"] for row in api.get("/account/events")["data"] if row["status"] == "failed")
    assert message == "bad did not boot: a failed boot was asked for"
    api.post(f"{PATH}/{bad}/boot")
    api.settled(bad, "running")


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"kind": "rain"}, "A fault is one of"),
        ({"kind": "busy", "seconds": 3}, "busy takes count, method, path, share, not seconds"),
        ({"kind": "down", "count": -1}, "count is -1"),
        ({"kind": "down", "share": "half"}, "share is 'half'; it must be a number"),
        ({"kind": "slow-boot", "seconds": 1000}, "seconds is 1000"),
        ({"kind": "disappear"}, "disappear needs the label"),
    ],
)
def test_what_is_no_fault(api: Server, wish: dict[str, object], reason: str) -> None:
    reply = api.http.post(f"{api.address}/lab/faults", json=wish)
    assert reply.status_code == 400 and reply.json()["errors"][0]["reason"].startswith(reason)


def test_the_controls_need_the_token_and_are_not_linodes(api: Server) -> None:
    for path in ("/lab/state", "/lab/faults"):
        assert httpx.get(api.address + path, trust_env=False).status_code == 401
    assert api.http.get("/lab/faults").status_code == 404


def test_reset(api: Server) -> None:
    subnet = api.subnet()
    interfaces = [{"vpc": {"subnet_id": subnet["id"]}}]
    api.linode(interface_generation="linode", interfaces=interfaces, tags=["demo"])
    order(api, "down", count=0)
    assert api.http.post(f"{api.address}/lab/reset").json() == {}
    assert [api.get(path)["results"] for path in (PATH, "/vpcs", "/tags", "/account/events")] == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["drop", "timeout", "rate-limit", "down", "refuse"])
def test_the_client_makes_one_of_each(api: Server, client: LinodeApi, kind: str) -> None:
    order(api, kind, count=2, method="POST")

    def find() -> dict[str, object] | None:
        return next(iter(client.rows(PATH, {"label": "demo"})), None)

    assert client.create(PATH, {**WISH, "label": "demo"}, find)["label"] == "demo"
    assert api.get(PATH)["results"] == 1


def test_the_client_says_busy(api: Server, client: LinodeApi) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    order(api, "busy")
    with pytest.raises(LinodeError, match="Linode busy"):
        client.post(f"{PATH}/{linode}/reboot", {})


@pytest.mark.parametrize(("kind", "expected"), [("appear", 31), ("disappear", 29)])
def test_the_client_lists_an_account_that_changes(api: Server, client: LinodeApi, kind: str, expected: int) -> None:
    for number in range(30):
        api.lab.limiter._windows.clear()
        api.linode(label=f"demo-{number}", booted=False)
    order(api, kind, label="demo-3" if kind == "disappear" else "passer-by")
    labels = [row["label"] for row in client.rows(PATH)]
    assert len(labels) == len(set(labels)) == expected
    assert left(api) == []


@pytest.mark.parametrize("kind", ["drop", "timeout", "rate-limit"])
def test_the_module_makes_a_fleet_once(api: Server, monkeypatch: pytest.MonkeyPatch, capsys: Any, kind: str) -> None:
    monkeypatch.setattr(client_module, "BACKOFF", 0.01)
    monkeypatch.setattr(linode_instances, "POLL_INTERVAL", 0.05)
    order(api, kind, count=3, method="POST")
    order(api, "failed-boot", label="demo-redis-1")
    order(api, "busy", path=PATH)
    wanted = [{**WISH, "label": f"demo-redis-{number}", "tags": ["demo", "redis"]} for number in (1, 2, 3)]
    arguments = {"api_token": TOKEN, "api_url": f"{api.address}/v4", "instances": wanted, "timeout": 30}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        linode_instances.main()
    result = json.loads(capsys.readouterr().out)
    assert result.get("changed"), result
    assert sorted(row["label"] for row in api.get(PATH)["data"]) == [row["label"] for row in wanted]
    assert {row["status"] for row in result["instances"]} == {"running"}
