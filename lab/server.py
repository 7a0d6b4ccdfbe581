# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's process: one port of the loopback, one token, one state."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from pathlib import Path

import uvicorn

from lab.api import Lab, create_app
from lab.balancers import Balancers, HaproxyBalancers, NoBalancers
from lab.hosts import Hosts, NoHosts, PodmanHosts
from lab.metadata import Metadata
from lab.settings import Settings
from lab.store import Store

GRACE = 20  # seconds that requests under way have when the process is asked to end


class PortTaken(Exception):
    """Another program has the port."""


def hosts_of(settings: Settings) -> Hosts:
    """Return the driver of the hosts that the settings ask for."""
    return PodmanHosts(settings.state) if settings.hosts else NoHosts()


def balancers_of(settings: Settings, hosts: Hosts) -> Balancers:
    """Return what is behind the NodeBalancers: with hosts, an HAProxy each on their network."""
    return HaproxyBalancers(settings.state, hosts.network) if isinstance(hosts, PodmanHosts) else NoBalancers()


async def serve(settings: Settings) -> None:
    """Serve until told to stop. Raises PortTaken, StateError, or what preparing the machine raises."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with bound(settings) as listener:
        settings.pid_file.write_text(f"{os.getpid()} {start_time(os.getpid())}\n")
        try:
            store = Store(settings.database, settings.hosts)
            hosts, metadata = hosts_of(settings), Metadata(store, settings.limits)
            await hosts.prepare(metadata)
            app = create_app(Lab(settings, store, hosts, token(settings.token_file), balancers_of(settings, hosts)))
            config = uvicorn.Config(app, lifespan="on", log_config=None, timeout_graceful_shutdown=GRACE)
            for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn, done, sends itself the one that ended it
                signal.signal(number, signal.SIG_IGN)
            await uvicorn.Server(config).serve([listener])
            await metadata.end(*metadata.served)
            store.close()
        finally:
            settings.pid_file.unlink(missing_ok=True)


def bound(settings: Settings) -> socket.socket:
    """Return a socket bound to the lab's port. Raises PortTaken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited; without it each reply waits 40 ms
    try:
        listener.bind(("127.0.0.1", settings.port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"127.0.0.1:{settings.port} is taken by another program (`ss -ltnp sport = :{settings.port}` names it). "
            "Stop that, or set C50K_LAB_PORT to another port."
        ) from error
    return listener


def token(path: Path) -> str:
    """Return the account's token; the first time, make it."""
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return path.read_text().strip()


def start_time(pid: int) -> str | None:
    """Return when a process that lives started, in the kernel's ticks; with the pid it names one process for ever."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
