#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: linode_vpc
short_description: A VPC of a Linode account, and its subnets
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - Makes the VPC and those of its subnets that are missing, and corrects the description.
  - Region and address ranges cannot be changed on Linode; where they differ, the module fails and changes nothing.
  - Subnets that are not listed stay.
extends_documentation_fragment: c50k.stack.linode
options:
  label:
    description: The label of the VPC, unique in the account.
    type: str
    required: true
  region:
    description: The region, such as V(de-fra-2). It must have the capability C(VPCs). Required to make the VPC.
    type: str
  description:
    description: What the VPC is for. If not set, it is left as it is.
    type: str
  subnets:
    description: Subnets that the VPC has to have.
    type: list
    elements: dict
    default: []
    suboptions:
      label:
        description: The label of the subnet, unique in the VPC.
        type: str
        required: true
      ipv4:
        description: The addresses, such as V(10.0.0.0/20).
        type: str
        required: true
  state:
    description: V(absent) deletes the VPC with its subnets. One that still holds instances is left and named.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: c50k.stack.linode_instances
"""

EXAMPLES = r"""
- name: A network of our own
  c50k.stack.linode_vpc:
    label: demo
    region: de-fra-2
    subnets:
      - label: demo
        ipv4: 10.0.0.0/20
"""

RETURN = r"""
vpc:
  description: The VPC as it is now; in check mode, as it would be, without the ids of what does not exist yet.
  returned: when state is present
  type: dict
  sample:
    id: 12345
    label: demo
    region: de-fra-2
    description: ""
    subnets:
      - id: 678
        label: demo
        ipv4: 10.0.0.0/20
"""

import ipaddress

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.c50k.stack.plugins.module_utils.linode import (
    ARGUMENT_SPEC,
    LinodeApi,
    LinodeError,
    Row,
    check_capability,
    client,
)

# The rest of 192.168.0.0/16 is Linode's, for private addresses.
ALLOWED = [ipaddress.IPv4Network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/17")]


def check_subnets(subnets: list[Row]) -> None:
    """Refuse ranges that Linode would refuse, before anything is made.

    :raises LinodeError: naming the option, its value and what is allowed.
    """
    seen: dict[str, ipaddress.IPv4Network] = {}
    for number, subnet in enumerate(subnets):
        option = f"subnets[{number}].ipv4 ({subnet['label']}) is {subnet['ipv4']}"
        try:
            network = ipaddress.IPv4Network(subnet["ipv4"])
        except ValueError as error:
            raise LinodeError(f"{option}: not a network such as 10.0.0.0/20 ({error}).") from None
        if not any(network.subnet_of(allowed) for allowed in ALLOWED):
            raise LinodeError(f"{option}: it has to lie in {' or '.join(map(str, ALLOWED))}.")
        if subnet["label"] in seen:
            raise LinodeError(f"{option}: the label is there twice; each subnet needs its own.")
        for label, other in seen.items():
            if network.overlaps(other):
                raise LinodeError(f"{option}: it overlaps {other} of subnet {label}.")
        seen[subnet["label"]] = network


def find(api: LinodeApi, path: str, label: str) -> Row | None:
    return next((row for row in api.rows(path) if row["label"] == label), None)


def view(vpc: Row | None, subnets: list[Row]) -> Row:
    """The VPC in the shape that is returned and compared."""
    if vpc is None:
        return {}
    return {
        **{name: vpc.get(name) for name in ("id", "label", "region")},
        "description": vpc.get("description") or "",
        "subnets": [{name: subnet.get(name) for name in ("id", "label", "ipv4")} for subnet in subnets],
    }


def present(api: LinodeApi, options: Row, check_mode: bool) -> Row:
    """Make the account match, and return the module's result."""
    check_subnets(options["subnets"])
    label, region, description = options["label"], options["region"], options["description"]
    vpc = find(api, "/vpcs", label)
    subnets = api.rows(f"/vpcs/{vpc['id']}/subnets") if vpc else []
    if vpc and region and vpc["region"] != region:
        raise LinodeError(
            f"VPC {label} is in region {vpc['region']}, and region is {region}. A VPC cannot move: set region back, or"
            " give the VPC another label."
        )
    ranges = {subnet["label"]: subnet["ipv4"] for subnet in subnets}
    for subnet in options["subnets"]:
        if ranges.get(subnet["label"], subnet["ipv4"]) != subnet["ipv4"]:
            raise LinodeError(
                f"Subnet {subnet['label']} of VPC {label} is {ranges[subnet['label']]}, and subnets asks for"
                f" {subnet['ipv4']}. A range cannot change: set it back, or give the subnet another label."
            )
    missing = [subnet for subnet in options["subnets"] if subnet["label"] not in ranges]
    before = view(vpc, subnets)
    body = {"label": label, "region": region, "description": description or ""}
    after = view({**(vpc or body), **({} if description is None else {"description": description})}, subnets + missing)
    if vpc is None:
        if not region:
            raise LinodeError("region is not set, and is needed to make the VPC.")
        check_capability(api, region, "VPCs")
    if before == after or check_mode:
        return {"changed": before != after, "vpc": after, "diff": {"before": before, "after": after}}

    if vpc is None:
        vpc = api.create("/vpcs", {**body, "subnets": missing}, lambda: find(api, "/vpcs", label))
    path = f"/vpcs/{vpc['id']}"
    if before and before["description"] != after["description"]:
        vpc = api.put(path, {"description": description})
    made = {subnet["label"] for subnet in api.rows(f"{path}/subnets")}
    for subnet in missing:
        if subnet["label"] not in made:
            api.create(f"{path}/subnets", subnet, lambda name=subnet["label"]: find(api, f"{path}/subnets", name))
    after = view(vpc, api.rows(f"{path}/subnets"))
    return {"changed": True, "vpc": after, "diff": {"before": before, "after": after}}


def absent(api: LinodeApi, options: Row, check_mode: bool) -> Row:
    vpc = find(api, "/vpcs", options["label"])
    if vpc is None:
        return {"changed": False, "diff": {"before": {}, "after": {}}}
    subnets = api.rows(f"/vpcs/{vpc['id']}/subnets")
    held = sorted({linode["id"] for subnet in subnets for linode in subnet.get("linodes") or []})
    if held:
        names = {row["id"]: row["label"] for row in api.rows("/linode/instances")}
        raise LinodeError(
            f"VPC {vpc['label']} still holds {', '.join(names.get(number, f'instance {number}') for number in held)}:"
            " it is left as it is. Delete these instances, or take them out of the VPC, first."
        )
    if not check_mode:
        api.delete(f"/vpcs/{vpc['id']}")
    return {"changed": True, "diff": {"before": view(vpc, subnets), "after": {}}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **ARGUMENT_SPEC,
            "label": {"type": "str", "required": True},
            "region": {"type": "str"},
            "description": {"type": "str"},
            "subnets": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"label": {"type": "str", "required": True}, "ipv4": {"type": "str", "required": True}},
            },
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    api = client(module)
    ensure = present if module.params["state"] == "present" else absent
    try:
        module.exit_json(**ensure(api, module.params, module.check_mode))
    except LinodeError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
