"""The arithmetic of a fleet: worked examples, and what must hold for every fleet."""

import copy

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.filter.capacity import capacity
from ansible_collections.c50k.stack.plugins.module_utils.capacity import KERNEL, NR_OPEN, CapacityError, plan
from hypothesis import assume, given
from hypothesis import strategies as st

GIB = 1 << 30
LAB = {"cores": 2.0, "memory_bytes": 2 * GIB, "open_files": 20_000}


def fleet(**tiers: dict) -> dict:
    """A small fleet of equal hosts, with *tiers* laid over it."""
    base = {
        "app_server": {"max": 3, "hosts": [LAB, LAB]},
        "load_balancer": {"max": 1, "hosts": [LAB]},
        "postgres": {"max": 2, "hosts": [LAB, LAB]},
        "redis": {"max": 1, "hosts": [LAB]},
    }
    return {"tiers": {name: {**base[name], **tiers.get(name, {})} for name in base}}


def test_a_small_fleet_with_a_low_file_limit() -> None:
    assert plan(fleet()) == {
        "target_concurrency": 50_000,
        "kernel": KERNEL,
        "requests_in_flight": 9_900,
        "binding": "load_balancer: 1 process, 20000 open files each, 2 a connection",
        "app_server": {
            "workers": 2,
            "open_files": 20_000,
            # 12,540 requests by 2 workers, of which one may get 6,600
            "upstream_connections": 13_200,
            # 3 hosts x 2 workers x 2 engines = 12 pools in 0.9 x (100 - 15) = 76 connections: 6 each
            "database_pool_size": 6,
            "database_max_overflow": 0,
            "cache_max_connections": 64,
        },
        # an app server holds 0.95 x 2 x 19,800 files / 3
        "load_balancer": {"processes": 1, "maxconn": 9_900, "open_files": 20_000, "backend_maxconn": 12_540},
        "postgres": {
            "settings": {
                "max_connections": 100,
                "shared_buffers": "512MB",
                "effective_cache_size": "1536MB",
                "work_mem": "5242kB",
                "maintenance_work_mem": "128MB",
                "max_parallel_workers": 2,
                "max_parallel_workers_per_gather": 1,
                "max_wal_senders": 10,
                "max_replication_slots": 10,
            }
        },
        "redis": {"maxmemory_bytes": 2 * GIB * 6 // 10},
    }


def test_a_type_of_the_api_counts_like_a_host_with_all_its_files() -> None:
    types = plan({"tiers": {"app_server": {"count": 3, "max": 9, "hosts": [{"vcpus": 4, "memory": 8192, "id": "x"}]}}})
    host = {"cores": 4, "memory_bytes": 8 * GIB, "open_files": NR_OPEN}
    assert types == plan({"tiers": {"app_server": {"max": 9, "hosts": [host] * 3, "count": None}}})
    assert types["app_server"] == {"workers": 4, "open_files": NR_OPEN, "upstream_connections": 47_428}


def test_without_max_the_hosts_of_today_are_all_there_may_be() -> None:
    today = plan(fleet(app_server={"max": 2}, load_balancer={"max": None}))
    assert plan(fleet(app_server={"max": None})) == today
    assert today["app_server"]["database_pool_size"] == 9  # 8 pools in 76 connections: 9 each


def test_the_smallest_host_of_a_tier_decides() -> None:
    small = {"cores": 1.0, "memory_bytes": GIB, "open_files": 10_000}
    mixed = plan(fleet(app_server={"hosts": [LAB, small]}, redis={"max": 2, "hosts": [small, LAB]}))
    assert mixed["app_server"]["open_files"] == 10_000
    assert mixed["redis"]["maxmemory_bytes"] == GIB * 6 // 10


@pytest.mark.parametrize(
    ("tier", "hosts", "most", "binding"),
    [
        ("app_server", [{**LAB, "open_files": 1_000}], 3, "app_server: 2 workers, 1000 open files each, 3 a request"),
        ("app_server", [{**LAB, "memory_bytes": GIB // 2}], 3, "app_server: 0.5 GiB of memory, 64 KiB a request"),
        (
            "load_balancer",
            [{**LAB, "memory_bytes": GIB // 2}],
            1,
            "load_balancer: 0.5 GiB of memory, 64 KiB a connection",
        ),
        (
            "load_balancer",
            [LAB],
            8,
            "load_balancer: 1 of 8 hosts, each with its share of an app server (fleet_tiers.load_balancer.max)",
        ),
    ],
)
def test_what_binds_is_named(tier: str, hosts: list, most: int, binding: str) -> None:
    assert plan(fleet(**{tier: {"hosts": hosts, "max": most}}))["binding"] == binding


def test_one_source_address_has_only_so_many_ports_to_an_app_server() -> None:
    large = {"vcpus": 32, "memory": 65536}
    result = plan({"tiers": {"load_balancer": {"hosts": [large]}, "app_server": {"hosts": [large]}}})
    assert result["load_balancer"]["backend_maxconn"] == result["requests_in_flight"] == 27_648
    assert result["binding"] == "load_balancer: 27648 source ports towards each app server"


def test_a_low_file_limit_takes_more_processes_for_a_target() -> None:
    large = {**LAB, "memory_bytes": 16 * GIB}
    app, balancer = {"hosts": [large] * 4, "max": 4}, {"hosts": [large], "max": 1, "engine": "nginx"}
    spec = {"target_concurrency": 50_000, "tiers": {"app_server": app, "load_balancer": balancer}}
    result = plan(spec)
    # 12,500 requests of 3 files each, and 50,000 connections of 2, in 0.95 x 19,800 files a process
    assert (result["app_server"]["workers"], result["load_balancer"]["processes"]) == (2, 6)
    assert result["load_balancer"]["maxconn"] == 9_900
    assert result["requests_in_flight"] >= 50_000
    fourfold = plan({**spec, "target_concurrency": 200_000})
    assert (fourfold["app_server"]["workers"], fourfold["load_balancer"]["processes"]) == (8, 22)
    balancer["engine"] = "haproxy"
    assert plan(spec)["load_balancer"] == {
        "processes": 1,
        "maxconn": 9_900,
        "open_files": 20_000,
        "backend_maxconn": 12_540,
    }


def test_more_app_servers_raise_max_connections_as_far_as_memory_carries() -> None:
    result = plan(fleet(app_server={"max": 12}))
    # 12 x 2 x 2 pools x 2 / 0.9 + 15 = 121.7
    assert result["postgres"]["settings"]["max_connections"] == 122
    assert (result["app_server"]["database_pool_size"], result["app_server"]["database_max_overflow"]) == (2, 0)
    with pytest.raises(CapacityError) as error:
        plan(fleet(app_server={"max": 13}))
    assert str(error.value) == (
        "The database pools do not fit. 13 app servers x 2 workers x 2 engines x 2 connections, at most 0.9 of what is "
        "left after 15 reserved, need 131 connections, but 2.0 GiB of memory on a postgres host carry 128: choose a "
        "larger fleet_tiers.postgres.type, set postgres_pooler: pgbouncer, or lower fleet_tiers.app_server.max (13)."
    )


def test_what_a_user_sets_takes_part_in_the_sum() -> None:
    own = {"workers": 4, "database_pool_size": 2, "database_max_overflow": None}
    result = plan(fleet(app_server=own, postgres={"max_connections": 200}))
    assert result["app_server"]["workers"] == 4
    assert (result["app_server"]["database_pool_size"], result["app_server"]["database_max_overflow"]) == (2, 0)
    assert result["postgres"]["settings"]["max_connections"] == 200
    with pytest.raises(
        CapacityError,
        match=r"max_connections is 50: set it to 95 \(2\.0 GiB of memory on a postgres host carry 128\), "
        r"set postgres_pooler: pgbouncer, or lower fleet_tiers\.app",
    ):
        plan(fleet(postgres={"max_connections": 50}, app_server={"max": 9}))
    with pytest.raises(
        CapacityError, match=r"x 2 engines x 70 connections.*lower DATABASE_POOL_SIZE or DATABASE_MAX_OVERFLOW"
    ):
        plan(fleet(app_server={"database_pool_size": 20, "database_max_overflow": 50}))


def test_a_pool_from_the_environment_is_a_number_or_refused_by_name() -> None:
    assert plan(fleet(app_server={"database_pool_size": "3"}))["app_server"]["database_pool_size"] == 3
    with pytest.raises(CapacityError, match="DATABASE_POOL_SIZE is 'many': it must be a whole number of at least 1"):
        plan(fleet(app_server={"database_pool_size": "many"}))


def test_a_pooler_takes_the_pools_that_the_server_does_not() -> None:
    result = plan(fleet(app_server={"max": 100}, postgres={"pooler": "pgbouncer"}))
    assert result["postgres"]["settings"]["max_connections"] == 100
    # 0.9 x (100 - 15) to the server; 100 x 2 workers x 2 engines x 20, and 12 for administration, from the clients
    assert result["pgbouncer"] == {"server_connections": 76, "max_client_conn": 8_012}
    assert (result["app_server"]["database_pool_size"], result["app_server"]["database_max_overflow"]) == (20, 0)
    own = {"database_pool_size": 100, "database_max_overflow": 50}
    assert plan(fleet(app_server=own, postgres={"pooler": "pgbouncer"}))["pgbouncer"]["max_client_conn"] == 1_812
    assert "pgbouncer" not in plan(fleet(postgres={"pooler": "none"}))


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        ({"postgres": {"pooler": "pgpool"}}, "postgres_pooler is 'pgpool': it must be none or pgbouncer"),
        (
            {"postgres": {"pooler": "pgbouncer", "max_connections": 16}},
            "max_connections is 16, of which 15 are reserved: PgBouncer has 0 left and needs 2",
        ),
        (
            {"postgres": {"pooler": "pgbouncer", "hosts": [{**LAB, "open_files": 300}]}},
            "x 2 connections are 24, but PgBouncer on a postgres host with 300 open files takes 12: raise",
        ),
        (
            {"postgres": {"pooler": "pgbouncer"}, "app_server": {"database_pool_size": 2_000}},
            "are 24000, but PgBouncer .* with 20000 open files takes 19712: .* or lower DATABASE_POOL_SIZE",
        ),
    ],
)
def test_what_a_pooler_cannot_take_is_refused(tiers: dict, message: str) -> None:
    with pytest.raises(CapacityError, match=message):
        plan(fleet(**tiers))


def test_cache_connections_that_cannot_fit_are_refused() -> None:
    with pytest.raises(CapacityError, match=r"fleet_tiers\.app_server\.max \(3\) or app_server_workers \(2\)"):
        plan(fleet(redis={"hosts": [{**LAB, "open_files": 36}]}))


def test_replicas_of_redis_leave_less_for_data() -> None:
    three = plan(fleet(redis={"max": 3, "hosts": [LAB] * 3, "failover": "sentinel"}))["redis"]
    assert three == {"maxmemory_bytes": GIB, "replica_buffer_bytes": 2 * GIB // 20}


def test_memcached_takes_the_same_connections_as_redis_would_or_more() -> None:
    base = fleet()["tiers"] | {"redis": None}
    one = plan({"tiers": base | {"memcached": {"max": 1, "hosts": [LAB]}}})
    assert one["memcached"] == {"memory_bytes": int(2 * GIB * 0.7), "connections": LAB["open_files"] - 64}
    assert one["app_server"]["cache_max_connections"] == 64
    with pytest.raises(CapacityError, match="a memcached host with 68 open files serves 3"):
        plan({"tiers": base | {"memcached": {"hosts": [{**LAB, "open_files": 68}]}}})


def test_a_tier_without_hosts_is_left_out() -> None:
    assert plan({"tiers": {"postgres": {"max": 3, "hosts": [LAB]}, "redis": {"max": 1, "hosts": []}}}) == {
        "target_concurrency": 50_000,
        "requests_in_flight": 0,
        "kernel": KERNEL,
        "binding": "no app_server and no load_balancer host",
        "postgres": plan(fleet(postgres={"max": 3}))["postgres"],
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "must be a mapping with 'tiers'"),
        (
            {"tiers": {"etcd": {"hosts": [LAB]}}},
            "tiers has etcd: known are app_server, load_balancer, postgres, redis, m",
        ),
        ({"tiers": {}, "target_concurrency": 0}, "target_concurrency is 0"),
        ({"tiers": {}, "target_concurrency": "50000"}, "target_concurrency is '50000': it must be a whole number"),
        ({"tiers": {"redis": 3}}, "tiers.redis is 3"),
        ({"tiers": {"redis": {"hosts": "h"}}}, "tiers.redis.hosts is 'h': it must be a list"),
        ({"tiers": {"redis": {"hosts": [1]}}}, r"tiers.redis.hosts\[0\] is 1"),
        ({"tiers": {"redis": {"hosts": [{}]}}}, r"tiers.redis.hosts\[0\].cores is None"),
        ({"tiers": {"redis": {"hosts": [{**LAB, "open_files": True}]}}}, r"tiers.redis.hosts\[0\].open_files is True"),
        ({"tiers": {"redis": {"hosts": [{"vcpus": 1}]}}}, r"tiers.redis.hosts\[0\].memory is None"),
        ({"tiers": {"redis": {"hosts": [LAB, LAB], "max": 1}}}, "has 2 hosts, but fleet_tiers.redis.max is 1"),
        ({"tiers": {"redis": {"hosts": [LAB], "max": 0}}}, "fleet_tiers.redis.max is 0"),
        ({"tiers": {"app_server": {"hosts": [LAB], "workers": 0}}}, "app_server_workers is 0"),
    ],
)
def test_bad_input_is_refused_by_name(spec: object, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        capacity(spec)


hosts = st.fixed_dictionaries(
    {
        "cores": st.integers(1, 640).map(lambda tenths: tenths / 10),
        "memory_bytes": st.integers(GIB // 2, 512 * GIB),
        "open_files": st.integers(1_024, NR_OPEN),
    }
)
tiers = st.builds(
    lambda members, spare: {"max": len(members) + spare, "hosts": members},
    st.lists(hosts, min_size=1, max_size=4),
    st.integers(0, 20),
)
fleets = st.fixed_dictionaries(
    {"tiers": st.fixed_dictionaries({name: tiers for name in ("app_server", "load_balancer", "postgres", "redis")})}
)


def planned(spec: dict) -> dict:
    """The plan of *spec*, of which a fleet too small for its own pools is no example."""
    try:
        return plan(spec)
    except CapacityError:
        assume(False)
        raise


def megabytes(setting: str) -> int:
    return int(setting.removesuffix("MB"))


@given(fleets)
def test_no_budget_is_overdrawn_with_every_allowed_host(spec: dict) -> None:
    result = planned(spec)
    app, balancer = result["app_server"], result["load_balancer"]
    settings = result["postgres"]["settings"]
    workers = spec["tiers"]["app_server"]["max"] * app["workers"]

    per_pool = app["database_pool_size"] + app["database_max_overflow"]
    assert per_pool >= 2
    assert workers * 2 * per_pool <= settings["max_connections"] - 15
    assert workers * app["cache_max_connections"] <= 10_000

    for host in spec["tiers"]["postgres"]["hosts"]:
        assert megabytes(settings["shared_buffers"]) << 20 <= host["memory_bytes"] // 4
        assert settings["max_connections"] * (4 << 20) <= host["memory_bytes"] // 4
    for host in spec["tiers"]["load_balancer"]["hosts"]:
        assert balancer["maxconn"] * 2 < balancer["open_files"] <= host["open_files"]
        assert balancer["maxconn"] * 64 * 1024 <= host["memory_bytes"]
    for host in spec["tiers"]["app_server"]["hosts"]:
        received = spec["tiers"]["load_balancer"]["max"] * balancer["backend_maxconn"]
        assert received * 3 <= max(app["workers"] * host["open_files"], spec["tiers"]["load_balancer"]["max"] * 3)


@given(fleets, st.sampled_from(["app_server", "load_balancer", "postgres", "redis"]))
def test_a_host_added_within_max_changes_no_setting(spec: dict, tier: str) -> None:
    more = copy.deepcopy(spec)
    members = more["tiers"][tier]["hosts"]
    assume(len(members) < more["tiers"][tier]["max"])
    members.append(members[0])
    before, after = planned(spec), planned(more)
    assert {name: before[name] for name in spec["tiers"]} == {name: after[name] for name in spec["tiers"]}
    assert before["requests_in_flight"] <= after["requests_in_flight"]


@given(fleets, st.sampled_from(["memory_bytes", "open_files"]))
def test_a_larger_host_never_holds_less(spec: dict, resource: str) -> None:
    larger = copy.deepcopy(spec)
    for tier in larger["tiers"].values():
        for host in tier["hosts"]:
            host[resource] *= 2
    assert planned(larger)["requests_in_flight"] >= planned(spec)["requests_in_flight"]
