# SPDX-License-Identifier: GPL-3.0-or-later
"""What drills ask of a fleet's PostgreSQL members and of the lab, with hosts that may be off at any moment."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from primaries import Primaries
from writes import Report, Writing, accounts

PROJECT = Path(__file__).parents[2]
PATRONI = "runuser -u postgres -- patronictl -c /etc/postgresql/17/main/patroni.yml"
GIVES_UP = ("-o", "ConnectTimeout=2", "-o", "ServerAliveInterval=2", "-o", "ControlPath=none")
Ssh = Mapping[str, Sequence[str]]  # name of a member -> the words that run a command there
Members = dict[str, tuple[str, str]]  # name -> role and state, as Patroni has them


def ssh_words(addresses: Mapping[str, str], secrets: Path) -> dict[str, list[str]]:
    """Return for each host the words that run a command there, and that give up soon where it is off."""
    files = ["-i", f"{secrets}/id_ed25519", "-o", f"UserKnownHostsFile={secrets}/known_hosts", "-o", "LogLevel=ERROR"]
    return {name: ["ssh", *files, *GIVES_UP, f"root@{address}"] for name, address in addresses.items()}


def members(ssh: Ssh) -> Members:
    """Return the members as the first one that answers has them."""
    for words in ssh.values():
        listed = subprocess.run(
            [*words, f"timeout 5 {PATRONI} list -f json"], capture_output=True, text=True, check=False
        )
        if listed.returncode == 0:
            return {row["Member"]: (row["Role"], row["State"]) for row in json.loads(listed.stdout)}
    raise AssertionError("no member of PostgreSQL answers")


def leader(ssh: Ssh) -> str:
    """Return the primary's name; empty while there is none."""
    return next((name for name, state in members(ssh).items() if state == ("Leader", "running")), "")


def whole(ssh: Ssh) -> bool:
    """Whether there is a primary, and all the others stream from it and confirm what it writes."""
    states = sorted(members(ssh).values())
    return states == [("Leader", "running")] + [("Quorum Standby", "streaming")] * (len(ssh) - 1)


def lose_power(name: str, seconds: float) -> None:
    """End a host as a power cut does, for so long."""
    subprocess.run(
        [sys.executable, "-m", "lab", "power-loss", name, "--seconds", str(seconds)], cwd=PROJECT, check=True
    )


def names(words: Sequence[str]) -> list[str]:
    """Return the names of all items, as the member that ``words`` reach has them."""
    query = "runuser -u postgres -- psql -XAtc 'select name from items' app"
    return subprocess.run([*words, query], capture_output=True, text=True, check=True).stdout.split("\n")


@dataclass
class Account:
    """What became of the writes of a drill, once it is over."""

    report: Report | None = None


@contextmanager
def accounted(ssh: Ssh, url: str, primary: Callable[[], str]) -> Iterator[Account]:
    """Write through ``url`` all the while, and account for every write at the end.

    ``primary`` then has every one that was acknowledged, and never did two members take writes at once.
    """
    account = Account()
    with Primaries(ssh) as primaries, Writing(url) as writing:
        yield account
        time.sleep(2)
    account.report = report = accounts(writing.writes, names(ssh[primary()]))
    outcomes = f"{report.outcomes}, {report.unknown_and_there} of the unknown are there"
    print(f"{outcomes}; {report.gap} s without one; {report.reasons}")
    report.check()
    primaries.check()
