# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud Firewalls through the API: what may be asked, what they are on, and when they are in force."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from lab_server import KEY, Server, wait_for

PATH = "/networking/firewalls"
LINODES = "/linode/instances"
LINODE = {"type": "g6-nanode-1", "region": "de-fra-2", "image": "linode/debian13", "authorized_keys": [KEY]}
CLOSED = {"inbound_policy": "DROP", "outbound_policy": "ACCEPT"}
SSH = {"action": "ACCEPT", "protocol": "TCP", "ports": "22", "addresses": {"ipv4": ["192.0.2.0/24"]}}
ON_INTERFACES = (
    "Linode is using Linode Interfaces. Please apply Cloud Firewall to the interfaces of the Linode instead of directly"
    " to the Linode."
)
UNKNOWN = "A Firewall by that ID was not found"


def make(api: Server, label: str = "web", **body: Any) -> Any:
    return api.post(PATH, **{"label": label, "rules": CLOSED, **body})


def with_interfaces(api: Server, **body: Any) -> tuple[Any, Any]:
    """Create a Linode with a public and a VPC interface; return it, and a VPC subnet's id."""
    subnet = api.subnet()
    interfaces = [{"public": {}}, {"vpc": {"subnet_id": subnet["id"]}}]
    wish = {"interface_generation": "linode", "interfaces": interfaces, "booted": False, **body}
    return api.linode(**wish), subnet


def interface_ids(api: Server, linode: Any) -> list[int]:
    from lab.models import Instance

    found = api.lab.store.get(Instance, linode["id"])
    assert found is not None
    return [item.id for item in found.interfaces]


def actions(api: Server) -> list[str]:
    rows = api.get("/account/events")["data"]
    return [row["action"] for row in rows[::-1] if row["entity"]["type"] != "linode"]


def test_a_firewall_as_created(api: Server) -> None:
    made = make(api, tags=["demo"], rules={**CLOSED, "inbound": [SSH], "outbound": None})
    assert made["rules"] == {
        **{"inbound": [SSH], "inbound_policy": "DROP", "outbound": [], "outbound_policy": "ACCEPT"},
        **{"version": 1, "fingerprint": made["rules"]["fingerprint"]},
    }
    assert len(made["rules"]["fingerprint"]) == 8
    assert {name: made[name] for name in ("label", "status", "tags", "entities")} == {
        **{"label": "web", "status": "enabled", "tags": ["demo"], "entities": []}
    }
    assert api.get(f"{PATH}/{made['id']}") == made == api.get(PATH)["data"][0]
    assert api.get(f"{PATH}/{made['id']}/rules") == made["rules"]
    assert api.get("/tags")["results"] == 0, "Linode keeps the tags of firewalls apart"
    assert api.hosts.rules == {}, "it is on nothing yet"


def test_firewalls_can_be_filtered(api: Server) -> None:
    make(api, "first", tags=["blue"])
    make(api, "second")
    for query in ({"label": "first"}, {"tags": "blue"}):
        rows = api.get(PATH, headers={"X-Filter": json.dumps(query)})["data"]
        assert [row["label"] for row in rows] == ["first"]


def rules(**rule: Any) -> dict[str, Any]:
    return {"rules": {**CLOSED, "inbound": [{**SSH, **rule}]}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"label": None, "rules": None}, {"label": "label is required", "rules": "rules is required"}),
        ({"label": "ab"}, {"label": "Label must be between 3 and 32 characters"}),
        ({"label": "x" * 33}, {"label": "Label must be between 3 and 32 characters"}),
        ({"label": "-web"}, {"label": "Label must begin and end"}),
        ({"label": "we__b"}, {"label": "Label cannot have two dashes"}),
        ({"tags": ["ab"]}, {"tags": "Length must be 3-50 characters"}),
        ({"rules": []}, {"rules": "Must be an object"}),
        (
            {"rules": {}},
            {
                "rules.inbound_policy": "inbound_policy is required",
                "rules.outbound_policy": "outbound_policy is required",
            },
        ),
        ({"rules": {**CLOSED, "inbound_policy": "REJECT"}}, {"rules.inbound_policy": "Must be one of ACCEPT, DROP"}),
        ({"rules": {**CLOSED, "version": 1}}, {"rules": "Keys must be one of: inbound, inbound_policy, outbound"}),
        ({"rules": {**CLOSED, "outbound": {}}}, {"rules.outbound": "Must be an array"}),
        ({"rules": {**CLOSED, "outbound": "all"}}, {"rules.outbound": "Must be an array"}),
        ({"rules": {**CLOSED, "outbound": ["all"]}}, {"rules.outbound[0]": "Must be an object"}),
        (
            {"rules": {**CLOSED, "inbound": [SSH] * 13, "outbound": [SSH] * 13}},
            {"rules": "A Firewall can have at most 25"},
        ),
        (rules(action=None), {"rules.inbound[0].action": "action is required"}),
        (rules(action="REJECT"), {"rules.inbound[0].action": "Must be one of ACCEPT, DROP"}),
        (rules(protocol=None), {"rules.inbound[0].protocol": "protocol is required"}),
        (rules(protocol="tcp"), {"rules.inbound[0].protocol": "Must be one of ALL, ICMP, IPENCAP, TCP, UDP"}),
        (rules(protocol="256"), {"rules.inbound[0].protocol": "Must be one of"}),
        (rules(protocol="06"), {"rules.inbound[0].protocol": "Must be one of"}),
        (rules(protocol=6), {"rules.inbound[0].protocol": "Must be one of"}),
        (rules(ruleset=5), {"rules.inbound[0]": "Keys must be one of: action, addresses"}),
        (rules(protocol="ICMP"), {"rules.inbound[0].ports": "Ports are not allowed for ICMP protocols."}),
        (rules(protocol="ALL"), {"rules.inbound[0].ports": "Ports are not allowed for ALL protocols."}),
        (rules(ports=22), {"rules.inbound[0].ports": "Must be a string"}),
        (rules(ports=""), {"rules.inbound[0].ports": "Must be 1-65535"}),
        (rules(ports="ssh"), {"rules.inbound[0].ports": "Must be 1-65535"}),
        (rules(ports="0"), {"rules.inbound[0].ports": "Must be 1-65535"}),
        (rules(ports="65536"), {"rules.inbound[0].ports": "Must be 1-65535"}),
        (rules(ports="22,,80"), {"rules.inbound[0].ports": "Must be 1-65535"}),
        (rules(ports="22,  80"), {"rules.inbound[0].ports": "Must be 1-65535"}),
        (rules(ports="-80"), {"rules.inbound[0].ports": "Must be 1-65535"}),
        (rules(ports="080"), {"rules.inbound[0].ports": "Port must not have leading zeroes"}),
        (rules(ports="90-80"), {"rules.inbound[0].ports": "Range must start with a smaller number"}),
        (rules(ports="80-80"), {"rules.inbound[0].ports": "Range must start with a smaller number"}),
        (rules(ports="1-2-3"), {"rules.inbound[0].ports": "Ranges must have 2 values"}),
        (rules(ports=", ".join(map(str, range(1, 17)))), {"rules.inbound[0].ports": "Number of ports or port range"}),
        (rules(ports=", ".join(["1-2"] * 8)), {"rules.inbound[0].ports": "Number of ports or port range endpoints"}),
        (rules(addresses=None), {"rules.inbound[0].addresses": "addresses is required"}),
        (rules(addresses=["192.0.2.0/24"]), {"rules.inbound[0].addresses": "Must be an object"}),
        (rules(addresses={}), {"rules.inbound[0].addresses": "Must contain ipv4, ipv6, or both"}),
        (rules(addresses={"ip": ["192.0.2.0/24"]}), {"rules.inbound[0].addresses": "Must contain ipv4"}),
        (rules(addresses={"ipv4": []}), {"rules.inbound[0].addresses.ipv4": "Must be an array of addresses"}),
        (
            rules(addresses={"ipv4": ["192.0.2.0/24", "192.0.2.1", "192.0.2.0/33", "2001:db8::/32", 7]}),
            {f"rules.inbound[0].addresses.ipv4[{number}]": "Must be a valid IPv4 or IPv6" for number in range(1, 5)},
        ),
        (rules(addresses={"ipv6": ["fe80::1%eth0/128"]}), {"rules.inbound[0].addresses.ipv6[0]": "Must be a valid"}),
        (
            rules(addresses={"ipv4": ["192.0.2.1/32"] * 200, "ipv6": ["::/0"] * 56}),
            {"rules.inbound[0].addresses": "A rule can have at most 255 addresses"},
        ),
        (rules(label="ab"), {"rules.inbound[0].label": "Label must be 3-32 characters."}),
        (rules(label="x" * 33), {"rules.inbound[0].label": "Label must be 3-32 characters."}),
        (rules(label="1st"), {"rules.inbound[0].label": "Label must begin with a letter."}),
        (rules(label="first rule"), {"rules.inbound[0].label": "Label must include only ASCII"}),
        (rules(label=["x"]), {"rules.inbound[0].label": "Must be a string"}),
        (rules(description=""), {"rules.inbound[0].description": "Length must be 1-100 characters"}),
        (rules(description="x" * 101), {"rules.inbound[0].description": "Length must be 1-100 characters"}),
        ({"devices": {"linodes": [5]}}, {"devices.linodes[0]": "A Linode by that ID was not found"}),
        ({"devices": {"linodes": 5}}, {"devices.linodes": "Must be an array"}),
        (
            {"devices": {"linode_interfaces": [5]}},
            {"devices.linode_interfaces[0]": "A Linode Interface by that ID was not found"},
        ),
        ({"devices": {"nodebalancers": [5]}}, {"devices.nodebalancers[0]": "A NodeBalancer by that ID was not found"}),
    ],
)
def test_bad_firewalls_are_refused_whole(shared: Server, body: Any, expected: dict[str, str]) -> None:
    found = shared.refusals("POST", PATH, **{"label": "web", "rules": CLOSED, **body})
    assert found.keys() == expected.keys()
    assert all(found[name].startswith(reason) for name, reason in expected.items()), found
    assert shared.get(PATH)["results"] == 0


def test_the_largest_rules_are_taken(shared: Server) -> None:
    rule = {
        **{"action": "DROP", "protocol": "UDP", "ports": "1-2," + ", ".join(map(str, range(3, 16)))},
        **{"label": "a.b_c-1", "description": "x" * 100},
        "addresses": {"ipv4": ["192.0.2.1/32"] * 254, "ipv6": ["::/0"]},
    }
    whole = {**CLOSED, "inbound": [rule] * 25}
    made = make(shared, "largest", rules=whole)
    assert made["rules"]["inbound"] == whole["inbound"]
    shared.delete(f"{PATH}/{made['id']}")


def test_labels_are_unique(api: Server) -> None:
    first, second = make(api), make(api, "other")
    unique = {"label": "Label must be unique among your Cloud Firewalls"}
    assert api.refusals("POST", PATH, label="web", rules=CLOSED) == unique
    assert api.refusals("PUT", f"{PATH}/{second['id']}", label="web") == unique
    assert api.put(f"{PATH}/{first['id']}", label="web", tags=["demo"])["tags"] == ["demo"]


def test_rules_have_versions(api: Server) -> None:
    path = f"{PATH}/{make(api)['id']}"
    first = api.get(f"{path}/rules")
    second = api.put(f"{path}/rules", **{**CLOSED, "inbound": [SSH], "outbound": []})
    assert (first["version"], second["version"]) == (1, 2)
    assert first["fingerprint"] != second["fingerprint"]
    assert api.put(f"{path}/rules", **{**CLOSED, "inbound": [SSH], "outbound": []}) == second, "nothing changed"
    third = api.put(f"{path}/rules", outbound_policy="DROP")
    assert (third["inbound"], third["outbound_policy"], third["version"]) == ([SSH], "DROP", 3)
    assert api.get(path)["rules"] == third
    history = api.get(f"{path}/history")
    assert [(row["rules"], row["status"]) for row in history["data"]] == [
        ({"version": number}, "enabled") for number in (1, 2, 3)
    ]
    assert [api.get(f"{path}/history/rules/{number}") for number in (1, 2, 3)] == [first, second, third]
    assert api.http.get(f"{path}/history/rules/4").status_code == 404
    bad = api.refusals("PUT", f"{path}/rules", inbound=[{**SSH, "ports": "0"}])
    assert bad == {"inbound[0].ports": "Must be 1-65535"}
    assert api.get(f"{path}/rules") == third
    assert actions(api) == ["firewall_create", "firewall_rules_update", "firewall_rules_update"]


def test_on_a_legacy_linode(api: Server) -> None:
    linode = api.linode(label="demo")
    made = make(api, devices={"linodes": [linode["id"]]})
    entity = {"id": linode["id"], "type": "linode", "label": "demo", "url": f"/v4/linode/instances/{linode['id']}"}
    assert made["entities"] == [{**entity, "parent_entity": None}]
    (device,) = api.get(f"{PATH}/{made['id']}/devices")["data"]
    assert device["entity"] == made["entities"][0]
    assert api.get(f"{PATH}/{made['id']}/devices/{device['id']}") == device
    assert [row["id"] for row in api.get(f"{LINODES}/{linode['id']}/firewalls")["data"]] == [made["id"]]
    assert f'"h{linode["id"]}" : jump inbound_{made["id"]}' in api.hosts.rules["c50k-router"], "in force"
    api.delete(f"{PATH}/{made['id']}/devices/{device['id']}")
    assert api.get(f"{PATH}/{made['id']}")["entities"] == []
    assert api.hosts.rules == {}
    assert actions(api) == ["firewall_create", "firewall_device_remove"]


def test_on_an_interface(api: Server) -> None:
    linode, subnet = with_interfaces(api, label="demo")
    public, vpc = interface_ids(api, linode)
    made = make(api)
    device = api.post(f"{PATH}/{made['id']}/devices", type="linode_interface", id=vpc)
    url = f"/v4/linode/instances/{linode['id']}"
    parent = {"id": linode["id"], "type": "linode", "label": "demo", "url": url, "parent_entity": None}
    assert device["entity"] == {
        **{"id": vpc, "type": "linode_interface", "label": None, "url": f"{url}/interfaces/{vpc}"},
        "parent_entity": parent,
    }
    firewalls = {
        number: [row["label"] for row in api.get(f"{LINODES}/{linode['id']}/interfaces/{number}/firewalls")["data"]]
        for number in (public, vpc)
    }
    assert firewalls == {public: [], vpc: ["web"]}
    assert api.http.get(f"{LINODES}/{linode['id']}/interfaces/9/firewalls").status_code == 404
    assert list(api.hosts.rules) == [f"c50k-vpc-{subnet['vpc_id']}"]


def test_devices_that_cannot_be(api: Server) -> None:
    legacy = api.linode(booted=False)
    new, _ = with_interfaces(api)
    subnet = api.subnet("10.1.0.0/24")
    vpc = api.linode(interfaces=[{"purpose": "vpc", "subnet_id": subnet["id"]}], booted=False)
    path = f"{PATH}/{make(api)['id']}/devices"
    cases: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({}, {"id": "id is required", "type": "type is required"}),
        ({"type": "volume", "id": 5}, {"type": "Must be one of linode, linode_interface, nodebalancer"}),
        ({"type": "linode", "id": 5}, {"id": "A Linode by that ID was not found"}),
        ({"type": "linode", "id": "x"}, {"id": "A Linode by that ID was not found"}),
        ({"type": "linode", "id": new["id"]}, {"id": ON_INTERFACES}),
        (
            {"type": "linode_interface", "id": interface_ids(api, vpc)[0]},
            {"id": "Linode is using legacy config interfaces. Please apply Cloud Firewall to the Linode itself."},
        ),
    ]
    for body, expected in cases:
        assert api.refusals("POST", path, **body) == expected
    api.post(path, type="linode", id=legacy["id"])
    twice = f"Linode {legacy['id']} is already assigned to this Firewall"
    assert api.refusals("POST", path, type="linode", id=legacy["id"]) == {"id": twice}
    both = api.refusals("POST", PATH, label="two", rules=CLOSED, devices={"linodes": [vpc["id"]] * 2})
    assert both == {"devices.linodes[1]": f"Linode {vpc['id']} is already assigned to this Firewall"}
    assert api.get(PATH)["results"] == 1


def test_one_enabled_firewall_at_a_time(api: Server) -> None:
    linode = api.linode(booted=False)
    first = make(api, "first", devices={"linodes": [linode["id"]]})
    second = make(api, "second")
    path = f"{PATH}/{second['id']}"
    alone = f"Linode {linode['id']} has Firewall first: a service can have one enabled Firewall at a time"
    assert api.refusals("POST", f"{path}/devices", type="linode", id=linode["id"]) == {"id": alone}
    assert api.put(path, status="disabled")["status"] == "disabled"
    api.post(f"{path}/devices", type="linode", id=linode["id"])
    assert api.refusals("PUT", path, status="enabled") == {"status": alone}
    assert f"jump inbound_{first['id']}" in api.hosts.rules["c50k-router"]
    api.put(f"{PATH}/{first['id']}", status="disabled")
    assert api.hosts.rules == {}
    api.put(path, status="enabled")
    assert f"jump inbound_{second['id']}" in api.hosts.rules["c50k-router"]
    assert actions(api)[-3:] == ["firewall_device_add", "firewall_disable", "firewall_enable"]
    assert api.refusals("PUT", path, status="deleted") == {"status": "Must be one of enabled, disabled"}


def test_a_linodes_firewalls_are_replaced(api: Server) -> None:
    linode, (new, _) = api.linode(booted=False), with_interfaces(api)
    first, second = make(api, "first"), make(api, "second")
    path = f"{LINODES}/{linode['id']}/firewalls"
    assert [row["label"] for row in api.put(path, firewall_ids=[first["id"]])["data"]] == ["first"]
    assert [row["label"] for row in api.put(path, firewall_ids=[second["id"]])["data"]] == ["second"]
    one = {"firewall_ids": f"Only one of first, second may be enabled on Linode {linode['label']}"}
    assert api.refusals("PUT", path, firewall_ids=[first["id"], second["id"]]) == one
    assert api.refusals("PUT", path, firewall_ids=[5]) == {"firewall_ids[0]": UNKNOWN}
    assert api.refusals("PUT", path) == {"firewall_ids": "firewall_ids is required"}
    assert api.refusals("PUT", f"{LINODES}/{new['id']}/firewalls", firewall_ids=[]) == {None: ON_INTERFACES}
    assert api.put(path, firewall_ids=[])["data"] == []
    assert api.hosts.rules == {}


def test_a_linode_is_filtered_from_its_boot(api: Server) -> None:
    subnet, made = api.subnet(), make(api)
    interfaces = [{"purpose": "public"}, {"purpose": "vpc", "subnet_id": subnet["id"]}]
    legacy = api.linode(firewall_id=made["id"], interfaces=interfaces)
    both = [{"firewall_id": made["id"], "public": {}}, {"firewall_id": -1, "vpc": {"subnet_id": subnet["id"]}}]
    new = api.linode(interface_generation="linode", interfaces=both)
    for linode, routers in ((legacy, ["c50k-router", f"c50k-vpc-{subnet['vpc_id']}"]), (new, ["c50k-router"])):
        api.settled(linode["id"], "running")
        rules = api.hosts.rules_at_start[linode["id"]]
        assert [router for router, text in rules.items() if f'"h{linode["id"]}' in text] == routers
    assert [row["type"] for row in api.get(f"{PATH}/{made['id']}")["entities"]] == ["linode", "linode_interface"]


def test_without_rules_in_force_no_host_boots(api: Server) -> None:
    api.hosts.failing = {"filter"}
    linode = api.linode(firewall_id=-1)
    api.settled(linode["id"], "offline")
    assert api.events(linode["id"]) == [("linode_create", "finished"), ("linode_boot", "failed")]
    assert "start" not in api.hosts.named(linode["id"])


def test_a_change_that_does_not_come_in_force_is_told_and_can_be_applied_later(api: Server) -> None:
    linode = api.linode(booted=False)
    api.settled(linode["id"], "offline")
    api.hosts.failing = {"filter"}
    reply = api.http.post(PATH, json={"label": "web", "rules": CLOSED, "devices": {"linodes": [linode["id"]]}})
    assert (reply.status_code, reply.json()["errors"][0]["reason"]) == (
        *(500,),
        "The change is kept, but not in force: nft: no rules today",
    )
    api.hosts.failing = set()
    assert api.post(f"{LINODES}/{linode['id']}/firewalls/apply") == {}
    assert "c50k-router" in api.hosts.rules
    assert api.events(linode["id"])[-1] == ("firewall_apply", "notification")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"firewall_id": 5}, {"firewall_id": UNKNOWN}),
        ({"firewall_id": "web"}, {"firewall_id": UNKNOWN}),
        ({"firewall_id": 5, "interface_generation": "linode"}, {"firewall_id": ON_INTERFACES}),
        (
            {"interface_generation": "linode", "interfaces": [{"firewall_id": 5, "public": {}}]},
            {"interfaces[0].firewall_id": UNKNOWN},
        ),
    ],
)
def test_a_linode_with_a_firewall_that_is_not_there(shared: Server, body: Any, expected: dict[str, str]) -> None:
    assert shared.refusals("POST", LINODES, **LINODE, **body) == expected


def test_default_firewalls(api: Server) -> None:
    path = f"{PATH}/settings"
    names = ("linode", "nodebalancer", "public_interface", "vpc_interface")
    assert api.get(path) == {"default_firewall_ids": dict.fromkeys(names)}
    first, second = make(api, "first")["id"], make(api, "second")["id"]
    api.put(path, default_firewall_ids={"linode": first, "public_interface": first})
    set_ = api.put(path, default_firewall_ids={"vpc_interface": second})["default_firewall_ids"]
    assert set_ == {"linode": first, "nodebalancer": None, "public_interface": first, "vpc_interface": second}
    assert api.get(path)["default_firewall_ids"] == set_

    def of(linode: Any) -> list[str]:
        return [row["label"] for row in api.get(f"{LINODES}/{linode['id']}/firewalls")["data"]]

    assert of(api.linode(booted=False)) == ["first"]
    assert of(api.linode(booted=False, firewall_id=second)) == ["second"]
    assert of(api.linode(booted=False, firewall_id=-1)) == []
    assert of(with_interfaces(api)[0]) == ["first", "second"]
    assert of(api.linode(booted=False, interface_generation="linode")) == [], "no interface, no firewall"

    kept = {"status": "Firewall first is a default Firewall and cannot be disabled"}
    assert api.refusals("PUT", f"{PATH}/{first}", status="disabled") == kept
    assert "cannot be deleted" in api.refusals("DELETE", f"{PATH}/{first}")["id"]
    off = make(api, "off")["id"]
    api.put(f"{PATH}/{off}", status="disabled")
    bad = api.refusals("PUT", path, default_firewall_ids={"linode": 5, "vpc_interface": off, "vlan": first})
    assert bad == {
        "default_firewall_ids.linode": UNKNOWN,
        "default_firewall_ids.vpc_interface": "Firewall off is disabled, so it cannot be a default",
        "default_firewall_ids.vlan": "Keys must be one of: linode, nodebalancer, public_interface, vpc_interface",
    }
    api.put(path, default_firewall_ids={"linode": None, "public_interface": None})
    api.delete(f"{PATH}/{first}")


def test_deleting_takes_the_devices_too(api: Server) -> None:
    linode, (new, _) = api.linode(booted=False), with_interfaces(api)
    made = make(api, devices={"linodes": [linode["id"]], "linode_interfaces": interface_ids(api, new)})
    assert len(api.get(f"{PATH}/{made['id']}/devices")["data"]) == 3
    api.delete(f"{LINODES}/{new['id']}")
    assert [row["entity"]["id"] for row in api.get(f"{PATH}/{made['id']}/devices")["data"]] == [linode["id"]]
    api.delete(f"{PATH}/{made['id']}")
    assert api.get(f"{LINODES}/{linode['id']}/firewalls")["data"] == []
    assert api.hosts.rules == {}
    assert api.http.get(f"{PATH}/{made['id']}").status_code == 404


def test_templates(shared: Server) -> None:
    listed = shared.get(f"{PATH}/templates")["data"]
    assert [row["slug"] for row in listed] == ["vpc", "public"]
    for template in listed:
        assert shared.get(f"{PATH}/templates/{template['slug']}") == template
        made = make(shared, template["slug"], rules=template["rules"])
        shared.delete(f"{PATH}/{made['id']}")
    ports = {row["slug"]: [rule.get("ports") for rule in row["rules"]["inbound"]] for row in listed}
    assert ports == {"vpc": ["22", None, "1-65535", "1-65535"], "public": ["22", None]}
    assert shared.http.get(f"{PATH}/templates/private").status_code == 404


def test_firewalls_survive_a_restart(serve: Callable[..., Server]) -> None:
    first = serve()
    linode = first.linode(booted=False)
    made = make(first, devices={"linodes": [linode["id"]]})
    first.put(f"{PATH}/settings", default_firewall_ids={"linode": made["id"]})
    in_force = first.hosts.rules
    first.stop()
    second = serve()
    assert second.get(f"{PATH}/{made['id']}") == made
    assert second.get(f"{PATH}/settings")["default_firewall_ids"]["linode"] == made["id"]
    assert second.hosts.rules == in_force, "before anything else"


def test_a_reset_leaves_none(api: Server) -> None:
    linode = api.linode()
    make(api, devices={"linodes": [linode["id"]]})
    api.http.post(f"{api.address}/lab/reset", json={})
    wait_for(lambda: api.get(PATH)["results"] == 0)
    assert api.hosts.rules == {}


def test_an_interface_comes_and_goes_with_its_firewall(api: Server) -> None:
    firewall = make(api, "front")["id"]
    linode = api.linode(booted=False, image=None, authorized_keys=None, interface_generation="linode")["id"]
    api.settled(linode, "offline")
    path = f"{LINODES}/{linode}/interfaces"
    assert api.refusals("POST", path, public={}, firewall_id=5) == {
        "firewall_id": "A Firewall by that ID was not found"
    }
    made = api.post(path, public={}, firewall_id=firewall)["id"]
    assert [row["id"] for row in api.get(f"{path}/{made}/firewalls")["data"]] == [firewall]
    assert [row["entity"]["id"] for row in api.get(f"{PATH}/{firewall}/devices")["data"]] == [made]
    api.delete(f"{path}/{made}")
    assert api.get(f"{PATH}/{firewall}/devices")["results"] == 0


def test_an_upgrade_moves_a_linodes_firewall_to_its_interfaces(api: Server) -> None:
    firewall, subnet = make(api, "front")["id"], api.subnet()
    both = [{"purpose": "public"}, {"purpose": "vpc", "subnet_id": subnet["id"]}]
    linode = api.linode(booted=False, firewall_id=firewall, interfaces=both)["id"]
    api.settled(linode, "offline")
    new = api.post(f"{LINODES}/{linode}/upgrade-interfaces", dry_run=False)["interfaces"]
    entities = [row["entity"] for row in api.get(f"{PATH}/{firewall}/devices")["data"]]
    assert [item["type"] for item in entities] == ["linode_interface"] * 2
    assert {item["id"] for item in entities} == {item["id"] for item in new}


def test_a_nodebalancers_firewall(api: Server) -> None:
    first, second = make(api, "first")["id"], make(api, "second")["id"]
    balancer = api.post("/nodebalancers", region="de-fra-2", firewall_id=first)["id"]
    assert [row["label"] for row in api.get(f"/nodebalancers/{balancer}/firewalls")["data"]] == ["first"]
    (device,) = api.get(f"{PATH}/{first}/devices")["data"]
    assert (device["entity"]["type"], device["entity"]["id"]) == ("nodebalancer", balancer)
    refused = api.refusals("POST", f"{PATH}/{second}/devices", type="nodebalancer", id=balancer)
    assert "has Firewall first: a service can have one enabled Firewall at a time" in refused["id"]
    api.delete(f"{PATH}/{first}/devices/{device['id']}")
    api.post(f"{PATH}/{second}/devices", type="nodebalancer", id=balancer)
    api.delete(f"/nodebalancers/{balancer}")
    assert api.get(f"{PATH}/{second}/devices")["results"] == 0
    api.put(f"{PATH}/settings", default_firewall_ids={"nodebalancer": first})
    balancer = api.post("/nodebalancers", region="de-fra-2")["id"]
    assert [row["label"] for row in api.get(f"/nodebalancers/{balancer}/firewalls")["data"]] == ["first"]
