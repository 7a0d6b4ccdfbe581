# SPDX-License-Identifier: GPL-3.0-or-later
"""From a NodeBalancer's records to haproxy.cfg, which HAProxy itself has to accept."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from certificate import certificate

from lab.balancers import Counts, note
from lab.haproxy import Balancer, Files, configuration, contents, health, max_connections
from lab.models import NodeBalancer, NodeBalancerConfig, NodeBalancerNode
from lab.network import VpcAddress

FILES = 1_000_000
RECORD = NodeBalancer(1, "front", "de-fra-2", "common", "198.51.100.9", "192.168.255.1", "legacy")
CONFIG = NodeBalancerConfig(10, 1)
NODE = NodeBalancerNode(100, 1, 10, "first", "192.168.128.5:8080")
VPC = ((7, VpcAddress(3, 4, "10.0.0.4", "10.0.0.0/24")),)


def lines(balancer: Balancer, folder: Path = Path("/state")) -> list[str]:
    return [line.strip() for line in configuration(balancer, Files(folder, 1), FILES).splitlines()]


def written(node: NodeBalancerNode = NODE, **changes: Any) -> list[str]:
    """Return the lines of a NodeBalancer of one config, changed so, and one node."""
    return lines(Balancer(RECORD, (replace(CONFIG, **changes),), (node,)))


def server(node: NodeBalancerNode = NODE, **changes: Any) -> str:
    (found,) = [line for line in written(node, **changes) if line.startswith("server ")]
    return found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["mode http", "bind 198.51.100.9:80", "option forwardfor", "balance roundrobin", "option httpclose"]),
        ({}, ["http-request set-header X-Forwarded-Proto http"]),
        ({"protocol": "tcp", "port": 5432}, ["mode tcp", "bind 198.51.100.9:5432"]),
        ({"algorithm": "leastconn"}, ["balance leastconn"]),
        ({"algorithm": "source"}, ["balance source"]),
        ({"stickiness": "table"}, ["stick-table type ip size 100k expire 30m peers self", "stick on src"]),
        ({"stickiness": "http_cookie"}, ["cookie NB_SRVID insert indirect nocache"]),
        ({"check": "connection", "check_timeout": 7}, ["timeout check 7s"]),
        ({"check": "http", "check_path": "/up"}, ["http-check send meth GET uri '/up'"]),
        ({"check": "http", "check_path": "/up"}, ["http-check expect status 200-399"]),
        ({"check": "http_body", "check_path": "/", "check_body": "it's"}, [r"http-check expect string 'it'\''s'"]),
    ],
)
def test_a_config_is_a_listener(changes: dict[str, Any], expected: list[str]) -> None:
    assert set(expected) <= set(written(**changes))


def test_tcp_knows_nothing_of_http() -> None:
    assert not [line for line in written(protocol="tcp") if "http" in line or "forwardfor" in line]


@pytest.mark.parametrize(
    ("node", "changes", "expected"),
    [
        ({}, {}, "server 100_192.168.128.5:8080 192.168.128.5:8080 weight 100 source 192.168.255.1"),
        ({"weight": 7}, {}, " weight 7 "),
        ({"mode": "drain"}, {}, " weight 0 "),
        ({"mode": "backup"}, {}, " backup "),
        ({}, {"check": "connection", "check_passive": False}, " check inter 31s fall 3 source "),
        ({}, {"check": "connection"}, " observe layer7 error-limit 1 on-error mark-down "),
        ({}, {"check": "connection", "protocol": "tcp"}, " observe layer4 error-limit 1 on-error mark-down "),
        ({}, {"stickiness": "http_cookie"}, " cookie srv100 "),
        ({}, {"protocol": "tcp", "proxy_protocol": "v1"}, " send-proxy"),
        ({}, {"protocol": "tcp", "proxy_protocol": "v2"}, " send-proxy-v2"),
    ],
)
def test_a_node_is_a_server(node: dict[str, Any], changes: dict[str, Any], expected: str) -> None:
    assert expected in server(replace(NODE, **node), **changes)


def test_a_rejecting_node_is_no_server() -> None:
    assert not [line for line in written(replace(NODE, mode="reject")) if line.startswith("server ")]


def test_a_node_without_checks_is_not_observed() -> None:
    assert "observe" not in server(check_passive=True) and "check" not in server()


def test_a_node_in_a_vpc_sees_the_address_in_the_vpc() -> None:
    node = replace(NODE, address="10.0.0.20:80", vpc_config_id=7)
    balancer = Balancer(replace(RECORD, backend_connectivity="vpc"), (CONFIG,), (node,), VPC)
    assert "server 100_10.0.0.20:80 10.0.0.20:80 weight 100 source 10.0.0.4" in lines(balancer)


def test_an_ipv6_node() -> None:
    node = replace(NODE, address="[2001:db8::5]:80")
    balancer = Balancer(replace(RECORD, backend_connectivity="ipv6"), (CONFIG,), (node,))
    assert "server 100_2001:db8::5:80 [2001:db8::5]:80 weight 100" in lines(balancer)


def test_throttled_clients_are_counted_over_all_ports() -> None:
    configs = (CONFIG, replace(CONFIG, id=11, port=81))
    found = lines(Balancer(replace(RECORD, client_conn_throttle=5), configs))
    assert found.count("stick-table type ip size 100k expire 10s store conn_rate(1s)") == 1
    assert found.count("tcp-request connection track-sc0 src table clients") == 2
    assert found.count("tcp-request connection reject if { sc0_conn_rate(clients) gt 5 }") == 2


def test_udp_is_nothing_of_haproxys() -> None:
    assert not [line for line in written(protocol="udp") if line.startswith(("listen ", "bind ", "server "))]


@pytest.mark.parametrize(
    ("kind", "files", "expected"),
    [
        ("common", FILES, 10_000),
        ("premium", FILES, 100_000),
        ("common", 20_000, 9_899),
        ("premium", 20_000, 9_899),
        ("common", 100, 1),
    ],
)
def test_connections_are_the_types_or_what_the_files_allow(kind: str, files: int, expected: int) -> None:
    assert max_connections(Balancer(replace(RECORD, type=kind), (CONFIG,), (NODE, NODE)), files) == expected


def test_haproxy_accepts_all_of_it(tmp_path: Path) -> None:
    """Every value that a config or a node can have, in one NodeBalancer."""
    cert, key = certificate("www.example.com")
    bodies = [{"check": "http_body", "check_path": "/a?b=%20'\"#$", "check_body": text} for text in AWKWARD]
    wanted: list[dict[str, Any]] = [
        *({"algorithm": name} for name in ("roundrobin", "leastconn", "source")),
        *({"stickiness": name} for name in ("table", "http_cookie")),
        *({"protocol": "tcp", "proxy_protocol": name, "check": "connection"} for name in ("none", "v1", "v2")),
        *({"protocol": "tcp", "check": "http", "check_path": "/"} for _ in range(1)),
        *({"protocol": "https", "ssl_cert": cert, "ssl_key": key, "cipher_suite": name} for name in SUITES),
        {"check": "http", "check_path": "/"},
        *bodies,
    ]
    configs = tuple(replace(CONFIG, id=10 + n, port=80 + n, **change) for n, change in enumerate(wanted))
    modes = ("accept", "reject", "backup", "drain")
    nodes = tuple(
        replace(NODE, id=1000 + 10 * config.id + number, config_id=config.id, mode=mode)
        for config in configs
        for number, mode in enumerate(modes)
    )
    balancer = Balancer(replace(RECORD, client_conn_throttle=20), configs, nodes)
    files = Files(tmp_path, 1)
    files.states.write_text("1\n")
    for path, text in contents(balancer, files, FILES).items():
        path.write_text(text)
    said = subprocess.run(["haproxy", "-c", "-f", files.config], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "[WARNING]" not in said.stderr and "[ALERT]" not in said.stderr, said.stderr


AWKWARD = ["it works", "it's", 'say "hi"', "a # b", "$HOME ${HOME}", r"back\slash \n", "%[src] %{x}", "{ } ( )", "ü 語"]
SUITES = ("recommended", "legacy")


def test_what_haproxy_says_of_its_servers() -> None:
    rows = [
        ("100_a:1", "UP", "* L4OK"),
        ("101_a:2", "DOWN 1/2", "L4CON"),
        ("102_a:3", "UP 1/3", "INI"),
        ("103_a:4", "no check", ""),
        ("104_a:5", "DOWN", "L7STS"),
        ("105_::1:6", "DRAIN", "L7OK"),
    ]
    text = "\n".join(["# svname,status,check_status,", *(",".join([*row, ""]) for row in rows), ""])
    unknown = dict.fromkeys((102, 103), "Unknown")
    assert health(text) == {100: "UP", 101: "DOWN", 104: "DOWN", 105: "UP", **unknown}


def test_what_passed_makes_a_day_and_a_month() -> None:
    record = replace(RECORD, samples=[])
    for _ in range(290):
        note(record, Counts(600, 3000, 90_000), 300)
    assert (len(record.samples), record.samples[-1][1:]) == (288, [2.0, 80.0, 2400.0])
    assert (record.traffic_in, record.traffic_out) == (290 * 3000, 290 * 90_000)
    record.month = "2020-01"
    note(record, Counts(1, 2, 3), 300)
    assert (record.traffic_in, record.traffic_out) == (2, 3)
