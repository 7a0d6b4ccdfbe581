# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts behind the lab's instances: a systemd container each, on a network namespace of its own.

Data: a Host, what an instance is made of. Flow: the API's lifecycle -> Hosts -> podman and the lab's network.
The namespace outlives its container's reboots, as a network card does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lab.network import (
    CLIENTS,
    UPSTREAM,
    Network,
    VpcAddress,
    host_namespace,
    metadata_socket,
    resolvers,
    routers,
)
from lab.podman import podman
from lab.shell import CommandError
from lab.statistics import Counters, counters

if TYPE_CHECKING:
    from lab.metadata import Metadata

LABEL = "c50k.lab"
IMAGES = {"linode/debian13": "localhost/c50k-lab/debian13", "private/1": "localhost/c50k-lab/debian13-golden"}

# What a virtual machine's root may do and the stack's services use; the kernel stays the machine's.
CAPABILITIES = "SYS_ADMIN,NET_ADMIN,NET_RAW,SYS_PTRACE,SYS_NICE,IPC_LOCK,AUDIT_WRITE,MKNOD,SYSLOG"
BOOT_TIMEOUT = 90.0  # seconds until systemd has finished booting
STOP_TIMEOUT = 20  # seconds a host has to shut down before its power is cut


class HostError(Exception):
    """A host did not do what it was asked; the text says which and why."""


@dataclass(frozen=True)
class Host:
    """What a host is made of: its image, its size, its addresses, the keys that may log in, and if cloud-init runs."""

    id: int
    label: str
    image: str
    vcpus: int
    memory_mib: int
    public_ipv4: str | None
    vpc: tuple[VpcAddress, ...]
    authorized_keys: tuple[str, ...]
    cloud_init: bool
    more_ipv4: tuple[str, ...] = ()  # public, beside the main one
    private_ipv4: str | None = None
    datacenter: int = 0  # private addresses are reached within one
    resized: bool = False  # since it was made

    @property
    def container(self) -> str:
        return f"c50k-{self.id}"

    @property
    def hostname(self) -> str:
        return self.label.replace("_", "-").lower()


class Hosts(Protocol):
    """What the API needs of the hosts behind its instances."""

    async def prepare(self, metadata: Metadata) -> None: ...
    async def create(self, host: Host) -> None: ...
    async def start(self, host: Host) -> None: ...
    async def stop(self, host: Host) -> None: ...
    async def lose_power(self, host: Host) -> None: ...
    async def delete(self, host: Host) -> None: ...
    async def delete_vpc(self, vpc_id: int) -> None: ...
    async def filter(self, rules: Mapping[str, str]) -> None: ...
    async def running(self) -> set[int]: ...
    async def counters(self, public: Collection[int]) -> Mapping[int, Counters]: ...
    async def cleanup(self) -> None: ...


class NoHosts:
    """Instances with nothing behind them: for work on the API alone."""

    def __init__(self) -> None:
        self._running: set[int] = set()

    async def prepare(self, metadata: Metadata) -> None:
        """Nothing to prepare."""

    async def create(self, host: Host) -> None:
        """Nothing to make."""

    async def start(self, host: Host) -> None:
        self._running.add(host.id)

    async def stop(self, host: Host) -> None:
        self._running.discard(host.id)

    async def lose_power(self, host: Host) -> None:
        self._running.discard(host.id)

    async def delete(self, host: Host) -> None:
        self._running.discard(host.id)

    async def delete_vpc(self, vpc_id: int) -> None:
        """Nothing to remove."""

    async def filter(self, rules: Mapping[str, str]) -> None:
        """No packet to filter."""

    async def running(self) -> set[int]:
        return set(self._running)

    async def counters(self, public: Collection[int]) -> Mapping[int, Counters]:
        return {}

    async def cleanup(self) -> None:
        self._running.clear()


class PodmanHosts:
    """Hosts as podman containers that run systemd."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.network = Network(state)
        self._wiring = self.network.wiring

    async def prepare(self, metadata: Metadata) -> None:
        """Make the network, and start what serves in it; that ends with this process, however it ends."""
        await self.network.up()
        self._metadata = metadata
        await self._serve_metadata()
        await self.network.add_service("clients", CLIENTS)
        namespace = await self.network.add_service("upstream", UPSTREAM)
        self._upstream = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "TERM", "ip", "netns", "exec", namespace),
            *(sys.executable, "-m", "lab.upstream", "--bind", f"{UPSTREAM}:80"),
            *("--control", str(self.state / "upstream.sock")),
            cwd=Path(__file__).parent.parent,
        )

    async def create(self, host: Host) -> None:
        """Make a host's network and its container; nothing runs yet. Raises HostError."""
        if host.image not in IMAGES:
            raise HostError(f"{host.label}: the lab has no image {host.image}; it has {', '.join(sorted(IMAGES))}")
        try:
            await self._wire(host)
            await podman(
                *("create", "--name", host.container, "--hostname", host.hostname),
                *("--label", f"{LABEL}={host.id}", "--log-driver", "none"),
                *("--systemd", "always", "--no-hosts", "--stop-timeout", str(STOP_TIMEOUT)),
                *("--network", f"ns:/run/netns/{host_namespace(host.id)}"),
                *(option for server in resolvers() for option in ("--dns", server)),
                *("--cap-add", CAPABILITIES, "--security-opt", "unmask=/proc/sys"),
                *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
                *("--cpus", str(host.vcpus), "--memory", f"{host.memory_mib}m", "--pids-limit", "0"),
                *("--shm-size", f"{host.memory_mib // 2}m"),
                *("--env", "LAB_AUTHORIZED_KEYS=" + "\n".join(host.authorized_keys)),
                *("--env", f"LAB_CLOUD_INIT={host.id if host.cloud_init else ''}"),
                IMAGES[host.image],
            )
        except CommandError as error:
            raise HostError(f"{host.label}: {error}") from error

    async def start(self, host: Host) -> None:
        """Boot a host and return when systemd is up. Raises HostError."""
        try:
            await self._wire(host)
            await podman("start", host.container)
            if host.resized:
                await self._resize(host)
            await self._booted(host)
        except CommandError as error:
            raise HostError(f"{host.label} did not boot: {error}") from error

    async def _wire(self, host: Host) -> None:
        """Give a host the network it is to have, with the routers it is the first to need; one that has it stays."""
        async with self._wiring:
            await self.network.add_host(
                *(host.id, host.public_ipv4, host.vpc),
                more_ipv4=host.more_ipv4,
                private_ipv4=host.private_ipv4,
                datacenter=host.datacenter,
            )
            await self._serve_metadata()

    async def _resize(self, host: Host) -> None:
        """Give a host that runs its cores and memory: podman keeps those it was made with, at each start."""
        await podman("update", "--cpus", str(host.vcpus), "--memory", f"{host.memory_mib}m", host.container)
        await podman("exec", host.container, "mount", "-o", f"remount,size={host.memory_mib // 2}m", "/dev/shm")

    async def _booted(self, host: Host) -> None:
        """Return when systemd is up, with a failed unit or without: what user data begins may go on for long."""
        deadline = time.monotonic() + BOOT_TIMEOUT
        state = "no answer"
        while state:
            if time.monotonic() > deadline:
                raise HostError(f"{host.label}: systemd was not up after {BOOT_TIMEOUT:.0f} s: {state}")
            await asyncio.sleep(0.5)
            try:  # asks for what is under way already, so that it waits for it
                await podman("exec", host.container, "systemctl", "--quiet", "start", "multi-user.target")
                state = ""
            except CommandError as error:
                state = str(error)

    async def stop(self, host: Host) -> None:
        """Shut a host down; its disk and its addresses stay. Raises HostError."""
        try:
            await podman("stop", "--ignore", host.container)
        except CommandError as error:
            raise HostError(f"{host.label}: {error}") from error

    async def lose_power(self, host: Host) -> None:
        """End a host in an instant, with no word to anybody; its next boot wires it anew. Raises HostError."""
        try:
            async with self._wiring:
                await self.network.unplug(host.id)
            await podman("kill", "--signal", "KILL", host.container)
        except CommandError as error:
            raise HostError(f"{host.label}: {error}") from error

    async def delete(self, host: Host) -> None:
        """Remove a host, running or not, with its network."""
        await podman("rm", "--force", "--time", "0", "--ignore", host.container)
        async with self._wiring:
            await self.network.remove_host(host.id)

    async def delete_vpc(self, vpc_id: int) -> None:
        """Remove the network of a VPC that no host is in any more."""
        async with self._wiring:
            await self.network.remove_vpc(vpc_id)
            await self._serve_metadata()

    async def _serve_metadata(self) -> None:
        """Have the metadata service on every router there is, and on no other."""
        found = await routers()
        await self._metadata.end(*self._metadata.served - found.keys())
        for vpc_id in found.keys() - self._metadata.served:
            self._metadata.serve(vpc_id, await metadata_socket(found[vpc_id]))

    async def filter(self, rules: Mapping[str, str]) -> None:
        """Let each router filter by its rules, and no other. Raises CommandError."""
        async with self._wiring:
            await self.network.filter(rules)

    async def running(self) -> set[int]:
        """Return the ids of the hosts that run."""
        lines = await podman("ps", "--filter", f"label={LABEL}", "--format", f'{{{{index .Labels "{LABEL}"}}}}')
        return {int(line) for line in lines.split()}

    async def counters(self, public: Collection[int]) -> Mapping[int, Counters]:
        """Return what each host that runs has used; ``public`` are the ids of those with a public address."""
        form = f'{{{{.Pid}}}} {{{{index .Labels "{LABEL}"}}}}'
        found = {}
        for line in (await podman("ps", "--filter", f"label={LABEL}", "--format", form)).splitlines():
            process, host_id = line.split()
            with contextlib.suppress(OSError, ValueError):  # it has ended since
                found[int(host_id)] = counters(Path("/proc", process), int(host_id) in public)
        return found

    async def cleanup(self) -> None:
        """Remove every host and all of the network, by label, whatever state is left."""
        names = (await podman("ps", "--all", "--quiet", "--filter", f"label={LABEL}")).split()
        if names:
            await podman("rm", "--force", "--time", "0", *names)
        await self.network.down()
