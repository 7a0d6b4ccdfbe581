# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary and two replicas."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Fleet, eventually


def sql(host: Any, statement: str, database: str = "postgres") -> str:
    return host.check_output("runuser -u postgres -- psql -XAtc %s %s", statement, database)


@pytest.fixture
def primary(fleet: Fleet) -> Any:
    return fleet.host("mol-postgres-postgres-1")


@pytest.fixture
def replicas(fleet: Fleet) -> list[Any]:
    return [fleet.host(f"mol-postgres-postgres-{number}") for number in (2, 3)]


def test_every_host_is_up_with_no_failed_unit(fleet: Fleet) -> None:
    states = fleet.states()
    assert set(states.values()) == {"running"}, states


def test_the_lowest_number_is_primary_and_the_others_follow(primary: Any, replicas: list[Any]) -> None:
    assert sql(primary, "select pg_is_in_recovery()") == "f"
    assert [sql(replica, "select pg_is_in_recovery()") for replica in replicas] == ["t", "t"]


def test_each_replica_streams_through_its_own_slot(primary: Any) -> None:
    streams = "select slot_name from pg_replication_slots join pg_stat_replication on pid = active_pid order by 1"
    assert sql(primary, streams).split() == ["mol_postgres_postgres_2", "mol_postgres_postgres_3"]


def test_a_row_written_on_the_primary_appears_on_each_replica(primary: Any, replicas: list[Any]) -> None:
    sql(primary, "create table if not exists seen (at timestamptz); insert into seen values (now())", "app")
    rows = sql(primary, "select count(*) from seen", "app")
    for replica in replicas:
        eventually(lambda replica=replica: sql(replica, "select count(*) from seen", "app") == rows, 10, "replication")
        refused = replica.run("runuser -u postgres -- psql -XAtc 'delete from seen' app")
        assert "read-only transaction" in refused.stderr


def test_pages_have_checksums_and_passwords_are_scram(primary: Any) -> None:
    assert sql(primary, "show data_checksums") == "on"
    assert sql(primary, "show password_encryption") == "scram-sha-256"
    stored = sql(primary, "select rolname from pg_authid where rolpassword not like 'SCRAM-SHA-256%'")
    assert stored == ""


def test_settings_fit_the_host(primary: Any) -> None:
    assert sql(primary, "show shared_buffers") == "512MB"
    assert sql(primary, "show max_slot_wal_keep_size") not in ("-1", "")


def test_a_client_from_outside_the_app_tier_is_refused(primary: Any, replicas: list[Any]) -> None:
    refused = replicas[0].run("psql -XAt 'host=10.0.3.10 user=app dbname=app password=x' -c 'select 1'")
    assert refused.rc != 0
    assert "no pg_hba.conf entry" in refused.stderr


@pytest.mark.parametrize("number", [1, 2])
def test_a_killed_postmaster_comes_back_and_replication_with_it(
    fleet: Fleet, primary: Any, replicas: list[Any], number: int
) -> None:
    host = fleet.host(f"mol-postgres-postgres-{number}")
    pid = host.check_output("head -1 /var/lib/postgresql/17/main/postmaster.pid")
    host.check_output(f"kill -9 {pid}")
    eventually(lambda: sql(host, "select 1") == "1", 30, "the server's return")
    assert host.check_output("head -1 /var/lib/postgresql/17/main/postmaster.pid") != pid
    eventually(lambda: sql(primary, "select count(*) from pg_stat_replication") == "2", 30, "both replicas streaming")


def test_the_unit_is_hardened(primary: Any) -> None:
    exposure = primary.check_output("systemd-analyze security postgresql@17-main --no-pager | tail -1")
    assert float(exposure.split(":")[1].split()[0]) <= 3.5
