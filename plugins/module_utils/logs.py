# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hosts have logged, as people read it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any


def log_lines(outputs: Iterable[str], most: int) -> list[str]:
    """The last entries by time, ``TIME HOST PROGRAM: MESSAGE`` each, of which the further lines are indented.

    An entry that was sent twice is told once.

    :param outputs: what ``journalctl --output=json`` printed, on one host or several.
    :param most: how many entries are told at most.
    """
    entries = {_text(entry): int(entry["__REALTIME_TIMESTAMP"]) for output in outputs for entry in _entries(output)}
    return sorted(entries, key=lambda text: (entries[text], text))[-most:]


def _entries(output: str) -> Iterable[dict[str, Any]]:
    return (json.loads(line) for line in output.splitlines() if line)


def _text(entry: dict[str, Any]) -> str:
    time = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
    program = entry.get("SYSLOG_IDENTIFIER") or entry.get("_SYSTEMD_UNIT") or "?"
    message = _message(entry.get("MESSAGE")).replace("\n", "\n    ")
    return f"{time:%Y-%m-%d %H:%M:%S.%f}Z {entry.get('_HOSTNAME', '?')} {program}: {message}"


def _message(value: Any) -> str:
    """What is not UTF-8, journalctl gives as a list of bytes; what comes several times, as a list of those."""
    if isinstance(value, list):
        if all(isinstance(part, int) for part in value):
            return bytes(value).decode(errors="replace")
        return "\n".join(_message(part) for part in value)
    return "" if value is None else str(value)
