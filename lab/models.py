# SPDX-License-Identifier: GPL-3.0-or-later
"""The account's records, as they are kept: plain dataclasses of JSON values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

from lab.network import PRIVATE

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
    """A network interface of a Linode. ``addresses`` are IPv4: of the subnet (vpc), or public (public, new generation).

    A legacy public interface has none of its own: it carries the public addresses that its Linode lists.
    """

    id: int
    purpose: str  # public, vpc or vlan
    primary: bool = False  # legacy: has the default route
    addresses: list[str] = field(default_factory=list)
    primary_address: str | None = None
    nat_1_1: str | None = None  # public, for the primary address
    ranges: list[str] = field(default_factory=list)  # CIDRs of the subnet that are routed here
    vpc_id: int | None = None
    subnet_id: int | None = None
    ipv6_slaac: str | None = None  # a /64 of the subnet
    ipv6_ranges: list[str] = field(default_factory=list)
    ipv6_public: bool = False
    vlan_label: str | None = None
    ipam_address: str | None = None
    default_route: list[str] = field(default_factory=list)  # new generation: of ipv4, ipv6
    version: int = 1
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)

    @property
    def address(self) -> str | None:
        """Its main IPv4 address."""
        return self.primary_address or next(iter(self.addresses), None)


@dataclass
class Disk:
    """A part of a Linode's storage; ``size`` is in MB."""

    id: int
    label: str
    size: int
    filesystem: str
    image: str | None = None
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class Config:
    """A configuration profile: what a Linode boots, and its interfaces if they are of the legacy generation.

    ``devices`` maps a slot, such as sda, to ``{"disk_id": 7}`` or ``{"volume_id": 7}``.
    """

    id: int
    label: str
    kernel: str
    devices: dict[str, dict[str, int]]
    interfaces: list[Interface] = field(default_factory=list)
    root_device: str = "/dev/sda"
    comments: str = ""
    memory_limit: int = 0
    run_level: str = "default"
    virt_mode: str = "paravirt"
    initrd: int | None = None
    helpers: dict[str, bool] = field(default_factory=dict)
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)

    def __post_init__(self) -> None:
        self.interfaces = [Interface(**item) if isinstance(item, dict) else item for item in self.interfaces]


@dataclass
class Instance(Record):
    """A Linode. ``booted`` is the state its owner wants, ``tasks`` what is still to be done, the first under way.

    ``made`` says how far its host is (no, partly, yes), ``made_type`` of which type it was made.
    """

    label: str
    region: str
    type: str
    image: str | None
    interface_generation: str  # legacy_config or linode
    host_uuid: str
    booted: bool
    ipv4: list[str] = field(default_factory=list)  # public ones in their order, then private ones
    shared_ipv4: list[str] = field(default_factory=list)  # another Linode's, which this one may bring up
    linode_interfaces: list[Interface] = field(default_factory=list)  # new generation
    configs: list[Config] = field(default_factory=list)
    config_id: int | None = None  # the profile booted last
    disks: list[Disk] = field(default_factory=list)
    disk_encryption: str = "disabled"
    capabilities: list[str] = field(default_factory=list)
    status: str = "provisioning"
    tasks: list[str] = field(default_factory=list)
    target: Json = field(default_factory=dict)  # what the tasks lead to, by field: type, region
    event_id: int = 0
    made: str = "no"
    made_type: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    authorized_keys: list[str] = field(default_factory=list)
    user_data: str = field(default="", repr=False)  # base64; may hold secrets, so only its own host gets it
    watchdog_enabled: bool = True
    samples: list[list[float]] = field(default_factory=list)  # of its day; lab/statistics.py writes them
    network_helper: bool = True
    backups_enabled: bool = False
    placement_group: Json | None = None  # the group it is a member of, as the API shows it here
    backups_schedule: dict[str, str | None] = field(default_factory=lambda: {"day": None, "window": None})
    alerts: dict[str, int] = field(default_factory=dict)
    maintenance_policy: str = "linode/migrate"
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)

    def __post_init__(self) -> None:
        self.linode_interfaces = [Interface(**i) if isinstance(i, dict) else i for i in self.linode_interfaces]
        self.configs = [Config(**item) if isinstance(item, dict) else item for item in self.configs]
        self.disks = [Disk(**item) if isinstance(item, dict) else item for item in self.disks]

    @property
    def legacy(self) -> bool:
        return self.interface_generation == "legacy_config"

    @property
    def config(self) -> Config | None:
        """The profile that it boots with."""
        return next((item for item in self.configs if item.id == self.config_id), None)

    @property
    def interfaces(self) -> list[Interface]:
        """Those it boots with: its own, or in the legacy generation those of its profile."""
        if not self.legacy:
            return self.linode_interfaces
        return self.config.interfaces if self.config else []

    @property
    def all_interfaces(self) -> list[tuple[Config | None, Interface]]:
        """Those of every profile, and its own."""
        own: list[tuple[Config | None, Interface]] = [(None, item) for item in self.linode_interfaces]
        return own + [(config, item) for config in self.configs for item in config.interfaces]

    @property
    def vpc_interfaces(self) -> list[Interface]:
        return [item for item in self.interfaces if item.purpose == "vpc"]

    @property
    def public_ipv4(self) -> list[str]:
        return [address for address in self.ipv4 if IPv4Address(address) not in PRIVATE]

    @property
    def private_ipv4(self) -> list[str]:
        return [address for address in self.ipv4 if IPv4Address(address) in PRIVATE]

    @property
    def host_ipv4(self) -> list[str]:
        """The public addresses its host really has, its main one first: a listed one need not be on an interface."""
        if self.legacy and (not self.interfaces or any(item.purpose == "public" for item in self.interfaces)):
            return self.public_ipv4
        public = [item for item in self.interfaces if item.purpose == "public"]
        own = [address for item in public for address in (item.address, *item.addresses)]
        return list(dict.fromkeys(filter(None, (*own, *(item.nat_1_1 for item in self.interfaces)))))

    @property
    def reachable_ipv4(self) -> str | None:
        return next(iter(self.host_ipv4), None)

    @property
    def has_ipv6(self) -> bool:
        """Whether it has a public IPv6 address: a public interface brings it, and so does having no interface."""
        return self.legacy or not self.interfaces or any(item.purpose == "public" for item in self.interfaces)


@dataclass
class Vpc(Record):
    """A VPC; its subnets point to it."""

    label: str
    region: str
    description: str
    ranges: list[str]
    ipv6: list[str] = field(default_factory=list)
    vpc_type: str = "regular"  # or rdma
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class Subnet(Record):
    """A VPC's subnet; ``ipv4`` is a CIDR, ``ipv6`` a list of them."""

    vpc_id: int
    label: str
    ipv4: str
    ipv6: list[str] = field(default_factory=list)
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class Address(Record):
    """A public IPv4 address that is more than its Linode's: the account's own (reserved), or with a name (rdns)."""

    address: str
    region: str
    reserved: bool = False
    rdns: str | None = None
    tags: list[str] = field(default_factory=list)
    created: str = field(default_factory=now)


@dataclass
class Ipv6Range(Record):
    """An IPv6 range, a CIDR, routed to a Linode."""

    range: str
    region: str
    linode_id: int


@dataclass
class Vlan(Record):
    """A VLAN exists from its first interface until it is deleted."""

    label: str
    region: str
    created: str = field(default_factory=now)


@dataclass
class Volume(Record):
    """A volume of block storage, of ``size`` GB, attached to a Linode or to none."""

    label: str
    region: str
    size: int
    linode_id: int | None = None
    encryption: str = "disabled"
    tags: list[str] = field(default_factory=list)
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class Image(Record):
    """An image of the account's own, made from a disk; the API's id of it is ``private/ID``."""

    label: str
    description: str
    region: str
    size: int  # MB
    tags: list[str] = field(default_factory=list)
    cloud_init: bool = False
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class SshKey(Record):
    """A public key of the account's one user."""

    label: str
    ssh_key: str
    created: str = field(default_factory=now)


@dataclass
class AccountSettings(Record):
    """What holds for the whole account; there is one such record once something was changed."""

    backups_enabled: bool = False
    interfaces_for_new_linodes: str = "legacy_config_default_but_linode_allowed"
    maintenance_policy: str = "linode/migrate"
    network_helper: bool = True

    @property
    def generation(self) -> tuple[str, bool]:
        """The interface generation of a Linode that names none, and whether it is the only one."""
        default = "linode" if self.interfaces_for_new_linodes.startswith("linode") else "legacy_config"
        return default, self.interfaces_for_new_linodes.endswith("_only")


@dataclass
class Firewall(Record):
    """A Cloud Firewall; its devices point to it. ``versions`` has all rules it ever had: {"updated", "rules"} each."""

    label: str
    versions: list[Json]
    status: str = "enabled"
    tags: list[str] = field(default_factory=list)
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)

    @property
    def rules(self) -> Json:
        """The rules in force: inbound, inbound_policy, outbound, outbound_policy, version, fingerprint."""
        rules: Json = self.versions[-1]["rules"]
        return rules


@dataclass
class FirewallDevice(Record):
    """A firewall on something: ``type`` linode or linode_interface, of Linode ``linode_id``, or nodebalancer."""

    firewall_id: int
    type: str
    entity_id: int
    linode_id: int
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class DefaultFirewalls(Record):
    """The firewalls of what is made without naming one; there is at most one such record."""

    linode: int | None = None
    nodebalancer: int | None = None
    public_interface: int | None = None
    vpc_interface: int | None = None


@dataclass
class PlacementGroup(Record):
    """Linodes that are to run on different physical hosts; they say themselves that they are members."""

    label: str
    region: str
    placement_group_type: str
    placement_group_policy: str


@dataclass
class Tag(Record):
    """A tag exists from its first use until it is deleted."""

    label: str


@dataclass
class Event(Record):
    """Something that happened or happens: scheduled, started, finished, failed, or a mere notification.

    Times in seconds since 1970.
    """

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


@dataclass
class NodeBalancer(Record):
    """A NodeBalancer. ``private_ipv4`` is what nodes with private addresses see; traffic is in bytes."""

    label: str
    region: str
    type: str  # common or premium
    ipv4: str
    private_ipv4: str
    backend_connectivity: str  # legacy, vpc, ipv6; undefined until the first node
    client_conn_throttle: int = 0
    client_udp_sess_throttle: int = 0
    tags: list[str] = field(default_factory=list)
    month: str = ""  # the month that traffic_in and traffic_out are of; empty until something was counted
    traffic_in: int = 0
    traffic_out: int = 0
    samples: list[list[float]] = field(default_factory=list)  # [ms since 1970, connections, bits in, bits out]/s
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class NodeBalancerVpc(Record):
    """The addresses a NodeBalancer reaches the nodes of a subnet from; ``ipv4_range`` is a /30."""

    nodebalancer_id: int
    vpc_id: int
    subnet_id: int
    ipv4_range: str


@dataclass
class NodeBalancerConfig(Record):
    """A port of a NodeBalancer. Times in seconds; ``ssl_cert`` and ``ssl_key`` are PEM."""

    nodebalancer_id: int
    port: int = 80
    protocol: str = "http"
    algorithm: str = "roundrobin"
    stickiness: str = "none"
    check: str = "none"
    check_interval: int = 31
    check_timeout: int = 30
    check_attempts: int = 3
    check_path: str = ""
    check_body: str = ""
    check_passive: bool = True
    proxy_protocol: str = "none"
    cipher_suite: str = "recommended"
    udp_check_port: int = 80
    ssl_cert: str | None = None
    ssl_key: str | None = None


@dataclass
class NodeBalancerNode(Record):
    """A backend of a config; ``address`` is IP:PORT, ``vpc_config_id`` the NodeBalancerVpc it is reached by."""

    nodebalancer_id: int
    config_id: int
    label: str
    address: str
    weight: int = 100
    mode: str = "accept"
    vpc_config_id: int | None = None
