# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small Linode account behind real HTTP on loopback: every answer comes from its state, and faults are ordered."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.module_utils.testing import patch_module_args

TOKEN = "right"
NEXT_STATUS = {"provisioning": "booting", "booting": "running"}


class Refusal(Exception):
    def __init__(self, status: int, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.error = {"reason": reason, **({"field": field} if field else {})}


@dataclass
class Fault:
    """What happens to the next request of a kind, instead of its answer.

    :ivar status: answer with this status; 0 closes the connection without a word.
    :ivar done: whether what was asked for is done all the same.
    """

    method: str
    path: str
    status: int = 0
    done: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Account:
    instances: list[dict[str, Any]] = field(default_factory=list)
    vpcs: list[dict[str, Any]] = field(default_factory=list)
    vpc_ips: list[dict[str, Any]] = field(default_factory=list)
    user_data: dict[str, str] = field(default_factory=dict)
    regions: dict[str, list[str]] = field(
        default_factory=lambda: {"de-fra-2": ["Linodes", "VPCs"], "us-east": ["Linodes"]}
    )
    types: list[str] = field(default_factory=lambda: ["g6-nanode-1", "g6-dedicated-4"])
    images: list[str] = field(default_factory=lambda: ["linode/debian13", "private/1"])
    faults: list[Fault] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    after_page: Callable[[Account, str, int], None] = lambda account, path, page: None
    url: str = ""
    lock: Any = field(default_factory=threading.RLock)
    last_id: int = 100

    def writes(self) -> list[tuple[str, str]]:
        return [call for call in self.calls if call[0] != "GET"]

    def labels(self) -> list[str]:
        return [row["label"] for row in self.instances]

    def add_instance(self, label: str, tags: list[str], **values: Any) -> dict[str, Any]:
        self.last_id += 1
        row = {
            "id": self.last_id,
            "label": label,
            "tags": tags,
            "status": "running",
            "region": "de-fra-2",
            "type": "g6-nanode-1",
            "image": "linode/debian13",
            "ipv4": [f"198.51.100.{self.last_id % 250}"],
            "ipv6": f"2001:db8::{self.last_id:x}/128",
            "specs": {"vcpus": 1, "memory": 1024},
            "placement_group": None,
            "interface_generation": "linode",
            "backups": {"enabled": False},
        } | values
        self.instances.append(row)
        return row

    def add_vpc(
        self, label: str, region: str = "de-fra-2", subnets: tuple[tuple[str, str], ...] = ()
    ) -> dict[str, Any]:
        self.last_id += 1
        vpc = {"id": self.last_id, "label": label, "region": region, "description": "", "subnets": []}
        self.vpcs.append(vpc)
        for name, network in subnets:
            self.add_subnet(vpc, {"label": name, "ipv4": network})
        return vpc

    def add_subnet(self, vpc: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        if any(row["label"] == body["label"] for row in vpc["subnets"]):
            raise Refusal(400, "Subnet label must be unique", "label")
        self.last_id += 1
        subnet = {"id": self.last_id, "label": body["label"], "ipv4": body["ipv4"], "linodes": []}
        vpc["subnets"].append(subnet)
        return subnet

    def attach(self, instance: dict[str, Any], vpc: dict[str, Any], subnet: dict[str, Any], address: str) -> None:
        subnet["linodes"].append({"id": instance["id"], "interfaces": []})
        row = {"address": address, "vpc_id": vpc["id"], "subnet_id": subnet["id"], "linode_id": instance["id"]}
        self.vpc_ips.append(row | {"active": True, "nat_1_1": None})

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """The rows of a list, or the object."""
        lists = {
            "/linode/instances": self.instances,
            "/vpcs": self.vpcs,
            "/vpcs/ips": self.vpc_ips,
            "/regions": [{"id": name, "capabilities": able} for name, able in self.regions.items()],
            "/linode/types": [{"id": name} for name in self.types],
            "/images": [{"id": name} for name in self.images],
            "/regions/availability": [],
        }
        if method == "GET" and path in lists:
            return list(lists[path])
        if (method, path) == ("POST", "/linode/instances"):
            return self.create_instance(body)
        if (method, path) == ("POST", "/vpcs"):
            if any(row["label"] == body["label"] for row in self.vpcs):
                raise Refusal(400, "Label must be unique among your VPCs", "label")
            vpc = self.add_vpc(body["label"], body["region"])
            vpc["description"] = body["description"]
            for subnet in body["subnets"]:
                self.add_subnet(vpc, subnet)
            return vpc
        if match := re.fullmatch(r"/linode/instances/(\d+)(/boot)?", path):
            return self.change(self.instances, int(match[1]), method, body, match[2])
        if match := re.fullmatch(r"/vpcs/(\d+)", path):
            return self.change(self.vpcs, int(match[1]), method, body)
        if match := re.fullmatch(r"/vpcs/(\d+)/subnets", path):
            vpc = self.one(self.vpcs, int(match[1]))
            return list(vpc["subnets"]) if method == "GET" else self.add_subnet(vpc, body)
        if match := re.fullmatch(r"/vpcs/(\d+)/ips", path):
            return [row for row in self.vpc_ips if row["vpc_id"] == int(match[1])]
        raise Refusal(404, "Not found")

    def create_instance(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["label"] in self.labels():
            raise Refusal(400, "Label must be unique among your linodes", "label")
        assert body["interface_generation"] == "linode" and body["interfaces"][0] == {"public": {}}
        assert body["authorized_keys"] and body["booted"] is True
        names = ("region", "type", "image")
        instance = self.add_instance(
            body["label"], sorted(body["tags"]), status="provisioning", **{name: body[name] for name in names}
        )
        if "metadata" in body:
            self.user_data[body["label"]] = body["metadata"]["user_data"]
        for interface in body["interfaces"][1:]:
            subnet_id = interface["vpc"]["subnet_id"]
            vpc, subnet = next((v, s) for v in self.vpcs for s in v["subnets"] if s["id"] == subnet_id)
            self.attach(instance, vpc, subnet, interface["vpc"]["ipv4"]["addresses"][0]["address"])
        return instance

    def one(self, rows: list[dict[str, Any]], number: int) -> dict[str, Any]:
        found = next((row for row in rows if row["id"] == number), None)
        if found is None:
            raise Refusal(404, "Not found")
        return found

    def change(
        self, rows: list[dict[str, Any]], number: int, method: str, body: dict[str, Any], action: str | None = None
    ) -> dict[str, Any]:
        row = self.one(rows, number)
        if action:
            if row["status"] != "offline":
                raise Refusal(400, "Linode busy.")
            row["status"] = "booting"
            return {}
        if method == "DELETE":
            rows.remove(row)
            self.vpc_ips = [ip for ip in self.vpc_ips if ip["linode_id"] != number]
            return {}
        row.update(body)
        return row

    def proceed(self) -> None:
        """Time passes: instances come one status nearer to running."""
        for row in self.instances:
            if row["label"] not in self.stuck:
                row["status"] = NEXT_STATUS.get(row["status"], row["status"])


def matches(row: dict[str, Any], term: dict[str, Any]) -> bool:
    for key, value in term.items():
        if key == "+and":
            found = all(matches(row, part) for part in value)
        elif key == "+or":
            found = any(matches(row, part) for part in value)
        elif key in ("id", "label", "region", "group", "tags"):
            found = value in row["tags"] if key == "tags" else row.get(key) == value
        else:
            raise Refusal(400, f"Cannot filter on {key}", "X-Filter")
        if not found:
            return False
    return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    account: Account

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        account, parts = self.account, urlsplit(self.path)
        path = parts.path.removeprefix("/v4")
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        with account.lock:
            account.calls.append((self.command, path))
            account.times.setdefault(f"{self.command} {path}", []).append(time.monotonic())
            fault = next((f for f in account.faults if (f.method, f.path) == (self.command, path)), None)
            if fault:
                account.faults.remove(fault)
            status, headers = 200, {}
            try:
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    raise Refusal(401, "Invalid Token")
                if fault and not fault.done:
                    raise Refusal(fault.status, "ordered")
                reply = account.answer(self.command, path, body)
                if isinstance(reply, list):
                    reply = self.page(reply, path, parse_qs(parts.query))
                payload = json.dumps(reply)
            except Refusal as refusal:
                status, payload = refusal.status, json.dumps({"errors": [refusal.error]})
            if fault:
                status, headers = fault.status, fault.headers
        if not status:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(payload)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload.encode())

    def page(self, rows: list[dict[str, Any]], path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        rows = [row for row in rows if matches(row, json.loads(self.headers.get("X-Filter") or "{}"))]
        number, size = int(query["page"][0]), int(query["page_size"][0])
        pages = max(1, -(-len(rows) // size))
        if number > pages:
            raise Refusal(404, "Not found")
        data = json.loads(json.dumps(rows[(number - 1) * size : number * size]))
        reply = {"data": data, "page": number, "pages": pages, "results": len(rows)}
        if path == "/linode/instances":
            self.account.proceed()
        self.account.after_page(self.account, path, number)
        return reply

    do_GET = do_POST = do_PUT = do_DELETE = handle_any


@contextmanager
def serve(account: Account) -> Iterator[Account]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"account": account}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    account.url = f"http://127.0.0.1:{server.server_port}/v4"
    try:
        yield account
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(module: Any, account: Account, capsys: Any, failing: bool = False, **options: Any) -> dict[str, Any]:
    """The result of a module run with these options on the account."""
    arguments = {"api_token": TOKEN, "api_url": account.url, "api_timeout": 5, **options}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    result = json.loads(capsys.readouterr().out)
    assert result.get("failed", False) is failing, result
    return result
