"""The plan: what would be made, what it costs, and what binds."""

import pytest
from ansible_collections.c50k.stack.plugins.module_utils.capacity import CapacityError
from ansible_collections.c50k.stack.plugins.module_utils.fleet import FleetError
from ansible_collections.c50k.stack.plugins.module_utils.plan import fleet_plan, fleet_plan_lines

SMALL, LARGE = "g6-nanode-1", "g6-dedicated-4"
FLEET = {
    "fleet_name": "demo",
    "fleet_region": "de-fra-2",
    "fleet_image": "linode/debian13",
    "fleet_subnet": "10.0.0.0/20",
    "fleet_tiers": {
        "load_balancer": {"count": 2, "type": LARGE},
        "app_server": {"count": 2, "max": 10, "type": LARGE},
        "redis": {"count": 1, "type": SMALL},
    },
    "fleet_admin_cidrs": ["192.0.2.7/32"],
    "fleet_front": "none",
    "ports": {
        "load_balancer": {"load_balancer_port": 80},
        "app_server": {"app_server_port": 8000},
        "redis": {"redis_port": 6379},
    },
}
TYPES = {
    SMALL: {"vcpus": 1, "memory": 1024, "monthly": 5.0, "backups": 2.0},
    LARGE: {"vcpus": 4, "memory": 8192, "monthly": 72.0, "backups": 10.0},
}


def account(*hosts, **change):
    """The account with these hosts: (tier, number, type, backups)."""
    instances = [
        {"label": f"demo-{tier}-{number}", "tier": tier, "type": size, "backups": backups}
        for tier, number, size, backups in hosts
    ]
    empty = {"vpc": {}, "firewalls": [], "placement_groups": [], "placement_limit": 5, "front": {}}
    nodebalancers = {"common": 10.0, "premium": 150.0}
    return {"instances": instances, **empty, "types": TYPES, "nodebalancers": nodebalancers} | change


def test_an_empty_account():
    plan = fleet_plan(FLEET, account(), 50_000)
    assert plan["make"] == [
        *("demo-load_balancer-1", "demo-load_balancer-2", "demo-app_server-1", "demo-app_server-2", "demo-redis-1")
    ]
    assert (plan["monthly_now"], plan["monthly_then"]) == (0, 4 * 72 + 5)
    assert [(row["tier"], row["exists"], row["wanted"], row["monthly"]) for row in plan["tiers"]] == [
        ("load_balancer", 0, 2, 144),
        ("app_server", 0, 2, 144),
        ("redis", 0, 1, 5),
    ]


def test_what_is_free_of_charge_is_named_until_it_is_there():
    tiers = ("load_balancer", "app_server", "redis")
    assert fleet_plan(FLEET, account())["make_free"] == [
        "VPC demo",
        *(f"firewall demo-{tier}" for tier in tiers),
        *(f"placement group demo-{tier}" for tier in tiers),
    ]
    there = account(
        vpc={"label": "demo", "strangers": []},
        firewalls=[{"label": f"demo-{tier}"} for tier in tiers],
        placement_groups=[f"demo-{tier}" for tier in tiers],
    )
    assert fleet_plan(FLEET, there)["make_free"] == []
    assert not any("placement" in name for name in fleet_plan(FLEET, account(placement_limit=0))["make_free"])


def test_a_nodebalancer_and_backups_have_their_price():
    tiers = {"redis": {"count": 2, "type": SMALL, "backups": True}}
    wanted = {**FLEET, "fleet_tiers": tiers, "fleet_front": "nodebalancer", "fleet_front_type": "premium"}
    plan = fleet_plan(wanted, account())
    assert plan["make"][0] == "NodeBalancer demo"
    assert (plan["monthly_now"], plan["monthly_then"]) == (0, 150 + 2 * (5 + 2))
    assert fleet_plan_lines(plan, {})[2].split() == ["front", "0", "1", "1", *"premium NodeBalancer $150 $150".split()]
    there = fleet_plan({**wanted, "fleet_front": "none"}, account(front={"type": "common"}))
    assert (there["monthly_now"], there["keep"], "NodeBalancer demo" in there["make"]) == (
        10,
        "NodeBalancer demo",
        False,
    )
    assert "Kept, though fleet_front is none: NodeBalancer demo." in "\n".join(fleet_plan_lines(there, {}))


def test_what_exists_counts_as_it_is():
    hosts = [("app_server", 1, SMALL, True), ("app_server", 4, LARGE, False), ("app_server", 10, LARGE, False)]
    plan = fleet_plan(FLEET, account(*hosts), 50_000)
    assert plan["monthly_now"] == 5 + 2 + 72 + 72
    assert plan["monthly_then"] == plan["monthly_now"] + 3 * 72 + 5
    assert "demo-app_server-1" not in plan["make"] and "demo-app_server-2" in plan["make"]
    assert plan["beyond"] == ["demo-app_server-10", "demo-app_server-4"]


@pytest.mark.parametrize("target", [1_000, 50_000, 300_000])
def test_what_is_added_reaches_the_target(target):
    plan = fleet_plan(FLEET, account(), target)
    assert plan["obstacle"] == "" and max(plan["reached"], plan["requests_in_flight"]) >= target
    assert bool(plan["add"]) is (plan["requests_in_flight"] < target)
    tiers = {tier: dict(value) for tier, value in FLEET["fleet_tiers"].items()}
    for row in plan["add"]:
        tier = tiers[row["tier"]]
        tier["count"] += row["hosts"]
        tier["max"] = max(tier["count"], tier.get("max", 0))
        assert row["monthly"] == row["hosts"] * TYPES[tier["type"]]["monthly"]
    assert fleet_plan({**FLEET, "fleet_tiers": tiers}, account(), target)["requests_in_flight"] == plan["reached"]


@pytest.mark.parametrize(("kind", "most"), [("common", 10_000), ("premium", 100_000)])
def test_a_nodebalancer_binds(kind, most):
    front = {"fleet_front": "nodebalancer", "fleet_front_type": kind}
    plan = fleet_plan({**FLEET, **front}, account(), 1_000_000)
    assert plan["reached"] == most
    assert plan["obstacle"] == f"a {kind} NodeBalancer's concurrent connections"


def test_pools_that_do_not_fit_are_an_obstacle():
    tiers = {**FLEET["fleet_tiers"], "postgres": {"count": 1, "type": SMALL}}
    plan = fleet_plan({**FLEET, "fleet_tiers": {**tiers, "app_server": {"count": 1, "type": SMALL}}}, account(), 10**6)
    assert "database pools do not fit" in plan["obstacle"]


def test_a_type_without_a_price_is_refused():
    with pytest.raises(FleetError, match="fleet_tiers.load_balancer.type is g6-dedicated-4, which"):
        fleet_plan(FLEET, account(types={SMALL: TYPES[SMALL]}), 1)


def test_lines():
    vpc = {"label": "demo", "strangers": ["web"]}
    plan = fleet_plan(FLEET, account(("app_server", 3, LARGE, False)), 1_000)
    lines = fleet_plan_lines(plan, vpc)
    assert lines[0].split() == ["tier", "exists", "wanted", "max", "type", "each/month", "month"]
    assert lines[2].split() == ["app_server", "1", "2", "10", LARGE, "$72", "$216"]
    text = "\n".join(lines)
    assert "Costs $72 a month now, $365 then." in text
    derived = [line.split() for line in lines[lines.index("Derived from the types, for each host:") :]]
    assert ["app_server", "workers", "4"] in derived
    assert ["kernel", "net.core.somaxconn", "65,535"] in derived
    assert "-e fleet_remove=demo-app_server-3" in text
    assert "Not the fleet's, in its VPC demo: web." in text


def test_what_a_user_sets_takes_part_in_the_plan() -> None:
    tiers = {**FLEET["fleet_tiers"], "postgres": {"count": 2, "max": 2, "type": SMALL}}
    fleet = {**FLEET, "fleet_tiers": tiers, "ports": {**FLEET["ports"], "postgres": {"postgres_port": 5432}}}
    given = {"app_server": {"database_pool_size": "20"}, "postgres": {"max_connections": 100}}
    with pytest.raises(CapacityError, match="x 20 connections.*postgres_pooler: pgbouncer, or lower DATABASE_P"):
        fleet_plan({**fleet, "given": given}, account())
    given["postgres"]["pooler"] = "pgbouncer"
    derived = fleet_plan({**fleet, "given": given}, account())["derived"]
    assert ("pgbouncer", "server_connections", "76") in derived
