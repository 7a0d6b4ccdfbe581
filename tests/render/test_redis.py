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
    assert lines("login.j2", {}) == [r'AUTH admin "quote\"back\\slash"']


@pytest.mark.parametrize(("bind", "line"), [("10.0.4.10", "bind 10.0.4.10 127.0.0.1"), ("127.0.0.1", "bind 127.0.0.1")])
def test_nothing_is_listened_on_twice_or_kept_on_disk(bind: str, line: str) -> None:
    found = lines("redis.conf.j2", {"redis_bind": bind})
    assert {line, 'save ""', "appendonly no", "aclfile /etc/redis/users.acl"} <= set(found)
    assert lines("memory.conf.j2", {}) == ["maxmemory 1073741824", "maxmemory-policy allkeys-lfu"]


NAMES = ("demo-host_1", "b", "c")
MEMBERS = [{"name": name, "address": f"10.0.4.{number}"} for number, name in enumerate(NAMES, 10)]
SENTINEL = {"redis_failover": "sentinel", "redis_members": MEMBERS, "redis_replication_password": "peer-secret"}


def test_good_members_pass() -> None:
    assert problems("redis", **GIVEN | SENTINEL) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"redis_members": MEMBERS[:2]}, "redis_members has 2 hosts"),
        ({"redis_members": MEMBERS[:1]}, "redis_members has 1 hosts"),
        ({"redis_members": [*MEMBERS, {"name": "d", "address": "10.0.4.13"}]}, "redis_members has 4 hosts"),
        ({"redis_members": [{"name": "a", "address": "10.0.4.10"}, *MEMBERS[1:]]}, "redis_bind is 10.0.4.10"),
        ({"redis_replication_password": ""}, "redis_replication_password"),
        ({"redis_replication_password": "with'quote"}, "redis_replication_password"),
        (user(name="sentinel"), "redis_users has replica or sentinel"),
        ({"redis_sentinel_port": 6379}, "redis_sentinel_port is 6379"),
    ],
)
def test_bad_member_is_named(bad: dict, named: str) -> None:
    (problem,) = problems("redis", **GIVEN | SENTINEL | bad)
    assert named in problem


def test_a_secret_of_the_members_is_in_no_file_whose_diff_is_shown() -> None:
    shown = ("redis.conf.j2", "memory.conf.j2", "sentinel.conf.j2")
    assert not any("peer-secret" in line for template in shown for line in lines(template, SENTINEL))
    assert "masterauth peer-secret" in lines("replication.conf.j2", SENTINEL)


def test_every_user_may_ask_the_sentinels_and_no_more() -> None:
    (app,) = [line for line in lines("sentinel.acl.j2", SENTINEL) if line.startswith("user app")]
    assert "-@all" in app and app.split("-@all")[1].split() == [
        "+auth",
        "+hello",
        "+ping",
        "+client|setinfo",
        "+sentinel|masters",
    ]


def test_a_primary_comes_back_after_another_is_chosen() -> None:
    def seconds(template: str, name: str) -> float:
        (value,) = [line.replace("=", " ").split()[-1] for line in lines(template, SENTINEL) if name in line]
        return float(value)

    silent = seconds("sentinel.conf.j2", "down-after-milliseconds") / 1000
    assert seconds("redis-server.service.j2", "RestartSec") >= silent + 2


def test_a_user_may_be_let_do_more_at_the_sentinels() -> None:
    watcher = {"name": "exporter", "password": "exporter-secret", "rules": "-@all +info", "sentinel_rules": "+info"}
    (line,) = [line for line in lines("sentinel.acl.j2", SENTINEL | {"redis_users": [watcher]}) if "exporter" in line]
    assert line.endswith("+sentinel|masters +info")
