"""The redis role's rules and templates, rendered with Ansible's own templating."""

import hashlib
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.utils.collection_loader import AnsibleCollectionConfig

ROLE = Path(__file__).parents[2] / "roles" / "redis"
GIVEN = {
    "inventory_hostname": "demo-redis-1",
    "ansible_managed": "Ansible managed",
    "redis_bind": "10.0.4.10",
    "redis_admin_password": 'quote"back\\slash',
    "redis_maxmemory_bytes": 1 << 30,
    "redis_users": [{"name": "app", "password": "app-secret", "rules": "~cache:* +@read +@write -@dangerous"}],
}


@pytest.fixture(scope="module", autouse=True)
def plugins() -> None:
    if AnsibleCollectionConfig.collection_finder is None:
        init_plugin_loader([])


def templar(given: dict) -> Templar:
    loader = DataLoader()
    defaults, private = (
        loader.load_from_file(str(ROLE / part / "main.yml"), trusted_as_template=True) for part in ("defaults", "vars")
    )
    return Templar(loader, variables=defaults | GIVEN | given | private)


def render(name: str, given: dict) -> list[str]:
    text = templar(given).template(trust_as_template((ROLE / "templates" / name).read_text()), escape_backslashes=False)
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def complaints(given: dict) -> list[str]:
    expression = trust_as_template("__redis_rules | rejectattr('ok') | map(attribute='why')")
    return list(templar(given).evaluate_expression(expression))


def user(**given: str) -> dict:
    return {"redis_users": [GIVEN["redis_users"][0] | given]}


@pytest.mark.parametrize("given", [{}, {"redis_users": []}, user(rules="~off:* &news +@all -nopass-like")])
def test_good_variables_pass(given: dict) -> None:
    assert complaints(given) == []


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
    (complaint,) = complaints(bad)
    assert named in complaint
    assert bad.get("redis_admin_password", "with a blank") not in complaint


def test_users_are_hashed_and_default_is_off() -> None:
    def digest(password: str) -> str:
        return hashlib.sha256(password.encode()).hexdigest()

    assert render("users.acl.j2", {}) == [
        "user default off",
        f"user admin on #{digest(GIVEN['redis_admin_password'])} ~* &* +@all",
        f"user app on #{digest('app-secret')} ~cache:* +@read +@write -@dangerous",
    ]


def test_commands_quote_the_password() -> None:
    assert render("commands.j2", {})[0] == r'AUTH admin "quote\"back\\slash"'


@pytest.mark.parametrize(("bind", "line"), [("10.0.4.10", "bind 10.0.4.10 127.0.0.1"), ("127.0.0.1", "bind 127.0.0.1")])
def test_nothing_is_listened_on_twice_or_kept_on_disk(bind: str, line: str) -> None:
    lines = render("redis.conf.j2", {"redis_bind": bind})
    assert {line, 'save ""', "appendonly no", "aclfile /etc/redis/users.acl"} <= set(lines)
    assert render("memory.conf.j2", {}) == ["maxmemory 1073741824", "maxmemory-policy allkeys-lfu"]
