# SPDX-License-Identifier: GPL-3.0-or-later
"""Placement groups: who may join, and on which physical host a Linode runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lab_server import Server

from lab import catalog
from lab.models import Instance
from lab.settings import Settings

PATH = "/placement/groups"
LINODES = "/linode/instances"
SMALL, LARGE = "no-osl-1", "de-fra-2"  # regions of few and of more physical hosts
KIND = "anti_affinity:local"
WISH = {"label": "spread", "region": LARGE, "placement_group_type": KIND, "placement_group_policy": "strict"}
LINODE = {"type": "g6-nanode-1", "region": LARGE}


def make(api: Server, policy: str = "strict", region: str = LARGE, label: str = "spread") -> Any:
    return api.post(PATH, **{**WISH, "label": label, "region": region, "placement_group_policy": policy})


def linode(api: Server, group: Any = None, region: str = LARGE, **options: Any) -> Any:
    wish = {"placement_group": {"id": group["id"], **options}} if group else {}
    return api.linode(image=None, authorized_keys=None, region=region, **wish)


def move(api: Server, linode: Any, host: str) -> None:
    """Let a Linode run on a physical host, as Linode's own migrations do."""
    record = api.lab.store.get(Instance, linode["id"])
    assert record is not None
    record.host_uuid = host


@pytest.fixture
def unlimited(serve: Callable[..., Server], settings: Settings) -> Server:
    return serve(replace(settings, limits={}))


def test_a_group_from_creation_to_deletion(api: Server) -> None:
    group = make(api)
    assert group == {**WISH, "id": group["id"], "is_compliant": True, "members": [], "migrations": None}
    assert api.get(f"{PATH}/{group['id']}") == group
    for query in ({"label": "spread"}, {"region": LARGE}):
        assert api.get(PATH, headers={"X-Filter": json.dumps(query)})["data"] == [group]
    member = linode(api, group)
    assert member["placement_group"] == {
        **{"id": group["id"], "label": "spread", "placement_group_type": KIND},
        **{"placement_group_policy": "strict", "migrating_to": None},
    }
    assert api.put(f"{PATH}/{group['id']}", label="renamed", region=SMALL)["region"] == LARGE
    assert api.get(f"{LINODES}/{member['id']}")["placement_group"]["label"] == "renamed"
    reason = f"Placement Group cannot be deleted while Linodes are assigned: {member['label']}"
    assert api.refusals("DELETE", f"{PATH}/{group['id']}") == {None: reason}
    api.delete(f"{LINODES}/{member['id']}")
    assert api.get(f"{PATH}/{group['id']}")["members"] == []
    assert api.delete(f"{PATH}/{group['id']}") == {}
    assert api.http.get(f"{PATH}/{group['id']}").status_code == 404
    actions = [
        row["action"] for row in api.get("/account/events")["data"] if row["entity"]["type"] == "placement_group"
    ]
    assert actions == ["placement_group_delete", "placement_group_update", "placement_group_create"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (dict.fromkeys(WISH), {name: f"{name} is required" for name in WISH}),
        ({"label": "x"}, {"label": "Label must be between 3 and 64 characters"}),
        ({"region": "nowhere"}, {"region": "region is not valid"}),
        ({"placement_group_type": "affinity:local"}, {"placement_group_type": f"Must be one of {KIND}"}),
        ({"placement_group_policy": "loose"}, {"placement_group_policy": "Must be one of strict, flexible"}),
        ({"placement_group_policy": True}, {"placement_group_policy": "Must be a string"}),
    ],
)
def test_bad_groups_are_refused(shared: Server, body: Any, expected: dict[str, str]) -> None:
    assert shared.refusals("POST", PATH, **{**WISH, **body}) == expected
    assert shared.get(PATH)["results"] == 0


def test_a_region_has_to_offer_them_and_allows_so_many(api: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    region = catalog.REGIONS[LARGE]
    make(api)
    assert api.refusals("POST", PATH, **WISH) == {"label": "Label must be unique among your Placement Groups"}
    limits = {**region["placement_group_limits"], "maximum_pgs_per_customer": 1}
    monkeypatch.setitem(catalog.REGIONS, LARGE, {**region, "placement_group_limits": limits})
    most = {"region": f"Region {LARGE} allows 1 Placement Groups, and there are as many"}
    assert api.refusals("POST", PATH, **{**WISH, "label": "second"}) == most
    make(api, region=SMALL, label="elsewhere")
    monkeypatch.setitem(catalog.REGIONS, LARGE, {**region, "capabilities": ["Linodes"]})
    none = {"region": f"Placement Groups are not available in region {LARGE}"}
    assert api.refusals("POST", PATH, **{**WISH, "label": "second"}) == none


def test_members_run_on_different_hosts(unlimited: Server) -> None:
    group = make(unlimited)
    hosts = [linode(unlimited, group)["host_uuid"] for _ in range(5)]
    assert len(set(hosts)) == 5 and {*hosts} <= {*catalog.physical_hosts(LARGE)}
    shown = unlimited.get(f"{PATH}/{group['id']}")
    assert shown["is_compliant"] and [row["is_compliant"] for row in shown["members"]] == [True] * 5
    full = {"placement_group": "Placement Group spread can have 5 Linodes, and would have 6"}
    assert unlimited.refusals("POST", LINODES, **LINODE, placement_group={"id": group["id"]}) == full


def test_a_strict_group_is_refused_more_than_there_are_hosts(unlimited: Server) -> None:
    group = make(unlimited, region=SMALL)
    for _ in range(3):
        linode(unlimited, group, SMALL)
    wish = {**LINODE, "region": SMALL, "placement_group": {"id": group["id"]}}
    none = {"placement_group": f"Region {SMALL} has no physical host left for Placement Group spread"}
    assert unlimited.refusals("POST", LINODES, **wish) == none
    alone = linode(unlimited, region=SMALL)
    crowded = {"linodes": f"On the physical host of another member: {alone['label']}"}
    assert unlimited.refusals("POST", f"{PATH}/{group['id']}/assign", linodes=[alone["id"]]) == crowded
    assert unlimited.get(f"{PATH}/{group['id']}")["is_compliant"]


def test_a_flexible_group_takes_it_and_is_not_compliant_then(unlimited: Server) -> None:
    group = make(unlimited, "flexible", SMALL)
    for _ in range(3):
        linode(unlimited, group, SMALL)
    wish = {**LINODE, "region": SMALL, "placement_group": {"id": group["id"], "compliant_only": True}}
    assert "has no physical host left" in unlimited.refusals("POST", LINODES, **wish)["placement_group"]
    fourth = linode(unlimited, group, SMALL)
    shown = unlimited.get(f"{PATH}/{group['id']}")
    assert not shown["is_compliant"]
    assert [row["is_compliant"] for row in shown["members"]] == [True, True, True, False]
    unlimited.delete(f"{LINODES}/{fourth['id']}")
    assert unlimited.get(f"{PATH}/{group['id']}")["is_compliant"]


def test_existing_linodes_are_assigned_where_they_run(api: Server) -> None:
    group = make(api, "flexible")
    first, second, third = (linode(api) for _ in range(3))
    hosts = catalog.physical_hosts(LARGE)
    for item, host in ((first, hosts[0]), (second, hosts[1]), (third, hosts[0])):
        move(api, item, host)
    path = f"{PATH}/{group['id']}"
    shown = api.post(f"{path}/assign", linodes=[first["id"], second["id"]])
    assert shown["members"] == [{"linode_id": item["id"], "is_compliant": True} for item in (first, second)]
    crowded = {"linodes": f"On the physical host of another member: {third['label']}"}
    assert api.refusals("POST", f"{path}/assign", linodes=[third["id"]], compliant_only=True) == crowded
    assert not api.post(f"{path}/assign", linodes=[third["id"]])["is_compliant"]
    assert api.get(f"{LINODES}/{third['id']}")["host_uuid"] == hosts[0]
    shown = api.post(f"{path}/unassign", linodes=[third["id"]])
    assert (shown["is_compliant"], len(shown["members"])) == (True, 2)
    assert api.get(f"{LINODES}/{third['id']}")["placement_group"] is None


def test_bad_assignments_are_refused_whole(unlimited: Server) -> None:
    group, other = make(unlimited, "flexible"), make(unlimited, "flexible", label="other")
    elsewhere, inside = linode(unlimited, region=SMALL), linode(unlimited, other)
    free = [linode(unlimited) for _ in range(6)]
    path = f"{PATH}/{group['id']}"
    many = [item["id"] for item in free]
    cases: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        ("assign", {}, {"linodes": "linodes is required"}),
        ("assign", {"linodes": [5, "x"]}, {f"linodes[{n}]": "A Linode by that ID was not found" for n in (0, 1)}),
        (
            "assign",
            {"linodes": [free[0]["id"], elsewhere["id"], inside["id"]]},
            {
                "linodes[1]": f"Linode {elsewhere['label']} is in {SMALL}, not in {LARGE}",
                "linodes[2]": f"Linode {inside['label']} is in a Placement Group already",
            },
        ),
        ("assign", {"linodes": many}, {"linodes": "Placement Group spread can have 5 Linodes, and would have 6"}),
        (
            "unassign",
            {"linodes": [inside["id"], free[0]["id"]]},
            {
                f"linodes[{n}]": f"Linode {row['label']} is not in this Placement Group"
                for n, row in enumerate((inside, free[0]))
            },
        ),
    ]
    for action, body, expected in cases:
        assert unlimited.refusals("POST", f"{path}/{action}", **body) == expected
    assert unlimited.get(path)["members"] == []


@pytest.mark.parametrize("wish", [{"id": 5}, {}, 5, {"id": "x"}])
def test_a_linode_in_a_group_that_is_not_there(shared: Server, wish: Any) -> None:
    found = shared.refusals("POST", LINODES, **LINODE, placement_group=wish)
    assert found == {"placement_group": "A Placement Group by that ID was not found"}


def test_a_linode_of_another_region_is_refused(api: Server) -> None:
    group = make(api)
    found = api.refusals("POST", LINODES, **{**LINODE, "region": SMALL}, placement_group={"id": group["id"]})
    assert found == {"placement_group": f"Placement Group spread is in {LARGE}, the Linode in {SMALL}"}


def test_groups_survive_a_restart(serve: Callable[..., Server]) -> None:
    first = serve()
    group = make(first)
    linode(first, group)
    before = first.get(f"{PATH}/{group['id']}")
    first.stop()
    assert serve().get(f"{PATH}/{group['id']}") == before
