# SPDX-License-Identifier: GPL-3.0-or-later
"""Start, stop and look at the API's process from outside."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from lab.server import bound, hosts_of, start_time
from lab.settings import Settings
from lab.store import made_with_hosts

START_TIMEOUT = 90.0  # seconds; the network is made in them
STOP_TIMEOUT = 60.0
REPLY_TIMEOUT = 120.0  # a reset deletes every host in it
STATE_FILES = ("token", "state.sqlite*", "api.pid", "api.log", "upstream.sock", "containers.conf", "nb-*")


class DaemonError(Exception):
    """The API's process did not do what was asked; the text says what to do."""


def start(settings: Settings) -> bool:
    """Start the API in the background and wait until it answers; False if it ran already. Raises DaemonError."""
    already = process(settings) is not None
    child = None
    if not already:
        bound(settings).close()
        child = _spawn(settings)
    deadline = time.monotonic() + START_TIMEOUT
    while not _answers(settings):
        if child and child.poll() is not None:
            raise DaemonError(f"The lab did not start:\n{_last_words(settings)}")
        if time.monotonic() > deadline:
            waited = f"after {START_TIMEOUT:.0f} s"
            raise DaemonError(f"The lab does not answer at {settings.address} {waited}:\n{_last_words(settings)}")
        time.sleep(0.1)
    return not already


def end(settings: Settings) -> bool:
    """End the API's process, leaving hosts and state; False if it did not run."""
    pid = process(settings)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while process(settings) == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    return True


def remove(settings: Settings) -> None:
    """Remove every host, the lab's network, and the state."""
    if made_with_hosts(settings.database) is not False and shutil.which("podman"):
        asyncio.run(hosts_of(settings).cleanup())
    for pattern in STATE_FILES:
        for path in settings.state.glob(pattern):
            path.unlink()
    if settings.state.is_dir() and not any(settings.state.iterdir()):
        settings.state.rmdir()


def process(settings: Settings) -> int | None:
    """Return the pid of the API's process, if the process that wrote it lives."""
    try:
        pid, started = settings.pid_file.read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if start_time(int(pid)) == started else None


def call(settings: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask the running lab's own controls, under /lab. Raises DaemonError."""
    headers = {"Authorization": f"Bearer {settings.token_file.read_text().strip()}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{settings.address}/lab{path}", data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=REPLY_TIMEOUT) as reply:
            result: dict[str, Any] = json.load(reply)
            return result
    except urllib.error.HTTPError as error:
        raise DaemonError("; ".join(item["reason"] for item in json.load(error)["errors"])) from error
    except OSError as error:
        raise DaemonError(f"The lab does not answer at {settings.address}: {error}") from error


def _answers(settings: Settings) -> bool:
    try:
        return "data" in call(settings, "GET", "/faults")
    except (DaemonError, OSError):
        return False


def _spawn(settings: Settings) -> subprocess.Popen[bytes]:
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "lab", "start", "--foreground", *([] if settings.hosts else ["--no-hosts"])]
    with settings.log_file.open("ab") as log:
        return subprocess.Popen(
            argv,
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "C50K_LAB_STATE": str(settings.state.absolute())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _last_words(settings: Settings) -> str:
    return "\n".join(settings.log_file.read_text(errors="replace").splitlines()[-10:])
