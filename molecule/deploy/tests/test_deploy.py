# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases brought, broken and taken back, with requests running the whole time; none may fail."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PROJECT, Fleet, eventually, play

sys.path.insert(0, str(PROJECT / "tests/drills"))
from traffic import Traffic

SERVICE = PROJECT / "molecule/shared/service"
REQUESTS = ("--get", "/", "--post", "/")
TRAFFIC = (*REQUESTS, "--websocket", "/ws")


def releases(fleet: Fleet) -> dict[str, str]:
    """Return the release that each app host runs, as it says itself."""
    ask = "curl -s http://$(ss -ltnH sport = :8000 | awk '{print $4; exit}')/"
    names = fleet.names("app_server")
    return {name: json.loads(fleet.host(name).check_output(ask))["release"] for name in names}


def origins(fleet: Fleet) -> set[str]:
    """Return what each app host keeps of where its release comes from."""
    return {host.check_output("cat /etc/app/current/release/origin") for host in fleet.tier("app_server")}


def kill_workers(host: Any) -> None:
    """Kill the service's worker processes, and wait for as many new ones."""
    ask = "pgrep --parent $(systemctl show --property=MainPID --value app)"
    old = set(host.check_output(ask).split())
    host.check_output(f"kill -KILL {' '.join(old)}")
    eventually(lambda: len(set(host.run(ask).stdout.split()) - old) == len(old), what="as many new workers")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@example.com", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str, str], Path]:
    """Copies the service with one piece of its code replaced."""

    def source(old: str, new: str) -> Path:
        folder = tmp_path / "service"
        shutil.copytree(SERVICE, folder)
        code = folder / "service.py"
        assert old in code.read_text()
        code.write_text(code.read_text().replace(old, new))
        return folder

    return source


def test_a_release_and_back(fleet: Fleet, source: Callable[[str, str], Path]) -> None:
    before = releases(fleet)
    assert len(set(before.values())) == 1
    with Traffic(fleet.front_door, *TRAFFIC) as traffic:
        deployed = play("deploy", app_server_source=str(source("import json", "import json\nimport math")))
        after = releases(fleet)
        back = play("rollback")
        finally_ = releases(fleet)
    traffic.check()
    assert deployed.returncode == 0, deployed.stdout
    assert back.returncode == 0, back.stdout
    assert len(set(after.values())) == 1 and set(after.values()).isdisjoint(before.values())
    assert finally_ == before
    assert f"back to release {before.popitem()[1]}: folder {SERVICE}" in " ".join(back.stdout.split()), back.stdout


def test_a_commit_and_the_next_one(fleet: Fleet, tmp_path: Path) -> None:
    before = releases(fleet)
    repository = tmp_path / "service"
    shutil.copytree(SERVICE, repository)
    git(repository, "init", "--quiet", "--initial-branch=main")
    for message in ("first", "second"):
        git(repository, "add", "--all")
        git(repository, "commit", "--quiet", f"--message={message}")
        (repository / "service.py").write_text(f"{(repository / 'service.py').read_text()}\n# not committed\n")
    git(repository, "tag", "v1", "main~1")
    second = git(repository, "rev-parse", "main")[:12]
    with Traffic(fleet.front_door, *TRAFFIC) as traffic:
        same = play("deploy", app_server_source=str(repository), app_server_version="v1")
        unchanged = releases(fleet)
        deployed = play("deploy", app_server_source=f"file://{repository}", app_server_version="main")
        after = releases(fleet)
    traffic.check()
    assert same.returncode == 0, same.stdout
    assert "changed=0" in same.stdout and not re.search("changed=[1-9]", same.stdout), same.stdout
    assert unchanged == before, "the content is that of the folder that runs"
    assert deployed.returncode == 0, deployed.stdout
    [release] = set(after.values())
    origin = f"git service main → {second}"
    assert release not in before.values()
    assert f"release {release}: {origin}" in deployed.stdout, deployed.stdout
    assert origins(fleet) == {origin}


PROJECT_FILE = """
[project]
name = "service"
version = "1.2.0"
requires-python = ">=3.13"
dependencies = ["uvicorn-worker"]
[build-system]
requires = ["uv_build"]
build-backend = "uv_build"
"""


def test_a_wheel(fleet: Fleet, tmp_path: Path) -> None:
    before = releases(fleet)
    (tmp_path / "src/service").mkdir(parents=True)
    shutil.copy(SERVICE / "service.py", tmp_path / "src/service/__init__.py")
    (tmp_path / "pyproject.toml").write_text(PROJECT_FILE)
    subprocess.run(["uv", "build", "--quiet", "--offline", "--wheel"], cwd=tmp_path, check=True)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    lock = str(SERVICE / "requirements.txt")
    with Traffic(fleet.front_door, *TRAFFIC) as traffic:
        deployed = play("deploy", app_server_source=str(wheel), app_server_requirements=lock)
        after = releases(fleet)
    traffic.check()
    assert deployed.returncode == 0, deployed.stdout
    [release] = set(after.values())
    assert release not in before.values()
    assert f"release {release}: wheel service 1.2.0" in deployed.stdout, deployed.stdout
    assert origins(fleet) == {"wheel service 1.2.0"}


# What is put in the place of what, and what the refusal then says.
BROKEN = {
    "import": ("import json", "import no_such_module", ["cannot be imported", "No module named 'no_such_module'"]),
    "readyz": (
        '"status": 200',
        '"status": 503 if scope["path"] == "/readyz" else 200',
        ["does not answer 200", "error: 503", "serves again on this host", "service's last lines"],
    ),
    "slow start": (
        'if scope["type"] == "lifespan":',
        'if scope["type"] == "lifespan":\n        await asyncio.sleep(60)',
        [
            "does not answer 200",
            "app_server_start_timeout (10 s)",
            "serves again on this host",
            "Waiting for application startup",
        ],
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_release_stops_at_the_first_host(fleet: Fleet, source: Callable[[str, str], Path], kind: str) -> None:
    before = releases(fleet)
    old, new, said = BROKEN[kind]
    with Traffic(fleet.front_door, *TRAFFIC) as traffic:
        deployed = play("deploy", app_server_source=str(source(old, new)))
    traffic.check()
    assert deployed.returncode != 0
    for words in said:
        assert words in deployed.stdout, deployed.stdout
    assert releases(fleet) == before
    assert httpx.get(fleet.front_door).json()["release"] == next(iter(before.values()))


# Only uvicorn's workers, the first to go, close a WebSocket with a word when they stop.
@pytest.mark.parametrize(("engine", "meanwhile"), [("gunicorn", TRAFFIC), ("granian", REQUESTS), ("uvicorn", REQUESTS)])
def test_another_engine(fleet: Fleet, engine: str, meanwhile: tuple[str, ...]) -> None:
    with Traffic(fleet.front_door, *meanwhile) as traffic:
        changed = play("site", app_server_engine=engine)
    traffic.check()
    assert changed.returncode == 0, changed.stdout
    for host in fleet.tier("app_server"):
        assert host.check_output("systemctl show --property=Description --value app") == f"service:app under {engine}"
        kill_workers(host)
    eventually(lambda: httpx.get(fleet.front_door).is_success, what="the new workers serving")
    with Traffic(fleet.front_door, *TRAFFIC) as traffic:
        time.sleep(2)
    traffic.check()
    seen = httpx.get(fleet.front_door).json()["client"]
    assert seen.startswith("10.") == (engine == "gunicorn"), "its own workers take the load balancer for the client"
