#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: linode_statistics
short_description: What Linode says that a fleet used in the last day
version_added: 1.0.0
author: c50k.stack contributors (@c50k)
description:
  - Reads the statistics of the fleet's instances, and of its NodeBalancer, as Linode counts them from outside.
  - It only reads, with a call for each instance, and of the calls that Linode allows in a minute it takes half at most.
  - Linode has none of what is younger than some minutes, or is off. That is no failure; it is said of each.
extends_documentation_fragment: c50k.stack.linode
options:
  fleet_name:
    description: The name of the fleet, which is a tag of its instances.
    type: str
    required: true
seealso:
  - module: c50k.stack.linode_fleet_info
"""

EXAMPLES = r"""
- name: See what the fleet used
  c50k.stack.linode_statistics:
    fleet_name: demo
  register: used
"""

RETURN = r"""
instances:
  description:
    - The fleet's instances, by label. C(missing) says why there are no statistics, and is empty where there are some.
    - C(series) has C(cpu_percent), of one core, C(io_per_second), and in bits a second C(in_bits), C(out_bits),
      C(private_in_bits) and C(private_out_bits). Each has C(mean), C(most), C(last), and C(points), at most 48 of them,
      the most of each part of the day.
  returned: always
  type: list
  elements: dict
  sample:
    - label: demo-app_server-1
      missing: ""
      series:
        cpu_percent: {mean: 12.5, most: 80.0, last: 7.0, points: [80.0, 7.0]}
front:
  description:
    - The same of the fleet's NodeBalancer, with C(connections_per_second), C(in_bits) and C(out_bits). Empty where
      there is none.
  returned: always
  type: dict
  sample: {label: demo, missing: "Stats are unavailable at this time.", series: {}}
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.c50k.stack.plugins.module_utils.fleet import FRONT
from ansible_collections.c50k.stack.plugins.module_utils.linode import (
    ARGUMENT_SPEC,
    LinodeApi,
    LinodeError,
    RateLimit,
    Row,
    client,
    instance_filter,
)

# Half of what Linode allows a token, as others use the token too.
READ_RATE = (800, 60.0)
WORKERS = 8
POINTS = 48

# Where in an answer's data each series is.
INSTANCE = {
    "cpu_percent": ("cpu",),
    "io_per_second": ("io", "io"),
    "in_bits": ("netv4", "in"),
    "out_bits": ("netv4", "out"),
    "private_in_bits": ("netv4", "private_in"),
    "private_out_bits": ("netv4", "private_out"),
}
BALANCER = {
    "connections_per_second": ("connections",),
    "in_bits": ("traffic", "in"),
    "out_bits": ("traffic", "out"),
}


def summary(values: Sequence[float]) -> Row:
    """The mean, the most and the last of some values, and the most of each of POINTS equal parts."""
    count = min(POINTS, len(values))
    edges = [len(values) * number // count for number in range(count + 1)] if count else []
    return {
        "mean": round(sum(values) / len(values), 2) if values else 0.0,
        "most": max(values, default=0.0),
        "last": values[-1] if values else 0.0,
        "points": [max(values[first:last]) for first, last in zip(edges, edges[1:], strict=False)],
    }


def read_series(data: Mapping[str, object], places: Mapping[str, Sequence[str]]) -> Row:
    """The series at their *places* in an answer; one that the answer has not is left out."""
    found = {}
    for name, place in places.items():
        part: object = data
        for key in place:
            part = part.get(key) if isinstance(part, Mapping) else None
        if isinstance(part, list) and part:
            found[name] = summary([float(value or 0) for _time, value in part])
    return found


def read(api: LinodeApi, limit: RateLimit, path: str, row: Row, places: Mapping[str, Sequence[str]]) -> Row:
    """What the API has of one thing; why, where it has nothing."""
    limit.wait()
    try:
        series = read_series(api.get(f"{path}/{row['id']}/stats").get("data") or {}, places)
    except LinodeError as error:
        # 400: too young, or off; 404: deleted since it was listed
        if error.status not in (400, 404):
            raise
        return {"label": row["label"], "missing": str(error).rpartition("] ")[2], "series": {}}
    return {"label": row["label"], "missing": "" if series else "The API has no values of it.", "series": series}


def main() -> None:
    module = AnsibleModule(
        argument_spec={**ARGUMENT_SPEC, "fleet_name": {"type": "str", "required": True}}, supports_check_mode=True
    )
    api, name, limit = client(module), module.params["fleet_name"], RateLimit(*READ_RATE)
    try:
        rows = sorted(api.rows("/linode/instances", instance_filter([name])), key=lambda row: str(row["label"]))
        with ThreadPoolExecutor(WORKERS) as pool:
            instances = list(pool.map(lambda row: read(api, limit, "/linode/instances", row, INSTANCE), rows))
        fronts = [row for row in api.rows("/nodebalancers") if row["label"] == name and {name, FRONT} <= {*row["tags"]}]
        front = read(api, limit, "/nodebalancers", fronts[0], BALANCER) if fronts else {}
    except LinodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, instances=instances, front=front)


if __name__ == "__main__":
    main()
