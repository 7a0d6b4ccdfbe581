# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.c50k.stack.plugins.module_utils.postgres_clusters import (
    database_addresses,
    of_cluster,
    parse_shards,
    postgres_clusters,
    ranges,
    shard_map_problems,
)

HALVES = {"main": "0-127", "two": "128-255"}
MEMBERS = [{"name": f"f-postgres-{number}", "address": f"10.0.3.{number + 9}"} for number in (1, 2, 3)]
HOSTVARS = {"f-postgres-1": {}, "f-postgres-2": {"postgres_cluster": "two"}, "f-postgres-3": {}}


@pytest.mark.parametrize("text", ["", "0", "0-255", "0-4,6-99,255"])
def test_ranges_are_read_and_written(text):
    assert ranges(parse_shards(text)) == text


@pytest.mark.parametrize(
    ("shard_map", "carried"),
    [
        (None, []),
        (None, ["other"]),
        ({"main": "0-255"}, ["main"]),
        (HALVES, ["main", "two"]),
        ({"main": "0-255", "two": ""}, ["main", "two"]),
        ({"two": "7,100-101", "main": "0-6,8-99,102-255"}, ["main", "two"]),
    ],
)
def test_what_agrees_is_no_problem(shard_map, carried):
    assert shard_map_problems(shard_map, carried) == []


@pytest.mark.parametrize(
    ("shard_map", "said"),
    [
        (None, "carry the clusters main, two (postgres_cluster), and shard_map is not given"),
        ("0-255", "shard_map is '0-255': it must have the shards of each PostgreSQL cluster"),
        ({}, "shard_map is {}: it must have"),
        ({**HALVES, "main": "0-128"}, "shard_map gives 128 to both main and two"),
        ({**HALVES, "main": "0-99,101-126"}, "shard_map gives 100,127 to no cluster"),
        ({**HALVES, "two": "128-256"}, "shard_map.two is '128-256': '128-256' is no shard and no range"),
        ({**HALVES, "two": "255-128"}, "'255-128' is no shard and no range"),
        ({**HALVES, "two": "128 - 255"}, "'128 - 255' is no shard and no range"),
        ({**HALVES, "two": "128-255,"}, "'' is no shard and no range"),
        ({"main": "1-255", "two": 0}, "shard_map.two is 0: it must be a text"),
        ({"main": "0-127", "Two": "128-255"}, "shard_map names the cluster 'Two'"),
        ({"main": "0-255"}, "carry the PostgreSQL cluster two (postgres_cluster), which shard_map does not name"),
        ({**HALVES, "three": ""}, "shard_map names the cluster three, which no postgres host carries"),
    ],
)
def test_what_cannot_be_is_said(shard_map, said):
    problems = shard_map_problems(shard_map, ["main", "two"])
    assert said in " ".join(problems)


def test_a_malformed_text_is_not_said_twice():
    assert len(shard_map_problems({**HALVES, "two": "128+"}, ["main", "two"])) == 1


def test_clusters_may_wait_for_hosts_that_are_yet_to_be_made():
    assert shard_map_problems(HALVES, ["main"], complete=False) == []
    assert "no postgres host carries" in shard_map_problems(HALVES, ["main"])[0]


def test_hosts_are_put_together_by_cluster_in_the_order_of_the_map():
    found = postgres_clusters(MEMBERS, HOSTVARS, HALVES)
    assert [(cluster["name"], cluster["port"]) for cluster in found] == [("main", 5000), ("two", 5002)]
    assert found[0]["members"] == [MEMBERS[0], MEMBERS[2]] and found[1]["members"] == [MEMBERS[1]]
    assert [cluster["name"] for cluster in postgres_clusters(MEMBERS, HOSTVARS, dict(reversed(HALVES.items())))] == [
        "two",
        "main",
    ]


def test_without_a_map_there_is_the_one_cluster_or_none():
    (found,) = postgres_clusters(MEMBERS[:1], {"f-postgres-1": {"postgres_cluster": "other"}}, None)
    assert found == {"name": "other", "port": 5000, "members": MEMBERS[:1]}
    assert postgres_clusters([], {}, None) == []


TLS = "connect_timeout=2&sslmode=verify-full&sslrootcert=/etc/ssl/fleet/ca.crt"


def test_with_manual_failover_every_member_is_asked():
    clusters = postgres_clusters(MEMBERS, HOSTVARS, HALVES)
    found = database_addresses(clusters, "manual", 6432, True, HALVES)
    base = f"postgresql+psycopg://app@10.0.3.10:6432,10.0.3.12:6432/app?{TLS}&options="
    assert found["main"] == {
        "write": f"{base}&target_session_attrs=read-write",
        "read": f"{base}&target_session_attrs=prefer-standby&load_balance_hosts=random",
        "shards": "0-127",
    }
    assert found["two"]["write"].startswith("postgresql+psycopg://app@10.0.3.11:6432/app?")


def test_with_automatic_failover_each_cluster_has_its_own_ports_and_name():
    clusters = postgres_clusters(MEMBERS, HOSTVARS | {"f-postgres-2": {"postgres_cluster": "the_2nd"}}, None)
    assert database_addresses(clusters, "automatic", 5432, False, None)["the_2nd"] == {
        "write": f"postgresql+psycopg://app@postgres-the-2nd:5002/app?hostaddr=127.0.0.1&{TLS}",
        "read": f"postgresql+psycopg://app@postgres-the-2nd:5003/app?hostaddr=127.0.0.1&{TLS}",
    }


def test_hosts_of_any_tier_are_told_apart_by_their_cluster():
    hostvars = {"f-backup-1": {}, "f-backup-2": {"postgres_cluster": "two"}, "f-drill-1": {"postgres_cluster": "two"}}
    assert of_cluster(hostvars, hostvars, "main") == ["f-backup-1"]
    assert of_cluster(hostvars, hostvars, "two") == ["f-backup-2", "f-drill-1"]
    assert of_cluster(hostvars, hostvars, "three") == []
