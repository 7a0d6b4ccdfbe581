# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of an account, for tests of what works on records alone."""

from __future__ import annotations

from lab.models import Config, Instance, Interface


def linode(number: int, *interfaces: Interface, generation: str = "legacy_config") -> Instance:
    """Return a Linode of these interfaces, which of the legacy generation are in its profile."""
    found = Instance(number, f"linode{number}", "de-fra-2", "g6-nanode-1", None, generation, "", True)
    if found.legacy:
        found.configs, found.config_id = [Config(number, "profile", "", {}, list(interfaces))], number
    else:
        found.linode_interfaces = list(interfaces)
    return found
