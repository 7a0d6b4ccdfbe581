# SPDX-License-Identifier: GPL-3.0-or-later
"""The same fleet with a pool of connections before each member: added while the service runs, and taken away again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conftest import SECRETS, Fleet, eventually, play
from test_postgres import NAMES, accounted, sql, ssh

CONNECTIONS = 10
ONE = "psql -XAtc 'select 1'"


def site(**variables: Any) -> subprocess.CompletedProcess[str]:
    return play("site", **{"postgres_pooler": "pgbouncer", "pgbouncer_server_connections": CONNECTIONS, **variables})


@pytest.fixture(scope="module", autouse=True)
def pools(fleet: Fleet) -> Iterator[None]:
    run = site()
    assert run.returncode == 0, run.stdout[-4000:]
    yield
    run = play("site")
    assert run.returncode == 0, run.stdout[-4000:]
    assert {host.run("systemctl is-active pgbouncer").stdout for host in fleet.tier("postgres")} == {"inactive\n"}


@pytest.fixture
def primary(fleet: Fleet) -> Any:
    return fleet.host(NAMES[0])


def pooled(host: Any, words: str, password: str = "", mode: str = "verify-full") -> Any:
    """Run a client of PostgreSQL on a member, through its pool."""
    where = f"host=$(hostname -I | grep -o '10.0.3[^ ]*') port=6432 user=app dbname=app sslmode={mode}"
    secret = password or (SECRETS / "database_password").read_text().strip()
    setting = f"PGPASSWORD={secret} PGCONNECT_TIMEOUT=2 PATH=$PATH:/usr/lib/postgresql/17/bin"
    return host.run(f'{setting} {words} "{where} sslrootcert=/etc/ssl/fleet/ca.crt"')


def test_the_service_reaches_both_kinds_of_members_through_pools(fleet: Fleet, client: httpx.Client) -> None:
    settings = fleet.tier("app_server")[0].check_output("cat /etc/app/current/environment")
    assert ":5432" not in settings and settings.count("10.0.3.10:6432") == 2
    assert client.get("/readyz").json() == {"status": "ok"}
    for source in ("primary", "replica"):
        assert client.get(f"/items/1?source={source}").headers["X-Database"] == source


def test_many_clients_share_a_few_connections_with_prepared_statements(primary: Any) -> None:
    made = pooled(primary, "pgbench -i -q")
    assert made.rc == 0, made.stderr
    # prepared statements alone, and then transactions: pgbench prepares one client's while another's waits for it
    for what in ("-M prepared -S", "-M extended -N"):
        ran = pooled(primary, f"pgbench -n {what} -c 60 -j 2 -T 4")
        assert ran.rc == 0, ran.stderr
        assert "number of failed transactions: 0 " in ran.stdout, ran.stdout
    assert 1 <= int(sql(primary, "select count(*) from pg_stat_activity where usename = 'app'")) <= CONNECTIONS
    sql(primary, "drop table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers", "app")


def test_a_pool_wants_tls_and_the_password(primary: Any) -> None:
    assert pooled(primary, ONE).stdout == "1\n"
    assert "SSL required" in pooled(primary, ONE, mode="disable").stderr
    assert "authentication failed" in pooled(primary, ONE, "another-secret").stderr
    assert "another-secret" not in primary.check_output("journalctl -q -u pgbouncer")


def test_a_pool_is_shown_the_secrets_of_clients_alone(primary: Any) -> None:
    as_pool = "runuser -u pgbouncer -- psql -XAth /run/postgresql postgres -c %s"
    shown = "select string_agg(name, ' ') from pg_roles, lateral pgbouncer.secret_of(rolname)"
    assert primary.check_output(as_pool, shown) == "app"
    assert "permission denied" in primary.run(as_pool, "table pg_authid").stderr


def test_a_new_password_counts_at_once_on_every_member(fleet: Fleet, primary: Any) -> None:
    old = (SECRETS / "database_password").read_text().strip()
    for new, other in (("another-secret", old), (old, "another-secret")):
        sql(primary, f"alter role app password '{new}'")
        for host in fleet.tier("postgres"):
            eventually(lambda host=host, new=new: pooled(host, ONE, new).rc == 0, 10, "the login")
            assert "authentication failed" in pooled(host, ONE, other).stderr


def test_what_it_refuses_does_not_reach_a_pool(primary: Any) -> None:
    before = primary.file("/etc/pgbouncer/pgbouncer.ini").content_string
    run = site(pgbouncer_certificate_file="/etc/ssl/fleet/nothing.crt")
    assert run.returncode != 0
    said = " ".join(run.stdout.split())
    assert "keeps its PgBouncer configuration, as PgBouncer refuses the new one" in said, run.stdout[-3000:]
    assert "nothing.crt" in said
    assert primary.file("/etc/pgbouncer/pgbouncer.ini").content_string == before
    assert pooled(primary, ONE).stdout == "1\n"


def test_a_server_that_waits_for_a_restart_gets_no_larger_pools(primary: Any) -> None:
    sql(primary, "alter system set max_connections = 40")
    try:
        primary.check_output("systemctl restart postgresql@17-main")
        eventually(lambda: sql(primary, "show max_connections") == "40", 30, "the restart")
        run = play("deploy", postgres_pooler="pgbouncer", pgbouncer_server_connections=CONNECTIONS)
        assert run.returncode != 0
        said = " ".join(run.stdout.split())
        assert (
            f"{NAMES[0]}: PostgreSQL runs with max_connections 40, and the pools of the app tier count on 100" in said
        )
    finally:
        sql(primary, "alter system reset max_connections")
        primary.check_output("systemctl restart postgresql@17-main")
    eventually(lambda: sql(primary, "show max_connections") == "100", 30, "the restart")


def test_a_renewed_certificate_is_read_by_a_reload(primary: Any) -> None:
    process = primary.check_output("systemctl show -P MainPID pgbouncer")
    primary.check_output("touch /etc/ssl/fleet/host.crt")
    run = site()
    assert run.returncode == 0, run.stdout[-4000:]
    assert primary.check_output("systemctl show -P MainPID pgbouncer") == process
    assert primary.check_output("find /run/pgbouncer/loaded -newer /etc/ssl/fleet/host.crt") == "/run/pgbouncer/loaded"


def test_a_killed_pool_comes_back(primary: Any) -> None:
    primary.check_output("systemctl kill -s KILL pgbouncer")
    eventually(lambda: pooled(primary, ONE).stdout == "1\n", 10, "the pool's return")


def test_a_switchover_and_back_through_pools(fleet: Fleet, client: httpx.Client) -> None:
    with accounted(ssh(fleet), fleet.front_door, lambda: NAMES[0]):
        for name in (NAMES[1], NAMES[0]):
            run = play("switchover", switchover_to=name)
            assert run.returncode == 0, run.stdout[-4000:]
    eventually(
        lambda: client.get("/items/1?source=replica").headers["X-Database"] == "replica", 20, "a replica's answer"
    )


def test_a_pools_unit_is_hardened(primary: Any) -> None:
    exposure = primary.check_output("systemd-analyze security pgbouncer --no-pager | tail -1")
    assert float(exposure.split(":")[1].split()[0]) <= 2
