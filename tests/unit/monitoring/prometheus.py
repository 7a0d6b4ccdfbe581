# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus's own programs: of this machine, else of the lab's golden image."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

IMAGE = os.environ.get("TEST_PROMETHEUS_IMAGE", "localhost/c50k-lab/debian13-golden")


def command(program: str, folders: Sequence[Path], *options: str) -> list[str]:
    """How to start *program*, which sees the *folders* under their own names."""
    if shutil.which(program):
        return [program]
    mounts = [f"--volume={folder}:{folder}" for folder in folders]
    return ["podman", "run", "--rm", *options, *mounts, "--entrypoint", program, IMAGE]


def run(program: str, arguments: Sequence[str], *folders: Path) -> subprocess.CompletedProcess[str]:
    line = [*command(program, folders, "--network=none"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@contextmanager
def running(program: str, arguments: Sequence[str], *folders: Path) -> Iterator[None]:
    """The program, on this machine's loopback, until the end."""
    with subprocess.Popen(
        [*command(program, folders, "--network=host"), *arguments], stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()  # podman passes it on
