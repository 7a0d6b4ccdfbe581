# SPDX-License-Identifier: GPL-3.0-or-later
"""The interfaces of a create request, in both of Linode's shapes, and the addresses they get.

Legacy: ``[{"purpose": "public"}, {"purpose": "vpc", "subnet_id": 1, "ipv4": {"vpc": "10.0.0.5", "nat_1_1": "any"}}]``.
New: ``[{"public": {}}, {"vpc": {"subnet_id": 1, "ipv4": {"addresses": [{"address": "auto"}]}}}]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING, Any

from lab.addresses import Exhausted, Pool
from lab.api.wire import ApiError, Problems
from lab.models import Interface, Json, Subnet, Vpc

if TYPE_CHECKING:
    from lab.api.app import Lab

LEGACY, LINODE = "legacy_config", "linode"
NO_VLANS = "VLANs are not available in this region"


@dataclass
class Wish:
    """One interface as asked for; no address means any."""

    purpose: str
    primary: bool
    subnet: Subnet | None = None
    address: str | None = None
    nat: bool = False
    firewall_id: Any = None


class Reader:
    """Reads the interfaces of one request and notes what is wrong with them."""

    def __init__(self, lab: Lab, region: str, problems: Problems) -> None:
        self._lab = lab
        self._region = region
        self._problems = problems

    def read(self, body: Json) -> tuple[str, list[Wish]]:
        """Return the interface generation and what is asked for."""
        generation = body.get("interface_generation") or LEGACY  # the account's default
        if generation not in (LEGACY, LINODE):
            self._problems.add("interface_generation", f"Must be one of {LEGACY}, {LINODE}")
            return LEGACY, []
        items = body.get("interfaces") or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            self._problems.add("interfaces", "Must be an array of objects")
            return generation, []
        read = self._legacy if generation == LEGACY else self._linode
        wishes = [wish for number, item in enumerate(items) if (wish := read(f"interfaces[{number}]", item))]
        for purpose in ("public", "vpc"):
            if sum(wish.purpose == purpose for wish in wishes) > 1:
                self._problems.add("interfaces", f"A Linode can have one {purpose} interface")
        if generation == LINODE:
            wishes = wishes or [Wish("public", primary=True)]
            if len(wishes) > 1 and any(wish.nat for wish in wishes):
                self._problems.add("interfaces", "A Linode of the lab has one public address: interface or 1:1 NAT")
        return generation, wishes

    def _legacy(self, name: str, item: Json) -> Wish | None:
        purpose = item.get("purpose")
        if purpose not in ("public", "vpc"):
            reason = "purpose is required" if purpose is None else "Must be one of public, vpc, vlan"
            self._problems.add(f"{name}.purpose", NO_VLANS if purpose == "vlan" else reason)
            return None
        wish = Wish(purpose, bool(item.get("primary", False)))
        if purpose == "vpc":
            ipv4 = self._object(item, "ipv4", name)
            if item.get("ip_ranges"):
                self._problems.add(f"{name}.ip_ranges", "An interface of the lab has no ranges")
            if ipv4.get("nat_1_1") not in (None, "any"):
                self._problems.add(f"{name}.ipv4.nat_1_1", "Must be any or null")
            wish.nat = ipv4.get("nat_1_1") == "any"
            self._place(wish, item.get("subnet_id"), f"{name}.subnet_id", ipv4.get("vpc"), f"{name}.ipv4.vpc")
        return wish

    def _linode(self, name: str, item: Json) -> Wish | None:
        kinds = [kind for kind in ("public", "vpc", "vlan") if item.get(kind) is not None]
        if len(kinds) != 1 or not isinstance(item[kinds[0]], dict):
            self._problems.add(name, "Must have one of public, vpc, vlan, an object")
            return None
        if kinds == ["vlan"]:
            self._problems.add(f"{name}.vlan", NO_VLANS)
            return None
        wish = Wish(kinds[0], primary=True, firewall_id=item.get("firewall_id"))
        inner = item[wish.purpose]
        ipv4 = self._object(inner, "ipv4", f"{name}.{wish.purpose}")
        addresses = ipv4.get("addresses") or [{}]
        single = isinstance(addresses, list) and len(addresses) == 1 and isinstance(addresses[0], dict)
        if not single or ipv4.get("ranges"):
            self._problems.add(f"{name}.{wish.purpose}.ipv4", "An interface of the lab has one address and no ranges")
            return None
        address, where = addresses[0], f"{name}.{wish.purpose}.ipv4.addresses[0]"
        wanted, nat = address.get("address"), address.get("nat_1_1_address")
        if wish.purpose == "vpc":
            if nat not in (None, "auto"):
                self._problems.add(f"{where}.nat_1_1_address", "Must be auto or null")
            wish.nat = nat == "auto"
            self._place(wish, inner.get("subnet_id"), f"{name}.vpc.subnet_id", wanted, f"{where}.address")
        elif wanted not in (None, "auto"):
            self._problems.add(f"{where}.address", "Must be auto")
        return wish

    def _object(self, item: Json, key: str, name: str) -> Json:
        value = item.get(key) or {}
        if not isinstance(value, dict):
            self._problems.add(f"{name}.{key}", "Must be an object")
            return {}
        return value

    def _place(self, wish: Wish, subnet_id: Any, subnet_name: str, address: Any, address_name: str) -> None:
        """Find the subnet and check the address in it."""
        wish.subnet = self._lab.store.get(Subnet, subnet_id) if isinstance(subnet_id, int) else None
        if wish.subnet is None:
            reason = "subnet_id is required" if subnet_id is None else "A Subnet by that ID was not found"
            self._problems.add(subnet_name, reason)
            return
        vpc = self._lab.store.get(Vpc, wish.subnet.vpc_id)
        if vpc and self._region and vpc.region != self._region:
            self._problems.add(subnet_name, f"VPC {vpc.label} is in region {vpc.region}, the Linode in {self._region}")
        if address in (None, "auto"):
            return
        pool = self._lab.addresses.subnets[wish.subnet.id]
        try:
            wish.address = str(IPv4Address(address))
        except (AddressValueError, TypeError):
            self._problems.add(address_name, "Must be an IPv4 address")
            return
        if not pool.allows(wish.address):
            reason = f"{wish.address} is not in {wish.subnet.ipv4}, or one of its first two or last two addresses"
            self._problems.add(address_name, reason)
        elif not pool.is_free(wish.address):
            self._problems.add(address_name, f"{wish.address} is already in use in subnet {wish.subnet.label}")


def allocate(lab: Lab, generation: str, wishes: list[Wish], private: bool) -> tuple[list[Interface], list[str]]:
    """Take the addresses; return the interfaces and the listed addresses. Raises ApiError 400 when a pool is empty."""
    with _taking() as take:
        listed: list[str] = []
        if generation == LEGACY:  # has a public address even where no interface does
            listed.append(take(lab.addresses.public))
        interfaces = []
        for wish in wishes:
            interface = Interface(lab.store.next_id(), wish.purpose, wish.primary)
            if wish.subnet:
                interface.vpc_id, interface.subnet_id = wish.subnet.vpc_id, wish.subnet.id
                interface.address = take(lab.addresses.subnets[wish.subnet.id], wish.address)
            if wish.nat or wish.purpose == "public":
                if generation == LINODE:
                    listed.append(take(lab.addresses.public))
                interface.nat_1_1 = listed[-1] if wish.nat else None
                interface.address = interface.address or listed[-1]
            interfaces.append(interface)
        if private:
            listed.append(take(lab.addresses.private))
    return interfaces, listed


class _Taking:
    def __init__(self) -> None:
        self.taken: list[tuple[Pool, str]] = []

    def __call__(self, pool: Pool, wanted: str | None = None) -> str:
        if wanted:
            pool.reserve(wanted)
        self.taken.append((pool, wanted or pool.take()))
        return self.taken[-1][1]


@contextmanager
def _taking() -> Iterator[_Taking]:
    """Give all back when one cannot be had."""
    take = _Taking()
    try:
        yield take
    except Exhausted:
        for pool, address in take.taken:
            pool.release(address)
        raise ApiError(400, (None, "No free IPv4 address is left for this Linode")) from None
