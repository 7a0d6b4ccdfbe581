#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: linode_instances
short_description: Instances of a Linode account, all of a fleet at once
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - Makes those instances that are missing, side by side within the API's rate limit, boots those that are down, and
    waits until all of them run.
  - An instance is known by its label. One that has the label without all of O(instances[].owner_tags) is a stranger's.
    The module then fails, and changes nothing.
  - Region, type, image and VPC address of an existing instance are compared, never changed. Where they differ, the
    module fails, names all differences, and changes nothing.
  - After an interrupted run, the next one completes what is missing.
  - An instance whose interfaces lack O(instances[].firewall) gets it; one that lacks O(instances[].backups) is backed
    up from then on.
  - New instances have the interface generation C(linode), with a public interface and, by O(instances[].vpc), one in a
    VPC.
extends_documentation_fragment: c50k.stack.linode
options:
  instances:
    description: The instances. What the account has besides is not looked after.
    type: list
    elements: dict
    required: true
    suboptions:
      label:
        description: The label, unique in the account.
        type: str
        required: true
      tags:
        description: Tags that the instance has to have, at least one. Others that it has, stay.
        type: list
        elements: str
        required: true
      owner_tags:
        description: Those of O(instances[].tags) by which an instance is recognised as yours. By default, all of them.
        type: list
        elements: str
      region:
        description: The region, such as V(de-fra-2). Required when O(state=present).
        type: str
      type:
        description: The type, such as V(g6-dedicated-4). Required when O(state=present).
        type: str
      image:
        description: The image to deploy, such as V(linode/debian13). Required when O(state=present).
        type: str
      authorized_keys:
        description: Public SSH keys for root of a new instance, at least one. Required when O(state=present).
        type: list
        elements: str
      vpc:
        description: The label of a VPC to be in, see M(c50k.stack.linode_vpc).
        type: str
      subnet:
        description: The label of the subnet. By default, the same as O(instances[].vpc).
        type: str
      vpc_address:
        description: The IPv4 address in the subnet. By default, Linode chooses one.
        type: str
      firewall:
        description: The label of the Cloud Firewall of all its interfaces, see M(c50k.stack.linode_firewalls).
        type: str
      placement_group:
        description: The label of the placement group of a new instance, see M(c50k.stack.linode_placement_groups).
        type: str
      backups:
        description: Whether it is backed up. Backups that there are, are never ended, as that deletes them.
        type: bool
        default: false
      user_data:
        description:
          - What cloud-init is to do on the first boot of a new instance, such as a cloud-config or a script. Plain text
            of at most 16384 bytes. The image needs the capability C(cloud-init).
          - Linode never tells it again, so that of an existing instance is neither compared nor changed.
          - On the instance itself, whatever runs there can ask the metadata service for it.
        type: str
  state:
    description:
      - V(stopped) shuts the instances down and waits until they are off, so that none of them can do harm.
      - V(absent) deletes them, with their disks.
      - For both, only label and tags of each are looked at.
    type: str
    choices: [present, stopped, absent]
    default: present
  timeout:
    description: Seconds to wait, after the last instance is made, until all of them run, or until all are off.
    type: int
    default: 600
seealso:
  - module: c50k.stack.linode_vpc
  - module: c50k.stack.linode_firewalls
  - module: c50k.stack.linode_placement_groups
  - plugin: c50k.stack.linode
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Two app hosts
  c50k.stack.linode_instances:
    instances:
      - label: demo-app_server-1
        tags: [demo, app_server]
        region: de-fra-2
        type: g6-dedicated-4
        image: linode/debian13
        authorized_keys: ["{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"]
        vpc: demo
        vpc_address: 10.0.2.10
        firewall: demo-app_server
      - label: demo-app_server-2
        tags: [demo, app_server]
        region: de-fra-2
        type: g6-dedicated-4
        image: linode/debian13
        authorized_keys: ["{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"]
        vpc: demo
        vpc_address: 10.0.2.11
        firewall: demo-app_server
        user_data: |
          #cloud-config
          packages: [tcpdump]

- name: One of them is not needed any more
  c50k.stack.linode_instances:
    instances:
      - label: demo-app_server-2
        tags: [demo, app_server]
    state: absent
"""

RETURN = r"""
created:
  description: Labels of the instances that were made; in check mode, that would be.
  returned: always
  type: list
  elements: str
  sample: [demo-app_server-2]
tagged:
  description: Labels of the instances that got a tag they lacked.
  returned: always
  type: list
  elements: str
  sample: []
booted:
  description: Labels of the instances that were down and are booted.
  returned: always
  type: list
  elements: str
  sample: []
protected:
  description: Labels of the instances whose interfaces got their firewall.
  returned: always
  type: list
  elements: str
  sample: []
backed_up:
  description: Labels of the instances that are backed up from now on.
  returned: always
  type: list
  elements: str
  sample: []
stopped:
  description: Labels of the instances that were shut down.
  returned: always
  type: list
  elements: str
  sample: []
deleted:
  description: Labels of the instances that were deleted.
  returned: always
  type: list
  elements: str
  sample: []
instances:
  description: The instances as the API has them now, in the order of O(instances), without those that do not exist.
  returned: success
  type: list
  elements: dict
  sample:
    - id: 12345
      label: demo-app_server-1
      status: running
      region: de-fra-2
      type: g6-dedicated-4
      image: linode/debian13
      tags: [app_server, demo]
      ipv4: [192.0.2.10]
      ipv6: 2001:db8::10/128
"""

import base64
import ipaddress
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.c50k.stack.plugins.module_utils.linode import (
    ARGUMENT_SPEC,
    CREATE_RATE,
    LinodeApi,
    LinodeError,
    RateLimit,
    Row,
    client,
    instance_filter,
    stranger,
    suggest,
)

PATH = "/linode/instances"
WORKERS = 10
POLL_INTERVAL = 2.0
BOOT_AGAIN = 15.0
DOWN = ("offline", "stopped")
LABEL = re.compile(r"(?!.*(--|__|\.\.))[A-Za-z0-9][A-Za-z0-9_.-]{1,62}[A-Za-z0-9]")
TAG = re.compile(r"[A-Za-z0-9_.:/-]{3,50}")
FIXED = ("region", "type", "image")
CHANGES = ("created", "tagged", "booted", "protected", "backed_up", "stopped", "deleted")
MAX_USER_DATA = 16384
RETURNED = ("id", "label", "status", "region", "type", "image", "tags", "ipv4", "ipv6")


class NotBegun(Exception):
    """An instance was not asked for, as another one could not be made."""


@dataclass
class Account:
    """What the API says before anything is changed.

    :ivar instances: label to instance, for the whole account.
    :ivar vpcs: label to VPC.
    :ivar vpc_ips: rows of ``/vpcs/ips`` that are an instance's IPv4 address.
    :ivar firewalls: label to Cloud Firewall.
    :ivar placement_groups: label to placement group.
    """

    instances: dict[str, Row]
    vpcs: dict[str, Row] = field(default_factory=dict)
    vpc_ips: list[Row] = field(default_factory=list)
    firewalls: dict[str, Row] = field(default_factory=dict)
    placement_groups: dict[str, Row] = field(default_factory=dict)


def check(instances: list[Row], state: str) -> list[str]:
    """What is wrong with the option itself, before the API is asked."""
    wrong = []
    labels, addresses = set(), set()
    for number, want in enumerate(instances):
        option, label = f"instances[{number}]", want["label"]
        if not LABEL.fullmatch(label):
            wrong.append(
                f"{option}.label is {label!r}: allowed are 3 to 64 letters, digits and - _ . , the first and last a"
                " letter or digit, no -- __ or .. inside."
            )
        if label in labels:
            wrong.append(f"{option}.label is {label}, which is there twice.")
        labels.add(label)
        if not want["tags"]:
            wrong.append(f"{option}.tags of {label} is empty: at least one is needed to tell whose the instance is.")
        for tag in want["tags"]:
            if not TAG.fullmatch(tag):
                wrong.append(f"{option}.tags of {label} has {tag!r}: allowed are 3 to 50 letters, digits and - _ . : /")
        if want["owner_tags"] is not None and not set() < set(want["owner_tags"]) <= set(want["tags"]):
            wrong.append(f"{option}.owner_tags of {label} is {want['owner_tags']}: allowed are some of its tags.")
        if state != "present":
            continue
        for name in (*FIXED, "authorized_keys"):
            if not want[name]:
                wrong.append(f"{option}.{name} of {label} is not set, and is needed to make the instance.")
        size = len((want["user_data"] or "").encode())
        if size > MAX_USER_DATA:
            wrong.append(
                f"{option}.user_data of {label} has {size} bytes: allowed are {MAX_USER_DATA}. Have it fetch the rest."
            )
        if want["vpc_address"]:
            try:
                address = (want["vpc"], str(ipaddress.IPv4Address(want["vpc_address"])))
            except ValueError:
                wrong.append(f"{option}.vpc_address of {label} is {want['vpc_address']!r}: an IPv4 address is needed.")
                continue
            if not want["vpc"]:
                wrong.append(f"{option}.vpc_address of {label} is {want['vpc_address']}, but its vpc is not set.")
            if address in addresses:
                wrong.append(f"{option}.vpc_address of {label} is {want['vpc_address']}, which is there twice.")
            addresses.add(address)
    return wrong


def owner_tags(want: Row) -> list[str]:
    return want["tags"] if want["owner_tags"] is None else want["owner_tags"]


def foreign(want: Row, have: Row) -> str | None:
    return stranger("instance", have, owner_tags(want))


def pairs(instances: list[Row], account: Account) -> list[tuple[Row, Row]]:
    """The wanted instances that exist, each with what exists."""
    return [(want, account.instances[want["label"]]) for want in instances if want["label"] in account.instances]


def differences(instances: list[Row], account: Account) -> list[str]:
    """Where an existing instance is another than the wanted one in what this module never changes."""
    found = []
    for want, have in pairs(instances, account):
        if reason := foreign(want, have):
            found.append(reason)
            continue
        for name in FIXED:
            # An instance whose image was deleted since has none.
            if have[name] not in (want[name], None):
                found.append(f"{name} of {want['label']} is {have[name]}, wanted is {want[name]}")
        if not want["vpc"]:
            continue
        vpc_id = account.vpcs.get(want["vpc"], {}).get("id")
        addresses = [
            row["address"] for row in account.vpc_ips if (row["linode_id"], row["vpc_id"]) == (have["id"], vpc_id)
        ]
        if not addresses and have["status"] == "running":
            found.append(f"{want['label']} has no address in VPC {want['vpc']}")
        if addresses and want["vpc_address"] and want["vpc_address"] not in addresses:
            found.append(f"vpc_address of {want['label']} is {', '.join(addresses)}, wanted is {want['vpc_address']}")
    return found


def unavailable(api: LinodeApi, instances: list[Row]) -> list[str]:
    """Regions, types and images that the API does not have, and types that it does not have in the region."""
    wrong = []
    for name, path in (("region", "/regions"), ("type", "/linode/types"), ("image", "/images")):
        allowed = [row["id"] for row in api.rows(path)]
        for value, labels in wanted_by(instances, name):
            if value not in allowed:
                wrong.append(f"{name} of {labels} is {value}, which the API does not have: {suggest(value, allowed)}.")
    for region in sorted({want["region"] for want in instances} if not wrong else ()):
        rows = api.rows("/regions/availability", {"region": region})
        sold_out = {row["plan"] for row in rows if row["region"] == region and not row["available"]}
        for value, labels in wanted_by([want for want in instances if want["region"] == region], "type"):
            if value in sold_out:
                wrong.append(f"type of {labels} is {value}, which region {region} does not have at the moment.")
    return wrong


def unmade(instances: list[Row], account: Account) -> list[str]:
    """Firewalls and placement groups that have to be made first."""
    return [
        f"{name} of {labels} is {value}, which the account does not have: make it first."
        for name, known in (("firewall", account.firewalls), ("placement_group", account.placement_groups))
        for value, labels in wanted_by(instances, name)
        if value not in known
    ]


def wanted_by(instances: list[Row], name: str) -> list[tuple[str, str]]:
    """Each value that instances have for an option, with their labels."""
    values = sorted({want[name] for want in instances if want[name]})
    return [(value, ", ".join(want["label"] for want in instances if want[name] == value)) for value in values]


def find_subnets(api: LinodeApi, instances: list[Row], account: Account, check_mode: bool) -> dict[str, Row]:
    """Label of each instance to the subnet it is to be in.

    In check mode, a VPC or subnet that is still to be made is not missed.

    :raises LinodeError: naming the VPC, subnet or address that does not do.
    """
    inside = [want for want in instances if want["vpc"]]
    subnets: dict[str, dict[str, Row]] = {}
    found = {}
    for want in inside:
        label, vpc = want["label"], account.vpcs.get(want["vpc"])
        if vpc is None:
            if check_mode:
                continue
            raise LinodeError(f"vpc of {label} is {want['vpc']}, which the account does not have: make it first.")
        if vpc["region"] != want["region"]:
            raise LinodeError(
                f"region of {label} is {want['region']}, but its VPC {want['vpc']} is in {vpc['region']}: both have to"
                " be in the same."
            )
        if want["vpc"] not in subnets:
            subnets[want["vpc"]] = {row["label"]: row for row in api.rows(f"/vpcs/{vpc['id']}/subnets")}
        name = want["subnet"] or want["vpc"]
        subnet = subnets[want["vpc"]].get(name)
        if subnet is None:
            if check_mode:
                continue
            raise LinodeError(
                f"subnet of {label} is {name}, which VPC {want['vpc']} does not have:"
                f" {suggest(name, subnets[want['vpc']]) or 'it has none'}."
            )
        check_address(want, subnet, account)
        found[label] = subnet
    return found


def check_address(want: Row, subnet: Row, account: Account) -> None:
    if not want["vpc_address"]:
        return
    option = f"vpc_address of {want['label']} is {want['vpc_address']}"
    network, address = ipaddress.IPv4Network(subnet["ipv4"]), ipaddress.IPv4Address(want["vpc_address"])
    # The first one is the gateway's.
    if address not in network or address in (network[0], network[1], network[-1]):
        raise LinodeError(
            f"{option}: allowed in subnet {subnet['label']} ({network}) is {network[2]} to {network[-2]}."
        )
    for row in account.vpc_ips:
        if row["subnet_id"] == subnet["id"] and row["address"] == want["vpc_address"]:
            names = {have["id"]: name for name, have in account.instances.items()}
            raise LinodeError(f"{option}, which {names.get(row['linode_id'], row['linode_id'])} has already.")


def request_body(want: Row, subnet: Row | None, account: Account) -> Row:
    """What is posted to make the instance."""
    firewall = {"firewall_id": account.firewalls[want["firewall"]]["id"]} if want["firewall"] else {}
    group = account.placement_groups[want["placement_group"]]["id"] if want["placement_group"] else None
    interfaces: list[Row] = [{"public": {}, **firewall}]
    if subnet:
        address = {"address": want["vpc_address"] or "auto", "primary": True}
        interfaces.append({"vpc": {"subnet_id": subnet["id"], "ipv4": {"addresses": [address]}}, **firewall})
    user_data = base64.b64encode((want["user_data"] or "").encode()).decode()
    return {
        **({"placement_group": {"id": group}} if group else {}),
        **({"backups_enabled": True} if want["backups"] else {}),
        **{name: want[name] for name in ("label", *FIXED, "tags")},
        "authorized_keys": [key.strip() for key in want["authorized_keys"]],
        "booted": True,
        "interface_generation": "linode",
        "interfaces": interfaces,
        **({"metadata": {"user_data": user_data}} if user_data else {}),
    }


def create_all(
    api: LinodeApi, wanted: list[Row], subnets: dict[str, Row], account: Account
) -> tuple[list[str], list[str]]:
    """Make the instances side by side; return the labels of those made, and what went wrong with the others.

    After the first failure, no further one is begun: what stops one (a limit of the account) mostly stops all.
    """
    limit, failed = RateLimit(*CREATE_RATE), threading.Event()

    def before() -> None:
        limit.wait()
        if failed.is_set():
            raise NotBegun

    def find(want: Row) -> Row | None:
        rows = api.rows(PATH, {"label": want["label"]})
        have = next((row for row in rows if row["label"] == want["label"]), None)
        if have and (reason := foreign(want, have)):
            raise LinodeError(reason)
        return have

    def create(want: Row) -> str | None:
        """None if it is made, else what went wrong; empty if it was not begun."""
        try:
            body = request_body(want, subnets.get(want["label"]), account)
            api.create(PATH, body, lambda: find(want), before)
        except NotBegun:
            return ""
        except LinodeError as error:
            failed.set()
            return f"{want['label']}: {error}"
        return None

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        outcomes = list(pool.map(create, wanted))
    made = [want["label"] for want, outcome in zip(wanted, outcomes, strict=True) if outcome is None]
    return made, [outcome for outcome in outcomes if outcome]


def wait_until_running(
    api: LinodeApi, wanted: list[Row], timeout: float, booted: list[str], log: Callable[[str], None]
) -> dict[str, Row]:
    """Wait for all at once with one listing per POLL_INTERVAL, booting those that are down.

    :param booted: gets the labels of those that are booted.
    :return: label to running instance.
    :raises LinodeError: after timeout seconds, naming those that do not run and why.
    """
    common = set.intersection(*(set(owner_tags(want)) for want in wanted))
    labels = [want["label"] for want in wanted]
    deadline = time.monotonic() + timeout
    asked: dict[str, float] = {}
    refused: dict[str, str] = {}
    running = 0
    while True:
        now = {row["label"]: row for row in api.rows(PATH, instance_filter(sorted(common)))}
        laggards = [label for label in labels if now.get(label, {}).get("status") != "running"]
        if not laggards:
            return {label: now[label] for label in labels}
        if len(labels) - len(laggards) > running:
            running = len(labels) - len(laggards)
            log(f"{running} of {len(labels)} instances run")
        if time.monotonic() > deadline:
            states = [
                f"{label} is {now[label]['status'] if label in now else 'gone'}{refused.get(label, '')}"
                for label in laggards
            ]
            raise LinodeError(
                f"Not all instances run after {timeout:g} s (timeout): {'; '.join(states)}. Nothing is undone: the next"
                " run waits for them again. Look at them in the Cloud Manager if they stay so."
            )
        for label in laggards:
            if label not in now or now[label]["status"] not in DOWN or asked.get(label, 0) > time.monotonic():
                continue
            try:
                api.post(f"{PATH}/{now[label]['id']}/boot", {})
            except LinodeError as error:
                refused[label] = f" ({error})"
                if error.status == 400:  # busy
                    continue
                if not error.passing:
                    raise
            asked[label] = time.monotonic() + BOOT_AGAIN
            if label not in booted:
                booted.append(label)
        time.sleep(POLL_INTERVAL)


def view(instances: Iterable[Row]) -> Row:
    """Instances in the shape in which they are compared for the diff."""
    names = (*FIXED, "tags", "status")
    return {row["label"]: {**{name: row[name] for name in names}, "tags": sorted(row["tags"])} for row in instances}


def read_account(api: LinodeApi, instances: list[Row]) -> Account:
    account = Account({row["label"]: row for row in api.rows(PATH)})
    if any(want["vpc"] for want in instances):
        account.vpcs = {row["label"]: row for row in api.rows("/vpcs")}
        account.vpc_ips = [row for row in api.rows("/vpcs/ips") if row.get("address") and row.get("linode_id")]
    if any(want["firewall"] for want in instances):
        account.firewalls = {row["label"]: row for row in api.rows("/networking/firewalls")}
    if any(want["placement_group"] for want in instances):
        account.placement_groups = {row["label"]: row for row in api.rows("/placement/groups")}
    return account


def unprotected(existing: list[tuple[Row, Row]], account: Account) -> list[tuple[Row, Row]]:
    """Those of the existing instances that have an interface without their firewall."""
    found = []
    for want, have in existing:
        entities = account.firewalls.get(want["firewall"] or "", {}).get("entities", [])
        covered = [item for item in entities if have["id"] in (item["id"], (item.get("parent_entity") or {}).get("id"))]
        if want["firewall"] and not any(item["type"] == "linode" for item in covered):
            if len(covered) < (2 if want["vpc"] else 1):
                found.append((want, have))
    return found


def protect(api: LinodeApi, want: Row, have: Row, firewall: Row) -> None:
    """Put the firewall before the instance, or before those of its interfaces that lack it."""
    kind, numbers = "linode", [have["id"]]
    if have.get("interface_generation") == "linode":
        rows = api.get(f"{PATH}/{have['id']}/interfaces")["interfaces"]
        kind, numbers = "linode_interface", [row["id"] for row in rows if not row.get("vlan")]
    covered = {item["id"] for item in firewall["entities"] if item["type"] == kind}
    for number in numbers:
        if number not in covered:
            api.post(f"/networking/firewalls/{firewall['id']}/devices", {"type": kind, "id": number})


def present(module: AnsibleModule, api: LinodeApi, instances: list[Row], result: Row) -> None:
    """Make the account match; result always says what is done so far."""
    account = read_account(api, instances)
    wrong = differences(instances, account)
    if wrong:
        raise LinodeError(
            f"{'; '.join(wrong)}. Nothing was changed. No instance is rebuilt, resized or moved: set the option back,"
            " or delete the instance first."
        )
    missing = [want for want in instances if want["label"] not in account.instances]
    wrong = unavailable(api, missing) if missing else []
    wrong += [] if module.check_mode else unmade(instances, account)
    if wrong:
        raise LinodeError(" ".join(wrong))
    subnets = find_subnets(api, missing, account, module.check_mode)

    existing = pairs(instances, account)
    tags = {have["id"]: sorted({*have["tags"], *want["tags"]}) for want, have in existing if not has_tags(want, have)}
    down = [have["label"] for _want, have in existing if have["status"] in DOWN]
    after = [
        {
            **have,
            "tags": tags.get(have["id"], have["tags"]),
            "status": "running" if have["label"] in down else have["status"],
        }
        for _want, have in existing
    ]
    created = [want["label"] for want in missing]
    tagged = [have["label"] for _want, have in existing if have["id"] in tags]
    open_ones = unprotected(existing, account)
    to_back_up = [have for want, have in existing if want["backups"] and not have["backups"]["enabled"]]
    result["diff"] = {
        "before": view(have for _want, have in existing),
        "after": view([*after, *({**want, "status": "running"} for want in missing)]),
    }
    if module.check_mode:
        result.update(created=created, tagged=tagged, booted=down)
        result["protected"] = [have["label"] for _want, have in open_ones]
        result["backed_up"] = [have["label"] for have in to_back_up]
        result["instances"] = [shorten(have) for _want, have in existing]
        return

    for number, names in tags.items():
        api.put(f"{PATH}/{number}", {"tags": names})
    result["tagged"] = tagged
    for want, have in open_ones:
        protect(api, want, have, account.firewalls[want["firewall"]])
        result["protected"].append(have["label"])
    for have in to_back_up:
        api.post(f"{PATH}/{have['id']}/backups/enable", {})
        result["backed_up"].append(have["label"])
    result["created"], wrong = create_all(api, missing, subnets, account)
    module.log(f"{len(result['created'])} of {len(missing)} instances made")
    if wrong:
        raise LinodeError(
            f"{len(missing) - len(result['created'])} of {len(missing)} instances were not made. {'; '.join(wrong)}."
            " The next run makes those that are missing."
        )
    running = {have["label"]: have for have in after}
    if missing or any(have["status"] != "running" for _want, have in existing):
        running = wait_until_running(api, instances, module.params["timeout"], result["booted"], module.log)
    result["instances"] = [shorten(running[want["label"]]) for want in instances]


def own(api: LinodeApi, instances: list[Row]) -> list[tuple[Row, Row]]:
    """Those that exist, each with what exists; LinodeError where one is a stranger's."""
    existing = pairs(instances, Account({row["label"]: row for row in api.rows(PATH)}))
    strangers = [reason for want, have in existing if (reason := foreign(want, have))]
    if strangers:
        raise LinodeError(f"{'; '.join(strangers)}. Nothing was changed.")
    return existing


def stopped(module: AnsibleModule, api: LinodeApi, instances: list[Row], result: Row) -> None:
    """Shut down those that are not off, and wait until they are; result always says what is done so far."""
    existing = own(api, instances)
    up = [have for _want, have in existing if have["status"] not in DOWN]
    off = [{**have, "status": "offline"} for _want, have in existing]
    result["diff"] = {"before": view(have for _want, have in existing), "after": view(off)}
    if module.check_mode:
        result["stopped"] = [have["label"] for have in up]
        return
    deadline = time.monotonic() + module.params["timeout"]
    while up:
        for have in up:
            if have["status"] != "running":
                continue
            try:
                api.post(f"{PATH}/{have['id']}/shutdown", {})
            except LinodeError as error:
                if error.status != 400 and not error.passing:  # 400 is busy
                    raise
        time.sleep(POLL_INTERVAL)
        now = {row["id"]: row for row in api.rows(PATH)}
        result["stopped"] += [have["label"] for have in up if now.get(have["id"], have)["status"] in DOWN]
        up = [now[have["id"]] for have in up if now.get(have["id"], {"status": "offline"})["status"] not in DOWN]
        if up and time.monotonic() > deadline:
            states = "; ".join(f"{have['label']} is {have['status']}" for have in up)
            raise LinodeError(f"Not all instances are off after {module.params['timeout']} s (timeout): {states}.")


def absent(module: AnsibleModule, api: LinodeApi, instances: list[Row], result: Row) -> None:
    """Delete those that exist; result always says what is done so far."""
    existing = own(api, instances)
    result["diff"] = {"before": view(have for _want, have in existing), "after": {}}

    def delete(have: Row) -> str | None:
        """None if it is deleted, else what went wrong."""
        try:
            if not module.check_mode:
                api.delete(f"{PATH}/{have['id']}")
        except LinodeError as error:
            return f"{have['label']}: {error}"
        return None

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        outcomes = list(pool.map(delete, (have for _want, have in existing)))
    labels = [have["label"] for _want, have in existing]
    result["deleted"] = [label for label, outcome in zip(labels, outcomes, strict=True) if outcome is None]
    wrong = [outcome for outcome in outcomes if outcome]
    if wrong:
        raise LinodeError(f"{len(wrong)} of {len(labels)} instances were not deleted. {'; '.join(wrong)}")


def has_tags(want: Row, have: Row) -> bool:
    return set(want["tags"]) <= set(have["tags"])


def shorten(instance: Row) -> Row:
    return {name: instance.get(name) for name in RETURNED}


def main() -> None:
    texts = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            **ARGUMENT_SPEC,
            "instances": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "label": {"type": "str", "required": True},
                    "tags": {**texts, "required": True},
                    "owner_tags": texts,
                    "region": {"type": "str"},
                    "type": {"type": "str"},
                    "image": {"type": "str"},
                    "authorized_keys": {**texts, "no_log": False},
                    "vpc": {"type": "str"},
                    "subnet": {"type": "str"},
                    "vpc_address": {"type": "str"},
                    "firewall": {"type": "str"},
                    "placement_group": {"type": "str"},
                    "backups": {"type": "bool", "default": False},
                    "user_data": {"type": "str", "no_log": True},
                },
            },
            "state": {"type": "str", "choices": ["present", "stopped", "absent"], "default": "present"},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    api = client(module)
    instances, state = module.params["instances"], module.params["state"]
    result: Row = {**{name: [] for name in CHANGES}, "instances": []}
    ensure = {"present": present, "stopped": stopped, "absent": absent}[state]
    try:
        wrong = check(instances, state)
        if wrong:
            raise LinodeError(" ".join(wrong))
        if instances:
            ensure(module, api, instances, result)
    except LinodeError as error:
        module.fail_json(msg=str(error), changed=has_changes(result), **result)
    module.exit_json(changed=has_changes(result), **result)


def has_changes(result: Row) -> bool:
    return any(result[name] for name in CHANGES)


if __name__ == "__main__":
    main()
