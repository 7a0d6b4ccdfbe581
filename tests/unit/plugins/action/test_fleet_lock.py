"""The lock of a fleet, between real runs of ansible-playbook."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.c50k.stack.plugins.plugin_utils.fleet_lock import acquire

ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class Fleet:
    """A fleet's lock, and playbooks that take it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = folder / "secrets/lock"
        self.runs: list[subprocess.Popen[str]] = []

    def run(self, name: str, hosts: str = "localhost,", then: dict | None = None) -> subprocess.Popen[str]:
        """Start a run that locks the fleet on all *hosts*, twice, and then does *then*."""
        task = {"c50k.stack.fleet_lock": {"path": str(self.lock)}, "register": "locked"}
        tasks = [task, task, {"ansible.builtin.debug": {"var": "locked"}}, then or {"ansible.builtin.meta": "noop"}]
        playbook = self.folder / name
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        run = subprocess.Popen(
            [ANSIBLE, "-i", hosts, "-c", "local", playbook],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        )
        self.runs.append(run)
        return run

    def start_and_wait(self, name: str) -> subprocess.Popen[str]:
        """A run that has the lock and goes on until it is ended or its file ``go`` is there."""
        loop = "touch started; until [ -e go ]; do sleep 0.1; done"
        wait = {"ansible.builtin.raw": f"cd {self.folder} && timeout 60 sh -c '{loop}'"}
        run = self.run(name, then=wait)
        wait_until((self.folder / "started").exists, f"{name} has the lock and goes on")
        return run

    def holders(self) -> list[str]:
        """Processes that keep this lock."""
        found = subprocess.run(
            ["pgrep", "-f", f"fleet_lock.py {self.lock}"], capture_output=True, text=True, check=False
        )
        return found.stdout.split()

    def freed(self) -> bool:
        return not self.lock.exists() and not self.holders()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    (tmp_path / "go").touch()
    for run in fleet.runs:
        run.kill()
        run.communicate()


def test_a_second_run_is_refused_at_once_and_told_whose_the_lock_is(fleet: Fleet) -> None:
    first = fleet.start_and_wait("first.yml")
    second = fleet.run("second.yml")
    output = second.communicate(timeout=20)[0]
    owner = json.loads(fleet.lock.read_text())
    assert second.returncode == 2
    assert (
        f"{owner['user']}@{os.uname().nodename} has been running {fleet.folder}/first.yml since {owner['since']}"
        in output
    )
    assert f"(process {first.pid})" in output
    assert first.poll() is None and owner["pid"] == first.pid

    (fleet.folder / "go").touch()
    assert first.wait(20) == 0
    wait_until(fleet.freed, "nothing is left of the first run", 5)
    third = fleet.run("third.yml")
    assert third.wait(20) == 0, third.communicate()[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_frees_its_lock(fleet: Fleet, number: signal.Signals) -> None:
    run = fleet.start_and_wait("first.yml")
    assert run.poll() is None and len(fleet.holders()) == 1
    run.send_signal(number)
    run.wait(20)
    wait_until(fleet.freed, f"the lock is free after {number.name}", 5)


def test_a_run_has_one_lock_on_all_its_hosts_and_tasks(fleet: Fleet) -> None:
    run = fleet.run("many.yml", hosts="a,b,c,d")
    output = run.communicate(timeout=30)[0]
    assert run.returncode == 0, output
    assert output.count(f'"pid": {run.pid}') == 4
    assert output.count("changed=0") == 4


def test_a_file_left_without_a_holder_does_not_lock(fleet: Fleet) -> None:
    fleet.lock.parent.mkdir()
    fleet.lock.write_text('{"pid": 1, "host": "gone"}')
    run = fleet.run("first.yml")
    assert run.wait(20) == 0, run.communicate()[0]
    wait_until(fleet.freed, "the old file is gone too", 5)


def test_of_many_at_once_one_has_it(fleet: Fleet) -> None:
    owners = [subprocess.Popen(["sleep", "60"]) for _number in range(4)]
    try:
        for _round in range(3):
            others = [acquire(fleet.lock, {"pid": owner.pid}) for owner in owners]
            assert others == [None, *[{"pid": owners[0].pid}] * (len(owners) - 1)]
            first = owners.pop(0)
            first.kill()
            first.wait()
            wait_until(fleet.freed, "the lock ends with its owner", 5)
    finally:
        for owner in owners:
            owner.kill()
            owner.wait()


def test_runs_on_two_control_nodes_meet_on_a_host(fleet: Fleet) -> None:
    """Each has a file of its own; a shell of this machine is the login on the host, false that of one that is off."""
    host, off = ["bash", "-c"], ["false"]
    nodes = [fleet.folder / node / "lock" for node in ("one", "two")]
    first, second = [subprocess.Popen(["sleep", "60"]) for _number in range(2)]
    try:
        mine = {"pid": first.pid, "host": "one"}
        assert acquire(nodes[0], mine, [off, host]) is None
        assert acquire(nodes[1], {"pid": second.pid, "host": "two"}, [host]) == mine
        assert not nodes[1].exists(), "the refused one keeps nothing"
        first.kill()
        first.wait()
        wait_until(lambda: not nodes[0].exists(), "the first has ended", 15)
        wait_until(lambda: acquire(nodes[1], {"pid": second.pid, "host": "two"}, [host]) is None, "the host is free")
    finally:
        for owner in (first, second):
            owner.kill()
            owner.wait()


def test_an_owner_that_has_ended_already_leaves_nothing(fleet: Fleet) -> None:
    owner = subprocess.Popen(["true"])
    owner.wait()
    assert acquire(fleet.lock, {"pid": owner.pid}) is None
    wait_until(fleet.freed, "the lock of nobody is free", 5)


def test_a_lock_that_cannot_be_made_says_why(fleet: Fleet) -> None:
    fleet.lock.mkdir(parents=True)
    run = fleet.run("first.yml")
    output = run.communicate(timeout=20)[0]
    assert run.returncode == 2
    assert f"Cannot lock {fleet.lock}: the process that keeps the lock has failed: IsADirectoryError" in output
