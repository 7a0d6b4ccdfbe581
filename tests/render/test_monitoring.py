"""The monitoring role's rules and templates, as Prometheus and Alertmanager read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.c50k.stack.tests.unit.monitoring.prometheus import run
from render import ROLES, default_differences, problems, render

GIVEN = {
    "monitoring_password": "correct-horse-battery",
    "monitoring_targets": [],
    "role_path": str(ROLES / "monitoring"),
}
EMAIL = {"to": "team@example.com", "from": "fleet@example.com", "smarthost": "mail.example.com:587"}


def test_defaults_and_specification_agree() -> None:
    assert default_differences("monitoring") == set()


def test_good_variables_pass() -> None:
    assert problems("monitoring", **GIVEN) == []
    assert problems("monitoring", **GIVEN, monitoring_alert_email=EMAIL, monitoring_alert_webhook="https://a.b/c") == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"monitoring_password": "short"}, "monitoring_password must have 12"),
        ({"monitoring_port": 9093}, "monitoring_port is 9093"),
        ({"monitoring_retention_share": 0.95}, "monitoring_retention_share is 0.95"),
        ({"monitoring_retention_days": 0}, "monitoring_retention_days is 0"),
        ({"monitoring_alert_webhook": "slack"}, "monitoring_alert_webhook is no"),
        ({"monitoring_alert_email": {"to": "team@example.com"}}, "monitoring_alert_email has to; it needs"),
        ({"monitoring_alert_email": {**EMAIL, "username": "fleet"}}, "has a username and no password"),
    ],
)
def test_bad_variable_is_named(bad: dict, named: str) -> None:
    (problem,) = problems("monitoring", **GIVEN | bad)
    assert named in problem
    assert "correct-horse" not in problem


def accepted(folder: Path, program: str, *arguments: str, text: str) -> None:
    folder.chmod(0o755)
    (folder / "given").write_text(text)
    ended = run(program, [*arguments, str(folder / "given")], folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    text = render("monitoring", "prometheus.yml.j2", **GIVEN)
    accepted(tmp_path, "promtool", "check", "config", "--syntax-only", text=text)
    rules = yaml.safe_load(text)["rule_files"]
    assert rules == sorted(
        f"/etc/prometheus/rules/{path.name}" for path in (ROLES / "monitoring/files/rules").glob("*")
    )


def test_the_password_is_kept_as_a_hash_that_is_the_same_each_time(tmp_path: Path) -> None:
    text = render("monitoring", "web.yml.j2", **GIVEN)
    hashed = yaml.safe_load(text)["basic_auth_users"]["admin"]
    assert hashed.startswith("$2b$10$") and text == render("monitoring", "web.yml.j2", **GIVEN)
    assert "correct-horse" not in text and hashed != render(
        "monitoring", "web.yml.j2", **GIVEN | {"inventory_hostname": "b"}
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"monitoring_alert_webhook": "https://a.b/c"},
        {"monitoring_alert_email": {**EMAIL, "username": "a", "password": '"'}},
    ],
    ids=["nobody", "webhook", "email"],
)
def test_alertmanager_takes_its_configuration(tmp_path: Path, given: dict) -> None:
    accepted(tmp_path, "amtool", "check-config", text=render("monitoring", "alertmanager.yml.j2", **GIVEN, **given))


def test_measurements_take_their_share_of_the_disk_and_the_page_is_served() -> None:
    unit = render("monitoring", "prometheus.service.j2", **GIVEN, __monitoring_retention_mb=40_000)
    assert "--storage.tsdb.retention.size=40000MB" in unit
    assert "--web.user-assets=/etc/prometheus/page" in unit and "--web.config.file=/etc/prometheus/web.yml" in unit


def test_targets_are_what_prometheus_reads() -> None:
    from ansible_collections.c50k.stack.plugins.module_utils.scrape import scrape_targets

    tiers = {"redis": {"hosts": [{"name": "demo-redis-1", "address": "10.0.4.10"}]}}
    (target,) = json.loads(json.dumps(scrape_targets(tiers, [{"job": "redis", "tier": "redis", "port": 9121}], {})))
    assert target["targets"] == ["10.0.4.10:9121"] and all(
        isinstance(value, str) for value in target["labels"].values()
    )


def test_grafana_gets_the_panels_and_where_the_measurements_are() -> None:
    given = GIVEN | {"monitoring_password": "correct-$horse-battery", "monitoring_fleet": "demo"}
    (source,) = yaml.safe_load(render("monitoring", "grafana/datasources.yml.j2", **given))["datasources"]
    assert source["url"] == "https://127.0.0.1:9090" and source["basicAuthUser"] == "admin"
    # Grafana takes $ for a variable, and $$ for $
    assert source["secureJsonData"] == {
        "basicAuthPassword": "correct-$$horse-battery",
        "tlsCACert": "$__file{/etc/ssl/fleet/ca.crt}",
    }
    (provider,) = yaml.safe_load(render("monitoring", "grafana/dashboards.yml.j2", **given))["providers"]
    assert provider["options"] == {"path": "/etc/prometheus/grafana"}
