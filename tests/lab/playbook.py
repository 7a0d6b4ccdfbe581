# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's playbooks, run against the lab's account, and that account by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from lab_server import KEY, TOKEN, Server

PROJECT = Path(__file__).parents[2]


def play(playbook: str, folder: Path, server: Server, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run a playbook with these variables on an inventory with no host; ``folder`` keeps its files."""
    (folder / "hosts.yml").write_text("all: {}\n")
    given = {"fleet_api_url": f"{server.address}/v4", "fleet_api_token": TOKEN, "stack_secrets_dir": str(folder / "s")}
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", folder / "hosts.yml"]
    command += ["-e", json.dumps({**given, **variables}), PROJECT / "playbooks" / f"{playbook}.yml"]
    environment = {**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment, check=False)


class Account:
    """The account behind a server; what was made here is deleted at the end of the ``with`` block."""

    def __init__(self, server: Server) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self._api = httpx.Client(base_url=f"{server.address}/v4", headers=headers, timeout=30)
        self._hosts: dict[str, int] = {}
        self._vpcs: dict[str, int] = {}
        self._others: list[str] = []

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *_: object) -> None:
        for label in list(self._hosts):
            self.delete(label)
        for path in reversed(self._others):
            self._api.delete(path)
        for number in self._vpcs.values():
            self._api.delete(f"/vpcs/{number}")
        self._api.close()

    def _make(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self._api.post(path, json=body)
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def add(self, path: str, **body: Any) -> int:
        """Make anything but an instance or a VPC, and return its id."""
        made: int = self._make(path, **body)["id"]
        self._others.append(f"{path}/{made}")
        return made

    def vpc(self, label: str) -> int:
        """Make a VPC and return the id of its subnet, 10.0.0.0/20."""
        made = self._make("/vpcs", label=label, region="de-fra-2", subnets=[{"label": label, "ipv4": "10.0.0.0/20"}])
        self._vpcs[label] = made["id"]
        subnet: int = made["subnets"][0]["id"]
        return subnet

    def host(self, label: str, subnet: int | None, address: str | None, *tags: str, size: str = "g6-nanode-1") -> None:
        interfaces: list[dict[str, Any]] = [{"public": {}}]
        if subnet:
            interfaces.append({"vpc": {"subnet_id": subnet, "ipv4": {"addresses": [{"address": address}]}}})
        where = {"region": "de-fra-2", "type": size, "interface_generation": "linode", "interfaces": interfaces}
        what = {"image": "linode/debian13", "authorized_keys": [KEY], "label": label, "tags": list(tags)}
        self._hosts[label] = self._make("/linode/instances", **where, **what)["id"]

    def delete(self, label: str) -> None:
        self._api.delete(f"/linode/instances/{self._hosts.pop(label)}")

    def names(self, path: str, key: str = "label") -> set[str]:
        """Return what a list of the account has."""
        return {row[key] for row in self._api.get(path, params={"page_size": 500}).json()["data"]}

    def labels(self) -> set[str]:
        """Return the labels of the instances made here that are still there."""
        return self.names("/linode/instances") & set(self._hosts)

    def vpcs(self) -> set[str]:
        return self.names("/vpcs") & set(self._vpcs)
