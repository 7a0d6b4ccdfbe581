# SPDX-License-Identifier: GPL-3.0-or-later
"""The golden image has what the roles install, so that a fleet on it installs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.images import GOLDEN_PACKAGES, HOST_PACKAGES

ROLES = Path(__file__).parents[2] / "roles"
INSTALLS = sorted(path for path in ROLES.glob("*/tasks/*.yml") if "c50k.stack.packages:" in path.read_text())


def packages(tasks: list[dict[str, Any]]) -> Iterator[str]:
    """The Debian packages that a role's tasks install; those of an expression are its quoted words."""
    for task in tasks:
        names = task.get("c50k.stack.packages", {}).get("name", [])
        for name in [names] if isinstance(names, str) else names:
            yield from re.findall(r"'([a-z0-9+.-]+)'", name) if "{{" in name else [name]


@pytest.mark.parametrize("install", INSTALLS, ids=lambda path: path.parts[-3])
def test_the_golden_image_has_what_the_role_installs(install: Path) -> None:
    wanted = set(packages(yaml.safe_load(install.read_text())))
    defaults = yaml.safe_load((install.parents[1] / "defaults/main.yml").read_text())
    wanted |= set(defaults.get(f"{install.parts[-3]}_packages", []))
    assert wanted <= {*GOLDEN_PACKAGES.split(), *HOST_PACKAGES.split(",")}


def test_the_roles_were_found() -> None:
    found = {name for install in INSTALLS for name in packages(yaml.safe_load(install.read_text()))}
    assert {"haproxy", "memcached", "nginx", "postgresql-17", "python3-cryptography", "redis-server"} <= found
