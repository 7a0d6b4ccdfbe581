# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: hosts, a router for the public addresses, a router for each VPC.

Data: a host's addresses. Flow: Host -> a network namespace of its own -> one routed link to each router.
Every link is routed (the router answers ARP for all), so that one nftables ruleset in a router sees every packet.
Only one link, one route and one nftables table stand in the machine's own namespace.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.shell import CommandError, run

PUBLIC = ipaddress.ip_network("198.51.100.0/24")
PUBLIC_GATEWAY = "198.51.100.1"
UPSTREAM = "198.51.100.250"  # the external API
CLIENTS = "198.51.100.251"  # clients of the fleets, for tests and measurements
MACHINE = "198.51.100.254"  # this machine, as its hosts see it
METADATA = "169.254.169.254"  # Linode's metadata service, on every router

ROUTER = "c50k-router"
MACHINE_LINK = "c50k0"
TABLE = "c50k_lab"
PREFIX = "c50k-"
CLONE_NEWNET = 0x40000000

_ROUTER_SYSCTL = (
    "net.ipv4.ip_forward=1",
    "net.ipv4.conf.default.proxy_arp=1",
    "net.ipv4.conf.default.rp_filter=0",
)

# Unreachable, with the worst metric, stands behind the lab's route: no packet for a lab address leaves the machine.
_UNREACHABLE = ("unreachable", str(PUBLIC), "metric", "4278198272")


class NetworkError(Exception):
    """The machine's network does not allow the lab; the text says what stands in its way."""


@dataclass(frozen=True)
class VpcAddress:
    """One address of a host in a VPC subnet (``subnet`` is its CIDR; the gateway is its first address)."""

    vpc_id: int
    subnet_id: int
    address: str
    subnet: str

    @property
    def gateway(self) -> str:
        return str(ipaddress.ip_network(self.subnet)[1])

    @property
    def prefix(self) -> int:
        return ipaddress.ip_network(self.subnet).prefixlen


def host_namespace(host_id: int) -> str:
    return f"{PREFIX}host-{host_id}"


def vpc_namespace(vpc_id: int) -> str:
    return f"{PREFIX}vpc-{vpc_id}"


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

    async def up(self) -> None:
        """Join the router to the machine; again is a repair, not an error."""
        if not await self._joined():
            await self._refuse_overlap()
            await run("ip", "route", "replace", *_UNREACHABLE)
            await self._router(ROUTER)
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
        self._allow_forwarding()
        await run("nft", "-f", "-", stdin=_machine_rules(resolvers()))

    async def down(self) -> None:
        """Remove all of it, whatever is left of it, and set the machine's settings back."""
        for name in await namespaces():
            await run("ip", "netns", "del", name)
        await _quiet("ip", "link", "del", MACHINE_LINK)
        await _quiet("nft", "delete", "table", "inet", TABLE)
        await _quiet("ip", "route", "del", *_UNREACHABLE)
        if self._saved.exists():
            Path("/proc/sys/net/ipv4/ip_forward").write_text(json.loads(self._saved.read_text())["net.ipv4.ip_forward"])
            self._saved.unlink()

    async def add_host(self, host_id: int, public_ipv4: str | None, vpc: tuple[VpcAddress, ...]) -> None:
        """Give a host its namespace and its links: eth0 is public where there is one, VPC links follow in order."""
        namespace = host_namespace(host_id)
        await self.remove_host(host_id)
        await run("ip", "netns", "add", namespace)
        await _ip("link set lo up", namespace=namespace)
        devices = (f"eth{number}" for number in range(len(vpc) + 1))
        if public_ipv4:
            await self._public_link(namespace, next(devices), f"h{host_id}", public_ipv4)
        for address in vpc:
            router = vpc_namespace(address.vpc_id)
            if router not in await namespaces():
                await self._router(router)
            port = f"h{host_id}s{address.subnet_id}"
            link = (namespace, next(devices), port, router)
            await self._link(*link, address.address, address.prefix, address.gateway)
        if public_ipv4 or vpc:
            await _ip(f"route add {METADATA} dev eth0", namespace=namespace)

    async def remove_host(self, host_id: int) -> None:
        """Remove a host's namespace, and its links with it."""
        if host_namespace(host_id) in await namespaces():
            await run("ip", "netns", "del", host_namespace(host_id))

    async def remove_vpc(self, vpc_id: int) -> None:
        if vpc_namespace(vpc_id) in await namespaces():
            await run("ip", "netns", "del", vpc_namespace(vpc_id))

    async def add_service(self, name: str, address: str) -> str:
        """Give a service of the lab itself a public address; return the namespace to run it in."""
        namespace = PREFIX + name
        if namespace not in await namespaces():
            await run("ip", "netns", "add", namespace)
            await _ip("link set lo up", namespace=namespace)
            await self._public_link(namespace, "eth0", name, address)
        return namespace

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
            f"route add {address}/32 dev {port}",
            namespace=router,
        )
        await run("ip", "netns", "exec", router, "sysctl", "-qw", f"net.ipv4.neigh.{port}.proxy_delay=0")
        await _ip(
            f"addr add {address}/{prefix} dev {device}",
            f"link set {device} up",
            namespace=namespace,
        )

    async def _router(self, name: str) -> None:
        await run("ip", "netns", "add", name)
        await _ip("link set lo up", namespace=name)
        await run("ip", "netns", "exec", name, "sysctl", "-qw", *_ROUTER_SYSCTL)

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

    def _allow_forwarding(self) -> None:
        path = Path("/proc/sys/net/ipv4/ip_forward")
        before = path.read_text().strip()
        if before != "1":
            self._saved.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._saved.write_text(json.dumps({"net.ipv4.ip_forward": before}))
            path.write_text("1")


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
