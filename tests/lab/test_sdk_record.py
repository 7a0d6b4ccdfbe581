# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the SDK's suite: it says what is not as it stands there, and only grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sdk import suite

IDS = ["a.py::one", "a.py::two", "b.py::three[x]", "b.py::four"]


@pytest.mark.parametrize(
    ("passed", "recorded", "patterns", "wrong"),
    [
        ({"a.py::one", "a.py::two"}, {"a.py::one", "a.py::two"}, {"b.py::*"}, []),
        ({"a.py::two"}, {"a.py::one", "a.py::two"}, {"b.py::*"}, ["a.py::one is recorded, and fails"]),
        ({"a.py::one", "a.py::two"}, {"a.py::one"}, {"b.py::*"}, ["a.py::two passes, and is not recorded"]),
        ({"a.py::one"}, {"a.py::one"}, {"b.py::*"}, ["a.py::two fails, and left_out.txt has no reason"]),
        (
            {"a.py::one", "b.py::four"},
            {"a.py::one"},
            {"a.py::two", "b.py::*"},
            ["b.py::four passes, and is not recorded"],
        ),
        (
            *({"a.py::one", "a.py::two"}, {"a.py::one", "a.py::two"}, {"a.py::t*", "b.py::*", "c.py::*"}),
            [
                "a.py::two is recorded, and left out by a.py::t*",
                "left_out.txt has c.py::*, which is in the suite no more",
            ],
        ),
        (
            *({"a.py::one"}, {"a.py::one", "gone.py::five"}, {"a.py::two", "b.py::*"}),
            ["gone.py::five is recorded, and not in the suite"],
        ),
    ],
)
def test_what_is_wrong(passed: set[str], recorded: set[str], patterns: set[str], wrong: list[str]) -> None:
    found = suite.compare(IDS, passed, recorded, dict.fromkeys(sorted(patterns), "no need"), {})
    assert [line.partition(":\n")[0].partition(": `")[0] for line in found] == wrong


def test_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passing, left_out = tmp_path / "passing.txt", tmp_path / "left_out.txt"
    monkeypatch.setattr(suite, "PASSING", passing)
    monkeypatch.setattr(suite, "LEFT_OUT", left_out)
    passing.write_text("a.py::one\n")
    left_out.write_text("# Not yet\na.py::*\n# No need\nb.py::*\n")
    suite.record(IDS, {"b.py::three[x]", "a.py::two"})  # one failed this time, and stays
    assert passing.read_text() == "a.py::one\na.py::two\nb.py::three[x]\n"
    assert left_out.read_text() == "# No need\nb.py::four\n"


def test_groups_run_in_the_suites_order() -> None:
    long = "test/integration/models/linode/test_linode.py::test_linode_rebuild"
    ids = ["a.py::one", long, "b.py::two", "b.py::three"]
    assert suite.groups(ids) == [[long], ["b.py::two", "b.py::three"], ["a.py::one"]]


def test_the_record_is_of_the_pinned_suite() -> None:
    recorded = (suite.PASSING.read_text().splitlines(), suite.lines(suite.PASSING))
    assert recorded[0] == sorted(recorded[1]) and len(recorded[1]) > 100
    assert all(suite.left_out().values())
