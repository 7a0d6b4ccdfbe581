"""The fleet's variables: what they describe, and how bad ones are refused."""

from ipaddress import ip_address, ip_network

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.filter.fleet import FilterModule
from ansible_collections.c50k.stack.plugins.module_utils.fleet import (
    MAX_HOSTS,
    TIERS,
    beyond_count,
    fleet_instances,
    fleet_problems,
    fleet_removals,
    removal_problems,
    tier_cidr,
)
from hypothesis import given, settings
from hypothesis import strategies as st

FLEET = {
    "fleet_name": "demo",
    "fleet_region": "de-fra-2",
    "fleet_image": "linode/debian13",
    "fleet_subnet": "10.0.0.0/20",
    "fleet_tiers": {
        "postgres": {"count": 0, "max": 2, "type": "g6-standard-2"},
        "app_server": {"count": 2, "max": 10, "type": "g6-dedicated-4"},
        "load_balancer": {"count": 1, "type": "g6-nanode-1"},
    },
}
FILTERS = FilterModule().filters()


def with_tier(**values: object) -> dict:
    return {"fleet_tiers": {"app_server": {"count": 1, "max": 10, "type": "g6-dedicated-4", **values}}}


def test_instances_are_listed_by_tier_and_number() -> None:
    instances = FILTERS["fleet_instances"](FLEET)
    assert [instance["label"] for instance in instances] == [
        "demo-load_balancer-1",
        "demo-app_server-1",
        "demo-app_server-2",
    ]
    assert instances[2] == {
        "label": "demo-app_server-2",
        "tags": ["demo", "app_server"],
        "region": "de-fra-2",
        "type": "g6-dedicated-4",
        "image": "linode/debian13",
        "authorized_keys": [],
        "vpc": "demo",
        "vpc_address": "10.0.2.11",
        "firewall": "demo-app_server",
        "placement_group": None,
        "backups": False,
    }


def test_hosts_of_a_tier_share_placement_groups_of_the_regions_size() -> None:
    instances = FILTERS["fleet_instances"]({**FLEET, **with_tier(count=6)}, 5)
    groups = [instance["placement_group"] for instance in instances]
    assert groups == ["demo-app_server"] * 5 + ["demo-app_server-2"]
    grown = FILTERS["fleet_instances"]({**FLEET, **with_tier(count=6)}, 250)
    assert {instance["placement_group"] for instance in grown} == {"demo-app_server"}


def test_a_right_fleet_has_no_problems() -> None:
    ports = {"app_server": {"app_server_port": 8000}, "load_balancer": {"load_balancer_port": 80, "stats": 8404}}
    assert FILTERS["fleet_problems"]({**FLEET, "ports": ports}) == []


@settings(max_examples=20)
@given(
    st.fixed_dictionaries(
        {tier: st.integers(0, MAX_HOSTS).filter(lambda n, t=tier: t != "etcd" or n % 2) for tier in TIERS}
    ),
    st.sampled_from(["10.0.0.0/20", "172.16.240.0/20", "192.168.112.0/20", "10.0.0.0/8"]),
)
def test_addresses_are_distinct_inside_their_tier_and_the_subnet(counts: dict[str, int], subnet: str) -> None:
    tiers = {tier: {"count": count, "type": "g6-nanode-1"} for tier, count in counts.items()}
    instances = fleet_instances({**FLEET, "fleet_subnet": subnet, "fleet_tiers": tiers})
    assert len({instance["vpc_address"] for instance in instances}) == sum(counts.values())
    for instance in instances:
        address = ip_address(instance["vpc_address"])
        assert address in ip_network(tier_cidr(subnet, instance["tags"][1]))
        assert address in ip_network(subnet)
        assert len(instance["label"]) <= 64


def test_tier_networks_are_fixed() -> None:
    assert {tier: FILTERS["tier_cidr"]("10.0.16.0/20", tier) for tier in TIERS} == {
        "load_balancer": "10.0.17.0/24",
        "app_server": "10.0.18.0/24",
        "postgres": "10.0.19.0/24",
        "redis": "10.0.20.0/24",
        "load_generator": "10.0.21.0/24",
        "etcd": "10.0.22.0/24",
        "memcached": "10.0.23.0/24",
        "backup": "10.0.24.0/24",
        "drill": "10.0.25.0/24",
        "monitoring": "10.0.26.0/24",
    }


@pytest.mark.parametrize("name", ["abc", "Demo-2", "a" * 17])
def test_good_names(name: str) -> None:
    assert fleet_problems({"fleet_name": name}) == []


@pytest.mark.parametrize(
    "name", ["ab", "a" * 18, "a b", "a,b", "a_b", "a.b", "a--b", "-ab", "ab-", "ünï", "abc\n", "", None, 123]
)
def test_bad_names(name: object) -> None:
    (message,) = fleet_problems({"fleet_name": name})
    assert message.startswith(f"fleet_name is {name!r}: it must have 3 to 17 letters, digits and single dashes")


@pytest.mark.parametrize(
    ("fleet", "message"),
    [
        (
            {"fleet_region": "Frankfurt"},
            "fleet_region is 'Frankfurt': it must be the id of a Linode region, such as de-fra-2.",
        ),
        ({"fleet_region": None}, "fleet_region is None: it must be the id of a Linode region, such as de-fra-2."),
        (
            {"fleet_image": "debian13"},
            "fleet_image is 'debian13': it must be the id of a Linode image, such as linode/debian13 or private/12345.",
        ),
        (
            {"fleet_tiers": []},
            f"fleet_tiers is []: it must be a dictionary of tiers, {', '.join(TIERS)}.",
        ),
        (
            {"fleet_tiers": {"cache": {}}},
            "fleet_tiers has the tier 'cache': known are "
            "load_balancer, app_server, postgres, redis, load_generator, etcd, memcached, backup, drill, monitoring.",
        ),
        (
            {"fleet_tiers": {"etcd": {"count": 2, "max": 5, "type": "g6-nanode-1"}}},
            "fleet_tiers.etcd.count is 2: an even number of members holds no more losses than one less, and has one "
            "more to lose. Make it odd, 3 as a rule.",
        ),
        (
            {"fleet_tiers": {"redis": 2}},
            "fleet_tiers.redis is 2: it must be a dictionary with count, max, type, backups.",
        ),
        (with_tier(cuont=2), "fleet_tiers.app_server has the key 'cuont': known are count, max, type, backups."),
        (
            with_tier(type="dedicated 4"),
            "fleet_tiers.app_server.type is 'dedicated 4': it must be the id of a Linode type, such as g6-dedicated-4.",
        ),
        (
            with_tier(count=-1),
            "fleet_tiers.app_server.count is -1: it must be a whole number from 0 to fleet_tiers.app_server.max (10).",
        ),
        (
            with_tier(count=11),
            "fleet_tiers.app_server.count is 11: it must be a whole number from 0 to fleet_tiers.app_server.max (10).",
        ),
        (
            with_tier(count="2"),
            "fleet_tiers.app_server.count is '2': it must be a whole number from 0 to fleet_tiers.app_server.max (10).",
        ),
        (
            {"fleet_tiers": {"redis": {"count": 241, "type": "g6-nanode-1"}}},
            "fleet_tiers.redis.count is 241: it must be a whole number from 0 to 240.",
        ),
        (
            with_tier(max=241),
            "fleet_tiers.app_server.max is 241: it must be a whole number from 0 to 240, which a tier's /24 holds.",
        ),
        (
            {"fleet_subnet": "10.0.0.1/20"},
            "fleet_subnet is '10.0.0.1/20': it must be an IPv4 network such as 10.0.0.0/20 "
            "(10.0.0.1/20 has host bits set).",
        ),
        (
            {"fleet_subnet": "10.0.0.0/21"},
            "fleet_subnet is 10.0.0.0/21: it must be a /20 or larger, as each tier takes a /24.",
        ),
        (
            {"fleet_subnet": "8.8.0.0/20"},
            "fleet_subnet is 8.8.0.0/20: it must lie in a private range, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/17.",
        ),
        (
            {"fleet_subnet": "192.168.0.0/16"},
            "fleet_subnet is 192.168.0.0/16: it overlaps 192.168.128.0/17, which Linode keeps for private addresses.",
        ),
        (
            {"ports": {"load_balancer": {"load_balancer_port": 80, "stats_port": 80}}},
            "stats_port is 80, and so is load_balancer_port on the load_balancer hosts: each needs a port of its own.",
        ),
        (
            {"ports": {"app_server": {"app_server_port": 22}}},
            "app_server_port is 22, and so is sshd's port on the app_server hosts: each needs a port of its own.",
        ),
        (
            {"ports": {"redis": {"redis_port": 65536}}},
            "redis_port is 65536: it must be a whole number from 1 to 65535.",
        ),
    ],
)
def test_a_problem_names_the_variable_its_value_and_what_is_allowed(fleet: dict, message: str) -> None:
    assert fleet_problems(fleet) == [message]


def test_all_problems_are_told_at_once() -> None:
    fleet = {**FLEET, "fleet_name": "x", "fleet_tiers": {"app_server": {"count": -1, "type": 4}}}
    assert len(fleet_problems(fleet)) == 3
    with pytest.raises(AnsibleFilterError, match=r"fleet_name is 'x'.*count is -1.*type is 4"):
        FILTERS["fleet_instances"](fleet)


def test_filters_refuse_what_they_cannot_use() -> None:
    with pytest.raises(AnsibleFilterError, match="fleet_instances: fleet_image is not given"):
        FILTERS["fleet_instances"]({key: value for key, value in FLEET.items() if key != "fleet_image"})
    with pytest.raises(AnsibleFilterError, match="fleet_problems: the input must be a dictionary.*not 'demo'"):
        FILTERS["fleet_problems"]("demo")
    with pytest.raises(
        AnsibleFilterError, match="tier_cidr: There is no tier 'web': known are load_balancer, app_server"
    ):
        FILTERS["tier_cidr"]("10.0.0.0/20", "web")
    with pytest.raises(AnsibleFilterError, match="tier_cidr: fleet_subnet is 10.0.0.0/24: it must be a /20 or larger"):
        FILTERS["tier_cidr"]("10.0.0.0/24", "redis")


SMALL = {"fleet_name": "demo", "fleet_tiers": {"app_server": {"count": 2}, "postgres": {"count": 1}}}
HOSTS = {
    "app_server": [f"demo-app_server-{number}" for number in (1, 2, 3, 9, 10)],
    "postgres": ["demo-postgres-1"],
    "redis": [],
}


def test_beyond_count_the_highest_number_is_first():
    assert beyond_count(SMALL, HOSTS) == ["demo-app_server-10", "demo-app_server-9", "demo-app_server-3"]
    assert beyond_count(SMALL, {"redis": ["demo-redis-1", "web"]}) == ["demo-redis-1"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["demo-app_server-10"], None),
        (["demo-app_server-9", "demo-app_server-10"], None),
        (["demo-app_server-11"], None),
        (["demo-app_server-9"], "names demo-app_server-9 and not demo-app_server-10: the highest number goes first"),
        (["demo-app_server-3", "demo-app_server-10"], "and not demo-app_server-9"),
        (
            ["demo-app_server-2", *HOSTS["app_server"][2:]],
            "count is 2, so the next run would make it again. Set count to 1",
        ),
        (["demo-postgres-1"], "the tier postgres has no host left"),
        (["other-app_server-3"], "its hosts are demo-TIER-N"),
        (["demo-web-3"], "its hosts are demo-TIER-N"),
    ],
)
def test_what_may_be_removed(names, said):
    problems = list(removal_problems({**SMALL, "hosts": HOSTS, "fleet_remove": names}))
    assert any(said in problem for problem in problems) if said else problems == []


def test_without_a_cloud_only_the_last_of_a_tier_is_kept():
    hosts = {"app_server": ["a", "b"], "redis": ["c"]}
    assert list(removal_problems({"hosts": hosts, "fleet_remove": ["b", "gone"]})) == []
    assert "no host left" in next(removal_problems({"hosts": hosts, "fleet_remove": ["c"]}))


def test_removals_are_told_by_both_tags():
    wanted = fleet_removals({**SMALL, "fleet_remove": ["demo-app_server-10", "stranger"]})
    assert wanted == [{"label": "demo-app_server-10", "tags": ["demo", "app_server"]}]
