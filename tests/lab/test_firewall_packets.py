# SPDX-License-Identifier: GPL-3.0-or-later
"""Real packets through real routers: what a firewall's rules let through, and what they do not.

The lab's own network and rules, in namespaces of other names that no link joins to the machine: a lab that runs is not
touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_server import wait_for
from records import linode

from lab import network
from lab.api.firewall_rules import version
from lab.models import Firewall, FirewallDevice, Interface, Json, Subnet
from lab.network import Network, VpcAddress
from lab.packet_filter import METADATA, rulesets
from lab.shell import run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces")

WAIT = 0.25  # seconds after which a packet that did not come was dropped
CLONE_NEWNET = 0x40000000
VPC, SUBNET = 7, 8
WEB, CLIENT, OTHER = 1, 2, 3  # hosts; the third is not in the VPC
PUBLIC = {WEB: "198.51.100.2", CLIENT: "198.51.100.3", OTHER: "198.51.100.4"}
PRIVATE = {WEB: "10.0.0.2", CLIENT: "10.0.0.3"}
OUTSIDE = "198.51.100.250"  # no host of the account: the internet, as far as a firewall knows


def interfaces(host: int) -> list[Interface]:
    vpc = Interface(host * 10 + 1, "vpc", vpc_id=VPC, subnet_id=SUBNET)
    return [Interface(host * 10, "public"), *([vpc] if host in PRIVATE else [])]


def rule(protocol: str, *addresses: str, ports: str | None = None, action: str = "ACCEPT") -> Json:
    found = {"action": action, "protocol": protocol, "addresses": {"ipv4": list(addresses or ("0.0.0.0/0",))}}
    return found if ports is None else {**found, "ports": ports}


def firewall(
    policies: str, inbound: tuple[Json, ...] = (), outbound: tuple[Json, ...] = (), number: int = 100
) -> Firewall:
    """Return a firewall with two policies, inbound first."""
    inbound_policy, outbound_policy = policies.split()
    rules = {"inbound": list(inbound), "inbound_policy": inbound_policy}
    rules |= {"outbound": list(outbound), "outbound_policy": outbound_policy}
    return Firewall(number, f"firewall-{number}", [version(rules, 1)])


class Wire:
    """Three hosts on the lab's routers, and the firewalls on them."""

    def __init__(self, state: Path) -> None:
        self.network = Network(state)
        self._sockets = contextlib.ExitStack()
        self._echoes = itertools.count(1)  # each a flow of its own

    def up(self) -> None:
        self.do(self.network._router(network.ROUTER))
        for host, address in PUBLIC.items():
            vpc = (VpcAddress(VPC, SUBNET, PRIVATE[host], "10.0.0.0/24"),) if host in PRIVATE else ()
            self.do(self.network.add_host(host, address, vpc))
        self.do(self.network.add_service("outside", OUTSIDE))
        self.put((WEB, firewall("ACCEPT ACCEPT")))  # a machine can track from its first such rules on
        self.put()

    def down(self) -> None:
        self.clear()
        for name in self.do(network.namespaces()):
            self.do(run("ip", "netns", "del", name))

    def clear(self) -> None:
        """Close all sockets, and take all firewalls off."""
        self._sockets.close()
        self.put()

    def put(self, *on: tuple[int, Firewall]) -> None:
        """Put firewalls on legacy hosts as a whole, and on nothing else."""
        self._put("legacy_config", [("linode", host, host, item) for host, item in on])

    def put_on_interface(self, host: int, purpose: str, item: Firewall) -> None:
        """Put a firewall on one interface of a host, and on nothing else."""
        number = next(found.id for found in interfaces(host) if found.purpose == purpose)
        self._put("linode", [("linode_interface", host, number, item)])

    def _put(self, generation: str, on: list[tuple[str, int, int, Firewall]]) -> None:
        devices = [
            FirewallDevice(500 + place, item.id, kind, entity, host)
            for place, (kind, host, entity, item) in enumerate(on)
        ]
        hosts = [linode(host, *interfaces(host), generation=generation) for host in PUBLIC]
        subnets = [Subnet(SUBNET, VPC, "main", "10.0.0.0/24")]
        self.do(self.network.filter(rulesets(hosts, subnets, [item for *_, item in on], devices)))

    def open(self, host: int | str, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """Return a socket of a host: the thread that makes it enters the host's namespace."""
        name = network.host_namespace(host) if isinstance(host, int) else network.PREFIX + host
        made: list[socket.socket] = []

        def make() -> None:
            with Path("/run/netns", name).open() as file:
                assert ctypes.CDLL(None).setns(file.fileno(), CLONE_NEWNET) == 0
            made.append(socket.socket(socket.AF_INET, kind, protocol))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        made[0].settimeout(WAIT)
        return self._sockets.enter_context(made[0])

    def listen(self, host: int | str, *ports: int, kind: int = socket.SOCK_STREAM) -> list[socket.socket]:
        servers = []
        for port in ports:
            servers.append(self.open(host, kind))
            servers[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            servers[-1].bind(("0.0.0.0", port))
            if kind == socket.SOCK_STREAM:
                servers[-1].listen()
        return servers

    def reaches(self, host: int | str, address: str, *ports: int) -> list[int]:
        """Return the TCP ports that a host can connect to."""
        found = []
        for port in ports:
            with contextlib.suppress(TimeoutError):
                self.open(host).connect((address, port))
                found.append(port)
        return found

    def pings(self, host: int | str, address: str) -> bool:
        icmp, number = self.open(host, socket.SOCK_RAW, socket.IPPROTO_ICMP), next(self._echoes)
        icmp.sendto(struct.pack("!BBHHH", 8, 0, 0xF7FF - number, number, 0), (address, 0))
        with contextlib.suppress(TimeoutError):
            return icmp.recv(100)[20] == 0
        return False

    def carries(self, protocol: int, sender: int, receiver: int) -> bool:
        """Tell whether a packet of an IP protocol gets from one host to another."""
        end = self.open(receiver, socket.SOCK_RAW, protocol)
        self.open(sender, socket.SOCK_RAW, protocol).sendto(b"x", (PUBLIC[receiver], 0))
        with contextlib.suppress(TimeoutError):
            return end.recv(100)[20:] == b"x"
        return False

    def tracked(self) -> int:
        return self.do(network.tracked())[network.ROUTER][0]

    @staticmethod
    def do(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)


class Talk:
    """A TCP connection between two hosts that can be asked whether it still carries."""

    def __init__(self, wire: Wire, client: int, server: int, port: int) -> None:
        (listener,) = wire.listen(server, port)
        self._near = wire.open(client)
        self._near.connect((PUBLIC[server], port))
        self._far = listener.accept()[0]
        self._far.settimeout(WAIT)

    def carries(self) -> bool:
        try:
            self._near.sendall(b"ask")
            assert self._far.recv(9) == b"ask"
            self._far.sendall(b"tell")
            return self._near.recv(9) == b"tell"
        except TimeoutError:
            return False

    def pour(self) -> None:
        """Carry some megabytes each way, so that no packet is near those before."""
        for sender, receiver in ((self._near, self._far), (self._far, self._near)):
            for _ in range(256):
                sender.sendall(bytes(1 << 15))
                assert len(receiver.recv(1 << 15, socket.MSG_WAITALL)) == 1 << 15


@pytest.fixture(scope="module")
def routers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "PREFIX", f"fw{os.getpid()}-")
        patch.setattr(network, "ROUTER", f"fw{os.getpid()}-router")
        wire = Wire(tmp_path_factory.mktemp("state"))
        try:
            wire.up()
            yield wire
        finally:
            wire.down()


@pytest.fixture
def wire(routers: Wire) -> Iterator[Wire]:
    yield routers
    routers.clear()


def test_without_a_firewall_all_is_let_through_and_nothing_is_tracked(wire: Wire) -> None:
    def untracked() -> bool:
        before = wire.tracked()
        assert wire.reaches(CLIENT, PUBLIC[WEB], 80) and wire.reaches("outside", PUBLIC[WEB], 80)
        return wire.tracked() == before

    wire.listen(WEB, 80)
    wait_for(untracked)  # the kernel ends tracking a moment after the last rule that needs it


def test_inbound(wire: Wire) -> None:
    wire.listen(WEB, 22, 80, 81, 90, 91)
    rules = rule("TCP", f"{OUTSIDE}/32", ports="22"), rule("TCP", ports="80, 85-90")
    wire.put((WEB, firewall("DROP ACCEPT", inbound=rules)))
    assert wire.reaches(CLIENT, PUBLIC[WEB], 22, 80, 81, 90, 91) == [80, 90]
    assert wire.reaches("outside", PUBLIC[WEB], 22, 80, 81, 90, 91) == [22, 80, 90]
    wire.listen(CLIENT, 81)
    assert wire.reaches(WEB, PUBLIC[CLIENT], 81), "the replies to what the host began come in"
    assert wire.reaches("outside", PUBLIC[CLIENT], 81), "a host without a firewall is open"


def test_outbound(wire: Wire) -> None:
    wire.listen(CLIENT, 80, 81)
    wire.listen(OTHER, 80)
    wire.listen(WEB, 80)
    wire.put((WEB, firewall("ACCEPT DROP", outbound=(rule("TCP", f"{PUBLIC[CLIENT]}/32", ports="80"),))))
    assert wire.reaches(WEB, PUBLIC[CLIENT], 80, 81) == [80]
    assert not wire.reaches(WEB, PUBLIC[OTHER], 80)
    assert wire.reaches(OTHER, PUBLIC[WEB], 80), "the replies to what came in go out"


def test_the_first_rule_that_matches_decides(wire: Wire) -> None:
    wire.listen(WEB, 80, 81)
    rules = rule("TCP", f"{PUBLIC[CLIENT]}/32", ports="80", action="DROP"), rule("TCP", ports="80")
    wire.put((WEB, firewall("ACCEPT ACCEPT", inbound=rules)))
    assert wire.reaches(CLIENT, PUBLIC[WEB], 80, 81) == [81]
    assert wire.reaches(OTHER, PUBLIC[WEB], 80, 81) == [80, 81]


def test_a_packet_has_to_pass_the_firewalls_of_both_its_ends(wire: Wire) -> None:
    wire.listen(WEB, 80, 81)
    server = firewall("DROP ACCEPT", inbound=(rule("TCP", ports="80"),), number=100)
    for policy, open_ports in (("DROP ACCEPT", [80]), ("DROP DROP", [])):
        wire.put((WEB, server), (CLIENT, firewall(policy, number=101)))
        assert wire.reaches(CLIENT, PUBLIC[WEB], 80, 81) == open_ports
    assert wire.reaches(OTHER, PUBLIC[WEB], 80, 81) == [80]


def test_a_legacy_linodes_firewall_covers_its_vpc_too(wire: Wire) -> None:
    wire.listen(WEB, 80, 81)
    wire.put((WEB, firewall("DROP ACCEPT", inbound=(rule("TCP", "10.0.0.0/24", ports="80"),))))
    assert wire.reaches(CLIENT, PRIVATE[WEB], 80, 81) == [80]
    assert not wire.reaches(CLIENT, PUBLIC[WEB], 80)


@pytest.mark.parametrize(("purpose", "closed", "open_"), [("public", PUBLIC, PRIVATE), ("vpc", PRIVATE, PUBLIC)])
def test_an_interfaces_firewall_covers_that_interface(
    wire: Wire, purpose: str, closed: dict[int, str], open_: dict[int, str]
) -> None:
    wire.listen(WEB, 80)
    wire.put_on_interface(WEB, purpose, firewall("DROP ACCEPT"))
    assert not wire.reaches(CLIENT, closed[WEB], 80)
    assert wire.reaches(CLIENT, open_[WEB], 80)


def test_protocols(wire: Wire) -> None:
    wire.listen(WEB, 53)
    (server,) = wire.listen(WEB, 53, kind=socket.SOCK_DGRAM)

    def passing() -> set[str]:
        wire.open(CLIENT, socket.SOCK_DGRAM).sendto(b"x", (PUBLIC[WEB], 53))
        with contextlib.suppress(TimeoutError):
            assert server.recv(9) == b"x"
            return {"UDP", *others()}
        return others()

    def others() -> set[str]:
        found = {"TCP"} if wire.reaches(CLIENT, PUBLIC[WEB], 53) else set()
        found |= {"ICMP"} if wire.pings(CLIENT, PUBLIC[WEB]) else set()
        return found | {name for name, number in (("IPENCAP", 4), ("47", 47)) if wire.carries(number, CLIENT, WEB)}

    every = {"TCP", "UDP", "ICMP", "IPENCAP", "47"}
    assert passing() == every
    for name in sorted(every):
        ports = "53" if name in ("TCP", "UDP") else None
        wire.put((WEB, firewall("DROP ACCEPT", inbound=(rule(name, ports=ports),))))
        assert passing() == {name}
        wire.put((WEB, firewall("ACCEPT ACCEPT", inbound=(rule(name, ports=ports, action="DROP"),))))
        assert passing() == every - {name}
    wire.put((WEB, firewall("DROP ACCEPT", inbound=(rule("ALL"),))))
    assert passing() == every
    wire.put((WEB, firewall("DROP ACCEPT", inbound=(rule("6", ports="53"),))))
    assert passing() == {"TCP"}


def test_what_is_the_platforms_own_is_not_filtered(wire: Wire) -> None:
    """The gateway, and the metadata service, here on the far side of a router."""
    outside = f"{network.PREFIX}outside"
    wire.do(run("ip", "-n", outside, "addr", "add", f"{METADATA}/32", "dev", "lo"))
    wire.do(run("ip", "-n", network.ROUTER, "route", "add", METADATA, "dev", "outside"))
    wire.listen("outside", 80)
    wire.put((WEB, firewall("DROP DROP")))
    assert not wire.reaches(WEB, OUTSIDE, 80)
    assert wire.reaches(WEB, METADATA, 80)
    assert wire.pings(WEB, network.PUBLIC_GATEWAY)


def test_a_connection_that_was_let_through_outlives_the_rule(wire: Wire) -> None:
    wire.put((WEB, firewall("DROP ACCEPT", inbound=(rule("TCP", ports="80"),))))
    talk = Talk(wire, CLIENT, WEB, 80)
    assert talk.carries()
    wire.put((WEB, firewall("DROP DROP")))
    assert talk.carries()
    assert not wire.reaches(CLIENT, PUBLIC[WEB], 80)


def test_a_connection_outlives_a_time_without_the_firewall(wire: Wire) -> None:
    closed = firewall("DROP ACCEPT")
    wire.put((CLIENT, closed))
    talk = Talk(wire, CLIENT, WEB, 80)
    for others in ((), ((OTHER, closed),)):
        wire.put(*others)
        talk.pour()
        wire.put((CLIENT, closed))
        assert talk.carries()


def test_connections_that_are_there_when_a_firewall_comes(wire: Wire) -> None:
    """The next packet of one counts as its first: it goes on if that packet may pass."""
    asking, asked = Talk(wire, WEB, CLIENT, 80), Talk(wire, CLIENT, WEB, 80)
    wire.put((WEB, firewall("DROP ACCEPT")))
    assert asking.carries()
    assert not asked.carries()


def test_many_addresses(wire: Wire) -> None:
    wire.listen(WEB, 80)
    strangers = [f"10.{number}.0.0/16" for number in range(254)]
    allowed = firewall("DROP ACCEPT", inbound=(rule("TCP", *strangers, f"{PUBLIC[CLIENT]}/32", ports="80"),))
    wire.put((WEB, allowed))
    assert wire.reaches(CLIENT, PUBLIC[WEB], 80)
    assert not wire.reaches(OTHER, PUBLIC[WEB], 80)


def test_hosts_without_a_firewall_are_not_tracked_beside_one_that_has_it(wire: Wire) -> None:
    wire.listen(OTHER, 80)
    wire.put((WEB, firewall("DROP ACCEPT")))
    before = wire.tracked()
    assert wire.reaches(CLIENT, PUBLIC[OTHER], 80)
    assert wire.tracked() == before
    assert wire.reaches(WEB, PUBLIC[OTHER], 80)
    assert wire.tracked() == before + 1


def test_a_router_filters_from_its_first_moment(wire: Wire) -> None:
    """A VPC's router is made for the first host in it; what it is to filter by may be there before."""
    subnet = Subnet(10, 9, "late", "10.9.0.0/24")
    late = [Interface(number * 10, "vpc", subnet_id=subnet.id) for number in (4, 5)]
    hosts = [linode(number, interface) for number, interface in zip((4, 5), late, strict=True)]
    device = FirewallDevice(500, 100, "linode", 4, 4)
    wire.do(wire.network.filter(rulesets(hosts, [subnet], [firewall("DROP ACCEPT")], [device])))
    for host in hosts:
        vpc = VpcAddress(subnet.vpc_id, subnet.id, f"10.9.0.{host.id}", subnet.ipv4)
        wire.do(wire.network.add_host(host.id, None, (vpc,)))
        wire.listen(host.id, 80)
    assert wire.reaches(4, "10.9.0.5", 80)
    assert not wire.reaches(5, "10.9.0.4", 80)
