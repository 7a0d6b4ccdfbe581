#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity_facts
short_description: Tell what a systemd service on this host can really use
version_added: 1.0.0
description:
  - Reads how many cores, how much memory and how many open files a service started by systemd gets.
  - The host's cgroup limits (version 1, 2, or both at once) count, so the answer is right in a container as well as on
    a virtual machine.
author:
  - c50k.stack contributors (@c50k)
options:
  sysctls:
    description:
      - Kernel settings to look at, such as V(net.core.somaxconn).
      - Those that exist and can be set here without touching another machine are returned in C(sysctl_writable).
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.facts
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  facts:
    support: full
  platform:
    platforms: linux
"""

EXAMPLES = r"""
- name: Read what the host can do
  c50k.stack.capacity_facts:
    sysctls:
      - net.core.somaxconn
      - vm.overcommit_memory

- name: Show it
  ansible.builtin.debug:
    var: ansible_facts['capacity']
"""

RETURN = r"""
ansible_facts:
  description: Facts about the host's limits.
  returned: always
  type: dict
  contains:
    capacity:
      description: What a service started by systemd can use.
      returned: always
      type: dict
      contains:
        cores:
          description: Cores, the smallest of the CPUs that may be used and the cgroup's quota.
          returned: always
          type: float
          sample: 2.0
        memory_bytes:
          description: Bytes of memory, the smaller of the machine's and the cgroup's.
          returned: always
          type: int
          sample: 2147483648
        open_files:
          description: Files one process can hold open, the highest C(LimitNOFILE) that systemd can grant.
          returned: always
          type: int
          sample: 1048576
        sysctl_writable:
          description: Those of O(sysctls) that can be set on this host, in the same order.
          returned: always
          type: list
          elements: str
          sample: [net.core.somaxconn]
"""

import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

CAP_SYS_RESOURCE = 24  # linux/capability.h: may raise its own hard limits


def cpu_set(text: str) -> set[int]:
    """The CPUs of a kernel list such as ``0-3,8``."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _dash, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def field(text: str, name: str) -> str:
    """The value of the line ``name: value`` in a file such as /proc/PID/status; ValueError without one."""
    match = re.search(rf"^{re.escape(name)}:\s*(.*)$", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"no line '{name}:'")
    return match.group(1)


def cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of PID 1's cgroup, from its own up to the top one seen from here, that may limit *controller*.

    Both versions are followed: a hybrid host has the controllers on version 1 and an empty version 2 beside them.
    """
    paths = {}
    for line in (root / "proc/1/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        paths.update({name: path for name in controllers.split(",")})
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        mount, _dash, source = line.partition(" - ")
        mounted, point = mount.split()[3:5]
        kind, _device, options = source.split()[:3]
        if kind == "cgroup2":
            own = paths.get("")
        else:
            own = paths.get(controller) if kind == "cgroup" and controller in options.split(",") else None
        if own is None:
            continue
        top = root / point.lstrip("/")
        # Without a cgroup namespace both paths are the machine's; with one they are relative to it.
        inside = Path(own).relative_to(mounted if Path(own).is_relative_to(mounted) else "/")
        yield from (top / folder for folder in (inside, *inside.parents))


def numbers(file: Path) -> list[float]:
    """The words of a small file as numbers, ``max`` as infinity; an empty list when there is no such file."""
    try:
        return [math.inf if word == "max" else int(word) for word in file.read_text().split()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_cores(root: Path) -> float:
    """Cores a service gets: CPUs online that PID 1 may use, or the tightest cgroup quota if that is less."""
    allowed = cpu_set(field((root / "proc/1/status").read_text(), "Cpus_allowed_list"))
    cores = float(len(allowed & cpu_set((root / "sys/devices/system/cpu/online").read_text())))
    for folder in cgroup_folders(root, "cpu"):
        limit = numbers(folder / "cpu.max")
        limit = limit or numbers(folder / "cpu.cfs_quota_us") + numbers(folder / "cpu.cfs_period_us")
        if len(limit) == 2 and limit[0] > 0:  # version 1 says -1 for "no quota"
            cores = min(cores, limit[0] / limit[1])
    return round(cores, 2)


def read_memory(root: Path) -> int:
    """Bytes of memory: MemTotal, or the tightest cgroup limit if that is less."""
    memory = int(field((root / "proc/meminfo").read_text(), "MemTotal").split()[0]) * 1024
    for folder in cgroup_folders(root, "memory"):
        memory = int(min([memory, *numbers(folder / "memory.max"), *numbers(folder / "memory.limit_in_bytes")]))
    return memory


def read_open_files(root: Path) -> int:
    """Files one service process can open: fs.nr_open where systemd may raise limits, else systemd's own hard limit."""
    nr_open = int((root / "proc/sys/fs/nr_open").read_text())
    capabilities = int(field((root / "proc/1/status").read_text(), "CapEff"), 16)
    if capabilities >> CAP_SYS_RESOURCE & 1:
        return nr_open
    match = re.search(r"^Max open files\s+\S+\s+(\S+)", (root / "proc/1/limits").read_text(), re.MULTILINE)
    if match is None or match.group(1) == "unlimited":
        return nr_open
    return min(nr_open, int(match.group(1)))


def writable_sysctls(root: Path, names: Iterable[str]) -> list[str]:
    """Those of *names* that can be set here for this host alone.

    A container shares every setting outside ``net`` with its machine, so none of these counts there, writable or not.
    """
    container = (root / "run/systemd/container").exists()
    found = []
    for name in names:
        # As in sysctl(8): dots separate, unless the first separator is a slash.
        slashes = "/" in name and not 0 <= name.find(".") < name.find("/")
        path = name if slashes else name.translate(str.maketrans("./", "/."))
        if container and not path.startswith("net/"):
            continue
        if os.access(root / "proc/sys" / path, os.W_OK):
            found.append(name)
    return found


def read_capacity(root: Path, sysctls: Iterable[str] = ()) -> dict[str, object]:
    """The facts of the host whose files lie under *root*; OSError or ValueError where these are not as known."""
    return {
        "cores": read_cores(root),
        "memory_bytes": read_memory(root),
        "open_files": read_open_files(root),
        "sysctl_writable": writable_sysctls(root, sysctls),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={"sysctls": {"type": "list", "elements": "str", "default": []}}, supports_check_mode=True
    )
    try:
        capacity = read_capacity(Path("/"), module.params["sysctls"])
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"Cannot read this host's limits: {error}. It needs Linux with /proc and /sys mounted.")
    module.exit_json(ansible_facts={"capacity": capacity})


if __name__ == "__main__":
    main()
