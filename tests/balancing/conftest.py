# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab whose NodeBalancers are real, and whose Linodes are bare network namespaces with a small server in each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from balancing import Rig

from lab.settings import Settings


def pytest_sessionstart() -> None:
    """Refuse to touch the machine's own network, which has routes."""
    if len(Path("/proc/self/net/route").read_text().splitlines()) > 1:
        pytest.exit("These tests make a lab's network: run them as `tests/isolated pytest tests/balancing`.", 2)


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    settings = Settings(state=tmp_path_factory.mktemp("lab"), limits={}, watchdog_interval=0.5, statistics_interval=1.0)
    rig = Rig(settings)
    yield rig
    rig.api.stop()
    asyncio.run(rig.hosts.cleanup())
