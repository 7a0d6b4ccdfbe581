# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lock that lasts as long as a process, and is kept for it by another one.

``acquire`` starts this file as a program, the holder. It keeps the lock until the process it is for has ended, however
that ends. The locked file says in JSON whose it is, and goes with the lock.

A file on one control node keeps out the runs of that node alone. So the holder locks a second file, on the first host
of the fleet that lets it in, over an SSH connection that lasts as long as the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ANSWER_TIMEOUT = 10
HELD = b"held\n"
TAKEN = 3

REMOTE_PATH = "/run/lock/c50k-fleet"
SSH_TIMEOUT = 10
# The host frees its lock after so many seconds without a sign of life, each of which costs one line.
SILENCE = 30
SIGN_OF_LIFE = 10
REMOTE = f"""
exec 9<>"$1" || exit 1
flock -n 9 || {{ cat "$1"; exit {TAKEN}; }}
printf %s "$2" >"$1"
echo held
while read -r -t {SILENCE} _; do :; done
: >"$1"
"""


class Taken(Exception):
    """A host keeps the lock for another run; ``owner`` is that run's, in JSON."""

    def __init__(self, owner: bytes) -> None:
        super().__init__()
        self.owner = owner


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


def has_ended(pid: int, seconds: float) -> bool:
    """Whether the process *pid* ends within so many seconds."""
    try:
        return bool(select.select([os.pidfd_open(pid)], [], [], seconds)[0])
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):  # macOS, or a kernel without it
        pass
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(1)
    return False


def lock_on_host(login: Sequence[str], owner: str) -> subprocess.Popen[bytes] | None:
    """Lock the file of the fleet on a host, until the process that is returned ends; None when it cannot be reached.

    *login* are the words of a command that runs another one there. Raises Taken when it is locked already.
    """
    command = f"exec bash -c {shlex.quote(REMOTE)} lock {REMOTE_PATH} {shlex.quote(owner)}"
    remote = subprocess.Popen(
        [*login, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    answers = remote.stdout
    answered = answers and select.select([answers], [], [], SSH_TIMEOUT)[0]
    said = answers.readline() if answers and answered else b""
    if said == HELD:
        return remote
    if not answered:
        remote.kill()
    if remote.wait() == TAKEN:
        raise Taken(said)
    return None


def hold(path: str, owner: str, *logins: str) -> None:
    """The holder: lock *path*, and a host's file, say so, and keep both until the process of *owner* has ended.

    *logins* are JSON lists, see :func:`lock_on_host`; the first that works is enough.
    """
    descriptor = lock_file(path)
    if descriptor is None:
        sys.exit(TAKEN)
    os.truncate(descriptor, 0)
    os.write(descriptor, owner.encode())
    try:
        locked = (lock_on_host(json.loads(login), owner) for login in logins)
        remote = next(filter(None, locked), None)
    except Taken as taken:
        os.unlink(path)
        os.write(sys.stdout.fileno(), taken.owner)
        sys.exit(TAKEN)
    os.write(sys.stdout.fileno(), HELD)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    while not has_ended(json.loads(owner)["pid"], SIGN_OF_LIFE):
        try:
            os.write(remote.stdin.fileno(), b"\n") if remote and remote.stdin else None
        except BrokenPipeError:  # the host is gone; what is locked here stays locked
            remote = None
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


def acquire(path: Path, owner: dict[str, Any], logins: Sequence[Sequence[str]] = ()) -> dict[str, Any] | None:
    """Lock the file at *path*, and one on a host, until the process ``owner["pid"]`` has ended.

    None when that is done; the other owner when it is locked already. OSError when there can be no such file or holder.
    *logins* are commands that run another one on a host of the fleet; the first that can be reached keeps the lock.
    """
    path = path.absolute()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    answers, answer = os.pipe()
    holder = subprocess.Popen(
        [sys.executable, "-I", __file__, str(path), json.dumps(owner), *map(json.dumps, logins)],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=answer,
        stderr=answer,
        start_new_session=True,  # a Ctrl-C is for the run alone
    )
    os.close(answer)
    with open(answers, "rb") as said:
        answered = select.select([said], [], [], ANSWER_TIMEOUT + SSH_TIMEOUT * len(logins))[0]
        first = said.readline() if answered else b""
        if first == HELD:
            return None
        if not answered:
            holder.kill()
        error = (first + said.read()).decode()
    if holder.wait() == TAKEN:
        return dict(json.loads(error)) if error else read_owner(path)
    last = error.strip().splitlines()[-1:] or [f"no answer in {ANSWER_TIMEOUT} seconds"]
    raise OSError(f"the process that keeps the lock has failed: {last[0]}")


if __name__ == "__main__":
    hold(*sys.argv[1:])
