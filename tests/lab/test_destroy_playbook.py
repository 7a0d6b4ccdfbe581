# SPDX-License-Identifier: GPL-3.0-or-later
"""destroy.yml against the lab's account: it shows and removes what is the fleet's, and nothing else."""

from __future__ import annotations

from pathlib import Path

from lab_server import Server
from playbook import Account, play

FLEET = {
    "fleet_name": "doomed",
    "fleet_region": "de-fra-2",
    "fleet_admin_cidrs": ["198.51.100.254/32"],
    "fleet_tiers": {"app_server": {"count": 1, "max": 2, "type": "g6-nanode-1"}},
}


def test_only_the_fleets_own_goes(shared: Server, tmp_path: Path) -> None:
    with Account(shared) as account:
        subnet = account.vpc("doomed")
        account.host("doomed-app_server-1", subnet, "10.0.2.10", "doomed", "app_server")
        account.host("renamed-by-hand", subnet, "10.0.2.11", "doomed", "app_server")
        account.host("stranger", subnet, "10.0.2.99", "doomed")
        account.host("other-app_server-1", None, None, "other", "app_server")

        run = play("destroy", tmp_path, shared, **FLEET)
        assert run.returncode == 0, run.stdout
        said = " ".join(run.stdout.split())
        assert "doomed-app_server-1, renamed-by-hand" in said
        assert "doomed stays, as it holds others, too: stranger" in said
        assert account.labels() == {"stranger", "other-app_server-1"}
        assert account.vpcs() == {"doomed"}

        account.delete("stranger")
        assert "changed=1" in play("destroy", tmp_path, shared, **FLEET).stdout
        assert account.vpcs() == set()
        assert "changed=0" in play("destroy", tmp_path, shared, **FLEET).stdout
        assert account.labels() == {"other-app_server-1"}
