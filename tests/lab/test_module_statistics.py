# SPDX-License-Identifier: GPL-3.0-or-later
"""The module linode_statistics on the lab's account."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.c50k.stack.plugins.modules import linode_statistics
from ansible_collections.c50k.stack.plugins.modules.linode_statistics import POINTS, read_series, summary
from lab_server import Server
from modules import run

from lab.models import Instance, NodeBalancer


def sampled(values: list[float]) -> list[list[float]]:
    """A Linode's samples with these values for all that is counted."""
    return [[1000.0 * number, *[value] * 6] for number, value in enumerate(values)]


def test_what_the_fleet_used_and_what_is_too_young(api: Server, capsys: pytest.CaptureFixture[str]) -> None:
    old, _young, _other = (
        api.linode(label=label, tags=[tag, "app_server"])["id"]
        for label, tag in (("demo-2", "demo"), ("demo-1", "demo"), ("other-1", "other"))
    )
    instance = api.lab.store.get(Instance, old)
    assert instance
    instance.samples = sampled([10, 30, 20])
    front = api.post("/nodebalancers", label="demo", region="de-fra-2", tags=["demo", "front"])["id"]
    balancer = api.lab.store.get(NodeBalancer, front)
    assert balancer
    balancer.samples = [[1000, 2.0, 80.0, 2400.0]]
    found = run(linode_statistics, api, capsys, fleet_name="demo")
    young, used = found["instances"]
    assert young == {"label": "demo-1", "missing": "Stats are unavailable at this time.", "series": {}}
    assert (used["label"], used["missing"]) == ("demo-2", "")
    assert used["series"]["cpu_percent"] == {"mean": 20.0, "most": 30.0, "last": 20.0, "points": [10.0, 30.0, 20.0]}
    assert set(used["series"]) == set(linode_statistics.INSTANCE)
    assert found["front"]["series"]["connections_per_second"]["last"] == 2.0
    assert found["changed"] is False


def test_a_fleet_that_is_not_there_used_nothing(shared: Server, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(linode_statistics, shared, capsys, fleet_name="nobody")
    assert (found["instances"], found["front"]) == ([], {})


def test_a_wrong_token_is_a_failure(api: Server, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(linode_statistics, api, capsys, failing=True, fleet_name="demo", api_token="wrong")
    assert "refuses the token" in found["msg"]


def test_a_day_becomes_a_few_points() -> None:
    values = [float(number % 100) for number in range(288)]
    found = summary(values)
    assert len(found["points"]) == POINTS
    assert (found["points"][0], found["most"], found["last"]) == (5.0, 99.0, 87.0)
    assert summary([]) == {"mean": 0.0, "most": 0.0, "last": 0.0, "points": []}


@pytest.mark.parametrize("data", [{}, {"cpu": None}, {"netv4": []}, {"cpu": []}])
def test_what_an_answer_lacks_is_left_out(data: dict[str, Any]) -> None:
    assert read_series(data, linode_statistics.INSTANCE) == {}
