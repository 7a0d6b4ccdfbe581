# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a Linode after a request: its host is made, booted, stopped, deleted; events tell of it.

The status is the plan: each passing one (provisioning, booting, …) has a step that leads to the next. A process
that died at any moment therefore goes on from the records alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from lab import catalog
from lab.addresses import Addresses
from lab.faults import Faults
from lab.hosts import Host, HostError, Hosts
from lab.models import Event, Instance, Json, Subnet, now
from lab.network import VpcAddress
from lab.shell import CommandError
from lab.store import Store

STEP_TIMEOUT = 300.0  # seconds for one step of one host
CLOSE_TIMEOUT = 20.0  # seconds that running steps have when the lab ends
KEPT_EVENTS = 10_000

logger = logging.getLogger("lab")


class Lifecycle:
    """Works on instances in the background, on one thing at a time for each."""

    def __init__(self, store: Store, addresses: Addresses, hosts: Hosts, faults: Faults) -> None:
        self._store = store
        self._addresses = addresses
        self._hosts = hosts
        self._faults = faults
        self._work: dict[int, asyncio.Task[None]] = {}
        self._deletions: dict[int, asyncio.Task[None]] = {}
        self._steps: dict[str, Callable[[Instance, Host], Awaitable[str]]] = {
            "provisioning": self._provision,
            "booting": self._boot,
            "rebooting": self._reboot,
            "shutting_down": self._shut_down,
        }

    def busy(self, instance: Instance) -> bool:
        """Tell whether something is under way on an instance."""
        return instance.id in self._work or instance.id in self._deletions

    def begin(self, instance: Instance, status: str, action: str, secondary: Json | None = None) -> None:
        """Set a passing status, open the event for it, and do what it stands for in the background."""
        event = self.event(action, instance, secondary)
        instance.status, instance.event_id, instance.updated = status, event.id, now()
        self._store.save(instance, event)
        self._work_on(instance)

    def event(self, action: str, instance: Instance, secondary: Json | None = None) -> Event:
        """Return a new event, not saved yet; the oldest give way when there are very many."""
        events = self._store.all(Event)
        if len(events) > KEPT_EVENTS:
            self._store.delete(*[old for old in events[: KEPT_EVENTS // 10] if old.ended])
        url = f"/v4/linode/instances/{instance.id}"
        entity: Json = {"id": instance.id, "type": "linode", "label": instance.label, "url": url}
        return Event(self._store.next_id(), action, entity, secondary)

    async def delete(self, instance: Instance) -> None:
        """Stop what is under way, delete the host, then forget the instance and free its addresses."""
        if instance.id not in self._deletions:
            self._deletions[instance.id] = asyncio.create_task(self._delete(instance))
        await asyncio.shield(self._deletions[instance.id])

    async def recover(self) -> None:
        """Go on where an earlier process stopped, and boot what should run and does not."""
        running = await self._hosts.running()
        for instance in self._store.all(Instance):
            if instance.status == "deleting":
                self._deletions[instance.id] = asyncio.create_task(self._delete(instance))
            elif instance.status in self._steps:
                self._work_on(instance)
            elif instance.status == "running" and instance.id not in running:
                self.begin(instance, "booting", "host_reboot")
            elif instance.status == "offline" and instance.id in running:
                self.begin(instance, "shutting_down", "linode_shutdown")

    async def watch(self, interval: float) -> None:
        """Lassie: look after the hosts every ``interval`` seconds, for ever."""
        while True:
            await asyncio.sleep(interval)
            try:
                await self.look()
            except Exception:
                logger.exception("the watchdog could not look at the hosts")

    async def look(self) -> None:
        """Boot the instances that should run and whose host has stopped by itself."""
        before = {item.id: item.event_id for item in self._store.all(Instance) if item.status == "running"}
        running = await self._hosts.running()
        for instance in self._store.all(Instance):
            unchanged = before.get(instance.id) == instance.event_id and instance.status == "running"
            if not unchanged or self.busy(instance) or instance.id in running:
                continue
            if instance.watchdog_enabled:
                self.begin(instance, "booting", "lassie_reboot")
            else:
                instance.status, instance.booted, instance.updated = "offline", False, now()
                self._store.save(instance)

    async def close(self) -> None:
        """Let running steps end, for a while; what does not is resumed by the next start."""
        tasks = [*self._work.values(), *self._deletions.values()]
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)
            for task in left:
                task.cancel()

    def host(self, instance: Instance) -> Host:
        """Return the host an instance stands for."""
        size = catalog.TYPES[instance.type]
        vpc = []
        for item in instance.vpc_interfaces:
            subnet = self._store.get(Subnet, item.subnet_id or 0)
            if subnet and item.address:
                vpc.append(VpcAddress(subnet.vpc_id, subnet.id, item.address, subnet.ipv4))
        return Host(
            id=instance.id,
            label=instance.label,
            image=instance.image or "",
            vcpus=size["vcpus"],
            memory_mib=size["memory"],
            public_ipv4=instance.reachable_ipv4,
            vpc=tuple(vpc),
            authorized_keys=tuple(instance.authorized_keys),
            cloud_init=bool(instance.user_data),
        )

    def _work_on(self, instance: Instance) -> None:
        self._work[instance.id] = asyncio.create_task(self._run_steps(instance))

    async def _run_steps(self, instance: Instance) -> None:
        try:
            while step := self._steps.get(instance.status):
                event = self._store.get(Event, instance.event_id)
                assert event is not None  # saved with the status, and kept while it is open
                event.status, event.started = "started", event.started or time.time()
                self._store.save(event)
                try:
                    async with asyncio.timeout(STEP_TIMEOUT):
                        status = await step(instance, self.host(instance))
                    event.status = "finished"
                except Exception as error:
                    status = await self._status_after_failure(instance)
                    self._failed(event, error)
                event.ended = time.time()
                changed = [event]
                if status == "booting":
                    changed.append(self.event("linode_boot", instance))
                instance.status, instance.event_id, instance.updated = status, changed[-1].id, now()
                self._store.save(instance, *changed)
        finally:
            self._work.pop(instance.id, None)

    async def _provision(self, instance: Instance, host: Host) -> str:
        await self._make(instance, host)
        return "booting" if instance.booted else "offline"

    async def _boot(self, instance: Instance, host: Host) -> str:
        await self._make(instance, host)
        if reason := await self._faults.boot(instance.label):
            raise HostError(f"{instance.label} did not boot: {reason}")
        await self._hosts.start(host)
        return "running"

    async def _reboot(self, instance: Instance, host: Host) -> str:
        await self._hosts.stop(host)
        return await self._boot(instance, host)

    async def _shut_down(self, instance: Instance, host: Host) -> str:
        await self._hosts.stop(host)
        return "offline"

    async def _make(self, instance: Instance, host: Host) -> None:
        """Make the host once; what a failed or killed attempt left is removed first."""
        if instance.made == "yes" or not instance.image:
            return
        if instance.made == "partly":
            await self._hosts.delete(host)
        instance.made = "partly"
        self._store.save(instance)
        await self._hosts.create(host)
        instance.made = "yes"

    async def _status_after_failure(self, instance: Instance) -> str:
        try:
            return "running" if instance.id in await self._hosts.running() else "offline"
        except Exception:
            return "offline"

    async def _delete(self, instance: Instance) -> None:
        try:
            if work := self._work.get(instance.id):
                work.cancel()
                await asyncio.wait([work])
            event = self._begin_delete(instance)
            try:
                if instance.made != "no":
                    await self._hosts.delete(self.host(instance))
            except Exception as error:
                self._failed(event, error)
                event.ended = time.time()
                self._store.save(event)
                raise
            event.status, event.ended = "finished", time.time()
            self._store.save(event)
            self._store.delete(instance)
            self._addresses.release(instance)
        finally:
            self._deletions.pop(instance.id, None)

    def _begin_delete(self, instance: Instance) -> Event:
        """Close what was under way, and return the event of the deletion, which may have begun before."""
        last = self._store.get(Event, instance.event_id)
        if last and instance.status == "deleting":
            event, interrupted = last, []
        else:
            event = self.event("linode_delete", instance)
            interrupted = [last] if last and not last.ended else []
        for other in interrupted:
            other.status, other.message, other.ended = "failed", "The Linode was deleted", time.time()
        event.status, event.started, event.ended = "started", event.started or time.time(), None
        instance.status, instance.event_id = "deleting", event.id
        self._store.save(instance, event, *interrupted)
        return event

    def _failed(self, event: Event, error: Exception) -> None:
        """Note on an event why it failed; a traceback is for what no host should do."""
        expected = isinstance(error, HostError | CommandError | TimeoutError)
        logger.error("%s of %s: %s", event.action, event.entity["label"], error, exc_info=None if expected else error)
        event.status, event.message = "failed", str(error) or f"not done after {STEP_TIMEOUT:.0f} s"
