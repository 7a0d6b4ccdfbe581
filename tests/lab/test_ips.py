# SPDX-License-Identifier: GPL-3.0-or-later
"""The account's addresses: given, taken, named, reserved, moved and shared."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from lab_server import Server

PATH = "/linode/instances"
RESERVED = "/networking/reserved/ips"


def test_an_address_more(api: Server) -> None:
    linode = api.linode(private_ip=True)
    path = f"{PATH}/{linode['id']}"
    api.settled(linode["id"], "running")
    added = api.post(f"{path}/ips", type="ipv4", public=True)
    assert (added["linode_id"], added["public"], added["reserved"]) == (linode["id"], True, False)
    public, private = linode["ipv4"]
    assert api.get(path)["ipv4"] == [public, added["address"], private]
    assert api.refusals("POST", f"{path}/ips", type="ipv4", public=False) == {
        "public": "A Linode can have one private address"
    }
    api.post(f"{path}/reboot")
    api.settled(linode["id"], "running")
    host = api.hosts.hosts[linode["id"]]
    assert (host.public_ipv4, host.more_ipv4, host.private_ipv4) == (public, (added["address"],), private)
    api.delete(f"{path}/ips/{private}")
    api.delete(f"{path}/ips/{public}")
    assert api.lab.addresses.public.is_free(public) and api.lab.addresses.private.is_free(private)
    last = {None: "A Linode must keep at least one public address"}
    assert api.refusals("DELETE", f"{path}/ips/{added['address']}") == last
    assert api.http.get(f"{path}/ips/{public}").status_code == 404
    modern = api.linode(interface_generation="linode", interfaces=[{"public": {}}])["id"]
    assert "cannot have private" in api.refusals("POST", f"{PATH}/{modern}/ips", public=False)["public"]


def test_names(api: Server) -> None:
    linode = api.linode()
    path = f"/networking/ips/{linode['ipv4'][0]}"
    own = "198-51-100-2.ip.linodeusercontent.com"
    assert api.get(path)["rdns"] == own
    assert api.put(path, rdns="www.example.org.")["rdns"] == "www.example.org" == api.get(path)["rdns"]
    assert api.refusals("PUT", path, rdns="no name") == {"rdns": "Invalid hostname"}
    assert api.put(path, rdns=None)["rdns"] == own
    api.put(path, rdns="www.example.org")
    api.delete(f"{PATH}/{linode['id']}")
    again = [api.linode()["ipv4"][0] for _ in range(3)]
    assert {api.get(f"/networking/ips/{address}")["rdns"] for address in again} == {
        f"198-51-100-{number}.ip.linodeusercontent.com" for number in (3, 4, 5)
    }


def test_a_reserved_address_outlives_its_linode(api: Server) -> None:
    kept = api.post(RESERVED, region="de-fra-2", tags=["front"])
    assert (kept["reserved"], kept["linode_id"], kept["assigned_entity"]) == (True, None, None)
    linode = api.linode(label="front", ipv4=[kept["address"]])
    assert linode["ipv4"] == [kept["address"]]
    shown = api.get(f"{RESERVED}/{kept['address']}")
    assert shown["assigned_entity"] == {
        **{"id": linode["id"], "type": "linode", "label": "front"},
        "url": f"/v4/linode/instances/{linode['id']}",
    }
    assert api.get(f"{PATH}/{linode['id']}/ips")["ipv4"]["reserved"] == [shown]
    assert api.get("/networking/ips")["data"] == [shown]
    api.delete(f"{PATH}/{linode['id']}")
    assert api.get(RESERVED)["data"] == [kept]
    assert not api.lab.addresses.public.is_free(kept["address"])
    interface = {"public": {"ipv4": {"addresses": [{"address": kept["address"]}]}}}
    modern = api.linode(interface_generation="linode", interfaces=[interface])
    assert modern["ipv4"] == [kept["address"]]
    taken = api.refusals("POST", PATH, type="g6-nanode-1", region="de-fra-2", ipv4=[kept["address"]])
    assert "neither the Linode's nor a free reserved address" in taken["ipv4"]
    assert api.put(f"{RESERVED}/{kept['address']}", tags=["other"])["tags"] == ["other"]
    api.delete(f"{RESERVED}/{kept['address']}")  # it stays the Linode's
    assert (api.get(RESERVED)["results"], api.get(f"/networking/ips/{kept['address']}")["reserved"]) == (0, False)
    api.delete(f"{PATH}/{modern['id']}")
    assert api.lab.addresses.public.is_free(kept["address"])


def test_reserving_what_a_linode_has_and_back(api: Server) -> None:
    linode = api.linode()
    path = f"/networking/ips/{linode['ipv4'][0]}"
    assert api.put(path, reserved=True, tags=["front"])["reserved"]
    assert [row["tags"] for row in api.get(RESERVED)["data"]] == [["front"]]
    assert api.put(path, reserved=False)["tags"] == [] and api.get(RESERVED)["results"] == 0
    assert api.post("/networking/ips/", reserved=True, region="us-ord")["region"] == "us-ord"  # with a slash, too
    alone = api.post("/networking/ips", reserved=True, region="us-ord")["address"]
    api.put(f"/networking/ips/{alone}", reserved=False)
    assert api.http.get(f"/networking/ips/{alone}").status_code == 404
    assert api.lab.addresses.public.is_free(alone)
    own = api.post("/networking/ips", reserved=True, linode_id=linode["id"])
    assert (own["linode_id"], own["reserved"]) == (linode["id"], True)
    assert api.refusals("POST", "/networking/ips") == {
        "linode_id": "linode_id is required",
        "region": "region is required",
    }
    assert api.refusals("POST", RESERVED) == {"region": "region is required"}


def test_prices_are_for_anyone(shared: Server) -> None:
    for path in (f"{RESERVED}/types", "/volumes/types", "/network-transfer/prices", "/linode/kernels"):
        assert httpx.get(f"{shared.address}/v4{path}", trust_env=False).json()["results"] > 0
    assert httpx.get(f"{shared.address}/v4{RESERVED}", trust_env=False).status_code == 401


def assignments(*pairs: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"address": address, "linode_id": linode["id"]} for address, linode in pairs]


def test_addresses_change_hands(api: Server) -> None:
    one, two, far = api.linode(), api.linode(), api.linode(region="us-ord")
    (first,), (second,) = one["ipv4"], two["ipv4"]
    api.post("/networking/ips/assign", region="de-fra-2", assignments=assignments((first, two), (second, one)))
    assert [api.get(f"{PATH}/{item['id']}")["ipv4"] for item in (one, two)] == [[second], [first]]
    bare = api.refusals("POST", "/networking/ips/assign", region="de-fra-2", assignments=assignments((first, one)))
    assert "must keep at least one public address" in bare[None]
    assert [api.get(f"{PATH}/{item['id']}")["ipv4"] for item in (one, two)] == [[second], [first]]
    kept = api.post(RESERVED, region="de-fra-2")["address"]
    api.post("/networking/ips/assign", region="de-fra-2", assignments=assignments((kept, one)))
    assert api.get(f"{PATH}/{one['id']}")["ipv4"] == [second, kept]
    wrong = api.refusals("POST", "/networking/ips/assign", region="de-fra-2", assignments=assignments((first, far)))
    assert wrong == {"assignments[0].linode_id": "A Linode by that ID was not found in the region"}
    strange = assignments((far["ipv4"][0], one), ("192.0.2.1", one))
    assert set(api.refusals("POST", "/networking/ips/assign", region="de-fra-2", assignments=strange)) == {
        *("assignments[0].address", "assignments[1].address")
    }


def test_an_address_on_an_interface_stays_there(api: Server) -> None:
    subnet, other = api.subnet(), api.linode()
    asked = [{"purpose": "vpc", "subnet_id": subnet["id"], "ipv4": {"nat_1_1": "any"}}]
    linode = api.linode(interfaces=asked)
    api.post(f"{PATH}/{linode['id']}/ips", public=True)
    (address,) = linode["ipv4"]
    words = f"{address} is on an interface of {linode['label']}: change that first"
    assert api.refusals("DELETE", f"{PATH}/{linode['id']}/ips/{address}") == {None: words}
    wish = {"region": "de-fra-2", "assignments": assignments((address, other))}
    assert api.refusals("POST", "/networking/ips/assign", **wish) == {None: words}


def test_sharing(api: Server) -> None:
    owner, stand_in, far = api.linode(), api.linode(), api.linode(region="us-ord")
    (address,) = owner["ipv4"]
    api.post("/networking/ips/share", linode_id=stand_in["id"], ips=[address])
    (shown,) = api.get(f"{PATH}/{stand_in['id']}/ips")["ipv4"]["shared"]
    assert (shown["address"], shown["linode_id"]) == (address, owner["id"])
    assert api.get(f"{PATH}/{stand_in['id']}")["ipv4"] == stand_in["ipv4"]
    assert set(api.refusals("POST", "/networking/ips/share", linode_id=far["id"], ips=[address, "x"])) == {
        *("ips[0]", "ips[1]")
    }
    api.delete(f"{PATH}/{owner['id']}")
    assert api.get(f"{PATH}/{stand_in['id']}/ips")["ipv4"]["shared"] == []


@pytest.mark.parametrize("query", [{"linode_id": None}, {"reserved": True}, {"address": {"+contains": "198.51"}}])
def test_filters(api: Server, query: Any) -> None:
    api.linode()
    kept = api.post(RESERVED, region="de-fra-2")["address"]
    found = [row["address"] for row in api.get("/networking/ips", headers={"X-Filter": json.dumps(query)})["data"]]
    assert kept in found and len(found) == (2 if "address" in query else 1)


def test_all_of_it_survives_a_restart(serve: Callable[..., Server]) -> None:
    first = serve()
    subnet = first.subnet()
    kept = first.post(RESERVED, region="de-fra-2", tags=["front"])["address"]
    wish = {"subnet_id": subnet["id"], "ipv4": {"addresses": [{}, {}], "ranges": [{"range": "/28"}]}}
    linode = first.linode(interface_generation="linode", interfaces=[{"public": {}}, {"vpc": wish}])
    first.settled(linode["id"], "running")
    first.put(f"/networking/ips/{linode['ipv4'][0]}", rdns="www.example.org")
    paths = (
        "/networking/ips",
        RESERVED,
        "/vpcs/ips",
        f"{PATH}/{linode['id']}/interfaces",
        f"{PATH}/{linode['id']}/configs",
    )
    before = [first.get(path) for path in paths]
    first.stop()
    second = serve(hosts=first.hosts)
    assert [second.get(path) for path in paths] == before
    pool = second.lab.addresses.subnets[subnet["id"]]
    assert len(pool.taken("10.0.0.0/24")) == 2 + 16
    assert not second.lab.addresses.public.is_free(kept)
