# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lock that lasts as long as a process, and is kept for it by another one.

``acquire`` starts this file as a program, the holder. It keeps the lock until the process it is for has ended, however
that ends. The locked file says in JSON whose it is, and goes with the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ANSWER_TIMEOUT = 10
HELD = b"held\n"
TAKEN = 3


def is_file(descriptor: int, path: str) -> bool:
    """Whether *path* still is the file that was opened as *descriptor*."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def lock_file(path: str) -> int | None:
    """A descriptor of the file at *path*, locked; None when another process has the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if is_file(descriptor, path):  # and not removed by its last holder after it was opened
            return descriptor
        os.close(descriptor)


def wait_for_end(pid: int) -> None:
    """Return when the process *pid* has ended."""
    try:
        select.select([os.pidfd_open(pid)], [], [])
        return
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # macOS, or a kernel without it
        pass
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(1)


def hold(path: str, owner: str) -> None:
    """The holder: lock *path*, say so, and keep the lock until the process of *owner* has ended."""
    descriptor = lock_file(path)
    if descriptor is None:
        sys.exit(TAKEN)
    os.truncate(descriptor, 0)
    os.write(descriptor, owner.encode())
    os.write(sys.stdout.fileno(), HELD)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    wait_for_end(json.loads(owner)["pid"])
    if is_file(descriptor, path):
        os.unlink(path)


def read_owner(path: Path) -> dict[str, Any]:
    """Whose lock it is; an empty dictionary when that cannot be told."""
    for _attempt in range(10):
        try:
            return dict(json.loads(path.read_text()))
        except FileNotFoundError:
            break
        except ValueError:  # just locked, and not written yet
            time.sleep(0.1)
    return {}


def acquire(path: Path, owner: dict[str, Any]) -> dict[str, Any] | None:
    """Lock the file at *path* until the process ``owner["pid"]`` has ended.

    None when that is done; the other owner when it is locked already. OSError when there can be no such file or holder.
    """
    path = path.absolute()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    answers, answer = os.pipe()
    holder = subprocess.Popen(
        [sys.executable, "-I", __file__, str(path), json.dumps(owner)],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=answer,
        stderr=answer,
        start_new_session=True,  # a Ctrl-C is for the run alone
    )
    os.close(answer)
    with open(answers, "rb") as said:
        answered = select.select([said], [], [], ANSWER_TIMEOUT)[0]
        if answered and said.readline() == HELD:
            return None
        if not answered:
            holder.kill()
        error = said.read().decode()
    if holder.wait() == TAKEN:
        return read_owner(path)
    last = error.strip().splitlines()[-1:] or [f"no answer in {ANSWER_TIMEOUT} seconds"]
    raise OSError(f"the process that keeps the lock has failed: {last[0]}")


if __name__ == "__main__":
    hold(*sys.argv[1:])
