#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes without a pause through a front door, and accounts for every one of them.

Data: one Write for each POST, with a name of its own. Flow: writers -> front door -> outcomes; when the input ends, the
outcomes are printed, one JSON list; ``accounts`` then holds them against the names that the database has.

``ok`` was acknowledged; ``failed`` never left, or was refused for what it asked; ``unknown`` is all else: an error
after it was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
from among_clients import AmongClients, until_input_ends

TIMEOUT = 15.0  # seconds; longer than the service takes to give up
PAUSE = 0.1  # seconds of one writer between an answer and its next write
REFUSED = range(400, 500)


@dataclass
class Write:
    """One row that was asked for: when it was sent and ended, in seconds since the Epoch, and how."""

    name: str
    sent: float
    ended: float
    outcome: str
    said: str = ""


@dataclass
class Report:
    """What became of the writes; ``gap`` is the longest time without an acknowledgement, in seconds."""

    outcomes: dict[str, int]
    reasons: dict[str, int]
    lost: list[str] = field(default_factory=list)  # acknowledged, and not there
    doubled: list[str] = field(default_factory=list)
    refused_and_there: list[str] = field(default_factory=list)
    unknown_and_there: int = 0
    gap: float = 0.0
    gap_began: float = 0.0

    def check(self) -> None:
        """Fail unless what was acknowledged is there once, and what failed is not."""
        assert self.outcomes.get("ok", 0) > 100, self
        assert not (self.lost or self.doubled or self.refused_and_there), self


class Writers:
    """Send until told to stop. ``writes`` has the writes that ended."""

    def __init__(self, url: str, path: str) -> None:
        self._url, self._path = url, path
        self._run = uuid.uuid4().hex[:12]
        self._ended = asyncio.Event()
        self.writes: list[Write] = []

    def end(self) -> None:
        self._ended.set()

    async def run(self, writers: int) -> None:
        await asyncio.gather(*(self._write(number) for number in range(writers)))

    async def _write(self, writer: int) -> None:
        number = 0
        async with httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT) as client:
            while not self._ended.is_set():
                number += 1
                name, sent = f"{self._run}-{writer}-{number}", time.time()
                outcome, said = await self._post(client, name)
                self.writes.append(Write(name, sent, time.time(), outcome, said))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), PAUSE)

    async def _post(self, client: httpx.AsyncClient, name: str) -> tuple[str, str]:
        try:
            answer = await client.post(self._path, json={"name": name})
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return "failed", repr(error)
        except httpx.HTTPError as error:
            return "unknown", repr(error)
        if answer.status_code == 201 and answer.json()["name"] == name:
            return "ok", ""
        return "failed" if answer.status_code in REFUSED else "unknown", f"{answer.status_code} {answer.text[:120]}"


def accounts(writes: Iterable[Write], there: Iterable[str]) -> Report:
    """Hold ``writes`` against the names that the database has, each as often as it has it."""
    writes = sorted(writes, key=lambda write: write.ended)
    rows = Counter(there)
    by: dict[str, list[Write]] = {}
    for write in writes:
        by.setdefault(write.outcome, []).append(write)
    acknowledged = [write.ended for write in by.get("ok", [])]
    gap, began = max(((b - a, a) for a, b in zip(acknowledged, acknowledged[1:], strict=False)), default=(0.0, 0.0))
    return Report(
        outcomes={outcome: len(found) for outcome, found in by.items()},
        reasons=dict(Counter(write.said for write in writes if write.said).most_common(10)),
        lost=[write.name for write in by.get("ok", []) if not rows[write.name]],
        doubled=[write.name for write in writes if rows[write.name] > 1],
        refused_and_there=[write.name for write in by.get("failed", []) if rows[write.name]],
        unknown_and_there=sum(1 for write in by.get("unknown", []) if rows[write.name]),
        gap=round(gap, 3),
        gap_began=round(began, 3),
    )


class Writing(AmongClients):
    """Writes from the lab's clients for the length of a ``with`` block."""

    def __init__(self, url: str, path: str = "/items", writers: int = 8) -> None:
        super().__init__("writes.py", url, "--path", path, "--writers", str(writers))

    @property
    def writes(self) -> list[Write]:
        """Those that ended."""
        return [Write(**write) for write in self.printed or []]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--path", default="/items")
    parser.add_argument("--writers", type=int, default=8)
    options: Any = parser.parse_args()
    writers = Writers(options.url, options.path)
    await until_input_ends(writers.run(options.writers), writers.end)
    print(json.dumps([vars(write) for write in writers.writes]))


if __name__ == "__main__":
    asyncio.run(main())
