# SPDX-License-Identifier: GPL-3.0-or-later
"""From records to the rulesets of the routers; `test_firewall_packets.py` sends packets through them."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
from records import linode

from lab.api.firewall_rules import version
from lab.models import Firewall, FirewallDevice, Instance, Interface, Json, Subnet
from lab.packet_filter import ruleset, rulesets

SUBNETS = [Subnet(60, 50, "main", "10.0.0.0/24"), Subnet(61, 51, "other", "10.1.0.0/24")]


def firewall(number: int = 100, status: str = "enabled", **rules: Any) -> Firewall:
    whole = {"inbound": [], "inbound_policy": "DROP", "outbound": [], "outbound_policy": "ACCEPT", **rules}
    return Firewall(number, f"firewall-{number}", [version(whole, 1)], status)


def rule(protocol: str = "TCP", ports: str | None = None, action: str = "ACCEPT", **addresses: list[str]) -> Json:
    found = {"action": action, "protocol": protocol, "addresses": addresses or {"ipv4": ["0.0.0.0/0"]}}
    return {**found, "ports": ports} if ports else found


def public(number: int) -> Interface:
    return Interface(number, "public")


def vpc(number: int, subnet_id: int = 60) -> Interface:
    return Interface(number, "vpc", subnet_id=subnet_id)


def covered(host: Instance, device: FirewallDevice) -> dict[str, list[str]]:
    """Return the ports of each router that a device covers."""
    found = rulesets([host], SUBNETS, [firewall()], [device])
    ports = {router: text.split("iifname { ")[1].split(" }")[0] for router, text in found.items()}
    return {router: names.replace('"', "").split(", ") for router, names in ports.items()}


def chain(direction: str, *rules: Json) -> list[str]:
    """Return the lines of a firewall's chain that has such rules, the policy last."""
    text = ruleset({"h1": firewall(**{direction: list(rules)})})
    return [line.strip() for line in text.split(f"chain {direction}_100 {{\n")[1].split("  }\n")[0].splitlines()]


def test_a_whole_ruleset() -> None:
    rules = [rule(ports="22", ipv4=["192.0.2.0/24", "198.51.100.9/32"]), rule("ICMP")]
    web = firewall(100, inbound=rules)
    shut = firewall(101, outbound=[rule("UDP", "53")], outbound_policy="DROP")
    assert (
        ruleset({"h1": web, "h2": shut, "h3": web})
        == """\
table ip cloud_firewall
delete table ip cloud_firewall
table ip cloud_firewall {
  chain inbound_100 {
    ip saddr { 192.0.2.0/24, 198.51.100.9/32 } tcp dport { 22 } return
    meta l4proto icmp return
    drop
  }
  chain outbound_100 {
    return
  }
  chain inbound_101 {
    drop
  }
  chain outbound_101 {
    udp dport { 53 } return
    drop
  }
  map outbound { type ifname : verdict; elements = { \
"h1" : jump outbound_100, "h2" : jump outbound_101, "h3" : jump outbound_100 } }
  map inbound { type ifname : verdict; elements = { \
"h1" : jump inbound_100, "h2" : jump inbound_101, "h3" : jump inbound_100 } }
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname { "h1", "h2", "h3" } return
    fib daddr oifname { "h1", "h2", "h3" } return
    notrack
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,related,untracked accept
    ip daddr 169.254.169.254 accept
    iifname vmap @outbound
    oifname vmap @inbound
  }
}
"""
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (rule(), "meta l4proto tcp return"),
        (rule(action="DROP"), "meta l4proto tcp drop"),
        (rule("UDP", "53"), "udp dport { 53 } return"),
        (rule("ICMP"), "meta l4proto icmp return"),
        (rule("IPENCAP"), "meta l4proto 4 return"),
        (rule("50"), "meta l4proto 50 return"),
        (rule("6", "443"), "tcp dport { 443 } return"),
        (rule("ALL"), "return"),
        (rule("ALL", ipv4=["10.0.0.0/8"], action="DROP"), "ip saddr { 10.0.0.0/8 } drop"),
        (rule(ports="22, 80-90,443"), "tcp dport { 22, 80-90, 443 } return"),
        (rule(ports="100-200,22, 150-300, 301,23"), "tcp dport { 22-23, 100-301 } return"),
        (rule(ports="22", ipv4=["192.0.2.1/24"]), "ip saddr { 192.0.2.0/24 } tcp dport { 22 } return"),
        (rule(ipv4=["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"]), "meta l4proto tcp return"),
        (rule(ipv4=["10.1.0.0/16", "10.0.0.0/8"]), "ip saddr { 10.0.0.0/8 } meta l4proto tcp return"),
        (rule(ipv4=["192.0.2.7/32"], ipv6=["::/0"]), "ip saddr { 192.0.2.7/32 } meta l4proto tcp return"),
    ],
)
def test_a_rule(given: Json, line: str) -> None:
    assert chain("inbound", given) == [line, "drop"]
    assert chain("outbound", given) == [line.replace("saddr", "daddr"), "return"]


def test_a_rule_for_ipv6_alone_matches_nothing_here() -> None:
    assert chain("inbound", rule(ipv6=["::/0"]), rule("ICMP")) == ["meta l4proto icmp return", "drop"]


def test_what_a_linodes_firewall_covers() -> None:
    host = linode(1, public(10), vpc(11), Interface(12, "vlan", False))
    device = FirewallDevice(500, 100, "linode", 1, 1)
    assert covered(host, device) == {"c50k-router": ["h1"], "c50k-vpc-50": ["h1s60"]}
    assert covered(linode(1), device) == {"c50k-router": ["h1"]}


def test_what_an_interfaces_firewall_covers() -> None:
    host = linode(1, public(10), vpc(11), vpc(12, 61), generation="linode")

    def on(interface_id: int) -> FirewallDevice:
        return FirewallDevice(500, 100, "linode_interface", interface_id, 1)

    assert covered(host, on(10)) == {"c50k-router": ["h1"]}
    assert covered(host, on(11)) == {"c50k-vpc-50": ["h1s60"]}
    assert covered(host, on(12)) == {"c50k-vpc-51": ["h1s61"]}
    nat = linode(1, vpc(11), generation="linode")
    assert covered(nat, on(11)) == {"c50k-router": ["h1"], "c50k-vpc-50": ["h1s60"]}


def test_what_does_not_filter() -> None:
    host, device = linode(1), FirewallDevice(500, 100, "linode", 1, 1)
    assert rulesets([host], [], [firewall(status="disabled")], [device]) == {}
    assert rulesets([host], [], [firewall()], []) == {}
    assert rulesets([], [], [firewall()], [device]) == {}


def test_a_ruleset_has_the_rules_of_a_firewall_once_however_many_hosts_it_is_on() -> None:
    hosts = [linode(number) for number in range(1, 1001)]
    devices = [FirewallDevice(5000 + host.id, 100, "linode", host.id, host.id) for host in hosts]
    few, many = (rulesets(hosts, [], [firewall()], devices[:count])["c50k-router"] for count in (1, 1000))
    assert len(many.splitlines()) == len(few.splitlines())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may ask nft to check rules")
def test_nft_takes_the_largest_firewall() -> None:
    addresses = [f"10.{number}.{number}.0/24" for number in range(255)]
    ports = ", ".join(f"{number}-{number + 1}" for number in range(1000, 1070, 10)) + ", 7"
    every = [rule(ports=ports, ipv4=addresses) for _ in range(12)]
    texts = rulesets(
        [linode(number) for number in range(1, 1001)],
        [],
        [firewall(inbound=every, outbound=every)],
        [FirewallDevice(5000 + number, 100, "linode", number, number) for number in range(1, 1001)],
    )
    done = subprocess.run(["nft", "-c", "-f", "-"], input=texts["c50k-router"], text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_nodebalancers_firewall_looks_at_what_comes_in() -> None:
    device = FirewallDevice(500, 100, "nodebalancer", 7, 0)
    rules = rulesets([], [], [firewall()], [device])["c50k-router"]
    assert 'map inbound { type ifname : verdict; elements = { "n7" : jump inbound_100 } }' in rules
    assert "map outbound { type ifname : verdict; }" in rules
    check = subprocess.run(["nft", "-c", "-f", "-"], input=rules, text=True, capture_output=True, check=False)
    assert check.returncode == 0, check.stderr
