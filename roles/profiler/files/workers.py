# SPDX-License-Identifier: GPL-3.0-or-later
"""How busy each worker of a unit of systemd is: one line of JSON, [{"worker": 1, "pid": 4711, "busy": 0.63}, ...].

Workers are the children of the unit's main process, numbered from 1 in the order of their starts; busy is the share of
a core that each took in the last second. Without a main process there are none.
Usage: workers.py UNIT
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

PERIOD = 1.0  # seconds
HELPER = b"multiprocessing.resource_tracker"  # a child that serves nobody


class Process(NamedTuple):
    parent: int
    started: int  # in ticks of the clock, as is what it used
    used: int


def read(pid: int) -> Process | None:
    """None where it is gone."""
    try:
        # its name, in brackets, may have spaces and brackets
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if HELPER in Path(f"/proc/{pid}/cmdline").read_bytes():
            return None
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(int(fields[1]), int(fields[19]), int(fields[11]) + int(fields[12]))


def children(parent: int) -> dict[int, Process]:
    """By process id, the oldest first."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    found = {pid: process for pid in pids if (process := read(pid)) and process.parent == parent}
    return dict(sorted(found.items(), key=lambda item: (item[1].started, item[0])))


def workers(parent: int) -> list[dict[str, float]]:
    before = children(parent)
    began = time.monotonic()
    time.sleep(PERIOD)
    seconds = time.monotonic() - began
    after = children(parent)
    ticks = os.sysconf("SC_CLK_TCK")
    return [
        {
            "worker": number,
            "pid": pid,
            "busy": round((process.used - before[pid].used) / ticks / seconds, 2) if pid in before else 0.0,
        }
        for number, (pid, process) in enumerate(after.items(), 1)
    ]


def main() -> None:
    shown = subprocess.run(
        ["systemctl", "show", "--property=MainPID", "--value", sys.argv[1]], capture_output=True, text=True, check=True
    )
    pid = int(shown.stdout)
    print(json.dumps(workers(pid) if pid else []))


if __name__ == "__main__":
    main()
