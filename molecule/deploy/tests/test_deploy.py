# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases brought, broken and taken back, with requests running the whole time; none may fail."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from conftest import PROJECT, Fleet, play

sys.path.insert(0, str(PROJECT / "molecule/shared"))
from traffic import Traffic

SERVICE = PROJECT / "molecule/shared/service"
TRAFFIC = ("--get", "/", "--post", "/", "--websocket", "/ws")


def releases(fleet: Fleet) -> dict[str, str]:
    """Return the release that each app host runs, as it says itself."""
    ask = "curl -s http://$(ss -ltnH sport = :8000 | awk '{print $4}')/"
    names = fleet.names("app_server")
    return {name: json.loads(fleet.host(name).check_output(ask))["release"] for name in names}


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
