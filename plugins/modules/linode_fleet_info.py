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
  - Reads the instances that carry the fleet's tag and that of a tier, the fleet's VPC with the strangers in it, and the
    account's price list for the fleet's region.
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
  returned: success
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
  returned: success
  type: list
  elements: dict
  sample: [{label: demo-app_server-1, tags: [demo, app_server]}]
vpc:
  description: C(label) and C(region) of the fleet's VPC, and C(strangers), the labels of instances in it that are not
    the fleet's. Empty where there is no such VPC.
  returned: success
  type: dict
  sample: {label: demo, region: de-fra-2, strangers: []}
types:
  description: What can be had, by the id of the type.
  returned: success
  type: dict
  sample:
    g6-dedicated-4: {vcpus: 4, memory: 8192, monthly: 72.0, backups: 10.0}
nodebalancers:
  description: Dollars a month of a NodeBalancer, by the id of its type. Empty where the API does not say.
  returned: success
  type: dict
  sample: {nodebalancer: 10.0}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.c50k.stack.plugins.module_utils.fleet import TIERS
from ansible_collections.c50k.stack.plugins.module_utils.linode import (
    ARGUMENT_SPEC,
    LinodeApi,
    LinodeError,
    Row,
    client,
    instance_filter,
)


def monthly(row: Row, region: str) -> float:
    """Dollars a month in *region*, of a type or an addon."""
    there = [price for price in row.get("region_prices") or [] if price["id"] == region]
    return float((there or [row["price"]])[0]["monthly"] or 0)


def read(api: LinodeApi, fleet_name: str, tiers: list[str], region: str) -> Row:
    """Everything of the fleet, in the shape that is returned."""
    instances = []
    for row in api.rows("/linode/instances", instance_filter([fleet_name])):
        tier = next((name for name in tiers if name in row["tags"]), None)
        if tier:
            backups = bool((row.get("backups") or {}).get("enabled"))
            host = {name: row[name] for name in ("id", "label", "type", "region", "status")}
            instances.append({**host, "tier": tier, "backups": backups})
    types = {
        row["id"]: {
            "vcpus": row["vcpus"],
            "memory": row["memory"],
            "monthly": monthly(row, region),
            "backups": monthly(row["addons"]["backups"], region),
        }
        for row in api.rows("/linode/types")
    }
    instances.sort(key=lambda host: host["label"])
    return {
        "instances": instances,
        "owned": [{"label": host["label"], "tags": [fleet_name, host["tier"]]} for host in instances],
        "vpc": read_vpc(api, fleet_name, {host["id"] for host in instances}),
        "types": types,
        "nodebalancers": read_nodebalancers(api, region),
    }


def read_vpc(api: LinodeApi, label: str, own: set[int]) -> Row:
    found = next(iter(api.rows("/vpcs", {"label": label})), None)
    if found is None:
        return {}
    held = {linode["id"] for subnet in found["subnets"] for linode in subnet.get("linodes") or []} - own
    names = {row["id"]: row["label"] for row in api.rows("/linode/instances")} if held else {}
    strangers = sorted(names.get(number, f"instance {number}") for number in held)
    return {"label": label, "region": found["region"], "strangers": strangers}


def read_nodebalancers(api: LinodeApi, region: str) -> dict[str, float]:
    try:
        return {row["id"]: monthly(row, region) for row in api.rows("/nodebalancers/types")}
    except LinodeError as error:
        if error.status != 404:
            raise
        return {}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **ARGUMENT_SPEC,
            "fleet_name": {"type": "str", "required": True},
            "tiers": {"type": "list", "elements": "str"},
            "region": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        module.exit_json(
            changed=False,
            **read(client(module), options["fleet_name"], options["tiers"] or list(TIERS), options["region"]),
        )
    except LinodeError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
