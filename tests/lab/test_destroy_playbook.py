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


def test_the_front_door_and_what_is_free_of_charge_go_too(shared: Server, tmp_path: Path) -> None:
    rules = {"inbound_policy": "DROP", "outbound_policy": "ACCEPT", "inbound": [], "outbound": []}
    group = {"region": "de-fra-2", "placement_group_type": "anti_affinity:local", "placement_group_policy": "flexible"}
    with Account(shared) as account:
        for label, tags in (("doomed-redis", ["doomed", "redis"]), ("office", ["other"])):
            account.add("/networking/firewalls", label=label, rules=rules, tags=tags)
        for label in ("doomed-redis", "doomed-metrics"):
            account.add("/placement/groups", label=label, **group)
        for label, tags in (("doomed", ["doomed", "front"]), ("doomed-by-hand", ["doomed"])):
            account.add("/nodebalancers", label=label, region="de-fra-2", tags=tags)
        domain = account.add("/domains", domain="doomed.example", type="master", soa_email="a@doomed.example")
        records = f"/domains/{domain}/records"
        for name, kind, target in (
            ("_c50k.www", "TXT", "owner=doomed"),
            ("www", "A", "198.51.100.9"),
            ("mail", "A", "198.51.100.10"),
        ):
            account.add(records, name=name, type=kind, target=target)

        named = {"fleet_dns_domain": "doomed.example", "fleet_dns_name": "www"}
        run = play("destroy", tmp_path, shared, **FLEET, **named)
        assert run.returncode == 0, run.stdout
        for words in ("Name: www.doomed.example", "NodeBalancer: doomed", "doomed-redis"):
            assert words in run.stdout
        assert account.names("/networking/firewalls") & {"doomed-redis", "office"} == {"office"}
        assert account.names("/placement/groups") & {"doomed-redis", "doomed-metrics"} == {"doomed-metrics"}
        assert account.names("/nodebalancers") & {"doomed", "doomed-by-hand"} == {"doomed-by-hand"}
        assert account.names(records, "name") == {"mail"}
        assert "changed=0" in play("destroy", tmp_path, shared, **FLEET, **named).stdout


def test_a_name_that_is_a_strangers_stays(shared: Server, tmp_path: Path) -> None:
    with Account(shared) as account:
        domain = account.add("/domains", domain="other.example", type="master", soa_email="a@other.example")
        account.add(f"/domains/{domain}/records", name="www", type="A", target="198.51.100.9")
        run = play("destroy", tmp_path, shared, **FLEET, fleet_dns_domain="other.example", fleet_dns_name="www")
        assert run.returncode == 2, run.stdout
        assert "www.other.example" in run.stdout
        assert account.names(f"/domains/{domain}/records", "name") == {"www"}
