# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses as the API shows them: whose each one is, its name, and those that follow from an id.

Data: the Linodes' lists of addresses, and an Address for each that is more than that. Flow: the store -> Known -> rows.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from lab import journal
from lab.models import Address, Instance, Json, NodeBalancer
from lab.network import PRIVATE

if TYPE_CHECKING:
    from lab.store import Store

IPV6_PREFIX, LINK_LOCAL = "2001:db8:c50:0:f03c::", "fe80::f03c:0:0:0"  # listed only: the lab's hosts have no IPv6


class Known:
    """Who has which of the account's addresses, and what is kept of them; looked up once for a request."""

    def __init__(self, store: Store) -> None:
        self.owners = {address: instance for instance in store.all(Instance) for address in instance.ipv4}
        self.records = {item.address: item for item in store.all(Address)}
        self.balancers = {balancer.ipv4: balancer for balancer in store.all(NodeBalancer)}
        # what has an address, as events name it
        self.entities = {address: journal.linode(instance) for address, instance in self.owners.items()}
        self.entities |= {address: journal.nodebalancer(balancer) for address, balancer in self.balancers.items()}

    @property
    def public(self) -> list[str]:
        """The account's public addresses: of Linodes, of NodeBalancers, then the reserved ones that are free."""
        used = (address for address in self.owners if IPv4Address(address) not in PRIVATE)
        return list(
            dict.fromkeys((*used, *self.balancers, *(item.address for item in self.records.values() if item.reserved)))
        )

    def is_free(self, address: str, region: str) -> bool:
        """Tell whether an address is reserved in a region, and nothing has it."""
        record = self.records.get(address)
        return record is not None and record.reserved and record.region == region and address not in self.entities

    def row(self, address: str) -> Json:
        """Return an IPv4 address as the API shows it."""
        owner, record = self.owners.get(address), self.records.get(address)
        place = owner or self.balancers.get(address) or record
        return {
            **_row(address, owner, record),
            "region": place.region if place else None,
            "assigned_entity": self.entities.get(address) if record and record.reserved else None,
        }


def _row(address: str, owner: Instance | None, record: Address | None) -> Json:
    """Return an IPv4 address as the API shows it, but for where and whose it is."""
    public = IPv4Address(address) not in PRIVATE
    network = IPv4Interface(f"{address}/{24 if public else PRIVATE.prefixlen}").network
    reserved = record is not None and record.reserved
    interfaces = owner.linode_interfaces if owner else []
    return {
        "address": address,
        "gateway": str(network[1]) if public else None,
        "subnet_mask": str(network.netmask),
        "prefix": network.prefixlen,
        "type": "ipv4",
        "public": public,
        "rdns": (record.rdns if record and record.rdns else default_name(address)) if public else None,
        "linode_id": owner.id if owner else None,
        "interface_id": next((item.id for item in interfaces if address in (item.nat_1_1, *item.addresses)), None),
        "vpc_nat_1_1": _nat(owner, address),
        "reserved": reserved,
        "tags": record.tags if record else [],
    }


def ipv6_row(instance: Instance, address: str) -> Json:
    """Return one of a Linode's own IPv6 addresses as the API shows it."""
    return {
        "address": address,
        "gateway": "fe80::1",
        "subnet_mask": "ffff:ffff:ffff:ffff::",
        "prefix": 64,
        "type": "ipv6",
        "public": address != link_local(instance),
        "rdns": None,
        "linode_id": instance.id,
        "region": instance.region,
    }


def default_name(address: str) -> str:
    """Return the name that an address has by itself."""
    return f"{address.replace('.', '-')}.ip.linodeusercontent.com"


def slaac(instance: Instance) -> str:
    """Return a Linode's public IPv6 address."""
    return _numbered(IPV6_PREFIX, instance.id)


def link_local(instance: Instance) -> str:
    return _numbered(LINK_LOCAL, instance.id)


def mac_address(interface_id: int) -> str:
    """Return an interface's MAC address; it never changes."""
    return ":".join(f"{byte:02X}" for byte in _mac(interface_id))


def eui64(network: IPv6Network, interface_id: int) -> IPv6Address:
    """Return the address that an interface gives itself in a /64."""
    mac = _mac(interface_id)
    host = bytes((mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, *mac[3:]))
    return IPv6Address(int(network[0]) + int.from_bytes(host, "big"))


def _mac(interface_id: int) -> bytes:
    return b"\x22\x00" + interface_id.to_bytes(4, "big")


def _numbered(prefix: str, number: int) -> str:
    return str(IPv6Address(int(IPv6Address(prefix)) + number))


def _nat(owner: Instance | None, address: str) -> Json | None:
    for _, item in owner.all_interfaces if owner else ():
        if item.nat_1_1 == address:
            return {"address": item.address, "subnet_id": item.subnet_id, "vpc_id": item.vpc_id}
    return None
