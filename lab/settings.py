# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be set on the lab, and where its files are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.state_dir import state_dir


class SettingError(Exception):
    """A setting has a value that is not allowed; the text names it and says what is."""


@dataclass(frozen=True)
class Limit:
    """So many requests in so many seconds."""

    requests: int
    seconds: int


# What Linode allows one token: creating Linodes, listing images, any other listing, everything else.
LINODE_LIMITS: Mapping[str, Limit] = {
    "create": Limit(20, 15),
    "images": Limit(20, 60),
    "list": Limit(200, 60),
    "other": Limit(1600, 60),
}


@dataclass(frozen=True)
class Settings:
    """The lab's settings; ``from_environment`` reads those that a user may set."""

    state: Path = field(default_factory=state_dir)
    hosts: bool = True
    port: int = 4500
    limits: Mapping[str, Limit] = field(default_factory=lambda: LINODE_LIMITS)
    watchdog_interval: float = 5.0  # seconds; each look costs one `podman ps`
    statistics_interval: float = 300.0  # seconds between two samples of the statistics

    @classmethod
    def from_environment(cls, hosts: bool = True) -> Settings:
        """Read C50K_LAB_STATE, C50K_LAB_PORT and C50K_LAB_LIMITS. Raises SettingError."""
        port = os.environ.get("C50K_LAB_PORT", "4500")
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise SettingError(f"C50K_LAB_PORT is {port!r}; it must be a port, 1 to 65535.")
        return cls(hosts=hosts, port=int(port), limits=parse_limits(os.environ.get("C50K_LAB_LIMITS", "")))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_file(self) -> Path:
        return self.state / "token"

    @property
    def database(self) -> Path:
        return self.state / "state.sqlite"

    @property
    def pid_file(self) -> Path:
        return self.state / "api.pid"

    @property
    def log_file(self) -> Path:
        return self.state / "api.log"

    @property
    def upstream_socket(self) -> Path:
        return self.state / "upstream.sock"


def parse_limits(text: str) -> Mapping[str, Limit]:
    """Return Linode's limits changed by ``text``, such as ``create=20/15,list=200/60``; ``none`` lifts them all."""
    if text == "none":
        return {}
    limits = dict(LINODE_LIMITS)
    for item in filter(None, text.split(",")):
        match = re.fullmatch(r"(\w+)=([1-9]\d*)/([1-9]\d*)", item.strip())
        if match is None or match[1] not in limits:
            raise SettingError(
                f"C50K_LAB_LIMITS has {item!r}; it takes NAME=REQUESTS/SECONDS, comma between, "
                f"NAME being one of {', '.join(limits)}; or `none` alone."
            )
        limits[match[1]] = Limit(int(match[2]), int(match[3]))
    return limits
