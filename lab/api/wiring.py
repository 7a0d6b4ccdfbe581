# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces get the addresses that were asked for, and give back those that they no longer have.

Data: Wish -> Interface, and the list of a Linode's addresses. Flow: a handler reads wishes, then fills interfaces in
one ``changing`` block: when an address cannot be had, every pool and record is as it was before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from lab.addresses import Exhausted, Pool
from lab.api.interfaces import LINODE, Wish
from lab.api.wire import ApiError
from lab.models import Address, Instance, Interface, Ipv6Range, Record, Vlan, now

if TYPE_CHECKING:
    from lab.api.app import Lab

FAMILIES = ("ipv4", "ipv6")
RANGES = IPv6Network("2001:db8:c51::/48")  # IPv6 ranges; listed only: the lab's hosts have no IPv6


class Change:
    """One change of a Linode's interfaces: addresses taken and given back, records that come and go."""

    def __init__(self, lab: Lab, instance: Instance) -> None:
        self.lab = lab
        self.instance = instance
        self.new: list[Record] = []
        self.gone: list[Record] = []
        self._undo: list[Callable[[], None]] = []

    def take(self, pool: Pool, wanted: str | None = None) -> str:
        """Take an address, a certain one or any. Raises Exhausted."""
        if wanted:
            pool.reserve(wanted)
        address = wanted or pool.take()
        self._undo.append(partial(pool.release, address))
        return address

    def give_back(self, pool: Pool, address: str) -> None:
        pool.release(address)
        self._undo.append(partial(pool.reserve, address))

    def undo(self) -> None:
        for step in reversed(self._undo):
            step()

    def fill(self, interface: Interface, wish: Wish) -> Interface:
        """Make an interface what is asked for; what it had before is given back first."""
        legacy = self.instance.legacy
        before = {address for address in (interface.nat_1_1, *interface.addresses) if address}
        self.clear(interface)
        interface.purpose, interface.primary = wish.purpose, wish.primary
        if wish.subnet:
            pool = self.lab.addresses.subnets[wish.subnet.id]
            interface.vpc_id, interface.subnet_id = wish.subnet.vpc_id, wish.subnet.id
            self._take_named(pool, wish)
            interface.addresses = [address or self.take(pool) for address in wish.addresses]
            interface.ranges = [self._range(pool, item) for item in wish.ranges]
            interface.nat_1_1 = self._public(None if wish.nat == "auto" else wish.nat) if wish.nat else None
            self._fill_ipv6(interface, wish, wish.subnet.ipv6)
        elif wish.purpose == "public" and not legacy:
            interface.addresses = []
            for address in wish.addresses:
                interface.addresses.append(self._public(address, wish.addresses))
            self._fill_ranges(wish)
        interface.primary_address = interface.addresses[wish.main] if interface.addresses else None
        interface.vlan_label, interface.ipam_address = wish.vlan_label or None, wish.ipam_address
        if wish.purpose == "vlan":
            self._need_vlan(wish.vlan_label)
        if not legacy:
            self._drop_public(before - {interface.nat_1_1, *interface.addresses})
        interface.updated = now()
        return interface

    def clear(self, interface: Interface) -> None:
        """Give back what an interface has in its subnet; public addresses stay the Linode's."""
        if interface.subnet_id:
            pool = self.lab.addresses.subnets[interface.subnet_id]
            for address in (*interface.addresses, *(item for cidr in interface.ranges for item in pool.taken(cidr))):
                self.give_back(pool, address)
        interface.addresses, interface.ranges, interface.primary_address, interface.nat_1_1 = [], [], None, None
        interface.ipv6_slaac, interface.ipv6_ranges, interface.ipv6_public = None, [], False

    def remove(self, interface: Interface) -> None:
        """Give back all that an interface has; one of the new generation takes its public addresses with it."""
        public = {address for address in (interface.nat_1_1, *interface.addresses) if address}
        self.clear(interface)
        if not self.instance.legacy:
            self._drop_public(public)

    def add_address(self, public: bool, wanted: str | None = None) -> str:
        """Give the Linode an address more, public or private. Raises Exhausted."""
        own = self.instance.ipv4
        if not public:
            own.append(self.take(self.lab.addresses.private))
            return own[-1]
        address = wanted or self.take(self.lab.addresses.public)
        own.insert(len(self.instance.public_ipv4), address)
        return address

    def drop_address(self, address: str) -> None:
        """Take an address from the Linode: a reserved one stays the account's, any other is free."""
        self.instance.ipv4 = [item for item in self.instance.ipv4 if item != address]
        record = next((item for item in self.lab.store.all(Address) if item.address == address), None)
        if record is None or not record.reserved:
            self.give_back(self.lab.addresses.listed(address), address)
            self.gone += [record] if record else []

    def settle_default_routes(self) -> None:
        """Let each address family have one default route, where an interface can have it."""
        for family in FAMILIES:
            able = [item for item in self.instance.linode_interfaces if eligible(item, family)]
            holders = [item for item in able if family in item.default_route]
            holder = holders[-1] if holders else next(iter(able), None)
            for item in self.instance.linode_interfaces:
                item.default_route = [name for name in item.default_route if name != family]
            if holder:
                holder.default_route = sorted((*holder.default_route, family))

    def _public(self, wanted: str | None, others: Iterable[str | None] = ()) -> str:
        """Return a public address of the Linode for an interface: a certain one, or any that is on no interface."""
        own = self.instance.public_ipv4
        if wanted:
            return wanted if wanted in own else self.add_address(True, wanted)
        if self.instance.legacy and own:
            return own[0]
        interfaces = self.instance.linode_interfaces
        used = {*others, *(address for item in interfaces for address in (item.nat_1_1, *item.addresses))}
        return next((address for address in own if address not in used), None) or self.add_address(True)

    def _drop_public(self, addresses: Iterable[str]) -> None:
        for address in [item for item in self.instance.public_ipv4 if item in addresses]:
            self.drop_address(address)

    def _take_named(self, pool: Pool, wish: Wish) -> None:
        """Take the addresses and ranges that a wish names, before any is chosen for it."""
        named = [address for address in wish.addresses if address]
        ranges = [IPv4Network(item) for item in wish.ranges if not item.startswith("/")]
        for address in (*named, *(str(host) for network in ranges for host in network)):
            self.take(pool, address)

    def _range(self, pool: Pool, item: str) -> str:
        """Return a range that is named, or take one of a size."""
        if not item.startswith("/"):
            return item
        cidr = pool.take_block(int(item[1:]))
        self._undo += [partial(pool.release, address) for address in pool.taken(cidr)]
        return cidr

    def _fill_ipv6(self, interface: Interface, wish: Wish, ranges: list[str]) -> None:
        """Give a VPC interface a /64 of its subnet for SLAAC, and the ranges that it is to have."""
        if not ranges:
            return
        interface.ipv6_public = wish.ipv6_public
        interface.ipv6_slaac = self._ipv6_range(IPv6Network(ranges[0]), wish.ipv6_slaac, 64)
        for item in wish.ipv6_ranges or []:
            interface.ipv6_ranges.append(self._ipv6_range(IPv6Network(ranges[0]), item, 64))

    def _ipv6_range(self, network: IPv6Network, wanted: str | None, default: int) -> str:
        """Return a range of a subnet that no interface has."""
        if wanted and ":" in wanted:
            return wanted
        prefix = int(wanted[1:]) if wanted and wanted.startswith("/") else default
        used = [
            IPv6Network(text)
            for instance in (*self.lab.store.all(Instance), self.instance)
            for _, item in instance.all_interfaces
            for text in (*([item.ipv6_slaac] if item.ipv6_slaac else []), *item.ipv6_ranges)
        ]
        return str(next_free(network, prefix, used))

    def _fill_ranges(self, wish: Wish) -> None:
        """Let the Linode have the IPv6 ranges that its public interface is to have, and no other."""
        if wish.ipv6_ranges is None:
            return
        own = [item for item in self.lab.store.all(Ipv6Range) if item.linode_id == self.instance.id]
        self.gone += [item for item in own if item.range not in wish.ipv6_ranges]
        for text in wish.ipv6_ranges:
            if text.startswith("/"):
                self.new.append(new_range(self.lab, self.instance, int(text[1:]), self.new))

    def _need_vlan(self, label: str) -> None:
        region = self.instance.region
        known = (*self.lab.store.all(Vlan), *(item for item in self.new if isinstance(item, Vlan)))
        if not any((item.label, item.region) == (label, region) for item in known):
            self.new.append(Vlan(self.lab.store.next_id(), label, region))


@contextmanager
def changing(lab: Lab, instance: Instance) -> Iterator[Change]:
    """Change a Linode's interfaces and addresses, all or nothing. Raises ApiError 400 when a pool is empty."""
    change = Change(lab, instance)
    before = copy.deepcopy(vars(instance))
    try:
        yield change
    except BaseException as error:
        change.undo()
        vars(instance).update(before)
        if isinstance(error, Exhausted):
            raise ApiError(400, (None, "No free IPv4 address is left for this Linode")) from None
        raise


def eligible(interface: Interface, family: str) -> bool:
    """Tell whether an interface may have the default route of a family."""
    if interface.purpose == "public":
        return True
    return interface.purpose == "vpc" and (family == "ipv4" or interface.ipv6_slaac is not None)


def new_interface(lab: Lab) -> Interface:
    return Interface(lab.store.next_id(), "public")


def generation_interfaces(change: Change, wishes: list[Wish]) -> list[Interface]:
    """Return new interfaces, filled; those of the new generation with their default routes."""
    interfaces = []
    for wish in wishes:
        interface = new_interface(change.lab)
        if change.instance.interface_generation == LINODE:
            change.instance.linode_interfaces.append(interface)
            interface.default_route = [family for family, wanted in wish.default_route.items() if wanted]
        interfaces.append(change.fill(interface, wish))
    return interfaces


def new_range(lab: Lab, instance: Instance, prefix: int, others: Iterable[Record] = ()) -> Ipv6Range:
    """Return a new IPv6 range for a Linode, not saved yet, and none of ``others``. Raises Exhausted."""
    known = (*lab.store.all(Ipv6Range), *others)
    used = [IPv6Network(item.range) for item in known if isinstance(item, Ipv6Range)]
    return Ipv6Range(lab.store.next_id(), str(next_free(RANGES, prefix, used)), instance.region, instance.id)


def next_free(network: IPv6Network, prefix: int, used: list[IPv6Network]) -> IPv6Network:
    """Return the first range of ``prefix`` bits in ``network`` that overlaps none of ``used``. Raises Exhausted."""
    size = 1 << (128 - prefix)
    start, end = int(network[0]), int(network[-1])
    for taken in sorted(used, key=lambda item: int(item[0])):
        if int(taken[-1]) < start or int(taken[0]) > end:
            continue
        if int(taken[0]) >= start + size:
            break
        start = -(-(int(taken[-1]) + 1) // size) * size
    if start + size - 1 > end:
        raise Exhausted
    return IPv6Network((IPv6Address(start), prefix))
