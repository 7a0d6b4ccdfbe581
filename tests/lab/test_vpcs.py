# SPDX-License-Identifier: GPL-3.0-or-later
"""VPCs and subnets."""

from __future__ import annotations

from typing import Any

import pytest
from lab_server import Server

WISH = {"label": "demo", "region": "de-fra-2"}


def subnets(*networks: str) -> dict[str, Any]:
    return {"subnets": [{"label": f"s{number}", "ipv4": network} for number, network in enumerate(networks)]}


def test_a_vpc_and_its_subnets(api: Server) -> None:
    vpc = api.post("/vpcs", **WISH, description="all of it", subnets=[{"label": "demo", "ipv4": "10.0.0.0/20"}])
    assert (vpc["label"], vpc["region"], vpc["description"]) == ("demo", "de-fra-2", "all of it")
    assert vpc["ipv4"] == [{"range": "10.0.0.0/8"}, {"range": "172.16.0.0/12"}, {"range": "192.168.0.0/16"}]
    second = api.post(f"/vpcs/{vpc['id']}/subnets", label="second", ipv4="10.0.16.0/24")
    got = api.get(f"/vpcs/{vpc['id']}")
    assert got["subnets"] == [vpc["subnets"][0], second]
    assert api.get("/vpcs")["data"] == [got]
    assert api.get(f"/vpcs/{vpc['id']}/subnets")["data"] == got["subnets"]
    path = f"/vpcs/{vpc['id']}/subnets/{second['id']}"
    assert api.put(path, label="renamed")["label"] == "renamed" == api.get(path)["label"]
    api.delete(path)
    assert api.http.get(path).status_code == 404
    assert api.put(f"/vpcs/{vpc['id']}", label="other", description="")["label"] == "other"
    api.delete(f"/vpcs/{vpc['id']}")
    assert api.get("/vpcs")["results"] == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"region": "eu-central"}, {"region": "VPCs are not available in region eu-central"}),
        ({"region": "nowhere"}, {"region": "region is not valid"}),
        ({"region": None, "label": None}, {"region": "region is required", "label": "label is required"}),
        ({"label": "under_score"}, {"label": "Must only use ASCII letters, numbers, and underscores"}),
        ({"label": "x" * 65}, {"label": "Length must be 1-64 characters"}),
        ({"vpc_type": "wide"}, {"vpc_type": "Must be regular or rdma"}),
        ({"vpc_type": "rdma", "ipv6": [{"range": "auto"}]}, {"ipv6": "An RDMA VPC has no IPv6"}),
        ({"ipv6": [{"range": "/48"}]}, {"ipv6[0].range": "Must be auto or /52"}),
        (
            {"subnets": [{"label": "s", "ipv4": "10.0.0.0/24", "ipv6": [{"range": "auto"}]}]},
            {"subnets[0].ipv6": "IPv6 is not available"},
        ),
        ({"ipv4": [{"range": "8.0.0.0/8"}]}, {"ipv4[0].range": "Must be inside an RFC 1918 range"}),
        ({"subnets": ["10.0.0.0/24"]}, {"subnets[0]": "Must be an object"}),
        ({"subnets": [{}]}, {"subnets[0].label": "label is required", "subnets[0].ipv4": "ipv4 is required"}),
        (subnets("10.0.0.0"), {"subnets[0].ipv4": "Must be an IPv4 network"}),
        (subnets("10.0.0.1/24"), {"subnets[0].ipv4": "Must be an IPv4 network"}),
        (subnets("10.0.0.0/30"), {"subnets[0].ipv4": "Prefix length must be 1-29"}),
        (subnets("198.51.100.0/24"), {"subnets[0].ipv4": "Must be inside 10.0.0.0/8"}),
        (subnets("192.168.128.0/24"), {"subnets[0].ipv4": "Must be inside 10.0.0.0/8"}),
        (subnets("10.0.0.0/20", "10.0.1.0/24"), {"subnets[1].ipv4": "10.0.1.0/24 overlaps subnet s0 (10.0.0.0/20)"}),
        (
            {**subnets("10.9.0.0/24"), "ipv4": [{"range": "10.0.0.0/16"}]},
            {"subnets[0].ipv4": "Must be inside 10.0.0.0/16"},
        ),
    ],
)
def test_bad_vpcs_are_refused_whole(shared: Server, body: Any, expected: dict[str, str]) -> None:
    found = shared.refusals("POST", "/vpcs", **{**WISH, **body})
    assert found.keys() == expected.keys()
    assert all(found[name].startswith(reason) for name, reason in expected.items()), found
    assert shared.get("/vpcs")["results"] == 0


def test_labels_are_unique(api: Server) -> None:
    vpc = api.post("/vpcs", **WISH, **subnets("10.0.0.0/24"))
    assert api.refusals("POST", "/vpcs", **WISH) == {"label": "Label must be unique among your VPCs"}
    twin = api.refusals("POST", f"/vpcs/{vpc['id']}/subnets", label="s0", ipv4="10.1.0.0/24")
    assert twin == {"label": "Label must be unique among the VPC's subnets"}
    assert api.put(f"/vpcs/{vpc['id']}", label="demo")["label"] == "demo"


def test_what_has_linodes_stays(api: Server) -> None:
    subnet = api.subnet()
    path = f"/vpcs/{subnet['vpc_id']}"
    linode = api.linode(label="tenant", interfaces=[{"purpose": "vpc", "subnet_id": subnet["id"]}], booted=False)
    (shown,) = api.get(f"{path}/subnets/{subnet['id']}")["linodes"]
    assert shown["id"] == linode["id"] and [item["active"] for item in shown["interfaces"]] == [False]
    for victim in (path, f"{path}/subnets/{subnet['id']}"):
        assert "while Linodes are attached: tenant" in api.refusals("DELETE", victim)[None]
    api.delete(f"/linode/instances/{linode['id']}")
    api.delete(path)  # at once


def test_custom_ranges(api: Server) -> None:
    vpc = api.post("/vpcs", **WISH, ipv4=[{"range": "10.0.0.0/16"}], **subnets("10.0.0.0/24"))
    assert vpc["ipv4"] == [{"range": "10.0.0.0/16"}]
    refused = api.refusals("PUT", f"/vpcs/{vpc['id']}", ipv4=[{"range": "172.16.0.0/12"}])
    assert refused == {"ipv4": "Subnet s0 (10.0.0.0/24) must stay inside the VPC's ranges"}
    assert api.put(f"/vpcs/{vpc['id']}", ipv4=[{"range": "10.0.0.0/8"}])["ipv4"] == [{"range": "10.0.0.0/8"}]
    assert api.get("/vpcs/default-ranges")["forbidden_ipv4_ranges"] == ["192.168.128.0/17"]


def test_a_subnet_answers_under_its_own_vpc_only(api: Server) -> None:
    first, second = api.subnet(), api.subnet("10.1.0.0/24")
    assert api.http.get(f"/vpcs/{first['vpc_id']}/subnets/{second['id']}").status_code == 404


def test_regions_say_who_has_vpcs(shared: Server) -> None:
    regions = {row["id"]: row for row in shared.get("/regions")["data"]}
    availability = {row["region"]: row["available"] for row in shared.get("/regions/vpc-availability")["data"]}
    assert availability == {name: "VPCs" in region["capabilities"] for name, region in regions.items()}
    assert availability["de-fra-2"] and not availability["eu-central"]
