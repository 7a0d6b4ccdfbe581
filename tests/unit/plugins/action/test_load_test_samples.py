"""Following a load test, in real runs of ansible-playbook, on hosts that are folders, with a systemctl of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
# A unit runs as long as its file is there, and has failed as its file says.
SYSTEMCTL = """#!/bin/sh
shift
for unit; do cat "$UNITS/$unit" 2>/dev/null || echo inactive; done
"""
JOURNALCTL = """#!/bin/sh
echo "the log of $*"
"""


def sample(second: int, active: int, requests: int) -> str:
    counts = {"requests": requests, "failed": 0, "ms": {"2.5": requests}}
    line = {"time": second, "source": 1, "active": active, "routes": {"GET /": counts}, "failures": {}}
    return json.dumps(line) + "\n"


class Following:
    """A run that follows the units of two hosts; ``one`` tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "units", "results"):
            (folder / name).mkdir()
        for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        self.state("load-test", "active")
        self.process: subprocess.Popen[str] | None = None

    def state(self, unit: str, state: str) -> None:
        (self.folder / "units" / unit).write_text(f"{state}\n")

    def end(self, unit: str) -> None:
        (self.folder / "units" / unit).unlink()

    def write(self, host: str, text: str) -> None:
        with (self.folder / host).open("a") as file:
            file.write(text)

    def start(self, *flags: str, timeout: int = 30, units: tuple[str, ...] = ("load-test",)) -> None:
        task = {
            "c50k.stack.load_test_samples": {
                "units": list(units),
                "path": f"{self.folder}/{{{{ inventory_hostname }}}}",
                "dest": f"{self.folder}/results",
                "timeout": timeout,
                "interval": 1,
                "tell": "{{ 'users' if inventory_hostname == 'one' else omit }}",
            }
        }
        playbook = self.folder / "follow.yml"
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
        environment = {"UNITS": f"{self.folder}/units", "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        self.process = subprocess.Popen(
            [ANSIBLE, "-i", "one,two", "-c", "local", *flags, playbook],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )

    def says(self, text: str) -> None:
        """Read what the run prints until a line has *text*, while it goes on."""
        assert self.process and self.process.stdout
        deadline = time.monotonic() + 20
        seen = []
        while time.monotonic() < deadline:
            seen.append(self.process.stdout.readline())
            if text in seen[-1]:
                assert self.process.poll() is None
                return
        raise AssertionError(f"not said: {text}\n{''.join(seen)}")

    def result(self) -> tuple[int, str]:
        assert self.process
        output, _nothing = self.process.communicate(timeout=40)
        return self.process.returncode, output


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Following]:
    made = Following(tmp_path)
    yield made
    if made.process:
        made.process.kill()
        made.process.communicate()


def test_the_sum_of_all_hosts_is_told_while_they_run_and_every_line_is_brought(following: Following) -> None:
    following.write("one", sample(100, 5, 10) + '{"time": ')
    following.write("two", sample(100, 7, 20))
    following.start()
    following.says("users 12   30 requests/s   failed 0   GET /   p50 2.5 ms   p99 2.5 ms")
    following.write("one", sample(101, 5, 40)[len('{"time": ') :])
    following.write("two", sample(101, 8, 20))
    following.says("users 13   45 requests/s")
    following.write("two", sample(102, 8, 1))
    following.end("load-test")
    code, output = following.result()
    assert code == 0, output
    for host in ("one", "two"):
        assert (following.folder / "results" / f"{host}.jsonl").read_text() == (following.folder / host).read_text()


def test_a_unit_that_fails_ends_it_with_its_log(following: Following) -> None:
    following.state("load-test-master", "active")
    following.start(units=("load-test-master", "load-test"))
    time.sleep(2)
    following.state("load-test-master", "failed")
    code, output = following.result()
    assert code == 2
    assert "The load generator failed" in output
    assert "--unit=load-test-master --unit=load-test" in output


def test_one_that_does_not_end_is_given_up(following: Following) -> None:
    following.start(timeout=2)
    code, output = following.result()
    assert code == 2
    assert "The load generator had not ended after 2 seconds" in output


def test_a_host_without_a_part_is_done_at_once(following: Following) -> None:
    following.start(units=())
    code, output = following.result()
    assert code == 0, output


def test_in_check_mode_nothing_is_followed(following: Following) -> None:
    following.start("--check")
    code, output = following.result()
    assert code == 0, output
    assert not list((following.folder / "results").iterdir())
