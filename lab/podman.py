# SPDX-License-Identifier: GPL-3.0-or-later
"""Podman as this machine can run it."""

from __future__ import annotations

import functools
import resource
import shutil
import subprocess
from pathlib import Path

from lab.shell import run
from lab.state_dir import state_dir

PODMAN_NOFILE = 1_048_576  # podman's defaults for root
PODMAN_NPROC = 4_194_304


def containers_conf() -> str:
    """Return the containers.conf this machine needs, empty where podman's own defaults work.

    Two things break the defaults: hard limits below podman's own (and no right to raise them),
    and crun, which refuses the hybrid cgroup hierarchy that runc accepts.
    """
    lines = []
    nofile, nproc = resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if not _may_set(nofile=PODMAN_NOFILE, nproc=PODMAN_NPROC):
        pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
        nproc = pid_max if nproc == resource.RLIM_INFINITY else min(nproc, pid_max)
        lines += ["[containers]", f'default_ulimits = ["nofile={nofile}:{nofile}", "nproc={nproc}:{nproc}"]']
    hybrid = Path("/sys/fs/cgroup/unified/cgroup.controllers").exists()
    if hybrid and shutil.which("runc"):
        lines += ["[engine]", 'runtime = "runc"']
    return "\n".join([*lines, ""]) if lines else ""


def _may_set(nofile: int, nproc: int) -> bool:
    limits = [f"--nofile={nofile}:{nofile}", f"--nproc={nproc}:{nproc}"]
    return subprocess.run(["prlimit", *limits, "true"], capture_output=True, check=False).returncode == 0


@functools.cache
def environment() -> dict[str, str]:
    """Return the environment podman is called with; the file it names lies in the lab's state folder."""
    text = containers_conf()
    if not text:
        return {}
    path = state_dir() / "containers.conf"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text)
    return {"CONTAINERS_CONF": str(path)}


async def podman(*args: str) -> str:
    """Run podman with ``args`` and return what it prints."""
    return await run("podman", *args, env=environment())


if __name__ == "__main__":
    for name, value in environment().items():
        print(f"{name}={value}")
