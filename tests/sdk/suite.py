# SPDX-License-Identifier: GPL-3.0-or-later
"""The official SDK's own integration suite, unchanged, against a lab without hosts: the judge of the lab's API.

Data: the suite's tests by id; ``passing.txt``, those that pass; ``left_out.txt``, patterns of the rest, with a reason.
Flow: the sdist of the pinned SDK -> its tests -> groups, each a process of its own, side by side -> outcomes, compared
with the two files. ``passing.txt`` only grows: a recorded test that fails fails the run, and so does any other that
passes and is not recorded. Usage, from the project's folder: python -m tests.sdk.suite [--record]
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import importlib.metadata
import multiprocessing
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.lab_without_hosts import Lab

PROJECT = Path(__file__).parents[2]
CACHE = PROJECT / ".cache" / "sdk"
PASSING, LEFT_OUT = (Path(__file__).with_name(name) for name in ("passing.txt", "left_out.txt"))
RECORD = "python -m tests.sdk.suite --record"
OPTIONS = ("-p", "no:cacheprovider", "-q", "--capture=sys", "--color=no")

# The suite polls every few seconds, and its client looks every 15 s: what it has to see lasts longer than that.
SLOW = {"reboot": 22, "rebuild": 22, "resize": 22, "migrate": 22, "prepare_resize": 3}
# Two sessions that begin in one second give their firewalls the same label.
BETWEEN_STARTS = 2.5
LIMIT = 420.0  # seconds for a group
# A file's tests are one group, in their order; these wait for minutes, and are a group each.
ALONE = (
    *("test_disk_resize_and_duplicate", "test_linode_create_disk", "test_linode_resize_with_class"),
    *("test_linode_resize", "test_linode_resize_with_migration_type", "test_linode_boot_with_config"),
    *("test_linode_rebuild", "test_create_linode_with_kernel_and_boot_size_then_add_disk_and_rebuild"),
    *("test_linode_instance_password", "test_create_and_delete_vlan", "test_linode_initate_migration"),
)


class Collector:
    """A plugin of pytest that notes the tests of a session, and how each ended."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.outcomes: dict[str, str] = {}
        self.words: dict[str, str] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.ids = [item.nodeid for item in session.items]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        worst = self.outcomes.get(report.nodeid)
        if report.outcome == "failed" or worst is None or (report.outcome == "skipped" and worst == "passed"):
            self.outcomes[report.nodeid] = report.outcome
        elif report.when == "setup":  # of another try
            self.outcomes[report.nodeid] = report.outcome
        if report.failed:
            self.words[report.nodeid] = report.longreprtext


def main() -> int:
    parser = argparse.ArgumentParser(description="Put the SDK's own integration suite to the lab.")
    parser.add_argument("--record", action="store_true", help="add what passes now to passing.txt")
    parser.add_argument("tests", nargs="*", help="only tests whose id contains one of these; nothing is compared")
    options = parser.parse_args()
    started = time.monotonic()
    suite = unpacked()
    with tempfile.TemporaryDirectory() as state, Lab(Path(state)) as lab:
        slow_down(lab)
        os.environ.update(environment(lab))
        os.chdir(suite)
        ids = [name for name in collect() if not options.tests or any(part in name for part in options.tests)]
        outcomes, words = run(groups(ids))
    if options.tests:
        print("\n".join(f"{outcomes.get(name, 'no end'):8}{name}" for name in ids))
        print("\n".join(f"\n{name}\n{words[name]}" for name in ids if name in words))
        return 0
    passed = {name for name, outcome in outcomes.items() if outcome == "passed"}
    if options.record:
        record(ids, passed)
    recorded = lines(PASSING)
    wrong = compare(ids, passed, recorded, left_out(), words)
    print("".join(f"{line}\n" for line in wrong), end="")
    rest = len(ids) - len(recorded)
    print(f"SDK suite: {len(passed)} passed of {len(ids)}, {rest} left out with a reason", end="")
    print(f" ({time.monotonic() - started:.0f} s)")
    return 1 if wrong else 0


def unpacked() -> Path:
    """Return the folder of the sdist of the SDK's installed version; the first time, get it."""
    version = importlib.metadata.version("linode_api4")
    folder = CACHE / f"linode_api4-{version}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        sdist = ["--no-deps", "--no-binary=linode-api4", f"--dest={CACHE}", f"linode-api4=={version}"]
        subprocess.run([*pip, *sdist], check=True)
        with tarfile.open(f"{folder}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    return folder


def environment(lab: Lab) -> dict[str, str]:
    """Return the variables that the suite reads; what it asks of the internet fails at once, on this machine."""
    return {
        "LINODE_TOKEN": lab.token,
        "LINODE_API_URL": f"{lab.url}beta",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def slow_down(lab: Lab) -> None:
    """Let the lab be as slow as Linode where the suite waits to see something under way."""
    headers = {"Authorization": f"Bearer {lab.token}"}
    for task, seconds in SLOW.items():
        fault = {"kind": "slow", "task": task, "seconds": seconds, "count": 0}
        httpx.post(
            f"{lab.url.removesuffix('v4')}lab/faults", json=fault, headers=headers, trust_env=False
        ).raise_for_status()


def collect() -> list[str]:
    """Return the ids of all tests; what they import stays loaded, so that the groups have it for nothing."""
    collector = Collector()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main([*OPTIONS, "--collect-only", "test/integration"], plugins=[collector])
    return collector.ids


def groups(ids: Iterable[str]) -> list[list[str]]:
    """Return the tests that are to share a process, those that take longest first."""
    found: dict[str, list[str]] = {}
    for name in ids:
        file, _, test = name.partition("::")
        found.setdefault(name if test.partition("[")[0] in ALONE else file, []).append(name)
    return sorted(found.values(), key=lambda group: (not _is_alone(group[0]), -len(group)))


def _is_alone(name: str) -> bool:
    return name.partition("::")[2] in ALONE


def run(all_groups: list[list[str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Run the groups side by side; return how each test ended, and what it said if it failed."""
    fork = multiprocessing.get_context("fork")
    running = []
    for group in all_groups:
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=_run_group, args=(group, sender), daemon=True)
        process.start()
        sender.close()
        running.append((process, receiver))
        time.sleep(BETWEEN_STARTS)
    outcomes: dict[str, str] = {}
    words: dict[str, str] = {}
    deadline = time.monotonic() + LIMIT
    for process, receiver in running:
        with contextlib.suppress(EOFError):
            if receiver.poll(max(0.0, deadline - time.monotonic())):
                some, more = receiver.recv()
                outcomes |= some
                words |= more
        process.terminate()
        process.join()
    return outcomes, words


def _run_group(group: list[str], sender: Any) -> None:
    collector = Collector()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main([*OPTIONS, *group], plugins=[collector])
    sender.send((collector.outcomes, collector.words))


def lines(path: Path) -> set[str]:
    return {line for line in path.read_text().splitlines() if line and not line.startswith("#")}


def left_out() -> dict[str, str]:
    """Return pattern -> reason; in the file, a line that begins with # gives the reason of the patterns below it."""
    reasons, reason = {}, ""
    for line in LEFT_OUT.read_text().splitlines():
        if line.startswith("#"):
            reason = line.removeprefix("#").strip()
        elif line:
            reasons[line] = reason
    return reasons


def record(ids: list[str], passed: set[str]) -> None:
    """Add what passes to the one file, and take it out of the other; nothing that is recorded goes."""
    recorded = lines(PASSING) | passed
    PASSING.write_text("".join(f"{name}\n" for name in sorted(recorded)))
    text, before = "", ""
    for pattern, reason in left_out().items():
        found = fnmatch.filter(ids, pattern)
        rest = [name for name in found if name not in recorded]
        kept = [pattern] if rest == found else rest
        if kept and reason != before:
            text, before = f"{text}# {reason}\n", reason
        text += "".join(f"{line}\n" for line in kept)
    LEFT_OUT.write_text(text)


def compare(
    ids: list[str], passed: set[str], recorded: set[str], reasons: dict[str, str], words: dict[str, str]
) -> list[str]:
    """Return what is wrong: tests that are not as the two files say, and lines of the files that say nothing."""
    wrong = []
    for name in ids:
        matching = [pattern for pattern in reasons if fnmatch.fnmatchcase(name, pattern)]
        if name in recorded and name not in passed:
            wrong.append(f"{name} is recorded, and fails:\n{words.get(name, 'it did not end, or was skipped')}\n")
        elif name in recorded and matching:
            wrong.append(f"{name} is recorded, and left out by {matching[0]}")
        elif name in passed and name not in recorded:
            wrong.append(f"{name} passes, and is not recorded: `{RECORD}`")
        elif name not in recorded and not matching:
            wrong.append(f"{name} fails, and {LEFT_OUT.name} has no reason:\n{words.get(name, 'skipped')}\n")
    wrong += [f"{name} is recorded, and not in the suite" for name in sorted(recorded - set(ids))]
    for pattern in reasons:
        if not fnmatch.filter(ids, pattern):
            wrong.append(f"{LEFT_OUT.name} has {pattern}, which is in the suite no more")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
