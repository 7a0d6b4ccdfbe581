# SPDX-License-Identifier: GPL-3.0-or-later
"""The external API, run as the lab runs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from lab_server import wait_for

from lab.upstream import POSTS, Behaviour, ask, post

ROOT = Path(__file__).parents[2]


class Running:
    def __init__(self, folder: Path) -> None:
        self.control = folder / "control"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        argv = [sys.executable, "-m", "lab.upstream", "--bind", address, "--control", str(self.control)]
        self.process = subprocess.Popen(argv, cwd=ROOT)
        self.http = httpx.Client(base_url=f"http://{address}", trust_env=False)
        wait_for(self._answers)

    def _answers(self) -> bool:
        try:
            return self.http.get("/posts/1").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(10) == -15 or self.process.returncode == 0


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("upstream"))
    yield running
    running.stop()
    with pytest.raises(ConnectionError, match="does not answer"):
        ask(running.control, {})


@pytest.fixture(autouse=True)
def calm(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "upstream" in request.fixturenames:
        ask(request.getfixturevalue("upstream").control, {"latency": 0, "jitter": 0, "failures": 0})


def test_posts_have_the_shape_and_never_change(upstream: Running) -> None:
    for number in (1, 10, 11, POSTS):
        found = upstream.http.get(f"/posts/{number}")
        assert (found.status_code, found.json()) == (200, post(number))
        assert [type(found.json()[name]) for name in ("userId", "id", "title", "body")] == [int, int, str, str]
    assert [post(number)["userId"] for number in (1, 10, 11, 100)] == [1, 1, 2, 10]


def test_what_it_does_not_have(upstream: Running) -> None:
    for path in ("/posts/0", "/posts/101", "/posts/x", "/posts", "/"):
        found = upstream.http.get(path)
        assert (found.status_code, found.json()) == (404, {})
    assert upstream.http.post("/posts/1").status_code == 405


def test_it_is_as_slow_as_asked(upstream: Running) -> None:
    assert ask(upstream.control, {"latency": 0.2}) == {"latency": 0.2, "jitter": 0, "failures": 0}
    started = time.monotonic()
    assert upstream.http.get("/posts/1").status_code == 200
    assert time.monotonic() - started >= 0.2
    assert ask(upstream.control, {}) == {"latency": 0.2, "jitter": 0, "failures": 0}


def test_it_fails_as_often_as_asked(upstream: Running) -> None:
    ask(upstream.control, {"failures": 1})
    assert upstream.http.get("/posts/1").status_code == 503
    ask(upstream.control, {"failures": 0.5})
    codes = [upstream.http.get("/posts/1").status_code for _ in range(100)]
    assert set(codes) == {200, 503}


def test_jitter_is_around_the_latency() -> None:
    delays = [Behaviour(latency=1, jitter=0.5).delay() for _ in range(200)]
    assert 0.5 <= min(delays) < 0.8 < 1.2 < max(delays) <= 1.5
    assert min(Behaviour(latency=0.1, jitter=1).delay() for _ in range(200)) == 0


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"failures": 1.5}, "failures is 1.5; it must be a number from 0 to 1"),
        ({"latency": -1}, "latency is -1; it must be a number from 0 to 60"),
        ({"latency": "slow"}, "latency is 'slow'"),
        ({"speed": 1}, "the upstream takes an object of latency, jitter, failures"),
    ],
)
def test_bad_wishes_are_refused(upstream: Running, wish: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ask(upstream.control, wish)


def test_only_its_owner_may_change_it(upstream: Running) -> None:
    assert os.stat(upstream.control).st_mode & 0o777 == 0o600
