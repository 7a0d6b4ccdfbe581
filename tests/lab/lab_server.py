# SPDX-License-Identifier: GPL-3.0-or-later
"""A real API on a free loopback port, as tests start it; what is behind its instances is ``Rig``."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import uvicorn

from lab.api import Lab, create_app
from lab.balancers import Balancers
from lab.hosts import Host, HostError, NoHosts
from lab.settings import Settings
from lab.shell import CommandError
from lab.store import Store

TOKEN = "t" * 64
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f lab"


class Rig(NoHosts):
    """Hosts that can be held up, made to fail, or switched off behind the API's back; it notes what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int]] = []
        self.hosts: dict[int, Host] = {}
        self.held: set[str] = set()
        self.failing: set[str] = set()
        self.rules: dict[str, str] = {}
        self.rules_at_start: dict[int, dict[str, str]] = {}

    async def _asked(self, call: str, host: Host) -> None:
        self.calls.append((call, host.id))
        self.hosts[host.id] = host
        while call in self.held:
            await asyncio.sleep(0.005)
        if call in self.failing:
            raise HostError(f"{host.label}: no {call} today")

    async def create(self, host: Host) -> None:
        await self._asked("create", host)

    async def filter(self, rules: Mapping[str, str]) -> None:
        if "filter" in self.failing:
            raise CommandError("nft: no rules today")
        self.rules = dict(rules)

    async def start(self, host: Host) -> None:
        self.rules_at_start[host.id] = self.rules
        await self._asked("start", host)
        await super().start(host)

    async def stop(self, host: Host) -> None:
        await self._asked("stop", host)
        await super().stop(host)

    async def delete(self, host: Host) -> None:
        await self._asked("delete", host)
        await super().delete(host)

    def power_off(self, host_id: int) -> None:
        self._running.discard(host_id)

    def named(self, host_id: int) -> list[str]:
        return [call for call, number in self.calls if number == host_id]


class Server:
    """The API in a thread of its own, with its state in ``settings.state``."""

    def __init__(self, settings: Settings, hosts: Any = None, balancers: Balancers | None = None) -> None:
        self.hosts = hosts or Rig()
        self._balancers = balancers
        self.lab: Lab
        self._settings = settings
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.http = httpx.Client(
            base_url=f"{self.address}/v4", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=10
        )
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        wait_for(lambda: hasattr(self, "_server") and self._server.started)

    async def _serve(self) -> None:
        store = Store(self._settings.database, self._settings.hosts)
        self.lab = Lab(self._settings, store, self.hosts, TOKEN, self._balancers)
        config = uvicorn.Config(create_app(self.lab), lifespan="on", log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        await self._server.serve([self._listener])
        store.close()

    def stop(self) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(15)
        assert not self._thread.is_alive()

    def get(self, path: str, **options: Any) -> Any:
        return self._ok(self.http.get(path, **options))

    def post(self, path: str, **body: Any) -> Any:
        return self._ok(self.http.post(path, json=body))

    def put(self, path: str, **body: Any) -> Any:
        return self._ok(self.http.put(path, json=body))

    def delete(self, path: str) -> Any:
        return self._ok(self.http.delete(path))

    def refusals(self, method: str, path: str, **body: Any) -> dict[str | None, str]:
        """Return field -> reason of a request that must be refused with 400."""
        reply = self.http.request(method, path, json=body)
        assert reply.status_code == 400, reply.text
        return {error.get("field"): error["reason"] for error in reply.json()["errors"]}

    def linode(self, **body: Any) -> Any:
        """Create a Linode and return it as created."""
        wish = {"type": "g6-nanode-1", "region": "de-fra-2", "image": "linode/debian13", "authorized_keys": [KEY]}
        return self.post("/linode/instances", **{**wish, **body})

    def settled(self, linode_id: int, status: str) -> Any:
        """Wait until a Linode has a status and nothing is under way on it; return it."""
        wait_for(lambda: linode_id not in self.lab.lifecycle._work)
        linode = self.get(f"/linode/instances/{linode_id}")
        assert linode["status"] == status
        return linode

    def events(self, linode_id: int) -> list[tuple[str, str]]:
        """Return (action, status) of a Linode's events, oldest first."""
        rows = self.get("/account/events")["data"]
        return [(row["action"], row["status"]) for row in rows[::-1] if row["entity"]["id"] == linode_id]

    def subnet(self, ipv4: str = "10.0.0.0/24") -> Any:
        """Create a VPC of one subnet; return the subnet, with the VPC's id as ``vpc_id``."""
        label = f"vpc-{time.monotonic_ns()}"
        vpc = self.post("/vpcs", label=label, region="de-fra-2", subnets=[{"label": "main", "ipv4": ipv4}])
        return {**vpc["subnets"][0], "vpc_id": vpc["id"]}

    @staticmethod
    def _ok(reply: httpx.Response) -> Any:
        assert reply.status_code == 200, reply.text
        return reply.json()


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait until ``condition`` holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.005)
