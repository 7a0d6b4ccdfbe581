# SPDX-License-Identifier: GPL-3.0-or-later
"""plan.yml against the lab's account: what it says, and that it changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml
from lab_server import KEY, TOKEN, Server

PROJECT = Path(__file__).parents[2]


def plan(folder: Path, server: Server, **variables: Any) -> str:
    """Run plan.yml with these variables and return what it prints."""
    (folder / "hosts.yml").write_text("all: {}\n")
    given = {"fleet_api_url": f"{server.address}/v4", "fleet_api_token": TOKEN, "stack_secrets_dir": str(folder / "s")}
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", folder / "hosts.yml"]
    command += ["-e", json.dumps({**given, **variables}), PROJECT / "playbooks" / "plan.yml"]
    environment = {**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
    run = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


FLEET = {
    "fleet_name": "planned",
    "fleet_region": "de-fra-2",
    "fleet_tiers": {
        "load_balancer": {"count": 1, "max": 2, "type": "g6-dedicated-4"},
        "app_server": {"count": 2, "max": 4, "type": "g6-dedicated-4"},
    },
}


def test_an_account_with_half_a_fleet_and_strangers(shared: Server, tmp_path: Path) -> None:
    with httpx.Client(base_url=f"{shared.address}/v4", headers={"Authorization": f"Bearer {TOKEN}"}) as api:

        def make(path: str, **body: Any) -> dict[str, Any]:
            answer = api.post(path, json=body)
            assert answer.status_code == 200, answer.text
            made: dict[str, Any] = answer.json()
            return made

        subnets = [{"label": "planned", "ipv4": "10.0.0.0/20"}]
        vpc = make("/vpcs", label="planned", region="de-fra-2", subnets=subnets)
        subnet = vpc["subnets"][0]["id"]

        def host(label: str, address: str, *tags: str) -> dict[str, Any]:
            inside = {"subnet_id": subnet, "ipv4": {"addresses": [{"address": address}]}}
            size = {"region": "de-fra-2", "type": "g6-dedicated-4", "interface_generation": "linode"}
            tagged = {"label": label, "tags": list(tags), "image": "linode/debian13", "authorized_keys": [KEY]}
            return make("/linode/instances", **size, **tagged, interfaces=[{"public": {}}, {"vpc": inside}])

        made = [
            host("planned-app_server-1", "10.0.2.10", "planned", "app_server"),
            host("planned-app_server-3", "10.0.2.12", "planned", "app_server"),
            host("stranger", "10.0.2.99", "other"),
        ]
        said = plan(tmp_path, shared, **FLEET)
        after = {row["label"] for row in api.get("/linode/instances?page_size=500").json()["data"]}
        for row in made:
            api.delete(f"/linode/instances/{row['id']}", timeout=30)
        api.delete(f"/vpcs/{vpc['id']}")
    assert "Costs $144 a month now, $288 then." in said
    assert "Would make: planned-load_balancer-1, planned-app_server-2." in said
    assert "fleet_remove=planned-app_server-3" in said
    assert "in its VPC planned: stranger." in said
    assert after >= {"stranger", "planned-app_server-1"} and "planned-app_server-2" not in after


def test_without_a_cloud_there_is_nothing_to_pay(shared: Server, tmp_path: Path) -> None:
    assert "no fleet_tiers" in plan(tmp_path, shared)
    assert yaml.safe_load((tmp_path / "hosts.yml").read_text()) == {"all": {}}
