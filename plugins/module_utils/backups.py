# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in a repository of pgBackRest, and which of it to restore. Pure.

*info* is what ``pgbackrest --stanza=NAME --output=json info`` prints: a list with one stanza.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

SEGMENT = 16 * 1024**2  # bytes of a WAL file
SEGMENTS = 256  # WAL files of one log, the middle part of their names
WAL = re.compile("[0-9A-F]{24}")
# Of the disk, that WAL may take which the repository has not got.
QUEUE_SHARE = 4


class BackupError(ValueError):
    """There is no such backup. The text says what there is, and what to do."""


def archive_queue_bytes(disk_bytes: int) -> int:
    """Bytes of WAL that may wait for the repository on a disk of so many: a quarter, four files at least."""
    return max(4 * SEGMENT, disk_bytes // QUEUE_SHARE // SEGMENT * SEGMENT)


def backups(info: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The usable backups, the oldest first: ``label``, ``stop``, a time, ``bytes`` of data, ``wal``, the last file."""
    found = [
        {
            "label": row["label"],
            "stop": datetime.fromtimestamp(row["timestamp"]["stop"], UTC),
            "bytes": row["info"]["size"],
            "wal": row["archive"]["stop"],
        }
        for stanza in info
        for row in stanza["backup"]
        if not row.get("error")
    ]
    return sorted(found, key=lambda backup: backup["stop"])


def backup_choice(info: Sequence[Mapping[str, Any]], target: str = "latest") -> dict[str, Any]:
    """The backup to begin with for *target*, ``latest`` or a time (of UTC, where it says no other zone).

    :returns: ``label``, ``bytes`` of data, and ``settings``, those of PostgreSQL that end its recovery.
    :raises BackupError: no time, or one that no backup reaches.
    """
    known = backups(info)
    if not known:
        raise BackupError("The repository has no backup to restore. Is it the right one? See postgres_backup.")
    if target == "latest":
        return {"label": known[-1]["label"], "bytes": known[-1]["bytes"], "settings": []}
    try:
        moment = datetime.fromisoformat(target)
    except ValueError as error:
        raise BackupError(
            f"target is {target!r}: it must be latest or a time, such as 2026-01-31 14:30:00+00."
        ) from error
    moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    if moment > datetime.now(UTC):
        raise BackupError(f"target is {target}, which is still to come: for all there is, say latest.")
    before = [backup for backup in known if backup["stop"] <= moment]
    if not before:
        raise BackupError(
            f"target is {target}, and the oldest backup there is ended at {text(known[0]['stop'])}: "
            "what was before that is gone. Give a later time."
        )
    settings = [f"recovery_target_time={moment.isoformat(sep=' ')}"]
    return {"label": before[-1]["label"], "bytes": before[-1]["bytes"], "settings": settings}


def missing_wal(have: Collection[str], start: str, end: str) -> list[str]:
    """WAL files from *start* to *end* that *have* lacks; where the timeline is another, from the first that it has."""
    timeline = end[:8]
    if not start.startswith(timeline):
        start = min((name for name in have if name.startswith(timeline)), default=end)
    numbers = range(number_of(start), number_of(end) + 1)
    names = (f"{timeline}{number // SEGMENTS:08X}{number % SEGMENTS:08X}" for number in numbers)
    return [name for name in names if name not in have]


def number_of(wal: str) -> int:
    return int(wal[8:16], 16) * SEGMENTS + int(wal[16:24], 16)


def backup_problems(
    info: Sequence[Mapping[str, Any]], archiver: Mapping[str, Any], max_age_hours: float, now: datetime | None = None
) -> list[str]:
    """What is wrong with the backups, a sentence each.

    :param info: with ``wal`` in each stanza, the names of the WAL files there are.
    :param archiver: of ``pg_stat_archiver`` on the primary ``last_archived_wal`` and, in ISO or none,
        ``last_archived_time`` and ``last_failed_time``.
    """
    now = now or datetime.now(UTC)
    found = []
    known = backups(info)
    if not known:
        found.append("There is no backup: run backup.yml.")
    elif (hours := (now - known[-1]["stop"]).total_seconds() / 3600) > max_age_hours:
        found.append(
            f"The last backup, {known[-1]['label']}, is {hours:.0f} hours old, more than {max_age_hours:g}: see "
            "systemctl status 'pgbackrest-backup@*', and run backup.yml."
        )
    last = str(archiver.get("last_archived_wal") or "")
    if known and WAL.fullmatch(last):
        wal = {name for stanza in info for name in stanza["wal"]}
        if missing := missing_wal(wal, known[-1]["wal"], last):
            found.append(
                f"{len(missing)} files of WAL, from {missing[0]} to {missing[-1]}, are not in the repository: they "
                "were dropped while it was away or full (see pgbackrest_queue_bytes). What was written since cannot be "
                "restored, until there is another backup: run backup.yml."
            )
    archived, failed = (
        datetime.fromisoformat(archiver[key]) if archiver.get(key) else datetime.min.replace(tzinfo=UTC)
        for key in ("last_archived_time", "last_failed_time")
    )
    if failed > archived:
        found.append(
            f"The repository gets no WAL since {text(failed)}, so that what was written since cannot be restored: see "
            "what archive-push says in PostgreSQL's log (journalctl -u 'postgresql@*')."
        )
    return found


def drill_report(mark: Mapping[str, Any], restored: Mapping[str, Any], backup: Mapping[str, Any]) -> dict[str, Any]:
    """What a drill found.

    :param mark: of the primary: ``at``, when the mark was set, ``archived_at``, when the repository had it (Unix time),
        and ``tables``, for each its ``rows`` and ``checksum``.
    :param restored: of the scratch host: ``tables``, the same there, ``restore_seconds``, ``recovery_seconds`` and
        ``last_commit``.
    :returns: ``rpo_seconds``, for how long the mark was on the primary alone; ``rto_seconds``, until the scratch host
        took queries; and ``differences``, a sentence for each table that is not the same.
    """
    here, there = mark["tables"], restored["tables"]
    differences = [
        f"{table}: {described(here.get(table))} on the primary, {described(there.get(table))} restored"
        for table in sorted(here.keys() | there.keys())
        if here.get(table) != there.get(table)
    ]
    return {
        "at": datetime.fromtimestamp(mark["at"], UTC).isoformat(timespec="seconds"),
        "backup": backup["label"],
        "rpo_seconds": round(mark["archived_at"] - mark["at"], 1),
        "rto_seconds": round(restored["restore_seconds"] + restored["recovery_seconds"], 1),
        "restore_seconds": round(restored["restore_seconds"], 1),
        "recovery_seconds": round(restored["recovery_seconds"], 1),
        "last_commit": restored["last_commit"],
        "tables": len(here),
        "rows": sum(table["rows"] for table in here.values()),
        "differences": differences,
    }


def described(table: Mapping[str, Any] | None) -> str:
    return f"{table['rows']} rows with checksum {table['checksum']}" if table else "no such table"


def text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
