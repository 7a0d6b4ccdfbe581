# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: hosts, a router for the public addresses, a router for each VPC.

Data: a host's addresses. Flow: Host -> a network namespace of its own -> one routed link to each router.
Every link is routed (the router answers ARP for all), so that one nftables ruleset in a router sees every packet.
Only one link, one route and one nftables table stand in the machine's own namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import ipaddress
import json
import os
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.shell import CommandError, run

PUBLIC = ipaddress.ip_network("198.51.100.0/24")
PRIVATE = ipaddress.ip_network("192.168.128.0/17")  # each region's Linodes reach each other here
PUBLIC_GATEWAY = "198.51.100.1"
UPSTREAM = "198.51.100.250"  # the external API
CLIENTS = "198.51.100.251"  # clients of the fleets, for tests and measurements
MACHINE = "198.51.100.254"  # this machine, as its hosts see it
METADATA = "169.254.169.254"  # Linode's metadata service, on every router

ROUTER = "c50k-router"
MACHINE_LINK = "c50k0"
TABLE = "c50k_lab"
FIREWALL_TABLE = "cloud_firewall"  # of a router; lab/packet_filter.py writes it
PREFIX = "c50k-"
CLONE_NEWNET = 0x40000000

_ROUTER_SYSCTL = (
    "net.ipv4.ip_forward=1",
    "net.ipv4.conf.default.proxy_arp=1",
    "net.ipv4.conf.default.rp_filter=0",
)

# A connection that goes on while its host's firewall is off is far from where it was when the firewall is on again.
_TRACKING_SYSCTL = "net.netfilter.nf_conntrack_tcp_be_liberal=1"

# Each namespace counts the connections it tracks by itself, but the machine has one limit for each of them.
_TRACKED, _TRACKED_MAX = "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"
# What the hosts share: 250,000 in flight, and those that ended in the last two minutes, have to fit; packets between
# hosts wait in one queue for each core, which drops those beyond its length; each systemd takes four inotify instances.
_MACHINE_LEAST = {
    _TRACKED_MAX: 1 << 20,
    "net.core.netdev_max_backlog": 1 << 16,
    "fs.inotify.max_user_instances": 1 << 12,
}

# Unreachable, with the worst metric, stands behind the lab's route: no packet for a lab address leaves the machine.
_UNREACHABLE = ("unreachable", str(PUBLIC), "metric", "4278198272")


# Private addresses are reached from private addresses, within one datacenter; a port's group is its datacenter, or 0
# for the platform's own. What is for none of the lab's goes to the machine, which drops it.
_DATACENTERS = ", ".join(f"{number} . {number}" for number in range(1, 64))
_PRIVATE_RULES = f"""
table ip private {{
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ip daddr != {PRIVATE} accept
    oifname "machine" accept
    ip saddr != {PRIVATE} drop
    iifgroup 0 accept
    oifgroup 0 accept
    iifgroup . oifgroup {{ {_DATACENTERS} }} accept
    drop
  }}
}}
"""


class NetworkError(Exception):
    """The machine's network does not allow the lab; the text says what stands in its way."""


@dataclass(frozen=True)
class VpcAddress:
    """A host's place in a VPC subnet (``subnet`` is its CIDR; the gateway is its first address).

    ``more`` are other addresses of the same link, ``ranges`` CIDRs that are routed to it.
    """

    vpc_id: int
    subnet_id: int
    address: str
    subnet: str
    more: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()

    @property
    def gateway(self) -> str:
        return str(ipaddress.ip_network(self.subnet)[1])

    @property
    def prefix(self) -> int:
        return ipaddress.ip_network(self.subnet).prefixlen


def host_namespace(host_id: int) -> str:
    return f"{PREFIX}host-{host_id}"


def balancer_namespace(balancer_id: int) -> str:
    return f"{PREFIX}nb-{balancer_id}"


def vpc_namespace(vpc_id: int) -> str:
    return f"{PREFIX}vpc-{vpc_id}"


def public_port(host_id: int) -> str:
    """Return the port of the public router that a host's public address is behind."""
    return f"h{host_id}"


def vpc_port(host_id: int, subnet_id: int) -> str:
    """Return the port of a VPC's router that a host's address in a subnet is behind."""
    return f"h{host_id}s{subnet_id}"


def balancer_port(balancer_id: int) -> str:
    """Return the port of the public router that a NodeBalancer's public address is behind."""
    return f"n{balancer_id}"


def is_router(namespace: str) -> bool:
    return namespace == ROUTER or namespace.startswith(f"{PREFIX}vpc-")


async def namespaces() -> set[str]:
    """Return the names of the lab's network namespaces."""
    lines = (await run("ip", "netns", "list")).splitlines()
    return {name for line in lines if (name := line.split()[0]).startswith(PREFIX)}


async def routers() -> dict[int | None, str]:
    """Return the namespaces of the lab's routers by VPC id, that of the public addresses by None."""
    prefix = vpc_namespace(0)[:-1]
    found: dict[int | None, str] = {None: ROUTER}
    found |= {int(name.removeprefix(prefix)): name for name in await namespaces() if name.startswith(prefix)}
    return found


async def metadata_socket(router: str) -> socket.socket:
    """Return a socket bound to the metadata service's address on a router, for this process to serve."""
    await _ip(f"addr replace {METADATA}/32 dev lo", namespace=router)
    with ThreadPoolExecutor(1) as thread:  # what enters a namespace is a thread; it ends here, the socket stays there
        return thread.submit(_bound_in, router, METADATA).result()


class Network:
    """Make, extend and remove the lab's network. ``state`` keeps what must be set back on the machine."""

    def __init__(self, state: Path) -> None:
        self._saved = state / "sysctl.json"
        self._rules: dict[str, str] = {}  # what each router is to filter by, existing or not
        self._loaded: dict[str, str] = {}  # what it does filter by
        self.wiring = asyncio.Lock()  # two hosts may need the same VPC router

    async def up(self) -> None:
        """Join the router to the machine; again is a repair, not an error."""
        if not await self._joined():
            await self._refuse_overlap()
            await run("ip", "route", "replace", *_UNREACHABLE)
            await self._router(ROUTER)
            await run("ip", "netns", "exec", ROUTER, "nft", "-f", "-", stdin=_PRIVATE_RULES)
            await run("ip", "link", "add", MACHINE_LINK, "type", "veth", "peer", "name", "machine", "netns", ROUTER)
            await _ip(
                f"addr add {MACHINE}/32 dev {MACHINE_LINK}",
                f"link set {MACHINE_LINK} up",
                f"route replace {PUBLIC} via {PUBLIC_GATEWAY} dev {MACHINE_LINK} onlink src {MACHINE}",
            )
            await _ip(
                f"addr add {PUBLIC_GATEWAY}/32 dev machine",
                "link set machine up",
                f"route add {MACHINE} dev machine",
                f"route add default via {MACHINE} dev machine",
                namespace=ROUTER,
            )
        await run("nft", "-f", "-", stdin=_machine_rules(resolvers()))
        self._set_machine("net.ipv4.ip_forward", 1)
        for name, least in _MACHINE_LEAST.items():
            # A container may not set them, and a network namespace does not show all; `status` tells the limit.
            with contextlib.suppress(PermissionError, FileNotFoundError):
                self._set_machine(name, least)

    async def down(self) -> None:
        """Remove all of it, whatever is left of it, and set the machine's settings back."""
        for name in await namespaces():
            await run("ip", "netns", "del", name)
        await _quiet("ip", "link", "del", MACHINE_LINK)
        await _quiet("nft", "delete", "table", "inet", TABLE)
        await _quiet("ip", "route", "del", *_UNREACHABLE)
        self._reset_machine()

    async def filter(self, rules: Mapping[str, str]) -> None:
        """Let each router filter by its rules, nftables text, in one step; a router without any filters nothing.

        A router that is made later has its rules before it has a port.
        """
        self._rules = dict(rules)
        for name in await namespaces():
            if is_router(name):
                await self._load_rules(name)

    async def add_host(
        self,
        host_id: int,
        public_ipv4: str | None,
        vpc: tuple[VpcAddress, ...],
        more_ipv4: tuple[str, ...] = (),
        private_ipv4: str | None = None,
        datacenter: int = 0,
    ) -> None:
        """Give a host its namespace and its links: eth0 is public where there is one, VPC links follow in order.

        A namespace that was wired just so stays; else it is made anew, and its host must not run.
        """
        namespace = host_namespace(host_id)
        wiring = (public_ipv4, vpc, more_ipv4, private_ipv4, datacenter)
        mark = hashlib.sha256(repr(wiring).encode()).hexdigest()
        before = await _mark(namespace)
        if before == mark:
            return
        if before is not None:
            await self._unwire(namespace)
        await run("ip", "netns", "add", namespace)
        await _ip("link set lo up", namespace=namespace)
        devices = (f"eth{number}" for number in range(len(vpc) + 1))
        if public_ipv4:
            device, port = next(devices), public_port(host_id)
            await self._public_link(namespace, device, port, public_ipv4)
            await self._more(namespace, device, port, ROUTER, more_ipv4, PUBLIC.prefixlen)
            if private_ipv4:
                await _ip(f"link set {port} group {datacenter}", namespace=ROUTER)
                await self._more(namespace, device, port, ROUTER, (private_ipv4,), PRIVATE.prefixlen)
        for address in vpc:
            await self._vpc_link(namespace, next(devices), vpc_port(host_id, address.subnet_id), address)
        if public_ipv4 or vpc:
            await _ip(f"route add {METADATA} dev eth0", namespace=namespace)
        await _ip(f"link set lo alias {mark}", namespace=namespace)

    async def unplug(self, host_id: int) -> None:
        """Cut a host that runs off, so that nothing it still says is heard."""
        await self._unwire(host_namespace(host_id))

    async def remove_host(self, host_id: int) -> None:
        """Remove a host's namespace, and its links with it."""
        await self._remove(host_namespace(host_id))

    async def add_balancer(
        self, balancer_id: int, public_ipv4: str, private_ipv4: str, vpc: tuple[VpcAddress, ...]
    ) -> None:
        """Give a NodeBalancer its namespace: eth0 is public, and reaches private addresses; VPC links follow."""
        namespace, port = balancer_namespace(balancer_id), balancer_port(balancer_id)
        async with self.wiring:
            await self._remove(namespace)
            await run("ip", "netns", "add", namespace)
            await _ip("link set lo up", namespace=namespace)
            await self._public_link(namespace, "eth0", port, public_ipv4)
            await _ip(f"addr add {private_ipv4}/32 dev eth0", namespace=namespace)
            await _ip(f"route add {private_ipv4}/32 dev {port}", namespace=ROUTER)
            for number, address in enumerate(vpc, 1):
                await self._vpc_link(namespace, f"eth{number}", f"{port}s{address.subnet_id}", address)

    async def remove_balancer(self, balancer_id: int) -> None:
        await self._remove(balancer_namespace(balancer_id))

    async def _unwire(self, namespace: str) -> None:
        """Remove a namespace, its links first: the kernel takes its time with those of one that is gone."""
        links = json.loads(await run("ip", "-n", namespace, "-j", "link"))
        await _ip(*(f"link del {link['ifname']}" for link in links if link["ifname"] != "lo"), namespace=namespace)
        await run("ip", "netns", "del", namespace)

    async def remove_vpc(self, vpc_id: int) -> None:
        await self._remove(vpc_namespace(vpc_id))

    async def add_service(self, name: str, address: str) -> str:
        """Give a service of the lab itself a public address; return the namespace to run it in."""
        namespace = PREFIX + name
        if namespace not in await namespaces():
            await run("ip", "netns", "add", namespace)
            await _ip("link set lo up", namespace=namespace)
            await self._public_link(namespace, "eth0", name, address)
        return namespace

    async def _remove(self, namespace: str) -> None:
        if namespace in await namespaces():
            await run("ip", "netns", "del", namespace)

    async def _vpc_link(self, namespace: str, device: str, port: str, address: VpcAddress) -> None:
        router = vpc_namespace(address.vpc_id)
        if router not in await namespaces():
            await self._router(router)
        await self._link(namespace, device, port, router, address.address, address.prefix, address.gateway)
        await self._more(namespace, device, port, router, address.more, address.prefix)
        for cidr in address.ranges:
            await _ip(f"route replace {cidr} via {address.address} dev {port} onlink", namespace=router)

    async def _public_link(self, namespace: str, device: str, port: str, address: str) -> None:
        await self._link(namespace, device, port, ROUTER, address, PUBLIC.prefixlen, PUBLIC_GATEWAY)
        await _ip(f"route add default via {PUBLIC_GATEWAY} dev {device}", namespace=namespace)

    async def _link(
        self, namespace: str, device: str, port: str, router: str, address: str, prefix: int, gateway: str
    ) -> None:
        """Join ``device`` of ``namespace``, holding ``address``, to ``port`` of ``router``."""
        await run("ip", "-n", router, "link", "add", port, "type", "veth", "peer", "name", device, "netns", namespace)
        await _ip(
            f"addr add {gateway}/32 dev {port}",
            f"link set {port} up",
            f"route replace {address}/32 dev {port}",  # it may have been another host's until now
            namespace=router,
        )
        await run("ip", "netns", "exec", router, "sysctl", "-qw", f"net.ipv4.neigh.{port}.proxy_delay=0")
        await _ip(
            f"addr add {address}/{prefix} dev {device}",
            f"link set {device} up",
            namespace=namespace,
        )

    async def _more(
        self, namespace: str, device: str, port: str, router: str, addresses: tuple[str, ...], prefix: int
    ) -> None:
        """Add other addresses to a link."""
        if addresses:
            await _ip(*(f"route replace {address}/32 dev {port}" for address in addresses), namespace=router)
            await _ip(*(f"addr add {address}/{prefix} dev {device}" for address in addresses), namespace=namespace)

    async def _router(self, name: str) -> None:
        await run("ip", "netns", "add", name)
        await _ip("link set lo up", namespace=name)
        await run("ip", "netns", "exec", name, "sysctl", "-qw", *_ROUTER_SYSCTL)
        self._loaded.pop(name, None)  # of one that was there before
        if name in self._rules:
            await self._load_rules(name)

    async def _load_rules(self, router: str) -> None:
        none = f"table ip {FIREWALL_TABLE}\ndelete table ip {FIREWALL_TABLE}\n"
        rules = self._rules.get(router, none)
        if self._loaded.get(router) != rules:
            await run("ip", "netns", "exec", router, "nft", "-f", "-", stdin=rules)
            if router in self._rules:
                await run("ip", "netns", "exec", router, "sysctl", "-qw", _TRACKING_SYSCTL)
            self._loaded[router] = rules

    async def _joined(self) -> bool:
        links = {link["ifname"] for link in json.loads(await run("ip", "-j", "link"))}
        if ROUTER in await namespaces() and MACHINE_LINK in links:
            return True
        for leftover in await namespaces():
            await run("ip", "netns", "del", leftover)
        await _quiet("ip", "link", "del", MACHINE_LINK)
        return False

    async def _refuse_overlap(self) -> None:
        routes = json.loads(await run("ip", "-j", "route", "show", "table", "all"))
        for route in routes:
            destination = route.get("dst", "default")
            if destination == "default" or ":" in destination or route.get("type") == "unreachable":
                continue
            if ipaddress.ip_network(destination, strict=False).overlaps(PUBLIC):
                raise NetworkError(
                    f"This machine already has a route to {destination} on {route.get('dev')}; the lab needs {PUBLIC} "
                    "for its hosts. Take that network down, or run the lab on another machine."
                )

    def _set_machine(self, name: str, least: int) -> None:
        """Raise one of the machine's own settings to what the lab needs; what it was is kept for ``down``."""
        before = _sysctl(name).read_text().strip()
        if int(before) < least:
            saved = json.loads(self._saved.read_text()) if self._saved.exists() else {}
            self._saved.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._saved.write_text(json.dumps({name: before, **saved}))
            _sysctl(name).write_text(str(least))

    def _reset_machine(self) -> None:
        if self._saved.exists():
            for name, value in json.loads(self._saved.read_text()).items():
                if _sysctl(name).read_text().strip() != value:  # one that could not be raised cannot be written either
                    _sysctl(name).write_text(value)
            self._saved.unlink()


async def tracked() -> dict[str, tuple[int, int]]:
    """Return of each router how many connections it keeps track of, and how many it can."""
    most = int(_sysctl(_TRACKED_MAX).read_text())
    found = {}
    for name in sorted(await namespaces()):
        if is_router(name):
            found[name] = int(await run("ip", "netns", "exec", name, "cat", str(_sysctl(_TRACKED)))), most
    return found


def _sysctl(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def resolvers() -> list[str]:
    """Return the machine's name servers (IPv4), those behind a local stub resolver included, the stub itself not."""
    found = []
    for path in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")):
        if path.exists():
            found += [line.split()[1] for line in path.read_text().splitlines() if line.startswith("nameserver ")]
    addresses = [ipaddress.ip_address(text.split("%")[0]) for text in dict.fromkeys(found)]
    return [str(address) for address in addresses if address.version == 4 and not address.is_loopback]


def _machine_rules(name_servers: list[str]) -> str:
    """Return the machine's side of the containment: out to the internet for packages, and nowhere else."""
    names = f"ip daddr {{ {', '.join(name_servers)} }} meta l4proto {{ tcp, udp }} th dport 53 accept"
    ask = names if name_servers else ""
    return f"""
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain forward {{
    type filter hook forward priority filter; policy accept;
    tcp flags syn tcp option maxseg size set rt mtu
    oifname "{MACHINE_LINK}" ct state established,related accept
    oifname "{MACHINE_LINK}" drop
    iifname != "{MACHINE_LINK}" accept
    {ask}
    ip daddr {{ 10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 127.0.0.0/8 }} counter drop
    ip daddr {PUBLIC} drop
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname != "{MACHINE_LINK}" accept
    ct state established,related accept
    meta l4proto icmp accept
    drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {PUBLIC} oifname != "{MACHINE_LINK}" masquerade
  }}
}}
"""


async def _mark(namespace: str) -> str | None:
    """Return how a namespace is wired, as ``add_host`` noted it; None if there is no such namespace."""
    if namespace not in await namespaces():
        return None
    links = json.loads(await run("ip", "-n", namespace, "-j", "link", "show", "dev", "lo"))
    return str(links[0].get("ifalias", ""))


def _bound_in(namespace: str, address: str) -> socket.socket:
    """Return a socket bound to port 80 of an address in a namespace, which this thread enters and never leaves."""
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns comes with Python 3.12
    with Path("/run/netns", namespace).open() as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), namespace)
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound.bind((address, 80))
    return bound


async def _ip(*commands: str, namespace: str | None = None) -> None:
    """Run several ``ip`` commands in one process."""
    await run("ip", *(["-n", namespace] if namespace else []), "-batch", "-", stdin="\n".join(commands) + "\n")


async def _quiet(*argv: str) -> None:
    """Run a removal whose object may be gone already."""
    try:
        await run(*argv)
    except CommandError:
        pass
