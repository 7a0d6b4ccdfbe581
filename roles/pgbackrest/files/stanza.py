# SPDX-License-Identifier: GPL-3.0-or-later
"""What pgBackRest is asked on a host, with answers that say what to do.

stanza.py try CONFIG STANZA                 whether the repository of a new configuration can be read with it
stanza.py info STANZA                       what the repository has of the stanza, as JSON
stanza.py wal STANZA                        the same, with the names of the WAL files in the last archive
stanza.py backup STANZA TYPE [DATA_BYTES]   a backup, full, diff or incr, as JSON, unless the repository's disk would
                                            fill; for the first one the bytes of data have to be known
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

REPOSITORY = "/var/lib/pgbackrest"
# Of the repository's disk, what stays free for WAL: one part in so many.
RESERVE = 20
# pgBackRest's status of a stanza: well, not there yet, without a backup yet.
READABLE = (0, 1, 2)

TAUGHT = {
    (
        "unable to load info file",
        "CryptoError",
    ): "It cannot be read with this pass phrase, as it was made with another: bring back the "
    "one in backup_passphrase of the fleet's .secrets folder. For a new repository, move the old one's content away.",
    (
        "HostConnectError",
        "ServiceError",
        "unable to connect",
        "timeout connecting",
    ): "It does not answer: see that the repository's host "
    "runs (systemctl status pgbackrest), and that the firewalls let its port through.",
    (
        "do not match",
        "does not match",
    ): "It holds backups of another cluster. To bring that one back, run restore.yml; to begin "
    "anew, move its content away.",
    (
        "unable to find primary",
    ): "No member of PostgreSQL is primary, or none answers: see that it runs, and pgbackrest on its host.",
    ("No space left on device",): "Its disk is full: make room there, or lower pgbackrest_retention_full.",
    (
        "HTTP request failed",
    ): "The object storage refuses: see that the bucket of postgres_backup_s3 exists, and that its keys may "
    "read and write there.",
    ("unable to acquire lock",): "Another backup is under way: wait for its end.",
}


def taught(said: str) -> str:
    """What pgBackRest *said*, and what to do about it."""
    advice = [text for words, text in TAUGHT.items() if any(word in said for word in words)]
    # it quotes what it could not decrypt
    quoted = "".join(character if character == "\n" or " " <= character <= "~" else "?" for character in said).strip()
    return f"pgBackRest on {socket.gethostname()} cannot use its repository. {' '.join(advice)} It says: {quoted}"


def pgbackrest(*words: str) -> str:
    """What pgBackRest prints, as the user postgres; ends the program with what it said when it fails."""
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    ended = subprocess.run([*user, "pgbackrest", *words], capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode != 0:
        # it prints errors where it prints everything
        raise SystemExit(taught(ended.stdout[-2000:] + ended.stderr[-2000:]))
    return ended.stdout


def read(stanza: str, *options: str) -> list[dict[str, Any]]:
    """What the repository has of the stanza."""
    said = pgbackrest(*options, f"--stanza={stanza}", "--output=json", "info")
    try:
        found: list[dict[str, Any]] = json.loads(said)
    except ValueError as error:
        # what it could not decrypt is in there as it is
        raise SystemExit(taught(said[-2000:])) from error
    for row in found:
        if row["status"]["code"] not in READABLE:
            raise SystemExit(taught(row["repo"][0]["status"]["message"] if row["repo"] else row["status"]["message"]))
    return found


def attempt(config: str, stanza: str) -> None:
    """Read the repository by a configuration that root alone can read."""
    with open(config, "rb") as given, tempfile.NamedTemporaryFile() as copy:
        copy.write(given.read())
        copy.flush()
        os.fchown(copy.fileno(), pwd.getpwnam("postgres").pw_uid, -1)
        read(stanza, f"--config={copy.name}")


def backups(stanza: str) -> list[dict[str, Any]]:
    """The backups of the stanza, the oldest first."""
    return [row for found in read(stanza) for row in found["backup"]]


def wal(stanza: str, row: Mapping[str, Any]) -> list[str]:
    """The names of the WAL files there are of the cluster as it is now."""
    if not row["archive"]:
        return []
    path = f"archive/{stanza}/{row['archive'][-1]['id']}"
    listed = pgbackrest("--recurse", "--filter=[0-9A-F]{24}-[0-9a-f]{40}", "repo-ls", path)
    return [line.rpartition("/")[2][:24] for line in listed.splitlines()]


def wanted(made: Sequence[Mapping[str, Any]], kind: str, data_bytes: int) -> int:
    """Bytes that a backup will take of the repository: a quarter more than the last of its kind did, or of a full one.

    Where there is none, all the data, though it will be compressed.
    """
    like = [row for row in made if row["type"] == kind] or [row for row in made if row["type"] == "full"]
    return int(like[-1]["info"]["repository"]["delta"]) * 5 // 4 if like else data_bytes


def room(free: int, size: int, bytes_wanted: int) -> str:
    """Why a backup of so many bytes does not fit on a disk; nothing where it does."""
    kept = size // RESERVE
    if free - kept >= bytes_wanted:
        return ""
    return (
        f"No backup is made: the repository, {REPOSITORY} on {socket.gethostname()}, has {free} bytes free of {size}, "
        f"the backup wants about {bytes_wanted}, and {kept} stay free for WAL. Give the host a larger disk, or lower "
        "pgbackrest_retention_full and run pgbackrest expire there."
    )


def backup(stanza: str, kind: str, data_bytes: int) -> None:
    if os.path.isdir(f"{REPOSITORY}/archive"):
        disk = os.statvfs(REPOSITORY)
        free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        problem = room(free, size, wanted(backups(stanza), kind, data_bytes))
        if problem:
            raise SystemExit(problem)
    pgbackrest(f"--stanza={stanza}", f"--type={kind}", "backup")
    made = backups(stanza)[-1]
    print(
        json.dumps(
            {
                "label": made["label"],
                "type": made["type"],
                "data_bytes": made["info"]["size"],
                "stored_bytes": made["info"]["repository"]["delta"],
                "seconds": made["timestamp"]["stop"] - made["timestamp"]["start"],
            }
        )
    )


def main(command: str, *words: str) -> None:
    if command == "try":
        attempt(*words)
    elif command == "wal":
        print(json.dumps([{**row, "wal": wal(words[0], row)} for row in read(words[0])]))
    elif command == "info":
        print(json.dumps(read(words[0])))
    else:
        backup(words[0], words[1], int(words[2]) if len(words) > 2 else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
