#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: linode_nodebalancer
short_description: A NodeBalancer of a Linode account, with its ports and the nodes behind them
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - Makes the NodeBalancer if it is missing, and brings its ports and nodes to what is asked for.
  - A NodeBalancer is known by its label. One that has the label without all of O(tags) is a stranger's. The module then
    fails, and changes nothing. A port is known by its number, a node by its label.
  - Region, type and network cannot be changed on Linode; where they differ, the module fails and changes nothing.
  - Ports and nodes that are not listed stay, so that an incomplete listing takes nothing out of service.
extends_documentation_fragment: c50k.stack.linode
options:
  label:
    description: The label, unique in the account, 3 to 32 characters.
    type: str
    required: true
  tags:
    description: Tags by which the NodeBalancer is recognised as yours, at least one. Others that it has, stay.
    type: list
    elements: str
    required: true
  region:
    description: The region, such as V(de-fra-2). It must have the capability C(NodeBalancers). Required when
      O(state=present).
    type: str
  type:
    description: V(common) holds 10,000 connections at once, V(premium) 100,000.
    type: str
    choices: [common, premium]
    default: common
  vpc:
    description: The label of the VPC that the nodes are in, see M(c50k.stack.linode_vpc). If not set, they are reached
      by their private addresses.
    type: str
  subnet:
    description: The label of the subnet. By default, the same as O(vpc).
    type: str
  vpc_range:
    description: The /30 in the subnet from which the NodeBalancer reaches its nodes. By default, Linode chooses one.
    type: str
  firewall:
    description: The label of the Cloud Firewall before it, see M(c50k.stack.linode_firewalls).
    type: str
  configs:
    description: The ports that it listens on.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      protocol:
        description: What is balanced, connections or HTTP requests.
        type: str
        choices: [tcp, http]
        default: tcp
      algorithm:
        description: Which node gets the next connection. If not set, it is left as it is.
        type: str
        choices: [roundrobin, leastconn, source]
      stickiness:
        description: How a client comes back to its node. If not set, it is left as it is.
        type: str
        choices: [none, table, http_cookie]
      proxy_protocol:
        description: The version of the PROXY header that tells a node the client's address. If not set, it is left.
        type: str
        choices: [none, v1, v2]
      check:
        description: How a node is checked. If not set, it is left as it is.
        type: str
        choices: [none, connection, http, http_body]
      check_path:
        description: What is asked for, with O(configs[].check=http) or V(http_body).
        type: str
      check_body:
        description: A text that the answer has to contain, with O(configs[].check=http_body).
        type: str
      check_interval:
        description: Seconds between two checks.
        type: int
      check_timeout:
        description: Seconds that a check may take.
        type: int
      check_attempts:
        description: Failed checks after which a node is taken out.
        type: int
      check_passive:
        description: Whether answers of the node, too, say how it is.
        type: bool
      nodes:
        description: What connections are passed on to.
        type: list
        elements: dict
        default: []
        suboptions:
          label:
            description: The label, unique among the nodes of the port.
            type: str
            required: true
          address:
            description: The node's address and port, such as V(10.0.1.10:80). Required unless it is to go.
            type: str
          weight:
            description: Its share, 1 to 255. If not set, it is left as it is.
            type: int
          mode:
            description: V(drain) keeps what is open and passes on nothing new; V(backup) serves when no other does.
            type: str
            choices: [accept, reject, backup, drain]
            default: accept
          state:
            description: V(absent) removes the node.
            type: str
            choices: [present, absent]
            default: present
  state:
    description: V(absent) deletes the NodeBalancer. Only label and tags are looked at.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: c50k.stack.linode_vpc
  - module: c50k.stack.linode_firewalls
"""

EXAMPLES = r"""
- name: One address before two load balancers, which learn the clients' addresses
  c50k.stack.linode_nodebalancer:
    label: demo
    tags: [demo, front]
    region: de-fra-2
    type: premium
    vpc: demo
    vpc_range: 10.0.0.252/30
    firewall: demo-front
    configs:
      - port: 80
        algorithm: leastconn
        proxy_protocol: v2
        check: connection
        nodes:
          - {label: demo-load_balancer-1, address: "10.0.1.10:80"}
          - {label: demo-load_balancer-2, address: "10.0.1.11:80"}
"""

RETURN = r"""
nodebalancer:
  description: The NodeBalancer as it is now; in check mode, as it was, and empty if there is none.
  returned: when state is present
  type: dict
  sample:
    id: 12345
    label: demo
    region: de-fra-2
    type: premium
    tags: [demo, front]
    ipv4: 192.0.2.20
    configs:
      - port: 80
        protocol: tcp
        nodes:
          - {label: demo-load_balancer-1, address: "10.0.1.10:80", mode: accept, status: UP}
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.c50k.stack.plugins.module_utils.linode import (
    ARGUMENT_SPEC,
    LinodeApi,
    LinodeError,
    Row,
    check_capability,
    client,
    ipv4_of,
    stranger,
    suggest,
)

PATH = "/nodebalancers"
LABEL = re.compile(r"(?!.*(--|__|\.\.))[A-Za-z0-9][A-Za-z0-9_.-]{1,30}[A-Za-z0-9]")
CONFIG = (
    *("protocol", "algorithm", "stickiness", "proxy_protocol", "check", "check_path", "check_body"),
    *("check_interval", "check_timeout", "check_attempts", "check_passive"),
)
NODE = ("address", "weight", "mode")


class Changes:
    """Collects what differs, for the diff, and does it unless only asked to tell."""

    def __init__(self, api: LinodeApi, check_mode: bool) -> None:
        self.before: Row = {}
        self.after: Row = {}
        self._api = api
        self._check_mode = check_mode

    def __call__(self, name: str, before: object, after: object, method: str, path: str, body: Row) -> None:
        self.before[name], self.after[name] = before, after
        if not self._check_mode:
            getattr(self._api, method)(path, *([body] if method != "delete" else []))


def check(options: Row) -> list[str]:
    """What is wrong with the options themselves, before the API is asked."""
    label, wrong = options["label"], []
    if not LABEL.fullmatch(label):
        wrong.append(
            f"label is {label!r}: allowed are 3 to 32 letters, digits and - _ . , the first and last a letter or digit."
        )
    if not options["tags"]:
        wrong.append("tags is empty: at least one is needed to tell whose the NodeBalancer is.")
    ports = [config["port"] for config in options["configs"]]
    wrong += [f"configs has port {port} twice." for port in sorted({port for port in ports if ports.count(port) > 1})]
    for config in options["configs"]:
        names = [node["label"] for node in config["nodes"]]
        wrong += [
            f"Port {config['port']} has node {name} twice." for name in sorted({n for n in names if names.count(n) > 1})
        ]
        wrong += [
            f"Port {config['port']} has node {node['label']} without its address."
            for node in config["nodes"]
            if node["state"] == "present" and not node["address"]
        ]
    return wrong


def find(api: LinodeApi, label: str) -> Row | None:
    return next((row for row in api.rows(PATH) if row["label"] == label), None)


def find_subnet(api: LinodeApi, options: Row, check_mode: bool) -> Row | None:
    """The subnet to be in; None if none is asked for, or, in check mode, if it is still to be made."""
    if not options["vpc"]:
        return None
    vpc = next(iter(api.rows("/vpcs", {"label": options["vpc"]})), None)
    name = options["subnet"] or options["vpc"]
    found = next((row for row in (vpc or {}).get("subnets", []) if row["label"] == name), None)
    if found is None and not check_mode:
        has = suggest(name, [row["label"] for row in vpc["subnets"]]) if vpc else "make it first"
        raise LinodeError(f"vpc is {options['vpc']} and its subnet {name}, which the account does not have: {has}.")
    return found


def find_firewall(api: LinodeApi, label: str | None, check_mode: bool) -> Row | None:
    if not label:
        return None
    found = next((row for row in api.rows("/networking/firewalls") if row["label"] == label), None)
    if found is None and not check_mode:
        raise LinodeError(f"firewall is {label}, which the account does not have: make it first.")
    return found


def set_values(row: Row, names: tuple[str, ...]) -> Row:
    return {name: row[name] for name in names if row.get(name) is not None}


def node_body(node: Row, subnet: Row | None) -> Row:
    place = {"subnet_id": subnet["id"]} if subnet else {}
    return {"label": node["label"], **set_values(node, NODE), **place}


def config_body(config: Row, subnet: Row | None) -> Row:
    """A port as it is made, with its nodes."""
    nodes = [node_body(node, subnet) for node in config["nodes"] if node["state"] == "present"]
    return {"port": config["port"], **set_values(config, CONFIG), "nodes": nodes}


def request_body(options: Row, subnet: Row | None, firewall: Row | None) -> Row:
    """What is posted to make the NodeBalancer, all of it at once."""
    vpc = (
        {"subnet_id": subnet["id"], **({"ipv4_range": options["vpc_range"]} if options["vpc_range"] else {})}
        if subnet
        else {}
    )
    return {
        **{name: options[name] for name in ("label", "region", "type", "tags")},
        "backend_connectivity": "vpc" if subnet else "legacy",
        **({"vpcs": [vpc]} if vpc else {}),
        **({"firewall_id": firewall["id"]} if firewall else {}),
        "configs": [config_body(config, subnet) for config in options["configs"]],
    }


def differences(options: Row, have: Row) -> list[str]:
    """Where the NodeBalancer is another than the wanted one in what cannot be changed."""
    backends = "vpc" if options["vpc"] else "legacy"
    wanted = {"region": options["region"], "type": options["type"], "backend_connectivity": backends}
    return [
        f"{name} of NodeBalancer {have['label']} is {have[name]}, wanted is {value}"
        for name, value in wanted.items()
        if have.get(name) not in (value, None)
    ]


def update_node(change: Changes, path: str, port: int, want: Row, have: Row | None, subnet: Row | None) -> None:
    name = f"port {port}, node {want['label']}"
    if want["state"] == "absent":
        if have:
            change(name, set_values(have, NODE), None, "delete", f"{path}/{have['id']}", {})
        return
    wanted = set_values(want, NODE)
    if have is None:
        change(name, None, wanted, "post", path, node_body(want, subnet))
    elif any(have.get(key) != value for key, value in wanted.items()):
        now = {key: have.get(key) for key in wanted}
        change(name, now, wanted, "put", f"{path}/{have['id']}", node_body(want, subnet))


def update(api: LinodeApi, change: Changes, options: Row, have: Row, subnet: Row | None, firewall: Row | None) -> None:
    """Bring an existing NodeBalancer to the options."""
    path = f"{PATH}/{have['id']}"
    tags = sorted({*have["tags"], *options["tags"]})
    if tags != sorted(have["tags"]):
        change("tags", sorted(have["tags"]), tags, "put", path, {"tags": tags})
    if firewall and not any(
        item["id"] == have["id"] and item["type"] == "nodebalancer" for item in firewall["entities"]
    ):
        device = {"type": "nodebalancer", "id": have["id"]}
        change("firewall", None, options["firewall"], "post", f"/networking/firewalls/{firewall['id']}/devices", device)
    configs = {row["port"]: row for row in api.rows(f"{path}/configs")}
    for want in options["configs"]:
        wanted, config = set_values(want, CONFIG), configs.get(want["port"])
        if config is None:
            change(f"port {want['port']}", None, wanted, "post", f"{path}/configs", config_body(want, subnet))
            continue
        if any(config.get(name) != value for name, value in wanted.items()):
            now = {name: config.get(name) for name in wanted}
            change(f"port {want['port']}", now, wanted, "put", f"{path}/configs/{config['id']}", wanted)
        nodes_path = f"{path}/configs/{config['id']}/nodes"
        nodes = {row["label"]: row for row in api.rows(nodes_path)}
        for node in want["nodes"]:
            update_node(change, nodes_path, want["port"], node, nodes.get(node["label"]), subnet)


def view(api: LinodeApi, have: Row | None) -> Row:
    """The NodeBalancer in the shape that is returned."""
    if have is None:
        return {}
    path = f"{PATH}/{have['id']}/configs"
    return {
        **{name: have.get(name) for name in ("id", "label", "region", "type", "tags")},
        "ipv4": ipv4_of(have),
        "configs": [
            {
                **{name: config.get(name) for name in ("port", "protocol")},
                "nodes": [
                    {name: node.get(name) for name in ("label", "address", "mode", "status")}
                    for node in api.rows(f"{path}/{config['id']}/nodes")
                ],
            }
            for config in api.rows(path)
        ],
    }


def present(api: LinodeApi, options: Row, have: Row | None, check_mode: bool) -> Row:
    """Make the account match, and return the module's result."""
    change = Changes(api, check_mode)
    wrong = differences(options, have) if have else []
    if wrong:
        raise LinodeError(
            f"{'; '.join(wrong)}. That cannot be changed, and a new one has another address: set the option back, or"
            " delete the NodeBalancer first."
        )
    subnet = find_subnet(api, options, check_mode)
    firewall = find_firewall(api, options["firewall"], check_mode)
    if have:
        update(api, change, options, have, subnet, firewall)
        have = have if check_mode or not change.after else find(api, options["label"])
    else:
        check_capability(api, options["region"], "NodeBalancers")
        change.before, change.after = {}, {"label": options["label"], "type": options["type"]}
        if not check_mode:
            have = api.create(PATH, request_body(options, subnet, firewall), lambda: find(api, options["label"]))
    diff = {"before": change.before, "after": change.after}
    return {"changed": change.before != change.after, "nodebalancer": view(api, have), "diff": diff}


def absent(api: LinodeApi, options: Row, have: Row | None, check_mode: bool) -> Row:
    if have and not check_mode:
        api.delete(f"{PATH}/{have['id']}")
    return {"changed": have is not None, "diff": {"before": {"label": options["label"]} if have else {}, "after": {}}}


def main() -> None:
    node = {
        "label": {"type": "str", "required": True},
        "address": {"type": "str"},
        "weight": {"type": "int"},
        "mode": {"type": "str", "choices": ["accept", "reject", "backup", "drain"], "default": "accept"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    config = {
        "port": {"type": "int", "required": True},
        "protocol": {"type": "str", "choices": ["tcp", "http"], "default": "tcp"},
        "algorithm": {"type": "str", "choices": ["roundrobin", "leastconn", "source"]},
        "stickiness": {"type": "str", "choices": ["none", "table", "http_cookie"]},
        "proxy_protocol": {"type": "str", "choices": ["none", "v1", "v2"]},
        "check": {"type": "str", "choices": ["none", "connection", "http", "http_body"]},
        "check_path": {"type": "str"},
        "check_body": {"type": "str"},
        "check_interval": {"type": "int"},
        "check_timeout": {"type": "int"},
        "check_attempts": {"type": "int"},
        "check_passive": {"type": "bool"},
        "nodes": {"type": "list", "elements": "dict", "default": [], "options": node},
    }
    module = AnsibleModule(
        argument_spec={
            **ARGUMENT_SPEC,
            "label": {"type": "str", "required": True},
            "tags": {"type": "list", "elements": "str", "required": True},
            "region": {"type": "str"},
            "type": {"type": "str", "choices": ["common", "premium"], "default": "common"},
            "vpc": {"type": "str"},
            "subnet": {"type": "str"},
            "vpc_range": {"type": "str"},
            "firewall": {"type": "str"},
            "configs": {"type": "list", "elements": "dict", "default": [], "options": config},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["region"])],
        supports_check_mode=True,
    )
    api, options = client(module), module.params
    ensure = present if options["state"] == "present" else absent
    try:
        wrong = check(options)
        have = None if wrong else find(api, options["label"])
        if have and (reason := stranger("NodeBalancer", have, options["tags"])):
            wrong.append(f"{reason}. Nothing was changed.")
        if wrong:
            raise LinodeError(" ".join(wrong))
        module.exit_json(**ensure(api, options, have, module.check_mode))
    except LinodeError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
