# SPDX-License-Identifier: GPL-3.0-or-later
"""Which addresses are given, and which may be. Rebuilt from the records at each start."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network

from lab.models import Address, Instance, NodeBalancer, NodeBalancerVpc, Subnet
from lab.network import PRIVATE, PUBLIC

OVERFLOW = IPv4Network("198.18.0.0/15")  # for benchmarks (RFC 2544); used only where no host needs it routed
BALANCERS = IPv4Network("192.168.255.0/24")  # private: what NodeBalancers reach private addresses from
RFC1918 = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


class Exhausted(Exception):
    """A pool has no free address."""


class Pool:
    """Addresses of some ranges, given in turn: one that was given back is not the next to be given.

    So a new host rarely has the address, and to SSH the name, of one deleted a moment ago.
    """

    def __init__(self, *ranges: range) -> None:
        self._ranges = ranges
        self._starts = [sum(map(len, ranges[:number])) for number in range(len(ranges))]
        self._size = sum(map(len, ranges))
        self._used: set[int] = set()
        self._next = 0

    def allows(self, address: str) -> bool:
        return any(int(IPv4Address(address)) in part for part in self._ranges)

    def is_free(self, address: str) -> bool:
        return int(IPv4Address(address)) not in self._used

    def taken(self, cidr: str) -> list[str]:
        """Return the addresses of a range that are not free."""
        network = IPv4Network(cidr)
        first, last = int(network[0]), int(network[-1])
        return [str(IPv4Address(number)) for number in self._used if first <= number <= last]

    def take(self) -> str:
        """Return the next free address. Raises Exhausted."""
        for offset in range(self._size):
            position = (self._next + offset) % self._size
            part = bisect_right(self._starts, position) - 1
            number = self._ranges[part][position - self._starts[part]]
            if number not in self._used:
                self._used.add(number)
                self._next = position + 1
                return str(IPv4Address(number))
        raise Exhausted

    def take_block(self, prefix: int) -> str:
        """Return the first free range of ``prefix`` bits, as a CIDR. Raises Exhausted."""
        size = 1 << (32 - prefix)
        for part in self._ranges:
            for start in range(-(-part.start // size) * size, part.stop - size + 1, size):
                if self._used.isdisjoint(range(start, start + size)):
                    self._used.update(range(start, start + size))
                    return f"{IPv4Address(start)}/{prefix}"
        raise Exhausted

    def reserve(self, address: str) -> None:
        self._used.add(int(IPv4Address(address)))

    def release(self, address: str) -> None:
        self._used.discard(int(IPv4Address(address)))


class Addresses:
    """The account's pools: public, private, NodeBalancers' private ones, and one for each VPC subnet."""

    def __init__(
        self,
        overflow: bool,
        subnets: Iterable[Subnet],
        instances: Iterable[Instance],
        reserved: Iterable[Address] = (),
    ) -> None:
        first = int(PUBLIC[0])
        public = [range(first + 2, first + 250)]  # .1 is the gateway; .250 to .254 are the lab's own
        self.public = Pool(*public, *([range(int(OVERFLOW[1]), int(OVERFLOW[-1]))] if overflow else []))
        self.private = Pool(range(int(PRIVATE[2]), int(BALANCERS[0])))
        self.balancers = Pool(range(int(BALANCERS[1]), int(BALANCERS[-1])))
        self.subnets: dict[int, Pool] = {}
        for subnet in subnets:
            self.add_subnet(subnet)
        for instance in instances:
            for pool, address in self._of(instance):
                pool.reserve(address)
        for item in reserved:
            self.public.reserve(item.address)

    def add_subnet(self, subnet: Subnet) -> None:
        """Open a subnet: its first two and its last two addresses are not for hosts."""
        network = IPv4Network(subnet.ipv4)
        self.subnets[subnet.id] = Pool(range(int(network[2]), int(network[-2])))

    def remove_subnet(self, subnet: Subnet) -> None:
        del self.subnets[subnet.id]

    def listed(self, address: str) -> Pool:
        """Return the pool of an address that a Linode lists: public or private."""
        return self.private if IPv4Address(address) in PRIVATE else self.public

    def release(self, instance: Instance, kept: Collection[str] = ()) -> None:
        """Give back all addresses of an instance, but those of ``kept``."""
        for pool, address in self._of(instance):
            if address not in kept:
                pool.release(address)

    def renew(self, instance: Instance) -> None:
        """Give an instance other public and private addresses, in the place of all it has."""
        new = {old: self.listed(old).take() for old in instance.ipv4}
        for old in new:
            self.listed(old).release(old)
        instance.ipv4 = list(new.values())
        for _, interface in instance.all_interfaces:
            interface.addresses = [new.get(address, address) for address in interface.addresses]
            interface.primary_address = new.get(interface.primary_address or "", interface.primary_address)
            interface.nat_1_1 = new.get(interface.nat_1_1 or "", interface.nat_1_1)

    def reserve_balancer(self, balancer: NodeBalancer, vpcs: Iterable[NodeBalancerVpc]) -> None:
        """Mark the addresses of a NodeBalancer as used; ``vpcs`` may hold those of others too."""
        for pool, address in self._of_balancer(balancer, vpcs):
            pool.reserve(address)

    def release_balancer(
        self, balancer: NodeBalancer, vpcs: Iterable[NodeBalancerVpc], kept: Collection[str] = ()
    ) -> None:
        """Give back all addresses of a NodeBalancer, but those of ``kept``."""
        for pool, address in self._of_balancer(balancer, vpcs):
            if address not in kept:
                pool.release(address)

    def _of_balancer(self, balancer: NodeBalancer, vpcs: Iterable[NodeBalancerVpc]) -> Iterable[tuple[Pool, str]]:
        yield self.public, balancer.ipv4
        yield self.balancers, balancer.private_ipv4
        for vpc in vpcs:
            if vpc.nodebalancer_id == balancer.id:
                for address in IPv4Network(vpc.ipv4_range):
                    yield self.subnets[vpc.subnet_id], str(address)

    def _of(self, instance: Instance) -> Iterable[tuple[Pool, str]]:
        for address in instance.ipv4:
            yield self.listed(address), address
        for _, interface in instance.all_interfaces:
            if interface.subnet_id:
                pool = self.subnets[interface.subnet_id]
                yield from ((pool, address) for address in interface.addresses)
                yield from ((pool, str(address)) for cidr in interface.ranges for address in IPv4Network(cidr))
