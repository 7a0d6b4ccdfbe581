# SPDX-License-Identifier: GPL-3.0-or-later
"""Count the rows of every table, and sum them up, to tell whether two clusters hold the same.

tables.py count SOCKETS PORT        as they are now
tables.py mark SOCKETS PORT NAME    as they are at a restore point called NAME, which is set here; waits until the
                                    repository has it. Writers wait while it is set, not while rows are counted.

Prints JSON: tables, {DATABASE.SCHEMA.TABLE: {rows, checksum}}; with mark also at and archived_at, in Unix time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

PSQL = "runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 -v VERBOSITY=terse"
# A row's text has to be the same wherever it is asked for.
ALIKE = """SET timezone = UTC; SET datestyle = ISO; SET intervalstyle = postgres; SET bytea_output = hex;
  SET extra_float_digits = 1"""
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"
TABLES = """SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relpersistence = 'p'
  AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema') ORDER BY oid"""
ROWS = "SELECT count(*), coalesce(sum(hashtextextended(r::text, 0)::numeric), 0) FROM ONLY {} AS r"
LOCK_ATTEMPTS = 5
PATIENCE = 90  # seconds that the repository may take, after archive_timeout
END = "-- end --"


class Session:
    """A connection to one database, which keeps its transaction."""

    def __init__(self, sockets: str, port: str, database: str) -> None:
        words = [*PSQL.split(), "-h", sockets, "-p", port, "-d", database]
        pipe = subprocess.PIPE
        self.psql: Any = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd="/")
        self.ask(f"SET search_path = ''; {ALIKE}")

    def ask(self, statement: str) -> list[str]:
        """The lines of the answer. Raises RuntimeError with what the server said."""
        try:
            self.psql.stdin.write(f"{statement};\n\\echo {END}\n")
            self.psql.stdin.flush()
        except BrokenPipeError:
            pass
        lines: list[str] = []
        for line in self.psql.stdout:
            if line.rstrip("\n") == END:
                return lines
            lines.append(line.rstrip("\n"))
        raise RuntimeError(" ".join(lines))

    def close(self) -> None:
        self.psql.stdin.close()
        self.psql.wait()


def counted(database: str, session: Session) -> dict[str, dict[str, Any]]:
    found = {}
    for table in session.ask(TABLES):
        (line,) = session.ask(ROWS.format(table))
        rows, checksum = line.split("|")
        found[f"{database}.{table}"] = {"rows": int(rows), "checksum": checksum}
    return found


def count(sockets: str, port: str) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for database in Session(sockets, port, "postgres").ask(DATABASES):
        tables |= counted(database, Session(sockets, port, database))
    return {"tables": tables}


def stilled(sockets: str, port: str, databases: list[str]) -> dict[str, Session]:
    """Sessions that hold every table of the databases, so that nobody writes."""
    for attempt in range(LOCK_ATTEMPTS):
        holders = {database: Session(sockets, port, database) for database in databases}
        try:
            for session in holders.values():
                session.ask("BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = '2s'")
                for table in session.ask(TABLES):
                    session.ask(f"LOCK TABLE {table} IN SHARE MODE")
            return holders
        except RuntimeError as error:
            for session in holders.values():
                session.close()
            if "lock timeout" not in str(error):
                raise
            time.sleep(attempt + 1)
    raise SystemExit(
        "A transaction holds a table for long: see pg_stat_activity, and run the drill again when it has ended."
    )


def mark(sockets: str, port: str, name: str) -> dict[str, Any]:
    postgres = Session(sockets, port, "postgres")
    databases = postgres.ask(DATABASES)
    holders = stilled(sockets, port, databases)
    (file,) = postgres.ask(f"SELECT pg_walfile_name(pg_create_restore_point('{name}'))")
    at = time.time()
    readers = {}
    for database, holder in holders.items():
        (snapshot,) = holder.ask("SELECT pg_export_snapshot()")
        readers[database] = Session(sockets, port, database)
        readers[database].ask(f"BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{snapshot}'")
    for holder in holders.values():
        holder.close()

    archived_at = archived(postgres, file)
    tables: dict[str, Any] = {}
    for database, reader in readers.items():
        tables |= counted(database, reader)
    return {"name": name, "at": at, "archived_at": archived_at, "tables": tables}


def archived(postgres: Session, file: str) -> float:
    """When the repository got a file of WAL, which is sent when it is full, or after archive_timeout."""
    (seconds,) = postgres.ask("SELECT setting::int FROM pg_settings WHERE name = 'archive_timeout'")
    deadline = time.monotonic() + int(seconds) + PATIENCE
    while time.monotonic() < deadline:
        if postgres.ask(f"SELECT 1 FROM pg_stat_archiver WHERE last_archived_wal >= '{file}'"):
            return time.time()
        time.sleep(0.2)
    raise SystemExit(
        f"The repository has not got the WAL file {file} within {int(seconds) + PATIENCE} s, and archive_timeout is "
        f"{seconds} s: see what archive-push says in PostgreSQL's log, journalctl -u 'postgresql@*'."
    )


def main(command: str, sockets: str, port: str, *words: str) -> None:
    print(json.dumps(mark(sockets, port, *words) if command == "mark" else count(sockets, port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
