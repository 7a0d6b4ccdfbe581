# SPDX-License-Identifier: GPL-3.0-or-later
"""The account's records, as they are kept: plain dataclasses of JSON values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def now() -> str:
    """Return the time as the API writes it: UTC, seconds, no zone."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")


@dataclass
class Record:
    """Anything with an id; ids are unique over all kinds, so a mixed-up id never finds something by chance."""

    id: int


@dataclass
class Interface:
    """A network interface of a Linode. ``address`` is public or in the VPC subnet; ``nat_1_1`` is public."""

    id: int
    purpose: str  # public or vpc
    primary: bool
    address: str | None = None
    nat_1_1: str | None = None
    vpc_id: int | None = None
    subnet_id: int | None = None


@dataclass
class Instance(Record):
    """A Linode. ``made`` says how far its host is: no, partly, yes. ``booted`` is the state its owner wants."""

    label: str
    region: str
    type: str
    image: str | None
    interface_generation: str
    config_id: int | None
    host_uuid: str
    interfaces: list[Interface]
    ipv4: list[str]
    ipv6: str | None
    booted: bool
    status: str = "provisioning"
    made: str = "no"
    event_id: int = 0
    group: str = ""
    tags: list[str] = field(default_factory=list)
    authorized_keys: list[str] = field(default_factory=list)
    user_data: str = field(default="", repr=False)  # base64; may hold secrets, so only its own host gets it
    watchdog_enabled: bool = True
    backups_enabled: bool = False
    alerts: dict[str, int] = field(default_factory=dict)
    maintenance_policy: str = "linode/migrate"
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)

    def __post_init__(self) -> None:
        self.interfaces = [Interface(**item) if isinstance(item, dict) else item for item in self.interfaces]

    @property
    def reachable_ipv4(self) -> str | None:
        """The public address its host really has: a listed one need not be on an interface."""
        if self.interface_generation == "legacy_config" and not self.interfaces:
            return self.ipv4[0]
        own = (item.address if item.purpose == "public" else item.nat_1_1 for item in self.interfaces)
        return next(filter(None, own), None)

    @property
    def vpc_interfaces(self) -> list[Interface]:
        return [item for item in self.interfaces if item.purpose == "vpc"]


@dataclass
class Vpc(Record):
    """A VPC; its subnets point to it."""

    label: str
    region: str
    description: str
    ranges: list[str]
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class Subnet(Record):
    """A VPC's subnet; ``ipv4`` is a CIDR."""

    vpc_id: int
    label: str
    ipv4: str
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class Tag(Record):
    """A tag exists from its first use until it is deleted."""

    label: str


@dataclass
class Event(Record):
    """Something that happened, or happens: scheduled, started, finished or failed. Times in seconds since 1970."""

    action: str
    entity: Json
    secondary_entity: Json | None = None
    status: str = "scheduled"
    message: str = ""
    seen: bool = False
    started: float | None = None
    ended: float | None = None
    created: str = field(default_factory=now)


@dataclass
class Domain(Record):
    """A zone of the account's DNS: master or slave. Times in seconds, 0 for the default."""

    domain: str
    type: str
    soa_email: str = ""
    description: str = ""
    group: str = ""
    status: str = "active"
    ttl_sec: int = 0
    retry_sec: int = 0
    refresh_sec: int = 0
    expire_sec: int = 0
    master_ips: list[str] = field(default_factory=list)
    axfr_ips: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


@dataclass
class DomainRecord(Record):
    """A record of a domain; an empty ``name`` is the domain itself."""

    domain_id: int
    type: str
    name: str = ""
    target: str = ""
    priority: int = 0
    weight: int = 0
    port: int = 0
    service: str | None = None
    protocol: str | None = None
    tag: str | None = None
    ttl_sec: int = 0
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)
