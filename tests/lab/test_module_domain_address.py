# SPDX-License-Identifier: GPL-3.0-or-later
"""The module linode_domain_address on the lab's account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.c50k.stack.plugins.module_utils import linode
from ansible_collections.c50k.stack.plugins.modules import linode_domain_address
from lab_server import Server
from modules import run

NAME = {"domain": "example.com", "name": "www", "owner": "demo"}
Ensure = Callable[..., dict[str, Any]]


@pytest.fixture
def domain(api: Server, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(linode, "BACKOFF", 0.01)
    made: int = api.post("/domains", domain="example.com", type="master", soa_email="a@example.com")["id"]
    return made


@pytest.fixture
def ensure(api: Server, domain: int, capsys: pytest.CaptureFixture[str]) -> Ensure:
    return lambda **options: run(linode_domain_address, api, capsys, **{**NAME, **options})


def records(api: Server, domain: int) -> set[tuple[str, str, str]]:
    return {(row["type"], row["name"], row["target"]) for row in api.get(f"/domains/{domain}/records")["data"]}


def test_a_name_is_made_moved_and_taken_away(api: Server, domain: int, ensure: Ensure) -> None:
    mark = ("TXT", "_c50k.www", "owner=demo")
    would = ensure(addresses=["192.0.2.1"], _ansible_check_mode=True)
    assert would["changed"] and records(api, domain) == set()
    assert ensure(addresses=["192.0.2.1", "192.0.2.2"])["changed"]
    assert records(api, domain) == {mark, ("A", "www", "192.0.2.1"), ("A", "www", "192.0.2.2")}
    assert not ensure(addresses=["192.0.2.2", "192.0.2.1"])["changed"]
    moved = ensure(addresses=["192.0.2.2", "192.0.2.3"])
    assert moved["diff"] == {
        "before": {"192.0.2.1": 30, "192.0.2.2": 30},
        "after": {"192.0.2.2": 30, "192.0.2.3": 30},
    }
    assert records(api, domain) == {mark, ("A", "www", "192.0.2.2"), ("A", "www", "192.0.2.3")}
    assert ensure(addresses=["192.0.2.2", "192.0.2.3"], ttl=300)["changed"]
    assert not ensure(addresses=["192.0.2.2", "192.0.2.3"], ttl=300)["changed"]
    assert ensure(state="absent")["changed"] and records(api, domain) == set()
    assert not ensure(state="absent")["changed"]


def test_others_names_and_records_are_left(api: Server, domain: int, ensure: Ensure) -> None:
    path = f"/domains/{domain}/records"
    api.post(path, type="A", name="", target="192.0.2.9")
    taken = api.post(path, type="CNAME", name="www", target="elsewhere.example.net")
    refused = ensure(addresses=["192.0.2.1"], failing=True)["msg"]
    assert "www.example.com has records that are not ours (CNAME elsewhere.example.net)" in refused
    api.delete(f"{path}/{taken['id']}")
    assert ensure(addresses=["192.0.2.1"])["changed"]
    assert (
        "www.example.com belongs to another one, owner=demo"
        in ensure(owner="other", addresses=["192.0.2.1"], failing=True)["msg"]
    )
    assert ensure(state="absent")["changed"]
    assert records(api, domain) == {("A", "", "192.0.2.9")}


def test_a_lost_reply_makes_no_twin(api: Server, domain: int, ensure: Ensure) -> None:
    api.http.post(f"{api.address}/lab/faults", json={"kind": "drop", "count": 2, "method": "POST", "path": "/domains"})
    assert ensure(addresses=["192.0.2.1"])["changed"]
    assert api.get(f"/domains/{domain}/records")["results"] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"addresses": []}, "addresses is empty"),
        ({"addresses": ["www"]}, "addresses has 'www', which is no IPv4 address"),
        ({"domain": "exampel.com", "addresses": ["192.0.2.1"]}, "which the account does not have: example.com."),
    ],
)
def test_bad_input_is_refused(api: Server, domain: int, ensure: Ensure, change: dict[str, Any], words: str) -> None:
    assert words in ensure(failing=True, **change)["msg"]
    assert records(api, domain) == set()
