# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role profiler brings to a host, run here: which worker is busy, and what one request costs."""

from __future__ import annotations

import base64
import json
import pstats
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.c50k.stack.tests.unit.programs import load_program

FILES = Path(__file__).parents[3] / "roles/profiler/files"

APPLICATION = """
import asyncio, os

print("imported")
started = []

def expensive(number):
    return sum(index * index for index in range(number))

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        started.append(os.environ.get("BROKEN"))
        if started[0]:
            return await send({"type": "lifespan.startup.failed", "message": "no database"})
        scope["state"]["number"] = 3000
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("ended")
        return await send({"type": "lifespan.shutdown.complete"})
    if scope["path"] == "/slow":
        await asyncio.sleep(60)
    if scope["path"] == "/broken":
        raise ValueError("nothing sent")
    assert scope["query_string"] == b"a=1" and (await receive())["body"] == b""
    expensive(scope["state"]["number"])
    await send({"type": "http.response.start", "status": 203, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})

async def plain(scope, receive, send):
    assert scope["type"] == "http", "this service knows no lifespan"
    await send({"type": "http.response.start", "status": 200, "headers": []})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "service.py").write_text(APPLICATION)
    return tmp_path


def route(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(FILES / "route.py"), *arguments]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_route_is_told_function_by_function(folder: Path, tmp_path: Path) -> None:
    done = route(folder, "service:app", "/items/1?a=1", "20")
    assert done.returncode == 0, done.stderr
    assert "imported" in done.stderr and "ended" in done.stderr  # it starts, and stops, and only the result is output
    found = json.loads(done.stdout)
    first, second = found["text"].splitlines()[:2]
    assert first.startswith("GET /items/1?a=1 on ") and first.endswith(": 200 with status 203.")
    assert "ms each, one after the other" in second
    assert "expensive" in found["text"].partition("internal time")[2].partition("cumulative time")[0]
    (tmp_path / "profile").write_bytes(base64.b64decode(found["profile"]))
    statistics: Any = pstats.Stats(str(tmp_path / "profile"))
    calls = {name: row[0] for (_file, _line, name), row in statistics.stats.items()}
    assert calls["expensive"] == 200


def test_a_service_without_a_lifespan_is_asked_too(folder: Path) -> None:
    found = json.loads(route(folder, "service:plain", "/", "20").stdout)
    assert found["text"].startswith("GET / on ")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("/slow", "1"), {}, "GET /slow is not answered in time; there were 1 s for all requests"),
        (("/broken", "5"), {}, "GET /broken ends with ValueError and no answer: nothing sent"),
        (("/", "5"), {"BROKEN": "yes"}, "the application fails at its startup: no database"),
    ],
)
def test_what_cannot_be_asked_is_said(
    folder: Path, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    done = route(folder, "service:app", *arguments, **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == said


@pytest.fixture(scope="module")
def workers() -> ModuleType:
    return load_program(FILES / "workers.py")


PARENT = """
import subprocess, sys
idle = "import time; time.sleep(60)"
for code in (idle, "while True: pass", "import sys; " + idle + " # multiprocessing.resource_tracker"):
    subprocess.Popen([sys.executable, "-c", code])
print("started", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def parent() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
    ) as process:
        assert process.stdout and process.stdout.readline()
        try:
            yield process.pid
        finally:
            subprocess.run(["kill", "-KILL", "--", f"-{process.pid}"], check=True)


def test_the_busy_worker_is_found_by_its_number(workers: ModuleType, parent: int) -> None:
    idle, busy = workers.workers(parent)
    assert (idle["worker"], busy["worker"]) == (1, 2)
    assert idle["busy"] < busy["busy"]


def test_what_is_gone_is_none(workers: ModuleType) -> None:
    done = subprocess.Popen(["true"])
    done.wait()
    assert workers.read(done.pid) is None
