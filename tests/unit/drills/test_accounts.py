# SPDX-License-Identifier: GPL-3.0-or-later
"""What the drills conclude from what they saw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "drills"))
from primaries import Sample, two_at_once
from writes import Write, accounts


def writes(*outcomes: tuple[str, float, str]) -> list[Write]:
    return [Write(name, ended - 0.1, ended, outcome) for name, ended, outcome in outcomes]


def test_every_write_is_accounted_for() -> None:
    done = writes(
        ("a", 1, "ok"), ("b", 2, "ok"), ("c", 3, "unknown"), ("d", 4, "unknown"), ("e", 5, "failed"), ("f", 25, "ok")
    )
    report = accounts(done, ["a", "b", "c", "f", "another's"])
    assert report.outcomes == {"ok": 3, "unknown": 2, "failed": 1}
    assert (report.lost, report.doubled, report.refused_and_there, report.unknown_and_there) == ([], [], [], 1)
    assert (report.gap, report.gap_began) == (23, 2)


@pytest.mark.parametrize(
    "there", [["b"], ["a", "a", "b"], ["a", "b", "c"]], ids=["lost", "doubled", "refused, and there"]
)
def test_what_may_not_be_fails_the_check(there: list[str]) -> None:
    done = writes(("a", 1, "ok"), ("b", 2, "ok"), ("c", 3, "failed"))
    many = writes(*((f"many-{number}", 10, "ok") for number in range(200)))
    accounts([*done, *many], ["a", "b", *(write.name for write in many)]).check()
    with pytest.raises(AssertionError):
        accounts([*done, *many], [*there, *(write.name for write in many)]).check()


def test_one_after_the_other_is_not_two_at_once() -> None:
    moved = [Sample(at / 5, "a") for at in range(50)] + [Sample(at / 5, "b") for at in range(50, 100)]
    back = [Sample(at / 5, "a") for at in range(100, 150)]
    assert two_at_once([*moved, *back]) == []
    both = [*moved, Sample(10.4, "a"), Sample(10.7, "a")]
    assert {(sample.host, other) for sample, other in two_at_once(both)} == {("b", "a"), ("a", "b")}
