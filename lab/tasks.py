# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be under way on a Linode, by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Something to be done for a Linode: the action of its event, and the status that the Linode has meanwhile."""

    action: str
    status: str


TASKS = {
    "create": Task("linode_create", "provisioning"),
    "boot": Task("linode_boot", "booting"),
    "boot_after_crash": Task("lassie_reboot", "booting"),
    "boot_after_restart": Task("host_reboot", "booting"),
    "reboot": Task("linode_reboot", "rebooting"),
    "shutdown": Task("linode_shutdown", "shutting_down"),
    "rebuild": Task("linode_rebuild", "rebuilding"),
    "resize": Task("linode_resize", "resizing"),
    # a warm one is prepared while the Linode runs, and ends with a reboot
    "prepare_resize": Task("linode_resize_warm_create", "running"),
    "resize_and_boot": Task("linode_resize", "rebooting"),
    "migrate": Task("linode_migrate_datacenter", "offline"),
}
