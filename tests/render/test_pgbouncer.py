"""The pgbouncer role's rules and templates."""

import configparser

import pytest
from render import default_differences, problems, render

GIVEN = {"pgbouncer_listen_address": "10.0.3.10"}


def settings(**given: object) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=(";",), delimiters=("=",))
    parser.read_string(render("pgbouncer", "pgbouncer.ini.j2", **GIVEN | given))
    return parser


def test_defaults_and_specification_agree() -> None:
    assert default_differences("pgbouncer") == set()


@pytest.mark.parametrize(
    "given", [{}, {"pgbouncer_databases": ["app", "shop_2"]}, {"pgbouncer_server_connections": 1_000}]
)
def test_good_variables_pass(given: dict) -> None:
    assert problems("pgbouncer", **GIVEN | given) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"pgbouncer_listen_address": "db1"}, 'pgbouncer_listen_address is "db1"'),
        ({"pgbouncer_listen_address": "10.0.3.10\n"}, "pgbouncer_listen_address is"),
        ({"pgbouncer_port": 5432}, "pgbouncer_port is 5432 and pgbouncer_server_port 5432"),
        ({"pgbouncer_port": 432}, "pgbouncer_port is 432"),
        ({"pgbouncer_databases": []}, "pgbouncer_databases is []"),
        ({"pgbouncer_databases": ["a b"]}, "pgbouncer_databases is ['a b']"),
        ({"pgbouncer_databases": ["pgbouncer"]}, "pgbouncer and postgres are PgBouncer's own"),
        ({"pgbouncer_databases": ["a", "b"], "pgbouncer_server_connections": 1}, "is 1 for 2 databases"),
        ({"pgbouncer_max_client_conn": 10}, "pgbouncer_max_client_conn is 10 and pgbouncer_server_connections 50"),
    ],
)
def test_bad_variable_is_named(bad: dict, named: str) -> None:
    (problem,) = problems("pgbouncer", **GIVEN | bad)
    assert named in problem


def test_all_databases_together_get_no_more_than_the_servers_connections() -> None:
    found = settings(pgbouncer_databases=["app", "shop"], pgbouncer_server_connections=76)["databases"]
    pools = [dict(word.split("=") for word in found[name].split()) for name in ("app", "shop")]
    assert [pool["max_db_connections"] for pool in pools] == ["38", "38"]
    assert [int(pool["pool_size"]) + int(pool["reserve_pool_size"]) for pool in pools] == [38, 38]
    assert {pool["host"] for pool in pools} == {"/run/postgresql"}


def test_clients_come_over_tls_with_scram_and_transactions_share() -> None:
    found = settings()["pgbouncer"]
    assert (found["client_tls_sslmode"], found["auth_type"]) == ("require", "scram-sha-256")
    assert (found["pool_mode"], found["server_login_retry"]) == ("transaction", "1")
    assert int(found["max_prepared_statements"]) > 0
    assert "auth_file" not in found


def test_a_unit_has_files_for_all_connections_and_says_its_address_to_restart_for_another() -> None:
    unit = render("pgbouncer", "pgbouncer.service.j2", **GIVEN, pgbouncer_max_client_conn=8_000)
    assert "LimitNOFILE=8250" in unit
    assert "User=pgbouncer" in unit
    assert unit != render("pgbouncer", "pgbouncer.service.j2", **GIVEN, pgbouncer_port=6433)
