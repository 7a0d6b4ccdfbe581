# SPDX-License-Identifier: GPL-3.0-or-later
"""What no exporter tells of a host: the files its units have open, when its certificates end, how old its backups are,
and what of its journal it has not sent yet.

host_metrics.py FILE [--certificates FOLDER] [--stanza NAME] [--pgbouncer PORT] [--journal-state FILE]

Writes FILE, for node exporter's textfile collector, each 15 s. What cannot be read is left out of it, and said once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

PERIOD = 15
SLOW_PERIOD = 300  # of what changes by the day
UNIT = re.compile(r"/([^/]+\.service)$", re.MULTILINE)
LIMIT = re.compile(r"^Max open files +(\d+)", re.MULTILINE)
CURSOR = re.compile(r"^LAST_CURSOR=(.+)$", re.MULTILINE)

Lines = Iterator[str]


def output(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if ended.returncode:
        raise OSError(f"{' '.join(command)}: {(ended.stderr or ended.stdout).strip()[-500:]}")
    return ended.stdout


def open_files(proc: Path = Path("/proc")) -> Lines:
    """Of each unit, the process that is nearest to its limit."""
    most: dict[str, tuple[int, int]] = {}
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            unit = UNIT.search((process / "cgroup").read_text())
            limit = LIMIT.search((process / "limits").read_text())
            if unit is None or limit is None:
                continue
            number = len(os.listdir(process / "fd"))
        except OSError:
            continue  # it has ended
        if number > int(limit[1]):
            continue  # one that is to open none any more, as sshd before a login
        known = most.get(unit[1], (0, 1))
        if number / int(limit[1]) >= known[0] / known[1]:
            most[unit[1]] = number, int(limit[1])
    for name, (number, maximum) in sorted(most.items()):
        unit_name = name.replace("\\", r"\\")  # as systemd escapes, with what escapes here too
        yield f'stack_unit_open_files{{unit="{unit_name}"}} {number}'
        yield f'stack_unit_open_files_limit{{unit="{unit_name}"}} {maximum}'


def certificates(folder: Path) -> Lines:
    for path in sorted(folder.glob("*.crt")):
        said = output("openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", str(path))
        ends = datetime.strptime(said.strip(), "notAfter=%Y-%m-%d %H:%M:%SZ").replace(tzinfo=UTC)
        yield f'stack_certificate_not_after_seconds{{path="{path}"}} {ends.timestamp():.0f}'


def backups(stanza: str, last: dict[str, int]) -> Lines:
    """When the last backup of each type was complete; ``last`` has what was known while the repository answered."""
    info = ("pgbackrest", f"--stanza={stanza}", "--output=json", "--log-level-file=off", "info")
    try:
        for found in json.loads(output("runuser", "-u", "postgres", "--", *info)):
            for backup in found["backup"]:
                if not backup.get("error"):
                    last[backup["type"]] = max(last.get(backup["type"], 0), backup["timestamp"]["stop"])
    finally:
        for kind, stop in sorted(last.items()):
            yield f'stack_backup_timestamp_seconds{{cluster="{stanza}",type="{kind}"}} {stop}'


def pgbouncer(port: int) -> Lines:
    """Its clients by what they do; its console is in the network namespace, where its exporter cannot reach it."""
    console = ("psql", "-XAtq", "-h", "@pgbouncer", "-p", str(port), "-U", "pgbouncer", "pgbouncer")
    rows = output("runuser", "-u", "pgbouncer", "--", *console, "-c", "SHOW POOLS").splitlines()
    waiting = sum(int(row.split("|")[3]) for row in rows)
    active = sum(int(row.split("|")[2]) for row in rows)
    yield f'stack_pgbouncer_clients{{state="active"}} {active}'
    yield f'stack_pgbouncer_clients{{state="waiting"}} {waiting}'


def journal(state: Path) -> Lines:
    """How old the first entry is that systemd-journal-upload has not sent yet; its state says what it sent last."""
    sent = CURSOR.search(state.read_text()) if state.exists() else None
    after = [f"--after-cursor={sent[1]}"] if sent else []
    first = output("journalctl", "--quiet", "--lines=+1", "--output=json", "--output-fields=_BOOT_ID", *after)
    logged = int(json.loads(first)["__REALTIME_TIMESTAMP"]) / 1e6 if first else time.time()
    yield f"stack_journal_unsent_seconds {max(0.0, time.time() - logged):.0f}"


def gather(parts: list[Callable[[], Lines]], said: set[str]) -> list[str]:
    lines = []
    for part in parts:
        try:
            for line in part():  # what it says before it fails counts
                lines.append(line)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            if str(error) not in said:
                said.add(str(error))
                print(error, file=sys.stderr, flush=True)
    return lines


def replace(path: Path, lines: list[str]) -> None:
    new = path.with_suffix(".new")
    new.write_text("".join(f"{line}\n" for line in lines))
    new.chmod(0o644)
    new.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--certificates", type=Path)
    parser.add_argument("--stanza")
    parser.add_argument("--pgbouncer", type=int)
    parser.add_argument("--journal-state", type=Path)
    given = parser.parse_args()
    often: list[Callable[[], Lines]] = [open_files]
    seldom: list[Callable[[], Lines]] = []
    if given.pgbouncer:
        often.append(lambda: pgbouncer(given.pgbouncer))
    if given.journal_state:
        often.append(lambda: journal(given.journal_state))
    if given.certificates:
        seldom.append(lambda: certificates(given.certificates))
    if given.stanza:
        last: dict[str, int] = {}
        seldom.append(lambda: backups(given.stanza, last))
    said: set[str] = set()
    slow: list[str] = []
    due = 0.0
    while True:
        if time.monotonic() >= due:
            slow = gather(seldom, said)
            due = time.monotonic() + SLOW_PERIOD
        replace(given.file, gather(often, said) + slow)
        time.sleep(PERIOD)


if __name__ == "__main__":
    main()
