# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary and two replicas, whose failover is manual, and is made automatic at the end. One story, in order."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from conftest import PROJECT, SECRETS, Fleet, account, eventually, play

sys.path.insert(0, str(PROJECT / "tests/drills"))
from fleets import accounted, lose_power, ssh_words, whole

NAMES = [f"mol-postgres-postgres-{number}" for number in (1, 2, 3)]


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


def ssh(fleet: Fleet) -> dict[str, list[str]]:
    return ssh_words({name: fleet.hostvars[name]["ansible_host"] for name in NAMES}, SECRETS)


def streams(primary: Any) -> set[str]:
    """Return the replicas that stream from a primary, by slot."""
    return set(sql(primary, "select slot_name from pg_replication_slots where active").split())


def test_nothing_is_promoted_beside_a_primary_that_answers() -> None:
    refused = play("promote")
    assert refused.returncode == 2
    assert "mol-postgres-postgres-1 is primary and answers; nothing is promoted beside it." in " ".join(
        refused.stdout.split()
    )


def test_nothing_is_shut_down_where_no_member_answers() -> None:
    refused = play("promote", ansible_port=9)
    assert refused.returncode == 2
    assert "answers over SSH within 10 s. There is nothing to promote, and nothing is shut down" in " ".join(
        refused.stdout.split()
    )
    states = {row["label"]: row["status"] for row in account("GET", "/linode/instances")["data"]}
    assert {states[name] for name in NAMES} == {"running"}


def test_a_switchover_and_back(fleet: Fleet, primary: Any, replicas: list[Any]) -> None:
    with accounted(ssh(fleet), fleet.front_door, lambda: NAMES[0]):
        for name in (NAMES[1], NAMES[0]):
            run = play("switchover", switchover_to=name)
            assert run.returncode == 0, run.stdout[-4000:]
            assert sql(fleet.host(name), "select pg_is_in_recovery()") == "f"
    assert streams(primary) == {"mol_postgres_postgres_2", "mol_postgres_postgres_3"}


def test_a_lost_primary_is_replaced_and_comes_back_as_a_replica(fleet: Fleet) -> None:
    # Lassie stays out of it: a primary that is back before anything is promoted goes on as primary
    (old,) = [row for row in account("GET", "/linode/instances")["data"] if row["label"] == NAMES[0]]
    account("PUT", f"/linode/instances/{old['id']}", watchdog_enabled=False)
    behind, new = fleet.host(NAMES[2]), fleet.host(NAMES[1])
    behind.check_output("systemctl stop postgresql@17-main")
    sql(fleet.host(NAMES[0]), "create table before_the_loss ()", "app")
    eventually(lambda: sql(new, "select to_regclass('before_the_loss')", "app"), 10, "the table on a replica")
    new.check_output("systemctl stop postgresql@17-main")
    sql(fleet.host(NAMES[0]), "create table only_here ()", "app")
    lose_power(NAMES[0], 0)
    new.check_output("systemctl start postgresql@17-main")
    behind.check_output("systemctl start postgresql@17-main")
    refused = play("promote", promote=NAMES[2])
    assert f"bytes of WAL that {NAMES[1]} has: those writes would be lost" in " ".join(refused.stdout.split())
    run = play("promote")
    assert run.returncode == 0, run.stdout[-4000:]
    sql(new, "create table after_promotion ()", "app")
    eventually(lambda: streams(new) == {"mol_postgres_postgres_3"}, 30, "the other replica follows the new primary")

    # booted by hand, it asks the others before it serves
    account("POST", f"/linode/instances/{old['id']}/boot")
    said = "10.0.3.11 is primary now, so that this server does not start as another one: run rejoin.yml."
    eventually(
        lambda: said in fleet.host(NAMES[0]).run("journalctl -q -o cat -u postgresql@17-main").stdout,
        90,
        "its question",
    )
    assert sql(new, "select pg_is_in_recovery()") == "f"

    run = play("rejoin")
    assert run.returncode == 0, run.stdout[-4000:]
    assert streams(new) == {"mol_postgres_postgres_1", "mol_postgres_postgres_3"}
    assert "transactions that only this host had, and that are gone: 1" in " ".join(run.stdout.split())
    assert sql(fleet.host(NAMES[0]), "select count(*) from after_promotion", "app") == "0"
    assert sql(fleet.host(NAMES[0]), "select to_regclass('only_here')", "app") == ""


def forget_wal(primary: Any, replica: Any) -> None:
    """Let a replica be away for longer than its primary keeps WAL for it."""
    replica.check_output("systemctl stop postgresql@17-main")
    sql(primary, "alter system set max_slot_wal_keep_size = '16MB'")
    sql(primary, "alter system set wal_keep_size = 0")
    sql(primary, "select pg_reload_conf()")
    for _ in range(4):
        sql(primary, "select pg_logical_emit_message(false, 'x', repeat('x', 1000))")
        sql(primary, "select pg_switch_wal()")
    sql(primary, "checkpoint")
    assert "lost" in sql(primary, "select wal_status from pg_replication_slots where not active")
    sql(primary, "alter system reset all")
    sql(primary, "select pg_reload_conf()")
    replica.check_output("systemctl start postgresql@17-main")
    removed = "requested WAL segment"
    journal = "journalctl -q -o cat -u postgresql@17-main --since=-5s"
    eventually(lambda: removed in replica.run(journal).stdout, 30, "the primary's refusal")


def test_a_replica_older_than_the_wal_is_cloned_anew(fleet: Fleet) -> None:
    primary, replica = fleet.host(NAMES[1]), fleet.host(NAMES[2])
    forget_wal(primary, replica)
    run = play("rejoin")
    assert run.returncode == 0, run.stdout[-4000:]
    assert streams(primary) == {"mol_postgres_postgres_1", "mol_postgres_postgres_3"}
    sql(primary, "create table after_the_clone ()", "app")
    eventually(lambda: sql(replica, "select to_regclass('after_the_clone')", "app"), 10, "the table on the replica")


def test_the_cluster_becomes_automatic_with_nothing_lost(fleet: Fleet) -> None:
    with accounted(ssh(fleet), fleet.front_door, lambda: NAMES[1]):
        run = play("convert_failover", postgres_failover="automatic")
        assert run.returncode == 0, run.stdout[-4000:]
    assert whole(ssh(fleet))
    again = play("site", postgres_failover="automatic")
    assert again.returncode == 0, again.stdout[-4000:]
    assert "changed=0" in again.stdout and not [
        line for line in again.stdout.split("\n") if " changed=" in line and " changed=0 " not in line
    ]
    refused = play("site")
    assert "postgres_failover is manual, but the cluster's is automatic." in " ".join(refused.stdout.split())


def test_patroni_clones_a_replica_anew_that_is_older_than_the_wal(fleet: Fleet) -> None:
    primary, replica = fleet.host(NAMES[1]), fleet.host(NAMES[2])
    forget_wal(primary, replica)
    run = play("site", postgres_failover="automatic")
    assert run.returncode == 0, run.stdout[-4000:]
    assert whole(ssh(fleet))
