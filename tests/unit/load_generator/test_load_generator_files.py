# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role load_generator brings to a host, run here: who counts, and what the scenarios ask for."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ansible_collections.c50k.stack.plugins.module_utils.load_report import Run, figures

ROOT = Path(__file__).parents[3]
FILES = ROOT / "roles/load_generator/files"
SCENARIOS = sorted((FILES / "scenarios").iterdir())
NODE = shutil.which("node")

# Rows of k6 1.1.0 with the tags that k6_samples.py asks for.
K6 = """\
metric_name,timestamp,metric_value,check,error,error_code,expected_response,group,method,name,proto,scenario,service,status
http_reqs,100,1.000000,,,,true,,GET,/items/{id},,,,200
http_req_duration,100,1.158282,,,,true,,GET,/items/{id},,,,200
http_req_duration,100,120.9,,,,true,,PUT,/items/{id},,,,200
vus,100,7.000000,,,,,,,,,,,
http_req_duration,101,1.055770,,,,false,,GET,/items/{id},,,,503
http_req_duration,101,0.000000,,dial: connection refused,,false,,GET,/items/{id},,,,0
http_req_duration,100,1.16,,,,true,,GET,/items/{id},,,,200
vus,101,8.000000,,,,,,,,,,,
"""


def samples(*command: object) -> list[dict[str, Any]]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def without_source(sample: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sample.items() if key != "source"}


def test_what_k6_writes_is_counted_second_by_second(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(K6)
    # what k6_samples.py adds to the words becomes the shell's arguments
    first, last = samples(sys.executable, FILES / "k6_samples.py", "sh", "-c", f"cat {tmp_path}/rows.csv", "sh")
    assert without_source(first) == {
        "time": 100,
        "active": 7,
        "routes": {
            "GET /items/{id}": {"requests": 1, "failed": 0, "ms": {"1.2": 1}},
            "PUT /items/{id}": {"requests": 1, "failed": 0, "ms": {"1.2e+02": 1}},
        },
        "failures": {},
    }
    # a row that comes late counts in the second that is being counted
    assert last["routes"]["GET /items/{id}"] == {"requests": 3, "failed": 2, "ms": {"1.1": 1, "0": 1, "1.2": 1}}
    assert last["failures"] == {
        "GET /items/{id}: status 503": 1,
        "GET /items/{id}: dial: connection refused": 1,
    }
    assert last["active"] == 0, "at the end nobody is left"


def test_k6_that_fails_fails() -> None:
    command = [sys.executable, FILES / "k6_samples.py", "sh", "-c", "exit 99"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 99


def test_reasons_without_end_become_one_and_prints_go_to_the_log() -> None:
    script = "; ".join(
        [
            "from samples import Samples",
            "samples = Samples()",
            "print('from a scenario')",
            "[samples.count('GET /', 1.0, f'reason {n}') for n in range(1000)]",
            "samples.say(3)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=FILES, capture_output=True, text=True, check=True)
    (sample,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(sample["failures"].values()) == sample["routes"]["GET /"]["failed"] == 1000
    assert len(sample["failures"]) < 30 and sample["failures"]["other reasons"] > 900
    assert "from a scenario" in done.stderr


class Answer(BaseHTTPRequestHandler):
    """204, and 503 for every fifth item."""

    def do_GET(self) -> None:
        number = int(self.path.rsplit("/", 1)[1])
        self.send_response(204 if number % 5 else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_holder_says_every_second_how_requests_ended(service: str) -> None:
    wish = ("--requests", 30, "--rate", 20, "--path", "/items/{id}", "--status", 204, "--ids", 10)
    found = samples(sys.executable, FILES / "hold.py", service, *wish, "--samples")
    assert len(found) >= 2
    run = Run()
    run.add("host", map(json.dumps, found))
    report = figures(run, 30)
    assert (report["requests"], report["failed"]) == (30, 6)
    assert report["failures"] == [{"reason": "status 503", "requests": 6}]
    assert [route["route"] for route in report["routes"]] == ["GET /items/{id}"]
    assert found[-1]["active"] == 0


def app_routes() -> list[str]:
    """The paths of the reference service, from its table of routes."""
    tree = ast.parse((ROOT / "app/items_service/main.py").read_text())
    (table,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "routes"
    ]
    assert isinstance(table, ast.List)
    return [ast.literal_eval(route.args[0]) for route in table.elts if isinstance(route, ast.Call)]


def names(scenario: Path) -> set[str]:
    """What it calls its requests, which is their path where there is no id in it."""
    return set(re.findall(r'(?<!f)"(/[^"$]*)"', scenario.read_text()))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_a_scenario_names_routes_that_the_service_has(scenario: Path) -> None:
    known = app_routes()
    named = {name.partition("?")[0].removesuffix("/") for name in names(scenario)}
    assert named and named <= set(known), f"known are {known}"


def test_both_tools_ask_for_the_same_routes() -> None:
    for name in ("seed", "mixed"):
        assert names(FILES / f"scenarios/{name}.py") == names(FILES / f"scenarios/{name}.js")


@pytest.mark.parametrize("scenario", [path for path in SCENARIOS if path.suffix == ".py"], ids=lambda path: path.name)
def test_a_locustfile_compiles(scenario: Path) -> None:
    compile(scenario.read_text(), str(scenario), "exec")


@pytest.mark.skipif(NODE is None, reason="no Node.js here to read JavaScript; k6 reads it in molecule test -s default")
@pytest.mark.parametrize("scenario", [path for path in SCENARIOS if path.suffix == ".js"], ids=lambda path: path.name)
def test_a_script_for_k6_compiles(scenario: Path, tmp_path: Path) -> None:
    module = shutil.copy(scenario, tmp_path / f"{scenario.stem}.mjs")
    done = subprocess.run([str(NODE), "--check", module], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
