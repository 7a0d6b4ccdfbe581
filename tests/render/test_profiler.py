"""The profiler's rules, and the words that start it."""

from __future__ import annotations

import pytest
from render import default_differences, problems, value


def test_defaults_and_specification_agree() -> None:
    assert default_differences("profiler") == set()


@pytest.mark.parametrize("given", [{}, {"profiler_worker": "4", "profiler_seconds": "600"}])
def test_good_input_passes(given: dict) -> None:
    assert problems("profiler", **given) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"profiler_worker": "all"}, "(worker) is 'all'"),
        ({"profiler_worker": -1}, "(worker) is '-1'"),
        ({"profiler_seconds": 0}, "(seconds) is '0'"),
        ({"profiler_seconds": "601"}, "(seconds) is '601'"),
        ({"profiler_seconds": "30s"}, "(seconds) is '30s'"),
    ],
)
def test_bad_input_is_named(given: dict, said: str) -> None:
    (message,) = problems("profiler", **given)
    assert said in message


@pytest.mark.parametrize("nonblocking", [False, True, "false"])
def test_it_ends_in_time_and_pauses_the_worker_only_if_it_may(nonblocking: bool | str) -> None:
    given = {"profiler_seconds": "20", "profiler_nonblocking": nonblocking, "__profiler_worker": {"pid": 4711}}
    words = value("profiler", "__profiler_record", **given)
    assert {"--property=RuntimeMaxSec=50", "--pid=4711", "--duration=20", "--rate=100"} <= set(words)
    assert ("--nonblocking" in words) is (nonblocking is True)
