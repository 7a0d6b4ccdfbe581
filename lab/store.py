# SPDX-License-Identifier: GPL-3.0-or-later
"""The account's state: records in memory, written through to SQLite, so that no end of the process loses any."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from lab.models import (
    AccountSettings,
    Address,
    DefaultFirewalls,
    Domain,
    DomainRecord,
    Event,
    Firewall,
    FirewallDevice,
    Image,
    Instance,
    Ipv6Range,
    NodeBalancer,
    NodeBalancerConfig,
    NodeBalancerNode,
    NodeBalancerVpc,
    PlacementGroup,
    Record,
    SshKey,
    Subnet,
    Tag,
    Vlan,
    Volume,
    Vpc,
)

VERSION = 3
FIRST_ID = 1000
KINDS: dict[str, type[Record]] = {
    kind.__name__: kind
    for kind in (
        *(Instance, Vpc, Subnet, Address, Ipv6Range, Vlan, Volume, Image),
        *(Firewall, FirewallDevice, DefaultFirewalls, PlacementGroup),
        *(NodeBalancer, NodeBalancerVpc, NodeBalancerConfig, NodeBalancerNode),
        *(SshKey, AccountSettings, Tag, Event, Domain, DomainRecord),
    )
}
R = TypeVar("R", bound=Record)


class StateError(Exception):
    """The state cannot be used; the text says why and what to do."""


class Store:
    """Records by kind and id. ``save`` and ``delete`` are atomic: all of their records or none."""

    def __init__(self, path: Path | str, hosts: bool) -> None:
        self._db = sqlite3.connect(path)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # survives the process; a power cut may lose the last moment
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise StateError(f"{path} was written by another version of the lab: `python -m lab stop` removes it.")
        with self._db:
            self._db.execute(f"PRAGMA user_version = {VERSION}")
            self._db.execute("CREATE TABLE IF NOT EXISTS record (kind TEXT, id INTEGER PRIMARY KEY, body TEXT)")
            self._db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER)")
        self._refuse_other_mode(path, hosts)
        self._records: dict[type[Record], dict[int, Record]] = {kind: {} for kind in KINDS.values()}
        for name, body in self._db.execute("SELECT kind, body FROM record ORDER BY id"):
            record = KINDS[name](**json.loads(body))
            self._records[KINDS[name]][record.id] = record
        self._next_id = self._meta("next_id", FIRST_ID)

    def _refuse_other_mode(self, path: Path | str, hosts: bool) -> None:
        if self._meta("hosts", int(hosts)) != int(hosts):
            made, asked = ("with", "without") if not hosts else ("without", "with")
            raise StateError(f"{path} was made {made} hosts and cannot go on {asked}: `python -m lab stop` removes it.")
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('hosts', ?)", (int(hosts),))

    def _meta(self, key: str, default: int) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return int(row[0]) if row else default

    def next_id(self) -> int:
        """Return an id that was never used; the next ``save`` makes that last."""
        self._next_id += 1
        return self._next_id - 1

    def all(self, kind: type[R]) -> list[R]:
        """Return the records of a kind, oldest first."""
        return list(self._records[kind].values())  # type: ignore[arg-type]

    def get(self, kind: type[R], record_id: int) -> R | None:
        return self._records[kind].get(record_id)  # type: ignore[return-value]

    def save(self, *records: Record) -> None:
        rows = [(type(record).__name__, record.id, json.dumps(asdict(record))) for record in records]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", rows)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('next_id', ?)", (self._next_id,))
        for record in records:
            self._records[type(record)][record.id] = record

    def delete(self, *records: Record) -> None:
        with self._db:
            self._db.executemany("DELETE FROM record WHERE id = ?", [(record.id,) for record in records])
        for record in records:
            del self._records[type(record)][record.id]

    def close(self) -> None:
        self._db.close()


def made_with_hosts(path: Path) -> bool | None:
    """Tell whether a state file was made with hosts; None when that cannot be told."""
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        row = db.execute("SELECT value FROM meta WHERE key = 'hosts'").fetchone()
        db.close()
    except sqlite3.Error:
        return None
    return bool(row[0]) if row else None
