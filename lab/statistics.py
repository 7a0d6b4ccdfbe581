# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Linodes use, as the platform sees it from outside: their CPU time, their disk, their network.

Data: Counters, of a host that runs. Flow: its control group and its interfaces -> Counters -> a sample of each Linode
every five minutes, of what passed since the one before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.models import Instance
from lab.shell import CommandError

if TYPE_CHECKING:
    from lab.hosts import Hosts
    from lab.store import Store

SAMPLES = 288  # a day of 5 minutes each
UNAVAILABLE = "Stats are unavailable at this time."

logger = logging.getLogger("lab")


@dataclass(frozen=True)
class Counters:
    """What a host has used since it booted: seconds of CPU time, disk accesses, bytes by public and VPC interfaces."""

    cpu: float = 0.0
    accesses: float = 0.0
    received: float = 0.0
    sent: float = 0.0
    vpc_received: float = 0.0
    vpc_sent: float = 0.0

    def since(self, before: Counters) -> Counters:
        """Return what was used since then; a host that has booted meanwhile has counted from nothing."""
        if self.cpu < before.cpu:
            return self
        return Counters(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


def counters(process: Path, is_public: bool) -> Counters:
    """Read what a host has used by ``process``, the folder of its first process in /proc. Raises OSError, ValueError.

    :param is_public: whether eth0 is public; every other interface is one of a VPC.
    """
    groups = process / "root/sys/fs/cgroup"
    traffic = {"eth0": (0.0, 0.0)} if is_public else {}
    vpc = [0.0, 0.0]
    for line in (process / "net/dev").read_text().splitlines()[2:]:
        device, _, values = line.partition(":")
        numbers = [float(value) for value in values.split()]
        if device.strip() in traffic:
            traffic[device.strip()] = numbers[0], numbers[8]
        elif device.strip() != "lo":
            vpc = [vpc[0] + numbers[0], vpc[1] + numbers[8]]
    return Counters(_cpu(groups), _accesses(groups), *traffic.get("eth0", (0.0, 0.0)), *vpc)


def _cpu(groups: Path) -> float:
    if (groups / "cpu.stat").exists():
        return float(dict(line.split() for line in (groups / "cpu.stat").read_text().splitlines())["usage_usec"]) / 1e6
    return int((groups / "cpuacct/cpuacct.usage").read_text()) / 1e9


def _accesses(groups: Path) -> float:
    if (groups / "io.stat").exists():
        words = (groups / "io.stat").read_text().split()
        return sum(float(word.partition("=")[2]) for word in words if word.startswith(("rios=", "wios=")))
    lines = (groups / "blkio/blkio.throttle.io_serviced").read_text().splitlines()
    return float(lines[-1].split()[-1]) if lines else 0.0  # the last line is the total


async def watch(store: Store, hosts: Hosts, interval: float) -> None:
    """Note what the Linodes use every ``interval`` seconds, for ever."""
    before = await _look(store, hosts)
    while True:
        await asyncio.sleep(interval)
        now = await _look(store, hosts)
        for linode_id, found in now.items():
            instance = store.get(Instance, linode_id)
            if instance:
                note(instance, found.since(before.get(linode_id, Counters())), interval)
                store.save(instance)
        before = now


async def _look(store: Store, hosts: Hosts) -> Mapping[int, Counters]:
    public = {instance.id for instance in store.all(Instance) if instance.public_ipv4}
    try:
        return await hosts.counters(public)
    except CommandError:
        logger.exception("the statistics of the Linodes could not be read")
        return {}


def note(instance: Instance, used: Counters, seconds: float) -> None:
    """Add what a Linode used in ``seconds`` to its day: percent of a core, accesses and bits a second."""
    bits = (value * 8 for value in (used.received, used.sent, used.vpc_received, used.vpc_sent))
    rates = (used.cpu * 100, used.accesses, *bits)
    row = [int(time.time() * 1000), *(round(rate / seconds, 2) for rate in rates)]
    instance.samples = [*instance.samples, row][-SAMPLES:]
