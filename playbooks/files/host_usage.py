# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host uses, one line of JSON a second on standard output, for a load test that calibrates.

A line is {"time": a second of Unix time, "cpu": seconds of CPU time since the host's start, "memory": bytes that its
programs and its kernel hold, without what can be given back}. In a container they are those of the container.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
# Of a container's cgroup: what no pressure on memory gives back.
HELD = ("anon", "sock", "kernel_stack", "slab_unreclaimable", "pagetables", "percpu")


def table(file: Path) -> dict[str, int]:
    """A file of lines such as ``usage_usec 17`` or ``MemTotal: 17 kB``."""
    rows = (line.split() for line in file.read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def cpu(cgroups: Path) -> float:
    if (cgroups / "cpu.stat").exists():
        return table(cgroups / "cpu.stat")["usage_usec"] / 1e6
    return int((cgroups / "cpuacct/cpuacct.usage").read_text()) / 1e9


def memory(cgroups: Path, meminfo: Path) -> int:
    if (cgroups / "memory/memory.kmem.usage_in_bytes").exists():
        kernel = int((cgroups / "memory/memory.kmem.usage_in_bytes").read_text())
        return table(cgroups / "memory/memory.stat")["total_rss"] + kernel
    if (cgroups / "memory.current").exists():  # the top one, of a machine, has none
        held = table(cgroups / "memory.stat")
        return sum(held.get(name, 0) for name in HELD)
    found = table(meminfo)
    return (found["MemTotal"] - found["MemAvailable"]) * 1024


def main() -> None:
    while True:
        now = time.time()
        line = {"time": int(now), "cpu": cpu(CGROUPS), "memory": memory(CGROUPS, Path("/proc/meminfo"))}
        sys.stdout.write(f"{json.dumps(line)}\n")
        sys.stdout.flush()
        time.sleep(1 - time.time() % 1)


if __name__ == "__main__":
    main()
