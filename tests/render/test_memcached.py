"""The memcached role's rules and templates."""

import pytest
from render import default_differences, problems, render

GIVEN = {"memcached_listen_address": "10.0.7.10", "memcached_memory_bytes": 1 << 30}


def test_defaults_and_specification_agree() -> None:
    assert default_differences("memcached") == set()


def test_good_variables_pass() -> None:
    assert problems("memcached", **GIVEN) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"memcached_listen_address": "0.0.0.0"}, 'memcached_listen_address is "0.0.0.0"'),
        ({"memcached_listen_address": "cache"}, 'memcached_listen_address is "cache"'),
        ({"memcached_port": 211}, "memcached_port is 211"),
        ({"memcached_memory_bytes": 1024}, "memcached_memory_bytes is 1024"),
        ({"memcached_connections": 1}, "memcached_connections is 1"),
    ],
)
def test_bad_variable_is_named(bad: dict, named: str) -> None:
    (problem,) = problems("memcached", **GIVEN | bad)
    assert named in problem


def test_it_listens_on_one_address_by_tcp_alone() -> None:
    unit = render("memcached", "memcached.service.j2", **GIVEN, memcached_connections=8_000)
    assert "-U 0 -l 10.0.7.10 -p 11211 -m 1024 -c 8000 " in unit
    assert "LimitNOFILE=8064" in unit and "User=memcache" in unit
