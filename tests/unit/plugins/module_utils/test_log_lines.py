# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of several hosts as one text."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.c50k.stack.plugins.filter.logs import FilterModule

log_lines = FilterModule().filters()["log_lines"]


def output(*entries: tuple[int, Any]) -> str:
    """What journalctl prints of a host, for times in seconds and messages."""
    known = {"_HOSTNAME": "demo-redis-1", "SYSLOG_IDENTIFIER": "redis", "_SYSTEMD_UNIT": "redis-server.service"}
    return "".join(
        json.dumps({**known, "__REALTIME_TIMESTAMP": str(int(time * 1e6)), "MESSAGE": message}) + "\n"
        for time, message in entries
    )


def test_an_entry_is_a_line() -> None:
    assert log_lines([output((1.5, '{"a": 1}'))], 10) == ['1970-01-01 00:00:01.500000Z demo-redis-1 redis: {"a": 1}']


def test_hosts_are_merged_by_time_and_the_last_entries_stay() -> None:
    outputs = [output((4, "d"), (2, "b")), "", output((3, "c"), (1, "a"))]
    assert [line[-1] for line in log_lines(outputs, 3)] == ["b", "c", "d"]


def test_what_was_sent_twice_is_told_once() -> None:
    assert len(log_lines([output((1, "a"), (1, "a"), (1, "b"))], 10)) == 2


def test_further_lines_are_indented_and_bytes_are_read() -> None:
    (first, second) = log_lines([output((1, "a\nb"), (2, [104, 195, 105]))], 10)
    assert first.endswith("redis: a\n    b") and second.endswith("redis: h�i")
    assert log_lines([output((1, None), (2, ["a", "b"]))], 10)[1].endswith("redis: a\n    b")


def test_who_has_no_name_is_called_by_his_unit() -> None:
    entry = {"__REALTIME_TIMESTAMP": "0", "_SYSTEMD_UNIT": "app.service", "MESSAGE": "x"}
    assert log_lines([json.dumps(entry)], 1) == ["1970-01-01 00:00:00.000000Z ? app.service: x"]
