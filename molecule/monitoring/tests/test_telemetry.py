# SPDX-License-Identifier: GPL-3.0-or-later
"""A service whose collector and Sentry are away serves on and says so, and it alone can read their keys."""

from __future__ import annotations

import json
import shlex
from typing import Any

import httpx
import pytest
from conftest import Fleet, eventually, play

KEYS = ("collector-key-of-the-test", "sentrykeyofthetest")


@pytest.fixture
def app(fleet: Fleet) -> Any:
    return fleet.tier("app_server")[0]


def test_a_collector_that_is_away_costs_no_request_and_is_seen(fleet: Fleet, client: httpx.Client, app: Any) -> None:
    address = fleet.hostvars[fleet.names("app_server")[0]]["stack_address"]
    for number in range(1, 51):
        assert client.get(f"/items/{number}").status_code == 200

    def unsent() -> float:
        lines = app.check_output(f"curl --silent http://{address}:8000/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith('telemetry_unsent_total{what="spans"}'))

    eventually(lambda: unsent() > 50, 30, "the spans are given up")
    workers = int(app.check_output("pgrep --count -P $(systemctl show -P MainPID app)"))
    said = app.check_output("journalctl --unit=app --invocation=0 --output=cat --since=-60s").splitlines()
    assert sum("spans were not sent" in line for line in said) <= workers
    assert not [line for line in said if "opentelemetry" in line]


def test_a_request_is_found_in_the_log_by_its_id(client: httpx.Client, app: Any) -> None:
    name = "0af7651916cd43dd8448eb211c80319c"
    client.get("/items/7?secret=hidden", headers={"X-Request-ID": name})

    def rows() -> list[dict[str, Any]]:
        lines = app.check_output("journalctl --unit=app --invocation=0 --output=cat --since=-60s").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        assert "hidden" not in "".join(lines)
        return [row for row in found if row["path"] == "/items/7" and row["status"] == 200]

    (row,) = eventually(lambda: rows()[-1:], 10, "the line is written")
    assert row["request_id"] and row["release"]


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_for_the_service_alone(app: Any, key: str) -> None:
    pattern = shlex.quote(f"[{key[0]}]{key[1:]}")  # which its own command line does not have
    assert app.run(f"cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c {pattern}").stdout.strip() == "0"
    main = app.check_output("systemctl show -P MainPID app")
    workers = app.check_output(f"pgrep -P {main}").split()
    for pid in (main, *workers):
        assert app.run(f"tr '\\0' ' ' </proc/{pid}/environ | grep -c {pattern}").stdout.strip() == "0"
    assert app.run(f"find /etc /srv /run/app -type f -perm /o+r -exec grep -l {pattern} {{}} +").stdout == ""
    assert app.run(f"journalctl --no-pager | grep -c {pattern}").stdout.strip() == "0"
    kept = app.check_output(f"grep -rl {pattern} /etc/app/current/credentials")
    assert app.file(kept.strip()).mode == 0o600


def test_a_dsn_that_is_none_is_refused_before_a_host_changes_and_not_shown() -> None:
    done = play("deploy", app_server_sentry_dsn="hidden-dsn@nowhere")
    assert done.returncode != 0
    assert "app_server_sentry_dsn is not the address of a Sentry project" in done.stdout
    assert "hidden-dsn" not in done.stdout
