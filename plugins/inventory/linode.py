# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: linode
short_description: Hosts from a Linode account
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - Reads the instances of one or several Linode accounts, with their VPC addresses, in one API call per 500 instances
    and one per 500 VPC addresses, the two lists side by side.
  - Each tag of an instance becomes a group, with characters that a group name cannot have replaced by C(_).
  - An instance without the address that O(connect_with) asks for is left out with a warning. An API that fails, fails
    the inventory; set C(any_unparsed_is_failed) in C(ansible.cfg) to make that stop the command.
  - Its configuration is a YAML file whose name ends in C(linode.yml) or C(linode.yaml).
  - Hosts are in the order of their labels, with numbers by value.
  - What the API says is never evaluated as a template.
requirements:
  - linode_api4 >= 5.48
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: Marks the file as a configuration of this plugin.
    type: str
    required: true
    choices: [c50k.stack.linode]
  api_token:
    description: The personal access token; it may be a template. It has to be allowed to read Linodes and VPCs.
    type: str
    env:
      - name: LINODE_TOKEN
  api_url:
    description: Where the Linode API v4 is, with its version; it may be a template.
    type: str
    default: https://api.linode.com/v4
    env:
      - name: LINODE_API_URL
  api_timeout:
    description: Seconds to wait for each answer of the API.
    type: int
    default: 30
  ca_path:
    description: A file of certificate authorities to trust instead of the system's.
    type: path
    env:
      - name: LINODE_CA
  accounts:
    description:
      - Several accounts to read, in the place of O(api_token). The account's O(accounts[].name) is in
        C(linode_account). Two hosts of one name do not merge; set O(hostname) to a template with C(linode_account) if
        labels repeat.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What C(linode_account) says.
        type: str
        required: true
      api_token:
        description: As O(api_token).
        type: str
        required: true
      api_url:
        description: As O(api_url), which is the default.
        type: str
  regions:
    description: Only instances in one of these regions.
    type: list
    elements: str
    default: []
  types:
    description: Only instances of one of these types.
    type: list
    elements: str
    default: []
  images:
    description: Only instances deployed from one of these images, such as V(linode/debian13).
    type: list
    elements: str
    default: []
  tags:
    description: Only instances that have all of these tags.
    type: list
    elements: str
    default: []
  exclude_tags:
    description: Only instances that have none of these tags.
    type: list
    elements: str
    default: []
  status:
    description:
      - Only instances with one of these statuses, such as V(running).
      - By default, all of them. A host that is booting is then waited for, or reported as unreachable, not overlooked.
    type: list
    elements: str
    default: []
  connect_with:
    description:
      - Where C(ansible_host) comes from.
      - V(public), the first public IPv4 address. A Linode of the legacy configuration has one in the API even if none
        of its interfaces is public; use V(vpc) for those.
      - V(vpc), the IPv4 address in the VPC, see O(vpc).
      - V(private), the address in 192.168.128.0/17.
      - V(ipv6), the public IPv6 address.
      - V(label), the label, for those who have names for their hosts in DNS.
    type: str
    default: public
    choices: [public, vpc, private, ipv6, label]
  vpc:
    description:
      - The label of the VPC whose addresses are read; only those are then asked for. Needed for instances that are in
        several.
    type: str
  group:
    description: A group that every host of this inventory is in.
    type: str
  require_hosts:
    description:
      - Fail if no instance is found, where an empty inventory would let a playbook end well with nothing done.
      - Leave it off where the playbook makes the first instances.
    type: bool
    default: false
  hostname:
    description: A template for the name of the host, from the host variables below. By default, the label.
    type: str
  hostvars_prefix:
    description: What the names of host variables begin with.
    type: str
    default: linode_
  hostvars_suffix:
    description: What the names of host variables end with.
    type: str
    default: ""
notes:
  - Host variables are C(linode_id), C(linode_label), C(linode_status), C(linode_region), C(linode_type),
    C(linode_image), C(linode_tags), C(linode_specs) (with C(vcpus), C(memory) in MiB, and others),
    C(linode_placement_group), C(linode_interface_generation) and, with O(accounts), C(linode_account).
  - Addresses are in C(linode_ipv4) (public), C(linode_private_ipv4), C(linode_ipv6), C(linode_vpc_ipv4) and
    C(linode_vpc_ips) (a list of all VPC addresses read, with C(vpc_id), C(subnet_id), C(address) and C(nat_1_1)).
  - A variable that the API has no value for is not set.
"""

EXAMPLES = r"""
# inventories/linode/linode.yml; the token is in the environment variable LINODE_TOKEN
plugin: c50k.stack.linode

---
# One fleet, by its tag: connect from outside, tell the hosts of each other by their VPC addresses.
plugin: c50k.stack.linode
api_token: "{{ lookup('ansible.builtin.file', '~/.config/linode-token') }}"
tags: [demo]
connect_with: public
compose:
  stack_address: linode_vpc_ipv4

---
# From a bastion inside the VPC, with a cache, and groups such as region_de_fra_2.
plugin: c50k.stack.linode
connect_with: vpc
vpc: demo
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: .cache/inventory
keyed_groups:
  - key: linode_region
    prefix: region

---
# Two accounts in one inventory, with a group for each; hosts that another tool looks after stay out.
plugin: c50k.stack.linode
accounts:
  - name: production
    api_token: "{{ lookup('ansible.builtin.file', '~/.config/linode-production') }}"
  - name: staging
    api_token: "{{ lookup('ansible.builtin.file', '~/.config/linode-staging') }}"
exclude_tags: [unmanaged]
hostname: "{{ linode_account }}-{{ linode_label }}"
keyed_groups:
  - key: linode_account
"""

import hashlib
import ipaddress
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.inventory.group import to_safe_group_name
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.vars import combine_vars
from ansible_collections.c50k.stack.plugins.module_utils.linode import (
    IMPORT_ERROR,
    LinodeApi,
    LinodeError,
    instance_filter,
)

PRIVATE = ipaddress.ip_network("192.168.128.0/17")
AS_THEY_ARE = (
    "id",
    "label",
    "status",
    "region",
    "type",
    "image",
    "tags",
    "specs",
    "placement_group",
    "interface_generation",
)
VPC_IP = ("vpc_id", "subnet_id", "address", "nat_1_1")
UNNAMED = ""


# By the account's name, the lists ``instances`` and ``vpc_ips``.
Accounts = dict[str, dict[str, list[dict[str, Any]]]]


class NoAddress(ValueError):
    """The instance has no address of the kind that was asked for."""


def build_host(
    instance: Mapping[str, Any], vpc_ips: Sequence[Mapping[str, Any]], connect_with: str, vpc: str | None
) -> dict[str, Any]:
    """The variables of one host, without prefix.

    :param instance: the API's instance.
    :param vpc_ips: its rows of ``/vpcs/ips``, or of ``/vpcs/ID/ips`` for the VPC that was asked for.
    :param connect_with: as the option.
    :param vpc: as the option.
    :raises NoAddress: saying what it does have.
    """
    addresses = instance.get("ipv4") or []
    vpcs = sorted({row["vpc_id"] for row in vpc_ips})
    chosen = vpc_ips[0] if len(vpcs) == 1 else {}
    host = {name: instance.get(name) for name in AS_THEY_ARE}
    host["ipv4"] = next((a for a in addresses if ipaddress.ip_address(a) not in PRIVATE), None)
    host["private_ipv4"] = next((a for a in addresses if ipaddress.ip_address(a) in PRIVATE), None)
    host["ipv6"] = (instance.get("ipv6") or "").partition("/")[0]
    host["vpc_ipv4"] = chosen.get("address")
    host["vpc_ips"] = [{name: row.get(name) for name in VPC_IP} for row in vpc_ips]
    found = {
        "public": host["ipv4"],
        "vpc": host["vpc_ipv4"],
        "private": host["private_ipv4"],
        "ipv6": host["ipv6"],
        "label": host["label"],
    }
    if not found[connect_with]:
        if connect_with == "vpc" and len(vpcs) > 1:
            raise NoAddress(f"it is in several VPCs ({', '.join(map(str, vpcs))}): set vpc to the label of one")
        wanted = f"address in VPC {vpc}" if connect_with == "vpc" and vpc else f"{connect_with} address"
        has = ", ".join(f"{kind} {address}" for kind, address in found.items() if address)
        raise NoAddress(f"it has no {wanted}, only {has}; see connect_with")
    host["ansible_host"] = found[connect_with]
    return {name: value for name, value in host.items() if value not in (None, "")}


def natural(instance: Mapping[str, Any]) -> list[Any]:
    """Sorts by label, with numbers by value."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"([0-9]+)", instance["label"]))]


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "c50k.stack.linode"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(("linode.yml", "linode.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        if IMPORT_ERROR:
            raise AnsibleParserError(f"{self.NAME} needs the Python package linode_api4: pip install linode_api4")
        self._read_config_data(path)
        self.templar.available_variables = self._vars
        try:
            accounts = self._read(path, cache)
        except LinodeError as error:
            raise AnsibleParserError(f"{self.NAME} cannot read the account: {error}") from None
        self._populate(accounts)
        if self.get_option("require_hosts") and not self._names:
            raise AnsibleParserError(f"{self.NAME} found no host, and {path} has require_hosts.")

    def _read(self, path: str, cache: bool) -> Accounts:
        """What the API says, or said when it was cached."""
        default_url = self.get_option("api_url")
        asked = self.get_option("accounts") or [{"name": UNNAMED, "api_token": self.get_option("api_token")}]
        accounts = [
            (item["name"], *map(self.templar.template, (item["api_token"], item.get("api_url") or default_url)))
            for item in asked
        ]
        filters = instance_filter(self.get_option("tags"), self.get_option("regions"))
        if not self.get_option("cache"):
            return self._fetch(accounts, filters)
        # Another account, API or filter is another entry, though the file is the same.
        wanted = json.dumps([accounts, filters, self.get_option("vpc")])
        key = f"{self.get_cache_key(path)}_{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
        if not cache or key not in self._cache:
            self._cache[key] = self._fetch(accounts, filters)
        return self._cache[key]

    def _fetch(self, accounts: Sequence[tuple[str, str | None, str]], filters: dict[str, Any] | None) -> Accounts:
        """The two lists of each account, all of them side by side."""
        apis = [
            LinodeApi(token, url, self.get_option("api_timeout"), self.get_option("ca_path"))
            for _name, token, url in accounts
        ]
        with ThreadPoolExecutor(2 * len(apis)) as pool:
            lists = [
                (pool.submit(api.rows, "/linode/instances", filters), pool.submit(self._vpc_ips, api)) for api in apis
            ]
            return {
                name: {"instances": instances.result(), "vpc_ips": vpc_ips.result()}
                for (name, _token, _url), (instances, vpc_ips) in zip(accounts, lists, strict=True)
            }

    def _vpc_ips(self, api: LinodeApi) -> list[dict[str, Any]]:
        vpc = self.get_option("vpc")
        if not vpc:
            return api.rows("/vpcs/ips")
        return [row for found in api.rows("/vpcs", {"label": vpc}) for row in api.rows(f"/vpcs/{found['id']}/ips")]

    def _populate(self, accounts: Accounts) -> None:
        self._names: set[str] = set()
        if self.get_option("group"):
            self.inventory.add_group(to_safe_group_name(self.get_option("group"), force=True, silent=True))
        for name, lists in accounts.items():
            vpc_ips = defaultdict(list)
            # Active interfaces first: a legacy Linode may have several configurations, of which one is booted.
            for row in sorted(lists["vpc_ips"], key=lambda row: not row.get("active")):
                if row.get("address") and row.get("linode_id"):
                    vpc_ips[row["linode_id"]].append(row)
            for instance in sorted(filter(self._wanted, lists["instances"]), key=natural):
                try:
                    host = build_host(
                        instance, vpc_ips[instance["id"]], self.get_option("connect_with"), self.get_option("vpc")
                    )
                except NoAddress as reason:
                    self.display.warning(f"Linode {instance['label']} is left out of the inventory: {reason}.")
                    continue
                self._add({**host, "account": name} if name else host)

    def _wanted(self, instance: dict[str, Any]) -> bool:
        option = self.get_option
        return all(
            not option(plural) or instance[name] in option(plural)
            for plural, name in (("types", "type"), ("images", "image"), ("status", "status"))
        ) and not set(option("exclude_tags")).intersection(instance["tags"])

    def _add(self, host: dict[str, Any]) -> None:
        prefix, suffix = self.get_option("hostvars_prefix"), self.get_option("hostvars_suffix")
        hostvars = {
            name if name == "ansible_host" else f"{prefix}{name}{suffix}": value for name, value in host.items()
        }
        name = host["label"]
        if self.get_option("hostname"):
            self.templar.available_variables = combine_vars(hostvars, self._vars)
            name = str(self.templar.template(self.get_option("hostname")))
        if name in self._names:
            self.display.warning(f"Linode {host['label']} is left out: another one has its hostname {name} already.")
            return
        self._names.add(name)
        self.inventory.add_host(name)
        for key, value in hostvars.items():
            self.inventory.set_variable(name, key, value)
        for tag in [*host["tags"], *filter(None, [self.get_option("group")])]:
            group = self.inventory.add_group(to_safe_group_name(tag, force=True, silent=True))
            # Not add_child, which takes a host for the group of the same name.
            self.inventory.add_host(name, group)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), self.inventory.get_host(name).get_vars(), name, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), {}, name, strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), {}, name, strict)
