# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m lab``, without hosts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_server import wait_for

from lab.__main__ import balancer_words
from lab.server import bound
from lab.settings import Settings

ROOT = Path(__file__).parents[2]


class Command:
    """The command line, on a state folder and a port of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]

    def __call__(self, *argv: str) -> tuple[int, str]:
        env = {**os.environ, "C50K_LAB_STATE": str(self.state), "C50K_LAB_PORT": str(self.port)}
        done = subprocess.run(
            [sys.executable, "-m", "lab", *argv], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def pid(self) -> int:
        return int((self.state / "api.pid").read_text().split()[0])

    def request(self, path: str, body: object = None) -> object:
        headers = {"Authorization": f"Bearer {(self.state / 'token').read_text()}"}
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}/v4{path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, data, headers), timeout=10) as reply:
            return json.load(reply)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path / "state")
    yield command
    if (command.state / "state.sqlite").exists():
        command("stop")


def test_from_start_to_nothing(lab: Command) -> None:
    code, said = lab("start", "--no-hosts")
    assert code == 0 and f"The lab is running: http://127.0.0.1:{lab.port}/v4" in said
    pid = lab.pid
    assert lab("start", "--no-hosts") == (0, said.replace("is running", "was running already"))
    assert lab.pid == pid
    assert (lab.state.stat().st_mode & 0o777, (lab.state / "token").stat().st_mode & 0o777) == (0o700, 0o600)
    token = (lab.state / "token").read_text()
    assert lab("token") == (0, f"{token}\n")

    wish = {"type": "g6-nanode-1", "region": "us-ord", "label": "demo", "tags": ["blue"], "image": "private/1"}
    lab.request("/linode/instances", {**wish, "root_pass": "long enough"})
    code, table = lab("status")
    assert code == 0 and f"pid {pid}, 1 instances" in table
    assert "demo   running  g6-nanode-1  198.51.100.2  -    blue" in table
    rules = {"inbound_policy": "DROP", "outbound_policy": "ACCEPT"}
    lab.request("/networking/firewalls", {"label": "web", "rules": rules})
    code, table = lab("status")
    assert "firewall web, enabled, on 0\n  inbound: drop all\n  outbound: accept all\n" in table

    node = {"label": "app", "address": "192.168.128.5:80"}
    lab.request("/nodebalancers", {"region": "us-ord", "label": "front", "configs": [{"nodes": [node]}]})
    assert "nodebalancer: front 198.51.100.3 common; 80 http roundrobin: 0 up, 0 down of 1\n" in lab("status")[1]

    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not (lab.state / "api.pid").exists())
    assert lab("restart")[0] == 0
    assert lab.pid != pid and (lab.state / "token").read_text() == token
    os.kill(lab.pid, signal.SIGKILL)
    assert lab("status") == (3, "The lab is not running.\n")
    assert lab("start", "--no-hosts")[0] == 0
    assert "demo   running" in lab("status")[1]

    assert lab("stop") == (0, "The lab is gone: hosts, network and state.\n")
    assert not lab.state.exists()
    assert lab("status")[0] == 3


def test_a_nodebalancer_that_holds_less_than_its_type_says_so() -> None:
    front = {"label": "front", "ipv4": "198.51.100.3", "type": "premium", "configs": []}
    assert balancer_words({**front, "connections": 100_000}) == "front 198.51.100.3 premium"
    less = balancer_words({**front, "connections": 9_899})
    assert less.endswith("; holds 9899 connections, not 100000: this machine's file limit")


def test_a_port_of_a_stranger_is_refused(lab: Command) -> None:
    with socket.create_server(("127.0.0.1", lab.port)):
        code, said = lab("start", "--no-hosts")
    assert code == 1 and f"127.0.0.1:{lab.port} is taken by another program" in said
    assert not lab.state.exists()


def test_replies_do_not_wait_for_the_next_packet() -> None:
    with bound(Settings(port=0)) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_another_process_with_the_old_pid_is_left_alone(lab: Command) -> None:
    lab.state.mkdir()
    (lab.state / "api.pid").write_text(f"{os.getpid()} 1\n")  # this process, but not of that start time
    assert lab("status")[0] == 3
    assert lab("start", "--no-hosts")[0] == 0
    assert lab.pid != os.getpid()


def test_why_it_did_not_start(lab: Command) -> None:
    lab("start", "--no-hosts")
    os.kill(lab.pid, signal.SIGKILL)
    code, said = lab("start")
    assert code == 1 and "was made without hosts and cannot go on with" in said


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("C50K_LAB_PORT", "many", "C50K_LAB_PORT is 'many'; it must be a port"),
        ("C50K_LAB_LIMITS", "creates=1/1", "C50K_LAB_LIMITS has 'creates=1/1'"),
    ],
)
def test_bad_settings_are_named(name: str, value: str, reason: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab", "status"],
        cwd=ROOT,
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.startswith(reason)


def test_the_upstream_is_not_there_without_hosts(lab: Command) -> None:
    code, said = lab("upstream")
    assert code == 1 and "Is the lab running?" in said
