# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags, events, and who asks."""

from __future__ import annotations

import json

from lab_server import Server

PATH = "/linode/instances"


def labels(api: Server) -> list[str]:
    return [row["label"] for row in api.get("/tags")["data"]]


def test_tags_come_with_their_first_use_and_stay(api: Server) -> None:
    linode = api.linode(tags=["demo", "app_server"])
    api.put(f"{PATH}/{linode['id']}", tags=["demo", "redis"])
    assert labels(api) == ["app_server", "demo", "redis"]
    assert api.get("/tags/demo")["data"] == [{"type": "linode", "data": api.settled(linode["id"], "running")}]
    assert api.get("/tags/app_server")["results"] == 0


def test_a_tag_is_put_on_and_taken_off(api: Server) -> None:
    linode, other = api.linode()["id"], api.linode()["id"]
    assert api.post("/tags", label="blue", linodes=[linode]) == {"label": "blue"}
    assert [row["data"]["id"] for row in api.get("/tags/blue")["data"]] == [linode]
    api.post("/tags", label="blue", linodes=[linode, other])
    assert api.get(f"{PATH}/{linode}")["tags"] == ["blue"]
    assert api.get("/tags/blue")["results"] == 2
    assert api.delete("/tags/blue") == {}
    assert (api.get(f"{PATH}/{linode}")["tags"], labels(api)) == ([], [])
    assert api.http.get("/tags/blue").status_code == 404


def test_a_tag_with_a_slash(api: Server) -> None:
    api.post("/tags", label="team/blue one")
    assert api.get("/tags/team%2Fblue%20one")["results"] == 0


def test_bad_tags(shared: Server) -> None:
    assert shared.refusals("POST", "/tags", label="ab") == {"label": "Length must be 3-50 characters"}
    assert shared.refusals("POST", "/tags") == {"label": "label is required"}
    assert shared.refusals("POST", "/tags", label="fine", linodes=[5]) == {
        "linodes": "A Linode by that ID was not found"
    }
    assert shared.refusals("POST", "/tags", label="fine", linodes=["five"]) == {
        "linodes": "Must be an array of integers"
    }
    assert shared.refusals("POST", "/tags", label="fine", nodebalancers=[5], volumes=[5]) == {
        **{"nodebalancers": "A NodeBalancer by that ID was not found", "volumes": "A Volume by that ID was not found"}
    }
    assert labels(shared) == []


def test_events_newest_first_and_seen(api: Server) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    boot, create = api.get("/account/events")["data"]
    assert [row["action"] for row in (boot, create)] == ["linode_boot", "linode_create"]
    assert api.get(f"/account/events/{boot['id']}") == boot
    api.post(f"/account/events/{create['id']}/seen")
    assert [row["seen"] for row in api.get("/account/events")["data"]] == [False, True]
    unseen = api.get("/account/events", headers={"X-Filter": json.dumps({"seen": False})})["data"]
    assert [row["action"] for row in unseen] == ["linode_boot"]


def test_events_are_ordered_within_a_second(api: Server) -> None:
    linode = api.linode()["id"]
    api.settled(linode, "running")
    query = {"entity.id": linode, "entity.type": "linode", "+order_by": "created", "+order": "desc"}
    actions = [row["action"] for row in api.get("/account/events", headers={"X-Filter": json.dumps(query)})["data"]]
    assert actions == ["linode_boot", "linode_create"]


def test_the_oldest_events_give_way(api: Server, monkeypatch: object) -> None:
    from lab import journal

    monkeypatch.setattr(journal, "KEPT_EVENTS", 20)  # type: ignore[attr-defined]
    for _ in range(15):
        api.settled(api.linode()["id"], "running")
    rows = api.get("/account/events")["data"]
    assert 18 <= len(rows) <= 24
    assert rows[0]["action"] == "linode_boot"


def test_profile(shared: Server) -> None:
    profile = shared.get("/profile")
    assert (profile["username"], profile["restricted"]) == ("lab", False)
