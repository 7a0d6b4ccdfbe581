# SPDX-License-Identifier: GPL-3.0-or-later
"""A server for each test, or one for a module whose tests change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_server import Rig, Server

from lab.balancers import Balancers
from lab.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path, hosts=False, watchdog_interval=0.02)


@pytest.fixture
def serve(settings: Settings) -> Iterator[Callable[..., Server]]:
    """Start servers; whatever still runs at the end is stopped."""
    servers: list[Server] = []

    def start(
        with_settings: Settings = settings, hosts: Rig | None = None, balancers: Balancers | None = None
    ) -> Server:
        servers.append(Server(with_settings, hosts, balancers))
        return servers[-1]

    yield start
    for server in servers:
        if server._thread.is_alive():
            server.hosts.held.clear()
            server.stop()


@pytest.fixture
def api(serve: Callable[..., Server]) -> Server:
    return serve()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(Settings(state=tmp_path_factory.mktemp("state"), hosts=False, limits={}))
    yield server
    server.stop()
