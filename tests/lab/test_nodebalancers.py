# SPDX-License-Identifier: GPL-3.0-or-later
"""The API of NodeBalancers, their configs and nodes, without hosts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from certificate import certificate
from lab_server import Server
from linode_api4 import LinodeClient, NodeBalancer, NodeBalancerConfig, NodeBalancerNode
from test_sdk import client

from lab import models
from lab.balancers import BalancerError, NoBalancers
from lab.haproxy import Balancer
from lab.settings import Settings

PATH = "/nodebalancers"
WISH = {"region": "de-fra-2"}
IP_AND_PORT = "Must be IP:PORT, such as 192.168.128.5:80 or [2001:db8::5]:80"
PRIVATE = {"label": "first", "address": "192.168.128.5:8080"}


def balancer(api: Server, **body: Any) -> Any:
    return api.post(PATH, **{**WISH, **body})


def config(api: Server, balancer_id: int, **body: Any) -> Any:
    return api.post(f"{PATH}/{balancer_id}/configs", **body)


def in_vpc(api: Server, **body: Any) -> tuple[Any, Any]:
    """Return a subnet and a new NodeBalancer in it."""
    subnet = api.subnet()
    return subnet, balancer(api, vpcs=[{"subnet_id": subnet["id"]}], **body)


def actions(api: Server, balancer_id: int) -> list[str]:
    rows = api.get("/account/events")["data"][::-1]
    return [row["action"] for row in rows if row["entity"]["type"] == "nodebalancer" and row["status"] == "finished"]


def test_a_balancer_as_linode_makes_it_by_default(api: Server) -> None:
    made = balancer(api)
    assert made["label"] == f"balancer{made['id']}"
    assert made["ipv4"] == "198.51.100.2" and made["hostname"] == "198-51-100-2.ip.linodeusercontent.com"
    assert (made["type"], made["backend_connectivity"], made["backend_ipv6_prefix"]) == ("common", "undefined", None)
    assert (made["client_conn_throttle"], made["client_udp_sess_throttle"], made["tags"]) == (0, 0, [])
    assert made["transfer"] == {"in": None, "out": None, "total": None}
    assert (made["frontend_address_type"], made["frontend_vpc_subnet_id"]) == ("public", None)
    assert api.get(f"{PATH}/{made['id']}") == made and api.get(PATH)["data"] == [made]
    changed = api.put(f"{PATH}/{made['id']}", label="front", client_conn_throttle=20, tags=["demo"])
    assert (changed["label"], changed["client_conn_throttle"], changed["tags"]) == ("front", 20, ["demo"])
    found = api.get(PATH, headers={"X-Filter": json.dumps({"tags": "demo", "label": "front"})})
    assert found["data"] == [changed]
    assert api.delete(f"{PATH}/{made['id']}") == {}
    assert api.http.get(f"{PATH}/{made['id']}").status_code == 404


def test_a_config_as_linode_makes_it_by_default(api: Server) -> None:
    made = balancer(api)["id"]
    default = config(api, made)
    assert {name: default[name] for name in ("port", "protocol", "algorithm", "stickiness", "check")} == {
        **{"port": 80, "protocol": "http", "algorithm": "roundrobin", "stickiness": "none", "check": "none"}
    }
    assert [default[f"check_{name}"] for name in ("interval", "timeout", "attempts")] == [31, 30, 3]
    assert (default["check_path"], default["check_body"], default["check_passive"]) == ("", "", True)
    assert (default["proxy_protocol"], default["cipher_suite"]) == ("none", "recommended")
    assert (default["ssl_cert"], default["ssl_commonname"], default["ssl_fingerprint"]) == (None, "", "")
    assert (default["nodes_status"], default["nodebalancer_id"]) == ({"up": 0, "down": 0}, made)
    path = f"{PATH}/{made}/configs"
    assert api.get(path)["data"] == [default] == [api.get(f"{path}/{default['id']}")]
    changed = api.put(f"{path}/{default['id']}", port=8080, protocol="tcp", algorithm="leastconn")
    assert (changed["port"], changed["protocol"], changed["algorithm"]) == (8080, "tcp", "leastconn")
    api.delete(f"{path}/{default['id']}")
    assert api.get(path)["results"] == 0


def test_nodes_come_change_and_go(api: Server) -> None:
    made = balancer(api)["id"]
    path = f"{PATH}/{made}/configs/{config(api, made)['id']}/nodes"
    node = api.post(path, **PRIVATE)
    assert (node["status"], node["weight"], node["mode"], node["vpc_config_id"]) == ("Unknown", 100, "accept", None)
    assert api.get(f"{PATH}/{made}")["backend_connectivity"] == "legacy"
    changed = api.put(f"{path}/{node['id']}", label="other", weight=7, mode="drain", address="192.168.128.6:81")
    assert (changed["label"], changed["weight"], changed["mode"]) == ("other", 7, "drain")
    assert api.get(path)["data"] == [changed] == [api.get(f"{path}/{node['id']}")]
    api.delete(f"{path}/{node['id']}")
    assert api.get(path)["results"] == 0
    wanted = ["nodebalancer_create", "nodebalancer_config_create"]
    assert actions(api, made) == wanted + [f"nodebalancer_node_{word}" for word in ("create", "update", "delete")]


def test_all_at_once_and_all_of_it_goes(api: Server) -> None:
    nodes = [PRIVATE, {**PRIVATE, "label": "second", "mode": "backup", "weight": 3}]
    made = balancer(api, label="front", tags=["demo"], configs=[{"nodes": nodes}, {"port": 81, "protocol": "tcp"}])
    assert made["backend_connectivity"] == "legacy"
    first, second = api.get(f"{PATH}/{made['id']}/configs")["data"]
    assert (first["port"], second["port"], second["protocol"]) == (80, 81, "tcp")
    rows = api.get(f"{PATH}/{made['id']}/configs/{first['id']}/nodes")["data"]
    assert [(row["label"], row["mode"], row["weight"]) for row in rows] == [
        ("first", "accept", 100),
        ("second", "backup", 3),
    ]
    api.delete(f"{PATH}/{made['id']}")
    for kind in (models.NodeBalancer, models.NodeBalancerConfig, models.NodeBalancerNode):
        assert api.lab.store.all(kind) == []
    assert api.lab.addresses.public.is_free(made["ipv4"])


def test_a_rebuild_is_all_or_nothing(api: Server) -> None:
    made = balancer(api, configs=[{"nodes": [PRIVATE, {**PRIVATE, "label": "second"}]}])["id"]
    (port,) = api.get(f"{PATH}/{made}/configs")["data"]
    path = f"{PATH}/{made}/configs/{port['id']}"
    first, second = api.get(f"{path}/nodes")["data"]
    bad = [{**PRIVATE, "label": "third"}, {"id": first["id"], "weight": 0}, {"id": 5, **PRIVATE}]
    assert api.refusals("POST", f"{path}/rebuild", port=81, nodes=bad) == {
        "nodes[1].weight": "Must be 1-255",
        "nodes[2].id": "A Node by that ID was not found in this config",
    }
    assert api.get(path) == port and api.get(f"{path}/nodes")["data"] == [first, second]
    assert api.refusals("POST", f"{path}/rebuild", port=81) == {"nodes": "nodes is required"}
    wanted = [{"id": second["id"], "weight": 9}, {"label": "third", "address": "192.168.128.9:80"}]
    rebuilt = api.post(f"{path}/rebuild", port=81, algorithm="source", nodes=wanted)
    assert (rebuilt["id"], rebuilt["port"], rebuilt["algorithm"]) == (port["id"], 81, "source")
    rows = api.get(f"{path}/nodes")["data"]
    assert [(row["id"] == second["id"], row["label"], row["weight"]) for row in rows] == [
        *[(True, "second", 9), (False, "third", 100)]
    ]


def test_https_shows_what_the_certificate_is_and_nothing_else(api: Server) -> None:
    cert, key = certificate("www.example.com")
    made = balancer(api)["id"]
    path = f"{PATH}/{made}/configs"
    port = config(api, made, port=443, protocol="https", ssl_cert=cert, ssl_key=key)
    assert (port["ssl_cert"], port["ssl_key"], port["ssl_commonname"]) == (
        "<REDACTED>",
        "<REDACTED>",
        "www.example.com",
    )
    assert len(port["ssl_fingerprint"].split(":")) == 20
    kept = api.put(f"{path}/{port['id']}", port=444, ssl_cert="<REDACTED>", ssl_key="<REDACTED>")
    assert (kept["port"], kept["ssl_fingerprint"]) == (444, port["ssl_fingerprint"])
    _, other = certificate("other")
    assert api.refusals("PUT", f"{path}/{port['id']}", ssl_key=other) == {
        "ssl_key": "ssl_key is not the key of ssl_cert"
    }
    said = json.dumps([api.get(path), api.get(f"{api.address}/lab/state")])
    assert "PRIVATE KEY" not in said and "BEGIN CERTIFICATE" not in said
    plain = api.put(f"{path}/{port['id']}", protocol="http")
    assert (plain["ssl_cert"], plain["ssl_commonname"]) == (None, "")


def test_udp_is_kept_without_hosts(api: Server) -> None:
    made = balancer(api, type="premium")["id"]
    port = config(api, made, port=53, protocol="udp", udp_check_port=1234)
    assert (port["stickiness"], port["cipher_suite"], port["check_passive"]) == ("session", "none", False)
    assert (port["udp_check_port"], port["udp_session_timeout"]) == (1234, 2)
    config(api, made, port=53, protocol="tcp")  # another family
    path = f"{PATH}/{made}/configs/{port['id']}"
    node = api.post(f"{path}/nodes", label="first", address="[2001:db8::5]:53")
    assert node["mode"] == "none"
    refused = api.refusals("PUT", path, cipher_suite="recommended", check_passive=True, algorithm="source")
    assert refused.keys() == {"cipher_suite", "check_passive", "algorithm"}
    assert api.refusals("POST", f"{path}/nodes", label="b12", address="[2001:db8::6]:53", mode="drain").keys() == {
        "mode"
    }
    changed = api.put(path, protocol="http", port=80, algorithm="roundrobin", stickiness="none")
    assert (changed["cipher_suite"], api.get(f"{path}/nodes")["data"][0]["mode"]) == ("recommended", "accept")


def test_udp_is_refused_where_there_are_hosts(serve: Callable[..., Server], settings: Settings) -> None:
    api = serve(replace(settings, hosts=True))
    assert api.refusals("POST", PATH, **WISH, configs=[{"protocol": "udp"}]) == {
        "configs[0].protocol": "UDP is not available in this region"
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"region": None}, {"region": "region is required"}),
        ({"region": "nowhere"}, {"region": "region is not valid"}),
        ({"label": "ab"}, {"label": "Label must be between 3 and 32 characters"}),
        ({"label": "x" * 33}, {"label": "Label must be between 3 and 32 characters"}),
        ({"label": "two words"}, {"label": "Label may only contain letters, numbers, dashes and underscores"}),
        ({"client_conn_throttle": 21}, {"client_conn_throttle": "Must be 0-20"}),
        ({"client_udp_sess_throttle": -1}, {"client_udp_sess_throttle": "Must be 0-20"}),
        ({"client_conn_throttle": "5"}, {"client_conn_throttle": "Must be an integer"}),
        ({"tags": ["ab"]}, {"tags": "Length must be 3-50 characters"}),
        ({"type": "enterprise"}, {"type": "Must be one of common, premium"}),
        ({"backend_connectivity": "undefined"}, {"backend_connectivity": "Must be one of legacy, vpc, ipv6"}),
        ({"backend_connectivity": "vpc"}, {"vpcs": "vpcs is required when backend_connectivity is vpc"}),
        (
            {"backend_connectivity": "legacy", "type": "premium"},
            {"backend_connectivity": "A premium NodeBalancer reaches VPC and IPv6 nodes only"},
        ),
        ({"vpcs": [{}]}, {"vpcs[0].subnet_id": "subnet_id is required"}),
        ({"vpcs": [{"subnet_id": 5}]}, {"vpcs[0].subnet_id": "A Subnet by that ID was not found"}),
        ({"firewall_id": 5}, {"firewall_id": "A Firewall by that ID was not found"}),
        ({"ipv4": "198.51.100.9"}, {"ipv4": "198.51.100.9 is not a reserved address of this region that nothing has"}),
        ({"configs": ["http"]}, {"configs[0]": "Must be an object"}),
        ({"configs": [{}, {}]}, {"configs[1].port": "Another config is already using port 80"}),
        (
            {"configs": [{"nodes": [{}]}]},
            {f"configs[0].nodes[0].{name}": f"{name} is required" for name in ("label", "address")},
        ),
    ],
)
def test_bad_balancers_are_refused_whole(shared: Server, body: Any, expected: dict[str, str]) -> None:
    assert shared.refusals("POST", PATH, **{**WISH, **body}) == expected
    assert shared.get(PATH)["results"] == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"port": 0}, {"port": "Must be 1-65535"}),
        ({"port": 65536}, {"port": "Must be 1-65535"}),
        ({"protocol": "sctp"}, {"protocol": "Must be one of http, https, tcp, udp"}),
        ({"algorithm": "ring_hash"}, {"algorithm": "Must be one of roundrobin, leastconn, source"}),
        ({"stickiness": "session"}, {"stickiness": "Must be one of none, table, http_cookie"}),
        (
            {"stickiness": "http_cookie", "protocol": "tcp"},
            {"stickiness": "Stickiness http_cookie requires protocol 'http' or 'https'"},
        ),
        ({"proxy_protocol": "v2"}, {"proxy_protocol": "Proxy protocol v2 requires protocol 'tcp'"}),
        ({"proxy_protocol": "v3"}, {"proxy_protocol": "Must be one of none, v1, v2"}),
        ({"cipher_suite": "modern"}, {"cipher_suite": "Must be one of recommended, legacy"}),
        ({"check": "ping"}, {"check": "Must be one of none, connection, http, http_body"}),
        ({"check_interval": 1, "check_timeout": 1}, {"check_interval": "Must be greater than check_timeout"}),
        ({"check_interval": 30}, {"check_interval": "Must be greater than check_timeout"}),
        ({"check_timeout": 31, "check_interval": 60}, {"check_timeout": "Must be 1-30"}),
        ({"check_attempts": 31}, {"check_attempts": "Must be 1-30"}),
        ({"check_passive": "yes"}, {"check_passive": "Must be a boolean"}),
        ({"check": "http"}, {"check_path": "check_path is required when check is http"}),
        ({"check": "http_body", "check_path": "/"}, {"check_body": "check_body is required when check is http_body"}),
        ({"check_path": "up"}, {"check_path": "Must begin with a slash, and have no spaces"}),
        ({"check_path": "/a\r\nb"}, {"check_path": "Must begin with a slash, and have no spaces"}),
        ({"check_body": "a\nserver evil 127.0.0.1:1"}, {"check_body": "Must be one line of text"}),
        (
            {"protocol": "https"},
            {f"ssl_{name}": f"ssl_{name} is required when protocol is https" for name in ("cert", "key")},
        ),
        ({"ssl_cert": "x"}, {"ssl_cert": "ssl_cert requires protocol 'https'"}),
        (
            {"protocol": "https", "ssl_cert": "x", "ssl_key": "x"},
            {
                "ssl_cert": "Must be a PEM-formatted certificate",
                "ssl_key": "Must be a PEM-formatted private key without a passphrase",
            },
        ),
    ],
)
def test_bad_configs(shared: Server, body: Any, expected: dict[str, str]) -> None:
    made = balancer(shared)["id"]
    found = shared.refusals("POST", f"{PATH}/{made}/configs", **body)
    assert found.items() >= expected.items() and found.keys() - expected.keys() <= {"check_interval"}, found
    assert shared.get(f"{PATH}/{made}/configs")["results"] == 0
    shared.delete(f"{PATH}/{made}")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"label": "ab"}, {"label": "Label must be between 3 and 32 characters"}),
        ({"weight": 256}, {"weight": "Must be 1-255"}),
        ({"mode": "none"}, {"mode": "Must be one of accept, reject, backup, drain"}),
        ({"address": "8.8.8.8:80"}, {"address": "Must begin with 192.168."}),
        ({"address": "192.168.0.5:80"}, {"address": "Must be a private address, inside 192.168.128.0/17"}),
        ({"address": "192.168.128.5"}, {"address": IP_AND_PORT}),
        ({"address": "192.168.128.5:0"}, {"address": IP_AND_PORT}),
        ({"address": "2001:db8::5:80"}, {"address": IP_AND_PORT}),
        ({"subnet_id": 5}, {"subnet_id": "This NodeBalancer has no VPC, which subnet_id needs"}),
    ],
)
def test_bad_nodes(shared: Server, body: Any, expected: dict[str, str]) -> None:
    made = balancer(shared)["id"]
    path = f"{PATH}/{made}/configs/{config(shared, made)['id']}/nodes"
    assert shared.refusals("POST", path, **{**PRIVATE, **body}) == expected
    assert shared.get(path)["results"] == 0
    shared.delete(f"{PATH}/{made}")


def test_what_is_reached_is_said_once(api: Server) -> None:
    made = balancer(api, configs=[{"nodes": [PRIVATE]}])
    path = f"{PATH}/{made['id']}"
    nodes = f"{path}/configs/{api.get(f'{path}/configs')['data'][0]['id']}/nodes"
    assert api.refusals("POST", nodes, label="second", address="[2001:db8::5]:80") == {
        "address": "Must be a private IPv4 address: backend_connectivity is legacy"
    }
    assert api.refusals("PUT", path, type="premium", backend_connectivity="vpc") == {
        name: f"{name} cannot be changed" for name in ("type", "backend_connectivity")
    }
    premium = balancer(api, type="premium")["id"]
    refused = {"address": "A premium NodeBalancer reaches VPC and IPv6 nodes only"}
    assert api.refusals("POST", f"{PATH}/{premium}/configs/{config(api, premium)['id']}/nodes", **PRIVATE) == refused
    six = balancer(api, type="premium", backend_connectivity="ipv6")
    assert six["backend_ipv6_prefix"].endswith("/96")
    assert api.refusals("POST", f"{PATH}/{six['id']}/configs/{config(api, six['id'])['id']}/nodes", **PRIVATE) == {
        "address": "Must be a public IPv6 address: backend_connectivity is ipv6"
    }


def test_a_balancer_in_a_vpc(api: Server) -> None:
    subnet, made = in_vpc(api)
    assert made["backend_connectivity"] == "vpc"
    (vpc,) = api.get(f"{PATH}/{made['id']}/vpcs")["data"]
    assert vpc == api.get(f"{PATH}/{made['id']}/vpcs/{vpc['id']}")
    assert (vpc["ipv4_range"], vpc["purpose"], vpc["vpc_id"]) == ("10.0.0.4/30", "backend", subnet["vpc_id"])
    port = config(api, made["id"])["id"]
    path = f"{PATH}/{made['id']}/configs/{port}/nodes"
    node = api.post(path, label="first", address="10.0.0.20:80", subnet_id=subnet["id"])
    assert node["vpc_config_id"] == vpc["id"]
    assert api.put(f"{path}/{node['id']}", address="10.0.0.21:80")["vpc_config_id"] == vpc["id"]
    outside = "10.0.1.5 is not in subnet main (10.0.0.0/24)"
    assert api.refusals("PUT", f"{path}/{node['id']}", address="10.0.1.5:80") == {"address": outside}
    assert api.refusals("POST", path, **PRIVATE) == {"subnet_id": "subnet_id is required for a node in a VPC"}
    assert api.refusals("POST", path, **PRIVATE, subnet_id=5) == {
        "subnet_id": "This NodeBalancer is not in the Subnet by that ID"
    }


def test_a_vpc_shows_and_keeps_its_balancers(api: Server) -> None:
    subnet, made = in_vpc(api, label="front")
    vpc_path = f"/vpcs/{subnet['vpc_id']}"
    assert api.get(f"{vpc_path}/subnets/{subnet['id']}")["nodebalancers"] == [
        {"id": made["id"], "ipv4_range": "10.0.0.4/30"}
    ]
    (row,) = api.get("/vpcs/ips")["data"]
    assert [row] == api.get(f"{vpc_path}/ips")["data"]
    assert (row["nodebalancer_id"], row["linode_id"], row["address"]) == (made["id"], None, None)
    assert (row["address_range"], row["region"], row["subnet_id"]) == ("10.0.0.4/30", "de-fra-2", subnet["id"])
    for victim in (vpc_path, f"{vpc_path}/subnets/{subnet['id']}"):
        assert "while NodeBalancers are attached: front" in api.refusals("DELETE", victim)[None]
    linode = api.linode(interfaces=[{"purpose": "vpc", "subnet_id": subnet["id"], "ipv4": {"vpc": "10.0.0.2"}}])
    refused = {"subnet_id": subnet["id"], "ipv4_range": "10.0.0.0/30"}
    assert "is in use or reserved" in str(api.refusals("POST", PATH, **WISH, vpcs=[refused]))
    api.delete(f"/linode/instances/{linode['id']}")
    api.delete(f"{PATH}/{made['id']}")
    assert api.lab.addresses.subnets[subnet["id"]].is_free("10.0.0.5")
    api.delete(vpc_path)


@pytest.mark.parametrize(
    ("ipv4_range", "reason"),
    [
        ("10.0.0.64", "Must be a /30"),
        ("10.0.0.64/29", "Must be a /30"),
        ("10.0.1.64/30", "10.0.1.64/30 is not in 10.0.0.0/24"),
        ("10.0.0.65/30", "The IPv4 range must be in CIDR format"),
        ("10.0.0.0/30", "10.0.0.0/30 has an address that is in use or reserved in subnet main"),
    ],
)
def test_bad_ranges(api: Server, ipv4_range: str, reason: str) -> None:
    vpcs = [{"subnet_id": api.subnet()["id"], "ipv4_range": ipv4_range}]
    assert api.refusals("POST", PATH, **WISH, vpcs=vpcs) == {"vpcs[0].ipv4_range": reason}


def test_one_vpc_its_own_region_and_no_twins(api: Server) -> None:
    first, second = api.subnet()["id"], api.subnet("10.1.0.0/24")["id"]
    both = [{"subnet_id": first}, {"subnet_id": first}, {"subnet_id": second}]
    found = api.refusals("POST", PATH, **WISH, vpcs=both)
    assert found["vpcs[1].subnet_id"] == "Subnet IDs must be unique"
    assert found["vpcs[2].subnet_id"] == "A NodeBalancer can be in one VPC"
    away = api.refusals("POST", PATH, region="us-ord", vpcs=both[:1])
    assert "is in region de-fra-2, the NodeBalancer in us-ord" in away["vpcs[0].subnet_id"]
    made = balancer(api, label="front", vpcs=[{"subnet_id": first, "ipv4_range": "10.0.0.64/30"}])
    assert api.get(f"{PATH}/{made['id']}/vpcs")["data"][0]["ipv4_range"] == "10.0.0.64/30"
    assert api.refusals("POST", PATH, **WISH, label="front") == {
        "label": "Label must be unique among your NodeBalancers"
    }


def test_a_config_has_so_many_nodes(api: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from lab import catalog

    monkeypatch.setitem(catalog.BALANCER_LIMITS, "common", (10_000, 1))
    twins = [PRIVATE, {**PRIVATE, "label": "second"}]
    reason = "A config of a common NodeBalancer can have 1 nodes"
    assert api.refusals("POST", PATH, **WISH, configs=[{"nodes": twins}]) == {"configs[0].nodes": reason}
    made = balancer(api, configs=[{"nodes": twins[:1]}])["id"]
    port = api.get(f"{PATH}/{made}/configs")["data"][0]["id"]
    assert api.refusals("POST", f"{PATH}/{made}/configs/{port}/nodes", **twins[1]) == {None: reason}


def test_what_belongs_to_another_is_not_found(api: Server) -> None:
    subnet, one = in_vpc(api)
    other = balancer(api, configs=[{"nodes": [PRIVATE]}])["id"]
    port = api.get(f"{PATH}/{other}/configs")["data"][0]["id"]
    node = api.get(f"{PATH}/{other}/configs/{port}/nodes")["data"][0]["id"]
    vpc = api.get(f"{PATH}/{one['id']}/vpcs")["data"][0]["id"]
    mine = config(api, one["id"])["id"]
    for path in (
        *(f"/{one['id']}/configs/{port}", f"/{one['id']}/configs/{port}/nodes", f"/{other}/vpcs/{vpc}"),
        *(f"/{one['id']}/configs/{mine}/nodes/{node}", "/5/configs", "/5/stats", "/5/firewalls"),
    ):
        assert api.http.get(f"{PATH}{path}").status_code == 404, path


def test_types_are_for_anyone(shared: Server) -> None:
    reply = shared.http.get(f"{PATH}/types", headers={"Authorization": ""})
    common, premium = reply.json()["data"]
    assert (common["id"], common["price"]) == ("nodebalancer", {"hourly": 0.015, "monthly": 10})
    assert (premium["id"], premium["price"]["monthly"]) == ("nodebalancer-pr100", 150)
    assert {row["id"]: row["monthly"] for row in common["region_prices"]} == {"id-cgk": 12, "br-gru": 14}


def test_tags_and_what_a_linode_serves(api: Server) -> None:
    linode = api.linode(private_ip=True, tags=["blue"])
    node = {"label": "first", "address": f"{linode['ipv4'][1]}:80"}
    made = balancer(api, configs=[{"nodes": [node]}])
    assert [row["id"] for row in api.get(f"/linode/instances/{linode['id']}/nodebalancers")["data"]] == [made["id"]]
    api.post("/tags", label="blue", nodebalancers=[made["id"], made["id"]])
    rows = api.get("/tags/blue")["data"]
    assert [(row["type"], row["data"]["id"]) for row in rows] == [
        ("linode", linode["id"]),
        ("nodebalancer", made["id"]),
    ]
    assert rows[1]["data"]["tags"] == ["blue"]
    refused = {"nodebalancers": "A NodeBalancer by that ID was not found"}
    assert api.refusals("POST", "/tags", label="blue", nodebalancers=[linode["id"]]) == refused
    api.delete("/tags/blue")
    assert api.get(f"{PATH}/{made['id']}")["tags"] == []


def test_statistics_are_what_was_counted(api: Server) -> None:
    made = balancer(api, label="front")["id"]
    assert api.refusals("GET", f"{PATH}/{made}/stats") == {None: "Stats are unavailable at this time."}
    api.lab.store.get(models.NodeBalancer, made).samples = [[1000, 2.0, 80.0, 2400.0]]
    assert api.get(f"{PATH}/{made}/stats") == {
        "title": f"linode.com - front ({made}) - day (5 min avg)",
        "data": {"connections": [[1000, 2.0]], "traffic": {"in": [[1000, 80.0]], "out": [[1000, 2400.0]]}},
    }
    assert api.get(f"{PATH}/{made}/firewalls")["data"] == []


def test_a_restart_keeps_all_of_it_and_gives_no_address_twice(serve: Callable[..., Server]) -> None:
    first = serve()
    subnet, made = in_vpc(first, label="front", configs=[{"port": 81}])
    paths = [f"{PATH}/{made['id']}{end}" for end in ("", "/configs", "/vpcs")]
    before = [first.get(path) for path in paths]
    first.stop()
    second = serve(hosts=first.hosts)
    assert [second.get(path) for path in paths] == before
    again = balancer(second, vpcs=[{"subnet_id": subnet["id"]}])
    assert again["ipv4"] != made["ipv4"]
    assert second.get(f"{PATH}/{again['id']}/vpcs")["data"][0]["ipv4_range"] == "10.0.0.8/30"
    assert second.linode(interfaces=[{"purpose": "vpc", "subnet_id": subnet["id"]}])["ipv4"] != [made["ipv4"]]


def test_a_reset_leaves_none(api: Server) -> None:
    in_vpc(api, configs=[{}])
    api.http.post(f"{api.address}/lab/reset").raise_for_status()
    assert api.get(PATH)["results"] == api.get("/vpcs")["results"] == 0
    assert balancer(api)["ipv4"]


class Broken(NoBalancers):
    """NodeBalancers that do not do what they are asked."""

    async def apply(self, balancer: Balancer) -> None:
        raise BalancerError(f"NodeBalancer {balancer.record.label}: no HAProxy today")


def test_what_does_not_work_is_said(serve: Callable[..., Server]) -> None:
    api = serve(balancers=Broken())
    reply = api.http.post(PATH, json={**WISH, "label": "front"})
    reason = "NodeBalancer front: no HAProxy today"
    assert (reply.status_code, reply.json()) == (500, {"errors": [{"reason": reason}]})
    (event,) = api.get("/account/events")["data"]
    assert (event["action"], event["status"], event["message"]) == ("nodebalancer_create", "failed", reason)
    (made,) = api.get(PATH)["data"]
    api.stop()
    again = serve(balancers=Broken())  # what fails again is no reason for the lab not to start
    again.delete(f"{PATH}/{made['id']}")


def test_with_linodes_own_client(api: Server) -> None:
    sdk: LinodeClient = client(api, "v4beta")
    made = sdk.nodebalancers.create("de-fra-2", label="front", tags=["demo"], client_conn_throttle=5)
    port = made.config_create(port=80, protocol="http", check="http", check_path="/", check_interval=40)
    node = port.node_create("first", "192.168.128.5:80", weight=50)
    loaded = sdk.load(NodeBalancer, made.id)
    assert (loaded.region.id, loaded.client_conn_throttle, loaded.type) == ("de-fra-2", 5, "common")
    loaded.label = "other"
    assert loaded.save() and sdk.load(NodeBalancer, made.id).label == "other"
    again = sdk.load(NodeBalancerConfig, port.id, made.id)
    again.algorithm = "leastconn"
    assert again.save() and [item.id for item in again.nodes] == [node.id]
    backend = sdk.load(NodeBalancerNode, node.id, (port.id, made.id))
    backend.mode = "drain"
    assert backend.save()
    assert made.config_rebuild(port.id, [{"label": "third", "address": "192.168.128.6:80"}]).id == port.id
    assert [item.label for item in sdk.load(NodeBalancerConfig, port.id, made.id).nodes] == ["third"]
    api.lab.store.get(models.NodeBalancer, made.id).samples = [[1000, 2.0, 80.0, 2400.0]]
    assert made.statistics().title.startswith("linode.com - ") and made.firewalls() == []
    assert [item.price.monthly for item in sdk.nodebalancers.types()] == [10, 150]
    assert again.delete() and made.delete()
