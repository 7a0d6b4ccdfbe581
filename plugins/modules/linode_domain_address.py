#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: linode_domain_address
short_description: The IPv4 addresses of a name in a domain of a Linode account
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - Makes the A records of a name those that are asked for. New ones are added before old ones are deleted.
  - A TXT record at C(_c50k), before the name, says whose the name is. A name that has A, AAAA or CNAME records without
    it, or with another owner, is a stranger's. The module then fails, and changes nothing.
  - The domain itself has to be there, and is not changed.
extends_documentation_fragment: c50k.stack.linode
options:
  domain:
    description: The domain, such as V(example.com).
    type: str
    required: true
  name:
    description: The name in it, such as V(www). By default, the domain's own.
    type: str
    default: ""
  owner:
    description: Whose the name is, such as the name of a fleet.
    type: str
    required: true
  addresses:
    description: The IPv4 addresses, at least one when O(state=present).
    type: list
    elements: str
    default: []
  ttl:
    description: Seconds that an answer may be kept.
    type: int
    choices: [30, 120, 300, 3600, 7200, 14400, 28800, 57600, 86400]
    default: 30
  state:
    description: V(absent) deletes the records.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Name the front door
  c50k.stack.linode_domain_address:
    domain: example.com
    name: www
    owner: demo
    addresses: [192.0.2.20]
"""

RETURN = r"""
addresses:
  description: The addresses that the name has now; in check mode, would have.
  returned: success
  type: list
  elements: str
  sample: [192.0.2.20]
"""

import ipaddress

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.c50k.stack.plugins.module_utils.linode import (
    ARGUMENT_SPEC,
    LinodeApi,
    LinodeError,
    Row,
    client,
    suggest,
)

MARK = "_c50k"


def mark_name(name: str) -> str:
    return f"{MARK}.{name}" if name else MARK


def find_domain(api: LinodeApi, domain: str) -> Row:
    domains = {row["domain"]: row for row in api.rows("/domains")}
    if domain not in domains:
        near = suggest(domain, domains) or "it has none"
        raise LinodeError(f"domain is {domain}, which the account does not have: {near}. Make it there first.")
    return domains[domain]


def check(options: Row) -> None:
    """Refuse addresses that are none, before the API is asked."""
    if options["state"] == "present" and not options["addresses"]:
        raise LinodeError("addresses is empty: a name needs at least one.")
    for address in options["addresses"]:
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            raise LinodeError(f"addresses has {address!r}, which is no IPv4 address.") from None


def refuse_stranger(options: Row, records: list[Row]) -> Row | None:
    """The record that marks the name as ours, or None if the name is free. Raises LinodeError."""
    full = ".".join(filter(None, [options["name"], options["domain"]]))
    marks = [row for row in records if (row["type"], row["name"]) == ("TXT", mark_name(options["name"]))]
    owners = {row["target"] for row in marks}
    if owners - {owner_text(options)}:
        raise LinodeError(f"{full} belongs to another one, {', '.join(sorted(owners))}: choose another name.")
    taken = sorted(
        f"{row['type']} {row['target']}"
        for row in records
        if row["name"] == options["name"] and row["type"] in ("A", "AAAA", "CNAME")
    )
    if taken and not marks:
        raise LinodeError(
            f"{full} has records that are not ours ({', '.join(taken)}): delete them, or choose another name."
        )
    return marks[0] if marks else None


def owner_text(options: Row) -> str:
    return f"owner={options['owner']}"


def ensure(api: LinodeApi, options: Row, check_mode: bool) -> Row:
    """Bring the records of the name to the options, and return the module's result."""
    check(options)
    path = f"/domains/{find_domain(api, options['domain'])['id']}/records"
    records = api.rows(path)
    mark = refuse_stranger(options, records)
    name, ttl = options["name"], options["ttl"]
    have = {row["target"]: row for row in records if (row["type"], row["name"]) == ("A", name)}
    wanted = set(options["addresses"]) if options["state"] == "present" else set()
    diff = {
        "before": {address: row["ttl_sec"] for address, row in sorted(have.items())},
        "after": dict.fromkeys(sorted(wanted), ttl),
    }
    changed = diff["before"] != diff["after"] or bool(mark) != bool(wanted)
    if changed and not check_mode:
        if wanted and not mark:
            create(api, path, {"type": "TXT", "name": mark_name(name), "target": owner_text(options), "ttl_sec": ttl})
        for address in sorted(wanted):
            if address not in have:
                create(api, path, {"type": "A", "name": name, "target": address, "ttl_sec": ttl})
            elif have[address]["ttl_sec"] != ttl:
                api.put(f"{path}/{have[address]['id']}", {"ttl_sec": ttl})
        for address in sorted(set(have) - wanted):
            api.delete(f"{path}/{have[address]['id']}")
        if mark and not wanted:
            api.delete(f"{path}/{mark['id']}")
    return {"changed": changed, "addresses": sorted(wanted), "diff": diff}


def create(api: LinodeApi, path: str, record: Row) -> None:
    same = ("type", "name", "target")

    def find() -> Row | None:
        return next((row for row in api.rows(path) if all(row[key] == record[key] for key in same)), None)

    api.create(path, record, find)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **ARGUMENT_SPEC,
            "domain": {"type": "str", "required": True},
            "name": {"type": "str", "default": ""},
            "owner": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "ttl": {"type": "int", "choices": [30, 120, 300, 3600, 7200, 14400, 28800, 57600, 86400], "default": 30},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    api = client(module)
    try:
        module.exit_json(**ensure(api, module.params, module.check_mode))
    except LinodeError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
