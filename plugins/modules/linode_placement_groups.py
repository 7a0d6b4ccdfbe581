#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: linode_placement_groups
short_description: Placement groups of a Linode account, all of a fleet at once
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - Makes those placement groups that are missing, each of which keeps its instances on different physical hosts
    (C(anti_affinity:local)).
  - A group takes no tags; it is yours by its label. Region and policy cannot be changed on Linode. Where they differ,
    the module fails and changes nothing.
  - Instances get their group with M(c50k.stack.linode_instances).
extends_documentation_fragment: c50k.stack.linode
options:
  labels:
    description: The labels of the groups, each unique in the account.
    type: list
    elements: str
    required: true
  region:
    description: The region, such as V(de-fra-2). It must have the capability C(Placement Group). Required when
      O(state=present).
    type: str
  policy:
    description: What happens when no other physical host is free. With V(flexible), the instance is made all the same;
      with V(strict), it is not.
    type: str
    choices: [flexible, strict]
    default: flexible
  state:
    description: V(absent) deletes the groups. One that still has instances is left, and named.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: c50k.stack.linode_instances
"""

EXAMPLES = r"""
- name: Keep the app hosts apart
  c50k.stack.linode_placement_groups:
    labels: [demo-app_server]
    region: de-fra-2
"""

RETURN = r"""
created:
  description: Labels of the groups that were made; in check mode, that would be.
  returned: always
  type: list
  elements: str
  sample: [demo-app_server]
deleted:
  description: Labels of the groups that were deleted.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.c50k.stack.plugins.module_utils.linode import (
    ARGUMENT_SPEC,
    LinodeApi,
    LinodeError,
    Row,
    check_capability,
    client,
)

PATH = "/placement/groups"
TYPE = "anti_affinity:local"


def find(api: LinodeApi, labels: list[str]) -> dict[str, Row]:
    return {row["label"]: row for row in api.rows(PATH) if row["label"] in labels}


def present(api: LinodeApi, options: Row, existing: dict[str, Row], check_mode: bool, result: Row) -> None:
    """Make those that are missing; result always says what is done so far."""
    wanted = {"region": options["region"], "placement_group_type": TYPE, "placement_group_policy": options["policy"]}
    wrong = [
        f"{name} of placement group {label} is {have[name]}, wanted is {value}"
        for label, have in existing.items()
        for name, value in wanted.items()
        if have[name] != value
    ]
    if wrong:
        raise LinodeError(f"{'; '.join(wrong)}. A group cannot change: set the option back, or delete the group first.")
    missing = [label for label in options["labels"] if label not in existing]
    if missing:
        check_capability(api, options["region"], "Placement Group")
    for label in missing:
        if not check_mode:
            api.create(PATH, {"label": label, **wanted}, lambda label=label: find(api, [label]).get(label))
        result["created"].append(label)


def absent(api: LinodeApi, options: Row, existing: dict[str, Row], check_mode: bool, result: Row) -> None:
    for label, have in existing.items():
        if have["members"]:
            raise LinodeError(
                f"Placement group {label} still has {len(have['members'])} instances: delete or unassign them first."
            )
        if not check_mode:
            api.delete(f"{PATH}/{have['id']}")
        result["deleted"].append(label)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **ARGUMENT_SPEC,
            "labels": {"type": "list", "elements": "str", "required": True},
            "region": {"type": "str"},
            "policy": {"type": "str", "choices": ["flexible", "strict"], "default": "flexible"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["region"])],
        supports_check_mode=True,
    )
    api, options = client(module), module.params
    result: Row = {"created": [], "deleted": []}
    ensure = present if options["state"] == "present" else absent
    try:
        before = find(api, options["labels"]) if options["labels"] else {}
        ensure(api, options, before, module.check_mode, result)
    except LinodeError as error:
        module.fail_json(msg=str(error), changed=bool(result["created"] or result["deleted"]), **result)
    after = {*before, *result["created"]} - set(result["deleted"])
    diff = {"before": {"groups": sorted(before)}, "after": {"groups": sorted(after)}}
    module.exit_json(changed=bool(result["created"] or result["deleted"]), diff=diff, **result)


if __name__ == "__main__":
    main()
