#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: linode_firewalls
short_description: Cloud Firewalls of a Linode account, all of a fleet at once
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - Makes those firewalls that are missing, and gives each of the others the rules and tags that are asked for. One that
    was disabled is enabled.
  - A firewall is known by its label. One that has the label without all of O(firewalls[].tags) is a stranger's. The
    module then fails, and changes nothing.
  - It attaches nothing. Instances get their firewall with M(c50k.stack.linode_instances), a NodeBalancer with
    M(c50k.stack.linode_nodebalancer); to delete a firewall leaves what it was attached to open.
extends_documentation_fragment: c50k.stack.linode
options:
  firewalls:
    description: The firewalls. What the account has besides is not looked after.
    type: list
    elements: dict
    required: true
    suboptions:
      label:
        description: The label, unique in the account, 3 to 32 characters.
        type: str
        required: true
      tags:
        description: Tags by which the firewall is recognised as yours, at least one. Others that it has, stay.
        type: list
        elements: str
        required: true
      rules:
        description: All the rules that the firewall has. Required when O(state=present).
        type: dict
        suboptions:
          inbound:
            description: Rules for packets to what is behind the firewall; the first that matches, decides.
            type: list
            elements: dict
            default: []
            suboptions: &rule
              label:
                description: What the rule is for.
                type: str
                required: true
              description:
                description: More of that.
                type: str
                default: ""
              action:
                description: What happens to a packet that matches.
                type: str
                choices: [ACCEPT, DROP]
                default: ACCEPT
              protocol:
                description: The protocol.
                type: str
                choices: [TCP, UDP, ICMP, IPENCAP]
                default: TCP
              ports:
                description: Ports such as V(443) or V(22, 8000-8010), of V(TCP) and V(UDP). If not set, all.
                type: str
              addresses:
                description: Networks on the other side.
                type: dict
                required: true
                suboptions:
                  ipv4:
                    description: IPv4 networks.
                    type: list
                    elements: str
                    default: []
                  ipv6:
                    description: IPv6 networks.
                    type: list
                    elements: str
                    default: []
          inbound_policy:
            description: What happens to all other packets.
            type: str
            choices: [ACCEPT, DROP]
            default: DROP
          outbound:
            description: Rules for packets from what is behind the firewall.
            type: list
            elements: dict
            default: []
            suboptions: *rule
          outbound_policy:
            description: What happens to all other packets.
            type: str
            choices: [ACCEPT, DROP]
            default: ACCEPT
  state:
    description: V(absent) deletes the firewalls. Of each, only label and tags are looked at.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: c50k.stack.linode_instances
  - module: c50k.stack.linode_nodebalancer
"""

EXAMPLES = r"""
- name: Let the world ask for pages, and us log in
  c50k.stack.linode_firewalls:
    firewalls:
      - label: demo-load_balancer
        tags: [demo, load_balancer]
        rules:
          inbound:
            - label: http
              ports: "80"
              addresses: {ipv4: [0.0.0.0/0], ipv6: ["::/0"]}
            - label: ssh
              ports: "22"
              addresses: {ipv4: [192.0.2.7/32]}
"""

RETURN = r"""
created:
  description: Labels of the firewalls that were made; in check mode, that would be.
  returned: always
  type: list
  elements: str
  sample: [demo-load_balancer]
updated:
  description: Labels of the firewalls that got other rules, tags or their status back.
  returned: always
  type: list
  elements: str
  sample: []
deleted:
  description: Labels of the firewalls that were deleted.
  returned: always
  type: list
  elements: str
  sample: []
"""

import ipaddress
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.c50k.stack.plugins.module_utils.linode import (
    ARGUMENT_SPEC,
    LinodeApi,
    LinodeError,
    Row,
    client,
    stranger,
)

PATH = "/networking/firewalls"
LABEL = re.compile(r"(?!.*(--|__|\.\.))[A-Za-z][A-Za-z0-9_.-]{1,30}[A-Za-z0-9]")
PORTS = re.compile(r"[0-9]+(-[0-9]+)?(, ?[0-9]+(-[0-9]+)?)*")
MAX_RULES = 25


def check(firewalls: list[Row], state: str) -> list[str]:
    """What is wrong with the option itself, before the API is asked."""
    wrong, labels = [], set()
    for number, want in enumerate(firewalls):
        option, label = f"firewalls[{number}]", want["label"]
        if not LABEL.fullmatch(label):
            wrong.append(
                f"{option}.label is {label!r}: allowed are 3 to 32 letters, digits and - _ . , the first a letter, the"
                " last a letter or digit, no -- __ or .. inside."
            )
        if label in labels:
            wrong.append(f"{option}.label is {label}, which is there twice.")
        labels.add(label)
        if not want["tags"]:
            wrong.append(f"{option}.tags of {label} is empty: at least one is needed to tell whose the firewall is.")
        if state == "present":
            wrong += check_rules(f"{option}.rules of {label}", want["rules"])
    return wrong


def check_rules(option: str, rules: Row | None) -> list[str]:
    if rules is None:
        return [f"{option} is not set: a firewall needs its rules."]
    wrong = []
    if len(rules["inbound"]) + len(rules["outbound"]) > MAX_RULES:
        wrong.append(f"{option} has {len(rules['inbound']) + len(rules['outbound'])} rules: {MAX_RULES} are allowed.")
    for rule in rules["inbound"] + rules["outbound"]:
        where = f"{option} has {rule['label']!r}, whose"
        if rule["ports"] is not None and not (rule["protocol"] in ("TCP", "UDP") and PORTS.fullmatch(rule["ports"])):
            wrong.append(f"{where} ports are {rule['ports']!r}: allowed are such as '22, 8000-8010', for TCP and UDP.")
        networks = rule["addresses"]["ipv4"] + rule["addresses"]["ipv6"]
        if not networks:
            wrong.append(f"{where} addresses are empty: it would match nothing.")
        for version in (4, 6):
            for text in rule["addresses"][f"ipv{version}"]:
                try:
                    right = ipaddress.ip_network(text).version == version
                except ValueError:
                    right = False
                if not right:
                    wrong.append(f"{where} addresses.ipv{version} have {text!r}: it is no IPv{version} network.")
    return wrong


def canonical(rules: Row) -> Row:
    """Rules in the shape in which they are compared: no version, nothing unset, each address once."""

    def one(rule: Row) -> Row:
        addresses = rule.get("addresses") or {}
        return {
            **{name: rule.get(name) or "" for name in ("label", "description", "action", "protocol")},
            "ports": (rule.get("ports") or "").replace(" ", ""),
            "addresses": sorted({text for name in ("ipv4", "ipv6") for text in addresses.get(name) or []}),
        }

    return {
        way: [one(rule) for rule in rules.get(way) or []] if way.endswith("bound") else rules[way]
        for way in ("inbound", "inbound_policy", "outbound", "outbound_policy")
    }


def body(rules: Row) -> Row:
    """Rules as they are sent: without what is not set."""

    def one(rule: Row) -> Row:
        addresses = {name: networks for name, networks in rule["addresses"].items() if networks}
        return {**{name: value for name, value in rule.items() if value not in (None, "")}, "addresses": addresses}

    return {way: [one(rule) for rule in value] if isinstance(value, list) else value for way, value in rules.items()}


def view(firewalls: list[Row]) -> Row:
    """Firewalls in the shape in which they are compared for the diff."""
    return {
        row["label"]: {"tags": sorted(row["tags"]), "status": row["status"], "rules": canonical(row["rules"])}
        for row in firewalls
    }


def present(api: LinodeApi, firewalls: list[Row], existing: dict[str, Row], check_mode: bool, result: Row) -> None:
    """Make the account match; result always says what is done so far."""
    before = view([existing[want["label"]] for want in firewalls if want["label"] in existing])
    wanted = []
    for want in firewalls:
        tags = {*want["tags"], *existing.get(want["label"], want)["tags"]}
        wanted.append({**want, "tags": sorted(tags), "status": "enabled"})
    after = view(wanted)
    result["diff"] = {"before": before, "after": after}
    for want in wanted:
        label, have = want["label"], existing.get(want["label"])
        if have is None:
            if not check_mode:
                new = {"label": label, "tags": want["tags"], "rules": body(want["rules"])}
                api.create(PATH, new, lambda label=label: find(api, [label]).get(label))
            result["created"].append(label)
        elif before[label] != after[label]:
            if not check_mode:
                update(api, have["id"], want, before[label], after[label])
            result["updated"].append(label)


def update(api: LinodeApi, number: int, want: Row, before: Row, after: Row) -> None:
    if before["rules"] != after["rules"]:
        api.put(f"{PATH}/{number}/rules", body(want["rules"]))
    changed = {name: want[name] for name in ("tags", "status") if before[name] != after[name]}
    if changed:
        api.put(f"{PATH}/{number}", changed)


def absent(api: LinodeApi, firewalls: list[Row], existing: dict[str, Row], check_mode: bool, result: Row) -> None:
    going = [existing[want["label"]] for want in firewalls if want["label"] in existing]
    result["diff"] = {"before": view(going), "after": {}}
    for have in going:
        if not check_mode:
            api.delete(f"{PATH}/{have['id']}")
        result["deleted"].append(have["label"])


def find(api: LinodeApi, labels: list[str]) -> dict[str, Row]:
    return {row["label"]: row for row in api.rows(PATH) if row["label"] in labels}


def main() -> None:
    texts = {"type": "list", "elements": "str"}
    policy = {"type": "str", "choices": ["ACCEPT", "DROP"]}
    rules = {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "label": {"type": "str", "required": True},
            "description": {"type": "str", "default": ""},
            "action": {**policy, "default": "ACCEPT"},
            "protocol": {"type": "str", "choices": ["TCP", "UDP", "ICMP", "IPENCAP"], "default": "TCP"},
            "ports": {"type": "str"},
            "addresses": {
                "type": "dict",
                "required": True,
                "options": {"ipv4": {**texts, "default": []}, "ipv6": {**texts, "default": []}},
            },
        },
    }
    module = AnsibleModule(
        argument_spec={
            **ARGUMENT_SPEC,
            "firewalls": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "label": {"type": "str", "required": True},
                    "tags": {**texts, "required": True},
                    "rules": {
                        "type": "dict",
                        "options": {
                            "inbound": rules,
                            "inbound_policy": {**policy, "default": "DROP"},
                            "outbound": rules,
                            "outbound_policy": {**policy, "default": "ACCEPT"},
                        },
                    },
                },
            },
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    api = client(module)
    firewalls, state = module.params["firewalls"], module.params["state"]
    result: Row = {"created": [], "updated": [], "deleted": []}
    try:
        wrong = check(firewalls, state)
        existing = {} if wrong else find(api, [want["label"] for want in firewalls])
        wrong += [
            f"{reason}. Nothing was changed."
            for want in firewalls
            if want["label"] in existing
            if (reason := stranger("firewall", existing[want["label"]], want["tags"]))
        ]
        if wrong:
            raise LinodeError(" ".join(wrong))
        ensure = present if state == "present" else absent
        ensure(api, firewalls, existing, module.check_mode, result)
    except LinodeError as error:
        module.fail_json(
            msg=str(error), changed=any(result[name] for name in ("created", "updated", "deleted")), **result
        )
    module.exit_json(changed=any(result[name] for name in ("created", "updated", "deleted")), **result)


if __name__ == "__main__":
    main()
