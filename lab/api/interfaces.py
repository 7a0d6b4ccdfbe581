# SPDX-License-Identifier: GPL-3.0-or-later
"""The interfaces that a request asks for, in both of Linode's shapes.

Legacy: ``[{"purpose": "public"}, {"purpose": "vpc", "subnet_id": 1, "ipv4": {"vpc": "10.0.0.5", "nat_1_1": "any"}}]``.
New: ``[{"public": {}}, {"vpc": {"subnet_id": 1, "ipv4": {"addresses": [{"address": "auto"}]}}}]``.
Flow: a request -> Reader -> Wish -> lab/api/wiring.py, which takes the addresses -> Interface.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

from lab.api.wire import Problems
from lab.models import Address, Instance, Interface, Json, Subnet, Vpc

if TYPE_CHECKING:
    from lab.api.app import Lab

LEGACY, LINODE = "legacy_config", "linode"
NO_VLANS = "VLANs are not available in this region"
MOST = 3  # interfaces of a Linode, or of a configuration profile
KINDS = ("public", "vpc", "vlan")
VLAN_LABEL = re.compile(r"(?!.*--)[A-Za-z0-9-]{1,64}")
PREFIX = re.compile(r"/(\d{1,3})")


@dataclass
class Wish:
    """One interface as asked for. An address of None, and a range such as "/28", is any; ``nat`` may be "auto"."""

    purpose: str
    primary: bool = False  # legacy
    default_route: dict[str, bool] = field(default_factory=dict)
    subnet: Subnet | None = None
    addresses: list[str | None] = field(default_factory=list)
    main: int = 0  # which of the addresses is the primary one
    nat: str | None = None
    ranges: list[str] = field(default_factory=list)
    ipv6_slaac: str | None = None
    ipv6_ranges: list[str] | None = None  # None says nothing of them
    ipv6_public: bool = False
    vlan_label: str = ""
    ipam_address: str | None = None
    firewall_id: Any = None  # as given


class Reader:
    """Reads interfaces of one request and notes what is wrong with them.

    ``instance`` is the Linode that they are for, if it exists; ``replaced`` are its interfaces that make way for them.
    """

    def __init__(
        self,
        lab: Lab,
        region: str,
        problems: Problems,
        instance: Instance | None = None,
        replaced: tuple[Interface, ...] = (),
    ) -> None:
        self._lab = lab
        self._region = region
        self._problems = problems
        self._instance = instance
        self._replaced = replaced
        self._named: list[IPv4Network] = []  # what the request has named so far

    def read(self, body: Json, default: str, only: bool) -> tuple[str, list[Wish]]:
        """Return the interface generation, which is ``default`` where none is named, and what is asked for."""
        generation = body.get("interface_generation") or default
        if generation not in (LEGACY, LINODE):
            self._problems.add("interface_generation", f"Must be one of {LEGACY}, {LINODE}")
            return LEGACY, []
        if only and generation != default:
            self._problems.add("interface_generation", f"Only {default} is allowed on this account")
        return generation, self.read_all(body.get("interfaces"), generation)

    def read_all(self, items: Any, generation: str) -> list[Wish]:
        """Return the interfaces of an array of a generation."""
        items = items or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            self._problems.add("interfaces", "Must be an array of objects")
            return []
        read = self.legacy if generation == LEGACY else self.linode
        wishes = [wish for number, item in enumerate(items) if (wish := read(item, f"interfaces[{number}]"))]
        self.check_together([(wish.purpose, wish.vlan_label) for wish in wishes], "interfaces")
        return wishes

    def check_together(self, interfaces: list[tuple[str, str]], name: str) -> None:
        """Note what is wrong with so many interfaces, each a purpose and a VLAN's label, of one Linode or profile."""
        purposes = [purpose for purpose, _ in interfaces]
        for purpose in ("public", "vpc"):
            if purposes.count(purpose) > 1:
                self._problems.add(name, f"A Linode can have one {purpose} interface")
        vlans = [label for purpose, label in interfaces if purpose == "vlan"]
        if len(set(vlans)) < len(vlans):
            self._problems.add(name, "A Linode can be attached to a VLAN once")
        if len(interfaces) > MOST:
            self._problems.add(name, f"A Linode can have {MOST} interfaces")

    def legacy(self, item: Json, name: str) -> Wish | None:
        """Return one interface of a configuration profile."""
        purpose = item.get("purpose")
        if purpose not in KINDS:
            reason = "purpose is required" if purpose is None else "Must be one of public, vpc, vlan"
            self._problems.add(_within(name, "purpose"), reason)
            return None
        wish = Wish(purpose, primary=bool(item.get("primary", False)))
        if purpose == "vlan":
            self._vlan(wish, item, name, "label", _within(name, "purpose"))
        if purpose == "vpc":
            ipv4 = self._object(item, "ipv4", name)
            self._place(wish, item.get("subnet_id"), _within(name, "subnet_id"))
            self._vpc_address(wish, ipv4.get("vpc") or "auto", _within(name, "ipv4.vpc"))
            nat = ipv4.get("nat_1_1")
            self._nat(wish, "auto" if nat == "any" else nat, "any", _within(name, "ipv4.nat_1_1"))
            self._ranges(wish, item.get("ip_ranges"), _within(name, "ip_ranges"))
            self._ipv6(wish, self._object(item, "ipv6", name), _within(name, "ipv6"))
        return wish

    def linode(self, item: Json, name: str) -> Wish | None:
        """Return one interface of the new generation."""
        kinds = [kind for kind in KINDS if item.get(kind) is not None]
        if len(kinds) != 1 or not isinstance(item[kinds[0]], dict):
            self._problems.add(name or "vpc", "Must have one of public, vpc, vlan, an object")
            return None
        (kind,) = kinds
        inner, where = item[kind], _within(name, kind)
        route = self._object(item, "default_route", name)
        wish = Wish(
            kind,
            default_route={family: route[family] is True for family in ("ipv4", "ipv6") if family in route},
            firewall_id=item.get("firewall_id"),
        )
        if kind == "vlan":
            self._vlan(wish, inner, where, "vlan_label", where)
            return wish
        ipv4 = self._object(inner, "ipv4", where)
        if kind == "vpc":
            self._place(wish, inner.get("subnet_id"), f"{where}.subnet_id")
        given = ipv4.get("addresses", [{}]) or ([{}] if kind == "vpc" else [])
        for number, (address, entry) in enumerate(self._objects(given, f"{where}.ipv4.addresses", "address")):
            if kind == "vpc":
                self._vpc_address(wish, entry.get("address", "auto"), f"{address}.address")
                self._nat(wish, entry.get("nat_1_1_address"), "auto", f"{address}.nat_1_1_address")
            else:
                self._public_address(wish, entry.get("address", "auto"), f"{address}.address")
            wish.main = number if entry.get("primary") else wish.main
        ipv6 = self._object(inner, "ipv6", where)
        if kind == "vpc":
            ranges = [entry.get("range") for _, entry in self._objects(ipv4.get("ranges"), f"{where}.ipv4.ranges")]
            self._ranges(wish, ranges, f"{where}.ipv4.ranges")
            self._ipv6(wish, ipv6, f"{where}.ipv6")
        elif "ranges" in ipv6:
            wish.ipv6_ranges = self._public_ranges(ipv6["ranges"], f"{where}.ipv6.ranges")
        return wish

    def _vlan(self, wish: Wish, item: Json, name: str, label: str, kind_name: str) -> None:
        if not self._offers("Vlans"):
            self._problems.add(kind_name, NO_VLANS)
            return
        wish.vlan_label = item.get(label) or ""
        if not isinstance(wish.vlan_label, str) or not VLAN_LABEL.fullmatch(wish.vlan_label):
            words = "Must be 1-64 ASCII letters, numbers and dashes, no two dashes in a row"
            self._problems.add(_within(name, label), words if wish.vlan_label else f"{label} is required")
        wish.ipam_address = item.get("ipam_address") or None
        if wish.ipam_address is not None and not _parses(IPv4Interface, wish.ipam_address):
            self._problems.add(_within(name, "ipam_address"), "Must be an IPv4 address with a prefix, as 10.0.0.1/24")

    def _place(self, wish: Wish, subnet_id: Any, name: str) -> None:
        """Find the subnet; an interface that has one stays there."""
        wish.subnet = self._lab.store.get(Subnet, subnet_id) if isinstance(subnet_id, int) else None
        if wish.subnet is None:
            reason = "subnet_id is required" if subnet_id is None else "A Subnet by that ID was not found"
            self._problems.add(name, reason)
            return
        vpc = self._lab.store.get(Vpc, wish.subnet.vpc_id)
        if vpc and self._region and vpc.region != self._region:
            self._problems.add(name, f"VPC {vpc.label} is in region {vpc.region}, the Linode in {self._region}")
        if vpc and vpc.vpc_type != "regular":
            self._problems.add(name, f"VPC {vpc.label} is for RDMA interfaces, which this region does not have")

    def _vpc_address(self, wish: Wish, address: Any, name: str) -> None:
        wish.addresses.append(None)
        if address == "auto" or wish.subnet is None:
            return
        found = self._ipv4(address, name)
        if found and self._free(wish.subnet, found, name) and self._once(found, name):
            wish.addresses[-1] = found

    def _public_address(self, wish: Wish, address: Any, name: str) -> None:
        wish.addresses.append(None)
        found = self._ipv4(address, name) if address != "auto" else None
        if found and self.owns(found, name) and self._once(found, name):
            wish.addresses[-1] = found

    def _nat(self, wish: Wish, nat: Any, any_word: str, name: str) -> None:
        if nat in (None, ""):
            return
        if nat == "auto":
            wish.nat = "auto"
        elif isinstance(nat, str) and _parses(IPv4Address, nat):
            wish.nat = nat if self.owns(nat, name) else None
        else:
            self._problems.add(name, f"Must be {any_word} or null, or a public address of the Linode")

    def _ranges(self, wish: Wish, items: Any, name: str) -> None:
        """Read IPv4 ranges: CIDRs of the subnet, or prefix lengths."""
        if not isinstance(items or [], list):
            self._problems.add(name, "Must be an array")
            return
        for number, item in enumerate(items or []):
            where = f"{name}[{number}]"
            if isinstance(item, str) and PREFIX.fullmatch(item) and 1 <= int(item[1:]) <= 32:
                wish.ranges.append(item)
            elif not isinstance(item, str) or "/" not in item or not _parses(IPv4Network, item):
                self._problems.add(where, "Must be an IPv4 network, or a prefix length as /28")
            elif wish.subnet and self._free_range(wish.subnet, item, where) and self._once(item, where):
                wish.ranges.append(item)

    def _ipv6(self, wish: Wish, item: Json, name: str) -> None:
        """Read the IPv6 part of a VPC interface: the addresses themselves come from the subnet."""
        if not item:
            return
        if wish.subnet and not wish.subnet.ipv6:
            given = bool(item.get("slaac") or item.get("ranges"))
            if given:
                self._problems.add(name, f"Subnet {wish.subnet.label} has no IPv6")
            return
        wish.ipv6_public = item.get("is_public") is True
        for key in ("slaac", "ranges"):
            for where, entry in self._objects(item.get(key), f"{name}.{key}"):
                text = entry.get("range") or "auto"
                if text != "auto" and not PREFIX.fullmatch(str(text)) and not _parses(IPv6Network, text):
                    self._problems.add(f"{where}.range", "Must be an IPv6 network")
                elif key == "slaac":
                    wish.ipv6_slaac = text
                else:
                    wish.ipv6_ranges = [*(wish.ipv6_ranges or []), text]

    def _public_ranges(self, items: Any, name: str) -> list[str]:
        """Read the IPv6 ranges of a public interface: CIDRs that the Linode has, or prefix lengths."""
        if items and self._lab.settings.hosts:
            self._problems.add(name, "IPv6 ranges are not available in this region")
            return []
        found = []
        for where, entry in self._objects(items, name):
            text = entry.get("range")
            if text in ("/56", "/64") or _parses(IPv6Network, text):
                found.append(str(text))
            else:
                self._problems.add(f"{where}.range", "Must be an IPv6 network, or /56 or /64")
        return found

    def _ipv4(self, address: Any, name: str) -> str | None:
        if not isinstance(address, str) or not _parses(IPv4Address, address):
            self._problems.add(name, "Must be an IPv4 address")
            return None
        return str(IPv4Address(address))

    def _free(self, subnet: Subnet, address: str, name: str) -> bool:
        """Tell whether an address can be had; what the replaced interfaces have in the subnet can."""
        pool = self._lab.addresses.subnets[subnet.id]
        own = any(_has(item, subnet.id, address) for item in self._replaced)
        if not pool.allows(address):
            self._problems.add(
                name, f"{address} is not in {subnet.ipv4}, or one of its first two or last two addresses"
            )
        elif not own and not pool.is_free(address):
            self._problems.add(name, f"{address} is already in use in subnet {subnet.label}")
        else:
            return True
        return False

    def _free_range(self, subnet: Subnet, cidr: str, name: str) -> bool:
        pool, network = self._lab.addresses.subnets[subnet.id], IPv4Network(cidr)
        ends = [str(network[0]), str(network[-1]), *pool.taken(cidr)]
        return all(self._free(subnet, address, name) for address in dict.fromkeys(ends))

    def _once(self, cidr: str, name: str) -> bool:
        """Tell whether an address or range is the first of its kind in the request."""
        network = IPv4Network(cidr)
        if any(network.overlaps(other) for other in self._named):
            self._problems.add(name, f"{cidr} is there twice")
            return False
        self._named.append(network)
        return True

    def owns(self, address: str, name: str) -> bool:
        """Tell whether a public address may be put on the Linode's interface: its own, or reserved and free."""
        if self._instance and address in self._instance.public_ipv4:
            others = [item for item in self._instance.linode_interfaces if item not in self._replaced]
            if any(address in (item.nat_1_1, *item.addresses) for item in others):
                self._problems.add(name, f"{address} is on another interface of the Linode")
                return False
            return True
        held = {listed for other in self._lab.store.all(Instance) for listed in other.ipv4}
        for item in self._lab.store.all(Address):
            if item.address == address and item.reserved and item.region == self._region and address not in held:
                return True
        self._problems.add(name, f"{address} is neither the Linode's nor a free reserved address of its region")
        return False

    def _offers(self, capability: str) -> bool:
        return capability in self._lab.regions.get(self._region, {}).get("capabilities", ())

    def _object(self, item: Json, key: str, name: str) -> Json:
        value = item.get(key) or {}
        if not isinstance(value, dict):
            self._problems.add(_within(name, key), "Must be an object")
            return {}
        return value

    def _objects(self, items: Any, name: str, one: str = "range") -> list[tuple[str, Json]]:
        """Return (name, object) of each item of an array; none of an array that is not one of objects."""
        if not isinstance(items or [], list) or not all(isinstance(item, dict) for item in items or []):
            self._problems.add(name, f"Must be an array of objects, each with {one}")
            return []
        return [(f"{name}[{number}]", item) for number, item in enumerate(items or [])]


def _within(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _parses(kind: Callable[[str], Any], text: Any) -> bool:
    try:
        kind(text)
    except (AddressValueError, TypeError, ValueError):
        return False
    return isinstance(text, str)


def _has(interface: Interface, subnet_id: int, address: str) -> bool:
    if interface.subnet_id != subnet_id:
        return False
    return address in interface.addresses or any(IPv4Address(address) in IPv4Network(cidr) for cidr in interface.ranges)
