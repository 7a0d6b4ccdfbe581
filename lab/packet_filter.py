# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud Firewalls on the wire: nftables in the routers, outside the hosts, where no host can change them.

Data: the account's instances, subnets, firewalls and devices -> for each router, the firewall of each port -> the
router's ruleset. Flow: a change, or a host's boot -> ``apply`` -> Hosts.filter -> the routers.

A packet finds the rules of its two ports by one look-up each, so that its cost does not grow with the number of hosts.
It has to pass the outbound rules of the host it leaves, then the inbound rules of the host it is for. What belongs to a
connection that was let through once, replies above all, passes without another look. Linode's firewalls are stateful
too; what a change of rules does to open connections it does not say: here they go on.
What no firewall concerns is not tracked. The lab's hosts have no IPv6: rules for it are kept, and match nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, collapse_addresses

from lab import network
from lab.hosts import Hosts
from lab.models import Firewall, FirewallDevice, Instance, Json, Subnet
from lab.store import Store

METADATA = "169.254.169.254"  # the platform's own, no peer on the network
ANYWHERE = IPv4Network("0.0.0.0/0")
PROTOCOLS = {"TCP": "tcp", "6": "tcp", "UDP": "udp", "17": "udp", "ICMP": "icmp", "IPENCAP": "4"}
VERDICTS = {"ACCEPT": "return", "DROP": "drop"}  # accepted by one host, a packet still has to pass the other's


async def apply(store: Store, hosts: Hosts) -> None:
    """Let the routers filter as the account's records say. Raises CommandError."""
    records = store.all(Instance), store.all(Subnet), store.all(Firewall), store.all(FirewallDevice)
    await hosts.filter(rulesets(*records))


def rulesets(
    instances: Iterable[Instance],
    subnets: Iterable[Subnet],
    firewalls: Iterable[Firewall],
    devices: Iterable[FirewallDevice],
) -> dict[str, str]:
    """Return the ruleset, as nftables text, of each router that has to filter."""
    linodes = {instance.id: instance for instance in instances}
    vpcs = {subnet.id: subnet.vpc_id for subnet in subnets}
    enabled = {firewall.id: firewall for firewall in firewalls if firewall.status == "enabled"}
    routers: dict[str, dict[str, Firewall]] = {}
    for device in devices:
        if device.firewall_id not in enabled:
            continue
        if device.type == "nodebalancer":
            routers.setdefault(network.ROUTER, {})[network.balancer_port(device.entity_id)] = enabled[
                device.firewall_id
            ]
        elif device.linode_id in linodes:
            for router, port in _ports(device, linodes[device.linode_id], vpcs):
                routers.setdefault(router, {})[port] = enabled[device.firewall_id]
    return {router: ruleset(ports) for router, ports in routers.items()}


def _ports(device: FirewallDevice, linode: Instance, vpcs: Mapping[int, int]) -> Iterator[tuple[str, str]]:
    """Yield (router, port) of what a device covers: all of a Linode but its VLANs, or one interface."""
    covered = [item for item in linode.interfaces if device.type == "linode" or item.id == device.entity_id]
    # with no public interface, the public address is a VPC interface's, by 1:1 NAT
    if device.type == "linode" or "public" in {item.purpose for item in covered} or not _has_public(linode):
        yield network.ROUTER, network.public_port(linode.id)
    for item in covered:
        if item.purpose == "vpc" and item.subnet_id and item.subnet_id in vpcs:
            yield network.vpc_namespace(vpcs[item.subnet_id]), network.vpc_port(linode.id, item.subnet_id)


def _has_public(linode: Instance) -> bool:
    return any(item.purpose == "public" for item in linode.interfaces)


def ruleset(ports: Mapping[str, Firewall]) -> str:
    """Return the ruleset of a router, given the firewall of each of its filtered ports; it replaces the one before."""
    names = ", ".join(f'"{port}"' for port in ports)
    chains = [_chains(firewall) for firewall in {firewall.id: firewall for firewall in ports.values()}.values()]
    return f"""\
table ip {network.FIREWALL_TABLE}
delete table ip {network.FIREWALL_TABLE}
table ip {network.FIREWALL_TABLE} {{
{"".join(chains)}\
  map outbound {{ type ifname : verdict;{_jumps(ports, "outbound")} }}
  map inbound {{ type ifname : verdict;{_jumps(ports, "inbound")} }}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    iifname {{ {names} }} return
    fib daddr oifname {{ {names} }} return
    notrack
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ct state established,related,untracked accept
    ip daddr {METADATA} accept
    iifname vmap @outbound
    oifname vmap @inbound
  }}
}}
"""


def _jumps(ports: Mapping[str, Firewall], direction: str) -> str:
    """Return a map's elements; what a NodeBalancer sends is not filtered, as it has inbound rules only."""
    filtered = {port: item for port, item in ports.items() if direction == "inbound" or not port.startswith("n")}
    jumps = ", ".join(f'"{port}" : jump {direction}_{firewall.id}' for port, firewall in filtered.items())
    return f" elements = {{ {jumps} }}" if jumps else ""


def _chains(firewall: Firewall) -> str:
    """Return a firewall's two chains, the same for all ports it is on."""
    text = ""
    for direction, peer in (("inbound", "saddr"), ("outbound", "daddr")):
        lines = [_rule(rule, peer) for rule in firewall.rules[direction]]
        lines.append(VERDICTS[firewall.rules[f"{direction}_policy"]])
        body = "".join(f"    {line}\n" for line in lines if line)
        text += f"  chain {direction}_{firewall.id} {{\n{body}  }}\n"
    return text


def _rule(rule: Json, peer: str) -> str:
    """Return one rule as nftables has it; empty when it can match no IPv4 packet. The first that matches decides."""
    addresses = rule["addresses"].get("ipv4", [])
    networks = list(collapse_addresses(IPv4Network(text, strict=False) for text in addresses))
    if not networks:
        return ""
    parts = [] if networks == [ANYWHERE] else [f"ip {peer} {{ {', '.join(map(str, networks))} }}"]
    protocol = PROTOCOLS.get(rule["protocol"], rule["protocol"])
    if rule.get("ports"):
        parts.append(f"{protocol} dport {{ {', '.join(_port_ranges(rule['ports']))} }}")
    elif protocol != "ALL":
        parts.append(f"meta l4proto {protocol}")
    return " ".join([*parts, VERDICTS[rule["action"]]])


def _port_ranges(ports: str) -> list[str]:
    """Return ``22, 80-90`` as ranges that do not overlap, which is how nftables wants them."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(_port_range(piece) for piece in ports.split(",")):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return [f"{first}-{last}" if first != last else str(first) for first, last in merged]


def _port_range(piece: str) -> tuple[int, int]:
    """Return the first and the last port of ``80`` or ``80-90``."""
    first, _, last = piece.strip().partition("-")
    return int(first), int(last or first)
