"""The redis role's rules and templates."""

import hashlib

import pytest
from render import default_differences, problems, render

GIVEN = {
    "redis_bind": "10.0.4.10",
    "redis_admin_password": 'quote"back\\slash',
    "redis_maxmemory_bytes": 1 << 30,
    "redis_users": [{"name": "app", "password": "app-secret", "rules": "~cache:* +@read +@write -@dangerous"}],
}


def lines(template: str, given: dict) -> list[str]:
    text = render("redis", template, **GIVEN | given)
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_defaults_and_specification_agree() -> None:
    assert default_differences("redis") == set()


def user(**given: str) -> dict:
    return {"redis_users": [GIVEN["redis_users"][0] | given]}


@pytest.mark.parametrize("given", [{}, {"redis_users": []}, user(rules="~off:* &news +@all -nopass-like")])
def test_good_variables_pass(given: dict) -> None:
    assert problems("redis", **GIVEN | given) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"redis_bind": "10.0.4.10 0.0.0.0"}, 'redis_bind is "10.0.4.10 0.0.0.0"'),
        ({"redis_port": 0}, "redis_port is 0"),
        ({"redis_maxmemory_bytes": 512}, "redis_maxmemory_bytes is 512"),
        ({"redis_admin_password": "tiny-pw"}, "redis_admin_password"),
        (user(password="with a blank"), "password in redis_users"),
        (user(name="default"), "names default"),
        (user(name="two words"), "names two words"),
        (user(rules="~* +@all nopass"), "rules ~* +@all nopass"),
        (user(rules=">other-secret ~*"), "rules >other-secret"),
        (user(rules="~*\nuser default on nopass ~* +@all"), "redis_users has the rules"),
    ],
)
def test_bad_variable_is_named(bad: dict, named: str) -> None:
    (problem,) = problems("redis", **GIVEN | bad)
    assert named in problem
    assert bad.get("redis_admin_password", "with a blank") not in problem


def test_users_are_hashed_and_default_is_off() -> None:
    def digest(password: str) -> str:
        return hashlib.sha256(password.encode()).hexdigest()

    assert lines("users.acl.j2", {}) == [
        "user default off",
        f"user admin on #{digest(GIVEN['redis_admin_password'])} ~* &* +@all",
        f"user app on #{digest('app-secret')} ~cache:* +@read +@write -@dangerous",
    ]


def test_commands_quote_the_password() -> None:
    assert lines("commands.j2", {})[0] == r'AUTH admin "quote\"back\\slash"'


@pytest.mark.parametrize(("bind", "line"), [("10.0.4.10", "bind 10.0.4.10 127.0.0.1"), ("127.0.0.1", "bind 127.0.0.1")])
def test_nothing_is_listened_on_twice_or_kept_on_disk(bind: str, line: str) -> None:
    found = lines("redis.conf.j2", {"redis_bind": bind})
    assert {line, 'save ""', "appendonly no", "aclfile /etc/redis/users.acl"} <= set(found)
    assert lines("memory.conf.j2", {}) == ["maxmemory 1073741824", "maxmemory-policy allkeys-lfu"]
