# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host uses, where it is a machine and where it is a container."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.c50k.stack.tests.unit.programs import load_program

FILE = Path(__file__).parents[3] / "playbooks/files/host_usage.py"
host_usage = load_program(FILE)

MEMINFO = "MemTotal:  2000 kB\nMemFree: 10 kB\nMemAvailable: 1500 kB\n"


def files(root: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_s_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "meminfo").write_text(MEMINFO)
    return root


def used(root: Path) -> tuple[float, int]:
    return host_usage.cpu(root), host_usage.memory(root, root / "meminfo")


def test_a_machine(tmp_path: Path) -> None:
    files(tmp_path, cpu_s_stat="usage_usec 2500000\nuser_usec 1\n", memory_s_stat="anon 7\nfile 9\n")
    assert used(tmp_path) == (2.5, 500 * 1024)


def test_a_container(tmp_path: Path) -> None:
    text = "anon 1000\nfile 9000\nsock 20\nslab_reclaimable 500\nslab_unreclaimable 300\n"
    files(tmp_path, cpu_s_stat="usage_usec 1\n", memory_s_current="10820\n", memory_s_stat=text)
    assert used(tmp_path)[1] == 1320


def test_a_container_of_control_groups_of_the_first_version(tmp_path: Path) -> None:
    texts = {"cpuacct__cpuacct_s_usage": "3500000000\n", "memory__memory_s_stat": "total_cache 5\ntotal_rss 4000\n"}
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.kmem.usage_in_bytes").write_text("96\n")
    assert used(files(tmp_path, **texts)) == (3.5, 4096)


@pytest.mark.skipif(not Path("/sys/fs/cgroup").is_dir(), reason="no control groups on this machine")
def test_it_tells_a_line_a_second_of_this_machine() -> None:
    with subprocess.Popen([sys.executable, str(FILE)], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        first, second = (json.loads(program.stdout.readline()) for _line in range(2))
        program.terminate()
    assert second["time"] > first["time"]
    assert second["cpu"] >= first["cpu"] > 0
    assert first["memory"] > 0
