"""The exporters role's rules and templates, and the program that tells what no exporter does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.c50k.stack.tests.unit.programs import load_program
from render import ROLES, default_differences, problems, render

GIVEN = {"exporters_listen_address": "10.0.4.10"}
REDIS = {
    "exporters_run": ["redis"],
    "exporters_redis_servers": ["10.0.4.10:6379"],
    "exporters_redis_password": "secret",
}


host_metrics = load_program(ROLES / "exporters/files/host_metrics.py")


def test_defaults_and_specification_agree() -> None:
    assert default_differences("exporters") == set()


def test_good_variables_pass() -> None:
    assert problems("exporters", **GIVEN) == []
    assert problems("exporters", **GIVEN, **REDIS) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"exporters_listen_address": "0.0.0.0"}, 'exporters_listen_address is "0.0.0.0"'),
        ({"exporters_run": ["mysql"]}, "exporters_run is ['mysql']"),
        ({"exporters_node_port": 80}, "The exporters' ports are 80"),
        ({"exporters_run": ["postgres"], "exporters_postgres_port": 9100}, "The exporters' ports are 9100, 9100"),
        ({**REDIS, "exporters_redis_password": ""}, "exporters_redis_password is empty"),
    ],
)
def test_bad_variable_is_named(bad: dict, named: str) -> None:
    (problem,) = problems("exporters", **GIVEN | bad)
    assert named in problem


@pytest.mark.parametrize(("program", "port"), [("node", 9100), ("postgres", 9187), ("redis", 9121), ("nginx", 8404)])
def test_each_listens_on_one_address(program: str, port: int) -> None:
    unit = render("exporters", "exporter.service.j2", **GIVEN, **REDIS, __exporters_program=program)
    (command,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert f"web.listen-address=10.0.4.10:{port}" in command
    assert "secret" not in unit and "User=prometheus" in unit


def test_the_password_of_redis_comes_by_a_credential() -> None:
    unit = render("exporters", "exporter.service.j2", **GIVEN, **REDIS, __exporters_program="redis")
    assert "LoadCredential=passwords:/etc/prometheus-redis-exporter.json" in unit
    assert "-redis.password-file=%d/passwords" in unit


def process(proc: Path, pid: int, unit: str, files: int, limit: int) -> None:
    (proc / str(pid) / "fd").mkdir(parents=True)
    for number in range(files):
        (proc / str(pid) / "fd" / str(number)).touch()
    (proc / str(pid) / "cgroup").write_text(f"0::/system.slice/{unit}\n")
    (proc / str(pid) / "limits").write_text(
        f"Limit   Soft Limit  Hard Limit  Units\nMax open files            {limit}  {limit}  files\n"
    )


def test_of_a_unit_the_process_counts_that_is_nearest_to_its_limit(tmp_path: Path) -> None:
    process(tmp_path, 10, "haproxy.service", 3, 1000)
    process(tmp_path, 11, "haproxy.service", 9, 1000)
    process(tmp_path, 12, "app.service", 2, 64)
    process(tmp_path, 13, "user.slice", 60, 64)
    process(tmp_path, 14, "ssh.service", 6, 1)
    process(tmp_path, 15, r"worker@a\x2db.service", 1, 10)
    assert list(host_metrics.open_files(tmp_path)) == [
        'stack_unit_open_files{unit="app.service"} 2',
        'stack_unit_open_files_limit{unit="app.service"} 64',
        'stack_unit_open_files{unit="haproxy.service"} 9',
        'stack_unit_open_files_limit{unit="haproxy.service"} 1000',
        r'stack_unit_open_files{unit="worker@a\\x2db.service"} 1',
        r'stack_unit_open_files_limit{unit="worker@a\\x2db.service"} 10',
    ]


def make_certificate(folder: Path) -> None:
    key = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=demo -days 30".split()
    made = [*key, "-keyout", str(folder / "host.key"), "-out", str(folder / "host.crt")]
    subprocess.run(made, capture_output=True, check=True)


def test_the_end_of_a_certificate_is_read(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    (line,) = host_metrics.certificates(tmp_path)
    said, seconds = line.split(" ")
    assert said == f'stack_certificate_not_after_seconds{{path="{tmp_path}/host.crt"}}'
    assert abs(float(seconds) - time.time() - 30 * 86400) < 600


def test_the_last_backup_of_each_type_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("full", 100), ("diff", 200), ("full", 300)]
    made = [{"type": kind, "error": False, "timestamp": {"stop": stop}} for kind, stop in rows]
    broken = {"type": "full", "error": True, "timestamp": {"stop": 400}}
    monkeypatch.setattr(host_metrics, "output", lambda *_: json.dumps([{"backup": [*made, broken]}]))
    last: dict[str, int] = {}
    known = [
        'stack_backup_timestamp_seconds{cluster="main",type="diff"} 200',
        'stack_backup_timestamp_seconds{cluster="main",type="full"} 300',
    ]
    assert list(host_metrics.backups("main", last)) == known

    def away(*_: str) -> str:
        raise OSError("the repository is away")

    monkeypatch.setattr(host_metrics, "output", away)
    assert host_metrics.gather([lambda: host_metrics.backups("main", last)], set()) == known


@pytest.mark.parametrize("state", ["# comment\nLAST_CURSOR=s=1;i=2\n", "", None])
def test_the_first_entry_that_was_not_sent_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    if state is not None:
        (tmp_path / "state").write_text(state)
    shown = ['{"__REALTIME_TIMESTAMP": "700000000"}\n', ""]
    asked: list[str] = []
    monkeypatch.setattr(host_metrics, "output", lambda *words: asked.extend(words) or shown.pop(0))
    monkeypatch.setattr(host_metrics.time, "time", lambda: 1000.0)
    for behind in (300, 0):
        assert list(host_metrics.journal(tmp_path / "state")) == [f"stack_journal_unsent_seconds {behind}"]
    assert ("--after-cursor=s=1;i=2" in asked) is bool(state)


def test_the_journal_counts_where_it_is_sent() -> None:
    for sends in (False, True):
        unit = render("exporters", "host-metrics.service.j2", **GIVEN, exporters_sends_journal=sends)
        assert ("--journal-state=/var/lib/private/systemd/journal-upload/state" in unit) is sends


def test_what_cannot_be_read_is_left_out_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> list[str]:
        raise OSError("pgbackrest: no such stanza")

    said: set[str] = set()
    for _time in range(2):
        assert host_metrics.gather([broken, lambda: ["kept 1"]], said) == ["kept 1"]
    assert capsys.readouterr().err == "pgbackrest: no such stanza\n"


def test_it_runs(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    file = tmp_path / "host.prom"
    program = [
        sys.executable,
        str(ROLES / "exporters/files/host_metrics.py"),
        str(file),
        "--certificates",
        str(tmp_path),
    ]
    with subprocess.Popen(program) as running:
        try:
            end = time.monotonic() + 30
            while not file.exists() and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            running.kill()
    assert "stack_certificate_not_after_seconds" in file.read_text()
