# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input is refused by site.yml before a host or the account is touched, in words that say what to mend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab_server import TOKEN, Server

PROJECT = Path(__file__).parents[2]
TIER = {"count": 1, "max": 2, "type": "g6-nanode-1"}
FLEET: dict[str, Any] = {
    "fleet_name": "refused",
    "fleet_region": "de-fra-2",
    "fleet_admin_cidrs": ["198.51.100.254/32"],
    "fleet_image": "linode/debian13",
    "fleet_subnet": "10.0.0.0/20",
    "fleet_tiers": {"app_server": TIER},
    "fleet_api_token": TOKEN,
}


def tiers(**values: object) -> dict[str, Any]:
    return {"fleet_tiers": {"app_server": {**TIER, **values}}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"load_balancer_engine": "traefik"}, "load_balancer_engine is 'traefik'; allowed are haproxy and nginx"),
        ({"fleet_tiers": {"app": TIER}}, "fleet_tiers has the tier 'app': known are load_balancer"),
        ({"fleet_region": "de-fra-9"}, "region is de-fra-9"),
        ({"fleet_region": "us-east"}, "region is us-east, which does not offer VPCs. Regions that do: us-sea"),
        ({"fleet_admin_cidrs": None}, "fleet_admin_cidrs is None: it must be a list of 1 to 255"),
        ({"fleet_admin_cidrs": ["office"]}, "fleet_admin_cidrs has 'office'"),
        ({"fleet_front": "haproxy"}, "fleet_front is 'haproxy': it must be none or nodebalancer"),
        ({"fleet_front_type": "big"}, "fleet_front_type is 'big': it must be common or premium"),
        ({"fleet_dns_domain": "nowhere.example"}, "domain is nowhere.example, which the account does not have"),
        (tiers(backups="daily"), "fleet_tiers.app_server.backups is 'daily': it must be true or false"),
        (tiers(type="g6-nanode-9"), "type of refused-app_server-1 is g6-nanode-9"),
        ({"fleet_image": "linode/debian99"}, "image of refused-app_server-1 is linode/debian99"),
        ({"fleet_name": "two words"}, "fleet_name is 'two words': it must have"),
        ({"fleet_api_token": ""}, "No Linode API token: set api_token"),
        ({"fleet_api_token": "wrong"}, "refuses the token"),
        (tiers(count=3), "fleet_tiers.app_server.count is 3: it must be a whole number from 0 to"),
        (tiers(count=-1), "fleet_tiers.app_server.count is -1: it must be a whole number from 0 to"),
        ({"load_balancer_port": 22}, "load_balancer_port is 22, and so is sshd's port"),
        (
            {"app_server_source": "file:///nowhere", "app_server_version": "v1"},
            "git cannot fetch file:///nowhere: fatal",
        ),
        ({"app_server_source": "/usr", "app_server_requirements": "no.txt"}, "requirements is /usr/no.txt: cannot"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(shared: Server, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {}\n")
    variables = {**FLEET, "fleet_api_url": f"{shared.address}/v4", "stack_secrets_dir": str(tmp_path / "s"), **change}
    playbook = PROJECT / "playbooks" / "site.yml"
    run = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, "-e", json.dumps(variables), playbook],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
    )
    assert run.returncode == 2, run.stdout + run.stderr
    assert words in run.stdout + run.stderr
    for path in ("/linode/instances", "/vpcs"):
        assert shared.http.get(path).json()["results"] == 0, f"{path} was written to"
