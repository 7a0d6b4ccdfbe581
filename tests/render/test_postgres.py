"""The postgres role's rules and templates."""

import pytest
import yaml
from render import default_differences, load, problems, render, templar, value

PRIMARY = {
    "inventory_hostname": "demo-postgres-1",
    "postgres_listen_address": "10.0.3.10",
    "postgres_replication_password": "replication-secret",
    "postgres_replicas": ["demo-postgres-2"],
    "postgres_users": [{"name": "app", "password": "app-secret"}, {"name": "report", "password": "it's\\secret"}],
    "postgres_databases": [{"name": "app", "owner": "app"}],
    "postgres_allowed_cidrs": ["10.0.2.0/24"],
    "postgres_replication_cidrs": ["10.0.3.0/24"],
    "postgres_state": {
        "initialised": False,
        "in_recovery": False,
        "failover": "",
        "system_identifier": "",
        "limits": {},
    },
    "__postgres_watchdog": {"stat": {"exists": False}},
}
REPLICA = PRIMARY | {
    "inventory_hostname": "demo-postgres-2",
    "postgres_listen_address": "10.0.3.11",
    "postgres_primary_address": "10.0.3.10",
}

AUTOMATIC = PRIMARY | {
    "postgres_failover": "automatic",
    "postgres_etcd_endpoints": ["10.0.6.10:2379", "10.0.6.11:2379", "10.0.6.12:2379"],
    "postgres_replicas": ["demo-postgres-2", "demo-postgres-3"],
}


def lines(template: str, given: dict) -> list[str]:
    text = render("postgres", template, **given)
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def conflicts(given: dict) -> list[str]:
    (task,) = (task for task in load("postgres", "tasks/main.yml") if "__postgres_state_rules" in task.get("vars", {}))
    rules = templar("postgres", **task["vars"], **given).template(task["vars"]["__postgres_state_rules"])
    return [rule["say"] for rule in rules if not rule["ok"]]


def test_defaults_and_specification_agree() -> None:
    assert default_differences("postgres") == set()


@pytest.mark.parametrize(
    "given", [PRIMARY, REPLICA, AUTOMATIC, PRIMARY | {"postgres_users": [], "postgres_databases": []}]
)
def test_good_variables_pass(given: dict) -> None:
    assert problems("postgres", **given) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"postgres_cluster": "Main"}, 'postgres_cluster is "Main"'),
        ({"postgres_port": 65536}, "postgres_port is 65536"),
        ({"postgres_listen_address": "10.0.3.10, *"}, 'postgres_listen_address is "10.0.3.10, *"'),
        ({"postgres_primary_address": "10.0.3.10"}, 'postgres_primary_address is "10.0.3.10"'),
        ({"postgres_replication_password": "short"}, "postgres_replication_password"),
        ({"postgres_failover": "automatic"}, "postgres_etcd_endpoints is empty"),
        ({"postgres_etcd_endpoints": ["10.0.6.10:2379", "10.0.6.11:2379"]}, "postgres_etcd_endpoints has 2 members"),
        ({"postgres_users": [{"name": "app", "password": "with a space"}]}, "password in postgres_users"),
        (
            {"postgres_users": [{"name": "postgres", "password": "app-secret"}], "postgres_databases": []},
            "postgres_users",
        ),
        ({"postgres_databases": [{"name": "template1", "owner": "app"}]}, "names template1"),
        ({"postgres_databases": [{"name": "app", "owner": "nobody"}]}, "owners nobody"),
        ({"postgres_allowed_cidrs": ["10.0.2.0/33"]}, "10.0.2.0/33"),
        ({"postgres_replication_cidrs": ["10.0.256.0/24"]}, "10.0.256.0/24"),
        ({"postgres_allowed_cidrs": ["0.0.0.0/0 trust\nhost all all 0.0.0.0/0"]}, "postgres_allowed_cidrs"),
        ({"postgres_replicas": ["a-b", "a_b"]}, "postgres_replicas is"),
        ({"postgres_settings": {"max_replication_slots": 0}}, "max_replication_slots is 0"),
        ({"postgres_settings": {"port": 1}}, "postgres_settings has port"),
        ({"postgres_settings": {"work_mem": "1MB\nfsync = off"}}, "postgres_settings has work_mem"),
        ({"postgres_settings": {"work_mem": ["1MB"]}}, "postgres_settings has work_mem"),
    ],
)
def test_bad_variable_is_named(bad: dict, named: str) -> None:
    (problem,) = problems("postgres", **PRIMARY | bad)
    assert named in problem


@pytest.mark.parametrize("secret", ["tiny-pw", "with a blank", "naïve-password"])
def test_problem_keeps_the_secret(secret: str) -> None:
    users = [{"name": "app", "password": secret}]
    (problem,) = problems("postgres", **PRIMARY | {"postgres_users": users})
    assert secret not in problem


@pytest.mark.parametrize(
    ("given", "state", "named"),
    [
        (PRIMARY, {"in_recovery": False}, None),
        (REPLICA, {"in_recovery": True}, None),
        (PRIMARY | {"postgres_expected_system_identifier": "7"}, {"in_recovery": False}, "system identifier is 42"),
        (PRIMARY, {"in_recovery": True}, "promotes nothing"),
        (REPLICA, {"in_recovery": False}, "demotes nothing"),
        (PRIMARY, {"in_recovery": False, "failover": "automatic"}, "the cluster's is automatic"),
        (AUTOMATIC, {"in_recovery": False}, "run convert_failover.yml"),
    ],
)
def test_state_that_contradicts_the_variables(given: dict, state: dict, named: str | None) -> None:
    state = {"initialised": True, "system_identifier": "42", "failover": "manual"} | state
    found = conflicts(given | {"postgres_state": state})
    assert found == [] if named is None else len(found) == 1 and named in found[0]


def test_settings() -> None:
    given = {"max_connections": 300, "log_line_prefix": r"it's \m ", "log_checkpoints": False}
    found = lines("postgresql.conf.j2", PRIMARY | {"postgres_settings": given})
    assert "max_connections = '300'" in found
    assert r"log_line_prefix = 'it''s \\m '" in found
    assert "log_checkpoints = 'False'" in found
    assert "listen_addresses = '10.0.3.10'" in found
    assert "primary_conninfo = ''" in found


def test_replica_follows_without_a_password_and_never_below_its_primary() -> None:
    state = {"initialised": True, "limits": {"max_connections": 500, "max_wal_senders": 10}}
    found = lines(
        "postgresql.conf.j2", REPLICA | {"postgres_state": state, "postgres_settings": {"max_wal_senders": 20}}
    )
    assert "max_connections = '500'" in found
    assert "max_wal_senders = '20'" in found
    assert "primary_slot_name = 'demo_postgres_2'" in found
    (conninfo,) = (line for line in found if line.startswith("primary_conninfo"))
    assert "host=10.0.3.10 port=5432 user=replication passfile=/etc/postgresql/17/main/pgpass" in conninfo
    assert "secret" not in conninfo


def test_client_authentication() -> None:
    assert lines("pg_hba.conf.j2", PRIMARY) == [
        "local all postgres peer",
        "local postgres pgbouncer peer",
        'local "app" "app","report" scram-sha-256',
        'hostssl "app" "app","report" 10.0.2.0/24 scram-sha-256',
        "hostssl replication,postgres replication 10.0.3.0/24 scram-sha-256",
    ]
    assert lines("pg_hba.conf.j2", PRIMARY | {"postgres_databases": [], "postgres_replication_cidrs": []}) == [
        "local all postgres peer",
        "local postgres pgbouncer peer",
    ]


def test_password_file_escapes() -> None:
    assert lines("pgpass.j2", REPLICA | {"postgres_replication_password": r"a:b\c'{{d"}) == [
        r"*:*:*:replication:a\:b\\c'{{d"
    ]


def test_check_mode_only_plans() -> None:
    found = lines("objects.sql.j2", PRIMARY)
    assert r"    , ('report', 'it''s\secret', false)" in found
    assert "  SELECT unnest(ARRAY['demo_postgres_2']::text[])" in found
    assert any(line.endswith(r"\gexec") for line in found)
    assert not any(r"\gexec" in line for line in lines("objects.sql.j2", PRIMARY | {"ansible_check_mode": True}))


def test_a_pool_is_shown_secrets_only_where_there_is_one() -> None:
    assert not any("pgbouncer" in line for line in lines("objects.sql.j2", PRIMARY))
    found = lines("objects.sql.j2", PRIMARY | {"postgres_pooler": "pgbouncer"})
    assert "  REVOKE ALL ON FUNCTION pgbouncer.secret_of(text) FROM PUBLIC;" in found
    assert any("NOT rolsuper AND NOT rolreplication" in line for line in found)


def patroni(given: dict) -> dict:
    return yaml.safe_load(render("postgres", "patroni.yml.j2", **given))


def test_patroni_speaks_tls_alone_and_takes_orders_from_certificates_alone() -> None:
    found = patroni(AUTOMATIC)
    assert found["restapi"]["certfile"] and found["restapi"]["verify_client"] == "optional"
    assert found["etcd3"]["protocol"] == "https"
    assert found["etcd3"]["hosts"] == AUTOMATIC["postgres_etcd_endpoints"]
    assert found["postgresql"]["authentication"]["replication"]["sslmode"] == "verify-full"


@pytest.mark.parametrize(
    ("replicas", "mode", "strict"),
    [(["b"], "on", False), (["b", "c"], "quorum", True), (["b", "c", "d"], "quorum", True)],
)
def test_no_acknowledged_write_is_lost_with_the_primary(replicas: list[str], mode: str, strict: bool) -> None:
    dynamic = value("postgres", "__postgres_dynamic", **AUTOMATIC | {"postgres_replicas": replicas})
    assert (dynamic["synchronous_mode"], dynamic["synchronous_mode_strict"]) == (mode, strict)


@pytest.mark.parametrize("timers", ["fast", "safe"])
def test_timers_keep_patronis_rule(timers: str) -> None:
    dynamic = value("postgres", "__postgres_dynamic", **AUTOMATIC, postgres_failover_timers=timers)
    assert dynamic["loop_wait"] + 2 * dynamic["retry_timeout"] <= dynamic["ttl"]


def test_a_watchdog_is_required_where_there_is_one() -> None:
    assert patroni(AUTOMATIC)["watchdog"]["mode"] is False
    there = AUTOMATIC | {"__postgres_watchdog": {"stat": {"exists": True}}}
    assert patroni(there)["watchdog"]["mode"] == "required"
    assert "DeviceAllow=/dev/watchdog rw" in lines("postgresql.service.j2", there)


def test_patroni_alone_says_whom_a_replica_follows() -> None:
    found = lines("postgresql.conf.j2", AUTOMATIC | {"postgres_primary_address": "10.0.3.9"})
    assert "primary_conninfo = ''" in found


def test_who_watches_is_let_in_where_somebody_does() -> None:
    assert not any("prometheus" in line for line in lines("pg_hba.conf.j2", PRIMARY) + lines("objects.sql.j2", PRIMARY))
    watched = PRIMARY | {"postgres_monitored": True}
    assert "local postgres prometheus peer" in lines("pg_hba.conf.j2", watched)
    assert any("CREATE ROLE prometheus LOGIN IN ROLE pg_monitor" in line for line in lines("objects.sql.j2", watched))
