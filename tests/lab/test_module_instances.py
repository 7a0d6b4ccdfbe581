# SPDX-License-Identifier: GPL-3.0-or-later
"""The module linode_instances on the lab's account, where an instance can be shut down."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.c50k.stack.plugins.module_utils import linode
from ansible_collections.c50k.stack.plugins.modules import linode_instances
from lab_server import Server
from modules import run


def test_what_is_to_be_stopped_is_off_when_it_returns(
    api: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linode, "BACKOFF", 0.01)
    monkeypatch.setattr(linode_instances, "POLL_INTERVAL", 0.05)
    number = api.linode(label="demo-postgres-1", tags=["demo", "postgres"])["id"]  # still booting, which is busy
    other = api.linode(label="demo-postgres-2", tags=["demo", "postgres"])["id"]

    def stop(label: str, **options: Any) -> dict[str, Any]:
        wish = [{"label": label, "tags": ["demo", "postgres"]}]
        return run(linode_instances, api, capsys, instances=wish, state="stopped", **options)

    api.settled(other, "running")
    assert stop("demo-postgres-1", _ansible_check_mode=True)["stopped"] == ["demo-postgres-1"]
    api.settled(number, "running")
    assert stop("demo-postgres-1")["stopped"] == ["demo-postgres-1"]
    api.settled(number, "offline")
    api.settled(other, "running")
    assert not stop("demo-postgres-1")["changed"]
    assert not stop("demo-postgres-9")["changed"], "what is not there is off"


def test_a_strangers_instance_runs_on(api: Server, capsys: pytest.CaptureFixture[str]) -> None:
    number = api.linode(label="demo-postgres-1", tags=["another"])["id"]
    wish = [{"label": "demo-postgres-1", "tags": ["demo", "postgres"]}]
    assert "Nothing was changed" in run(linode_instances, api, capsys, True, instances=wish, state="stopped")["msg"]
    api.settled(number, "running")
