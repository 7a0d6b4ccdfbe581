# SPDX-License-Identifier: GPL-3.0-or-later
"""profile.yml shows where a worker that serves spends its time, and what one GET costs; nobody else can ask for it."""

from __future__ import annotations

import pstats
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Fleet, command, eventually, play

CLIENTS = 4  # so that the worker that is looked at has work, whichever it is and however slow the machine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user is, and what comes of a profile."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "profiles"


@contextmanager
def load(front_door: str) -> Iterator[list[int]]:
    """Requests of several clients, each of them a statement, while it lasts; yields their statuses."""
    statuses: list[int] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=front_door, timeout=5) as client:
            while not done.is_set():
                statuses.append(client.get("/items?limit=100").status_code)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_flame_graph_of_a_worker_that_serves(fleet: Fleet, folder: Path) -> None:
    host = fleet.names("app_server")[0]
    with load(fleet.front_door) as statuses:
        done = play("profile", seconds=10)
    assert done.returncode == 0, done.stdout
    assert set(statuses) == {200}
    told = " ".join(done.stdout.split())
    assert f"on {host}, process" in told and "of 1000 samples" in told
    (picture,) = folder.glob(f"{host}-[0-9]*-20*.svg")
    said = picture.read_text()
    assert "<svg" in said and "items_service/database.py" in said
    # nothing runs on, and nothing is left but the tool
    app = fleet.host(host)
    assert app.run("systemctl is-active profiler.service").stdout.strip() == "inactive"
    assert app.check_output("ls /srv/profiler").split() == ["app", "site-packages"]


def test_what_a_route_costs_function_by_function(fleet: Fleet, folder: Path) -> None:
    done = play("profile", route="/items/7?source=replica", seconds=20)
    assert done.returncode == 0, done.stdout
    (text,) = folder.glob(f"{fleet.names('app_server')[0]}-items-7-source-replica-20*.txt")
    said = text.read_text()
    assert said.startswith("GET /items/7?source=replica on ") and ": 200 with status 200." in said
    assert "items_service/database.py" in said.partition("internal time")[2]
    statistics: Any = pstats.Stats(str(text.with_suffix(".prof")))
    assert any(file.endswith("items_service/database.py") for file, _line, _name in statistics.stats)


def main_pid(host: Any, unit: str) -> int:
    """0 where it does not run."""
    return int(host.check_output(f"systemctl show -P MainPID {unit}"))


def test_nobody_else_can_ask_for_it(fleet: Fleet, client: httpx.Client, folder: Path) -> None:
    """While a route is profiled its process has no socket that listens, and the service is as ever."""
    host = fleet.names("app_server")[0]
    app = fleet.host(host)
    listening = "ss -Htln | awk '{print $4}' | sort"
    before = app.check_output(listening)
    words = command("profile", route="/items/7/changes?timeout=15", seconds=12)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            pid = eventually(lambda: main_pid(app, "app-profile"), 60, "it runs")
            eventually(lambda: int(app.run(f"ls /proc/{pid}/fd | wc -l").stdout) > 5, 10, "it has started")
            assert app.check_output(listening) == before
            assert app.check_output(f"ps -o user= -p {pid}").strip() == "app"
            assert client.get("/items/7").status_code == 200
        finally:
            said, _ = running.communicate(timeout=120)
    # it is bounded, and says so
    assert running.returncode != 0
    assert "GET /items/7/changes?timeout=15 is not answered in time; there were 12 s for all requests" in " ".join(
        said.split()
    )
    assert app.run("systemctl is-active app-profile.service").stdout.strip() == "inactive"
    assert not list(folder.glob("*"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": "nobody"}, "The tier app_server has"),
        ({"worker": 99, "seconds": 1}, "app has no worker 99; there are"),
        ({"seconds": 0}, ". Choose 1 to 600."),
        ({"route": "items/1"}, "It is the path of a GET"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], said: str, folder: Path) -> None:
    done = play("profile", **given)
    assert done.returncode != 0
    assert said in " ".join(done.stdout.split())
    assert not list(folder.glob("*"))
