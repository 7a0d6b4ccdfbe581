# SPDX-License-Identifier: GPL-3.0-or-later
"""Has every member of a PostgreSQL cluster take a write, several times a second, if it will.

The write is a message in the WAL, which is acknowledged as any commit is. Data: Samples. Flow: a loop on each host over
SSH, opened again when it breaks -> samples -> ``two_at_once``, who was primary together.
"""

from __future__ import annotations

import subprocess
import threading
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

# One line for each try: when a write was acknowledged, or a dash. It ends where nobody reads it any more.
LOOP = """write="SELECT pg_logical_emit_message(true, 'drill', '')"
while sleep 0.2; do
  if timeout 2 runuser -u postgres -- /usr/lib/postgresql/17/bin/psql -XAtqc "$write" -h /run/postgresql >/dev/null 2>&1
  then date +%s.%N
  else echo -
  fi || exit
done"""
# Seconds around another's sample within which one that took writes before and after took them then too.
TOGETHER = 1.0


@dataclass(frozen=True)
class Sample:
    """``host`` acknowledged a write at ``at``, seconds since the Epoch."""

    at: float
    host: str


def two_at_once(samples: Sequence[Sample]) -> list[tuple[Sample, str]]:
    """Return each sample at which another host took writes too, with that host."""
    primary: dict[str, list[float]] = {}
    for sample in sorted(samples, key=lambda sample: sample.at):
        primary.setdefault(sample.host, []).append(sample.at)
    found = []
    for one, other in permutations(primary, 2):
        times = primary[other]
        for at in primary[one]:
            after = bisect(times, at)
            around = times[after - 1 : after + 1] if after else []
            if len(around) == 2 and at - around[0] < TOGETHER and around[1] - at < TOGETHER:
                found.append((Sample(at, one), other))
    return found


class Primaries:
    """Samples for the length of a ``with`` block. ``ssh`` has for each host the words that run a command there."""

    def __init__(self, ssh: Mapping[str, Sequence[str]]) -> None:
        self._ssh = ssh
        self._ended = threading.Event()
        self.samples: list[Sample] = []

    def __enter__(self) -> Primaries:
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._threads = [threading.Thread(target=self._watch, args=(host,), daemon=True) for host in self._ssh]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for process in self._running.values():
            process.kill()
        for thread in self._threads:
            thread.join(10)

    def _watch(self, host: str) -> None:
        while not self._ended.is_set():
            process = subprocess.Popen(
                [*self._ssh[host], LOOP],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._running[host] = process
            assert process.stdout
            for line in process.stdout:
                if line != "-\n":
                    self.samples.append(Sample(float(line), host))
            process.wait()
            self._ended.wait(0.5)

    def check(self) -> None:
        """Fail when two members took writes at once, or when nobody was ever seen to."""
        assert self.samples, "no primary was seen"
        found = two_at_once(self.samples)
        assert not found, found[:5]
