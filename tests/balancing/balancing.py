# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of balancing are made with. The test is a client of this machine, 198.51.100.254 to its hosts."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab_server import Server, wait_for

from lab.balancers import HaproxyBalancers
from lab.hosts import Host, NoHosts
from lab.network import ROUTER, Network, balancer_namespace, host_namespace
from lab.settings import Settings
from lab.shell import run

HTTP, LINES = 8080, 7000
CHECK = {"check_interval": 2, "check_timeout": 1, "check_attempts": 1}  # as often as can be


class BareHosts(NoHosts):
    """Linodes that are a network namespace with ``node.py`` in it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self._servers: dict[int, subprocess.Popen[bytes]] = {}

    async def create(self, host: Host) -> None:
        async with self.network.wiring:
            await self.network.add_host(host.id, host.public_ipv4, host.vpc)
        await run("ip", "-n", host_namespace(host.id), "addr", "add", f"{private(host.id)}/17", "dev", "eth0")
        await run("ip", "-n", ROUTER, "route", "add", f"{private(host.id)}/32", "dev", f"h{host.id}")

    async def start(self, host: Host) -> None:
        argv = [sys.executable, str(Path(__file__).with_name("node.py")), host.label]
        self._servers[host.id] = subprocess.Popen(["ip", "netns", "exec", host_namespace(host.id), *argv])
        await super().start(host)

    async def stop(self, host: Host) -> None:
        server = self._servers.pop(host.id)
        server.kill()
        server.wait()
        await super().stop(host)

    async def cleanup(self) -> None:
        for server in self._servers.values():
            server.kill()
            server.wait()
        await self.network.down()


class Rig:
    """The lab, and in it three Linodes of one VPC."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.hosts = BareHosts(Network(settings.state))
        asyncio.run(self.hosts.network.up())
        self.api = self.serve()
        self.subnet = self.api.subnet()
        wish = {
            "region": "de-fra-2",
            "interfaces": [{"purpose": "public"}, {"purpose": "vpc", "subnet_id": self.subnet["id"]}],
        }
        self.linodes = [self.api.linode(label=f"node-{name}", **wish) for name in "abc"]
        for linode in self.linodes:
            self.api.settled(linode["id"], "running")
            wait_for(lambda address=linode["ipv4"][0]: answers(address))

    def serve(self) -> Server:
        balancers = HaproxyBalancers(self.settings.state, self.hosts.network)
        return Server(replace(self.settings), self.hosts, balancers)

    def vpc_address(self, number: int) -> str:
        return str(self.api.get(f"/linode/instances/{self.linodes[number]['id']}/ips")["ipv4"]["vpc"][0]["address"])

    def status(self, number: int, code: int) -> None:
        """Let a Linode answer all requests with a status."""
        ask(self.linodes[number]["ipv4"][0], HTTP, "POST", f"/status/{code}")


class Balancer:
    """A NodeBalancer in the VPC, of one config, with the first Linodes as its nodes; ``modes`` says how many."""

    def __init__(self, rig: Rig, *modes: str, balancer: Any = None, **config: Any) -> None:
        self._rig = rig
        port = LINES if config.get("protocol") == "tcp" else HTTP
        nodes = [
            {
                "label": f"node-{number}",
                "address": f"{rig.vpc_address(number)}:{port}",
                "subnet_id": rig.subnet["id"],
                "mode": mode,
            }
            for number, mode in enumerate(modes)
        ]
        wish = {"region": "de-fra-2", "vpcs": [{"subnet_id": rig.subnet["id"]}], **(balancer or {})}
        made = rig.api.post("/nodebalancers", **wish, configs=[{**CHECK, **config, "nodes": nodes}])
        self.id, self.address = made["id"], made["ipv4"]
        self.path = f"/nodebalancers/{self.id}"
        (self.config,) = rig.api.get(f"{self.path}/configs")["data"]
        self.config_path = f"{self.path}/configs/{self.config['id']}"
        self.node_paths = [f"{self.config_path}/nodes/{row['id']}" for row in self.nodes()]

    def nodes(self) -> list[Any]:
        return list(self._rig.api.get(f"{self.config_path}/nodes")["data"])

    def states(self) -> list[str]:
        return [node["status"] for node in self.nodes()]

    def health(self) -> tuple[int, int]:
        status = self._rig.api.get(self.config_path)["nodes_status"]
        return status["up"], status["down"]

    def set(self, number: int, **changes: Any) -> None:
        self._rig.api.put(self.node_paths[number], **changes)

    def ask(self, headers: Any = None) -> Any:
        """Return what a node says to one request."""
        return ask(self.address, headers=headers)

    def answering(self, requests: int) -> Counter[str]:
        return Counter(self.ask()["node"] for _ in range(requests))

    def connect(self) -> Connection:
        return Connection(self.address)


class Connection:
    """A connection to port 80 of a NodeBalancer that speaks lines."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_connection((address, 80), timeout=5)
        self._file = self._socket.makefile("rw")

    def say(self, line: str) -> list[str]:
        """Return the node's name, the hex of the PROXY header it got, and the line."""
        self._file.write(f"{line}\n")
        self._file.flush()
        return self._file.readline().rstrip("\n").split(" ")

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def ask(address: str, port: int = 80, method: str = "GET", path: str = "/", headers: Any = None) -> Any:
    """Return what a node says to one request on a connection of its own. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request(method, path, headers=headers or {})
        reply = connection.getresponse()
        if reply.status != 200:
            raise http.client.HTTPException(f"{address} answered {reply.status}")
        return json.load(reply)
    finally:
        connection.close()


def answers(address: str) -> bool:
    try:
        return bool(ask(address, HTTP))
    except OSError:
        return False


def private(host_id: int) -> str:
    """Return the private address of a Linode of the rig."""
    return f"192.168.130.{host_id % 250 + 1}"


def haproxies(balancer_id: int) -> list[int]:
    """Return the pids in a NodeBalancer's namespace."""
    said = asyncio.run(run("ip", "netns", "pids", balancer_namespace(balancer_id)))
    return [int(line) for line in said.split()]
