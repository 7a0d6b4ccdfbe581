"""The app_server role's rules and templates."""

import ast
import asyncio
import shlex
from urllib.parse import unquote

import pytest
from render import default_differences, load, problems, render, templar, value

GIVEN = {
    "app_server_module": "service.main:app",
    "app_server_release": {"id": "0f3a", "archive": "/releases/0f3a.tar.gz"},
    "app_server_bind": "10.0.2.10",
    "app_server_workers": 4,
}

COLLECTOR = {"app_server_otlp_endpoint": "http://10.0.5.10:4318"}


def settings(**variables) -> dict:
    """The plain assignments of gunicorn.conf.py."""
    tree = ast.parse(render("app_server", "gunicorn.conf.py.j2", **GIVEN, **variables))
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }


def unit(**variables) -> list[str]:
    return render("app_server", "unit.service.j2", **GIVEN, **variables).splitlines()


def test_defaults_and_specification_agree():
    assert default_differences("app_server") == set()


def test_good_input_passes():
    given = {
        "app_server_environment": {"RELEASE_ID": "0f3a", "SIZE": 5, "EMPTY": ""},
        "app_server_credentials": {"database_password": "secret"},
        "app_server_trusted_proxies": ["10.0.1.0/24", "fd00::/64"],
        "app_server_port": "8000",
        "app_server_otlp_endpoint": "https://otlp.example.com:4318/api/v2/otlp",
        "app_server_otlp_headers": {"DD-API-KEY": "a,b=c d", "x-team": "items"},
        "app_server_sentry_dsn": "https://0f3a@o1.ingest.sentry.io/path/42",
    }
    assert problems("app_server", **GIVEN, **given) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"app_server_name": "My App"}, "app_server_name is 'My App'"),
        ({"app_server_module": "service.main"}, "app_server_module is 'service.main'"),
        ({"app_server_release": {"id": "../x", "archive": "x"}}, "app_server_release.id is '../x'"),
        ({"app_server_bind": "eth0"}, "app_server_bind is 'eth0'"),
        ({"app_server_port": 80}, "app_server_port is 80"),
        ({"app_server_port": "99999"}, "app_server_port is 99999"),
        ({"app_server_workers": 0}, "app_server_workers is 0"),
        ({"app_server_environment": {"A-B": "x"}}, "app_server_environment cannot set A-B"),
        ({"app_server_environment": {"A": True}}, "app_server_environment cannot set A"),
        ({"app_server_environment": {"A": None}}, "app_server_environment cannot set A"),
        ({"app_server_environment": {"A": ["x"]}}, "app_server_environment cannot set A"),
        ({"app_server_environment": {"A": "x\nB=y"}}, "app_server_environment cannot set A"),
        ({"app_server_credentials": {"a/b": "x"}}, "app_server_credentials cannot hold a/b"),
        ({"app_server_credentials": {"a": ""}}, "app_server_credentials cannot hold a"),
        ({"app_server_trusted_proxies": ["*"]}, "app_server_trusted_proxies has *"),
        ({"app_server_check_path": "readyz"}, "app_server_check_path is 'readyz'"),
        ({"app_server_engine": "hypercorn"}, "app_server_engine is 'hypercorn'"),
        ({"app_server_drain_seconds": 61}, "app_server_drain_seconds is 61"),
        ({"app_server_keep_releases": 0}, "app_server_keep_releases 0"),
        ({"app_server_open_files": 100}, "app_server_open_files is 100"),
        ({"app_server_otlp_endpoint": "collector:4317"}, "app_server_otlp_endpoint is 'collector:4317'"),
        ({"app_server_otlp_endpoint": "http://u:hidden@c:4318"}, "app_server_otlp_endpoint is 'http://***@c:4318'"),
        ({"app_server_otlp_endpoint": "http://c:4318/v1/traces"}, "Leave /v1/traces away"),
        (
            {**COLLECTOR, "app_server_otlp_headers": {"api key": "hidden"}},
            "app_server_otlp_headers cannot have api key",
        ),
        ({**COLLECTOR, "app_server_otlp_headers": {"api-key": "hidden\n"}}, "otlp_headers cannot have api-key"),
        ({**COLLECTOR, "app_server_otlp_headers": {"api-key": 42}}, "app_server_otlp_headers cannot have api-key"),
        ({"app_server_otlp_headers": {"api-key": "hidden"}}, "app_server_otlp_endpoint, which would get them, is not"),
        ({"app_server_sentry_dsn": "hidden@nowhere"}, "app_server_sentry_dsn is not the address of a"),
        ({"app_server_sentry_dsn": "https://sentry.io/42"}, "app_server_sentry_dsn is not the address of a"),
        ({"app_server_sentry_dsn": "https://hidden@sentry.io/x"}, "app_server_sentry_dsn is not the address of a"),
        ({"app_server_sentry_dsn": "https://hidden@sentry.io/42\n"}, "app_server_sentry_dsn is not the address of a"),
    ],
)
def test_bad_input_is_named(given, said):
    messages = problems("app_server", **(GIVEN | given))
    assert len(messages) == 1
    assert said in messages[0]
    assert "hid" not in messages[0]


def test_every_broken_rule_is_said_at_once():
    assert len(problems("app_server", **(GIVEN | {"app_server_bind": "x", "app_server_workers": 0}))) == 2


def test_messages_keep_secrets():
    messages = problems("app_server", **GIVEN, app_server_credentials={"a/b": "hidden-secret"})
    assert messages and "hidden-secret" not in " ".join(messages)


@pytest.mark.parametrize("value", ["plain", "", 5, 'q"uote', "back\\slash\\", "$HOME `id` #no 'x'", "a b"])
def test_the_environment_keeps_every_value(value):
    text = render("app_server", "environment.j2", **GIVEN, app_server_environment={"NAME": value})
    assert shlex.split(text, comments=True) == [f"NAME={value}"]


def environment(**variables) -> dict[str, str]:
    lines = shlex.split(render("app_server", "environment.j2", **GIVEN, **variables), comments=True)
    return dict(line.split("=", 1) for line in lines)


def test_nobody_watches_by_default():
    assert environment() == {}
    assert not [line for line in unit() if "LoadCredential" in line]


def test_who_watches_is_in_the_environment_and_secrets_in_credentials():
    given = {
        "app_server_access_log": True,
        **COLLECTOR,
        "app_server_otlp_headers": {"api-key": "a,b=c d", "x-team": "items"},
        "app_server_sentry_dsn": "https://0f3a@sentry.io/42",
        "app_server_credentials": {"database_password": "x"},
    }
    assert environment(**given) == {"ACCESS_LOG": "on", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://10.0.5.10:4318"}
    loaded = [line for line in unit(**given) if line.startswith("LoadCredential=")]
    assert [line.partition("=")[2].partition(":")[0] for line in loaded] == [
        "database_password",
        "otlp_headers",
        "sentry_dsn",
    ]
    credentials = value("app_server", "__app_server_credentials", **GIVEN, **given)
    headers = dict(map(unquote, part.split("=")) for part in credentials["otlp_headers"].split(","))
    assert headers == given["app_server_otlp_headers"]
    assert credentials["sentry_dsn"] == "https://0f3a@sentry.io/42"


def test_what_a_user_sets_himself_wins():
    assert environment(app_server_access_log=True, app_server_environment={"ACCESS_LOG": "off"}) == {
        "ACCESS_LOG": "off"
    }


def test_gunicorn_listens_and_trusts_as_told():
    values = settings(app_server_trusted_proxies=["10.0.1.0/24", "10.0.9.0/24"])
    assert values["bind"] == "10.0.2.10:8000"
    assert values["workers"] == 4
    assert values["forwarded_allow_ips"] == "10.0.1.0/24,10.0.9.0/24"


def test_nobody_is_trusted_by_default():
    assert settings()["forwarded_allow_ips"] == ""


def test_an_ipv6_address_is_bracketed():
    tree = render("app_server", "gunicorn.conf.py.j2", **(GIVEN | {"app_server_bind": "fd00::a"}))
    assert 'bind = "[fd00::a]:8000"' in tree


def test_a_worker_refuses_before_its_files_are_used_up():
    text = render("app_server", "gunicorn.conf.py.j2", **GIVEN, app_server_open_files=20000)
    assert '"limit_concurrency": 19800,' in text
    assert settings()["reuse_port"] is True


def test_keep_alive_outlives_the_load_balancer():
    assert settings()["keepalive"] > load("load_balancer", "vars/main.yml")["__load_balancer_backend_idle"]


def test_the_three_stops_follow_one_another():
    text = render("app_server", "gunicorn.conf.py.j2", **GIVEN, app_server_stop_timeout="20")
    assert '"timeout_graceful_shutdown": 20' in text
    assert settings(app_server_stop_timeout="20")["graceful_timeout"] == 25
    assert "TimeoutStopSec=30" in unit(app_server_stop_timeout="20")


class Recorder:
    """A transport that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def writelines(self, data: tuple[bytes, ...]) -> None:
        self.told.append(data)

    def is_closing(self) -> bool:
        return "close" in self.told

    def close(self) -> None:
        self.told.append("close")

    def get_extra_info(self, name: str) -> str:
        return f"its {name}"


@pytest.fixture
def coalesced():
    """Its class, as the workers have it."""
    names: dict = {}
    exec(render("app_server", "gunicorn.conf.py.j2", **GIVEN), names)
    assert names["Worker"].CONFIG_KWARGS["http"] is names["Protocol"]
    return names["Coalesced"]


def test_the_head_of_an_answer_goes_with_its_body_and_never_waits_for_it(coalesced):
    async def answers() -> list[object]:
        recorder = Recorder()
        transport = coalesced(recorder)
        transport.write(b"head")
        transport.write(b"body")
        await asyncio.sleep(0)
        transport.write(b"head of a stream")
        await asyncio.sleep(0)
        transport.write(b"its body, ")
        transport.write(b"its end")
        transport.write(b"the next head")
        transport.close()
        await asyncio.sleep(0)
        transport.write(b"too late")
        await asyncio.sleep(0)
        assert transport.get_extra_info("peername") == "its peername"
        return recorder.told

    stream = [b"head of a stream", (b"its body, ", b"its end")]
    assert asyncio.run(answers()) == [(b"head", b"body"), *stream, b"the next head", "close"]


def command(**variables) -> list[str]:
    known = templar("app_server", **(GIVEN | variables))
    return known.template(known.available_variables["__app_server_command"])


def test_gunicorns_own_workers():
    given = {"app_server_engine": "gunicorn", "app_server_open_files": 20000}
    text = render("app_server", "gunicorn.conf.py.j2", **GIVEN, **given)
    assert 'worker_class = "asgi"' in text
    assert "uvicorn" not in text
    assert settings(**given)["bind"] == settings()["bind"]


def test_granian_listens_refuses_and_stops_as_the_others():
    given = {"app_server_engine": "granian", "app_server_open_files": 20000, "app_server_stop_timeout": 20}
    words = command(**given)
    assert {"--host=10.0.2.10", "--port=8000", "--workers=4"} <= set(words)
    assert {"--backpressure=19800", "--workers-kill-timeout=25"} <= set(words)
    idle = load("load_balancer", "vars/main.yml")["__load_balancer_backend_idle"]
    assert f"--http1-header-read-timeout={60 * 1000}" in words and idle < 60
    lines = unit(**given)
    assert "Type=exec" in lines and "Type=notify" in unit()


def test_granian_believes_the_load_balancers_alone():
    text = render("app_server", "granian_app.py.j2", **GIVEN, app_server_trusted_proxies=["10.0.1.0/24"])
    assert "from service.main import app as application" in text
    assert 'trusted_hosts=["10.0.1.0/24"]' in text


def test_the_application_is_told_before_it_stops():
    told = "ExecStop=/bin/sh -c 'echo 3 >/run/app/draining; sleep 3'"
    assert told in unit(app_server_drain_seconds=3)


def test_the_unit_loads_each_credential_and_shows_none():
    lines = unit(app_server_credentials={"b": "hidden-secret", "a": "other-secret"})
    assert [line for line in lines if line.startswith("LoadCredential")] == [
        "LoadCredential=a:/etc/app/current/credentials/a",
        "LoadCredential=b:/etc/app/current/credentials/b",
    ]
    assert "secret" not in "\n".join(lines)


def test_the_import_check_runs_with_the_properties_of_the_unit():
    variables = GIVEN | {"app_server_credentials": {"a": "hidden-secret"}}
    known = templar("app_server", **variables)
    argv = known.template(known.available_variables["__app_server_run"])
    properties = [word.removeprefix("--property=") for word in argv if word.startswith("--property=")]
    assert properties and set(properties) <= set(unit(app_server_credentials={"a": "hidden-secret"}))
    assert "hidden-secret" not in " ".join(argv)
    assert "--working-directory=/srv/app/releases/0f3a/app" in argv
