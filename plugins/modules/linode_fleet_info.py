#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: linode_fleet_info
short_description: What a Linode account holds of a fleet, and what more of it would cost
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - Reads what carries the fleet's tag (instances, firewalls, its NodeBalancer), what has its labels (placement groups,
    its VPC, with the strangers in it), and the account's price list for the fleet's region.
  - It only reads. The number of its calls does not grow with the number of hosts, but with pages of 500.
extends_documentation_fragment: c50k.stack.linode
options:
  fleet_name:
    description: The name of the fleet, which is a tag of its instances and the label of its VPC.
    type: str
    required: true
  tiers:
    description: The names of the tiers, one of which is a tag of each instance. By default, all that a fleet can have.
    type: list
    elements: str
  region:
    description: The region whose prices count.
    type: str
    required: true
  gather:
    description: What is read. The rest is not returned.
    type: list
    elements: str
    choices: [instances, network, front, region, prices]
    default: [instances, network, front, region, prices]
seealso:
  - module: c50k.stack.linode_instances
  - module: c50k.stack.linode_vpc
"""

EXAMPLES = r"""
- name: See what there is
  c50k.stack.linode_fleet_info:
    fleet_name: demo
    region: de-fra-2
  register: account
"""

RETURN = r"""
instances:
  description: The fleet's instances, by label.
  returned: with C(instances)
  type: list
  elements: dict
  contains:
    label:
      description: The label.
      type: str
    tier:
      description: The tier, by its tag.
      type: str
    type:
      description: The id of its type.
      type: str
    region:
      description: Where it is.
      type: str
    status:
      description: Its status, such as V(running).
      type: str
    backups:
      description: Whether it is backed up.
      type: bool
owned:
  description: The same instances as M(c50k.stack.linode_instances) takes them, C(label) and both C(tags).
  returned: with C(instances)
  type: list
  elements: dict
  sample: [{label: demo-app_server-1, tags: [demo, app_server]}]
vpc:
  description: C(label) and C(region) of the fleet's VPC, and C(strangers), the labels of instances and NodeBalancers in
    it that are not the fleet's. Empty where there is no such VPC.
  returned: with C(network)
  type: dict
  sample: {label: demo, region: de-fra-2, strangers: []}
firewalls:
  description: The firewalls that carry the fleet's tag, as M(c50k.stack.linode_firewalls) takes them.
  returned: with C(network)
  type: list
  elements: dict
  sample: [{label: demo-app_server, tags: [demo, app_server]}]
placement_groups:
  description: The labels of the fleet's placement groups.
  returned: with C(network)
  type: list
  elements: str
  sample: [demo-app_server]
front:
  description: The fleet's NodeBalancer, C(label), C(type), C(ipv4), and C(nodes), each with C(label), C(address),
    C(mode) and C(status). Empty where there is none.
  returned: with C(front)
  type: dict
  sample:
    label: demo
    type: premium
    ipv4: 192.0.2.20
    nodes: [{label: demo-load_balancer-1, address: "10.0.1.10:80", mode: accept, status: UP}]
placement_limit:
  description: Instances that a placement group of the region holds, 0 where the region has none.
  returned: with C(region)
  type: int
  sample: 250
types:
  description: What can be had, by the id of the type.
  returned: with C(prices)
  type: dict
  sample:
    g6-dedicated-4: {vcpus: 4, memory: 8192, monthly: 72.0, backups: 10.0}
nodebalancers:
  description: Dollars a month of a NodeBalancer, by its type.
  returned: with C(prices)
  type: dict
  sample: {common: 10.0, premium: 150.0}
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.c50k.stack.plugins.module_utils.fleet import FRONT, TIERS
from ansible_collections.c50k.stack.plugins.module_utils.linode import (
    ARGUMENT_SPEC,
    LinodeApi,
    LinodeError,
    Row,
    client,
    instance_filter,
    ipv4_of,
)

# The id under which the price of a NodeBalancer's type is listed.
NODEBALANCERS = {"common": "nodebalancer", "premium": "nodebalancer-pr100"}


def monthly(row: Row, region: str) -> float:
    """Dollars a month in *region*, of a type or an addon."""
    there = [price for price in row.get("region_prices") or [] if price["id"] == region]
    return float((there or [row["price"]])[0]["monthly"] or 0)


def read_instances(api: LinodeApi, options: Row) -> Row:
    instances = []
    for row in api.rows("/linode/instances", instance_filter([options["fleet_name"]])):
        tier = next((name for name in options["tiers"] if name in row["tags"]), None)
        if tier:
            backups = bool((row.get("backups") or {}).get("enabled"))
            host = {name: row[name] for name in ("id", "label", "type", "region", "status")}
            instances.append({**host, "tier": tier, "backups": backups})
    instances.sort(key=lambda host: host["label"])
    owned = [{"label": host["label"], "tags": [options["fleet_name"], host["tier"]]} for host in instances]
    return {"instances": instances, "owned": owned}


def read_network(api: LinodeApi, options: Row) -> Row:
    name = options["fleet_name"]
    group = re.compile(rf"{re.escape(name)}-({'|'.join(map(re.escape, options['tiers']))})(-[0-9]+)?")
    firewalls = [row for row in api.rows("/networking/firewalls") if name in row["tags"]]
    return {
        "vpc": read_vpc(api, name, options["tiers"]),
        "firewalls": [{"label": row["label"], "tags": row["tags"]} for row in firewalls],
        "placement_groups": [row["label"] for row in api.rows("/placement/groups") if group.fullmatch(row["label"])],
    }


def read_vpc(api: LinodeApi, label: str, tiers: list[str]) -> Row:
    found = next(iter(api.rows("/vpcs", {"label": label})), None)
    if found is None:
        return {}
    strangers = []
    for kind, path in (("linodes", "/linode/instances"), ("nodebalancers", "/nodebalancers")):
        held = {item["id"] for subnet in found["subnets"] for item in subnet.get(kind) or []}
        for row in api.rows(path) if held else []:
            if row["id"] in held and not is_own(row, label, tiers):
                strangers.append(row["label"])
    return {"label": label, "region": found["region"], "strangers": sorted(strangers)}


def is_own(row: Row, fleet_name: str, tiers: list[str]) -> bool:
    """Whether an instance or NodeBalancer carries the fleet's tag, and that of a tier or of the front."""
    return fleet_name in row["tags"] and bool({*tiers, FRONT} & set(row["tags"]))


def read_front(api: LinodeApi, options: Row) -> Row:
    name = options["fleet_name"]
    rows = [row for row in api.rows("/nodebalancers") if row["label"] == name and is_own(row, name, [])]
    if not rows:
        return {"front": {}}
    path = f"/nodebalancers/{rows[0]['id']}/configs"
    nodes = [node for config in api.rows(path) for node in api.rows(f"{path}/{config['id']}/nodes")]
    shown = [{key: node[key] for key in ("label", "address", "mode", "status")} for node in nodes]
    return {"front": {"label": name, "type": rows[0]["type"], "ipv4": ipv4_of(rows[0]), "nodes": shown}}


def read_region(api: LinodeApi, options: Row) -> Row:
    region = api.get(f"/regions/{options['region']}")
    able = "Placement Group" in region["capabilities"]
    limits = region.get("placement_group_limits") or {}
    limit = limits.get("maximum_linodes_per_flexible_pg") or limits.get("maximum_linodes_per_pg")
    return {"placement_limit": (limit or 0) if able else 0}


def read_prices(api: LinodeApi, options: Row) -> Row:
    region = options["region"]
    types = {
        row["id"]: {
            "vcpus": row["vcpus"],
            "memory": row["memory"],
            "monthly": monthly(row, region),
            "backups": monthly(row["addons"]["backups"], region),
        }
        for row in api.rows("/linode/types")
    }
    rows = {row["id"]: row for row in api.rows("/nodebalancers/types")}
    nodebalancers = {name: monthly(rows[key], region) for name, key in NODEBALANCERS.items() if key in rows}
    return {"types": types, "nodebalancers": nodebalancers}


READ = {
    "instances": read_instances,
    "network": read_network,
    "front": read_front,
    "region": read_region,
    "prices": read_prices,
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **ARGUMENT_SPEC,
            "fleet_name": {"type": "str", "required": True},
            "tiers": {"type": "list", "elements": "str"},
            "region": {"type": "str", "required": True},
            "gather": {"type": "list", "elements": "str", "choices": list(READ), "default": list(READ)},
        },
        supports_check_mode=True,
    )
    api, options = client(module), {**module.params, "tiers": module.params["tiers"] or list(TIERS)}
    found: Row = {}
    try:
        for name in options["gather"]:
            found |= READ[name](api, options)
    except LinodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
