# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup is restored, what is wrong with backups, and what a drill found."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.filter.backups import FilterModule
from ansible_collections.c50k.stack.plugins.module_utils.backups import missing_wal

FILTERS = FilterModule().filters()
GIB = 1024**3


def stop(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def row(label: str, ended: str, kind: str = "full", **more: Any) -> dict[str, Any]:
    return {
        "label": label,
        "type": kind,
        "archive": {"start": "000000010000000000000005", "stop": "0000000100000000000000FE"},
        "timestamp": {"start": stop(ended) - 5, "stop": stop(ended)},
        "info": {"size": 5000, "delta": 4000, "repository": {"delta": 900, "size": 1000}},
        **more,
    }


INFO = [
    {
        "backup": [
            row("20260104-020000F", "2026-01-04 02:10:00"),
            row("20260104-020000F_20260105-020000D", "2026-01-05 02:01:00", "diff"),
            row("20260106-020000F", "2026-01-06 02:01:00", error=True),
        ],
        "wal": ["0000000100000000000000FE", "0000000100000000000000FF", "000000010000000100000000"],
    }
]


@pytest.mark.parametrize(
    ("disk", "queue"),
    [(80 * GIB, 20 * GIB), (25 * GIB + 5, 25 * GIB // 4), (1024**2, 64 * 1024**2)],
    ids=["80", "25", "tiny"],
)
def test_wal_that_waits_takes_a_quarter_of_the_disk(disk: int, queue: int) -> None:
    assert FILTERS["archive_queue_bytes"](disk) == queue


def test_the_latest_is_the_last_backup_without_an_error_and_all_wal() -> None:
    assert FILTERS["backup_choice"](INFO) == {
        "label": "20260104-020000F_20260105-020000D",
        "bytes": 5000,
        "settings": [],
    }


@pytest.mark.parametrize(
    ("target", "label", "until"),
    [
        ("2026-01-05 02:00:59+00", "20260104-020000F", "2026-01-05 02:00:59+00:00"),
        ("2026-01-05 02:01:00", "20260104-020000F_20260105-020000D", "2026-01-05 02:01:00+00:00"),
        ("2026-01-04T23:30:00-05:00", "20260104-020000F_20260105-020000D", "2026-01-05 04:30:00+00:00"),
    ],
)
def test_a_time_takes_the_last_backup_that_ended_before_it(target: str, label: str, until: str) -> None:
    choice = FILTERS["backup_choice"](INFO, target)
    assert (choice["label"], choice["settings"]) == (label, [f"recovery_target_time={until}"])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("2026-01-04 02:09:59+00", "the oldest backup there is ended at 2026-01-04 02:10:00+00:00"),
        ("yesterday", "target is 'yesterday': it must be latest or a time"),
        ("2999-01-01", "which is still to come"),
    ],
)
def test_a_time_that_cannot_be_is_refused(target: str, words: str) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        FILTERS["backup_choice"](INFO, target)
    assert words in str(refused.value)


def test_an_empty_repository_has_nothing_to_restore() -> None:
    with pytest.raises(AnsibleFilterError, match="no backup to restore"):
        FILTERS["backup_choice"]([{"backup": []}])


@pytest.mark.parametrize(
    ("info", "archiver", "now", "said"),
    [
        (INFO, {"last_archived_time": "2026-01-05T03:00:00+00:00", "last_failed_time": None}, "2026-01-05 05:00", []),
        (
            INFO,
            {"last_archived_time": "2026-01-05T03:00:00+00:00"},
            "2026-01-06 05:00",
            ["is 27 hours old, more than 26"],
        ),
        (
            INFO,
            {"last_archived_time": "2026-01-05T03:00:00+00:00", "last_failed_time": "2026-01-05T03:00:01+00:00"},
            "2026-01-05 05:00",
            ["gets no WAL since 2026-01-05 03:00:01+00:00"],
        ),
        (INFO, {"last_archived_wal": "000000010000000100000000"}, "2026-01-05 05:00", []),
        (INFO, {"last_archived_wal": "00000002.history"}, "2026-01-05 05:00", []),
        (
            INFO,
            {"last_archived_wal": "000000010000000100000002"},
            "2026-01-05 05:00",
            ["2 files of WAL, from 000000010000000100000001 to 000000010000000100000002, are not in the repository"],
        ),
        ([{"backup": [], "wal": []}], {}, "2026-01-05 05:00", ["There is no backup: run backup.yml."]),
    ],
    ids=["well", "old", "no WAL", "all WAL", "a timeline", "dropped", "none"],
)
def test_what_is_wrong_is_said(info: Any, archiver: Any, now: str, said: list[str]) -> None:
    problems = FILTERS["backup_problems"](info, archiver, 26, datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert len(problems) == len(said)
    assert all(words in problem for words, problem in zip(said, problems, strict=True))


ONE, TWO = "00000001" + "0" * 15, "00000002" + "0" * 15


@pytest.mark.parametrize(
    ("have", "start", "end", "missing"),
    [
        ({f"{ONE}7"}, f"{ONE}7", f"{ONE}7", []),
        (set(), f"{ONE}7", f"{ONE}7", [f"{ONE}7"]),
        ({f"{TWO}8", f"{TWO}A"}, f"{ONE}7", f"{TWO}A", [f"{TWO}9"]),
    ],
    ids=["there", "not there", "a gap on a new timeline"],
)
def test_wal_that_is_missing(have: set[str], start: str, end: str, missing: list[str]) -> None:
    assert missing_wal(have, start, end) == missing


def test_a_drill_says_what_would_be_lost_how_long_it_took_and_what_differs() -> None:
    one, other = {"rows": 3, "checksum": "17"}, {"rows": 2, "checksum": "9"}
    mark = {"at": 1000.0, "archived_at": 1063.04, "tables": {"app.a": one, "app.b": one, "app.c": one}}
    restored = {
        "restore_seconds": 20.02,
        "recovery_seconds": 10.0,
        "last_commit": "1970-01-01T00:16:39+00:00",
        "tables": {"app.a": one, "app.b": other, "app.d": one},
    }
    report = FILTERS["drill_report"](mark, restored, {"label": "20260104-020000F"})
    assert (report["rpo_seconds"], report["rto_seconds"], report["tables"], report["rows"]) == (63.0, 30.0, 3, 9)
    assert report["differences"] == [
        "app.b: 3 rows with checksum 17 on the primary, 2 rows with checksum 9 restored",
        "app.c: 3 rows with checksum 17 on the primary, no such table restored",
        "app.d: no such table on the primary, 3 rows with checksum 17 restored",
    ]
