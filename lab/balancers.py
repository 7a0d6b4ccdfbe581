# SPDX-License-Identifier: GPL-3.0-or-later
"""The NodeBalancers' data plane: an HAProxy each, in a network namespace of its own.

Data: a Balancer. Flow: the API -> Balancers -> the lab's network, and an HAProxy that ends with this process and is
reloaded, when something changes, without losing a connection. The namespace outlives it, and counts what passes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import shutil
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab.haproxy import NO_STATES, Balancer, Files, contents, health, max_connections
from lab.models import NodeBalancer, NodeBalancerConfig, NodeBalancerNode, NodeBalancerVpc, Subnet
from lab.network import Network, VpcAddress, balancer_namespace
from lab.shell import CommandError, run
from lab.store import Store

START_TIMEOUT = 10.0  # seconds until a new HAProxy answers
STOP_TIMEOUT = 10.0
ANSWER_TIMEOUT = 2.0
PAUSE = 1.0  # seconds before an HAProxy that ended by itself is started again
SAMPLES = 288  # a day of 5 minutes each
MONTH = "%Y-%m"
COUNTERS = "c50k_counts"  # the nftables table of a NodeBalancer's namespace

logger = logging.getLogger("lab")


class BalancerError(Exception):
    """A NodeBalancer does not do what it was asked; the text says which and why."""


@dataclass(frozen=True)
class Counts:
    """What passed since the last look: new connections, bytes from the clients and to them."""

    connections: int
    received: int
    sent: int


class Balancers(Protocol):
    """What the API needs behind its NodeBalancers."""

    async def apply(self, balancer: Balancer) -> None: ...
    async def remove(self, balancer_id: int) -> None: ...
    async def health(self, balancer_id: int) -> dict[int, str]: ...
    async def counts(self, balancer_id: int) -> Counts | None: ...
    async def close(self) -> None: ...
    def connections(self, balancer: Balancer) -> int | None: ...


class NoBalancers:
    """NodeBalancers with nothing behind them."""

    async def apply(self, balancer: Balancer) -> None:
        """Nothing to change."""

    async def remove(self, balancer_id: int) -> None:
        """Nothing to remove."""

    async def health(self, balancer_id: int) -> dict[int, str]:
        return {}

    async def counts(self, balancer_id: int) -> Counts | None:
        return None

    async def close(self) -> None:
        """Nothing to end."""

    def connections(self, balancer: Balancer) -> int | None:
        return None


class HaproxyBalancers:
    """NodeBalancers as HAProxy processes; ``state`` is the folder of their files."""

    def __init__(self, state: Path, network: Network) -> None:
        self._state = state
        self._network = network
        self._file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self._locks: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)  # changes of one come one after another
        self._contents: dict[int, dict[Path, str]] = {}
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._keepers: dict[int, asyncio.Task[None]] = {}

    def connections(self, balancer: Balancer) -> int:
        """Return how many connections it holds at once."""
        return max_connections(balancer, self._file_limit)

    async def apply(self, balancer: Balancer) -> None:
        """Let a NodeBalancer be as its records say; return when it is. Raises BalancerError."""
        async with self._locks[balancer.id]:
            files = Files(self._state, balancer.id)
            wanted = contents(balancer, files, self._file_limit)
            try:
                if not self._runs(balancer.id):
                    await self._connect(balancer)
                    await self._write(files, wanted)
                    await self._start(balancer.id)
                elif wanted != self._contents.get(balancer.id):
                    await self._write(files, wanted)
                    await self._reload(balancer.id)
            except (CommandError, OSError) as error:
                raise BalancerError(f"NodeBalancer {balancer.record.label}: {error}") from error
            self._contents[balancer.id] = wanted
            if balancer.id not in self._keepers:
                self._keepers[balancer.id] = asyncio.create_task(self._keep(balancer.id))
            for path in files.certificates():
                if path not in wanted:
                    path.unlink()

    async def remove(self, balancer_id: int) -> None:
        """Remove a NodeBalancer: its process, its network and its files. Raises BalancerError."""
        async with self._locks[balancer_id]:
            await self._stop(balancer_id)
            try:
                await self._network.remove_balancer(balancer_id)
            except CommandError as error:
                raise BalancerError(f"NodeBalancer {balancer_id}: {error}") from error
            for path in Files(self._state, balancer_id).all():
                path.unlink(missing_ok=True)

    async def health(self, balancer_id: int) -> dict[int, str]:
        """Return what HAProxy says now of each node that it knows: UP, DOWN or Unknown; nothing if it does not run."""
        try:
            return health(await self._ask(balancer_id, "show stat -1 4 -1"))
        except OSError:
            return {}

    async def counts(self, balancer_id: int) -> Counts | None:
        """Return what passed since this was called last."""
        try:
            read = json.loads(await _in(balancer_id, "nft", "-j", "reset", "counters", "table", "inet", COUNTERS))
        except CommandError:
            return None
        found = {item["counter"]["name"]: item["counter"] for item in read["nftables"] if "counter" in item}
        return Counts(found["new"]["packets"], found["received"]["bytes"], found["sent"]["bytes"])

    async def close(self) -> None:
        """End all processes; networks, and what they counted, stay."""
        await asyncio.gather(*(self._stop(balancer_id) for balancer_id in list(self._keepers)))

    def _runs(self, balancer_id: int) -> bool:
        process = self._processes.get(balancer_id)
        return process is not None and process.returncode is None

    async def _connect(self, balancer: Balancer) -> None:
        """Make the namespace, unless all of it is there: its counters, the last thing made, say so."""
        try:
            await _in(balancer.id, "nft", "list", "counters", "table", "inet", COUNTERS)
        except CommandError:
            record, vpc = balancer.record, tuple(address for _, address in balancer.vpc)
            await self._network.add_balancer(balancer.id, record.ipv4, record.private_ipv4, vpc)
            await _in(balancer.id, "nft", "-f", "-", stdin=_counters(record.ipv4))

    async def _write(self, files: Files, wanted: dict[Path, str]) -> None:
        """Write what HAProxy reads, if it accepts it: the old configuration stays otherwise."""
        if shutil.which("haproxy") is None:
            raise BalancerError("HAProxy, which NodeBalancers need, is not installed: `lab/bootstrap` installs it.")
        new = files.config.with_suffix(".new")
        for path, text in wanted.items():
            target = new if path == files.config else path
            target.touch(mode=0o600)
            target.write_text(text)
        await run("haproxy", "-c", "-f", str(new))
        new.rename(files.config)

    async def _start(self, balancer_id: int) -> None:
        """Start an HAProxy that ends with this process, however that ends; return when it answers. Raises OSError."""
        files = Files(self._state, balancer_id)
        files.socket.unlink(missing_ok=True)
        files.states.write_text(NO_STATES)
        self._processes[balancer_id] = process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "TERM", "ip", "netns", "exec", balancer_namespace(balancer_id)),
            *("haproxy", "-W", "-db", "-f", str(files.config)),
            stdin=asyncio.subprocess.DEVNULL,
        )
        try:
            await self._answering(balancer_id, but="")
        except OSError:
            if process.returncode is None:
                process.kill()
            raise

    async def _reload(self, balancer_id: int) -> None:
        """Let a new process take over the sockets, and what is known of the servers; the old one ends its sessions."""
        before = await self._pid(balancer_id)
        states = await self._ask(balancer_id, "show servers state")
        Files(self._state, balancer_id).states.write_text(states)
        self._processes[balancer_id].send_signal(signal.SIGUSR2)
        await self._answering(balancer_id, but=before)

    async def _answering(self, balancer_id: int, but: str) -> None:
        """Return when a process answers that is not ``but``. Raises OSError."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                if await self._pid(balancer_id) != but:
                    return
            except OSError:
                if self._processes[balancer_id].returncode is not None:
                    raise OSError("HAProxy ended at once; the lab's log says why") from None
            if time.monotonic() > deadline:
                raise OSError(f"HAProxy has not taken its configuration after {START_TIMEOUT:.0f} s; see the lab's log")
            await asyncio.sleep(0.02)

    async def _pid(self, balancer_id: int) -> str:
        said = (await self._ask(balancer_id, "show info")).splitlines()
        return next((line for line in said if line.startswith("Pid: ")), "")

    async def _ask(self, balancer_id: int, command: str) -> str:
        """Return what a running HAProxy answers. Raises OSError."""
        async with asyncio.timeout(ANSWER_TIMEOUT):  # TimeoutError is an OSError
            reader, writer = await asyncio.open_unix_connection(Files(self._state, balancer_id).socket)
            try:
                writer.write(f"{command}\n".encode())
                return (await reader.read()).decode()
            finally:
                writer.close()

    async def _keep(self, balancer_id: int) -> None:
        """Start an HAProxy again whenever it ends by itself."""
        while True:
            code = await self._processes[balancer_id].wait()
            logger.error("HAProxy of NodeBalancer %s ended with %s; it is started again", balancer_id, code)
            await asyncio.sleep(PAUSE)
            async with self._locks[balancer_id]:
                try:
                    if not self._runs(balancer_id):
                        await self._start(balancer_id)
                except OSError as error:
                    logger.error("NodeBalancer %s: %s", balancer_id, error)

    async def _stop(self, balancer_id: int) -> None:
        self._contents.pop(balancer_id, None)
        if keeper := self._keepers.pop(balancer_id, None):
            keeper.cancel()
            await asyncio.wait([keeper])
        process = self._processes.pop(balancer_id, None)
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def balancer_of(store: Store, record: NodeBalancer) -> Balancer:
    """Return a NodeBalancer with what belongs to it."""
    vpc = []
    for item in store.all(NodeBalancerVpc):
        subnet = store.get(Subnet, item.subnet_id)
        if item.nodebalancer_id == record.id and subnet:
            address = item.ipv4_range.split("/")[0]
            vpc.append((item.id, VpcAddress(item.vpc_id, subnet.id, address, subnet.ipv4)))
    return Balancer(
        record,
        tuple(item for item in store.all(NodeBalancerConfig) if item.nodebalancer_id == record.id),
        tuple(item for item in store.all(NodeBalancerNode) if item.nodebalancer_id == record.id),
        tuple(vpc),
    )


async def recover(store: Store, balancers: Balancers) -> None:
    """Let all NodeBalancers work again, as after a restart; the failure of one is no other's."""
    work = [balancers.apply(balancer_of(store, record)) for record in store.all(NodeBalancer)]
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            logger.error("%s", result)


async def watch(store: Store, balancers: Balancers, interval: float) -> None:
    """Note what passes through the NodeBalancers every ``interval`` seconds, for ever."""
    while True:
        await asyncio.sleep(interval)
        for record in store.all(NodeBalancer):
            counts = await balancers.counts(record.id)
            if counts and store.get(NodeBalancer, record.id):
                note(record, counts, interval)
                store.save(record)


def note(record: NodeBalancer, counts: Counts, seconds: float) -> None:
    """Add what was counted in ``seconds`` to a NodeBalancer's day and month."""
    month = time.strftime(MONTH, time.gmtime())
    if record.month != month:
        record.month, record.traffic_in, record.traffic_out = month, 0, 0
    record.traffic_in += counts.received
    record.traffic_out += counts.sent
    rates = (counts.connections / seconds, counts.received * 8 / seconds, counts.sent * 8 / seconds)
    record.samples = [*record.samples, [int(time.time() * 1000), *rates]][-SAMPLES:]


def _counters(address: str) -> str:
    return f"""
table inet {COUNTERS} {{
  counter new {{}}
  counter received {{}}
  counter sent {{}}
  chain input {{
    type filter hook input priority filter; policy accept;
    ip daddr {address} counter name received
    ip daddr {address} tcp flags & (syn | ack) == syn counter name new
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    ip saddr {address} counter name sent
  }}
}}
"""


async def _in(balancer_id: int, *argv: str, stdin: str | None = None) -> str:
    return await run("ip", "netns", "exec", balancer_namespace(balancer_id), *argv, stdin=stdin)
