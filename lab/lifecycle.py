# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a Linode after a request: its host is made, booted, stopped, deleted; events tell of it.

``Instance.tasks`` is the plan: the first is under way, and each leads to the next. A process that died at any moment
therefore goes on from the records alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from lab import catalog, journal, packet_filter
from lab.addresses import Addresses
from lab.faults import Faults
from lab.hosts import Host, HostError, Hosts
from lab.models import Address, Event, FirewallDevice, Instance, Ipv6Range, Json, Record, Subnet, Volume, now
from lab.network import VpcAddress
from lab.shell import CommandError
from lab.store import Store
from lab.tasks import TASKS

STEP_TIMEOUT = 300.0  # seconds for one task of one host
CLOSE_TIMEOUT = 20.0  # seconds that running tasks have when the lab ends

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
        self._steps: dict[str, Callable[[Instance], Awaitable[str]]] = {
            "create": self._create,
            **dict.fromkeys(("boot", "boot_after_crash", "boot_after_restart"), self._boot),
            "reboot": self._reboot,
            "shutdown": self._shut_down,
            "rebuild": self._rebuild,
            "resize": self._resize,
            "prepare_resize": self._go_on,
            "resize_and_boot": self._resize_and_boot,
            "migrate": self._migrate,
        }

    def busy(self, instance: Instance) -> bool:
        """Tell whether something is under way on an instance."""
        return instance.id in self._work or instance.id in self._deletions

    def begin(
        self, instance: Instance, *tasks: str, secondary: Json | None = None, also: tuple[Record, ...] = ()
    ) -> None:
        """Plan tasks, open the event of the first, and do them in the background. ``also`` is saved with it."""
        instance.tasks = list(tasks)
        self._store.save(instance, self._open(instance, secondary), *also)
        self._work_on(instance)

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
            elif instance.tasks:
                self._work_on(instance)
            elif instance.status == "running" and instance.id not in running:
                self.begin(instance, "boot_after_restart")
            elif instance.status == "offline" and instance.id in running:
                self.begin(instance, "shutdown")

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
                self.begin(instance, "boot_after_crash")
            else:
                instance.status, instance.booted, instance.updated = "offline", False, now()
                self._store.save(instance)

    async def lose_power(self, instance: Instance, seconds: float) -> None:
        """End a host in an instant and keep it off so long; then Lassie has it back. Raises HostError."""
        if instance.status != "running" or self.busy(instance):
            raise HostError(f"{instance.label} is {instance.status}; only one that runs can lose its power")
        self._faults.add({"kind": "slow-boot", "label": instance.label, "seconds": seconds})
        await self._hosts.lose_power(self.host(instance))

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
                more = tuple(address for address in item.addresses if address != item.address)
                vpc.append(
                    VpcAddress(
                        subnet.vpc_id, subnet.id, item.address, subnet.ipv4, more=more, ranges=tuple(item.ranges)
                    )
                )
        reachable = instance.host_ipv4
        has_private = not instance.interfaces or any(item.purpose == "public" for item in instance.interfaces)
        return Host(
            id=instance.id,
            label=instance.label,
            image=instance.image or "",
            vcpus=size["vcpus"],
            memory_mib=size["memory"],
            public_ipv4=instance.reachable_ipv4,
            vpc=tuple(vpc),
            authorized_keys=tuple(instance.authorized_keys),
            more_ipv4=tuple(reachable[1:]),
            private_ipv4=next(iter(instance.private_ipv4), None) if has_private else None,
            datacenter=catalog.datacenter(instance.region),
            resized=instance.made_type not in ("", instance.type),
            cloud_init=bool(instance.user_data),
        )

    def _open(self, instance: Instance, secondary: Json | None = None) -> Event:
        """Set the status that the first task has; return its event, not saved yet."""
        task = TASKS[instance.tasks[0]]
        event = journal.new(self._store, task.action, journal.linode(instance), secondary)
        instance.status, instance.event_id, instance.updated = task.status, event.id, now()
        return event

    def _work_on(self, instance: Instance) -> None:
        self._work[instance.id] = asyncio.create_task(self._do_tasks(instance))

    async def _do_tasks(self, instance: Instance) -> None:
        try:
            while instance.tasks:
                event = self._store.get(Event, instance.event_id)
                assert event is not None  # saved with the status, and kept while it is open
                event.status, event.started = "started", event.started or time.time()
                self._store.save(event)
                try:
                    async with asyncio.timeout(STEP_TIMEOUT):
                        await self._faults.slow(instance.tasks[0], instance.label)
                        status = await self._steps[instance.tasks[0]](instance)
                    event.status, instance.tasks = "finished", instance.tasks[1:]
                except Exception as error:
                    status, instance.tasks = await self._status_after_failure(instance), []
                    self._failed(event, error)
                event.ended = time.time()
                instance.status, instance.updated = status, now()
                following = [self._open(instance)] if instance.tasks else []
                self._store.save(instance, event, *following)
        finally:
            self._work.pop(instance.id, None)

    async def _create(self, instance: Instance) -> str:
        await self._make(instance)
        return "offline"

    async def _boot(self, instance: Instance) -> str:
        await self._make(instance)
        if reason := await self._faults.boot(instance.label):
            raise HostError(f"{instance.label} did not boot: {reason}")
        await packet_filter.apply(self._store, self._hosts)  # no packet reaches a host before its firewall is there
        await self._hosts.start(self.host(instance))
        return "running"

    async def _reboot(self, instance: Instance) -> str:
        await self._hosts.stop(self.host(instance))
        return await self._boot(instance)

    async def _shut_down(self, instance: Instance) -> str:
        await self._hosts.stop(self.host(instance))
        return "offline"

    async def _rebuild(self, instance: Instance) -> str:
        """Put a new disk in the place of the old one; the addresses stay."""
        if instance.made == "yes":
            instance.made = "partly"
        await self._make(instance)
        return "offline"

    async def _go_on(self, instance: Instance) -> str:
        return "running"

    async def _resize(self, instance: Instance) -> str:
        """Change the type; the next boot has its cores and memory."""
        await self._hosts.stop(self.host(instance))
        target, instance.target = instance.target, {}
        instance.type = target.get("type", instance.type)
        for disk in instance.disks:
            if disk.id == target.get("disk_id"):
                disk.size = target["disk_size"]
        return "offline"

    async def _resize_and_boot(self, instance: Instance) -> str:
        await self._resize(instance)
        return await self._boot(instance)

    async def _migrate(self, instance: Instance) -> str:
        """Change the region; public and private addresses belong to one, so that new ones take their place."""
        await self._hosts.stop(self.host(instance))
        target, instance.target = instance.target, {}
        instance.region = target.get("region", instance.region)
        instance.host_uuid = target.get("host_uuid", instance.host_uuid)
        instance.placement_group = target.get("placement_group")
        self._addresses.renew(instance)
        return "offline"

    async def _make(self, instance: Instance) -> None:
        """Make the host once; what a failed or killed attempt left is removed first."""
        if instance.made == "yes" or not instance.image:
            return
        host = self.host(instance)
        if instance.made == "partly":
            await self._hosts.delete(host)
        instance.made, instance.made_type = "partly", instance.type
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
            self._forget(instance)
        finally:
            self._deletions.pop(instance.id, None)

    def _forget(self, instance: Instance) -> None:
        """Delete an instance's record and what goes with it; volumes and reserved addresses stay, and are free."""
        own = set(instance.ipv4)
        named = [item for item in self._store.all(Address) if item.address in own]
        volumes = [item for item in self._store.all(Volume) if item.linode_id == instance.id]
        sharing = [item for item in self._store.all(Instance) if own.intersection(item.shared_ipv4)]
        for volume in volumes:
            volume.linode_id = None
        for other in sharing:
            other.shared_ipv4 = [address for address in other.shared_ipv4 if address not in own]
        self._store.save(*volumes, *sharing)
        ranges = [item for item in self._store.all(Ipv6Range) if item.linode_id == instance.id]
        devices = [item for item in self._store.all(FirewallDevice) if item.linode_id == instance.id]
        self._store.delete(instance, *ranges, *devices, *(item for item in named if not item.reserved))
        self._addresses.release(instance, kept={item.address for item in named if item.reserved})

    def _begin_delete(self, instance: Instance) -> Event:
        """Close what was under way, and return the event of the deletion, which may have begun before."""
        last = self._store.get(Event, instance.event_id)
        if last and instance.status == "deleting":
            event, interrupted = last, []
        else:
            event = journal.new(self._store, "linode_delete", journal.linode(instance))
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
