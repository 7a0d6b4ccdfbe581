# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces of the new generation, one by one, and the way to them from the legacy ones."""

from __future__ import annotations

from typing import Any

import pytest
from lab_server import Server

PATH = "/linode/instances"


def bare(api: Server, *interfaces: Any) -> Any:
    """Create a Linode of the new generation that is off."""
    linode = api.linode(interface_generation="linode", interfaces=list(interfaces), booted=False)
    return api.settled(linode["id"], "offline")


def first(api: Server, linode: Any) -> Any:
    return api.get(f"{PATH}/{linode['id']}/interfaces")["interfaces"][0]


def routes(api: Server, linode: Any) -> list[dict[str, bool]]:
    return [item["default_route"] for item in api.get(f"{PATH}/{linode['id']}/interfaces")["interfaces"]]


def test_they_come_and_go(api: Server) -> None:
    subnet, linode = api.subnet(), bare(api)
    path = f"{PATH}/{linode['id']}/interfaces"
    public = api.post(path, public={})
    assert [item["address"] for item in public["public"]["ipv4"]["addresses"]] == linode["ipv4"]
    assert public["default_route"] == {"ipv4": True, "ipv6": True}
    vpc = api.post(path, vpc={"subnet_id": subnet["id"], "ipv4": {"ranges": [{"range": "/28"}]}})
    assert vpc["vpc"]["ipv4"] == {
        "addresses": [{"address": "10.0.0.2", "primary": True, "nat_1_1_address": None}],
        "ranges": [{"range": "10.0.0.16/28"}],
    }
    assert (vpc["public"], vpc["vlan"], vpc["version"], vpc["default_route"]["ipv4"]) == (None, None, 1, False)
    vlan = api.post(path, vlan={"vlan_label": "blue", "ipam_address": "10.9.0.1/24"})
    assert [item["id"] for item in api.get(path)["interfaces"]] == [public["id"], vpc["id"], vlan["id"]]
    assert len({item["mac_address"] for item in (public, vpc, vlan)}) == 3
    api.post(f"{PATH}/{linode['id']}/boot")
    api.settled(linode["id"], "running")
    host = api.hosts.hosts[linode["id"]]
    assert (host.public_ipv4, [item.ranges for item in host.vpc]) == (linode["ipv4"][0], [("10.0.0.16/28",)])
    for method, where in (("POST", path), ("PUT", f"{path}/{vpc['id']}"), ("DELETE", f"{path}/{vpc['id']}")):
        assert api.refusals(method, where, public={}) == {None: "Linode must be powered off to change its interfaces"}
    api.post(f"{PATH}/{linode['id']}/shutdown")
    api.settled(linode["id"], "offline")
    api.delete(f"{path}/{public['id']}")
    assert api.lab.addresses.public.is_free(linode["ipv4"][0])
    left = api.get(f"{PATH}/{linode['id']}")
    assert (left["ipv4"], left["ipv6"], routes(api, linode)[0]["ipv4"]) == ([], None, True)
    api.delete(f"{path}/{vpc['id']}")
    assert api.get("/vpcs/ips")["results"] == 0
    actions = {action for action, _ in api.events(linode["id"])}
    assert {"interface_create", "interface_delete"} <= actions


def test_an_update_keeps_what_it_does_not_name(api: Server) -> None:
    subnet = api.subnet()
    linode = bare(api, {"public": {}}, {"vpc": {"subnet_id": subnet["id"], "ipv4": {"ranges": [{"range": "/30"}]}}})
    path = f"{PATH}/{linode['id']}/interfaces"
    public, vpc = api.get(path)["interfaces"]
    changed = api.put(f"{path}/{vpc['id']}", vpc={"ipv4": {"addresses": [{"address": "10.0.0.50"}, {}]}})
    assert [item["address"] for item in changed["vpc"]["ipv4"]["addresses"]] == ["10.0.0.50", "10.0.0.3"]
    assert (changed["vpc"]["ipv4"]["ranges"], changed["version"]) == (vpc["vpc"]["ipv4"]["ranges"], 2)
    moved = api.put(f"{path}/{vpc['id']}", default_route={"ipv4": True})
    assert moved["vpc"] == changed["vpc"] and [item["ipv4"] for item in routes(api, linode)] == [False, True]
    two = [{"address": linode["ipv4"][0], "primary": False}, {"address": "auto", "primary": True}]
    both = api.put(f"{path}/{public['id']}", public={"ipv4": {"addresses": two}})["public"]["ipv4"]["addresses"]
    assert [item["primary"] for item in both] == [False, True]
    assert api.get(f"{PATH}/{linode['id']}")["ipv4"] == [item["address"] for item in both]
    api.post(f"{PATH}/{linode['id']}/boot")
    api.settled(linode["id"], "running")
    host = api.hosts.hosts[linode["id"]]
    assert (host.public_ipv4, host.more_ipv4) == (both[1]["address"], (both[0]["address"],))
    assert (host.vpc[0].address, host.vpc[0].more) == ("10.0.0.50", ("10.0.0.3",))


def test_a_one_to_one_address_goes_with_its_interface(api: Server) -> None:
    subnet = api.subnet()
    wish = {"subnet_id": subnet["id"], "ipv4": {"addresses": [{"primary": True, "nat_1_1_address": "auto"}]}}
    linode = bare(api, {"vpc": wish})
    (interface,) = api.get(f"{PATH}/{linode['id']}/interfaces")["interfaces"]
    (address,) = interface["vpc"]["ipv4"]["addresses"]
    assert linode["ipv4"] == [address["nat_1_1_address"]]
    shown = api.get(f"/networking/ips/{address['nat_1_1_address']}")
    assert (shown["interface_id"], shown["vpc_nat_1_1"]["address"]) == (interface["id"], address["address"])
    wish["ipv4"] = {"addresses": [{"address": address["address"], "nat_1_1_address": None}]}
    api.put(f"{PATH}/{linode['id']}/interfaces/{interface['id']}", vpc=wish)
    assert api.get(f"{PATH}/{linode['id']}")["ipv4"] == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"vpc": "Must have one of public, vpc, vlan"}),
        ({"public": {}}, {"interfaces": "A Linode can have one public interface"}),
        ({"vpc": {}}, {"vpc.subnet_id": "subnet_id is required"}),
        ({"vlan": {"vlan_label": ""}}, {"vlan.vlan_label": "vlan_label is required"}),
        ({"vpc": {"subnet_id": 7, "ipv4": {"ranges": [{"range": "wide"}]}}}, {"vpc.subnet_id", "vpc.ipv4.ranges[0]"}),
        ({"vpc": {"subnet_id": 7, "ipv4": {"addresses": [{"nat_1_1_address": "me"}]}}}, None),
    ],
)
def test_bad_interfaces(api: Server, body: Any, expected: Any) -> None:
    linode = bare(api, {"public": {}})
    found = api.refusals("POST", f"{PATH}/{linode['id']}/interfaces", **body)
    assert found.keys() == set(expected or {"vpc.subnet_id", "vpc.ipv4.addresses[0].nat_1_1_address"})
    if isinstance(expected, dict):
        assert all(str(found[name]).startswith(words) for name, words in expected.items()), found
    assert len(api.get(f"{PATH}/{linode['id']}/interfaces")["interfaces"]) == 1


def test_what_is_named_is_taken_before_what_is_chosen(api: Server) -> None:
    subnet, linode = api.subnet(), bare(api)
    addresses = [{"address": "auto"}, {"address": "10.0.0.2", "primary": True}]
    wish = {"subnet_id": subnet["id"], "ipv4": {"addresses": addresses, "ranges": [{"range": "10.0.0.4/30"}]}}
    made = api.post(f"{PATH}/{linode['id']}/interfaces", vpc=wish)["vpc"]["ipv4"]["addresses"]
    assert [(item["address"], item["primary"]) for item in made] == [("10.0.0.3", False), ("10.0.0.2", True)]
    twice = [{"address": "10.0.0.40"}, {"address": "10.0.0.40"}, {"address": "10.0.0.50"}]
    wish["ipv4"] = {"addresses": twice, "ranges": [{"range": "10.0.0.48/28"}]}
    assert api.refusals("PUT", f"{PATH}/{linode['id']}/interfaces/{first(api, linode)['id']}", vpc=wish) == {
        "vpc.ipv4.addresses[1].address": "10.0.0.40 is there twice",
        "vpc.ipv4.ranges[0]": "10.0.0.48/28 is there twice",
    }


def test_an_address_is_on_one_interface(api: Server) -> None:
    subnet, linode = api.subnet(), bare(api, {"public": {}})
    wish = {"subnet_id": subnet["id"], "ipv4": {"addresses": [{"nat_1_1_address": linode["ipv4"][0]}]}}
    assert api.refusals("POST", f"{PATH}/{linode['id']}/interfaces", vpc=wish) == {
        "vpc.ipv4.addresses[0].nat_1_1_address": f"{linode['ipv4'][0]} is on another interface of the Linode"
    }
    addresses = [{"address": linode["ipv4"][0]}] * 2
    path = f"{PATH}/{linode['id']}/interfaces/{first(api, linode)['id']}"
    assert api.refusals("PUT", path, public={"ipv4": {"addresses": addresses}}) == {
        "public.ipv4.addresses[1].address": f"{linode['ipv4'][0]} is there twice"
    }


def test_a_full_subnet_changes_nothing(api: Server) -> None:
    subnet = api.subnet("10.0.0.0/29")  # four addresses
    linode = bare(api, {"public": {}}, {"vpc": {"subnet_id": subnet["id"]}})
    path = f"{PATH}/{linode['id']}/interfaces"
    before = api.get(path)
    wish = {"ipv4": {"addresses": [{}] * 5}}
    full = {None: "No free IPv4 address is left for this Linode"}
    assert api.refusals("PUT", f"{path}/{before['interfaces'][1]['id']}", vpc=wish) == full
    assert api.get(path) == before
    assert api.lab.addresses.subnets[subnet["id"]].taken("10.0.0.0/29") == ["10.0.0.2"]


def test_settings(api: Server) -> None:
    subnet = api.subnet()
    linode = bare(api, {"public": {}}, {"vpc": {"subnet_id": subnet["id"]}})
    path = f"{PATH}/{linode['id']}/interfaces"
    public, vpc = (item["id"] for item in api.get(path)["interfaces"])
    assert api.get(f"{path}/settings")["default_route"] == {
        **{"ipv4_interface_id": public, "ipv4_eligible_interface_ids": [public, vpc]},
        **{"ipv6_interface_id": public, "ipv6_eligible_interface_ids": [public]},
    }
    changed = api.put(f"{path}/settings", network_helper=False, default_route={"ipv4_interface_id": vpc})
    assert (changed["network_helper"], changed["default_route"]["ipv4_interface_id"]) == (False, vpc)
    assert [item["ipv4"] for item in routes(api, linode)] == [False, True]
    refused = api.refusals("PUT", f"{path}/settings", default_route={"ipv6_interface_id": vpc})
    assert refused == {"default_route.ipv6_interface_id": f"Must be one of {public}, which are eligible"}


def test_the_upgrade(api: Server) -> None:
    subnet = api.subnet()
    asked = [
        {"purpose": "public"},
        {"purpose": "vlan", "label": "blue"},
        {
            "purpose": "vpc",
            "subnet_id": subnet["id"],
            "primary": True,
            "ipv4": {"nat_1_1": "any"},
            "ip_ranges": ["/30"],
        },
    ]
    linode = api.linode(interfaces=asked, private_ip=True, booted=False)
    path = f"{PATH}/{linode['id']}"
    assert api.http.get(f"{path}/interfaces").status_code == 400
    planned = api.post(f"{path}/upgrade-interfaces")
    assert planned["dry_run"] and {item["id"] for item in planned["interfaces"]} == {0}
    assert api.get(path)["interface_generation"] == "legacy_config"
    api.settled(linode["id"], "offline")
    done = api.post(f"{path}/upgrade-interfaces", dry_run=False)
    public, vlan, vpc = api.get(f"{path}/interfaces")["interfaces"]
    assert done["interfaces"] == [public, vlan, vpc]
    assert public["public"]["ipv4"]["addresses"] == [] and vlan["vlan"]["vlan_label"] == "blue"
    assert vpc["vpc"]["ipv4"] == {
        "addresses": [{"address": "10.0.0.2", "primary": True, "nat_1_1_address": linode["ipv4"][0]}],
        "ranges": [{"range": "10.0.0.4/30"}],
    }
    assert [item["default_route"]["ipv4"] for item in (public, vlan, vpc)] == [False, False, True]
    after = api.get(path)
    assert (after["interface_generation"], after["ipv4"]) == ("linode", linode["ipv4"][:1])  # no private address
    assert api.get(f"{path}/configs")["data"][0]["interfaces"] == []
    assert [(row["config_id"], row["interface_id"]) for row in api.get("/vpcs/ips")["data"]] == [(None, vpc["id"])] * 2
    assert "already using" in api.refusals("POST", f"{path}/upgrade-interfaces")[None]
    api.delete(path)
    assert api.lab.addresses.subnets[subnet["id"]].taken("10.0.0.0/24") == []


def test_ipv6_in_a_vpc(api: Server) -> None:
    wish = {"label": "main", "ipv4": "10.0.0.0/24", "ipv6": [{"range": "auto"}]}
    vpc = api.post("/vpcs", label="six", region="de-fra-2", ipv6=[{"range": "auto"}], subnets=[wish])
    (subnet,) = vpc["subnets"]
    assert (vpc["ipv6"], subnet["ipv6"]) == ([{"range": "2001:db8:8000::/52"}], [{"range": "2001:db8:8000::/56"}])
    first = bare(api, {"vpc": {"subnet_id": subnet["id"]}})
    legacy = api.linode(interfaces=[{"purpose": "vpc", "subnet_id": subnet["id"]}], booted=False)
    rows = api.get("/vpcs/ipv6s")["data"]
    assert [(row["linode_id"], row["ipv6_range"]) for row in rows] == [
        (first["id"], "2001:db8:8000::/64"),
        (legacy["id"], "2001:db8:8000:1::/64"),
    ]
    (interface,) = api.get(f"{PATH}/{first['id']}/interfaces")["interfaces"]
    address = interface["vpc"]["ipv6"]["slaac"][0]["address"]
    assert rows[0]["ipv6_addresses"] == [{"slaac_address": address}]
    path = f"{PATH}/{first['id']}/interfaces/{interface['id']}"
    ranged = api.put(path, vpc={"ipv6": {"ranges": [{"range": "/64"}]}})["vpc"]["ipv6"]
    assert ranged["slaac"] == interface["vpc"]["ipv6"]["slaac"] and ranged["ranges"] == [
        {"range": "2001:db8:8000:2::/64"}
    ]
    assert interface["default_route"] == {"ipv4": True, "ipv6": True}
    second = api.post(f"/vpcs/{vpc['id']}/subnets", label="two", ipv4="10.0.1.0/24", ipv6=[{"range": "/56"}])
    assert second["ipv6"] == [{"range": "2001:db8:8000:100::/56"}]
    taken = {"label": "three", "ipv4": "10.0.2.0/24", "ipv6": [{"range": "2001:db8:8000:100::/60"}]}
    assert "overlaps" in api.refusals("POST", f"/vpcs/{vpc['id']}/subnets", **taken)["ipv6[0].range"]


def test_ipv6_ranges_are_routed_to_the_linode(api: Server) -> None:
    linode = bare(api, {"public": {}})
    one = api.post("/networking/ipv6/ranges", prefix_length=64, linode_id=linode["id"])
    target = linode["ipv6"].partition("/")[0]
    two = api.post("/networking/ipv6/ranges", prefix_length=56, route_target=target)
    assert (one["range"], two["range"], one["route_target"]) == ("2001:db8:c51::/64", "2001:db8:c51:100::/56", target)
    path = f"{PATH}/{linode['id']}/interfaces"
    (interface,) = api.get(path)["interfaces"]
    assert [item["range"] for item in interface["public"]["ipv6"]["ranges"]] == [one["range"], two["range"]]
    wish = {"ipv6": {"ranges": [{"range": one["range"]}, {"range": "/64"}, {"range": "/64"}]}}
    kept = api.put(f"{path}/{interface['id']}", public=wish)["public"]["ipv6"]["ranges"]
    assert [item["range"] for item in kept] == [one["range"], "2001:db8:c51:1::/64", "2001:db8:c51:2::/64"]
    assert len(api.get(f"{PATH}/{linode['id']}/ips")["ipv6"]["global"]) == 3
    api.delete(f"/networking/ipv6/ranges/{one['range']}")
    assert api.refusals("POST", "/networking/ipv6/ranges", prefix_length=48) == {
        **{"prefix_length": "Must be one of 56, 64"},
        "linode_id": "A Linode by that ID, or by that route_target, was not found",
    }
    api.delete(f"{PATH}/{linode['id']}")
    assert api.get("/networking/ipv6/ranges")["results"] == 0
