# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet of the scenario under test, as testinfra hosts over SSH."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
import testinfra

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
INVENTORY = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"], "inventory")
SECRETS = INVENTORY / ".secrets"
CLIENTS = "c50k-clients"  # the network namespace of clients, with a public address of the lab
API = "http://127.0.0.1:4500/v4"
SSH = f"-o UserKnownHostsFile={SECRETS}/known_hosts -o StrictHostKeyChecking=yes -o LogLevel=ERROR"

OPEN, DROPPED = 0, 124  # of timeout(1)
ANY_HOST_KEY = "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR"


def eventually(check: Callable[[], Any], seconds: float = 30, what: str = "it") -> Any:
    """Return what ``check`` returns once that is true; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = check()
            if last:
                return last
        except (httpx.HTTPError, RuntimeError, AssertionError) as error:
            last = error
        time.sleep(0.3)
    raise AssertionError(f"{what} did not happen within {seconds} s: {last!r}")


def command(playbook: str, inventory: Path = INVENTORY, **variables: Any) -> list[str]:
    """Return the words that run one of the collection's playbooks on the scenario's fleet, with extra variables."""
    inventories = (inventory, PROJECT / "molecule/shared/inventory")
    words = ["ansible-playbook", *(f"--inventory={path}" for path in inventories)]
    return [*words, str(PROJECT / f"playbooks/{playbook}.yml"), "--extra-vars", json.dumps(variables)]


def play(playbook: str, inventory: Path = INVENTORY, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run one of the collection's playbooks to its end."""
    words = command(playbook, inventory, **variables)
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def account(method: str, path: str, **body: Any) -> dict[str, Any]:
    """Ask the lab's API as the fleet's owner would by hand, and as patiently: scenarios share the token's limits."""
    token = Path("/var/lib/c50k-lab/token").read_text().strip()
    while True:
        answer = httpx.request(
            method, f"{API}{path}", json=body or None, headers={"Authorization": f"Bearer {token}"}, timeout=60
        )
        if answer.status_code != 429:
            break
        time.sleep(int(answer.headers["retry-after"]))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def dial(address: str, port: int) -> list[str]:
    """Return the words that open a connection; they end with OPEN or DROPPED, or otherwise."""
    return ["timeout", "2", "bash", "-c", f"</dev/tcp/{address}/{port}"]


def dial_from_outside(address: str, port: int) -> int:
    """Do that as a client of the fleets, outside all regions; return how it ended."""
    command = ["ip", "netns", "exec", CLIENTS, *dial(address, port)]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode


def host_of(linode: dict[str, Any]) -> Any:
    """Return a Linode that a test made with the scenario's key, once it runs, as a testinfra host."""
    path = f"/linode/instances/{linode['id']}"
    eventually(lambda: account("GET", path)["status"] == "running", 90, f"{linode['label']} runs")
    return testinfra.get_host(
        f"ssh://root@{linode['ipv4'][0]}", ssh_identity_file=str(SECRETS / "id_ed25519"), ssh_extra_args=ANY_HOST_KEY
    )


class Fleet:
    """The hosts of a fleet by tier, and its front door."""

    def __init__(self, inventory: dict[str, Any]) -> None:
        self.hostvars: dict[str, dict[str, Any]] = inventory["_meta"]["hostvars"]
        self.groups = {name: sorted(group.get("hosts", [])) for name, group in inventory.items() if name != "_meta"}
        self._hosts: dict[str, Any] = {}

    def names(self, tier: str) -> list[str]:
        return self.groups.get(tier, [])

    def host(self, name: str) -> Any:
        """Return the testinfra host called ``name``."""
        if name not in self._hosts:
            address = self.hostvars[name]["ansible_host"]
            self._hosts[name] = testinfra.get_host(
                f"ssh://root@{address}",
                ssh_identity_file=str(SECRETS / "id_ed25519"),
                ssh_extra_args=SSH,
                controlpersist=60,
            )
        return self._hosts[name]

    def tier(self, tier: str) -> list[Any]:
        return [self.host(name) for name in self.names(tier)]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, self.host(name)) for name in sorted(self.hostvars) if "linode_id" in self.hostvars[name])

    def states(self) -> dict[str, str]:
        """Return what systemd says of each host: running, or degraded where a unit failed."""
        return {name: host.run("systemctl is-system-running").stdout.strip() for name, host in self}

    @cached_property
    def front_door(self) -> str:
        """The NodeBalancer's address where the fleet has one, else the first load balancer's."""
        balancer = self.names("load_balancer")[0]
        label = balancer.partition("-load_balancer-")[0]
        found = [row["ipv4"] for row in account("GET", "/nodebalancers")["data"] if row["label"] == label]
        return f"http://{(found or [self.hostvars[balancer]['ansible_host']])[0]}"


def read_fleet() -> Fleet:
    """Return the fleet as the inventory has it now."""
    listing = subprocess.run(
        ["ansible-inventory", f"--inventory={INVENTORY}", f"--inventory={PROJECT}/molecule/shared/inventory", "--list"],
        capture_output=True,
        text=True,
        check=True,
    )
    # what comes from the account is marked as never to be templated
    return Fleet(json.loads(listing.stdout, object_hook=lambda value: value.get("__ansible_unsafe", value)))


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return read_fleet()


@pytest.fixture
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.front_door, timeout=5) as client:
        yield client
